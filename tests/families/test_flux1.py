"""FLUX.1 against diffusers and peft: the same folder, noise and noise levels must give the same latents and gradients.

Latents are compared in fp32 on one thread. The tolerance is 1e-4 of max(1, root mean square).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny, tiny_flux1
from velatura import api, randomness, tensorfile
from velatura.adapters import formats, writing
from velatura.adapters.layers import find, shapes
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile, Lora, part_of
from velatura.diffusion import samplers, schedules
from velatura.diffusion.guidance import classifier_free
from velatura.errors import AdapterError
from velatura.events import Note
from velatura.families.flux1.model import FAMILY, pack, positions, unpack
from velatura.family import Conditioning, Model, TextConditioning, load_base
from velatura.text.weighted import BREAK, WeightedText, plain
from velatura.training.data import Batch
from velatura.training.losses import loss

TOLERANCE = 1e-4
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat at night"
WIDTH, HEIGHT = 96, 64
STEPS = 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both variants; copy one before changing anything."""
    root = tmp_path_factory.mktemp("flux1")
    return {
        "dev": tiny_flux1.flux1(root / "dev"),
        "schnell": tiny_flux1.flux1(root / "schnell", schnell=True),
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    torch.set_num_threads(1)
    return {name: load_base(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def model(models: dict[str, Model]) -> Model:
    return models["dev"]


def pipeline_of(folder: Path) -> Any:
    """diffusers' own, of the same folder."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from transformers import T5TokenizerFast
    from transformers.models.clip.modeling_clip import CLIPTextModel
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    made = FluxPipeline(
        transformer=FluxTransformer2DModel.from_pretrained(folder / "transformer").eval(),
        vae=AutoencoderKL.from_pretrained(folder / "vae").eval(),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder").eval(),
        text_encoder_2=T5EncoderModel.from_pretrained(folder / "text_encoder_2").eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: pipeline_of(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def pipeline(pipelines: dict[str, Any]) -> Any:
    return pipelines["dev"]


@pytest.fixture
def noise_BCHW() -> Tensor:
    return randomness.normal((1, 4, HEIGHT // 8, WIDTH // 8), 9, "noise")


def ours(model: Model, noise_BCHW: Tensor, *, guidance: float = 3.5, cfg: float = 1.0) -> Tensor:
    """Latents from the family's own predict, our noise levels and our sampler."""
    encoded = FAMILY.encode_prompts(model, [plain(PROMPT), plain(NEGATIVE)])
    objective = model.objective_for(*noise_BCHW.shape[-2:])

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        sigma_B = torch.full((2,), sigma, dtype=torch.float64)
        conditioning = model.conditioned(encoded, guidance=guidance)
        positive, negative = FAMILY.predict(model, torch.cat([x, x]), sigma_B, conditioning).split(1)
        return objective.denoised(x, classifier_free(positive, negative, cfg), sigma_B[:1])

    *_, last = samplers.sample_euler(denoise, noise_BCHW, schedules.uniform(objective, STEPS))
    return last.x


def theirs(pipeline: Any, noise_BCHW: Tensor, **told: Any) -> Tensor:
    """Latents from diffusers' pipeline."""
    count, channels, height, width = noise_BCHW.shape
    packed = pipeline._pack_latents(noise_BCHW, count, channels, height, width)
    given = {"prompt": PROMPT, "guidance_scale": 3.5, "max_sequence_length": 512, **told}
    found = pipeline(
        **given,
        latents=packed,
        num_inference_steps=STEPS,
        height=8 * height,
        width=8 * width,
        output_type="latent",
    ).images
    unpacked: Tensor = pipeline._unpack_latents(found, 8 * height, 8 * width, 8)
    return unpacked


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


# --- pictures --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("variant", "length"), [("dev", 512), ("schnell", 256)])
def test_a_picture_is_the_one_that_diffusers_pipeline_paints(
    models: dict[str, Model], pipelines: dict[str, Any], noise_BCHW: Tensor, variant: str, length: int
) -> None:
    model, pipeline = models[variant], pipelines[variant]
    mine = ours(model, noise_BCHW)
    reference = theirs(pipeline, noise_BCHW, max_sequence_length=length)
    assert distance(mine, reference) < TOLERANCE
    shifted = reference / pipeline.vae.config.scaling_factor + pipeline.vae.config.shift_factor
    assert distance(FAMILY.decode_latents(model, mine), pipeline.vae.decode(shifted).sample) < TOLERANCE
    assert distance(theirs(pipeline, noise_BCHW, max_sequence_length=length // 2), reference) > 100 * TOLERANCE


@torch.no_grad()
def test_a_picture_with_a_negative_prompt_is_diffusers_too(model: Model, pipeline: Any, noise_BCHW: Tensor) -> None:
    reference = theirs(pipeline, noise_BCHW, negative_prompt=NEGATIVE, true_cfg_scale=2.5, guidance_scale=1.5)
    assert distance(ours(model, noise_BCHW, cfg=2.5, guidance=1.5), reference) < TOLERANCE
    assert distance(ours(model, noise_BCHW, cfg=1.0, guidance=1.5), reference) > 100 * TOLERANCE


@torch.no_grad()
def test_each_thing_told_to_the_pipeline_matters_by_a_hundred_tolerances(pipeline: Any, noise_BCHW: Tensor) -> None:
    reference = theirs(pipeline, noise_BCHW)
    for change in ({"prompt": "a house", "prompt_2": PROMPT}, {"prompt_2": "a house"}, {"guidance_scale": 1.0}):
        assert distance(theirs(pipeline, noise_BCHW, **change), reference) > 100 * TOLERANCE, change
    before = pipeline.scheduler
    pipeline.scheduler = type(before).from_config(before.config, max_shift=0.5)
    unshifted = theirs(pipeline, noise_BCHW)
    pipeline.scheduler = before
    assert distance(unshifted, reference) > 100 * TOLERANCE


def test_noise_levels_lean_towards_noise_as_the_picture_grows(model: Model, pipeline: Any) -> None:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    found = []
    for height, width in ((64, 64), (96, 160)):
        tokens = (height // 16) * (width // 16)
        mu = calculate_shift(tokens, 8, 48, 0.5, 1.15)
        pipeline.scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7), mu=mu)
        visited = schedules.uniform(model.objective_for(height // 8, width // 8), 7)
        assert visited == pytest.approx(pipeline.scheduler.sigmas.tolist(), abs=1e-6)
        found.append(visited)
    assert found[1][3] - found[0][3] > 0.1


def test_tokens_are_packed_and_placed_as_diffusers_does(pipeline: Any) -> None:
    latents = randomness.normal((2, 4, 6, 10), 0, "latents")
    packed = pack(latents)
    assert torch.equal(packed, pipeline._pack_latents(latents, 2, 4, 6, 10))
    assert torch.equal(unpack(packed, 6, 10), latents)
    assert torch.equal(positions(3, 5), pipeline._prepare_latent_image_ids(2, 3, 5, "cpu", torch.float32))


def test_what_the_variants_are_painted_with(models: dict[str, Model]) -> None:
    dev, schnell = models["dev"], models["schnell"]
    assert (dev.variant.name, dev.variant.architecture) == ("flux1", "flux-1-dev")
    assert (schnell.variant.name, schnell.variant.architecture) == ("flux1", "flux-1-schnell")
    assert (dev.guidance, schnell.guidance) == ("distilled", "none")
    assert (dev.distilled_steps, schnell.distilled_steps) == (False, True)
    assert (dev.defaults.steps, schnell.defaults.steps) == (20, 4)
    assert {(one.defaults.cfg_scale, one.defaults.sampler, one.defaults.scheduler) for one in (dev, schnell)} == {
        (1.0, "Euler", "Uniform")
    }
    assert schnell.objective.shift == 1.0
    assert dev.conditioned(TextConditioning(torch.zeros(2, 1, 1))).guidance_B.tolist() == [1.0, 1.0]
    assert schnell.conditioned(TextConditioning(torch.zeros(2, 1, 1))).guidance_B is None


def test_guidance_is_told_to_dev_and_to_dev_alone(models: dict[str, Model], noise_BCHW: Tensor) -> None:
    for model, wrong in ((models["dev"], None), (models["schnell"], torch.ones(1))):
        text = FAMILY.encode_prompts(model, [plain(PROMPT)])
        with pytest.raises(ValueError, match="guidance"):
            FAMILY.predict(model, noise_BCHW, torch.tensor([0.5]), Conditioning(text, guidance_B=wrong))


@torch.no_grad()
def test_latents_are_the_posterior_s_mean_shifted_and_scaled(model: Model, pipeline: Any) -> None:
    images = randomness.normal((2, 3, HEIGHT, WIDTH), 0, "images").clamp(-1, 1)
    posterior = pipeline.vae.encode(images).latent_dist
    assert distance(FAMILY.encode_images(model, images), (posterior.mean - 0.15) * 0.7) < 1e-5


# --- prompts ---------------------------------------------------------------------------------


@torch.no_grad()
def test_prompts_are_encoded_as_diffusers_does_whatever_their_length(model: Model, pipeline: Any) -> None:
    texts = [PROMPT, "", "a  boat\n on the sea ", "(a) zebra, 3 é 🦊", "red boat " * 40, "red boat " * 300]
    found = FAMILY.encode_prompts(model, [plain(text) for text in texts])
    expected, pooled, _ = pipeline.encode_prompt(texts, max_sequence_length=512)
    assert torch.equal(found.tokens_BLD, expected)
    assert torch.equal(found.pooled_BD, pooled)
    assert found.mask_BL is None
    longer = FAMILY.encode_prompts(model, [plain("red boat " * 300 + "cat")])
    assert torch.equal(longer.tokens_BLD[0], found.tokens_BLD[5])


@torch.no_grad()
def test_a_weight_changes_t5_s_features_of_its_words_and_not_where_words_end(model: Model, pipeline: Any) -> None:
    text = WeightedText((("a ", 1.0), ("red bo", 1.4), ("at", 0.8), (" at night", 1.0)))
    bare = pipeline.encode_prompt("a red boat at night", max_sequence_length=512)[0]
    empty = pipeline.encode_prompt("", max_sequence_length=512)[0]
    weights = torch.tensor([1.0, 1.4, 0.8, *[1.0] * 509])[:, None]
    by_hand = {
        "a1111": bare * weights * (bare.mean() / (bare * weights).mean()),
        "a1111-nonorm": bare * weights,
        "comfy": (bare - empty) * weights + empty,
    }
    try:
        for emphasis, expected in by_hand.items():
            model.emphasis = emphasis  # type: ignore[assignment]
            found = FAMILY.encode_prompts(model, [text])
            assert distance(found.tokens_BLD, expected) < 1e-5
            assert distance(bare, expected) > 100 * 1e-5
            assert torch.equal(found.pooled_BD, pipeline.encode_prompt("a red boat at night")[1])
    finally:
        model.emphasis = "a1111"


@torch.no_grad()
def test_break_is_a_space(model: Model) -> None:
    parted = FAMILY.encode_prompts(model, [WeightedText((("a red boat", 1.0), BREAK, ("a cat", 1.0)))])
    whole = FAMILY.encode_prompts(model, [plain("a red boat a cat")])
    assert torch.equal(parted.tokens_BLD, whole.tokens_BLD)
    assert torch.equal(parted.pooled_BD, whole.pooled_BD)


def test_both_text_encoders_can_be_trained_through(model: Model, noise_BCHW: Tensor) -> None:
    names = select(["text", "text_encoder_2.*.SelfAttention.q"], find(model.trainable_parts), presets=FAMILY.targets)
    with inject(model.trainable_parts, [LayerSpec(name, 2, 2.0) for name in names], seed=0) as injected:
        encoded = FAMILY.encode_prompts(model, [plain(PROMPT)])
        FAMILY.predict(model, noise_BCHW, torch.tensor([0.5]), model.conditioned(encoded)).square().mean().backward()
        assert all(float(layer.up.grad.abs().max()) > 0 for layer in injected.layers.values())


# --- training --------------------------------------------------------------------------------


def batch_of(model: Model, step: int) -> Batch:
    """Two samples with captions of different length, dropped at different noise."""
    clean, noise = (randomness.normal((2, 4, 8, 12), step, kind) for kind in ("clean", "noise"))
    with torch.no_grad():
        text = FAMILY.encode_prompts(model, [plain(PROMPT), plain(NEGATIVE)])
    return Batch(clean, noise, torch.tensor([0.7, 0.25], dtype=torch.float64), model.conditioned(text))


def test_two_training_steps_have_the_gradients_of_peft_on_the_same_network(model: Model, folders: Any) -> None:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from peft import LoraConfig, inject_adapter_in_model

    names = select(["all"], find(model.trainable_parts), presets=FAMILY.targets)
    paths = [name.removeprefix("denoiser.") for name in names]
    reference = FluxTransformer2DModel.from_pretrained(folders["dev"] / "transformer").requires_grad_(False)
    reference = inject_adapter_in_model(LoraConfig(r=4, lora_alpha=3, target_modules=paths), reference)
    halves = {"down": "lora_A", "up": "lora_B"}
    with inject(model.trainable_parts, [LayerSpec(name, 4, 3.0) for name in names], seed=1) as injected:
        mine = injected.named()
        known = dict(reference.named_parameters())
        their = {
            f"denoiser.{path}.{half}": known[f"{path}.{kind}.default.weight"]
            for path in paths
            for half, kind in halves.items()
        }
        assert set(their) == set(mine)
        with torch.no_grad():
            for name, parameter in their.items():
                parameter.copy_(mine[name])
        optimizers = [torch.optim.AdamW(chosen.values(), lr=2e-2) for chosen in (mine, their)]
        for step in range(2):
            batch = batch_of(model, step)
            loss(model, batch).backward()
            sigma_B = batch.sigma_B.float()
            mixed = batch.clean_BCHW + sigma_B.view(2, 1, 1, 1) * (batch.noise_BCHW - batch.clean_BCHW)
            predicted = reference(
                hidden_states=pack(mixed),
                timestep=sigma_B,
                guidance=torch.ones(2),
                pooled_projections=batch.conditioning.text.pooled_BD,
                encoder_hidden_states=batch.conditioning.text.tokens_BLD,
                txt_ids=torch.zeros(512, 3),
                img_ids=positions(4, 6),
            ).sample
            (unpack(predicted, 8, 12) - (batch.noise_BCHW - batch.clean_BCHW)).square().mean().backward()
            moved = 0.0
            for name, parameter in their.items():
                assert parameter.grad is not None
                assert distance(mine[name].grad, parameter.grad) < 1e-5, name
                moved = max(moved, float(parameter.grad.abs().max()))
            assert moved > 100 * 1e-5
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        assert all(float(one.detach().abs().max()) > 1e-2 for name, one in mine.items() if name.endswith("up"))


@pytest.fixture(params=[3.0, 4.0], ids=["alpha unlike the rank", "alpha as the rank"])
def trained(model: Model, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A LoRA file after a few steps of our own training."""
    names = select(["all", "text"], find(model.trainable_parts), presets=FAMILY.targets)
    with inject(model.trainable_parts, [LayerSpec(name, 4, request.param) for name in names], seed=1) as injected:
        optimizer = torch.optim.AdamW(injected.parameters(), lr=2e-2)
        for step in range(3):
            batch = batch_of(model, step)
            told = model.conditioned(FAMILY.encode_prompts(model, [plain(PROMPT), plain(NEGATIVE)]))
            loss(model, Batch(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B, told)).backward()
            optimizer.step()
            optimizer.zero_grad()
        data = writing.to_bytes(AdapterFile(injected.weights()), keys=FAMILY.keys)
    path = tmp_path / "trained.safetensors"
    path.write_bytes(data)
    yield path
    merge(model.trainable_parts, model.pristine, [])


@pytest.mark.filterwarnings("ignore::UserWarning")  # peft's, of what diffusers asks of it
def test_a_lora_trained_here_gives_diffusers_the_picture_it_gives_us(
    folders: dict[str, Path], model: Model, noise_BCHW: Tensor, trained: Path
) -> None:
    adapter = formats.read(trained, keys=FAMILY.keys, layers=shapes(model.trainable_parts))
    assert {part_of(name) for name in adapter.layers} == {"denoiser", "text_encoder"}
    pipeline = pipeline_of(folders["dev"])
    pipeline.load_lora_weights(trained.parent, weight_name=trained.name, adapter_name="trained")
    with torch.no_grad():
        without = ours(model, noise_BCHW)
        for strength in (1.0, 0.6):
            pipeline.set_adapters("trained", strength)
            reference = theirs(pipeline, noise_BCHW)
            merge(model.trainable_parts, model.pristine, [Applied(adapter.layers, strength, strength)])
            mine = ours(model, noise_BCHW)
            merge(model.trainable_parts, model.pristine, [])
            assert distance(mine, reference) < TOLERANCE
            assert distance(without, reference) > 100 * TOLERANCE
        assert torch.equal(ours(model, noise_BCHW), without)


# --- adapter files ---------------------------------------------------------------------------


def drawn(out: int, inside: int, name: str, rank: int = 2) -> tuple[np.ndarray, np.ndarray]:
    draw = randomness.generator(4, "adapter", name)
    return (
        draw.standard_normal((rank, inside), dtype=np.float32),
        draw.standard_normal((out, rank), dtype=np.float32),
    )


def test_presets_mean_what_they_say(model: Model) -> None:
    known = list(find(model.trainable_parts))
    chosen = {preset: set(select([preset], known, presets=FAMILY.targets)) for preset in FAMILY.targets}
    assert len(chosen["attention"]) == 2 * 8 + 2 * 3
    assert chosen["attention+mlp"] - chosen["attention"] == {
        *(
            f"denoiser.transformer_blocks.{n}.{ff}.net.{at}"
            for n in "01"
            for ff in ("ff", "ff_context")
            for at in ("0.proj", "2")
        ),
        *(f"denoiser.single_transformer_blocks.{n}.{proj}" for n in "01" for proj in ("proj_mlp", "proj_out")),
    }
    assert chosen["all"] - chosen["attention+mlp"] == {
        *(f"denoiser.transformer_blocks.{n}.{norm}.linear" for n in "01" for norm in ("norm1", "norm1_context")),
        *(f"denoiser.single_transformer_blocks.{n}.norm.linear" for n in "01"),
    }
    assert len(chosen["text"]) == 2 * 6
    assert not any(name.startswith("text_encoder_2") for names in chosen.values() for name in names)


def test_layers_are_written_as_diffusers_calls_them_and_read_under_every_name(model: Model) -> None:
    layers = shapes(model.trainable_parts)
    name, text = "denoiser.transformer_blocks.1.attn.to_out.0", "text_encoder.text_model.encoder.layers.1.mlp.fc1"
    weights = {one: Lora(*drawn(*layers[one], one), alpha=1.0) for one in (name, text)}
    written = writing.to_bytes(AdapterFile(weights), keys=FAMILY.keys, precision="F32")
    path = "transformer_blocks.1.attn.to_out.0"
    assert FAMILY.keys.written(name) == f"transformer.{path}"
    assert FAMILY.keys.written(text) == text
    for one, stems in {
        name: (
            f"transformer.{path}",
            f"diffusion_model.{path}",
            path,
            "lora_transformer_transformer_blocks_1_attn_to_out_0",
            "lora_unet_transformer_blocks_1_attn_to_out_0",
            "lora_unet_double_blocks_1_img_attn_proj",
            "diffusion_model.double_blocks.1.img_attn.proj",
        ),
        text: (text, text.replace(".text_model", ""), "lora_te1_text_model_encoder_layers_1_mlp_fc1"),
    }.items():
        for stem in stems:
            for down, up in (("lora_A", "lora_B"), ("lora_down", "lora_up")):
                file = {
                    f"{stem}.{down}.weight": tensorfile.raw(weights[one].down),
                    f"{stem}.{up}.weight": tensorfile.raw(weights[one].up),
                    f"{stem}.alpha": tensorfile.raw(np.array(1.0, np.float32)),
                }
                read = formats.from_tensors(file, {}, keys=FAMILY.keys, layers=layers)
                assert set(read.layers) == {one}
                assert np.array_equal(read.layers[one].delta(), weights[one].delta())
    assert b"transformer.transformer_blocks.1.attn.to_out.0.lora_A.weight" in written


def test_alpha_is_left_out_where_it_says_nothing(model: Model) -> None:
    layers = shapes(model.trainable_parts)
    names = list(layers)[10:12]
    for alphas, kept in (((2.0, 2.0), False), ((2.0, 1.0), True)):
        weights = {
            name: Lora(*drawn(*layers[name], name), alpha=alpha) for name, alpha in zip(names, alphas, strict=True)
        }
        assert (b".alpha" in writing.to_bytes(AdapterFile(weights), keys=FAMILY.keys)) == kept


def test_kohya_s_fused_layers_are_taken_apart_as_diffusers_does() -> None:
    """At the published widths, of which diffusers' conversion leans on some."""
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    with torch.device("meta"):
        layers = shapes({"denoiser": FluxTransformer2DModel(num_layers=1, num_single_layers=1)})
    sizes = {
        "double_blocks_0_img_attn_qkv": (3 * 3072, 3072),
        "double_blocks_0_txt_attn_qkv": (3 * 3072, 3072),
        "double_blocks_0_txt_mlp_2": (3072, 4 * 3072),
        "double_blocks_0_img_mod_lin": (6 * 3072, 3072),
        "single_blocks_0_linear1": (7 * 3072, 3072),
        "single_blocks_0_linear2": (3072, 5 * 3072),
        "final_layer_adaLN_modulation_1": (2 * 3072, 3072),
    }
    file = {}
    for stem, size in sizes.items():
        down, up = drawn(*size, stem)
        file |= {
            f"lora_unet_{stem}.lora_down.weight": tensorfile.raw(down),
            f"lora_unet_{stem}.lora_up.weight": tensorfile.raw(up),
            # of the last layer diffusers forgets alpha, and the prefix
            f"lora_unet_{stem}.alpha": tensorfile.raw(np.array(2.0 if "final" in stem else 1.0, np.float32)),
        }
    read = formats.from_tensors(file, {}, keys=FAMILY.keys, layers=layers).layers
    converted = _convert_kohya_flux_lora_to_diffusers(
        {name: torch.from_numpy(tensorfile.as_float32(tensor).copy()) for name, tensor in file.items()}
    )
    assert len(converted) == 2 * len(read) == 2 * (3 + 3 + 1 + 1 + 4 + 1 + 1)
    rows = slice(0, None, 100)
    for name, weights in read.items():
        path = name.removeprefix("denoiser.")
        stem = path if path == "norm_out.linear" else f"transformer.{path}"
        down, up = (converted[f"{stem}.lora_{half}.weight"].numpy() for half in "AB")
        mine = weights.scale * weights.up[rows] @ weights.down[:, rows]
        np.testing.assert_allclose(mine, up[rows] @ down[:, rows], rtol=1e-5, atol=1e-5)


def test_a_fused_layer_of_another_width_or_named_twice_is_refused(model: Model) -> None:
    layers = shapes(model.trainable_parts)
    down, up = drawn(72, 24, "qkv")
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    file = {f"{stem}.lora_down.weight": tensorfile.raw(down), f"{stem}.lora_up.weight": tensorfile.raw(up)}
    assert len(formats.from_tensors(file, {}, keys=FAMILY.keys, layers=layers).layers) == 3
    for rows in (71, 75, 24, 0):
        wrong = {**file, f"{stem}.lora_up.weight": tensorfile.raw(np.ones((rows, 2), np.float32))}
        with pytest.raises(AdapterError, match="another size"):
            formats.from_tensors(wrong, {}, keys=FAMILY.keys, layers=layers)
    twice = {"transformer.transformer_blocks.0.attn.to_k.lora_A.weight": tensorfile.raw(down)}
    with pytest.raises(AdapterError, match="twice"):
        formats.from_tensors({**file, **twice}, {}, keys=FAMILY.keys, layers=layers)


# --- few-step bases and their assistant --------------------------------------------------------


def test_an_assistant_is_there_while_training_and_neither_in_samples_nor_in_the_result(
    folders: dict[str, Path], models: dict[str, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "denoiser.transformer_blocks.0.attn.to_q"
    own = models["schnell"].pristine[f"{name}.weight"]
    assistant = Lora(*drawn(24, 24, name), alpha=1.0)
    seen: dict[str, list[Tensor]] = {"training": [], "painting": []}
    predict = FAMILY.predict

    def watched(model: Model, *told: Any) -> Tensor:
        weight = find(model.trainable_parts)[name].weight
        seen["training" if torch.is_grad_enabled() else "painting"].append(weight.detach().clone())
        return predict(model, *told)

    monkeypatch.setattr(FAMILY, "predict", watched, raising=False)
    # what is held out is measured while training, with the assistant at work as it is in the training loss
    brief = ("train.steps=2", "checkpoints.every=2", "dataset.hold_out=0")
    project = tiny.project(
        tmp_path / "with",
        folders["schnell"],
        *brief,
        "base.assistant=assistant.safetensors",
        "adapter.targets=['denoiser.transformer_blocks.1.*']",
    )
    data = writing.to_bytes(AdapterFile({name: assistant}), keys=FAMILY.keys, precision="F32")
    (project / "assistant.safetensors").write_bytes(data)

    events = list(api.train(project))
    assert not any(isinstance(event, Note) and "distilled" in event.text for event in events)
    assisted = own + torch.from_numpy(assistant.delta())
    assert len(seen["training"]) == 2
    assert all(float((weight - assisted).abs().max()) < 1e-6 for weight in seen["training"])
    assert seen["painting"]
    assert all(torch.equal(weight, own) for weight in seen["painting"])
    (lora,) = (project / "loras").glob("*.safetensors")
    assert not any("transformer_blocks.0." in key for key in tensorfile.read_header(lora).entries)

    other = tiny.project(tmp_path / "without", folders["schnell"], *brief)
    assert any(
        isinstance(event, Note) and "distilled to paint in few steps" in event.text for event in api.train(other)
    )
