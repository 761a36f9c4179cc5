"""The original names against diffusers' own conversion: every tensor must arrive where diffusers puts it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tiny
from velatura.errors import ModelError
from velatura.families.flux1 import configuration as flux1
from velatura.families.sd15 import configuration
from velatura.families.sd15.save import PREFIXES
from velatura.families.z_image import configuration as z_image
from velatura.pocket import architecture
from velatura.weights.layouts import Place, qwen, stable_diffusion, t5

UNETS = {"published": configuration.UNET, "pocket": architecture.DENOISER, "tiny": tiny.UNET}
VAES = {"published": configuration.VAE, "pocket": architecture.AUTOENCODER, "tiny": tiny.VAE}
TEXTS = {"published": configuration.TEXT_ENCODER, "pocket": architecture.TEXT_ENCODER, "tiny": tiny.TEXT}


def own(network: Any, config: dict[str, Any]) -> dict[str, Tensor]:
    """Names and shapes of a network that takes no memory."""
    with torch.device("meta"):
        settings = {key: value for key, value in config.items() if not key.startswith("_")}
        return dict(network(**settings).state_dict())


def original_names(part: str, names: Collection[str]) -> dict[str, Place]:
    """Names in a whole single file, the part's prefix included."""
    if part == "text_encoder":
        places = {name: Place(f"text_model.{name.removeprefix('text_model.')}") for name in names}
    else:
        places = stable_diffusion.unet(names) if part == "denoiser" else stable_diffusion.autoencoder(names)
    return {name: place._replace(key=PREFIXES[part] + place.key) for name, place in places.items()}


def numbered(part: str, names: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """A single file in which every tensor is filled with a number of its own, and the number of each name."""
    file, numbers = {}, {}
    for number, (name, place) in enumerate(original_names(part, names).items()):
        shape = (*names[name].shape, 1, 1) if place.pointwise else names[name].shape
        file[place.key] = torch.tensor(float(number)).expand(shape)
        numbers[name] = float(number)
    assert len(file) == len(names)
    return file, numbers


def check(converted: dict[str, Tensor], names: dict[str, Tensor], numbers: dict[str, float]) -> None:
    assert set(converted) == set(names)
    for name, tensor in converted.items():
        assert tensor.shape == names[name].shape, name
        assert float(tensor.flatten()[0]) == numbers[name], name


@pytest.mark.parametrize("size", list(UNETS))
def test_the_denoiser_is_named_as_diffusers_converts_it(size: str) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    names = own(UNet2DConditionModel, UNETS[size])
    file, numbers = numbered("denoiser", names)
    check(convert_ldm_unet_checkpoint(file, UNETS[size]), names, numbers)


@pytest.mark.parametrize("size", list(VAES))
def test_the_autoencoder_is_named_as_diffusers_converts_it(size: str) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    names = own(AutoencoderKL, VAES[size])
    file, numbers = numbered("vae", names)
    check(convert_ldm_vae_checkpoint(file, VAES[size]), names, numbers)


@pytest.mark.parametrize("size", list(TEXTS))
def test_the_text_encoder_is_named_as_diffusers_converts_it(size: str) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    with torch.device("meta"):
        names = dict(CLIPTextModel(CLIPTextConfig(**TEXTS[size])).state_dict())
    file, numbers = numbered("text_encoder", names)
    converted = convert_ldm_clip_checkpoint(file)
    assert all(name.startswith("text_model.") for name in converted)  # as files have it; newer networks do not
    check({_as(name, names): tensor for name, tensor in converted.items()}, names, numbers)


def _as(name: str, names: dict[str, Tensor]) -> str:
    return name if name in names else name.removeprefix("text_model.")


def test_well_known_names_of_the_published_checkpoint() -> None:
    """Written down by hand, so that one mistake in both programs would show."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet = original_names("denoiser", own(UNet2DConditionModel, configuration.UNET))
    vae = original_names("vae", own(AutoencoderKL, configuration.VAE))
    known = {
        "up_blocks.1.upsamplers.0.conv.weight": "model.diffusion_model.output_blocks.5.2.conv.weight",
        "up_blocks.0.upsamplers.0.conv.weight": "model.diffusion_model.output_blocks.2.1.conv.weight",
        "down_blocks.2.attentions.1.proj_in.weight": "model.diffusion_model.input_blocks.8.1.proj_in.weight",
        "mid_block.resnets.1.time_emb_proj.bias": "model.diffusion_model.middle_block.2.emb_layers.1.bias",
    }
    assert {name: unet[name].key for name in known} == known
    assert (
        vae["decoder.up_blocks.0.resnets.2.conv1.weight"].key == "first_stage_model.decoder.up.3.block.2.conv1.weight"
    )
    assert vae["encoder.mid_block.attentions.0.to_out.0.weight"] == Place(
        "first_stage_model.encoder.mid.attn_1.proj_out.weight", pointwise=True
    )
    assert not vae["encoder.mid_block.attentions.0.to_out.0.bias"].pointwise
    assert not vae["encoder.mid_block.attentions.0.group_norm.weight"].pointwise
    assert len(unet) == 686
    assert len(vae) == 248


def test_names_of_2022_and_of_today_mean_the_same_place() -> None:
    for part, old, new in (
        ("vae", "decoder.mid_block.attentions.0.query.weight", "decoder.mid_block.attentions.0.to_q.weight"),
        ("text_encoder", "text_model.final_layer_norm.bias", "final_layer_norm.bias"),
    ):
        assert original_names(part, [old])[old] == original_names(part, [new])[new]


def test_a_tensor_without_an_original_name_is_refused() -> None:
    for part, name in (("denoiser", "class_embedding.weight"), ("vae", "encoder.layers.0.weight")):
        with pytest.raises(ModelError, match="has no name"):
            original_names(part, [name])


def test_text_encoders_in_gguf_are_named_as_llama_cpp_names_them() -> None:
    gguf = pytest.importorskip("gguf")
    from velatura.weights.networks import build

    here = Path()
    encoder = build("T5EncoderModel", flux1.TEXT_ENCODER_2, here).state_dict()
    theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, 24)
    for name, place in t5.llama_cpp(encoder).items():
        meant = "shared.weight" if name == "encoder.embed_tokens.weight" else name
        assert place.key == theirs.get_name(meant, try_suffixes=(".weight",)), name
    body = build("Qwen3Model", z_image.TEXT_ENCODER, here).state_dict()
    theirs = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 36)
    for name, place in qwen.llama_cpp(body).items():
        assert place.key == theirs.get_name(f"model.{name}", try_suffixes=(".weight",)), name
    for layout, stranger in ((t5, "decoder.block.0.layer.0.layer_norm.weight"), (qwen, "layers.0.mlp.experts.weight")):
        with pytest.raises(ModelError, match=r"llama\.cpp"):
            layout.llama_cpp([stranger])
