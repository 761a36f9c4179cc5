"""Inpainting bases of every family that has them, against diffusers' pipelines: latents in fp32 on one thread."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import parity, tiny
from tests.paintings import clouds
from tests.parity.refining import ROWS
from velatura.api import inputs
from velatura.errors import RecipeError
from velatura.family import Model, load_base
from velatura.generation.generate import generate
from velatura.generation.inpaint import begin_with, mask_of, patch
from velatura.generation.parts import Inpaint
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import Start
from velatura.recipe import Recipe

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TOLERANCE = parity.within(ROWS, ROWS[2].name)
WIDTH, HEIGHT, STEPS, SEED = 96, 64, 10, 9
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat at night"

PIPELINES = {
    "sd15": ("stable_diffusion.pipeline_stable_diffusion_inpaint", "StableDiffusionInpaintPipeline"),
    "sdxl": ("stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint", "StableDiffusionXLInpaintPipeline"),
    "flux1": ("flux.pipeline_flux_fill", "FluxFillPipeline"),
}
MORE: dict[str, dict[str, Any]] = {
    "sd15": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
    "sdxl": {"add_watermarker": False},
    "flux1": {},
}


@pytest.fixture(scope="module", params=list(PIPELINES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.inpainting(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_base(folder)


@pytest.fixture
def ours(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Latents as they are before they become a picture."""
    seen: list[Tensor] = []
    decode = type(model.family).decode_latents

    def watched(self: Any, model: Model, latents_BCHW: Tensor) -> Tensor:
        seen.append(latents_BCHW)
        return decode(self, model, latents_BCHW)

    def run(start: Start | None = None) -> Tensor:
        flow = model.objective.kind == "flow"
        sampling = Sampling(WIDTH, HEIGHT, STEPS, 1.0 if flow else 6.0, "Euler", "Uniform", 30.0)
        list(generate(model, [Job(PROMPT, SEED, "" if flow else NEGATIVE)], sampling, start=start))
        return seen[-1]

    monkeypatch.setattr(type(model.family), "decode_latents", watched)
    return run


@pytest.fixture
def theirs(model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """diffusers' own pipeline, which takes the autoencoder's mean in the place of a draw."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
    from transformers.models.t5.tokenization_t5 import T5Tokenizer

    name, flow = model.family.name, model.objective.kind == "flow"
    scheduler = getattr(
        importlib.import_module("diffusers.schedulers"), f"{'FlowMatch' if flow else ''}EulerDiscreteScheduler"
    ).from_pretrained(folder / "scheduler", **({} if flow else {"timestep_spacing": "linspace"}))
    parts: dict[str, Any] = {"scheduler": scheduler}
    for part, network in model.parts.items():
        parts[{"denoiser": "transformer" if flow else "unet"}.get(part, part)] = network
    for part in ("tokenizer", "tokenizer_2"):
        kind = T5Tokenizer if name == "flux1" and part == "tokenizer_2" else CLIPTokenizer
        if (folder / part).is_dir():
            parts[part] = kind.from_pretrained(folder / part)
    place, kind = PIPELINES[name]
    module = importlib.import_module(f"diffusers.pipelines.{place}")
    pipeline = getattr(module, kind)(**parts, **MORE[name])
    pipeline.set_progress_bar_config(disable=True)
    if flow:
        monkeypatch.setattr(module, "retrieve_latents", lambda told, *_, **__: told.latent_dist.mode())
    else:
        encode = model.family.encode_images
        monkeypatch.setattr(pipeline, "_encode_vae_image", lambda image, *_, **__: encode(model, image))

    @torch.no_grad()
    def run(image: Image.Image, mask: Image.Image, strength: float) -> Tensor:
        told = {"guidance_scale": 30.0} if flow else {"guidance_scale": 6.0, "negative_prompt": NEGATIVE}
        latents: Tensor = pipeline(
            PROMPT,
            image=image,
            mask_image=mask,
            strength=strength,
            width=WIDTH,
            height=HEIGHT,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(SEED),
            output_type="latent",
            **told,
        ).images
        return pipeline._unpack_latents(latents, HEIGHT, WIDTH, pipeline.vae_scale_factor) if flow else latents

    return run


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def test_an_inpainting_base_paints_what_diffusers_paints(
    model: Model, ours: Callable[..., Tensor], theirs: Callable[..., Tensor]
) -> None:
    """It is told the mask and what the mask leaves of the picture; nothing else holds the rest in place there."""
    image, told = clouds(3, (WIDTH, HEIGHT)), Inpaint(boxes=((16, 16, 64, 48),), blur=0)
    mask = mask_of(told, image.size)
    reference = theirs(image, mask, 0.7)
    start = begin_with(model, patch(image, mask, told, image.size), denoising=0.6)
    free = replace(start, mask_HW=None)
    assert distance(ours(free), reference) < TOLERANCE
    assert distance(ours(replace(free, beside_BCHW=None)), reference) > 100 * TOLERANCE
    other = begin_with(model, patch(image, mask, replace(told, invert=True), image.size), denoising=0.6)
    assert distance(ours(replace(other, mask_HW=None)), reference) > 100 * TOLERANCE
    held = ours(start)
    kept = start.mask_HW == 0
    assert torch.equal(held[..., kept], start.latents_BCHW[..., kept])


def test_without_a_picture_an_inpainting_base_is_told_that_all_is_masked(
    model: Model, ours: Callable[..., Tensor]
) -> None:
    """As A1111 tells it; diffusers' pipelines ask for a picture."""
    factor = model.latent_factor
    grey, whole = torch.zeros(1, 3, HEIGHT, WIDTH), torch.ones(1, HEIGHT, WIDTH)
    start = Start(torch.zeros(1, model.latent_channels, HEIGHT // factor, WIDTH // factor), 1.0)
    told = replace(start, beside_BCHW=model.family.masked(model, grey, whole))
    assert told.beside_BCHW is not None
    assert told.beside_BCHW.shape[1] == model.extra_channels
    assert torch.equal(ours(start), ours(told))
    ours(None)


def test_an_inpainting_base_is_not_trained(model: Model) -> None:
    with pytest.raises(RecipeError, match="inpainting base"):
        inputs.read_objective(model, Recipe())
