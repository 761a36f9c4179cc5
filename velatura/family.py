"""What training and generation need to know of a family of base models.

Everything else is written once. Training and generation call the same `predict`, so they cannot
disagree. Shared code never asks which family it has.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from velatura.adapters.formats import KeyMap
from velatura.bases import FAMILIES, Variant, recognise
from velatura.diffusion.objective import Objective
from velatura.text.weighted import WeightedText

if TYPE_CHECKING:
    from velatura.text.clip_tokens import ClipTokenizer


@dataclass(frozen=True)
class TextConditioning:
    """Encoded prompts: a function of the text alone, so it can be cached and indexed."""

    tokens_BLD: Tensor
    pooled_BD: Tensor | None = None

    def __len__(self) -> int:
        """How many prompts."""
        return len(self.tokens_BLD)

    def pick(self, index: Tensor | Sequence[int]) -> TextConditioning:
        """Some of the prompts, in the order given."""
        at = torch.as_tensor(index, device=self.tokens_BLD.device)
        return TextConditioning(self.tokens_BLD[at], None if self.pooled_BD is None else self.pooled_BD[at])

    def to(self, device: torch.device | str) -> TextConditioning:
        """The same on another device."""
        pooled = None if self.pooled_BD is None else self.pooled_BD.to(device)
        return TextConditioning(self.tokens_BLD.to(device), pooled)


@dataclass(frozen=True)
class Geometry:
    """The picture's history, for families that are told it: sizes and crop in pixels, height first."""

    original_B2: Tensor
    crop_top_left_B2: Tensor
    target_B2: Tensor


@dataclass(frozen=True)
class Conditioning:
    """Everything that a prediction depends on besides the noisy latents and their noise level."""

    text: TextConditioning
    geometry: Geometry | None = None
    guidance_B: Tensor | None = None
    """Distilled guidance, for families that take it."""
    extra_latents_BCHW: Tensor | None = None
    """Further input channels: the mask and masked picture of an inpainting base."""
    controls: tuple[Any, ...] = ()


@dataclass(frozen=True)
class MemoryPolicy:
    """Where and in which precision a model lives."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    """Of denoiser and text encoders."""
    vae_dtype: torch.dtype = torch.float32


@dataclass
class Model:
    """A loaded base: the facts of this checkpoint, and its networks."""

    family: ModelFamily
    variant: Variant
    name: str
    hash: str
    """sha256 over the base's weights, hex; of a single file, the file's own."""
    objective: Objective
    parts: dict[str, nn.Module]
    """"denoiser", "text_encoder"..., "vae"."""
    pristine: Mapping[str, Tensor]
    """Layer name + ".weight" -> the weight as the file holds it."""
    tokenizers: tuple[ClipTokenizer, ...]
    resolution: int
    """Side of the square that the base was made for, in pixels."""
    latent_channels: int
    latent_factor: int = 8
    """Pixels per latent, in each direction."""
    latent_scale: float = 1.0
    latent_shift: float = 0.0
    guidance: Literal["cfg", "distilled", "none"] = "cfg"
    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    clip_skip: int = 1
    """Which hidden layer of the text encoder is read, counted from the last."""

    @property
    def trainable_parts(self) -> dict[str, nn.Module]:
        """The parts that an adapter may change."""
        return {name: part for name, part in self.parts.items() if name != "vae"}

    def freeze(self) -> None:
        """Nothing of the base is trained; layers behave as when painting."""
        for part in self.parts.values():
            part.requires_grad_(False)
            part.eval()


class ModelFamily(Protocol):
    """One family of base models."""

    name: str
    keys: KeyMap
    """How its layers are called in adapter files."""
    targets: Mapping[str, tuple[str, ...]]
    """Preset -> patterns of layer names."""

    def load(self, source: Path, *, policy: MemoryPolicy) -> Model:
        """The base, ready to predict."""

    def encode_images(self, model: Model, images_BCHW: Tensor) -> Tensor:
        """Latents of pictures in [-1, 1]: the posterior's mean, scaled as the denoiser takes it."""

    def decode_latents(self, model: Model, latents_BCHW: Tensor) -> Tensor:
        """Pictures in [-1, 1], not clipped."""

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """Encoded prompts, padded to one length."""

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """What the denoiser says of noisy latents in sigma space: the kind of the model's objective."""


def family(name: str) -> ModelFamily:
    """A family by its name in `bases.FAMILIES`."""
    found: ModelFamily = importlib.import_module(f"{FAMILIES[name]}.model").FAMILY
    return found


def load_base(source: Path, *, policy: MemoryPolicy | None = None) -> Model:
    """Recognise a base and load it.

    Raises:
        ModelError: no family knows it, or it is damaged.
    """
    return family(recognise(source).family).load(source, policy=policy or MemoryPolicy())


def stack_prompts(prompts: Sequence[TextConditioning], empty: TextConditioning) -> TextConditioning:
    """One batch of several encoded prompts; shorter ones are filled up with the empty prompt's chunk, as in A1111."""
    longest = max(prompt.tokens_BLD.shape[1] for prompt in prompts)
    tokens = torch.cat([_filled(prompt.tokens_BLD, longest, empty.tokens_BLD) for prompt in prompts])
    pooled = [prompt.pooled_BD for prompt in prompts if prompt.pooled_BD is not None]
    return TextConditioning(tokens, torch.cat(pooled) if pooled else None)


def _filled(tokens_BLD: Tensor, length: int, empty_1LD: Tensor) -> Tensor:
    missing = (length - tokens_BLD.shape[1]) // empty_1LD.shape[1]
    if missing == 0:
        return tokens_BLD
    return torch.cat([tokens_BLD, empty_1LD.expand(len(tokens_BLD), -1, -1).repeat(1, missing, 1)], dim=1)
