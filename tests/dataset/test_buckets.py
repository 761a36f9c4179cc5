"""Sizes, choice and rounding are kohya's; the batches of an epoch lose and mix nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from velatura.dataset.buckets import Bucket, assign, cover_size, fit, fit_no_upscale, grouped, plan_steps, predefined
from velatura.errors import DatasetError

KOHYA_1024 = predefined((1024, 1024), step=64, minimum=256, maximum=2048)


@pytest.mark.parametrize(
    ("size", "bucket", "resized"),
    [
        ((3072, 3000), (1024, 1024), (1049, 1024)),
        ((1920, 1080), (1344, 768), (1365, 768)),
        ((800, 600), (1152, 896), (1195, 896)),
        ((300, 300), (1024, 1024), (1024, 1024)),
        ((4000, 3000), (1152, 896), (1195, 896)),
        ((1050, 1080), (1024, 1024), (1024, 1053)),
    ],
)
def test_a_picture_gets_the_bucket_and_the_scale_that_kohya_gives_it(
    size: tuple[int, int], bucket: tuple[int, int], resized: tuple[int, int]
) -> None:
    found = fit(size, KOHYA_1024)

    assert (found.bucket, found.resized) == (bucket, resized)


@pytest.mark.parametrize(
    ("size", "bucket", "resized"),
    [
        ((3072, 3000), (960, 960), (983, 960)),
        ((1920, 1080), (1344, 768), (1365, 768)),
        ((800, 600), (768, 576), (800, 600)),
        ((300, 300), (256, 256), (300, 300)),
        ((4000, 3000), (1088, 832), (1109, 832)),
        ((1050, 1080), (960, 960), (960, 987)),
    ],
)
def test_without_upscaling_the_bucket_is_cut_from_the_picture_as_kohya_does(
    size: tuple[int, int], bucket: tuple[int, int], resized: tuple[int, int]
) -> None:
    found = fit_no_upscale(size, (1024, 1024), step=64)

    assert (found.bucket, found.resized) == (bucket, resized)


def test_the_lists_are_as_long_as_kohyas() -> None:
    assert len(predefined((512, 512), step=64, minimum=256, maximum=1024)) == 17
    assert len(KOHYA_1024) == 41


def test_every_bucket_is_made_of_whole_steps_and_stays_within_the_area() -> None:
    for width, height in predefined((640, 384), step=8, minimum=128, maximum=1024):
        assert width % 8 == height % 8 == 0
        assert width * height <= 640 * 384


def test_a_picture_that_is_a_bucket_keeps_its_size() -> None:
    assert fit((832, 1216), KOHYA_1024).bucket == (832, 1216)


def test_scaling_covers_the_bucket_on_both_sides() -> None:
    for size in [(37, 911), (1000, 10), (640, 641), (2, 3)]:
        for bucket in KOHYA_1024:
            across, down = cover_size(size, bucket)
            assert across >= bucket[0]
            assert down >= bucket[1]


def test_a_picture_narrower_than_a_step_is_refused_where_it_may_not_be_scaled_up() -> None:
    with pytest.raises(DatasetError, match="40 x 900"):
        fit_no_upscale((40, 900), (512, 512), step=64)
    with pytest.raises(DatasetError, match="20 x 90000"):
        fit_no_upscale((20, 90_000), (512, 512), step=64)


def test_numbers_that_leave_no_bucket_are_refused() -> None:
    with pytest.raises(ValueError, match="no bucket"):
        predefined((32, 32), step=64, minimum=64, maximum=64)
    with pytest.raises(ValueError, match="no bucket"):
        predefined((512, 512), step=0)


def test_buckets_hold_every_picture_once() -> None:
    sizes = [(512, 512), (640, 400), (400, 640), (513, 512), (1000, 625)]

    buckets = assign(sizes, area=(512, 512))

    assert sorted(index for bucket in buckets for index in bucket.pictures) == [0, 1, 2, 3, 4]
    assert [bucket.pictures for bucket in buckets if bucket.size == (512, 512)] == [(0, 3)]
    assert [bucket.size for bucket in buckets] == sorted(bucket.size for bucket in buckets)


def plan_epoch(buckets: list[Bucket], *, batch: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The batches of an epoch in which each is a step of its own."""
    return [one for (one,) in plan_steps(buckets, batch=batch, seed=seed, epoch=epoch)]


BUCKETS = [Bucket((512, 512), tuple(range(7))), Bucket((448, 576), (7, 8)), Bucket((576, 448), (9,))]


def test_an_epoch_shows_every_picture_once_and_drops_no_short_batch() -> None:
    batches = plan_epoch(BUCKETS, batch=3, seed=1, epoch=0)

    assert Counter(index for batch in batches for index in batch) == Counter(range(10))
    assert sorted(len(batch) for batch in batches) == [1, 1, 2, 3, 3]


def test_no_batch_mixes_buckets() -> None:
    home = {index: bucket.size for bucket in BUCKETS for index in bucket.pictures}

    for epoch in range(5):
        for batch in plan_epoch(BUCKETS, batch=4, seed=3, epoch=epoch):
            assert len({home[index] for index in batch}) == 1


def test_fewer_pictures_than_the_batch_still_make_a_batch() -> None:
    assert [sorted(batch) for batch in plan_epoch([Bucket((64, 64), (0, 1, 2))], batch=4, seed=0, epoch=0)] == [
        [0, 1, 2]
    ]


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    first = plan_epoch(BUCKETS, batch=2, seed=1, epoch=4)

    plan_epoch(BUCKETS, batch=2, seed=1, epoch=5)
    assert plan_epoch(list(reversed(BUCKETS)), batch=2, seed=1, epoch=4) == first
    assert plan_epoch(BUCKETS, batch=2, seed=1, epoch=5) != first
    assert plan_epoch(BUCKETS, batch=2, seed=2, epoch=4) != first


def test_buckets_are_not_visited_one_after_the_other() -> None:
    two = [Bucket((64, 64), tuple(range(20))), Bucket((128, 64), tuple(range(20, 40)))]

    visited = [batch[0] >= 20 for batch in plan_epoch(two, batch=1, seed=0, epoch=0)]

    assert visited != sorted(visited)
    assert visited != sorted(visited, reverse=True)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        plan_epoch(BUCKETS, batch=0, seed=0, epoch=0)


LEDGERS = [(batch, accumulation, world) for batch in (1, 2, 3, 8) for accumulation in (1, 2, 5) for world in (1, 2, 3)]


@pytest.mark.parametrize(("batch", "accumulation", "world"), LEDGERS)
def test_every_picture_is_seen_as_often_as_it_is_repeated_in_each_epoch_over_all_processes(
    batch: int, accumulation: int, world: int
) -> None:
    repeats = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
    sizes = [((512, 512), (448, 576), (576, 448), (640, 384))[index % 4] for index in range(len(repeats))]
    buckets = grouped(sizes, repeats)
    for epoch in range(3):
        steps = plan_steps(buckets, batch=batch, accumulation=accumulation * world, seed=7, epoch=epoch)
        seen: Counter[int] = Counter()
        for rank in range(world):
            for step in steps:
                for part in step[rank::world]:
                    assert 1 <= len(part) <= batch
                    assert len({sizes[index] for index in part}) == 1
                    seen.update(part)
        assert seen == Counter(dict(enumerate(repeats)))
        assert all(len(step) <= accumulation * world for step in steps)


def test_accumulation_takes_the_steps_of_one_large_batch() -> None:
    bucket = [Bucket((64, 64), tuple(range(11)))]

    for epoch in range(3):
        large = plan_steps(bucket, batch=4, seed=3, epoch=epoch)
        parts = plan_steps(bucket, batch=2, accumulation=2, seed=3, epoch=epoch)
        assert [sum(step, ()) for step in parts] == [one for (one,) in large]
        assert any(len(step) == 2 for step in parts)


def test_the_last_group_of_an_epoch_is_trained_on_however_small() -> None:
    steps = plan_steps([Bucket((64, 64), (0, 1, 2))], batch=1, accumulation=4, seed=0, epoch=0)

    assert [sorted(sum(step, ())) for step in steps] == [[0, 1, 2]]


def test_what_is_left_of_several_buckets_shares_a_step() -> None:
    ten = [Bucket((64 + 8 * number, 64), (2 * number, 2 * number + 1)) for number in range(10)]

    assert len(plan_steps(ten, batch=1, accumulation=4, seed=0, epoch=0)) == 5
    assert len(plan_steps(ten, batch=4, seed=0, epoch=0)) == 10
