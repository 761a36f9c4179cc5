"""Pictures of the class are painted by the base as `generate` paints, once each, and a training takes them up."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from velatura import api, recipe
from velatura.api.inputs import read_pictures
from velatura.api.regularising import RegulariseRequest, regularise
from velatura.dataset.captions import with_class
from velatura.errors import DatasetError, RecipeError
from velatura.events import Done, Note, Preview
from velatura.family import Model

Project = Callable[..., Path]


@pytest.fixture
def project(base: Path, tmp_path: Path) -> Path:
    return tiny.project(tmp_path / "project", base, "dataset.trigger=mara", pictures=7)


def run(folder: Path, **told: Any) -> tuple[dict[str, Any], list[str]]:
    """The summary and the notes."""
    words = {} if "prompts" in told else {"class_words": "ship"}
    events = list(regularise(RegulariseRequest(folder, **{"steps": 2, **words, **told})))
    assert isinstance(events[-1], Done)
    return events[-1].summary, [event.text for event in events if isinstance(event, Note)]


def painted(project: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((project / "dataset" / "reg").iterdir())}


def pixels(data: bytes) -> np.ndarray[Any, np.dtype[np.int_]]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("mara, a red boat", "ship, a red boat"),
        ("a portrait of Mara at sea", "a portrait of ship at sea"),
        ("mara ship at night", "ship at night"),
        ("mara, ship at night", "ship at night"),
        ("mara", "ship"),
        ("maran and mara", "maran and ship"),
        ("mara shipyard", "ship shipyard"),
        ("a boat", "a boat"),
    ],
)
def test_the_class_takes_the_place_of_the_trigger(caption: str, said: str) -> None:
    assert with_class(caption, "mara", "ship") == said


def test_a_trigger_with_marks_is_taken_as_it_is_written() -> None:
    assert with_class("m.ra (x) and mora (x)", "m.ra (x)", r"a\1b") == r"a\1b and mora (x)"


def test_one_is_painted_for_each_training_caption_at_its_pictures_size(project: Path, model: Model) -> None:
    summary, _ = run(project)

    pictures = read_pictures(recipe.load(project), project, model)
    expected = sorted((one.captions[0].replace("mara", "ship"), one.bucket) for one in pictures.train)
    found = [(one.captions[0], (one.picture.width, one.picture.height)) for one in pictures.regularisation]
    assert sorted(found) == expected
    assert len({one.picture.sha256 for one in pictures.regularisation}) == len(pictures.train) == summary["painted"]
    assert all(one.repeats == 1 and one.bucket in dict(expected).values() for one in pictures.regularisation)


def test_they_are_what_generate_paints(project: Path, tmp_path: Path) -> None:
    run(project)
    for name in painted(project):
        if not name.endswith(".png"):
            continue
        path = project / "dataset" / "reg" / name
        with Image.open(path) as image:
            record, (width, height) = json.loads(image.info["velatura"]), image.size
            pixels = np.asarray(image.convert("RGB")).astype(int)
        request = api.GenerateRequest(
            path.with_suffix(".txt").read_text().strip(),
            base=str(recipe.load(project).base.model),
            seed=record["seed"],
            steps=2,
            width=width,
            height=height,
            out=tmp_path / "again",
        )
        (again,) = [event.path for event in api.generate(request) if isinstance(event, Preview)]
        with Image.open(again) as image:
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).max() <= 1
        break


def test_what_is_there_is_not_painted_again_and_what_is_new_is(project: Path) -> None:
    run(project)
    before = painted(project)

    assert run(project)[0]["painted"] == 0
    assert painted(project) == before

    gone = next(name for name in before if name.endswith(".png"))
    (project / "dataset" / "reg" / gone).unlink()
    assert run(project)[0] | {"folder": ""} == {"folder": "", "painted": 1, "kept": 4, "deleted": 0}
    again = painted(project)
    assert {name: data for name, data in again.items() if name != gone}.items() <= before.items()
    assert np.abs(pixels(again[gone]) - pixels(before[gone])).max() <= 1, "alone, and in a batch before"


def test_an_interrupted_painting_goes_on(project: Path) -> None:
    work = regularise(RegulariseRequest(project, class_words="ship", steps=2, batch=1))
    for event in work:
        if isinstance(event, Preview):
            break
    work.close()  # type: ignore[attr-defined]
    pictures = [name for name in painted(project) if name.endswith(".png")]
    assert len(pictures) == 1
    assert all(Path(name).with_suffix(".txt").name in painted(project) for name in pictures)

    assert run(project)[0]["kept"] == 1


def test_what_is_no_longer_wanted_is_named_and_deleted_when_asked(project: Path) -> None:
    run(project)
    own = project / "dataset" / "reg" / "mine.png"
    tiny.picture(own, (64, 64), 4)

    _, notes = run(project, class_words="vessel")
    assert any("5 pictures were painted for what is no longer wanted" in note for note in notes)
    summary, _ = run(project, class_words="vessel", prune=True)

    assert (summary["painted"], summary["deleted"]) == (0, 5)
    assert own.exists()
    assert len([name for name in painted(project) if name.startswith("painted-")]) == 10


def test_another_seed_and_other_steps_are_other_pictures(project: Path) -> None:
    run(project)
    for told in ({"seed": 2}, {"steps": 3}, {"cfg": 2.0}, {"negative": "rain"}):
        assert run(project, **told)[0]["kept"] == 0


def test_prompts_are_painted_in_squares_as_many_as_the_set_has(project: Path) -> None:
    summary, _ = run(project, prompts=("a (boat:1.2) at sea", "a cat"))

    assert summary["painted"] == 6
    texts = [data.decode().strip() for name, data in painted(project).items() if name.endswith(".txt")]
    assert sorted(texts) == ["a boat at sea"] * 3 + ["a cat"] * 3
    assert len({data for name, data in painted(project).items() if name.endswith(".png")}) == 6
    assert run(project, prompts=("a cat",), count=3)[0]["kept"] == 3, "one more prompt changes none"


def test_a_set_without_a_project_needs_the_trigger(base: Path, project: Path) -> None:
    (project / "recipe.toml").unlink()
    with pytest.raises(RecipeError, match="no trigger"):
        run(project / "dataset", base=str(base))

    assert run(project / "dataset", base=str(base), trigger="mara")[0]["painted"] == 7, "nothing is held out"


@pytest.mark.parametrize("told", [{"class_words": ""}, {"prompts": ("a cat",), "class_words": "ship"}])
def test_it_is_told_either_a_class_or_prompts(project: Path, told: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"what to paint|both"):
        run(project, **told)
    assert not (project / "dataset" / "reg").exists()


def test_prompts_with_choices_are_chosen_for_each_picture(project: Path) -> None:
    (project / "wildcards").mkdir()
    (project / "wildcards" / "place.txt").write_text("snow\nsea\n")
    run(project, prompts=("a {red|blue} ship in __place__ # any",), count=8, class_words="")
    captions = {data.decode().strip() for name, data in painted(project).items() if name.endswith(".txt")}
    possible = {f"a {colour} ship in {place}" for colour in ("red", "blue") for place in ("snow", "sea")}
    assert len(captions) > 1
    assert captions <= possible
    before = painted(project)
    run(project, prompts=("a {red|blue} ship in __place__ # any",), count=8, class_words="")
    assert painted(project) == before
