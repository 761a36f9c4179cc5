"""What a training refuses of a dataset, naming the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paintings import clouds
from velatura import recipe as recipes
from velatura.dataset import journal
from velatura.dataset.scan import scan
from velatura.dataset.split import Split
from velatura.errors import DatasetError
from velatura.training.dataset import read, refuse_leaks


def paint(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(5):
        clouds(seed, (96, 64)).save(folder / f"{seed}.png")


def test_a_set_in_the_middle_of_an_edit_is_not_trained_on(tmp_path: Path) -> None:
    paint(tmp_path / "dataset")
    with pytest.raises(KeyboardInterrupt), journal.edit(tmp_path / "dataset", "resize", resumable=True) as edit:
        edit.write_text("a.txt", "half-way")
        raise KeyboardInterrupt

    with pytest.raises(DatasetError, match="in the middle of an edit: resize"):
        read(recipes.build({}), tmp_path, resolution=128)
    journal.undo(tmp_path / "dataset")
    assert len(read(recipes.build({}), tmp_path, resolution=128).prepared) == 5


def test_a_copy_of_what_is_held_out_is_named(tmp_path: Path) -> None:
    paint(tmp_path)
    found = scan(tmp_path)

    with pytest.raises(DatasetError, match=r"both trained on and held out: 0\.png, 1\.png"):
        refuse_leaks(found, Split((0, 2, 3), (1, 4)), [(0, 1)])
    refuse_leaks(found, Split((0, 1, 2), (3, 4)), [(0, 1)])


def test_pictures_without_a_caption_are_named_and_what_that_means(tmp_path: Path) -> None:
    paint(tmp_path / "dataset")
    (tmp_path / "dataset" / "0.txt").write_text("a sky")

    notes = read(recipes.build({"dataset": {"trigger": "inkhand"}}), tmp_path, resolution=128).notes

    (note,) = [one for one in notes if "no caption" in one]
    assert note.startswith("4 of 5 pictures have no caption: ") and note.endswith(
        "; they are told by the trigger alone"
    )
    assert "0.png" not in note and "2.png" in note
