"""Write the golden adapter files: run once for each program, where that program is installed, outside this project.

    PYTHONPATH=.:<checkout of the program> python tests/golden/make.py PROGRAM    (one of those in PROGRAMS)

Each file is saved by the program's own code. Beside it stands NAME.expected.safetensors: for each layer the weight
and what the program makes of it, under our layers' names. Networks are tiny and redrawn; a few layers of each are kept.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests import tiny, tiny_flux1, tiny_sdxl, tiny_z_image
from velatura.adapters.weights import layer_name

OUT = Path(__file__).parent


def redrawn(module: nn.Module, seed: int) -> None:
    """Every parameter random, none zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def unet() -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    made = UNet2DConditionModel(**tiny.UNET)
    redrawn(made, 1)
    return made.requires_grad_(False)


def text_encoder(settings: Mapping[str, Any] = tiny.TEXT) -> nn.Module:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    made = CLIPTextModel(CLIPTextConfig(**settings))
    redrawn(made, 2)
    return made.requires_grad_(False)


def z_image() -> nn.Module:
    from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

    made = ZImageTransformer2DModel(**tiny_z_image.TRANSFORMER)
    redrawn(made, 3)
    return made.requires_grad_(False)


def keep(path: Path, *chosen: str) -> None:
    """Leave only keys with one of these in them, and the metadata as it is."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = {key: value for key, value in load_file(path).items() if any(one in key for one in chosen)}
    save_file(tensors, path, metadata)
    assert tensors, path


def expect(name: str, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Layer -> its weight, and what the program makes of it."""
    tensors = {}
    for layer, (weight, merged) in pairs.items():
        tensors |= {f"weight.{layer}": weight.detach().clone().contiguous()}
        tensors |= {f"merged.{layer}": merged.detach().reshape(weight.shape).clone().contiguous()}
    save_file(tensors, OUT / f"{name}.expected.safetensors")


def weights(part: str, network: nn.Module, *chosen: str) -> dict[str, Tensor]:
    """Weights of the layers that are kept, by our names."""
    found = {}
    for path, module in network.named_modules():
        flat = path.replace(".", "_")
        if isinstance(module, nn.Linear | nn.Conv2d) and any(one in flat for one in chosen):
            found[layer_name(part, path)] = module.weight
    return found


def kohya() -> None:
    import networks.lora

    own, text = unet(), text_encoder()
    chosen = ("down_blocks_0_attentions_0", "down_blocks_1_resnets_0", "encoder_layers_1")
    network = networks.lora.create_network(1.0, 3, 2.0, None, text, own, conv_dim=2, conv_alpha=1.5)
    network.apply_to(text, own, True, True)
    redrawn(network, 11)
    path = OUT / "kohya_sd15.safetensors"
    network.save_weights(str(path), torch.float32, {"ss_network_module": "networks.lora", "ss_network_dim": "3"})
    keep(path, *chosen)
    known = weights("denoiser", own, *chosen) | weights("text_encoder", text, *chosen)
    by_stem = {
        one.lora_name: networks.lora.LoRAInfModule.get_weight(one, 1.0)
        for one in (*network.unet_loras, *network.text_encoder_loras)
    }
    expect("kohya_sd15", _merged(known, by_stem, {"denoiser": "lora_unet", "text_encoder": "lora_te"}))
    _kohya_sdxl()
    _kohya_flux()


KOHYA_SDXL = {
    "input_blocks_4_1_transformer_blocks_0_attn1_to_q": "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
    "output_blocks_5_1_transformer_blocks_1_attn2_to_out_0": (
        "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_out.0"
    ),
    "input_blocks_4_0_emb_layers_1": "down_blocks.1.resnets.0.time_emb_proj",
}
"""Its names of layers of SDXL -> ours, as far as they are kept: those of the authors, in its own network."""


def _kohya_sdxl() -> None:
    import library.sdxl_original_unet as original
    import networks.lora

    original.MODEL_CHANNELS, original.TIME_EMBED_DIM, original.ADM_IN_CHANNELS = 32, 128, 64
    own = original.SdxlUNet2DConditionModel().requires_grad_(False)
    redrawn(own, 5)
    texts = [text_encoder(tiny_sdxl.TEXT), text_encoder(tiny_sdxl.TEXT_2)]
    network = networks.lora.create_network(1.0, 3, 2.0, None, texts, own, conv_dim=2, conv_alpha=1.5)
    network.apply_to(texts, own, True, True)
    redrawn(network, 17)
    path = OUT / "kohya_sdxl.safetensors"
    network.save_weights(str(path), torch.float32, {"ss_network_module": "networks.lora", "ss_network_dim": "3"})
    of_texts = "encoder_layers_1_mlp_fc1"
    keep(path, *(f"lora_unet_{name}." for name in KOHYA_SDXL), of_texts)
    names = {f"lora_unet_{theirs}": f"denoiser.{ours}" for theirs, ours in KOHYA_SDXL.items()}
    for number, part in ((1, "text_encoder"), (2, "text_encoder_2")):
        for text in (f"lora_te{number}_{of_texts}", f"lora_te{number}_text_model_{of_texts}"):
            names[text] = f"{part}.text_model.encoder.layers.1.mlp.fc1"
    pairs = {}
    for one in (*network.unet_loras, *network.text_encoder_loras):
        if one.lora_name in names:
            weight = _weight(one, own, texts)
            delta = networks.lora.LoRAInfModule.get_weight(one, 1.0)
            pairs[names[one.lora_name]] = (weight, weight + delta.reshape(weight.shape))
    expect("kohya_sdxl", pairs)


def _weight(lora: Any, own: nn.Module, texts: list[nn.Module]) -> Tensor:
    """The weight that one of kohya's adapters changes, by its name."""
    for prefix, network in (("lora_unet_", own), ("lora_te1_", texts[0]), ("lora_te2_", texts[1])):
        for path, module in network.named_modules():
            flat = path.replace(".", "_")
            if lora.lora_name in (prefix + flat, f"{prefix}text_model_{flat}"):
                found: Tensor = module.weight
                return found
    raise KeyError(lora.lora_name)


def _kohya_flux() -> None:
    import networks.lora_flux
    from library.flux_models import Flux, FluxParams

    told = tiny_flux1.TRANSFORMER
    width = told["attention_head_dim"] * told["num_attention_heads"]
    params = FluxParams(
        in_channels=told["in_channels"],
        vec_in_dim=told["pooled_projection_dim"],
        context_in_dim=told["joint_attention_dim"],
        hidden_size=width,
        mlp_ratio=4.0,
        num_heads=told["num_attention_heads"],
        depth=told["num_layers"],
        depth_single_blocks=told["num_single_layers"],
        axes_dim=list(told["axes_dims_rope"]),
        theta=10000,
        qkv_bias=True,
        guidance_embed=True,
    )
    flux = Flux(params).requires_grad_(False)
    redrawn(flux, 4)
    network = networks.lora_flux.create_network(1.0, 2, 1.0, None, [None, None], flux)
    network.apply_to([], flux, apply_text_encoder=False, apply_unet=True)
    redrawn(network, 12)
    path = OUT / "kohya_flux1.safetensors"
    network.save_weights(str(path), torch.float32, {"ss_network_module": "networks.lora_flux"})
    chosen = ("double_blocks_0", "single_blocks_1")
    keep(path, *chosen)
    stems = {one.lora_name: one for one in network.unet_loras}
    tensors = {}
    for path_in, module in flux.named_modules():
        stem = f"lora_unet_{path_in.replace('.', '_')}"
        if stem in stems and any(one in stem for one in chosen):
            lora = stems[stem]
            delta = lora.scale * lora.lora_up.weight @ lora.lora_down.weight
            tensors |= {f"weight.{path_in}": module.weight, f"merged.{path_in}": module.weight + delta}
    tensors = {key: value.detach().clone().contiguous() for key, value in tensors.items()}
    save_file(tensors, OUT / "kohya_flux1.expected.safetensors")


def musubi() -> None:
    import musubi_tuner
    import musubi_tuner.networks.loha
    import musubi_tuner.networks.lora_zimage

    own = z_image()
    chosen = ("layers_0_attention", "layers_1_feed_forward")
    network = musubi_tuner.networks.lora_zimage.create_arch_network(1.0, 3, 2.0, None, [], own)
    network.apply_to([], own, False, True)
    redrawn(network, 13)
    path = OUT / "musubi_z_image.safetensors"
    network.save_weights(str(path), torch.float32, {"ss_network_module": "networks.lora_zimage"})
    keep(path, *chosen)
    known = weights("denoiser", own, *chosen)
    by_stem = {one.lora_name: one.scale * one.lora_up.weight @ one.lora_down.weight for one in network.unet_loras}
    expect("musubi_z_image", _merged(known, by_stem, {"denoiser": "lora_unet"}))
    script = Path(musubi_tuner.__path__[0]) / "networks" / "convert_z_image_lora_to_comfy.py"
    fused = OUT / "musubi_z_image_comfy.safetensors"
    subprocess.run([sys.executable, str(script), str(path), str(fused)], check=True)


def ai_toolkit() -> None:
    from toolkit.lora_special import LoRASpecialNetwork

    for kind in ("lora", "lokr"):
        own = z_image()
        told: dict[str, Any] = {"network_type": kind, "lora_dim": 3, "alpha": 2.0}
        if kind == "lokr":
            from toolkit.config_modules import NetworkConfig

            told["network_config"] = NetworkConfig(type="lokr", lokr_full_rank=False, lokr_factor=4, linear=3)
        network = LoRASpecialNetwork(
            text_encoder=None,
            unet=own,
            multiplier=1.0,
            train_text_encoder=False,
            train_unet=True,
            is_transformer=True,
            transformer_only=True,
            target_lin_modules=["ZImageTransformer2DModel"],
            **told,
        )
        network.apply_to(None, own, False, True)
        redrawn(network, 14)
        path = OUT / f"ai_toolkit_z_image_{kind}.safetensors"
        saved = {
            key.replace("transformer.", "diffusion_model."): value
            for key, value in network.get_state_dict(dtype=torch.float32).items()
        }  # as extensions_built_in/diffusion_models/z_image renames them
        save_file({key: value.contiguous() for key, value in saved.items()}, path)
        keep(path, "layers.0.attention", "layers.1.feed_forward")
        known = weights("denoiser", own, "layers_0_attention", "layers_1_feed_forward")
        deltas = {}
        for one in network.unet_loras:
            path_in = one.lora_name.replace("$$", ".").removeprefix("transformer.").removeprefix("lora_transformer_")
            if kind == "lora":
                deltas[f"denoiser.{path_in}"] = one.scale * one.lora_up.weight @ one.lora_down.weight
            else:
                deltas[f"denoiser.{path_in}"] = one.get_weight(one.org_module[0].weight)
        expect(
            f"ai_toolkit_z_image_{kind}",
            {name: (weight, weight + deltas[name]) for name, weight in known.items() if name in deltas},
        )


KINDS: Mapping[str, Mapping[str, Any]] = {
    "locon": {"algo": "locon"},
    "locon_tucker": {"algo": "locon", "use_tucker": True},
    "rslora": {"algo": "locon", "rs_lora": True},
    "loha": {"algo": "loha"},
    "loha_tucker": {"algo": "loha", "use_tucker": True},
    "lokr": {"algo": "lokr", "factor": 2, "decompose_both": True},
    "lokr_tucker": {"algo": "lokr", "factor": 4, "use_tucker": True},
    "lokr_full": {"algo": "lokr", "factor": 4, "full_matrix": True},
    "dora_out": {"algo": "locon", "dora_wd": True, "wd_on_output": True},
    "dora_in": {"algo": "locon", "dora_wd": True, "wd_on_output": False},
    "dora_loha": {"algo": "loha", "dora_wd": True, "wd_on_output": True},
    "full": {"algo": "full"},
    "glora": {"algo": "glora"},
    "oft": {"algo": "diag-oft", "constraint": 0.01, "rescaled": True},
    "boft": {"algo": "boft", "rescaled": True},
    "norm": {"algo": "locon", "train_norm": True},
}


def lycoris() -> None:
    from lycoris.kohya import create_network

    for name, told in KINDS.items():
        own, text = unet(), text_encoder()
        chosen = ("down_blocks_0_attentions_0_transformer_blocks_0_ff", "down_blocks_1_resnets_0_conv", "_mlp_fc1")
        if name == "norm":
            chosen = ("down_blocks_0_attentions_0_norm", "down_blocks_0_attentions_0_transformer_blocks_0_norm1")
        chosen_text = [] if name == "boft" else text  # its widths are no powers of two
        network = create_network(
            1.0, 2, 3.0, None, chosen_text, own, conv_dim=2, conv_alpha=1.5, preset="full", warn_norm=False, **told
        )
        known = {one.lora_name: one.org_module[0].weight.detach().clone() for one in network.loras}
        network.apply_to(chosen_text, own, True, True)
        generator = torch.Generator().manual_seed(15)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + 0.1)
        path = OUT / f"lycoris_{name}.safetensors"
        network.save_weights(str(path), torch.float32, {"ss_network_module": "lycoris.kohya"})
        keep(path, *chosen)
        pairs = {}
        for one in network.loras:
            stem = one.lora_name
            if any(part in stem for part in chosen):
                weight = known[stem]
                pairs[_ours(stem, own, text)] = (weight, _lycoris_merged(one, weight))
        expect(f"lycoris_{name}", pairs)


def _lycoris_merged(module: Any, weight: Tensor) -> Tensor:
    if type(module).__name__ in ("LokrModule", "LohaModule"):  # get_diff_weight multiplies by the scale once more
        merged: Tensor = weight + module.get_weight(weight.shape)
        return module.apply_weight_decompose(merged) if module.wd else merged
    found: Tensor = module.get_merged_weight(multiplier=1.0, shape=weight.shape)[0]
    return found


def _ours(stem: str, own: nn.Module, text: nn.Module) -> str:
    for part, prefix, network in (("denoiser", "lora_unet_", own), ("text_encoder", "lora_te_", text)):
        for path, _ in network.named_modules():
            for full in (path, f"text_model.{path}"):
                if stem in (prefix + full.replace(".", "_"), prefix.replace("te_", "te1_") + full.replace(".", "_")):
                    return layer_name(part, full)
    raise KeyError(stem)


def peft() -> None:
    from peft import BOFTConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, get_peft_model

    _butterflies_without_cuda()
    targets = r"down_blocks\.(0\.attentions\.0\..*(to_q|proj_in)|1\.resnets\.0\.conv1)"
    layers = ("down_blocks_0_attentions_0", "down_blocks_1_resnets_0_conv1")
    configurations: dict[str, Any] = {
        "lora": LoraConfig(r=3, lora_alpha=2, target_modules=targets, use_rslora=True, alpha_pattern={"proj_in": 5}),
        "dora": LoraConfig(r=3, lora_alpha=2, target_modules=targets, use_dora=True),
        "loha": LoHaConfig(r=2, alpha=3, target_modules=targets),
        "lokr": LoKrConfig(r=2, alpha=3, target_modules=targets, decompose_factor=2),
        "ia3": IA3Config(target_modules=targets, feedforward_modules=[]),
        "oft": OFTConfig(oft_block_size=4, target_modules=targets, use_cayley_neumann=False),
        "oft_series": OFTConfig(oft_block_size=4, target_modules=targets, coft=True, eps=6.0),
        "oft_shared": OFTConfig(oft_block_size=4, target_modules=targets, block_share=True),
        "boft": BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=2, target_modules=targets),
    }
    for name, configuration in configurations.items():
        own = unet()
        known = {key: value.detach().clone() for key, value in weights("denoiser", own, *layers).items()}
        model = get_peft_model(own, configuration)
        generator = torch.Generator().manual_seed(16)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if any(mark in key for mark in ("lora_", "hada_", "lokr_", "ia3_", "oft_")):
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + 0.1)
        folder = OUT / f"peft_{name}"
        model.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
        merged = model.merge_and_unload()
        after = weights("denoiser", merged, *layers)
        pairs = {key: (value, after[key]) for key, value in known.items() if not torch.equal(value, after[key])}
        expect(f"peft_{name}", pairs)


def onetrainer() -> None:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from modules.model.FluxModel import FluxModel
    from modules.model.StableDiffusionXLModel import StableDiffusionXLModel
    from modules.modelSaver.flux.FluxLoRASaver import FluxLoRASaver
    from modules.modelSaver.stableDiffusionXL.StableDiffusionXLLoRASaver import StableDiffusionXLLoRASaver
    from modules.util.enum.ModelFormat import ModelFormat
    from modules.util.enum.ModelType import ModelType

    forms = [form for form in ModelFormat if form.name.endswith("_LORA")]
    layers = ("down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q", "up_blocks.1.resnets.0.conv1")
    for form in forms:
        sdxl = StableDiffusionXLModel(ModelType.STABLE_DIFFUSION_XL_10_BASE)
        sdxl.unet = UNet2DConditionModel(**tiny_sdxl.UNET)
        redrawn(sdxl.unet, 6)
        sdxl.text_encoder_1, sdxl.text_encoder_2 = text_encoder(tiny_sdxl.TEXT), text_encoder(tiny_sdxl.TEXT_2)
        told = _onetrainer_settings(form)
        sdxl.unet_lora = _onetrainer_lora(sdxl.unet, "unet", told, layers)
        if form is not ModelFormat.ORIGINAL_LORA:  # which has no place for text encoders
            fc1 = ("encoder.layers.1.mlp.fc1",)
            sdxl.text_encoder_1_lora = _onetrainer_lora(sdxl.text_encoder_1, "text_encoder", told, fc1)
            sdxl.text_encoder_2_lora = _onetrainer_lora(sdxl.text_encoder_2, "text_encoder_2", told, fc1)
        loras = [sdxl.unet_lora, sdxl.text_encoder_1_lora, sdxl.text_encoder_2_lora]
        name = f"onetrainer_sdxl_{form.name.removesuffix('_LORA').lower()}"
        _onetrainer_written(StableDiffusionXLLoRASaver(), sdxl, form, name, [one for one in loras if one])
    for kind, more in ONETRAINER_KINDS.items():
        sdxl = StableDiffusionXLModel(ModelType.STABLE_DIFFUSION_XL_10_BASE)
        sdxl.unet = UNet2DConditionModel(**tiny_sdxl.UNET)
        redrawn(sdxl.unet, 6)
        sdxl.text_encoder_1, sdxl.text_encoder_2 = text_encoder(tiny_sdxl.TEXT), text_encoder(tiny_sdxl.TEXT_2)
        sdxl.unet_lora = _onetrainer_lora(
            sdxl.unet, "unet", _onetrainer_settings(ModelFormat.KOHYA_LORA, **more), layers
        )
        _onetrainer_written(
            StableDiffusionXLLoRASaver(), sdxl, ModelFormat.KOHYA_LORA, f"onetrainer_sdxl_{kind}", [sdxl.unet_lora]
        )
    blocks = (
        "^transformer_blocks.0.attn",
        "single_transformer_blocks.1.attn.to_",
        "single_transformer_blocks.1.proj_mlp",
    )
    for form in forms:
        flux = FluxModel(ModelType.FLUX_DEV_1)
        flux.transformer = FluxTransformer2DModel(**tiny_flux1.TRANSFORMER)
        redrawn(flux.transformer, 7)
        told = _onetrainer_settings(form, layer_filter_regex=True)
        fuse = form.needs_qkv_fusion()
        flux.transformer_lora = _onetrainer_lora(
            flux.transformer, "transformer", told, blocks, fusion_spec=flux.fusion_groups(), fuse=fuse
        )
        name = f"onetrainer_flux1_{form.name.removesuffix('_LORA').lower()}"
        _onetrainer_written(FluxLoRASaver(), flux, form, name, [flux.transformer_lora])


def _onetrainer_settings(form: Any, **more: Any) -> Any:
    from modules.util.config.TrainConfig import TrainConfig
    from modules.util.enum.ModelType import PeftType

    told = TrainConfig.default_values()
    told.lora_rank, told.lora_alpha, told.output_model_format, told.train_device = 2, 3.0, form, "cpu"
    told.lokr_dim, told.lokr_decompose_factor, told.oft_block_size = 2, 4, 4
    told.peft_type = PeftType[more.pop("peft_type", "LORA")]
    for name, value in more.items():
        setattr(told, name, value)
    return told


ONETRAINER_KINDS: Mapping[str, Mapping[str, Any]] = {
    "dora": {"lora_decompose": True},
    "dora_out": {"lora_decompose": True, "lora_decompose_output_axis": True},
    "loha": {"peft_type": "LOHA"},
    "lokr": {"peft_type": "LOKR"},
    "oft": {"peft_type": "OFT_2"},
    "oft_scaled": {"peft_type": "OFT_2", "oft_scaled": True, "oft_block_share": True},
}


def _onetrainer_lora(network: nn.Module, prefix: str, told: Any, chosen: tuple[str, ...], **more: Any) -> Any:
    from modules.module.LoRAModule import LoRAModuleWrapper

    wrapper = LoRAModuleWrapper(network, prefix, told, list(chosen), **more)
    wrapper.hook_to_module()
    generator = torch.Generator().manual_seed(18)
    with torch.no_grad():
        for parameter in wrapper.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + 0.1)
    return wrapper


def _onetrainer_written(saver: Any, model: Any, form: Any, name: str, loras: list[Any]) -> None:
    """Save by its own saver, and see what its own layers compute: a layer's answers to the unit vectors."""
    import modules.util.git_util as git

    git.get_git_branch = git.get_git_revision = lambda: ""
    saver.save(model, form, str(OUT / f"{name}.safetensors"), torch.float32)
    pairs = {}
    for lora in loras:
        part = {"unet": "denoiser", "transformer": "denoiser"}.get(lora.prefix, lora.prefix)
        network = lora.orig_module
        for path, module in network.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and "forward" in vars(module):
                pairs[layer_name(part, path)] = (module.weight, _answers(module))
    expect(name, pairs)


@torch.no_grad()
def _answers(module: Any) -> Tensor:
    """The weight that a layer has in effect, from what it makes of each input alone."""
    if isinstance(module, nn.Linear):
        zero = module(torch.zeros(1, module.in_features))
        changed: Tensor = (module(torch.eye(module.in_features)) - zero).T
        return changed
    channels, (high, wide) = module.in_channels, module.kernel_size
    pixels = torch.eye(channels * high * wide).reshape(-1, channels, high, wide)
    pad = nn.functional.pad(pixels, (1, 1, 1, 1))
    zero = module(torch.zeros_like(pad[:1]))
    middle = (module(pad) - zero)[:, :, 1 : 1 + high, 1 : 1 + wide][:, :, high // 2, wide // 2]
    return middle.T.reshape(module.weight.shape)


def xlabs() -> None:
    from src.flux.modules.layers import (
        DoubleStreamBlockLoraProcessor,
        LoRALinearLayer,
        SingleStreamBlockLoraProcessor,
    )

    told = tiny_flux1.TRANSFORMER
    width = told["attention_head_dim"] * told["num_attention_heads"]
    held = nn.ModuleDict()
    for path, made in (
        ("double_blocks.1", DoubleStreamBlockLoraProcessor),
        ("single_blocks.0", SingleStreamBlockLoraProcessor),
    ):
        processor = made(width, rank=2)
        if made is SingleStreamBlockLoraProcessor:  # whose width is written into its code
            processor.proj_lora = LoRALinearLayer(5 * width, width, 2)
        held[path.replace(".", "/")] = processor
    redrawn(held, 19)
    tensors = {
        f"{path.replace('/', '.')}.processor.{key}": value.contiguous()
        for path, processor in held.items()
        for key, value in processor.state_dict().items()
        if "_lora" in key  # as its trainer chooses what to save
    }
    save_file(tensors, OUT / "xlabs_flux1.safetensors")
    layers = {
        "double_blocks.1.img_attn.qkv": ("double_blocks/1", "qkv_lora1", (3 * width, width)),
        "double_blocks.1.img_attn.proj": ("double_blocks/1", "proj_lora1", (width, width)),
        "double_blocks.1.txt_attn.qkv": ("double_blocks/1", "qkv_lora2", (3 * width, width)),
        "double_blocks.1.txt_attn.proj": ("double_blocks/1", "proj_lora2", (width, width)),
        "single_blocks.0.linear1": ("single_blocks/0", "qkv_lora", (7 * width, width)),
        "single_blocks.0.linear2": ("single_blocks/0", "proj_lora", (width, 5 * width)),
    }
    expected = {}
    for layer, (path, own, shape) in layers.items():
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(20))
        lora = getattr(held[path], own)
        with torch.no_grad():
            delta = lora(torch.eye(shape[1])).T
        merged = weight.clone()
        merged[: len(delta)] += delta  # of linear1 query, key and value, which come first
        expected |= {f"weight.{layer}": weight, f"merged.{layer}": merged}
    save_file(expected, OUT / "xlabs_flux1.expected.safetensors")


def _butterflies_without_cuda() -> None:
    """PEFT's BOFT with more than one factor asks for its own CUDA kernel, of which torch.block_diag says the same."""
    import peft.tuners.boft.layer as boft

    def block_diagonal(turns: Tensor) -> Tensor:
        return torch.stack([torch.block_diag(*torch.unbind(one)) for one in turns])

    boft.get_fbd_cuda = lambda: True
    boft.FastBlockDiag = type("FastBlockDiag", (), {"apply": staticmethod(block_diagonal)})


def _merged(
    known: Mapping[str, Tensor], by_stem: Mapping[str, Tensor], prefixes: Mapping[str, str]
) -> dict[str, tuple[Tensor, Tensor]]:
    found = {}
    for name, weight in known.items():
        part, _, path = name.partition(".")
        for flat in (path, path.removeprefix("text_model.")):
            stem = f"{prefixes[part]}_{flat.replace('.', '_')}"
            if stem in by_stem:
                found[name] = (weight, weight + by_stem[stem].reshape(weight.shape))
    assert found
    return found


PROGRAMS: Mapping[str, Callable[[], None]] = {
    "kohya": kohya,
    "musubi": musubi,
    "ai_toolkit": ai_toolkit,
    "lycoris": lycoris,
    "peft": peft,
    "onetrainer": onetrainer,
    "xlabs": xlabs,
}

if __name__ == "__main__":
    if importlib.util.find_spec("stubs"):  # a module of your own that stands in for imports that are not installed
        importlib.import_module("stubs")
    PROGRAMS[sys.argv[1]]()
