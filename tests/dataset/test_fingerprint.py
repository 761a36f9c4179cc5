"""The fingerprint changes with what a dataset says, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from velatura.dataset.fingerprint import fingerprint
from velatura.dataset.scan import scan
from velatura.dataset.split import Split

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


def test_what_is_held_out_and_what_is_of_the_class_shows(paint: Paint, tmp_path: Path) -> None:
    for number in range(3):
        paint(f"{number}.png", number)
    whole = scan(tmp_path)
    others = [Split((1, 2), (0,)), Split((0, 2), (1,)), Split((2,), (0, 1))]

    told = [fingerprint(whole, split) for split in (None, *others)]
    told += [fingerprint(whole, others[0], regularisation=whole.pictures[:count]) for count in (1, 2)]

    assert len(set(told)) == len(told)
    assert fingerprint(whole, Split((0, 1, 2), ())) == fingerprint(whole)


def test_a_split_shows_by_what_is_in_it_not_by_names(paint: Paint, tmp_path: Path) -> None:
    for folder, seeds in (("one", (1, 2)), ("two", (2, 1))):
        for name, seed in zip("ab", seeds, strict=True):
            paint(f"{folder}/{name}.png", seed)
    one, two = scan(tmp_path / "one"), scan(tmp_path / "two")

    assert fingerprint(one, Split((1,), (0,))) == fingerprint(two, Split((0,), (1,)))
    assert fingerprint(one, Split((1,), (0,))) != fingerprint(two, Split((1,), (0,)))


def test_repeats_show(paint: Paint, tmp_path: Path) -> None:
    told = []
    for repeats in (1, 2, 10):
        paint(f"{repeats}/{repeats}_mara/a.png", 1)
        told.append(fingerprint(scan(tmp_path / str(repeats))))

    assert len(set(told)) == 3
