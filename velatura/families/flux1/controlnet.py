"""ControlNets for FLUX.1, by their settings or headers alone. No torch.

    diffusers   controlnet_x_embedder, transformer_blocks...; a union also has controlnet_mode_embedder
    XLabs       input_hint_block, pos_embed_input, double_blocks...: the names of FLUX.1's authors

Sources: diffusers' FluxControlNetModel; https://github.com/XLabs-AI/x-flux (controlnet.py); the kinds of hints and
their order, https://huggingface.co/InstantX/FLUX.1-dev-Controlnet-Union.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from velatura.controlnets import ControlFiles, counted, in_folder, prefix_of, settings_in, shape_of
from velatura.errors import ModelError
from velatura.families.flux1.layout import transformer
from velatura.settings import WEIGHT_ENDINGS
from velatura.weights.containers import read_header
from velatura.weights.layouts import Place
from velatura.weights.parts import PartFiles

NETWORK = "FluxControlNetModel"

KINDS = ("canny", "tile", "depth", "blur", "pose", "gray", "lq")
"""Of hints, as unions number them."""


def recognise(path: Path) -> ControlFiles | None:
    """The ControlNet, or None where this is something else.

    Raises:
        ModelError: it is for inpainting.
        FileProblem: it is cut off or damaged.
    """
    if path.is_dir():
        told = settings_in(path, NETWORK)
        if told is None:
            return None
        if told.get("extra_condition_channels"):
            raise _inpainting(path)
        kinds = _kinds(told.get("num_mode") or 0)
        return ControlFiles("flux1", NETWORK, path, in_folder(path), told, kinds)
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return None
    header = read_header(path)
    before = prefix_of(header, "controlnet_x_embedder.weight")
    if before is not None:
        taken = shape_of(header, f"{before}x_embedder.weight")
        if shape_of(header, f"{before}controlnet_x_embedder.weight") != taken:
            raise _inpainting(path)
        modes = shape_of(header, f"{before}controlnet_mode_embedder.weight")
        told = {
            "num_layers": counted(header, f"{before}transformer_blocks."),
            "num_single_layers": counted(header, f"{before}single_transformer_blocks."),
            "guidance_embeds": f"{before}time_text_embed.guidance_embedder.linear_1.weight" in header.entries,
            "num_mode": modes[0] if modes else None,
        }
        lies = PartFiles((path,), before)
        return ControlFiles("flux1", NETWORK, path, lies, told, _kinds(modes[0] if modes else 0))
    before = prefix_of(header, "pos_embed_input.weight")
    if before is None or f"{before}input_hint_block.14.weight" not in header.entries:
        return None
    told = {
        "num_layers": counted(header, f"{before}double_blocks."),
        "num_single_layers": counted(header, f"{before}single_blocks."),
        "guidance_embeds": f"{before}guidance_in.in_layer.weight" in header.entries,
        "conditioning_embedding_channels": shape_of(header, f"{before}input_hint_block.14.weight")[0],
        "patch_size": 2,
    }
    return ControlFiles("flux1", NETWORK, path, PartFiles((path,), before, "original"), told)


def places(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Place]:
    """Where each tensor of the network lies in XLabs' layout.

    Args:
        shapes: of all tensors of the network, as diffusers calls them.

    Raises:
        ModelError: a tensor has no name there.
    """
    found = {}
    for name in shapes:
        beginning, _, rest = name.partition(".")
        if beginning == "input_hint_block":
            found[name] = Place(f"input_hint_block.{_convolution(rest)}.{rest.rpartition('.')[2]}")
        elif beginning == "controlnet_x_embedder":
            found[name] = Place(f"pos_embed_input.{rest}")
        elif beginning == "controlnet_blocks":
            found[name] = Place(name)
    return {**found, **transformer({name: shape for name, shape in shapes.items() if name not in found})}


def _convolution(name: str) -> int:
    """Its number there, where activations are counted too."""
    path = name.rpartition(".")[0]
    return {"conv_in": 0, "conv_out": 14}.get(path) or (2 * int(path.rpartition(".")[2]) + 2 if "." in path else 0)


def _kinds(count: int) -> tuple[str, ...]:
    return tuple(KINDS[place] if place < len(KINDS) else str(place) for place in range(count))


def _inpainting(path: Path) -> ModelError:
    return ModelError(
        "this ControlNet for FLUX.1 is for inpainting, and takes the picture and a mask besides a hint",
        where=path,
        fix="use another",
    )
