"""A tiny base of Stable Diffusion 1's architecture, every parameter redrawn, and adapters for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from velatura import randomness
from velatura.adapters import layers, targets
from velatura.adapters.lora import LayerSpec
from velatura.adapters.weights import Lora

Parts = dict[str, nn.Module]
Run = Callable[[Mapping[str, nn.Module]], Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _redraw(module: nn.Module, part: str) -> None:
    """No zeros, no ones: a norm that is never applied must show."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            drawn = randomness.normal(tuple(parameter.shape), 5, part, name)
            if parameter.dim() > 1:
                parameter.copy_(drawn / np.sqrt(parameter[0].numel()))
            else:
                parameter.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.2 * drawn)


@pytest.fixture
def parts() -> Parts:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 24),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=2,
        cross_attention_dim=20,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=99,
            hidden_size=20,
            intermediate_size=28,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=7,
            bos_token_id=97,
            eos_token_id=98,
            pad_token_id=98,
        )
    )
    made: Parts = {"denoiser": unet.eval().requires_grad_(False), "text_encoder": text.eval().requires_grad_(False)}
    for part, module in made.items():
        _redraw(module, part)
    return made


@pytest.fixture
def run() -> Run:
    """What the denoiser predicts for two captions of different length, text encoder included."""
    ids = torch.tensor([[97, 3, 14, 15, 9, 98, 98], [97, 26, 98, 98, 98, 98, 98]])
    latents_BCHW = randomness.normal((2, 4, 8, 6), 1, "latents")

    def predict(parts: Mapping[str, nn.Module]) -> Tensor:
        dtype = next(parts["denoiser"].parameters()).dtype
        text_BLD = parts["text_encoder"](ids)[0].to(dtype)
        timesteps_B = torch.tensor([640, 31])
        predicted: Tensor = parts["denoiser"](latents_BCHW.to(dtype), timesteps_B, encoder_hidden_states=text_BLD)[0]
        return predicted

    return predict


@pytest.fixture
def specs() -> Callable[..., list[LayerSpec]]:
    """How to adapt the layers of some targets: rank 3, alpha unlike it."""

    def make(parts: Parts, chosen: Sequence[str] = ("all", "text")) -> list[LayerSpec]:
        return [LayerSpec(name, rank=3, alpha=2.0) for name in targets.select(chosen, layers.find(parts))]

    return make


@pytest.fixture
def drawn() -> Callable[..., dict[str, Lora]]:
    """An adapter with nothing zero in it."""

    def make(parts: Parts, chosen: Sequence[str] = ("all", "text"), seed: int = 0) -> dict[str, Lora]:
        shapes = layers.shapes(parts)
        made = {}
        for name in targets.select(chosen, shapes):
            out, *rest = shapes[name]
            down = 0.3 * randomness.generator(seed, "down", name).standard_normal((3, *rest), dtype=np.float32)
            up_shape = (out, 3, 1, 1) if len(rest) > 1 else (out, 3)
            up = 0.3 * randomness.generator(seed, "up", name).standard_normal(up_shape, dtype=np.float32)
            made[name] = Lora(down.astype(np.float32), up.astype(np.float32), alpha=2.0)
        return made

    return make


@pytest.fixture
def distance() -> Callable[[Tensor, Tensor], float]:
    """The largest difference, as a share of max(1, root mean square)."""

    def measure(a: Tensor, b: Tensor) -> float:
        a, b = a.detach(), b.detach()
        return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))

    return measure
