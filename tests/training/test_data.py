"""What each step trains on: a function of the seed and the step, and every picture in its turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.tiny import at
from velatura.api.inputs import read_pictures
from velatura.family import Model
from velatura.recipe import Recipe, build, load
from velatura.text.weighted import plain
from velatura.training.data import Batch, Batches, Cached
from velatura.training.dataset import Pictures
from velatura.training.encoding import encode

MakeProject = Callable[..., Path]


def encoded(project: Path, model: Model, *, flip: bool = False) -> tuple[Recipe, Pictures, Cached]:
    recipe = load(project, [f"dataset.flip={str(flip).lower()}"])
    pictures = read_pictures(recipe, project, model)
    *_, cached = encode(model, pictures.prepared)
    assert isinstance(cached, Cached)
    return recipe, pictures, cached


def settings(**told: Any) -> Recipe:
    return build({"version": 2, "train": {"steps": 100, "batch": 2, "seed": 3, **told}})


def told_otherwise(cached: Cached, **rules: Any) -> Cached:
    """The same pictures under other rules; what they need is not encoded anew."""
    changed = [
        replace(one, prepared=replace(one.prepared, rules=one.prepared.rules.model_copy(update=rules)))
        for one in cached.train
    ]
    return replace(cached, train=tuple(changed))


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in (
            (one.clean_BCHW, other.clean_BCHW),
            (one.noise_BCHW, other.noise_BCHW),
            (one.sigma_B, other.sigma_B),
            (one.conditioning.text.tokens_BLD, other.conditioning.text.tokens_BLD),
        )
    )


def test_the_batch_of_a_step_does_not_depend_on_what_ran_before(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project("dataset.caption_dropout=0.5"), model, flip=True)
    straight = Batches(model, told_otherwise(cached, caption_dropout=0.5), settings())
    in_order = {step: at(straight, step) for step in range(20)}
    torch.manual_seed(99)
    np.random.seed(99)
    for step in (17, 3, 11, 3, 0):
        fresh = Batches(model, told_otherwise(cached, caption_dropout=0.5), settings())
        torch.rand(7)
        assert same(at(fresh, step), in_order[step])
        assert same(at(straight, step), in_order[step])


def test_another_step_and_another_seed_draw_otherwise(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project(), model)
    one, other = Batches(model, cached, settings()), Batches(model, cached, settings(seed=4))
    per_epoch = one.per_epoch
    seen = [at(one, step) for step in (0, 1, per_epoch, 2 * per_epoch)] + [at(other, 0)]
    for place, batch in enumerate(seen):
        for later in seen[place + 1 :]:
            assert not torch.equal(batch.noise_BCHW.flatten()[:50], later.noise_BCHW.flatten()[:50])
            assert not torch.equal(batch.sigma_B, later.sigma_B)


def test_drawing_a_batch_leaves_the_global_generators_alone(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project(), model, flip=True)
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    at(Batches(model, told_otherwise(cached, caption_dropout=0.3), settings()), 5)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 50])
def test_every_picture_is_trained_once_in_each_epoch_and_short_batches_are_kept(
    make_project: MakeProject, model: Model, size: int
) -> None:
    _, pictures, cached = encoded(make_project(pictures=11), model)
    batches = Batches(model, cached, settings(batch=size))
    buckets = Counter(one.bucket for one in pictures.train)
    assert len(buckets) > 1
    assert batches.per_epoch == sum(-(-count // size) for count in buckets.values())
    orders = []
    for epoch in range(3):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        chosen = [index for step in steps for index in batches.pictures(step)[0]]
        assert sorted(chosen) == list(range(len(cached.train)))
        orders.append(chosen)
    assert len({tuple(order) for order in orders}) == 3


def test_one_picture_and_a_large_batch_still_train(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project(pictures=1), model)
    batches = Batches(model, cached, settings(batch=16))
    assert batches.per_epoch == 1
    assert len(at(batches, 5).clean_BCHW) == 1


def test_held_out_pictures_are_never_trained_on(make_project: MakeProject, model: Model) -> None:
    _, pictures, cached = encoded(make_project(pictures=9), model)
    assert {one.prepared.picture.name for one in cached.held_out} == {one.picture.name for one in pictures.held_out}
    trained = {one.prepared.picture.sha256 for one in cached.train}
    assert len(cached.held_out) == 2
    assert not trained & {one.prepared.picture.sha256 for one in cached.held_out}


def test_each_picture_keeps_its_own_latents_and_caption(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project(), model)
    with torch.no_grad():
        for sample in (*cached.train, *cached.held_out):
            (caption,) = sample.prepared.captions
            text = model.family.encode_prompts(model, [plain(caption)]).tokens_BLD
            assert torch.equal(sample.texts[0].tokens_BLD, text)
            width, height = sample.prepared.bucket
            assert sample.latents_CHW.shape == (4, height // 8, width // 8)
    batches = Batches(model, told_otherwise(cached, caption_dropout=0), settings())
    for step in range(batches.per_epoch):
        batch = at(batches, step)
        for place, index in enumerate(batches.pictures(step)[0]):
            assert torch.equal(batch.clean_BCHW[place], cached.train[index].latents_CHW)
            assert torch.equal(batch.conditioning.text.tokens_BLD[place], cached.train[index].texts[0].tokens_BLD[0])


def test_flipping_mirrors_about_half_of_the_samples_anew_at_each_step(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project(), model, flip=True)
    batches = Batches(model, cached, settings())
    seen: dict[int, list[bool]] = {index: [] for index in range(len(cached.train))}
    for step in range(40 * batches.per_epoch):
        batch = at(batches, step)
        for place, index in enumerate(batches.pictures(step)[0]):
            straight = torch.equal(batch.clean_BCHW[place], cached.train[index].latents_CHW)
            assert straight != torch.equal(batch.clean_BCHW[place], cached.train[index].views[1].latents_CHW)
            seen[index].append(not straight)
    shares = [float(np.mean(mirrored)) for mirrored in seen.values()]
    assert 0.4 < np.mean(shares) < 0.6
    assert all(0.2 < share < 0.8 for share in shares), "a picture is not mirrored for good"


def test_mirrored_latents_are_those_of_the_mirrored_picture_not_mirrored_latents(
    make_project: MakeProject, model: Model
) -> None:
    project = make_project(pictures=1)
    _, _, cached = encoded(project, model, flip=True)
    path = project / "dataset" / "0.png"
    with Image.open(path) as image:
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(path)
    _, _, turned = encoded(project, model)
    mirrored_CHW = cached.train[0].views[1].latents_CHW
    assert torch.allclose(mirrored_CHW, turned.train[0].latents_CHW, atol=1e-5)
    assert not torch.allclose(mirrored_CHW, cached.train[0].latents_CHW.flip(-1), atol=1e-3)
    assert [len(one.views) for one in turned.train] == [1]


def dropped(batch: Batch, empty: Tensor) -> list[bool]:
    return [torch.equal(tokens[: empty.shape[1]], empty[0]) for tokens in batch.conditioning.text.tokens_BLD]


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_captions_are_dropped_at_the_rate_asked_for(make_project: MakeProject, model: Model, rate: float) -> None:
    _, _, cached = encoded(make_project(), model)
    batches = Batches(model, told_otherwise(cached, caption_dropout=rate), settings())
    found = [one for step in range(200) for one in dropped(at(batches, step), cached.empty.tokens_BLD)]
    assert len(found) > 300
    assert np.mean(found) == pytest.approx(rate, abs=0 if rate in (0, 1) else 0.08)


def test_whether_a_caption_is_dropped_does_not_hang_on_whether_the_picture_is_mirrored(
    make_project: MakeProject, model: Model
) -> None:
    project = make_project(pictures=3)
    cached = told_otherwise(encoded(project, model, flip=True)[2], caption_dropout=0.5)
    straight = told_otherwise(cached, flip=False)
    told = settings(batch=3)
    mirrored_too, never = Batches(model, cached, told), Batches(model, straight, told)
    pairs = []
    for step in range(100):
        batch = at(mirrored_too, step)
        gone = dropped(batch, cached.empty.tokens_BLD)
        assert batch.noise_BCHW.equal(at(never, step).noise_BCHW)
        turned = [
            torch.equal(batch.clean_BCHW[place], cached.train[index].views[1].latents_CHW)
            for place, index in enumerate(mirrored_too.pictures(step)[0])
        ]
        pairs += list(zip(gone, turned, strict=True))
    counts = Counter(pairs)
    assert min(counts[pair] for pair in ((False, False), (False, True), (True, False), (True, True))) > 40


def test_all_captions_of_a_picture_are_used(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=2)
    (project / "dataset" / "0.txt").write_text("a boat\na ship\na sail", encoding="utf-8")
    _, _, cached = encoded(project, model)
    index = next(place for place, one in enumerate(cached.train) if len(one.texts) == 3)
    batches = Batches(model, told_otherwise(cached, caption_dropout=0), settings())
    used = Counter()
    for step in range(60):
        batch = at(batches, step)
        for place, picture in enumerate(batches.pictures(step)[0]):
            if picture == index:
                tokens = batch.conditioning.text.tokens_BLD[place]
                used[[torch.equal(tokens, text.tokens_BLD[0]) for text in cached.train[index].texts].index(True)] += 1
    assert min(used[caption] for caption in range(3)) >= 8


def test_long_captions_are_not_cut_and_short_ones_are_filled_up_as_when_painting(
    make_project: MakeProject, model: Model
) -> None:
    project = make_project(pictures=2)
    for number in (0, 1):
        tiny.picture(project / "dataset" / f"{number}.png", (64, 64), number)
    long = ", ".join(f"boat {number}" for number in range(60))
    (project / "dataset" / "0.txt").write_text(long, encoding="utf-8")
    _, _, cached = encoded(project, model)
    batch = at(Batches(model, told_otherwise(cached, caption_dropout=0), settings()), 0)
    with torch.no_grad():
        together = model.family.encode_prompts(
            model,
            [
                plain(cached.train[index].prepared.captions[0])
                for index in Batches(model, cached, settings()).pictures(0)[0]
            ],
        )
    assert batch.conditioning.text.tokens_BLD.shape[1] >= 3 * 77
    assert torch.allclose(batch.conditioning.text.tokens_BLD, together.tokens_BLD, atol=1e-5)


def test_a_caption_with_brackets_is_trained_as_the_words_it_is(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=1)
    (project / "dataset" / "0.txt").write_text("a (boat:1.5) <lora:x:1>", encoding="utf-8")
    _, _, cached = encoded(project, model)
    with torch.no_grad():
        text = model.family.encode_prompts(model, [plain("a (boat:1.5) <lora:x:1>")])
    assert torch.equal(cached.train[0].texts[0].tokens_BLD, text.tokens_BLD)


def test_noise_levels_are_those_of_the_table_one_from_each_slice(make_project: MakeProject, model: Model) -> None:
    _, _, cached = encoded(make_project(pictures=4), model)
    same_size = replace(cached, train=(cached.train[0],) * 8)
    batches = Batches(model, same_size, settings(batch=8))
    seen = []
    for step in range(50):
        rows = model.objective.timestep(at(batches, step).sigma_B)
        assert torch.equal(rows, rows.round())
        assert sorted((rows / 125).int().tolist()) == list(range(8)), "one from each eighth of the table"
        seen.append(rows.tolist())
    assert len({int(row * 8 / 1000) for rows in seen for row in rows[:1]}) == 8, "in another order each time"
    assert 450 < np.mean(seen) < 550
