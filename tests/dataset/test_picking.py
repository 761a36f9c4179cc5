"""Choosing from a pile: statuses, filters, picks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paintings import clouds
from velatura.dataset import choice, picking, survey
from velatura.dataset.choice import Choice
from velatura.dataset.scan import scan
from velatura.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(12):
        clouds(seed // 3, (96 + 8 * (seed % 3), 64)).save(tmp_path / f"{seed:02d}.png")  # four motifs, three of each
    return tmp_path


def decide(folder: Path, **statuses: str) -> None:
    made = Choice({f"{name.removeprefix('n')}.png": status for name, status in statuses.items()})  # type: ignore[misc]
    (folder / choice.FILE).write_text(made.to_json(), encoding="utf-8")


def test_rejected_pictures_are_not_part_of_the_set_and_no_file_is_touched(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}

    decide(folder, n00="reject", n01="keep")

    found = scan(folder)
    assert len(found.pictures) == 11 and found.left_aside == ("00.png",)
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before


def test_after_a_pick_only_what_is_kept_is_part_of_the_set(folder: Path) -> None:
    (folder / choice.FILE).write_text(Choice({"03.png": "keep"}, only_kept=True).to_json())

    assert [one.name for one in scan(folder).pictures] == ["03.png"]
    (folder / choice.FILE).write_text(Choice({}, only_kept=True).to_json())
    with pytest.raises(DatasetError, match="none of the pictures is chosen"):
        scan(folder)


def test_a_damaged_choice_is_refused_and_not_taken_for_none(folder: Path) -> None:
    for text in ("{", "[]", '{"pictures": {"a.png": "maybe"}}'):
        (folder / choice.FILE).write_text(text)
        with pytest.raises(DatasetError, match="damaged"):
            scan(folder)


def test_filters_are_read_and_hold_together(folder: Path) -> None:
    pictures = survey.survey(folder).pictures
    made = Choice({"00.png": "reject"})

    def names(*terms: str) -> list[str]:
        return [one.picture.name for one in picking.matching(pictures, terms, made)]

    assert names("width>=112", "name~0") == ["02.png", "05.png", "08.png"]
    assert names("status=reject") == ["00.png"] and len(names("status!=reject")) == 11
    assert names("width > 1000") == []
    for wrong in ("width", "widht>3", "width>wide"):
        with pytest.raises(DatasetError):
            names(wrong)


def test_a_diverse_pick_takes_one_of_each_motif(folder: Path) -> None:
    pictures = survey.survey(folder).pictures

    picked = picking.diverse(pictures, 4)

    assert {int(name[:2]) // 3 for name in picked.names} == {0, 1, 2, 3} and picked.missing == ()
    assert picking.diverse(pictures, 3).names == picked.names[:3]


def test_what_is_kept_is_in_a_balanced_pick_too_however_unbalanced_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = survey.survey(folder).pictures
    kinds = {one.picture.name: "close" if index < 8 else "half" for index, one in enumerate(found)}
    monkeypatch.setattr(picking, "framing", lambda one: kinds[one.picture.name])
    kept = [one.picture.name for one in found[:3]]

    three, six = (picking.balanced(found, count, kept=kept).names for count in (3, 6))

    assert set(three) == set(kept)
    assert set(kept) < set(six)
    assert [kinds[name] for name in six] == ["close"] * 3 + ["half"] * 3
    assert len(set(six)) == 6


def test_what_is_kept_is_in_every_pick_and_what_lacks_is_named(folder: Path) -> None:
    pictures = survey.survey(folder).pictures

    assert {"00.png", "01.png"} <= set(picking.diverse(pictures, 4, kept=["00.png", "01.png"]).names)
    assert picking.diverse(pictures, 20).missing == ("8 pictures: there are no more than 12",)
    balanced = picking.balanced(pictures, 9)
    assert len(balanced.names) == 9 and any("of framing" in one for one in balanced.missing)
