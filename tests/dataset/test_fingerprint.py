"""The fingerprint changes with what a dataset says, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from velatura.dataset.fingerprint import fingerprint
from velatura.dataset.scan import scan

Paint = Callable[..., Path]


def test_names_and_places_do_not_matter(paint: Paint, tmp_path: Path) -> None:
    for folder, order in (("one", "ab"), ("two", "ba")):
        paint(f"{folder}/{order[0]}.png", 1, caption="a boat")
        paint(f"{folder}/{order[1]}.png", 2, caption="a tree")

    one, two = scan(tmp_path / "one"), scan(tmp_path / "two")

    assert one.pictures[0].captions != two.pictures[0].captions
    assert fingerprint(one) == fingerprint(two)
    assert len(fingerprint(one)) == 64


def test_every_change_of_content_shows(paint: Paint, tmp_path: Path) -> None:
    seen = []

    def look() -> None:
        seen.append(fingerprint(scan(tmp_path)))

    paint("a.png", 1)
    paint("b.png", 2, caption="a tree")
    look()
    (tmp_path / "a.txt").write_text("")
    look()
    (tmp_path / "a.txt").write_text("a boat")
    look()
    (tmp_path / "a.txt").write_text("a boat\na tree")
    look()
    (tmp_path / "a.txt").write_text("a tree")
    (tmp_path / "b.txt").write_text("a boat")
    look()
    paint("a.png", 3)
    look()
    paint("c.png", 2, caption="a boat")
    look()

    assert len(set(seen)) == len(seen)
