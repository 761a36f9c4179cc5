"""Masks weigh the parts of a picture in the loss, and lie where its pixels lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import at
from velatura.api.inputs import read_pictures
from velatura.dataset.buckets import Size
from velatura.dataset.prepared import Prepared, load_mask
from velatura.dataset.scan import Picture
from velatura.events import Note
from velatura.family import Model
from velatura.recipe import load
from velatura.training.data import Batches, Cached, stack_masks
from velatura.training.encoding import encode, latent_mask
from velatura.training.losses import errors
from velatura.training.validation import cells

MakeProject = Callable[..., Path]


def grey(path: Path, values: list[list[int]], size: Size | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, dtype=np.uint8))
    (image.resize(size, Image.Resampling.NEAREST) if size else image).save(path)
    return path


def one(path: Path, mask: Path | None, size: Size, bucket: Size, resized: Size) -> Prepared:
    return Prepared(Picture("a.png", path, "", *size, None, mask), bucket, resized, ("",), False)


def encoded(project: Path, model: Model, told: str = "masks") -> tuple[Cached, list[str]]:
    pictures = read_pictures(load(project), project, model)
    *events, cached = encode(model, pictures.prepared, masked=told)
    assert isinstance(cached, Cached)
    return cached, [event.text for event in events if isinstance(event, Note)]


def test_a_latent_weighs_what_the_mask_is_on_average_over_its_pixels(tmp_path: Path) -> None:
    values = np.zeros((16, 24), dtype=int)
    values[:8, :8] = 255
    values[:8, 8:12] = 255  # half of the second latent
    values[8:, 16:20] = 102
    mask = grey(tmp_path / "masks" / "a.png", values.tolist())
    prepared = one(tmp_path / "a.png", mask, (24, 16), (24, 16), (24, 16))

    found = latent_mask(prepared, "masks", torch.zeros(4, 2, 3))

    assert found is not None
    assert found.numpy() == pytest.approx(np.array([[1, 0.5, 0], [0, 0, 0.2]]), abs=1e-6)


def test_it_is_cut_as_the_picture_is(tmp_path: Path) -> None:
    # twice as wide as its bucket: of 64 x 32, scaled to 32 x 16, the middle 16 x 16 stays
    columns = [[0] * 16 + [255] * 16 + [0] * 16 + [255] * 16] * 32
    mask = grey(tmp_path / "masks" / "a.png", columns)

    cut = load_mask(one(tmp_path / "a.png", mask, (64, 32), (16, 16), (32, 16)), "masks")

    assert cut is not None and cut.size == (16, 16)
    assert np.asarray(cut)[:, 1:7].min() > 230 and np.asarray(cut)[:, 9:15].max() < 25


def test_where_there_is_no_mask_transparency_is_one_if_asked(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (16, 16), (200, 0, 0, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 8, 16))
    clear.save(tmp_path / "a.png")
    mask = grey(tmp_path / "masks" / "a.png", [[255] * 8 + [0] * 8] * 16)

    def left(told: str, mask: Path | None) -> list[float] | None:
        found = latent_mask(one(tmp_path / "a.png", mask, (16, 16), (16, 16), (16, 16)), told, torch.zeros(4, 1, 2))
        return None if found is None else found[0].tolist()

    assert left("alpha", None) == [0, 1]
    assert left("alpha", mask) == [1, 0], "a mask comes first"
    assert left("masks", None) is None
    assert left("off", mask) is None


@torch.no_grad()
def test_the_error_is_weighed_latent_by_latent_and_its_mean_is_over_all(
    make_project: MakeProject, model: Model
) -> None:
    project = make_project("dataset.hold_out=0", pictures=2)
    cached, _ = encoded(project, model)
    batch = at(Batches(model, cached, load(project)), 0)
    shape = (len(batch.clean_BCHW), 1, *batch.clean_BCHW.shape[-2:])
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    objective = model.objective
    noisy = objective.add_noise(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B)
    predicted = model.family.predict(model, noisy, batch.sigma_B, batch.conditioning)
    square = (predicted - objective.target(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B)).square()

    found = errors(model, replace(batch, mask_B1HW=drawn))

    assert found.tolist() == pytest.approx((square * drawn).mean(dim=(1, 2, 3)).tolist(), rel=1e-4)
    assert float((errors(model, batch) - found).abs().min()) > 1e-2
    halved = errors(model, replace(batch, mask_B1HW=torch.full_like(drawn, 0.5)))
    assert halved.tolist() == pytest.approx((errors(model, batch) / 2).tolist(), rel=1e-6), "not made up for"


def test_what_is_hidden_teaches_nothing(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", pictures=1)
    batch = at(Batches(model, encoded(project, model)[0], load(project)), 0)
    mask = torch.zeros(1, 1, *batch.clean_BCHW.shape[-2:])
    mask[..., :4] = 1
    predicted: list[torch.Tensor] = []

    def keep(*given: tuple[torch.Tensor, ...]) -> None:
        predicted.append(given[-1][0].requires_grad_(True))

    handle = model.parts["denoiser"].register_forward_hook(keep)
    try:
        value = errors(model, replace(batch, mask_B1HW=mask)).sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(value, predicted[0])

    assert gradient[..., 4:].abs().max() == 0
    assert gradient[..., :4].abs().max() > 0


def test_masks_follow_their_pictures_and_are_mirrored_with_them(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", "dataset.flip=true", pictures=3)
    grey(project / "dataset" / "masks" / "0.png", [[255, 0]], (64, 64))
    cached, _ = encoded(project, model)
    batches = Batches(model, cached, load(project))
    masked = next(index for index, sample in enumerate(cached.train) if sample.mask_HW is not None)
    assert sum(sample.mask_HW is not None for sample in cached.train) == 1
    seen = set()
    for step in range(20):
        batch = at(batches, step)
        for place, index in enumerate(batches.pictures(step)[0]):
            if index != masked:
                assert batch.mask_B1HW is None or bool((batch.mask_B1HW[place] == 1).all())
                continue
            assert batch.mask_B1HW is not None
            left = float(batch.mask_B1HW[place, 0, :, :2].mean()) > 0.5
            straight = batch.clean_BCHW[place].equal(cached.train[index].latents_CHW)
            assert left == straight
            seen.add(left)
    assert seen == {True, False}


def test_a_batch_without_masks_has_none() -> None:
    like = torch.zeros(4, 2, 2)
    assert stack_masks([None, None], like) is None
    some = stack_masks([None, torch.zeros(2, 2)], like)
    assert some is not None and some.mean(dim=(1, 2, 3)).tolist() == [1, 0]


def test_what_is_held_out_is_measured_through_its_mask(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=7)
    cached, _ = encoded(project, model, "off")
    sample = cached.held_out[0]
    whole = cells(model, [sample], strata=2)
    quarter = torch.full(sample.latents_CHW.shape[-2:], 0.25)

    masked = replace(sample, views=(replace(sample.views[0], mask_HW=quarter),))
    assert cells(model, [masked], strata=2) == pytest.approx(whole / 4, rel=1e-5)


def test_masks_that_are_used_or_not_are_told(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.hold_out=0", pictures=3)
    grey(project / "dataset" / "masks" / "1.png", [[0]], (96, 48))
    recipe = load(project)
    off = recipe.model_copy(update={"objective": recipe.objective.model_copy(update={"masked_loss": "off"})})

    used, aside = (" ".join(read_pictures(one, project, model).notes) for one in (recipe, off))

    assert "parts of 1 picture count in the loss as their masks say" in used
    assert "masked_loss = off leaves aside" in aside
    assert encoded(project, model)[1] == ["1.png: its mask is black all over, so nothing is learnt from it"]


def test_another_mask_is_another_set(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=3)
    told = [read_pictures(load(project), project, model).fingerprint]
    for value in (0, 128):
        grey(project / "dataset" / "masks" / "1.png", [[value]], (96, 48))
        told.append(read_pictures(load(project), project, model).fingerprint)
    assert len(set(told)) == 3
