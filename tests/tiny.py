"""Tiny bases with random weights: everything of the real ones but their size, so that a test takes milliseconds.

No parameter is zero or one (a layer that is left out must show), there are two blocks of each kind, and the
autoencoder shifts its latents.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from velatura.pocket import tokenizer

if TYPE_CHECKING:
    from velatura.family import Model

SIDE = 64
"""Pixels of the square that the tiny bases are made for."""

CAPTIONS = ("a red boat on the sea, yellow sun", "a black cat in the snow at night", "a house")

UNET: dict[str, Any] = {
    "sample_size": SIDE // 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 8, 16, 16),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}

VAE: dict[str, Any] = {
    "sample_size": SIDE,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.7,
    "shift_factor": 0.15,
}

FLUX_VAE: dict[str, Any] = {**VAE, "use_quant_conv": False, "use_post_quant_conv": False}
"""That of FLUX.1 and, with more channels, of Z-Image."""

TEXT: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 77,
    "bos_token_id": 1022,
    "eos_token_id": 1023,
    "pad_token_id": 1023,
}

SCHEDULER: dict[str, Any] = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}

PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
}


def sd15(folder: Path, *, seed: int = 5, **scheduler: Any) -> Path:
    """A Stable Diffusion 1.x base as a diffusers folder, its scheduler's settings changed as told."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    networks = {
        "unet": UNet2DConditionModel(**UNET),
        "vae": AutoencoderKL(**VAE),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
    }
    for part, network in networks.items():
        redraw(network, seed, part)
        network.save_pretrained(folder / part)
    tokenizer.learn(CAPTIONS, folder / "tokenizer")
    write_json(folder / "scheduler" / "scheduler_config.json", {**SCHEDULER, **scheduler})
    write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline", **PARTS})
    return folder


BASES: dict[str, Callable[[Path], Path]] = {
    "sd15": sd15,
    "sdxl": lambda folder: importlib.import_module("tests.tiny_sdxl").sdxl(folder),
    "flux1": lambda folder: importlib.import_module("tests.tiny_flux1").flux1(folder),
    "z_image": lambda folder: importlib.import_module("tests.tiny_z_image").z_image(folder),
}
"""Name of a family -> what writes a tiny base of it."""


INPAINTING: dict[str, tuple[str, str, int]] = {
    "sd15": ("unet", "conv_in.weight", 9),
    "sdxl": ("unet", "conv_in.weight", 9),
    "flux1": ("transformer", "x_embedder.weight", 2 * 16 + 4 * 64),
}
"""Family -> the folder of its denoiser, the layer that takes latents in, how many channels an inpainting base has."""


def inpainting(family: str, folder: Path) -> Path:
    """An inpainting base of a family: the tiny one, and more channels in."""
    from velatura import randomness, tensorfile

    base = BASES[family](folder)
    part, layer, channels = INPAINTING[family]
    config = json.loads((base / part / "config.json").read_text(encoding="utf-8"))
    taken = {"in_channels": channels, "out_channels": config.get("out_channels") or config["in_channels"]}
    write_json(base / part / "config.json", {**config, **taken})
    path = base / part / "diffusion_pytorch_model.safetensors"
    tensors, metadata = tensorfile.read(path)
    first = tensors[layer].shape
    shape = first[0], channels, *first[2:]
    drawn = randomness.normal(shape, 8, family, layer) / math.sqrt(math.prod(shape[1:]))
    path.write_bytes(tensorfile.to_bytes({**tensors, layer: tensorfile.raw(drawn.numpy())}, metadata))
    return base


def redraw(network: Any, seed: int, part: str) -> None:
    """No zeros, no ones: weights that keep the size of what passes through, norms and biases about 0.2 off."""
    import torch

    from velatura import randomness

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            drawn = randomness.normal(tuple(parameter.shape), seed, part, name)
            if parameter.dim() > 1:
                parameter.copy_(drawn / math.sqrt(parameter[0].numel()))
            else:
                parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.2 * drawn)


def write_json(path: Path, value: Any) -> None:
    """A settings file, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 1.x, written once; copy it before changing anything."""
    folder = tmp_path_factory.getbasetemp() / "tiny-sd15"
    return folder if folder.exists() else sd15(folder)


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    """The tiny base, loaded; a test leaves it as it was."""
    import torch

    from velatura.family import load_base

    torch.set_num_threads(1)
    return load_base(base)


def at(batches: Any, step: int) -> Any:
    """The batch of a step that has one micro-batch."""
    (batch,) = batches.of(step)
    return batch


SETTINGS = (
    "adapter.rank=3",
    "adapter.alpha=2",
    "train.steps=12",
    "train.batch=2",
    "train.learning_rate=1e-2",
    "train.threads=1",
    "checkpoints.every=3",
    "validation.strata=2",
    "validation.paintings=4",
    "samples.count=1",
    "samples.sampling_steps=2",
)
"""Of a training that takes a second or two."""


def project(folder: Path, base: Path, *settings: str, pictures: int = 7) -> Path:
    """A project with drawn pictures of several shapes and a recipe for the tiny base."""
    from velatura.recipe import build, to_toml

    for number in range(pictures):
        size = ((64, 64), (96, 48), (64, 64), (48, 90))[number % 4]
        picture(folder / "dataset" / f"{number}.png", size, number)
        caption = f"a {('red', 'blue', 'green')[number % 3]} boat, {number} clouds"
        (folder / "dataset" / f"{number}.txt").write_text(caption, encoding="utf-8")
    told = build({"base": {"model": str(base)}}, [*SETTINGS, *settings])
    (folder / "recipe.toml").write_text(to_toml(told), encoding="utf-8")
    return folder


def picture(path: Path, size: tuple[int, int], seed: int, **saving: Any) -> None:
    """A picture unlike any other: coarse colours, scaled up."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **saving)
