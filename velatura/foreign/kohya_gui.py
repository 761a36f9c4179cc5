"""bmaltais/kohya_ss: the JSON in which the interface keeps what was filled in, for sd-scripts to be started with.

Facts (`kohya_gui/lora_gui.py`): the warm-up is a percentage of the steps unless `lr_warmup_steps` is told; `epoch`
counts where neither `max_train_epochs` nor `max_train_steps` does; a learning rate of 0 is not told, and which parts
are trained follows from the rates of UNet and text encoder; the network's arguments stand in fields of their own, and
a field counts only for the kind of network or noise that it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from velatura.foreign import kohya
from velatura.foreign.reasons import FILES, MACHINE, each, names
from velatura.foreign.translation import NOTHING, Carried, Translation, number, short

TRAINER = "bmaltais/kohya_ss"

NAMES: Mapping[str, str] = {
    "optimizer_type": "optimizer",
    "resolution": "max_resolution",
    "network_module": "LoRA_type",
    "network_weights": "lora_network_weights",
    "no_half_vae": "sdxl_no_half_vae",
}
"""Options of sd-scripts -> the interface's own names."""

MODULES: Mapping[str, str] = {
    "Standard": "networks.lora",
    "Kohya LoCon": "networks.lora",
    "Flux1": "networks.lora_flux",
    "Kohya LoHa": "networks.loha",
    "Kohya LoKr": "networks.lokr",
    "LoCon": "lycoris.kohya algo=locon",
    "LyCORIS/LoCon": "lycoris.kohya algo=locon",
    "LyCORIS/LoHa": "lycoris.kohya algo=loha",
    "LyCORIS/LoKr": "lycoris.kohya algo=lokr",
}
"""Kinds of network -> sd-scripts' module."""

BLOCKS = names(
    "down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold block_dims block_alphas conv_block_dims"
    " conv_block_alphas rank_dropout module_dropout"
)

FLUX = names(
    "img_attn_dim img_mlp_dim img_mod_dim single_dim txt_attn_dim txt_mlp_dim txt_mod_dim single_mod_dim in_dims"
    " train_double_block_indices train_single_block_indices train_blocks split_qkv train_t5xxl rank_dropout"
    " module_dropout"
)

CONVOLUTIONS = ("conv_dim", "conv_alpha")

LYCORIS = (
    *CONVOLUTIONS,
    *names("rank_dropout module_dropout use_tucker use_cp dora_wd factor decompose_both train_norm use_scalar"),
)

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "Standard": BLOCKS,
    "Kohya LoCon": (*CONVOLUTIONS, *BLOCKS),
    "Flux1": FLUX,
    "Kohya LoHa": LYCORIS,
    "Kohya LoKr": LYCORIS,
}
"""Kind of network -> the fields that are its arguments; LyCORIS' kinds have `LYCORIS`."""

FIELDS = {
    *BLOCKS,
    *FLUX,
    *LYCORIS,
    *names("constrain rescaled unit train_on_input bypass_mode rank_dropout_scale conv_alphas conv_dims"),
    *names("train_lora_ggpo ggpo_beta ggpo_sigma LyCORIS_preset enable_all_linear"),
}
"""All arguments of all kinds."""

LEFT: Mapping[str, str] = {
    **each(MACHINE, "extra_accelerate_launch_args lowvram use_shell num_cpu_threads_per_process"),
    **each(FILES, "model_list save_as_bool no_token_padding LoRA_type"),
    **each("it is a record of the interface", "cancel_button headless print_only train_button"),
}

UNTOLD = (*NOTHING, 0, "0", "0.0")

ZERO_IS_UNTOLD = names(
    "max_train_epochs max_train_steps seed save_every_n_epochs save_every_n_steps sample_every_n_epochs"
    " sample_every_n_steps min_snr_gamma noise_offset adaptive_noise_scale multires_noise_iterations ip_noise_gamma"
    " v_pred_like_loss min_timestep max_timestep vae_batch_size clip_skip unet_lr scale_weight_norms network_dropout"
)
"""Fields that the interface does not pass on where they are 0."""

FOREIGN = ("sd3_", "hunyuan_", "anima_", "lumina_", "sdxl_cache", "flux1_", "leco_")
"""How fields begin that belong to one kind of base; what matters of them is known by other names."""


def translate(translation: Translation) -> None:
    """Carry over what the interface would have sd-scripts do."""
    told = {key: value for key, value in translation.waiting.items() if value not in NOTHING}
    kind = str(told.get("LoRA_type", "Standard"))
    flux, sdxl = told.get("flux1_checkbox") is True, told.get("sdxl") is True
    for key in ZERO_IS_UNTOLD:
        if told.get(key) in UNTOLD:
            told.pop(key, None)
    more = _network(told, kind)
    more |= _rates(told, translation) | _length(told, translation) | _noise(told)
    shown = {"flux1_checkbox", "sdxl", *FIELDS}
    kept = {key: value for key, value in told.items() if key not in shown and not key.startswith(FOREIGN)}
    if not flux:
        for key in ("timestep_sampling", "discrete_flow_shift", "model_prediction_type", "guidance_scale"):
            kept.pop(key, None)
        for key in ("t5xxl_max_token_length", "apply_t5_attn_mask", "ae", "clip_l", "t5xxl", "split_mode"):
            kept.pop(key, None)
    if kept.get("xformers") in ("none", "xformers", "sdpa", True):
        kept["xformers"] = kept["xformers"] != "none"
    lost = {key: kept.pop(key) for key in list(kept) if LEFT.get(key)}
    for key, value in lost.items():
        if key != "LoRA_type" and value not in (False, *UNTOLD):
            translation.leave(key, value, LEFT[key])
    translation.waiting = {NAMES_BACK.get(key, key): value for key, value in kept.items()} | more
    script = "flux_train_network" if flux else "sdxl_train_network" if sdxl else "train_network"
    kohya.translate(translation, script=script)
    translation.carried[:] = [_as_filled_in(one, kind) for one in translation.carried]


def _as_filled_in(one: Carried, kind: str) -> Carried:
    """What follows from several fields, as the interface shows it."""
    if one.setting == "adapter.kind":
        return replace(one, value=kind)
    if one.setting == "adapter.targets":
        return replace(one, key="unet_lr, text_encoder_lr", value="which of them is 0")
    return replace(one, key="epoch") if one.key == "max_train_epochs" else one


NAMES_BACK = {called: key for key, called in NAMES.items()}


def _network(told: dict[str, Any], kind: str) -> dict[str, Any]:
    """The network's module and arguments, from the fields that count for its kind."""
    module, _, algorithm = MODULES.get(kind, f"networks.{kind.rpartition('/')[2].lower()}").partition(" ")
    fields = ARGUMENTS.get(kind, LYCORIS)
    arguments = [algorithm] if algorithm else []
    if module.startswith("lycoris"):
        arguments.append(f"preset={told.get('LyCORIS_preset', 'full')}")
    for field in fields:
        if told.get(field) not in (*UNTOLD, False, "false", "False"):
            arguments.append(f"{field}={told[field]}")
    ratio = told.pop("loraplus_lr_ratio", 0)
    if ratio not in UNTOLD:
        arguments.append(f"loraplus_lr_ratio={ratio}")
    for key in ("loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"):
        if (value := told.pop(key, 0)) not in UNTOLD:
            arguments.append(f"{key}={value}")
    return {"network_module": module, "network_args": arguments}


def _rates(told: dict[str, Any], translation: Translation) -> dict[str, Any]:
    """Which parts are trained, from their rates."""
    denoiser, texts, t5 = (
        0.0 if (value := told.pop(key, 0)) in UNTOLD else translation.value(key, value, number)
        for key in ("unet_lr", "text_encoder_lr", "t5xxl_lr")
    )
    more: dict[str, Any] = {}
    if denoiser:
        more["unet_lr"] = denoiser
    if texts:
        more["text_encoder_lr"] = [texts, t5] if t5 else [texts]
    if texts and not denoiser:
        more["network_train_text_encoder_only"] = True
    if denoiser and not texts:
        more["network_train_unet_only"] = True
    return more


def _length(told: dict[str, Any], translation: Translation) -> dict[str, Any]:
    """Epochs or steps, and the warm-up."""
    more: dict[str, Any] = {}
    epochs = told.pop("epoch", 0)
    if "max_train_epochs" not in told and "max_train_steps" not in told and epochs not in UNTOLD:
        more["max_train_epochs"] = epochs
        translation.notes.append(
            f"epoch = {short(epochs)}: the interface takes pictures x repeats x epochs / batch for the steps; here"
            " short batches of small buckets are counted too, and each picture is seen that often"
        )
    percent, steps = told.pop("lr_warmup", 0), told.pop("lr_warmup_steps", 0)
    if steps not in UNTOLD:
        more["lr_warmup_steps"] = steps
    elif percent not in UNTOLD:
        more["lr_warmup_steps"] = translation.value("lr_warmup", percent, number) / 100
    return more


def _noise(told: dict[str, Any]) -> dict[str, Any]:
    """Fields of the kind of noise that is not chosen do not count."""
    fields = ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale")
    pyramid = ("multires_noise_iterations", "multires_noise_discount")
    for key in fields if told.get("noise_offset_type", "Original") == "Multires" else pyramid:
        told.pop(key, None)
    return {}
