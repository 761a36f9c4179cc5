"""Write the golden adapter files: run once for each program, where that program is installed, outside this project.

    PYTHONPATH=.:<checkout of the program> python tests/golden/make.py kohya|musubi|ai_toolkit|lycoris|peft

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

from tests import tiny, tiny_flux1, tiny_z_image
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


def text_encoder() -> nn.Module:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    made = CLIPTextModel(CLIPTextConfig(**tiny.TEXT))
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
    _kohya_flux()


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
    from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, get_peft_model

    targets = r"down_blocks\.(0\.attentions\.0\..*(to_q|proj_in)|1\.resnets\.0\.conv1)"
    layers = ("down_blocks_0_attentions_0", "down_blocks_1_resnets_0_conv1")
    configurations: dict[str, Any] = {
        "lora": LoraConfig(r=3, lora_alpha=2, target_modules=targets, use_rslora=True, alpha_pattern={"proj_in": 5}),
        "dora": LoraConfig(r=3, lora_alpha=2, target_modules=targets, use_dora=True),
        "loha": LoHaConfig(r=2, alpha=3, target_modules=targets),
        "lokr": LoKrConfig(r=2, alpha=3, target_modules=targets, decompose_factor=2),
        "ia3": IA3Config(target_modules=targets, feedforward_modules=[]),
    }
    for name, configuration in configurations.items():
        own = unet()
        known = {key: value.detach().clone() for key, value in weights("denoiser", own, *layers).items()}
        model = get_peft_model(own, configuration)
        generator = torch.Generator().manual_seed(16)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if any(mark in key for mark in ("lora_", "hada_", "lokr_", "ia3_")):
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + 0.1)
        folder = OUT / f"peft_{name}"
        model.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)
        merged = model.merge_and_unload()
        after = weights("denoiser", merged, *layers)
        pairs = {key: (value, after[key]) for key, value in known.items() if not torch.equal(value, after[key])}
        expect(f"peft_{name}", pairs)


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
}

if __name__ == "__main__":
    if importlib.util.find_spec("stubs"):  # a module of your own that stands in for imports that are not installed
        importlib.import_module("stubs")
    PROGRAMS[sys.argv[1]]()
