"""The names that Stable Diffusion's authors gave its UNet and autoencoder, for the names of diffusers.

    denoiser    input_blocks.1.1.transformer_blocks.0...     down_blocks.0.attentions.0.transformer_blocks.0...
    vae         encoder.down.0.block.1.nin_shortcut          encoder.down_blocks.0.resnets.1.conv_shortcut

The original counts blocks through all levels, so a name depends on how many layers a level has; both numbers
are read off the names themselves, and every size of the architecture is renamed by the same rules. SDXL's
UNet has the same names; FLUX.1's and Z-Image's autoencoders have those of Stable Diffusion's.

Source: the modules of https://github.com/CompVis/stable-diffusion (openaimodel.py, diffusionmodules/model.py) and
https://github.com/Stability-AI/generative-models (label_emb); ControlNets: https://github.com/lllyasviel/ControlNet
(cldm/cldm.py).
"""

from __future__ import annotations

from collections.abc import Collection

from velatura.errors import ModelError
from velatura.weights.layouts import Place

UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}

VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}

OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers called an autoencoder's attention until 2023; the folders of Stable Diffusion 1.5 still do."""


def unet(names: Collection[str]) -> dict[str, Place]:
    """Where each tensor of a UNet lies in the original layout.

    Args:
        names: all names of the network's tensors, as diffusers calls them.

    Raises:
        ModelError: a tensor has no name in the original layout.
    """
    layers = len(_seen(names, "down_blocks.0.resnets."))
    attended = {level for level in _seen(names, "up_blocks.") if _seen(names, f"up_blocks.{level}.attentions.")}
    places = {}
    for name in names:
        path, _, kind = name.rpartition(".")
        places[name] = Place(f"{_known(_unet(path, layers, attended), name)}.{kind}")
    return places


def controlnet(names: Collection[str]) -> dict[str, Place]:
    """Where each tensor of a ControlNet of such a UNet lies in the layout of its authors.

    Args:
        names: all names of the network's tensors, as diffusers calls them.

    Raises:
        ModelError: a tensor has no name there.
    """
    layers = len(_seen(names, "down_blocks.0.resnets."))
    places = {}
    for name in names:
        path, _, kind = name.rpartition(".")
        places[name] = Place(f"{_known(_controlnet(path, layers), name)}.{kind}")
    return places


def layers(paths: Collection[str]) -> dict[str, str]:
    """What the authors call a UNet's layers; those without a name in the original layout are left out.

    Args:
        paths: all layers of the UNet, as diffusers calls them.
    """
    depth = len(_seen(paths, "down_blocks.0.resnets."))
    attended = {level for level in _seen(paths, "up_blocks.") if _seen(paths, f"up_blocks.{level}.attentions.")}
    found = {path: _unet(path, depth, attended) for path in paths}
    return {path: original for path, original in found.items() if original is not None}


def autoencoder(names: Collection[str]) -> dict[str, Place]:
    """Where each tensor of an AutoencoderKL lies in the original layout.

    Args:
        names: all names of the network's tensors, as diffusers calls them, in any version.

    Raises:
        ModelError: a tensor has no name in the original layout.
    """
    levels = len(_seen(names, "decoder.up_blocks."))
    places = {}
    for name in names:
        path, _, kind = name.rpartition(".")
        found = _known(_autoencoder(path, levels), name)
        pointwise = ".attn_1." in found and not found.endswith(".norm") and kind == "weight"
        places[name] = Place(f"{found}.{kind}", pointwise)
    return places


def current_autoencoder(keys: Collection[str]) -> dict[str, Place]:
    """Where each tensor of an AutoencoderKL lies in a diffusers folder of any year: present name -> key."""
    places = {}
    for key in keys:
        parent, found, rest = key.rpartition(".attentions.0.")
        layer, _, kind = rest.partition(".")
        name = f"{parent}{found}{OLD_VAE_ATTENTION[layer]}.{kind}" if found and layer in OLD_VAE_ATTENTION else key
        places[name] = Place(key)
    return places


def _known(found: str | None, name: str) -> str:
    if found is None:
        raise ModelError(f"{name} has no name in the layout of single files", fix="use this base as a diffusers folder")
    return found


def _seen(names: Collection[str], before: str) -> set[str]:
    """The numbers that stand behind this beginning."""
    return {name.removeprefix(before).partition(".")[0] for name in names if name.startswith(before)}


def _unet(path: str, layers: int, attended: set[str]) -> str | None:
    """Args: `layers` of a level, the upsampler's extra one not counted; `attended`, up blocks with attention."""
    rows = layers + 1
    match path.split("."):
        case ["down_blocks", level, "downsamplers", "0", "conv"]:
            return f"input_blocks.{(int(level) + 1) * rows}.0.op"
        case ["up_blocks", level, "upsamplers", "0", "conv"]:
            return f"output_blocks.{(int(level) + 1) * rows - 1}.{2 if level in attended else 1}.conv"
        case ["down_blocks", level, "resnets", layer, inner] if inner in RESNET:
            return f"input_blocks.{1 + int(level) * rows + int(layer)}.0.{RESNET[inner]}"
        case ["down_blocks", level, "attentions", layer, *inside]:
            return f"input_blocks.{1 + int(level) * rows + int(layer)}.1.{'.'.join(inside)}"
        case ["up_blocks", level, "resnets", layer, inner] if inner in RESNET:
            return f"output_blocks.{int(level) * rows + int(layer)}.0.{RESNET[inner]}"
        case ["up_blocks", level, "attentions", layer, *inside]:
            return f"output_blocks.{int(level) * rows + int(layer)}.1.{'.'.join(inside)}"
        case ["mid_block", "resnets", layer, inner] if inner in RESNET:
            return f"middle_block.{2 * int(layer)}.{RESNET[inner]}"
        case ["mid_block", "attentions", layer, *inside]:
            return f"middle_block.{2 * int(layer) + 1}.{'.'.join(inside)}"
    return UNET_ENDS.get(path)


def _controlnet(path: str, layers: int) -> str | None:
    match path.split("."):
        case ["controlnet_cond_embedding", "conv_in"]:
            return "input_hint_block.0"
        case ["controlnet_cond_embedding", "blocks", place]:  # activations are counted too
            return f"input_hint_block.{2 * int(place) + 2}"
        case ["controlnet_cond_embedding", "conv_out"]:
            return "input_hint_block.14"
        case ["controlnet_down_blocks", place]:
            return f"zero_convs.{place}.0"
        case ["controlnet_mid_block"]:
            return "middle_block_out.0"
    return _unet(path, layers, set())


def _autoencoder(path: str, levels: int) -> str | None:
    """Args: `levels` of the decoder, which the original counts from the picture and diffusers from the latents."""
    match path.split("."):
        case ["encoder", "down_blocks", level, "downsamplers", "0", "conv"]:
            return f"encoder.down.{level}.downsample.conv"
        case ["decoder", "up_blocks", level, "upsamplers", "0", "conv"]:
            return f"decoder.up.{levels - 1 - int(level)}.upsample.conv"
        case ["encoder", "down_blocks", level, "resnets", layer, inner]:
            return f"encoder.down.{level}.block.{layer}.{_shortcut(inner)}"
        case ["decoder", "up_blocks", level, "resnets", layer, inner]:
            return f"decoder.up.{levels - 1 - int(level)}.block.{layer}.{_shortcut(inner)}"
        case [("encoder" | "decoder") as side, "mid_block", "resnets", layer, inner]:
            return f"{side}.mid.block_{int(layer) + 1}.{_shortcut(inner)}"
        case [("encoder" | "decoder") as side, "mid_block", "attentions", "0", *inside]:
            inner = ".".join(inside)
            known = VAE_ATTENTION.get(OLD_VAE_ATTENTION.get(inner, inner))
            return None if known is None else f"{side}.mid.attn_1.{known}"
        case [("encoder" | "decoder") as side, ("conv_in" | "conv_norm_out" | "conv_out") as end]:
            return f"{side}.{end.removeprefix('conv_') if end == 'conv_norm_out' else end}"
        case [("quant_conv" | "post_quant_conv") as end]:
            return end
    return None


def _shortcut(inner: str) -> str:
    return "nin_shortcut" if inner == "conv_shortcut" else inner
