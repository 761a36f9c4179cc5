"""What is held out depends on what the pictures show, and never on names or chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from velatura.dataset.scan import Dataset, Picture, scan
from velatura.dataset.split import Split, hold_out

Paint = Callable[..., Path]


def dataset_of(contents: Sequence[int]) -> Dataset:
    """Pictures that are only hashes; their groups are given, so no file is opened."""
    pictures = tuple(
        Picture(f"{place}.png", Path(f"{place}.png"), hashlib.sha256(b"%d" % content).hexdigest(), 64, 64, None)
        for place, content in enumerate(contents)
    )
    return Dataset(Path("set"), pictures, ())


def held_contents(contents: Sequence[int], **how: object) -> set[int]:
    split = hold_out(dataset_of(contents), groups=(), **how)  # type: ignore[arg-type]
    return {contents[index] for index in split.held_out}


@pytest.mark.parametrize(
    ("count", "held"), [(1, 0), (4, 0), (5, 2), (10, 2), (12, 2), (15, 3), (20, 4), (40, 8), (500, 8)]
)
def test_a_fifth_is_held_out_but_at_least_two_and_at_most_eight(count: int, held: int) -> None:
    split = hold_out(dataset_of(range(count)), groups=())

    assert len(split.held_out) == held
    assert sorted(split.train + split.held_out) == list(range(count))
    assert split.train == tuple(sorted(split.train))


def test_names_and_order_do_not_matter() -> None:
    contents = list(range(25))

    assert held_contents(contents) == held_contents(contents[::-1]) == held_contents(contents[7:] + contents[:7])


def test_another_seed_holds_out_others() -> None:
    assert held_contents(range(25), seed=1) == held_contents(range(25), seed=1)
    assert held_contents(range(25), seed=1) != held_contents(range(25), seed=2)


def test_one_more_picture_changes_the_choice_by_at_most_one_or_two() -> None:
    for more in range(100, 140):
        before, after = held_contents(range(30)), held_contents([*range(30), more])
        assert len(before - after) <= 1


def test_every_picture_is_held_out_by_some_seed() -> None:
    assert set().union(*(held_contents(range(10), seed=seed) for seed in range(60))) == set(range(10))


def test_near_duplicates_are_never_torn_apart() -> None:
    groups = [(0, 5, 9), (1, 2), (10, 11), (12, 13, 14, 15, 16, 17, 18)]
    for seed in range(50):
        split = hold_out(dataset_of(range(24)), groups=groups, seed=seed)
        for group in groups:
            assert len(set(group) & set(split.held_out)) in (0, len(group))
        assert 2 <= len(split.held_out) <= 5


def test_a_share_of_nothing_holds_out_nothing() -> None:
    assert hold_out(dataset_of(range(9)), share=0, groups=()) == Split(tuple(range(9)), ())


def test_a_share_out_of_range_is_refused() -> None:
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="share"):
            hold_out(dataset_of(range(9)), share=share, groups=())


def test_where_every_group_is_large_the_smallest_is_held_out_if_half_stays() -> None:
    halves = hold_out(dataset_of(range(7)), groups=[(0, 1, 2, 3), (4, 5, 6)])
    whole = hold_out(dataset_of(range(6)), groups=[(0, 1, 2, 3, 4, 5)])

    assert halves.held_out == (4, 5, 6)
    assert whole == Split((0, 1, 2, 3, 4, 5), ())


def test_near_duplicates_are_looked_for_in_the_pictures_themselves(paint: Paint, tmp_path: Path) -> None:
    for number in range(6):
        paint(f"{number}.png", number)
        paint(f"{number} copy.jpg", number, quality=70)
    dataset = scan(tmp_path)

    for seed in range(5):
        held = {dataset.pictures[index].name for index in hold_out(dataset, seed=seed).held_out}
        assert {name.removesuffix(" copy.jpg").removesuffix(".png") for name in held} == {
            name.removesuffix(".png") for name in held if name.endswith(".png")
        }
        assert len(held) == 2
