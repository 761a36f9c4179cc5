"""Stable Diffusion XL against diffusers: the same folder, noise and noise levels must give the same picture.

Pictures are compared as floats before they are rounded to 8 bits, in fp32 on one thread. The
tolerance is 1e-4 of max(1, root mean square).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny, tiny_sdxl
from velatura import api, randomness, tensorfile
from velatura.adapters import formats, writing
from velatura.adapters.layers import find, places, shapes
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile, Lora, layer_name
from velatura.diffusion import samplers, schedules
from velatura.diffusion.guidance import classifier_free
from velatura.errors import AdapterError
from velatura.families.sdxl.keys import KEYS
from velatura.families.sdxl.model import FAMILY, sizes
from velatura.family import Conditioning, Geometry, MemoryPolicy, Model, load_base, stack_prompts
from velatura.generation.generate import Painted, generate
from velatura.generation.sampling import Job, Sampling
from velatura.recipe import ObjectiveSettings
from velatura.text.weighted import WeightedText, plain
from velatura.training.data import Batch
from velatura.training.losses import loss
from velatura.weights.layouts import stable_diffusion

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

TOLERANCE = 1e-4
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat at night"
CFG = 6.0
WIDTH, HEIGHT = 96, 64
TOLD = {"original_size": (480, 740), "crops_coords_top_left": (12, 33), "target_size": (HEIGHT, WIDTH)}
STEPS = 10
"""With so many A1111's uniform schedule meets rows of the table alone, where both programs agree on sigma."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sdxl.sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    return load_base(base)


def pipeline_of(base: Path) -> Any:
    """diffusers' own, of the same folder."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from transformers.models.clip.modeling_clip import CLIPTextModel, CLIPTextModelWithProjection
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    made = StableDiffusionXLPipeline(
        unet=UNet2DConditionModel.from_pretrained(base / "unet").eval(),
        vae=AutoencoderKL.from_pretrained(base / "vae").eval(),
        text_encoder=CLIPTextModel.from_pretrained(base / "text_encoder").eval(),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(base / "text_encoder_2").eval(),
        tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(base / "tokenizer_2"),
        scheduler=EulerDiscreteScheduler.from_pretrained(base / "scheduler"),
        add_watermarker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Any:
    return pipeline_of(base)


@pytest.fixture
def noise_BCHW() -> Tensor:
    return randomness.normal((1, 4, HEIGHT // 8, WIDTH // 8), 9, "noise")


def geometry(count: int) -> Geometry:
    original, crop, target = (torch.tensor([TOLD[key]]).float().expand(count, 2) for key in TOLD)
    return Geometry(original, crop, target)


def ours(
    model: Model, noise_BCHW: Tensor, sigmas: tuple[float, ...], *,
    prompt: str = PROMPT, negative: str = NEGATIVE, cfg: float = CFG,
) -> Tensor:  # fmt: skip
    """Latents from the family's own predict, our Euler and our guidance."""
    family = model.family
    both = [family.encode_prompts(model, [plain(text)]) for text in (prompt, negative)]
    text = stack_prompts(both, family.encode_prompts(model, [plain("")]))
    conditioning = Conditioning(text, geometry(2))

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        sigma_B = torch.full((2,), sigma, dtype=torch.float64)
        positive, negative = family.predict(model, torch.cat([x, x]), sigma_B, conditioning).split(1)
        return model.objective.denoised(x, classifier_free(positive, negative, cfg), sigma_B[:1])

    *_, last = samplers.sample_euler(denoise, noise_BCHW * sigmas[0], sigmas)
    return last.x


def theirs(pipeline: Any, noise_BCHW: Tensor, **told: Any) -> Tensor:
    """Latents from diffusers' pipeline."""
    given = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": CFG, **TOLD, **told}
    found: Tensor = pipeline(
        **given, latents=noise_BCHW, num_inference_steps=STEPS, height=HEIGHT, width=WIDTH, output_type="latent"
    ).images
    return found


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def picture(pipeline: Any, latents_BCHW: Tensor) -> Tensor:
    """The autoencoder called by hand; the pipeline itself knows no shift."""
    vae = pipeline.vae
    with torch.no_grad():
        decoded: Tensor = vae.decode(latents_BCHW / vae.config.scaling_factor + vae.config.shift_factor).sample
    return decoded


@torch.no_grad()
def test_a_picture_is_the_one_that_diffusers_pipeline_paints(model: Model, pipeline: Any, noise_BCHW: Tensor) -> None:
    mine = ours(model, noise_BCHW, schedules.uniform(model.objective, STEPS))
    reference = theirs(pipeline, noise_BCHW)
    assert distance(mine, reference) < TOLERANCE
    assert distance(FAMILY.decode_latents(model, mine), picture(pipeline, reference)) < TOLERANCE
    for change in (
        {"prompt": "a house"},
        {"negative_prompt": ""},
        {"guidance_scale": 1.0},
        {"original_size": (480, 480)},
        {"crops_coords_top_left": (0, 33)},
        {"target_size": (WIDTH, HEIGHT)},
    ):
        assert distance(theirs(pipeline, noise_BCHW, **change), reference) > 100 * TOLERANCE, change


@pytest.mark.parametrize("zeros", [True, False])
def test_an_empty_negative_prompt_is_zero_where_the_base_says_so(
    base: Path, model: Model, pipeline: Any, zeros: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """diffusers takes a prompt that is not given for zeros; the sizes are the picture's own, and nothing is cropped."""
    monkeypatch.setattr(model, "empty_negative_is_zero", zeros)
    how = Sampling(WIDTH, HEIGHT, STEPS, CFG, "Euler", "Uniform")
    (painted,) = (one for one in generate(model, [Job(PROMPT, 7)], how) if isinstance(one, Painted))
    noise_BCHW = torch.randn((1, 4, HEIGHT // 8, WIDTH // 8), generator=torch.Generator().manual_seed(7))
    whole = {"original_size": (HEIGHT, WIDTH), "crops_coords_top_left": (0, 0)}
    expected = {
        given: picture(pipeline, theirs(pipeline, noise_BCHW, negative_prompt=given, **whole)) for given in (None, "")
    }
    shown = torch.from_numpy(np.array(painted.image)).permute(2, 0, 1)[None] / 127.5 - 1
    same, other = (expected[None], expected[""]) if zeros else (expected[""], expected[None])
    assert float((shown - same.clamp(-1, 1)).abs().max()) < 1.1 / 255
    assert float((shown - other.clamp(-1, 1)).abs().max()) > 10 / 255


def test_what_a_base_says_of_empty_prompts_is_read_and_published_bases_say_zero(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "base")
    assert load_base(copy).empty_negative_is_zero
    tiny.write_json(copy / "model_index.json", {**tiny_sdxl.INDEX, "force_zeros_for_empty_prompt": False})
    assert not load_base(copy).empty_negative_is_zero


# --- prompts ---------------------------------------------------------------------------------


@torch.no_grad()
def test_prompts_are_both_encoders_penultimate_layer_and_the_second_s_projection(model: Model, pipeline: Any) -> None:
    texts = [PROMPT, NEGATIVE, ""]
    hidden, pooled, second = [], None, None
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        ids = tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt").input_ids
        out = encoder(ids, output_hidden_states=True)
        hidden.append(out.hidden_states[-2])
        pooled, second = out[0], out
    found = FAMILY.encode_prompts(model, [plain(text) for text in texts])
    assert torch.equal(found.tokens_BLD, torch.cat(hidden, dim=-1))
    assert torch.equal(found.pooled_BD, pooled)
    assert found.tokens_BLD.shape == (3, 77, 24 + 40)
    assert second is not None
    assert distance(second.last_hidden_state, found.tokens_BLD[..., 24:]) > 100 * TOLERANCE


@torch.no_grad()
def test_a_long_prompt_is_two_chunks_and_pooled_is_of_the_first(model: Model) -> None:
    words = "red boat " * 30
    one = FAMILY.encode_prompts(model, [plain(words)])
    two = FAMILY.encode_prompts(model, [plain(words * 2), plain("a cat")])
    assert two.tokens_BLD.shape == (2, 2 * 77, 24 + 40)
    short, empty = (FAMILY.encode_prompts(model, [plain(text)]) for text in ("a cat", ""))
    assert distance(two.tokens_BLD[1:, :77], short.tokens_BLD) < 1e-5
    assert distance(two.tokens_BLD[1:, 77:], empty.tokens_BLD) < 1e-5
    loud = FAMILY.encode_prompts(model, [WeightedText(((words, 1.4), ("BREAK", -1.0), ("a cat", 1.0)))])
    assert torch.equal(loud.pooled_BD, one.pooled_BD)
    assert distance(loud.tokens_BLD[:, :77], one.tokens_BLD) > 100 * TOLERANCE


@torch.no_grad()
def test_emphasis_restores_the_mean_of_each_encoder_by_itself(model: Model) -> None:
    plainly = FAMILY.encode_prompts(model, [plain("a red boat")]).tokens_BLD
    loud = FAMILY.encode_prompts(model, [WeightedText((("a ", 1.0), ("red boat", 1.5)))]).tokens_BLD
    for own in (slice(None, 24), slice(24, None)):
        assert float(loud[..., own].mean()) == pytest.approx(float(plainly[..., own].mean()), abs=1e-6)
        assert distance(loud[..., own], plainly[..., own]) > 100 * TOLERANCE


@torch.no_grad()
def test_clip_skip_is_of_both_encoders_and_two_is_what_is_read_anyway(
    model: Model, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = FAMILY.encode_prompts(model, [plain(PROMPT)])
    monkeypatch.setattr(model, "clip_skip", 2)
    assert torch.equal(FAMILY.encode_prompts(model, [plain(PROMPT)]).tokens_BLD, usual.tokens_BLD)
    monkeypatch.setattr(model, "clip_skip", 3)
    skipped = FAMILY.encode_prompts(model, [plain(PROMPT)])
    reference = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False, clip_skip=1)[0]  # counted otherwise
    assert distance(skipped.tokens_BLD, reference) < 1e-5
    assert torch.equal(skipped.pooled_BD, usual.pooled_BD)
    for own in (slice(None, 24), slice(24, None)):
        assert distance(skipped.tokens_BLD[..., own], usual.tokens_BLD[..., own]) > 100 * TOLERANCE


def test_the_second_encoder_pads_with_an_exclamation_mark_that_still_is_a_word(model: Model) -> None:
    """transformers takes every "!" in a prompt for padding; OpenCLIP, which trained the encoder, does not."""
    first, second = model.tokenizers
    assert (first.pad, second.pad) == (first.end, 0)
    assert second.encode("boat!") == first.encode("boat!")
    assert 0 not in second.encode("boat!")


# --- predictions -----------------------------------------------------------------------------


@torch.no_grad()
def test_a_picture_without_a_history_is_told_as_whole(model: Model) -> None:
    noisy_BCHW = randomness.normal((2, 4, 8, 12), 1, "noisy")
    text = FAMILY.encode_prompts(model, [plain(PROMPT), plain("")])
    sigma_B = torch.tensor([0.7, 5.0], dtype=torch.float64)
    whole, nothing = torch.tensor([[64.0, 96.0]]).expand(2, 2), torch.zeros(2, 2)
    told = FAMILY.predict(model, noisy_BCHW, sigma_B, Conditioning(text, Geometry(whole, nothing, whole)))
    assert torch.equal(FAMILY.predict(model, noisy_BCHW, sigma_B, Conditioning(text)), told)
    cropped = FAMILY.predict(model, noisy_BCHW, sigma_B, Conditioning(text, Geometry(whole, nothing + 9, whole)))
    assert distance(cropped, told) > 100 * TOLERANCE


@torch.no_grad()
def test_in_half_precision_sizes_are_told_exactly(base: Path) -> None:
    half = load_base(base, policy=MemoryPolicy(dtype=torch.bfloat16))
    noisy_BCHW = randomness.normal((1, 4, 8, 12), 1, "noisy")
    text = FAMILY.encode_prompts(half, [plain(PROMPT)])
    assert text.tokens_BLD.dtype == torch.bfloat16
    predicted = {}
    for side in (1000.0, 1001.0):  # one number in bf16
        size = torch.tensor([[side, side]])
        conditioning = Conditioning(text, Geometry(size, torch.zeros(1, 2), size))
        assert sizes(half, noisy_BCHW, conditioning).tolist() == [[side, side, 0, 0, side, side]]
        predicted[side] = FAMILY.predict(half, noisy_BCHW, torch.tensor([2.0]), conditioning)
    assert predicted[1000.0].dtype == torch.float32
    assert distance(predicted[1001.0], predicted[1000.0]) > 1e-3


V_ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}


@torch.no_grad()
def test_v_prediction_with_zero_terminal_snr_is_diffusers(tmp_path: Path, noise_BCHW: Tensor) -> None:
    base = tiny_sdxl.sdxl(tmp_path / "v", timestep_spacing="trailing", **V_ZERO)
    model, pipeline = load_base(base), pipeline_of(base)
    assert model.objective.sigma_max == pytest.approx(4519, rel=1e-4)  # diffusers stops at 4096
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    sigmas = schedules.SCHEDULES[model.defaults.scheduler](model.objective, STEPS)
    assert scheduler.sigmas.tolist()[1:] == pytest.approx(sigmas[1:], rel=1e-4)

    conditioning = Conditioning(FAMILY.encode_prompts(model, [plain(PROMPT)]), geometry(1))
    added = {"text_embeds": conditioning.text.pooled_BD, "time_ids": sizes(model, noise_BCHW, conditioning)}
    clean_BCHW = randomness.normal(tuple(noise_BCHW.shape), 2, "clean")
    for place, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[place]
        noisy_BCHW = clean_BCHW + sigma * noise_BCHW
        scheduler._step_index = place
        said = pipeline.unet(
            scheduler.scale_model_input(noisy_BCHW, timestep),
            timestep,
            conditioning.text.tokens_BLD,
            added_cond_kwargs=added,
            return_dict=False,
        )[0]
        reference = scheduler.step(said, timestep, noisy_BCHW).pred_original_sample

        sigma_B = torch.tensor(sigmas[place : place + 1], dtype=torch.float64)
        noisy_BCHW = model.objective.add_noise(clean_BCHW, noise_BCHW, sigma_B)
        prediction = FAMILY.predict(model, noisy_BCHW, sigma_B, conditioning)
        assert distance(prediction, said) < (TOLERANCE if place else 5 * TOLERANCE), place
        found = model.objective.denoised(noisy_BCHW, prediction, sigma_B)
        assert distance(found, reference) < (TOLERANCE if place else 5 * TOLERANCE), place
        taken_for_noise = noisy_BCHW - sigma * prediction
        assert distance(taken_for_noise, reference) > 100 * TOLERANCE, place
    assert distance(ours(model, noise_BCHW, sigmas), theirs(pipeline, noise_BCHW)) < 10 * TOLERANCE
    other = schedules.uniform(model.objective, STEPS)
    assert distance(ours(model, noise_BCHW, other), theirs(pipeline, noise_BCHW)) > 1000 * TOLERANCE


@torch.no_grad()
def test_every_sampler_and_schedule_walks_down_from_4519(tmp_path: Path) -> None:
    """The clean latents are known exactly, so that whatever the steps are, the end must be them."""
    objective = load_base(tiny_sdxl.sdxl(tmp_path / "v", **V_ZERO)).objective
    clean, start = (randomness.normal((1, 4, 4, 4), 0, name) for name in ("clean", "start"))
    short = {"DDIM", *schedules.ALIGNED}  # these stop short of the top: A1111's own always, tables as published
    for sampler in samplers.SAMPLERS.values():
        if sampler.name in ("DPM fast", "DPM adaptive"):
            continue  # they end above 0
        for name, schedule in schedules.SCHEDULES.items():
            sigmas = schedule(objective, 12)
            if sigmas[-1]:
                continue
            if name not in short:
                assert sigmas[0] == pytest.approx(objective.sigma_max), name
            steps = sampler.run(
                lambda x, sigma, step, both=sampler.cfgpp: (clean, clean) if both else clean,
                start * sampler.start(sigmas[0]),
                sigmas,
                noise=lambda _, __: torch.zeros_like(clean),
            )
            *_, last = steps
            rounding = 1e-5 * objective.sigma_max if sampler.name in ("LMS", "PLMS") else 0.0  # these end on a slope
            assert distance(last.x, clean) < TOLERANCE + rounding, (sampler.name, name)


# --- adapters --------------------------------------------------------------------------------


def drawn(model: Model) -> dict[str, Lora]:
    """An adapter of all three networks with nothing zero in it, alpha unlike its rank."""
    known = shapes(model.trainable_parts)
    made = {}
    for name in select(["all", "text"], known, presets=model.family.targets):
        out, *rest = known[name]
        draw = randomness.generator(3, "adapter", name)
        size = 0.5 / np.sqrt(np.prod(rest))
        down = size * draw.standard_normal((3, *rest), dtype=np.float32)
        up = 0.5 * draw.standard_normal((out, 3, 1, 1) if len(rest) > 1 else (out, 3), dtype=np.float32)
        made[name] = Lora(down.astype(np.float32), up.astype(np.float32), alpha=2.0)
    return made


def test_presets_take_both_text_encoders(model: Model) -> None:
    names = select(["text"], find(model.trainable_parts), presets=FAMILY.targets)
    assert {name.partition(".")[0] for name in names} == {"text_encoder", "text_encoder_2"}
    assert len(names) == 2 * 3 * 6
    assert all(".text_model.encoder.layers." in name for name in names)


def test_layers_are_written_as_kohya_names_them() -> None:
    """Written down by hand, as its trainer has them."""
    known = {
        "denoiser.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k": (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k"
        ),
        "denoiser.down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj": (
            "lora_unet_input_blocks_8_1_transformer_blocks_9_ff_net_0_proj"
        ),
        "denoiser.mid_block.attentions.0.proj_in": "lora_unet_middle_block_1_proj_in",
        "denoiser.up_blocks.0.attentions.2.transformer_blocks.1.attn2.to_out.0": (
            "lora_unet_output_blocks_2_1_transformer_blocks_1_attn2_to_out_0"
        ),
        "denoiser.up_blocks.1.upsamplers.0.conv": "lora_unet_output_blocks_5_2_conv",
        "denoiser.down_blocks.0.resnets.1.conv2": "lora_unet_input_blocks_2_0_out_layers_3",
        "text_encoder.text_model.encoder.layers.3.mlp.fc1": "lora_te1_text_model_encoder_layers_3_mlp_fc1",
        "text_encoder_2.text_model.encoder.layers.31.self_attn.q_proj": (
            "lora_te2_text_model_encoder_layers_31_self_attn_q_proj"
        ),
    }
    assert {name: KEYS.written(name) for name in known} == known


@pytest.mark.parametrize("way", ["kohya", "diffusers' blocks", "PEFT", "ComfyUI"])
def test_every_way_of_naming_is_read(model: Model, way: str) -> None:
    layers = drawn(model)
    down, up = (".lora_A.weight", ".lora_B.weight") if way == "PEFT" else (".lora_down.weight", ".lora_up.weight")

    paths = [f"{path}.weight" for path in _paths(model)]
    original = {name.removesuffix(".weight"): place for name, place in stable_diffusion.unet(paths).items()}

    def stem(name: str) -> str:
        if way == "PEFT":
            return KEYS.diffusers(name)
        if not name.startswith("denoiser.") or way == "kohya":
            return KEYS.kohya(name)
        if way == "ComfyUI":
            return f"diffusion_model.{original[name.removeprefix('denoiser.')].key.removesuffix('.weight')}"
        return "lora_unet_" + name.removeprefix("denoiser.").replace(".", "_")

    tensors = {}
    for name, layer in layers.items():
        tensors |= {
            stem(name) + down: tensorfile.raw(layer.down),
            stem(name) + up: tensorfile.raw(layer.up),
            stem(name) + ".alpha": tensorfile.raw(np.array(layer.alpha, np.float32)),
        }
    read = formats.from_tensors(tensors, {}, keys=KEYS, layers=shapes(model.trainable_parts)).layers
    assert set(read) == set(layers)
    assert all(np.array_equal(read[name].delta(), layers[name].delta()) for name in layers)


def _paths(model: Model) -> list[str]:
    return [name.removeprefix("denoiser.") for name in find({"denoiser": model.parts["denoiser"]})]


def test_a_file_for_sd_15_is_refused_by_name(model: Model) -> None:
    raw = tensorfile.raw
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{stem}.lora_down.weight": raw(np.ones((2, 8), np.float32)),
        f"{stem}.lora_up.weight": raw(np.ones((8, 2), np.float32)),
    }
    with pytest.raises(AdapterError, match=r"this LoRA is for SD 1\.5, the base is SDXL"):
        formats.from_tensors(tensors, {}, keys=KEYS, layers=shapes(model.trainable_parts))


@pytest.fixture
def written(model: Model, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "trained.safetensors"
    path.write_bytes(writing.to_bytes(AdapterFile(drawn(model)), keys=KEYS))
    yield path
    merge(model.trainable_parts, model.pristine, [])


def test_a_lora_written_here_gives_diffusers_the_picture_it_gives_us(
    base: Path, model: Model, noise_BCHW: Tensor, written: Path
) -> None:
    sigmas = schedules.uniform(model.objective, STEPS)
    adapter = formats.read(written, keys=KEYS, layers=shapes(model.trainable_parts))
    own = pipeline_of(base)
    own.load_lora_weights(written.parent, weight_name=written.name, adapter_name="trained")
    assert set(own.get_list_adapters()) == {"unet", "text_encoder", "text_encoder_2"}
    with torch.no_grad():
        without = ours(model, noise_BCHW, sigmas)
        references = []
        for denoiser, text in ((1.0, 1.0), (1.0, 0.0), (0.6, 0.3)):
            own.set_adapters("trained", {"unet": denoiser, "text_encoder": text, "text_encoder_2": text})
            references.append(theirs(own, noise_BCHW))
            merge(model.trainable_parts, model.pristine, [Applied(adapter.layers, denoiser, text)])
            mine = ours(model, noise_BCHW, sigmas)
            merge(model.trainable_parts, model.pristine, [])
            assert distance(mine, references[-1]) < TOLERANCE, (denoiser, text)
            assert distance(without, references[-1]) > 100 * TOLERANCE
        assert distance(references[0], references[1]) > 100 * TOLERANCE
        assert torch.equal(ours(model, noise_BCHW, sigmas), without)


def test_a_lora_that_diffusers_saved_is_read_with_each_network_s_own_alpha(base: Path, tmp_path: Path) -> None:
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    model = load_base(base)
    before, saved, expected = shapes(model.trainable_parts), {}, {}
    parts = {"denoiser": ("unet", 2), "text_encoder": ("text_encoder", 5), "text_encoder_2": ("text_encoder_2", 7)}
    for part, (theirs, alpha) in parts.items():
        config = LoraConfig(r=3, lora_alpha=alpha, init_lora_weights=False, target_modules=["to_q", "q_proj", "fc1"])
        network = inject_adapter_in_model(config, model.parts[part])
        saved |= {
            f"{theirs}_lora_layers": get_peft_model_state_dict(network),
            f"{theirs}_lora_adapter_metadata": config.to_dict(),
        }
        for path, layer in network.named_modules():
            if hasattr(layer, "get_delta_weight"):
                expected[layer_name(part, path)] = layer.get_delta_weight("default").detach().numpy()
    StableDiffusionXLPipeline.save_lora_weights(tmp_path, **saved)
    read = formats.read(tmp_path / "pytorch_lora_weights.safetensors", keys=KEYS, layers=before).layers
    assert {name.partition(".")[0] for name in read} == set(parts)
    assert set(read) == set(expected)
    for name, layer in read.items():
        assert layer.alpha == parts[name.partition(".")[0]][1]
        np.testing.assert_allclose(layer.delta(), expected[name], atol=1e-6)


def test_two_training_steps_have_peft_s_gradients(base: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = load_base(base)
    layers = drawn(model)
    specs = [LayerSpec(name, weights.rank, weights.alpha) for name, weights in layers.items()]
    with inject(model.trainable_parts, specs, seed=0) as injected:
        injected.load(layers)
        mine = gradients(model, injected.named())
        injected.load(layers)
        untold = gradients(model, injected.named(), told=False)

    where = places(model.trainable_parts)
    for part, module in model.trainable_parts.items():
        targets = [where[name][1] for name in layers if where[name][0] == part]
        inject_adapter_in_model(LoraConfig(r=3, lora_alpha=2, target_modules=targets), module)
    named = {}
    for name, weights in layers.items():
        part, path = where[name]
        layer: Any = model.parts[part].get_submodule(path)
        for half, matrix in (("down", layer.lora_A["default"].weight), ("up", layer.lora_B["default"].weight)):
            with torch.no_grad():
                matrix.copy_(torch.from_numpy(getattr(weights, half)))
            named[f"{name}.{half}"] = matrix
    reference = gradients(model, named)
    unread = "text_encoder.text_model.encoder.layers.2."  # the penultimate layer is what is read of the first encoder
    assert set(reference[0]) == {name for name in named if not name.startswith(unread)}
    for step in (0, 1):
        assert set(mine[step]) == set(reference[step])
        largest = max(float(gradient.abs().max()) for gradient in reference[step].values())
        for name, gradient in reference[step].items():
            assert float((mine[step][name] - gradient).abs().max()) < 1e-5 * largest, (step, name)
            assert float(gradient.abs().max()) > 0, name
        off = max(float((untold[step][name] - reference[step][name]).abs().max()) for name in untold[step])
        assert off > 100 * 1e-5 * largest


def gradients(model: Model, named: dict[str, Any], *, told: bool = True) -> list[dict[str, Tensor]]:
    """Of two steps of plain descent, prompts encoded anew in each.

    Args:
        told: the denoiser is told where the pictures were cut from.
    """
    found = []
    for step in (0, 1):
        text = FAMILY.encode_prompts(model, [plain(PROMPT), plain("a house, " * 30)])
        clean, noise = (randomness.normal((2, 4, 8, 12), step, kind) for kind in ("clean", "noise"))
        conditioning = Conditioning(text, geometry(2) if told else None)
        batch = Batch(clean, noise, torch.tensor([0.7, 5.0], dtype=torch.float64), conditioning)
        loss(model, batch, ObjectiveSettings(min_snr=5.0)).backward()
        reached = {name: parameter for name, parameter in named.items() if parameter.grad is not None}
        found.append({name: parameter.grad.clone() for name, parameter in reached.items()})
        with torch.no_grad():
            for parameter in reached.values():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    return found


# --- in use ----------------------------------------------------------------------------------


def test_training_and_painting_go_from_a_folder_and_from_a_single_file(base: Path, tmp_path: Path) -> None:
    single = tmp_path / "my style.safetensors"
    single.write_bytes(tiny_sdxl.single_file(base))
    deltas = []
    for name, source in (("folder", base), ("file", single)):
        project = tiny.project(tmp_path / name, source, "train.steps=2", "checkpoints.every=2", pictures=4)
        assert api.plan(project).steps == 2
        list(api.train(project))
        (lora,) = (project / "loras").glob("*.safetensors")
        tensors, metadata = tensorfile.read(lora)
        assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
        assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
        assert all(key.startswith(("lora_unet_input", "lora_unet_middle", "lora_unet_output")) for key in tensors)
        deltas.append({key: bytes(tensor.data) for key, tensor in tensors.items()})
        request = api.GenerateRequest(
            "a boat", base=str(source), loras=(lora.stem,), seed=3, steps=2, width=96, height=64, project=project
        )
        list(api.generate(request))
        assert len(list((project / "images").glob("*.png"))) == 1
    assert deltas[0] == deltas[1]
