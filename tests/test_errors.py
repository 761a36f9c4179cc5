from __future__ import annotations

import pytest

from velatura import errors
from velatura.errors import RecipeError, VelaturaError, nearest


def test_an_error_reads_as_one_sentence() -> None:
    error = RecipeError("unknown setting train.stpes", where="recipe.toml", fix="did you mean train.steps?")

    assert str(error) == "unknown setting train.stpes (recipe.toml); did you mean train.steps?"


def test_an_error_needs_neither_a_place_nor_a_remedy() -> None:
    assert str(VelaturaError("the disk is full")) == "the disk is full"
    assert str(VelaturaError("the disk is full", fix="free some space")) == "the disk is full; free some space"


def test_the_docstring_draws_every_kind_of_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VelaturaError)]

    assert len(kinds) > 5
    for kind in kinds:
        assert kind.__name__ in str(errors.__doc__)
        assert kind.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "train"), ("genrate", "generate"), ("evalute", "evaluate"), ("xyzzy", None)]
)
def test_a_mistyped_name_is_recognised_and_a_strange_one_is_not(typed: str, meant: str | None) -> None:
    assert nearest(typed, ["train", "generate", "evaluate"]) == meant
