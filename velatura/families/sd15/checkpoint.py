"""A base as one safetensors file in the original layout, as Stable Diffusion's authors published it.

Tensors stay mapped: renaming costs nothing, and the only ones of another shape, the autoencoder's
attention, are views.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from velatura.errors import ModelError
from velatura.families.sd15.configuration import CONFIG, UNET
from velatura.families.sd15.keys import PREFIXES, original_names
from velatura.settings import WEIGHT_ENDINGS
from velatura.tensorfile import Header, read_header
from velatura.weights.source import mapped

if TYPE_CHECKING:
    from torch import Tensor

CONTEXT = ".attn2.to_k.weight"
"""Ends the key of a weight that is (features, features of the text)."""

OF_OTHERS = ("conditioner.", "model.diffusion_model.label_emb.", "cond_stage_model.model.")
"""How keys begin in the single files of SDXL and of Stable Diffusion 2."""

BALLAST = ("position_ids", "text_projection", "text_projection.weight", "logit_scale")
"""How keys of the text encoder end that CLIP has and Stable Diffusion does not use."""

NAMES = {"denoiser": "denoiser (UNet)", "vae": "autoencoder (VAE)", "text_encoder": "text encoder (CLIP)"}


def recognise(path: Path) -> bool:
    """Whether this is a Stable Diffusion 1.x checkpoint, complete or not, from its header alone.

    Raises:
        FileProblem: it is named as a safetensors file and is none, or it is cut off.
    """
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return False
    header = read_header(path)
    if any(key.startswith(OF_OTHERS) for key in header.entries):
        return False
    widths = {
        entry.shape[1]
        for key, entry in header.entries.items()
        if key.startswith(PREFIXES["denoiser"]) and key.endswith(CONTEXT) and len(entry.shape) == 2
    }
    return len(widths) == 1 and (CONFIG in header.metadata or widths == {UNET["cross_attention_dim"]})


def check_complete(header: Header, where: Path) -> None:
    """Refuse a file that holds only some of the parts.

    Raises:
        ModelError: one is missing.
    """
    for part, prefix in PREFIXES.items():
        if not any(key.startswith(prefix) for key in header.entries):
            raise ModelError(
                f"this checkpoint holds no {NAMES[part]}", where=where, fix="use one that has all three parts"
            )


def weights(path: Path, networks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Each part's tensors under the names of its network, mapped from the file.

    What belongs to a part and has no place in its network keeps its own name; anything else in the file, such
    as averaged weights under `model_ema.`, is passed over.

    Args:
        networks: part -> its tensors, of which names and shapes are read.
    """
    held = mapped(path)
    found: dict[str, dict[str, Tensor]] = {}
    for part, own in networks.items():
        mine = {_full(key): tensor for key, tensor in held.items() if key.startswith(PREFIXES[part])}
        if part == "text_encoder":
            mine = {key: tensor for key, tensor in mine.items() if not key.endswith(BALLAST)}
        named: dict[str, Tensor] = {}
        for name, place in original_names(part, own).items():
            if place.key in mine:
                tensor = mine.pop(place.key)
                flat = place.pointwise and tensor.shape[2:] == (1,) * (tensor.dim() - 2)
                named[name] = tensor.flatten(1) if flat else tensor
        found[part] = named | mine
    return found


def _full(key: str) -> str:
    """Some merged files lack `text_model.`."""
    before = f"{PREFIXES['text_encoder']}transformer."
    if key.startswith((f"{before}encoder.", f"{before}embeddings.", f"{before}final_layer_norm.")):
        return f"{before}text_model.{key.removeprefix(before)}"
    return key
