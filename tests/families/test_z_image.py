"""Z-Image against diffusers: the same folder, noise and noise levels must give the same latents.

In fp32 on one thread; the tolerance is 1e-4 of max(1, root mean square).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny_z_image
from velatura import randomness, recipe, tensorfile
from velatura.adapters import formats, writing
from velatura.adapters.layers import find, shapes
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile, Lora
from velatura.diffusion import samplers, schedules
from velatura.diffusion.guidance import classifier_free
from velatura.errors import AdapterError, PromptError, RecipeError
from velatura.families.z_image.keys import KEYS, PRESETS
from velatura.families.z_image.model import FAMILY
from velatura.family import Conditioning, MemoryPolicy, Model, TextConditioning, load_base, stack_prompts
from velatura.generation.reading import weighted
from velatura.text import qwen_tokens
from velatura.text.weighted import plain
from velatura.training.adapter import specs
from velatura.training.data import Batch
from velatura.training.losses import loss

TOLERANCE = 1e-4
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat"
LONG = "a red boat on the sea under a yellow sun, and a black cat in the snow at night"
"""So long that the network fills it up to more than the others."""
GUIDANCE = 3.0
WIDTH, HEIGHT = 96, 64


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.getbasetemp() / "tiny-z-image"
    return folder if folder.exists() else tiny_z_image.z_image(folder)


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    torch.set_num_threads(1)
    return load_base(base)


def components(base: Path) -> dict[str, Any]:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

    return {
        "transformer": ZImageTransformer2DModel.from_pretrained(base / "transformer").eval(),
        "vae": AutoencoderKL.from_pretrained(base / "vae").eval(),
        "text_encoder": Qwen3Model.from_pretrained(base / "text_encoder").eval(),
        "tokenizer": Qwen2Tokenizer.from_pretrained(base / "tokenizer"),
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(base / "scheduler"),
    }


def pipeline_of(base: Path) -> Any:
    from diffusers.pipelines.z_image.pipeline_z_image import ZImagePipeline

    made = ZImagePipeline(**components(base))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipeline(base: Path) -> Any:
    """diffusers' own, of the same folder."""
    return pipeline_of(base)


@pytest.fixture
def noise_BCHW() -> Tensor:
    return randomness.normal((1, 16, HEIGHT // 8, WIDTH // 8), 9, "noise")


def told(model: Model, *prompts: str) -> TextConditioning:
    encoded = [FAMILY.encode_prompts(model, [plain(prompt)]) for prompt in prompts]
    return stack_prompts(encoded, encoded[0])


def ours(model: Model, noise_BCHW: Tensor, steps: int, *, prompt: str = PROMPT, cfg: float = GUIDANCE + 1) -> Tensor:
    """Latents from the family's own predict, our sampler and our guidance."""
    conditioning = Conditioning(told(model, prompt, NEGATIVE))

    def denoise(x: Tensor, sigma: float, step: int) -> Tensor:
        sigma_B = torch.full((2,), sigma, dtype=torch.float64)
        positive, negative = FAMILY.predict(model, torch.cat([x, x]), sigma_B, conditioning).split(1)
        return model.objective.denoised(x, classifier_free(positive, negative, cfg), sigma_B[:1])

    sigmas = schedules.uniform(model.objective_for(*noise_BCHW.shape[-2:]), steps)
    *_, last = samplers.sample_euler(denoise, noise_BCHW, sigmas)
    return last.x


def theirs(pipeline: Any, noise_BCHW: Tensor, steps: int, **changed: Any) -> Tensor:
    """Latents from diffusers' pipeline."""
    given = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, **changed}
    found: Tensor = pipeline(
        **given, latents=noise_BCHW, num_inference_steps=steps, height=HEIGHT, width=WIDTH, output_type="latent"
    ).images
    return found


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


# --- painting --------------------------------------------------------------------------------


@torch.no_grad()
def test_latents_are_those_of_diffusers_pipeline_where_its_guidance_is_one_less_than_ours(
    model: Model, pipeline: Any, noise_BCHW: Tensor
) -> None:
    reference = theirs(pipeline, noise_BCHW, 6)
    assert distance(ours(model, noise_BCHW, 6), reference) < TOLERANCE
    assert distance(ours(model, noise_BCHW, 6, cfg=GUIDANCE), reference) > 100 * TOLERANCE
    assert distance(ours(model, noise_BCHW, 6, prompt=LONG), reference) > 100 * TOLERANCE


@torch.no_grad()
def test_without_guidance_the_negative_prompt_is_not_asked(model: Model, pipeline: Any, noise_BCHW: Tensor) -> None:
    reference = theirs(pipeline, noise_BCHW, 4, guidance_scale=0.0, prompt=LONG)
    assert distance(ours(model, noise_BCHW, 4, cfg=1.0, prompt=LONG), reference) < TOLERANCE
    guided = theirs(pipeline, noise_BCHW, 4, prompt=LONG)
    assert distance(guided, reference) > 100 * TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 8, 30])
def test_noise_levels_are_the_scheduler_s_and_the_picture_s_size_does_not_move_them(
    model: Model, pipeline: Any, steps: int
) -> None:
    from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas

    for tokens in (24, 4096):
        pipeline.scheduler.set_timesteps(sigmas=get_default_z_image_sigmas(steps), mu=tokens / 1000)
        sigmas = schedules.uniform(model.objective.for_tokens(tokens), steps)
        assert sigmas == pytest.approx(pipeline.scheduler.sigmas.tolist(), abs=1e-6)


@torch.no_grad()
def test_a_picture_is_decoded_as_the_pipeline_decodes_it(model: Model, pipeline: Any, noise_BCHW: Tensor) -> None:
    image = pipeline(PROMPT, HEIGHT, WIDTH, 2, guidance_scale=0.0, latents=noise_BCHW, output_type="pt").images
    latents = ours(model, noise_BCHW, 2, cfg=1.0)
    mine = (FAMILY.decode_latents(model, latents) / 2 + 0.5).clamp(0, 1)
    assert distance(mine, image) < TOLERANCE
    unshifted = (pipeline.vae.decode(latents / 0.7).sample / 2 + 0.5).clamp(0, 1)
    assert distance(unshifted, image) > 100 * TOLERANCE


@torch.no_grad()
def test_latents_are_the_posterior_s_mean_shifted_and_scaled(model: Model, pipeline: Any) -> None:
    images = randomness.normal((2, 3, HEIGHT, WIDTH), 0, "images").clamp(-1, 1)
    expected = (pipeline.vae.encode(images).latent_dist.mean - 0.15) * 0.7
    assert distance(FAMILY.encode_images(model, images), expected) < 1e-5


# --- the prediction --------------------------------------------------------------------------


@torch.no_grad()
def test_a_prediction_is_the_network_s_answer_turned_round(model: Model, pipeline: Any) -> None:
    noisy = randomness.normal((3, 16, 8, 12), 1, "noisy")
    texts = [PROMPT, LONG, ""]
    captions, _ = pipeline.encode_prompt(list(texts), do_classifier_free_guidance=False)
    sigma_B = torch.tensor([0.013, 0.5, 1.0], dtype=torch.float64)
    predicted = FAMILY.predict(model, noisy, sigma_B, Conditioning(told(model, *texts)))

    def by_hand(time_B: Tensor) -> Tensor:
        said = pipeline.transformer(list(noisy.unsqueeze(2)), time_B, captions, return_dict=False)[0]
        return -torch.stack(said).squeeze(2)

    expected = by_hand(1 - sigma_B.float())
    assert distance(predicted, expected) < 1e-5
    assert distance(by_hand(sigma_B.float()), expected) > 100 * 1e-5
    assert distance(-expected, expected) > 100 * 1e-5


@torch.no_grad()
def test_a_caption_beside_a_longer_one_has_its_own_prediction(model: Model) -> None:
    noisy = randomness.normal((3, 16, 10, 6), 2, "noisy")  # 15 tokens, which the network fills up to 32
    sigma_B = torch.tensor([0.2, 0.7, 0.9], dtype=torch.float64)
    both = told(model, "a cat", LONG, PROMPT)
    together = FAMILY.predict(model, noisy, sigma_B, Conditioning(both))
    for place, text in enumerate(("a cat", LONG, PROMPT)):
        row = slice(place, place + 1)
        alone = FAMILY.predict(model, noisy[row], sigma_B[row], Conditioning(told(model, text)))
        assert distance(together[row], alone) < 1e-5
    unmasked = TextConditioning(both.tokens_BLD, mask_BL=torch.ones_like(both.mask_BL))
    padded = FAMILY.predict(model, noisy, sigma_B, Conditioning(unmasked))
    assert distance(padded[:1], together[:1]) > 100 * 1e-5


@torch.no_grad()
def test_in_half_precision_a_prediction_is_about_the_same(base: Path, model: Model) -> None:
    half = load_base(base, policy=MemoryPolicy(dtype=torch.bfloat16))
    noisy = randomness.normal((2, 16, 8, 12), 4, "noisy")
    sigma_B = torch.tensor([0.4, 0.9], dtype=torch.float64)
    exact, rough = (FAMILY.predict(one, noisy, sigma_B, Conditioning(told(one, PROMPT, LONG))) for one in (model, half))
    assert rough.dtype == torch.float32
    assert 0 < distance(rough, exact) < 0.2


def test_a_prediction_can_be_learnt_from_even_after_painting(base: Path) -> None:
    """What is painted in inference mode must leave nothing behind that training may not touch."""
    fresh = load_base(base)
    noisy = randomness.normal((1, 16, 8, 8), 3, "noisy")
    sigma_B = torch.tensor([0.5], dtype=torch.float64)
    with torch.inference_mode():
        FAMILY.predict(fresh, noisy, sigma_B, Conditioning(told(fresh, PROMPT)))
    text = told(fresh, PROMPT)
    tokens = text.tokens_BLD.detach().clone().requires_grad_()
    noisy = noisy.clone().requires_grad_()
    FAMILY.predict(fresh, noisy, sigma_B, Conditioning(TextConditioning(tokens, mask_BL=text.mask_BL))).sum().backward()
    assert noisy.grad is not None
    assert tokens.grad is not None
    assert float(noisy.grad.abs().max()) > 1e-3
    assert float(tokens.grad.abs().max()) > 1e-5


# --- text ------------------------------------------------------------------------------------

TEXTS = [
    "",
    "boat " * 700,
    "a red boat",
    "  two\n\nlines ",
    "ein Fuchs 🦊, ночь",
    "<think>is a mark</think>",
    "{} %s 12345",
    LONG,
]


def test_a_prompt_is_put_as_the_chat_template_puts_it(pipeline: Any) -> None:
    for text in TEXTS:
        thinking, silent = (
            pipeline.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=told
            )
            for told in (True, False)
        )
        assert qwen_tokens.QUESTION.format(text) == thinking
        assert silent != thinking


def test_tokens_are_those_of_transformers_tokenizer(model: Model, pipeline: Any) -> None:
    for text in TEXTS:
        chat = qwen_tokens.QUESTION.format(text)
        assert model.tokenizers[0].encode(chat) == pipeline.tokenizer(chat).input_ids


@torch.no_grad()
def test_encoded_prompts_are_the_pipeline_s_each_at_its_own_length(model: Model, pipeline: Any) -> None:
    reference, _ = pipeline.encode_prompt(list(TEXTS), do_classifier_free_guidance=False)
    found = FAMILY.encode_prompts(model, [plain(text) for text in TEXTS])
    assert found.mask_BL is not None
    assert found.pooled_BD is None
    assert len({len(one) for one in reference}) > 3
    for tokens, mask, expected in zip(found.tokens_BLD, found.mask_BL, reference, strict=True):
        assert distance(tokens[mask], expected) < 1e-5
        assert not tokens[~mask].any()
    last = pipeline.text_encoder(
        pipeline.tokenizer(qwen_tokens.QUESTION.format(LONG), return_tensors="pt").input_ids
    ).last_hidden_state[0]
    assert distance(last, reference[-1]) > 100 * 1e-5


def test_encoded_prompts_can_be_learnt_from(model: Model) -> None:
    layer = find(model.trainable_parts)["text_encoder.layers.0.self_attn.q_proj"]
    layer.weight.requires_grad_()
    try:
        FAMILY.encode_prompts(model, [plain(PROMPT)]).tokens_BLD.square().mean().backward()
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().max()) > 0
    finally:
        layer.weight.requires_grad_(False)
        layer.weight.grad = None


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("a (red:1.3) boat", r"the weight 1\.3 has no meaning \(red\)"),
        ("a boat (on the left)", r"brackets that belong to the text are written \\\("),
        ("a boat BREAK a cat", "BREAK has no meaning"),
    ],
)
def test_what_a_language_model_cannot_heed_is_refused_in_one_sentence(model: Model, prompt: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        FAMILY.encode_prompts(model, [weighted(prompt)])


@torch.no_grad()
def test_brackets_that_are_meant_and_weights_of_one_are_text(model: Model) -> None:
    meant = FAMILY.encode_prompts(model, [weighted(r"a boat \(left\), ([red])")]).tokens_BLD
    assert torch.equal(meant, FAMILY.encode_prompts(model, [plain("a boat (left), red")]).tokens_BLD)


# --- adapters --------------------------------------------------------------------------------


def chosen(model: Model, *presets: str) -> list[str]:
    return select(presets, find(model.trainable_parts), presets=PRESETS)


def test_the_presets_are_musubi_tuner_s_layers_and_all_those_of_the_blocks(model: Model) -> None:
    usual = chosen(model, "attention+mlp")
    assert len(usual) == 2 * 7
    assert not any("refiner" in name or "modulation" in name for name in usual)
    assert [name for name in usual if ".attention." in name] == chosen(model, "attention")
    assert len(chosen(model, "all")) == 6 * 7 + 4


def test_the_text_encoder_is_not_trained_as_no_file_has_names_for_it(model: Model) -> None:
    for pattern in ("text_encoder.*.q_proj", "*.0.*"):
        told = recipe.build({"base": {"model": "z"}, "adapter": {"targets": [pattern]}}, [])
        with pytest.raises(RecipeError, match="no program reads changes of this base's text encoder"):
            specs(told, model)
    told = recipe.build({"base": {"model": "z"}}, [])
    assert [one.name for one in specs(told, model)] == chosen(model, "attention+mlp")


def drawn(model: Model, names: list[str], rank: int = 3) -> dict[str, Lora]:
    made = {}
    for name in names:
        out, into = shapes(model.trainable_parts)[name]
        draw = randomness.generator(3, "adapter", name)
        down, up = draw.standard_normal((rank, into)), draw.standard_normal((out, rank))
        made[name] = Lora(*(np.float32(0.3) * half.astype(np.float32) for half in (down, up)), alpha=2.0)
    return made


def batch_of(model: Model, step: int) -> Batch:
    clean, noise = (randomness.normal((2, 16, 8, 12), step, kind) for kind in ("clean", "noise"))
    with torch.no_grad():
        text = told(model, PROMPT, LONG)
    return Batch(clean, noise, torch.tensor([0.3, 0.8], dtype=torch.float64), Conditioning(text))


def test_two_steps_of_training_have_the_gradients_of_peft(model: Model, base: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    network = components(base)["transformer"].requires_grad_(False)
    weights = drawn(model, chosen(model, "all"))
    paths = {name: name.removeprefix("denoiser.") for name in weights}
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=2, target_modules=list(paths.values())), network)
    layers = {name: network.get_submodule(path) for name, path in paths.items()}
    their: dict[str, torch.nn.Parameter] = {}
    for name, layer in layers.items():
        their |= {f"{name}.down": layer.lora_A["default"].weight, f"{name}.up": layer.lora_B["default"].weight}
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(torch.from_numpy(weights[name].down))
            layer.lora_B["default"].weight.copy_(torch.from_numpy(weights[name].up))

    def their_loss(batch: Batch) -> Tensor:
        sigma = batch.sigma_B.float()
        wide = sigma.view(-1, 1, 1, 1)
        noisy = (1 - wide) * batch.clean_BCHW + wide * batch.noise_BCHW
        text = batch.conditioning.text
        assert text.mask_BL is not None
        captions = [tokens[mask] for tokens, mask in zip(text.tokens_BLD, text.mask_BL, strict=True)]
        said = network(list(noisy.unsqueeze(2)), 1 - sigma, captions, return_dict=False)[0]
        # what the network says goes from noise to picture
        return (torch.stack(said).squeeze(2) - (batch.clean_BCHW - batch.noise_BCHW)).square().mean()

    layers_of = [LayerSpec(name, one.rank, one.alpha) for name, one in weights.items()]
    with inject(model.trainable_parts, layers_of, seed=0) as injected:
        injected.load(weights)
        our = injected.named()
        assert set(our) == set(their)
        optimizers = [torch.optim.SGD(parameters.values(), lr=0.5) for parameters in (our, their)]
        for step in range(2):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss(model, batch_of(model, step)).backward()
            their_loss(batch_of(model, step)).backward()
            for name, parameter in our.items():
                assert parameter.grad is not None
                reference = their[name].grad
                assert reference is not None
                scale = max(float(reference.abs().max()), 1e-3)
                assert float((parameter.grad - reference).abs().max()) < 1e-5 * max(1.0, scale), (name, step)
            for optimizer in optimizers:
                optimizer.step()
        assert max(float(parameter.grad.abs().max()) for parameter in our.values() if parameter.grad is not None) > 1e-3


@pytest.fixture
def trained(model: Model, tmp_path: Path) -> Iterator[Path]:
    """A LoRA file after a few steps of our own training; alpha halves exactly, as diffusers folds it into fp16."""
    with inject(model.trainable_parts, [LayerSpec(name, 4, 2.0) for name in chosen(model, "all")], seed=1) as injected:
        optimizer = torch.optim.AdamW(injected.parameters(), lr=2e-2)
        for step in range(3):
            loss(model, batch_of(model, step)).backward()
            optimizer.step()
            optimizer.zero_grad()
        data = writing.to_bytes(AdapterFile(injected.weights()), keys=KEYS)
    path = tmp_path / "trained.safetensors"
    path.write_bytes(data)
    yield path
    merge(model.trainable_parts, model.pristine, [])


def test_a_lora_trained_here_gives_diffusers_the_latents_it_gives_us(
    base: Path, model: Model, noise_BCHW: Tensor, trained: Path
) -> None:
    adapter = formats.read(trained, keys=KEYS, layers=shapes(model.trainable_parts))
    own = pipeline_of(base)
    own.load_lora_weights(trained.parent, weight_name=trained.name, adapter_name="trained")
    with torch.no_grad():
        without = ours(model, noise_BCHW, 4)
        for strength in (1.0, 0.6):
            own.set_adapters("trained", strength)
            reference = theirs(own, noise_BCHW, 4)
            merge(model.trainable_parts, model.pristine, [Applied(adapter.layers, strength, strength)])
            mine = ours(model, noise_BCHW, 4)
            merge(model.trainable_parts, model.pristine, [])
            assert distance(mine, reference) < TOLERANCE
            assert distance(without, reference) > 100 * TOLERANCE


def _one_of_three(tensors: dict[str, tensorfile.RawTensor], stem: str) -> dict[str, tensorfile.RawTensor]:
    """Query, key and value as one layer of three times the rank, as musubi-tuner writes it for ComfyUI."""
    downs, ups = (
        [tensorfile.as_float32(tensors[f"{stem}to_{kind}.lora_{half}.weight"]) for kind in "qkv"] for half in "AB"
    )
    up = np.zeros((sum(len(one) for one in ups), sum(one.shape[1] for one in ups)), np.float32)
    for place, one in enumerate(ups):
        rows, columns = one.shape
        up[place * rows : (place + 1) * rows, place * columns : (place + 1) * columns] = one
    alpha = 3 * tensorfile.as_float32(tensors[f"{stem}to_q.alpha"])
    named = {"lora_A.weight": np.concatenate(downs), "lora_B.weight": up, "alpha": alpha}
    return {f"{stem}qkv.{end}": tensorfile.raw(np.asarray(one, np.float32)) for end, one in named.items()}


def test_adapter_files_of_other_programs_are_read(model: Model, tmp_path: Path) -> None:
    known = shapes(model.trainable_parts)
    weights = drawn(model, chosen(model, "all"))
    written = writing.to_bytes(AdapterFile(weights), keys=KEYS, precision="F32")
    (tmp_path / "ours.safetensors").write_bytes(written)
    tensors, _ = tensorfile.read(tmp_path / "ours.safetensors")
    assert "diffusion_model.layers.0.attention.to_q.lora_A.weight" in tensors
    assert "diffusion_model.layers.0.attention.to_q.alpha" in tensors

    def musubi(key: str) -> str:
        stem, half = key.removeprefix("diffusion_model.").rsplit(".lora_" if ".lora_" in key else ".alpha", 1)
        ends = {"A.weight": ".lora_down.weight", "B.weight": ".lora_up.weight", "": ".alpha"}
        return f"lora_unet_{stem.replace('.', '_')}{ends[half]}"

    others = {
        "musubi-tuner": musubi,
        "diffusers": lambda key: key.replace("diffusion_model.", "transformer."),
        "ComfyUI": lambda key: key.replace(".to_out.0.", ".out."),
    }
    for program, rename in others.items():
        path = tmp_path / f"{program}.safetensors"
        path.write_bytes(tensorfile.to_bytes({rename(key): tensor for key, tensor in tensors.items()}))
        found = formats.read(path, keys=KEYS, layers=known).layers
        assert set(found) == set(weights), program
        assert all(np.array_equal(found[name].delta(), weights[name].delta()) for name in weights), program

    fused = {key: tensor for key, tensor in tensors.items() if ".attention.to_" not in key or ".to_out." in key}
    for key in (key for key in tensors if key.endswith(".to_q.lora_A.weight")):
        fused |= _one_of_three(tensors, key.removesuffix("to_q.lora_A.weight"))
    (tmp_path / "fused.safetensors").write_bytes(tensorfile.to_bytes(fused))
    found = formats.read(tmp_path / "fused.safetensors", keys=KEYS, layers=known).layers
    assert set(found) == set(weights)
    assert all(np.allclose(found[name].delta(), weights[name].delta(), atol=1e-6) for name in weights)

    bare = {key: tensor for key, tensor in tensors.items() if not key.endswith(".alpha")}
    (tmp_path / "ai-toolkit.safetensors").write_bytes(tensorfile.to_bytes(bare))
    found = formats.read(tmp_path / "ai-toolkit.safetensors", keys=KEYS, layers=known).layers
    assert all(layer.scale == 1 for layer in found.values()), "without alpha the halves are the change itself"

    (tmp_path / "sd.safetensors").write_bytes(
        tensorfile.to_bytes({"lora_unet_mid_block_attentions_0_proj_in.alpha": np.ones((), np.float32)})
    )
    with pytest.raises(AdapterError, match=r"for SD 1\.5, the base is Z-Image"):
        formats.read(tmp_path / "sd.safetensors", keys=KEYS, layers=known)
