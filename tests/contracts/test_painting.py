"""What every family paints, from noise and from a picture, against diffusers' pipelines: same noise, same noise levels.

Latents are compared in fp32 on one thread. The tolerance is 1e-4 of max(1, root mean square).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny
from tests.paintings import clouds
from velatura import randomness
from velatura.bases import FAMILIES
from velatura.family import Model, load_base
from velatura.generation import generate as module
from velatura.generation.generate import generate
from velatura.generation.hires import Hires
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import RESIZE_MODES, Start, encoded_picture, latent_mask

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TOLERANCE = 1e-4
WIDTH, HEIGHT = 96, 64
STEPS = 10
"""With so many A1111's uniform schedule meets rows of the table alone, where both programs agree on sigma."""
SEED = 9
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat at night"

PIPELINES = {
    "sd15": ("stable_diffusion.pipeline_stable_diffusion", "StableDiffusion", 6.0),
    "sdxl": ("stable_diffusion_xl.pipeline_stable_diffusion_xl", "StableDiffusionXL", 6.0),
    "flux1": ("flux.pipeline_flux", "Flux", 1.0),
    "z_image": ("z_image.pipeline_z_image", "ZImage", 4.0),
}
"""Family -> diffusers' module, the beginning of its class names, and our cfg scale."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.set_num_threads(1)
    folder: Path = tiny.BASES[request.param](tmp_path_factory.mktemp(request.param))
    loaded = load_base(folder)
    loaded.notes = (*loaded.notes, str(folder))
    return loaded


@pytest.fixture(scope="module")
def pipelines(model: Model) -> dict[str, Any]:
    """diffusers' own, from noise and from a picture, of the model's networks."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.models.t5.tokenization_t5 import T5Tokenizer

    folder, name = Path(model.notes[-1]), model.family.name
    schedulers = importlib.import_module("diffusers.schedulers")
    flow = model.objective.kind == "flow"
    scheduler = getattr(schedulers, f"{'FlowMatch' if flow else ''}EulerDiscreteScheduler").from_pretrained(
        folder / "scheduler", **({} if flow else {"timestep_spacing": "linspace"})
    )
    parts: dict[str, Any] = {"scheduler": scheduler}
    for part, network in model.parts.items():
        parts[{"denoiser": "transformer" if flow else "unet"}.get(part, part)] = network
    readers = {"z_image": {"tokenizer": Qwen2Tokenizer}, "flux1": {"tokenizer_2": T5Tokenizer}}.get(name, {})
    for part in ("tokenizer", "tokenizer_2"):
        if (folder / part).is_dir():
            parts[part] = readers.get(part, CLIPTokenizer).from_pretrained(folder / part)
    more = {
        "sd15": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
        "sdxl": {"add_watermarker": False},
    }.get(name, {})
    module, beginning, _ = PIPELINES[name]
    made = {}
    for task, ending, called in (("text", "", ""), ("image", "_img2img", "Img2Img"), ("part", "_inpaint", "Inpaint")):
        kind = f"{beginning}{called}Pipeline"
        made[task] = getattr(importlib.import_module(f"diffusers.pipelines.{module}{ending}"), kind)(**parts, **more)
        made[task].set_progress_bar_config(disable=True)
    # by so many channels its pipelines know latents, but for Z-Image's, which would resize them
    for task in ("image", "part"):
        made[task].image_processor.register_to_config(vae_latent_channels=model.latent_channels)
    return made


@pytest.fixture
def ours(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Latents as they are before they become a picture."""
    seen: list[Tensor] = []
    decode = type(model.family).decode_latents

    def watched(self: Any, model: Model, latents_BCHW: Tensor) -> Tensor:
        seen.append(latents_BCHW)
        return decode(self, model, latents_BCHW)

    def run(start: Start | None = None, hires: Hires | None = None, **told: Any) -> Tensor:
        seen.clear()
        sampling = Sampling(WIDTH, HEIGHT, STEPS, PIPELINES[model.family.name][2], "Euler", "Uniform")
        negative = "" if model.guidance == "distilled" else NEGATIVE
        list(generate(model, [Job(PROMPT, SEED, negative)], sampling, start=start, hires=hires, **told))
        return seen[-1]

    monkeypatch.setattr(type(model.family), "decode_latents", watched)
    return run


@torch.no_grad()
def theirs(model: Model, pipeline: Any, **told: Any) -> Tensor:
    scale = PIPELINES[model.family.name][2]
    given = {
        "flux1": {"guidance_scale": 3.5, "max_sequence_length": 512},
        "z_image": {"negative_prompt": NEGATIVE, "guidance_scale": scale - 1},
    }.get(model.family.name, {"negative_prompt": NEGATIVE, "guidance_scale": scale})
    if "image" not in told or model.objective.kind == "flow":
        given |= {"width": WIDTH, "height": HEIGHT}
    latents: Tensor = pipeline(
        PROMPT,
        num_inference_steps=STEPS,
        output_type="latent",
        **{"generator": torch.Generator().manual_seed(SEED), **given, **told},
    ).images
    if latents.dim() == 3:
        latents = pipeline._unpack_latents(latents, HEIGHT, WIDTH, pipeline.vae_scale_factor)
    return latents


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


@pytest.fixture
def latents_BCHW(model: Model) -> Tensor:
    factor = model.latent_factor
    return randomness.normal((1, model.latent_channels, HEIGHT // factor, WIDTH // factor), 4, "a picture")


def test_from_noise_it_paints_what_diffusers_paints(
    model: Model, pipelines: dict[str, Any], ours: Callable[..., Tensor]
) -> None:
    """The noise of the seed included."""
    reference = theirs(model, pipelines["text"])
    assert distance(ours(), reference) < TOLERANCE
    other = theirs(model, pipelines["text"], generator=torch.Generator().manual_seed(SEED + 1))
    assert distance(other, reference) > 100 * TOLERANCE


@pytest.mark.parametrize(("denoising", "strength"), [(0.6, 0.7), (1.0, 1.0)])
def test_from_a_picture_it_paints_what_diffusers_paints(
    model: Model, pipelines: dict[str, Any], ours: Callable[..., Tensor], latents_BCHW: Tensor,
    denoising: float, strength: float,
) -> None:  # fmt: skip
    """Where A1111 takes a share of the steps and one more, diffusers takes the share."""
    reference = theirs(model, pipelines["image"], image=latents_BCHW, strength=strength)
    assert distance(ours(Start(latents_BCHW, denoising)), reference) < TOLERANCE
    assert distance(ours(Start(latents_BCHW, 0.3)), reference) > 100 * TOLERANCE
    assert distance(ours(Start(latents_BCHW.flip(-1), 0.6)), reference) > 100 * TOLERANCE


@pytest.mark.parametrize(("denoising", "strength"), [(0.6, 0.7)])
def test_a_part_of_a_picture_is_painted_as_diffusers_paints_it(
    model: Model, pipelines: dict[str, Any], ours: Callable[..., Tensor], latents_BCHW: Tensor,
    denoising: float, strength: float, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a hard mask; what it keeps is the picture's own, to the bit."""
    mask = Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (16, 16, 64, 48))
    factor = model.latent_factor
    # which takes no latents here: it is given a picture, and these as what the autoencoder makes of it
    if hasattr(pipelines["part"], "_encode_vae_image"):
        monkeypatch.setattr(pipelines["part"], "_encode_vae_image", lambda *_, **__: latents_BCHW)
    else:
        stored = latents_BCHW / model.latent_scale + model.latent_shift
        module = importlib.import_module(type(pipelines["part"]).__module__)
        monkeypatch.setattr(module, "retrieve_latents", lambda *_, **__: stored)
    told = {"image": clouds(3, (WIDTH, HEIGHT)), "width": WIDTH, "height": HEIGHT}
    reference = theirs(model, pipelines["part"], **told, mask_image=mask, strength=strength)
    latent = latent_mask(mask, HEIGHT // factor, WIDTH // factor)
    found = ours(Start(latents_BCHW, denoising, mask_HW=latent))
    assert distance(found, reference) < TOLERANCE
    assert distance(ours(Start(latents_BCHW, denoising)), reference) > 100 * TOLERANCE
    assert distance(ours(Start(latents_BCHW, denoising, mask_HW=1 - latent)), reference) > 100 * TOLERANCE
    assert torch.equal(found[..., latent == 0], latents_BCHW[..., latent == 0])
    contents = [ours(Start(latents_BCHW, denoising, mask_HW=latent, content=what)) for what in ("noise", "nothing")]
    assert all(distance(one, found) > 100 * TOLERANCE for one in contents)
    assert distance(*contents) > 100 * TOLERANCE


def test_a_picture_is_encoded_as_diffusers_does(model: Model, pipelines: dict[str, Any]) -> None:
    """Its preprocessing included; the mean is taken where diffusers draws."""
    image, pipeline = clouds(3, (130, 77)), pipelines["image"]
    with torch.no_grad():
        posterior = pipeline.vae.encode(pipeline.image_processor.preprocess(image, HEIGHT, WIDTH)).latent_dist
    expected = (posterior.mean - model.latent_shift) * model.latent_scale
    found = {mode: encoded_picture(model, image, WIDTH, HEIGHT, mode=mode) for mode in RESIZE_MODES}
    assert distance(found["stretch"], expected) < TOLERANCE
    assert all(latents.shape == expected.shape for latents in found.values())
    assert all(distance(found[mode], expected) > 100 * TOLERANCE for mode in RESIZE_MODES if mode != "stretch")


def test_a_second_pass_is_painting_from_the_first_one_s_latents(
    model: Model, ours: Callable[..., Tensor], latents_BCHW: Tensor
) -> None:
    """Brought larger, noised by the same seed at the new size."""
    first = ours()
    both = ours(hires=Hires(2.0, steps=5, denoising=0.5, upscaler="Latent (nearest-exact)"))
    larger = torch.nn.functional.interpolate(first, scale_factor=2, mode="nearest-exact")
    sampling = Sampling(2 * WIDTH, 2 * HEIGHT, 5, PIPELINES[model.family.name][2], "Euler", "Uniform")
    negative = "" if model.guidance == "distilled" else NEGATIVE
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decode", lambda _, latents: seen.append(latents) or [])
        with pytest.raises(ValueError, match="zip"):
            list(generate(model, [Job(PROMPT, SEED, negative)], sampling, start=Start(larger, 0.5, exact_steps=True)))
    assert both.shape[-2:] == (2 * HEIGHT // model.latent_factor, 2 * WIDTH // model.latent_factor)
    assert torch.equal(both, seen[-1])
    lanczos = ours(hires=Hires(2.0, steps=5, denoising=0.5, upscaler="Lanczos"))
    assert lanczos.shape == both.shape
    assert distance(lanczos, both) > 100 * TOLERANCE
