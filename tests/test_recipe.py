from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from velatura import recipe, schema
from velatura.errors import FileProblem, RecipeError
from velatura.recipe import Recipe
from velatura.schema import Settings


def groups(kind: type[Settings] = Recipe) -> list[type[Settings]]:
    """Every group of settings in a recipe."""
    inner = [field.annotation for field in kind.model_fields.values()]
    nested = [group for group in inner if isinstance(group, type) and issubclass(group, Settings)]
    return [kind, *(deeper for group in nested for deeper in groups(group))]


def test_an_empty_recipe_is_every_default() -> None:
    assert recipe.build({}) == Recipe()


def test_what_is_written_is_what_was_told(tmp_path: Path) -> None:
    told = recipe.build({"name": "ink", "train": {"steps": 7, "min_snr": "none"}, "samples": {"prompts": ["a, b"]}})

    for comments in (False, True):
        (tmp_path / "recipe.toml").write_text(recipe.to_toml(told, comments=comments), encoding="utf-8")
        assert recipe.load(tmp_path / "recipe.toml") == told
        assert recipe.load(tmp_path) == told


def test_every_default_is_written_out_and_reads_back_to_the_same_text() -> None:
    text = recipe.to_toml(Recipe())
    tree = tomllib.loads(text)

    for key in recipe.known_keys():
        place = tree
        for name in key.split("."):
            place = place[name]
    assert recipe.to_toml(recipe.build(tree)) == text


def test_every_setting_says_what_it_means() -> None:
    for group in groups():
        assert group.__doc__
        for name, field in group.model_fields.items():
            is_group = isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
            assert is_group or field.description, f"{group.__name__}.{name}"


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Recipe().train.steps = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "group", "name", "value"),
    [
        ("train.steps=120", "train", "steps", 120),
        (" train.steps = 120 ", "train", "steps", 120),
        ("train.learning_rate=2e-4", "train", "learning_rate", 2e-4),
        ("train.schedule=constant", "train", "schedule", "constant"),
        ("train.min_snr=none", "train", "min_snr", None),
        ("dataset.flip=true", "dataset", "flip", True),
        ("dataset.trigger=inkwash style", "dataset", "trigger", "inkwash style"),
        ("dataset.trigger='quoted'", "dataset", "trigger", "quoted"),
        ("dataset.trigger=1984", "dataset", "trigger", "1984"),
        ("dataset.trigger=2024-01-01", "dataset", "trigger", "2024-01-01"),
        ("dataset.trigger=a=b", "dataset", "trigger", "a=b"),
        ("dataset.trigger=", "dataset", "trigger", ""),
        ("dataset.path=C:\\pictures\\new", "dataset", "path", "C:\\pictures\\new"),
        ('adapter.targets=["attention", "denoiser.*"]', "adapter", "targets", ["attention", "denoiser.*"]),
    ],
)
def test_an_override_sets_one_setting(override: str, group: str, name: str, value: object) -> None:
    built = recipe.build({}, [override])

    assert getattr(getattr(built, group), name) == value
    assert built == recipe.build({group: {name: "none" if value is None else value}})


def test_later_overrides_win_and_the_tree_given_stays_as_it_is() -> None:
    tree = {"train": {"steps": 5}}

    assert recipe.build(tree, ["train.steps=6", "train.steps=7", "train.batch=2"]).train.steps == 7
    assert tree == {"train": {"steps": 5}}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.stpes=5", "unknown setting train.stpes; did you mean train.steps?"),
        ("steps=5", "unknown setting steps; did you mean train.steps?"),
        ("trian.steps=5", "unknown setting trian; did you mean train?"),
        ("train.steps", "cannot read the setting 'train.steps'; write it as key=value"),
        ("=5", "cannot read the setting"),
        ("train.=5", "cannot read the setting"),
        ("name.first=5", "name in 'name.first=5' is a value, not a group of settings"),
        ("train=5", "train is a group of settings, not a value"),
        ("train.steps=many", "train.steps: input should be a valid integer"),
        ("train.steps=0", "train.steps: input should be greater than 0, got 0"),
        ("train.warmup=2000", "train.warmup .2000. must be less than train.steps .1500."),
        ("train.schedule=linear", "train.schedule: input should be 'constant' or 'cosine', got 'linear'"),
        ("name=a/b", "name: string should match pattern"),
        ("name=..", "name: string should match pattern"),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        recipe.build({"name": "ink"}, [override])


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[train]\nlearning_rat = 1e-4\n")

    with pytest.raises(RecipeError, match=r"did you mean train\.learning_rate") as caught:
        recipe.load(tmp_path / "recipe.toml")

    assert caught.value.where == str(tmp_path / "recipe.toml")


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        recipe.load(tmp_path / "recipe.toml")


def test_known_keys_are_those_that_an_override_takes() -> None:
    assert recipe.known_keys() == schema.known_keys(Recipe)
    assert {"name", "train.steps", "samples.cfg_scale"} <= set(recipe.known_keys())
