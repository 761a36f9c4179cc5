"""Stable Diffusion 1.x against diffusers: the same folder, noise and noise levels must give the same picture.

Pictures are compared as floats before they are rounded to 8 bits, in fp32 on one thread. The
tolerance is 1e-4 of max(1, root mean square).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from velatura import randomness, tensorfile
from velatura.adapters import formats, writing
from velatura.adapters.layers import find, shapes
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile
from velatura.diffusion import samplers, schedules
from velatura.diffusion.guidance import classifier_free
from velatura.errors import ModelError
from velatura.families.sd15.model import FAMILY
from velatura.family import Conditioning, Model, TextConditioning, load_base, stack_prompts
from velatura.recipe import ObjectiveSettings
from velatura.text.weighted import WeightedText, plain
from velatura.training.data import Batch
from velatura.training.losses import loss

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TOLERANCE = 1e-4
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat at night"
CFG = 6.0
WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Any:
    """diffusers' own, of the same folder."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    made = StableDiffusionPipeline(
        **_components(base), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


def _components(base: Path) -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    return {
        "unet": UNet2DConditionModel.from_pretrained(base / "unet").eval(),
        "vae": AutoencoderKL.from_pretrained(base / "vae").eval(),
        "text_encoder": CLIPTextModel.from_pretrained(base / "text_encoder").eval(),
        "tokenizer": CLIPTokenizer.from_pretrained(base / "tokenizer"),
        "scheduler": EulerDiscreteScheduler.from_pretrained(base / "scheduler"),
    }


@pytest.fixture
def noise_BCHW() -> Tensor:
    return randomness.normal((1, 4, HEIGHT // 8, WIDTH // 8), 9, "noise")


def ours(
    model: Model, noise_BCHW: Tensor, sigmas: tuple[float, ...], sampler: samplers.Sample, *,
    prompt: str = PROMPT, negative: str = NEGATIVE, cfg: float = CFG,
) -> Tensor:  # fmt: skip
    """Latents from the family's own predict, our sampler and our guidance."""
    family = model.family
    empty = family.encode_prompts(model, [plain("")])
    both = [family.encode_prompts(model, [plain(text)]) for text in (prompt, negative)]
    conditioning = Conditioning(stack_prompts(both, empty))

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        sigma_B = torch.full((2,), sigma, dtype=torch.float64)
        positive, negative = family.predict(model, torch.cat([x, x]), sigma_B, conditioning).split(1)
        return model.objective.denoised(x, classifier_free(positive, negative, cfg), sigma_B[:1])

    *_, last = sampler(denoise, noise_BCHW * sigmas[0], sigmas)
    return last.x


def theirs(pipeline: Any, noise_BCHW: Tensor, steps: int, **told: Any) -> Tensor:
    """Latents from diffusers' pipeline."""
    given = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": CFG, **told}
    found: Tensor = pipeline(
        **given, latents=noise_BCHW, num_inference_steps=steps, height=HEIGHT, width=WIDTH, output_type="latent"
    ).images
    return found


def picture(pipeline: Any, latents_BCHW: Tensor) -> Tensor:
    """The autoencoder called by hand; the pipeline itself knows no shift."""
    vae = pipeline.vae
    with torch.no_grad():
        decoded: Tensor = vae.decode(latents_BCHW / vae.config.scaling_factor + vae.config.shift_factor).sample
    return decoded


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


@torch.no_grad()
def test_a_picture_is_the_one_that_diffusers_pipeline_paints_with_euler(
    model: Model, pipeline: Any, noise_BCHW: Tensor
) -> None:
    # With ten steps A1111's uniform schedule meets rows of the table alone, where both programs agree on sigma.
    sigmas = schedules.uniform(model.objective, 10)
    mine = ours(model, noise_BCHW, sigmas, samplers.sample_euler)
    reference = theirs(pipeline, noise_BCHW, 10)
    assert distance(mine, reference) < TOLERANCE
    assert distance(FAMILY.decode_latents(model, mine), picture(pipeline, reference)) < TOLERANCE


@torch.no_grad()
def test_each_thing_told_to_the_pipeline_matters_by_a_hundred_tolerances(pipeline: Any, noise_BCHW: Tensor) -> None:
    reference = theirs(pipeline, noise_BCHW, 10)
    for change in ({"prompt": "a house"}, {"negative_prompt": ""}, {"guidance_scale": 1.0}):
        assert distance(theirs(pipeline, noise_BCHW, 10, **change), reference) > 100 * TOLERANCE, change


@torch.no_grad()
def test_a_picture_is_the_one_that_diffusers_paints_on_karras_noise_levels(
    model: Model, pipeline: Any, noise_BCHW: Tensor
) -> None:
    before = pipeline.scheduler
    pipeline.scheduler = type(before).from_config(before.config, use_karras_sigmas=True)
    reference = theirs(pipeline, noise_BCHW, 7)
    pipeline.scheduler = before
    mine = ours(model, noise_BCHW, schedules.karras(model.objective, 7), samplers.sample_euler)
    assert distance(mine, reference) < TOLERANCE
    assert distance(theirs(pipeline, noise_BCHW, 7), reference) > 100 * TOLERANCE


@torch.no_grad()
def test_a_picture_is_the_one_that_diffusers_paints_with_dpm_solver(
    model: Model, pipeline: Any, noise_BCHW: Tensor
) -> None:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    class Unrounded(DPMSolverMultistepScheduler):
        """With the timesteps that the noise levels stand for; diffusers rounds them, A1111 does not."""

        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            super().set_timesteps(*args, **kwargs)
            self.timesteps = model.objective.timestep(self.sigmas[:-1]).float()

    before, sigma = pipeline.scheduler, model.objective.sigma_max
    pipeline.scheduler = Unrounded.from_config(before.config, use_karras_sigmas=True, timestep_spacing="linspace")
    # diffusers' solver walks in latents of unit variance, ours in sigma space
    reference = theirs(pipeline, noise_BCHW * sigma / math.sqrt(1 + sigma**2), 8)
    visited = tuple(float(level) for level in pipeline.scheduler.sigmas)
    pipeline.scheduler = before
    assert visited == pytest.approx(schedules.karras(model.objective, 8), rel=1e-3)

    mine = ours(model, noise_BCHW, visited, samplers.sample_dpmpp_2m)
    assert distance(mine, reference) < TOLERANCE
    assert distance(ours(model, noise_BCHW, visited, samplers.sample_euler), reference) > 100 * TOLERANCE


@torch.no_grad()
def test_a_prediction_is_the_networks_called_by_hand(model: Model, pipeline: Any) -> None:
    noisy = randomness.normal((3, 4, 8, 12), 1, "noisy") * 3
    texts = [PROMPT, NEGATIVE, ""]
    ids = pipeline.tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
    hidden = pipeline.text_encoder(ids).last_hidden_state
    tokens = FAMILY.encode_prompts(model, [plain(text) for text in texts])
    assert torch.equal(tokens.tokens_BLD, hidden)
    for rows in ([0, 499, 999], [137.25, 500.5, 871.9]):
        sigma_B = torch.tensor([model.objective.sigma_at(row) for row in rows], dtype=torch.float64)
        predicted = FAMILY.predict(model, noisy, sigma_B, Conditioning(tokens))
        scaled = noisy / (sigma_B.float() ** 2 + 1).sqrt().view(-1, 1, 1, 1)
        by_hand = pipeline.unet(scaled, torch.tensor(rows), encoder_hidden_states=hidden).sample
        assert distance(predicted, by_hand) < 1e-5, rows
        off = pipeline.unet(scaled, torch.tensor(rows) * 0.98, encoder_hidden_states=hidden).sample
        assert distance(off, by_hand) > 100 * 1e-5, rows


@torch.no_grad()
def test_a_noise_level_of_the_table_meets_its_very_timestep(model: Model) -> None:
    rows = torch.arange(1000, dtype=torch.float64)
    for dtype in (torch.float64, torch.float32):
        assert torch.equal(model.objective.timestep(model.objective.sigmas.to(dtype)), rows)


@torch.no_grad()
def test_latents_are_the_posterior_s_mean_shifted_and_scaled(model: Model, pipeline: Any) -> None:
    images = randomness.normal((2, 3, HEIGHT, WIDTH), 0, "images").clamp(-1, 1)
    posterior = pipeline.vae.encode(images).latent_dist
    expected = (posterior.mean - 0.15) * 0.7
    assert distance(FAMILY.encode_images(model, images), expected) < 1e-5
    drawn = posterior.sample(torch.Generator().manual_seed(0))
    assert distance((drawn - 0.15) * 0.7, expected) > 100 * TOLERANCE
    assert distance(FAMILY.decode_latents(model, expected), picture(pipeline, expected)) < 1e-5
    assert distance(pipeline.vae.decode(expected / 0.7).sample, picture(pipeline, expected)) > 100 * TOLERANCE


@pytest.fixture
def trained(model: Model, tmp_path: Path) -> Iterator[Path]:
    """A LoRA file after a few steps of our own training, alpha unlike its rank."""
    names = select(["all"], find(model.trainable_parts), presets=model.family.targets)
    with torch.no_grad():
        text = model.family.encode_prompts(model, [plain(PROMPT), plain(NEGATIVE)])
    with inject(model.trainable_parts, [LayerSpec(name, 4, 3.0) for name in names], seed=1) as injected:
        optimizer = torch.optim.AdamW(injected.parameters(), lr=2e-2)
        for step in range(4):
            clean, noise = (randomness.normal((2, 4, 8, 12), step, kind) for kind in ("clean", "noise"))
            batch = Batch(clean, noise, torch.tensor([0.7, 5.0], dtype=torch.float64), Conditioning(text))
            loss(model, batch, ObjectiveSettings(min_snr=5.0)).backward()
            optimizer.step()
            optimizer.zero_grad()
        data = writing.to_bytes(AdapterFile(injected.weights()), keys=model.family.keys)
    path = tmp_path / "trained.safetensors"
    path.write_bytes(data)
    yield path
    merge(model.trainable_parts, model.pristine, [])


def test_a_lora_trained_here_gives_diffusers_the_picture_it_gives_us(
    base: Path, model: Model, pipeline: Any, noise_BCHW: Tensor, trained: Path
) -> None:
    sigmas = schedules.uniform(model.objective, 10)
    adapter = formats.read(trained, keys=model.family.keys, layers=shapes(model.trainable_parts))
    own = type(pipeline)(
        **_components(base), safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    own.set_progress_bar_config(disable=True)
    own.load_lora_weights(trained.parent, weight_name=trained.name, adapter_name="trained")
    with torch.no_grad():
        without = ours(model, noise_BCHW, sigmas, samplers.sample_euler)
        for strength in (1.0, 0.6):
            own.set_adapters("trained", strength)
            reference = theirs(own, noise_BCHW, 10)
            merge(model.trainable_parts, model.pristine, [Applied(adapter.layers, strength, strength)])
            mine = ours(model, noise_BCHW, sigmas, samplers.sample_euler)
            merge(model.trainable_parts, model.pristine, [])
            assert distance(mine, reference) < TOLERANCE
            assert distance(FAMILY.decode_latents(model, mine), picture(own, reference)) < TOLERANCE
            assert distance(without, reference) > 100 * TOLERANCE
        assert torch.equal(ours(model, noise_BCHW, sigmas, samplers.sample_euler), without)


# --- emphasis and long prompts ---------------------------------------------------------------


@torch.no_grad()
def test_emphasis_multiplies_and_restores_the_mean_of_the_chunk(model: Model, pipeline: Any) -> None:
    text = WeightedText((("a ", 1.0), ("red boat", 1.4), (" at night", 0.8)))
    found = FAMILY.encode_prompts(model, [text]).tokens_BLD[0]

    hidden = pipeline.text_encoder(
        pipeline.tokenizer(["a red boat at night"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    ).last_hidden_state[0]
    weights = [1.0, 1.0, 1.4, 1.4, 0.8, 0.8, *[1.0] * 71]
    weighted = hidden * torch.tensor(weights)[:, None]
    by_hand = weighted * (hidden.mean() / weighted.mean())

    assert distance(found, by_hand) < 1e-5
    assert distance(weighted, by_hand) > 100 * 1e-5
    assert float(found.mean()) == pytest.approx(float(hidden.mean()), abs=1e-6)


@torch.no_grad()
def test_emphasis_in_one_prompt_does_not_touch_its_neighbour_nor_another_chunk(model: Model) -> None:
    loud = WeightedText((("a ", 1.0), ("boat", 1.5)))
    quiet = plain("a cat")
    together = FAMILY.encode_prompts(model, [loud, quiet]).tokens_BLD
    assert distance(together[1], FAMILY.encode_prompts(model, [quiet]).tokens_BLD[0]) < 1e-5
    two = FAMILY.encode_prompts(model, [WeightedText((*loud.pieces, ("BREAK", -1.0), ("a cat", 1.0)))]).tokens_BLD[0]
    assert distance(two[77:], FAMILY.encode_prompts(model, [quiet]).tokens_BLD[0]) < 1e-5


@torch.no_grad()
def test_a_long_prompt_is_encoded_chunk_by_chunk_and_nothing_is_cut(model: Model) -> None:
    long = "red boat " * 60
    tokens: TextConditioning = FAMILY.encode_prompts(model, [plain(long)])
    assert tokens.tokens_BLD.shape == (1, 2 * 77, 24)
    assert distance(FAMILY.encode_prompts(model, [plain(long + "cat")]).tokens_BLD, tokens.tokens_BLD) > 1e-2


# --- folders as the world has them -----------------------------------------------------------


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    return shutil.copytree(base, tmp_path / "base")


def renamed(path: Path, rename: Callable[[str], str]) -> None:
    tensors, _ = tensorfile.read(path)
    path.write_bytes(tensorfile.to_bytes({rename(name): tensor for name, tensor in tensors.items()}))


def same_weights(one: Model, other: Model) -> bool:
    return all(
        torch.equal(tensor, other.parts[part].state_dict()[name])
        for part, module in one.parts.items()
        for name, tensor in module.state_dict().items()
    )


def test_a_text_encoder_is_read_with_and_without_text_model_in_its_keys(model: Model, copy: Path) -> None:
    path = copy / "text_encoder" / "model.safetensors"
    for rename in (
        lambda name: name.removeprefix("text_model."),
        lambda name: f"text_model.{name.removeprefix('text_model.')}",
    ):
        renamed(path, rename)
        loaded = load_base(copy)
        assert same_weights(loaded, model)
        assert set(loaded.pristine) == set(model.pristine)


def test_an_autoencoder_of_2022_is_read_its_attention_had_other_names(model: Model, copy: Path) -> None:
    """That of Stable Diffusion 1.5 itself is one."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(name: str) -> str:
        for new, old in names.items():
            if ".attentions." in name:
                name = name.replace(f".{new}.", f".{old}.")
        return name

    renamed(copy / "vae" / "diffusion_pytorch_model.safetensors", rename)
    assert same_weights(load_base(copy), model)


def test_half_precision_files_are_read_and_positions_that_are_counted_are_passed_over(model: Model, copy: Path) -> None:
    path = copy / "text_encoder" / "model.safetensors"
    tensors, _ = tensorfile.read(path)
    halves = {name: tensorfile.raw(tensorfile.as_float32(one).astype(np.float16)) for name, one in tensors.items()}
    halves["text_model.embeddings.position_ids"] = tensorfile.raw(np.arange(77, dtype=np.int64)[None])
    path.unlink()
    path.with_name("model.fp16.safetensors").write_bytes(tensorfile.to_bytes(halves))
    loaded = load_base(copy)
    for name, tensor in loaded.parts["text_encoder"].state_dict().items():
        assert torch.equal(tensor, model.parts["text_encoder"].state_dict()[name].half().float())


def test_v_prediction_and_its_schedule_are_read_from_the_folder(tmp_path: Path) -> None:
    base = tiny.sd15(tmp_path / "v", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    objective = load_base(base).objective
    assert objective.kind == "v"
    assert objective.sigma_max == pytest.approx(4519, rel=1e-3)


def test_bases_of_the_same_classes_that_are_something_else_are_refused(copy: Path) -> None:
    """Stable Diffusion 2 has a wider text encoder; a base that is led by a picture takes 8 channels."""
    config = copy / "unet" / "config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    tiny.write_json(config, {**told, "cross_attention_dim": 1024})
    with pytest.raises(ModelError, match="not a base model that is known"):
        load_base(copy)
    tiny.write_json(config, {**told, "in_channels": 8})
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors, _ = tensorfile.read(path)
    wide = {**tensors, "conv_in.weight": tensorfile.raw(np.ones((8, 8, 3, 3), np.float32))}
    path.write_bytes(tensorfile.to_bytes(wide))
    with pytest.raises(ModelError, match="inpainting"):
        load_base(copy)


def test_loading_says_nothing_on_the_terminal(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_base(base)
    assert capfd.readouterr() == ("", "")
