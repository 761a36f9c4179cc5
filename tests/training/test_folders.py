"""Several folders, resolutions, crops and wordings: what is trained, how often, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests import tiny
from tests.tiny import at
from velatura import api
from velatura.api.inputs import read_pictures
from velatura.dataset.prepared import lines, windows
from velatura.errors import DatasetError
from velatura.family import Model
from velatura.recipe import load
from velatura.training.data import Batches, Cached
from velatura.training.dataset import Pictures, counted, steps_of
from velatura.training.encoding import encode

MakeProject = Callable[..., Path]


def pictures_of(project: Path, model: Model, *overrides: str) -> Pictures:
    return read_pictures(load(project, overrides), project, model)


def encoded(project: Path, model: Model, *overrides: str) -> tuple[Batches, Cached]:
    recipe = load(project, overrides)
    pictures = read_pictures(recipe, project, model)
    *_, cached = encode(model, (*pictures.prepared, *pictures.regularisation), seed=recipe.train.seed)
    assert isinstance(cached, Cached)
    return Batches(model, cached, recipe), cached


def with_blocks(project: Path, text: str) -> Path:
    """The project with blocks behind its recipe, and folders for them."""
    for number, folder in enumerate(("mara", "sea", "people")):
        for at_ in range(3):
            tiny.picture(project / folder / f"{at_}.png", ((64, 64), (96, 48))[at_ % 2], 100 * number + at_ + 50)
            (project / folder / f"{at_}.txt").write_text(f"{folder} {at_}", encoding="utf-8")
    path = project / "recipe.toml"
    told = path.read_text(encoding="utf-8").replace("blocks = []\n", "").replace("hold_out = 0.2", "hold_out = 0.0")
    path.write_text(told + text, encoding="utf-8")
    return project


BLOCKS = """
[[dataset.blocks]]
path = "mara"
repeats = 3
trigger = "mrx"
[[dataset.blocks]]
path = "sea"
resolution = 128
caption_dropout = 1.0
[[dataset.blocks]]
path = "people"
role = "class"
"""


def test_blocks_have_rules_of_their_own(make_project: MakeProject, model: Model) -> None:
    pictures = pictures_of(with_blocks(make_project(), BLOCKS), model)
    assert Counter(one.picture.name.split("/")[0] for one in pictures.train) == {"mara": 3, "sea": 3}
    for one in pictures.train:
        folder = one.picture.name.split("/")[0]
        assert one.repeats == (3 if folder == "mara" else 1)
        assert one.captions[0].startswith("mrx, mara" if folder == "mara" else "sea")
        assert one.side == (64 if folder == "mara" else 128)
        assert max(one.bucket) > 64 or folder == "mara"
    assert sum(one.repeats for one in pictures.regularisation if one.side == 64) == 9
    assert {one.picture.path.parent.name for one in pictures.regularisation} == {"people"}


def test_a_block_may_drop_its_captions_while_another_keeps_them(make_project: MakeProject, model: Model) -> None:
    batches, cached = encoded(with_blocks(make_project("dataset.caption_dropout=0"), BLOCKS), model)
    empty = cached.empty.tokens_BLD[0]
    for step in range(batches.per_epoch):
        (part,) = batches.pictures(step)
        batch = at(batches, step)
        for place, index in enumerate(part):
            dropped = torch.equal(batch.conditioning.text.tokens_BLD[place], empty)
            assert dropped == (batches.samples[index].prepared.rules.path == "sea")


def test_one_folder_may_be_trained_twice_under_two_rules_and_held_out_pictures_stay_out(
    make_project: MakeProject, model: Model
) -> None:
    project = with_blocks(make_project(), "")
    text = (project / "recipe.toml").read_text().replace("hold_out = 0.0", "hold_out = 0.3")
    both = '[[dataset.blocks]]\npath = "dataset"\n[[dataset.blocks]]\npath = "dataset"\nfurther_resolutions = [96]\n'
    (project / "recipe.toml").write_text(text + both)
    pictures = pictures_of(project, model)
    held = {one.picture.sha256 for one in pictures.held_out}
    assert held and not held & {one.picture.sha256 for one in pictures.train}
    assert Counter(one.side for one in pictures.train) == {64: 10, 96: 5}


def test_only_pictures_of_the_class_are_not_a_set(make_project: MakeProject, model: Model) -> None:
    project = with_blocks(make_project(), '[[dataset.blocks]]\npath = "people"\nrole = "class"\n')
    with pytest.raises(DatasetError, match="none the set"):
        pictures_of(project, model)


def test_every_resolution_holds_every_picture_and_what_is_held_out_has_one(
    make_project: MakeProject, model: Model
) -> None:
    pictures = pictures_of(make_project(), model, "dataset.further_resolutions=[96, 128]")
    assert len(pictures.held_out) == 2
    assert {one.side for one in pictures.held_out} == {64}
    assert Counter(one.side for one in pictures.train) == {64: 5, 96: 5, 128: 5}
    batches, cached = encoded(make_project(), model, "dataset.further_resolutions=[96, 128]")
    seen = Counter(index for step in range(batches.per_epoch) for part in batches.pictures(step) for index in part)
    assert seen == Counter(dict.fromkeys(range(15), 1))
    assert {tuple(one.latents_CHW.shape[-2:]) for one in cached.train} >= {(8, 8), (12, 12), (16, 16)}


@pytest.mark.parametrize(("batch", "accumulation", "world"), [(1, 1, 1), (2, 2, 1), (3, 1, 2), (2, 3, 2), (8, 2, 3)])
def test_the_ledger_of_a_training_is_what_the_plan_says(
    make_project: MakeProject, model: Model, batch: int, accumulation: int, world: int
) -> None:
    settings = (
        "dataset.repeats=2",
        "dataset.further_resolutions=[96]",
        f"train.batch={batch}",
        f"train.accumulation={accumulation}",
        "train.epochs=3",
        "dataset.hold_out=0",
    )
    project = make_project()
    for number in range(2):
        tiny.picture(project / "dataset" / "reg" / f"{number}.png", (64, 64), 900 + number)
    batches, cached = encoded(project, model, *settings)
    recipe = counted(load(project, settings), pictures_of(project, model, *settings))
    assert recipe.train.steps == 3 * batches.per_epoch
    wanted = Counter({index: one.prepared.repeats for index, one in enumerate(batches.samples)})
    assert sum(one.prepared.repeats for one in cached.of_class) == sum(one.prepared.repeats for one in cached.train)
    for epoch in range(3):
        seen: Counter[int] = Counter()
        for step in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
            parts = batches.pictures(step)
            shared = [part for rank in range(world) for part in parts[rank::world]]
            assert sorted(shared) == sorted(parts)
            seen.update(index for part in parts for index in part)
        assert seen == wanted
    assert len(steps_of(recipe, batches.buckets, epoch=1)) == batches.per_epoch


def test_processes_draw_what_one_would_have_drawn(make_project: MakeProject, model: Model) -> None:
    batches, _ = encoded(make_project(pictures=9), model, "train.batch=1", "train.accumulation=4", "dataset.flip=true")
    for step in range(batches.per_epoch):
        alone = list(batches.of(step))
        shared = [list(batches.of(step, rank=rank, world=2)) for rank in range(2)]
        assert [len(part) for part in shared] == [-(-len(alone) // 2), len(alone) // 2]
        for number, batch in enumerate(alone):
            other = shared[number % 2][number // 2]
            assert torch.equal(batch.clean_BCHW, other.clean_BCHW)
            assert torch.equal(batch.noise_BCHW, other.noise_BCHW)
            assert torch.equal(batch.sigma_B, other.sigma_B)
            assert batch.of == sum(len(one.clean_BCHW) for one in alone)


def test_micro_batches_train_what_the_large_batch_trains(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=1)
    for number in range(9):
        tiny.picture(project / "dataset" / f"{number}.png", (64, 64), number)
    told = ("dataset.flip=true", "dataset.hold_out=0", "dataset.caption_dropout=0.3")
    whole, _ = encoded(project, model, *told, "train.batch=4")
    parts, _ = encoded(project, model, *told, "train.batch=2", "train.accumulation=2")
    assert whole.per_epoch == parts.per_epoch == 3
    for step in range(6):
        batch, micro = at(whole, step), list(parts.of(step))
        for name in ("clean_BCHW", "noise_BCHW", "sigma_B"):
            assert torch.equal(getattr(batch, name), torch.cat([getattr(one, name) for one in micro])), name
        told_B = torch.cat([one.conditioning.text.tokens_BLD for one in micro])
        assert torch.equal(batch.conditioning.text.tokens_BLD, told_B)


def test_windows_lie_in_the_picture_and_spread_over_its_length(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", pictures=1)
    tiny.picture(project / "dataset" / "0.png", (256, 48), 1)
    (wide,) = pictures_of(project, model, "dataset.crops=4").train
    spare = wide.resized[0] - wide.bucket[0]
    found = windows(wide, seed=1)
    assert spare > 8 and len(found) == 4
    for number, window in enumerate(found):
        assert window is not None and window[1] == 0
        assert number / 4 * spare - 1 <= window[0] <= (number + 1) / 4 * (spare + 1)
    assert windows(wide, seed=1) == found != windows(wide, seed=2)
    (plain,) = pictures_of(project, model).train
    assert windows(plain, seed=1) == (None,)


def test_crops_are_latents_of_their_windows_and_say_where_they_were_cut(
    make_project: MakeProject, model: Model
) -> None:
    project = make_project("dataset.hold_out=0", pictures=1)
    tiny.picture(project / "dataset" / "0.png", (256, 48), 1)
    batches, cached = encoded(project, model, "dataset.crops=3", "dataset.flip=true")
    (sample,) = cached.train
    assert len(sample.views) == 6
    one = sample.prepared
    starts = windows(one, seed=1)
    with Image.open(one.picture.path) as image, torch.no_grad():
        scaled = image.convert("RGB").resize(one.resized, Image.Resampling.LANCZOS)
        for number, window in enumerate(starts):
            assert window is not None
            straight, mirrored = sample.views[2 * number : 2 * number + 2]
            assert straight.geometry.crop_top_left == (0, window[0])
            assert mirrored.geometry.crop_top_left == (0, one.resized[0] - window[0] - one.bucket[0])
            cut = scaled.crop((window[0], 0, window[0] + one.bucket[0], one.bucket[1]))
            pixels = torch.tensor(list(cut.tobytes()), dtype=torch.float32).view(*reversed(one.bucket), 3)
            latents = model.family.encode_images(model, (pixels.permute(2, 0, 1) / 127.5 - 1)[None])[0]
            assert float((latents - straight.latents_CHW).abs().max()) < 0.05
    seen = Counter()
    for step in range(120):
        clean = at(batches, step).clean_BCHW[0]
        seen[next(place for place, view in enumerate(sample.views) if view.latents_CHW.equal(clean))] += 1
    assert min(seen[place] for place in range(6)) > 5


def test_every_wording_is_told_and_nothing_else(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", "dataset.caption_dropout=0", pictures=1)
    (project / "dataset" / "0.txt").write_text("ink, boat, sea\nsun, sky", encoding="utf-8")
    batches, cached = encoded(project, model, "dataset.shuffle=true", "dataset.variants=4", "dataset.keep_tokens=1")
    (sample,) = cached.train
    assert [len(one) for one in sample.wordings] == [4, 1]
    assert json_wordings(sample.prepared) == [list(one) for one in sample.prepared.wordings]
    heard = Counter()
    for step in range(80):
        tokens = at(batches, step).conditioning.text.tokens_BLD[0]
        known = {
            told: text.tokens_BLD[0]
            for spoken, texts in zip(sample.prepared.wordings, sample.wordings, strict=True)
            for told, text in zip(spoken, texts, strict=True)
        }
        heard[next(told for told, text in known.items() if text.equal(tokens))] += 1
    assert set(heard) == {"ink, boat, sea", "ink, sea, boat", "sun, sky"}
    assert 25 < heard["sun, sky"] < 55


def json_wordings(one: object) -> object:
    import json

    return json.loads(lines([one])[0])["wordings"]  # type: ignore[list-item]


def test_captions_come_in_turn_or_always_the_first(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", "dataset.caption_dropout=0", pictures=1)
    (project / "dataset" / "0.txt").write_text("a boat\na ship\na sail", encoding="utf-8")
    for told, expected in (("in_turn", [0, 1, 2, 0, 1, 2]), ("first", [0] * 6)):
        batches, cached = encoded(project, model, f"dataset.captions={told}")
        texts = [text.tokens_BLD[0] for text in cached.train[0].texts]
        heard = [at(batches, step).conditioning.text.tokens_BLD[0] for step in range(6)]
        assert [next(n for n, text in enumerate(texts) if text.equal(one)) for one in heard] == expected


def test_every_third_epoch_goes_without_captions(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", "dataset.caption_dropout=0", "dataset.caption_dropout_every=3")
    batches, cached = encoded(project, model)
    empty = cached.empty.tokens_BLD[0]
    for step in range(6 * batches.per_epoch):
        epoch = step // batches.per_epoch + 1
        tokens = at(batches, step).conditioning.text.tokens_BLD
        assert all(torch.equal(one, empty) for one in tokens) == (epoch % 3 == 0)


def test_wildcards_of_the_project_are_part_of_what_is_trained(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.wildcards=true")
    (project / "dataset" / "0.txt").write_text("a __colour__ boat", encoding="utf-8")
    with pytest.raises(DatasetError, match="__colour__"):
        pictures_of(project, model)
    (project / "wildcards").mkdir()
    (project / "wildcards" / "colour.txt").write_text("red\nblue", encoding="utf-8")
    first = pictures_of(project, model)
    spoken = next(one for one in first.prepared if one.wordings).wordings[0]
    assert set(spoken) == {"a red boat", "a blue boat"}
    (project / "wildcards" / "colour.txt").write_text("red\ngreen", encoding="utf-8")
    assert pictures_of(project, model).fingerprint != first.fingerprint


def test_epochs_decide_how_long_a_run_is_and_are_the_same_run_again(make_project: MakeProject) -> None:
    project = make_project(
        "train.epochs=2", "train.batch=2", "train.accumulation=2", "dataset.shuffle=true", "dataset.flip=true"
    )
    events = list(api.train(project))
    steps = max(event.done for event in events if getattr(event, "stage", "") == "training")
    assert steps == api.plan(project).steps == 2 * api.plan(project).steps_per_epoch
    assert "finished" in next(event.text for event in api.train(project) if "--new" in getattr(event, "text", ""))


def test_the_file_tells_what_it_was_trained_with_in_kohyas_names(make_project: MakeProject) -> None:
    from velatura import tensorfile

    project = make_project(
        "train.steps=1",
        "train.accumulation=2",
        "objective.noise_offset=0.05",
        "objective.multires_iterations=4",
        "objective.loss=huber",
        "objective.min_timestep=100",
        "dataset.shuffle=true",
        "dataset.keep_tokens=1",
        "dataset.repeats=2",
    )
    for number in range(2):
        tiny.picture(project / "dataset" / "reg" / f"{number}.png", (64, 64), 900 + number)
    list(api.train(project))
    (path,) = project.glob("runs/*/checkpoints/step-000001/adapter.safetensors")
    told = tensorfile.read_header(path).metadata
    expected = {
        "gradient_accumulation_steps": "2",
        "total_batch_size": "4",
        "noise_offset": "0.05",
        "multires_noise_iterations": "4",
        "loss_type": "huber",
        "min_timestep": "100",
        "shuffle_caption": "True",
        "keep_tokens": "1",
        "num_train_images": "10",
        "num_reg_images": "10",
        "prior_loss_weight": "1.0",
    }
    assert {name: told[f"ss_{name}"] for name in expected} == expected
    assert "ss_debiased_estimation" not in told
