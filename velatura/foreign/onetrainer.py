"""Nerogar/OneTrainer: the JSON of a training, a preset too, with its concepts and samples where they are in it.

Facts (`modules/util/config/TrainConfig.py`, `ConceptConfig.py`, `modules/util/create.py`): rank 16 with alpha 1, 100
epochs, a constant 3e-6 after 200 steps of warm-up, and text encoders trained, without being told; a step is a batch,
of which `gradient_accumulation_steps` make one of the optimizer's; `text_encoder_layer_skip` counts from 0; a warm-up
up to 1 is a share. LOGIT_NORMAL has the spread `noising_weight` + 1. Files of all versions of the format are read;
what is only written by another of them is listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from velatura.errors import RecipeError
from velatura.foreign.files import read_text
from velatura.foreign.kohya_captions import resolution
from velatura.foreign.places import begins_with, found, place
from velatura.foreign.reasons import ABSENT, CARD, ELSEWHERE, FILES, LOGS, MACHINE, RESUME, each, names
from velatura.foreign.translation import OFF, Translation, flag, number, text, whole

TRAINER = "Nerogar/OneTrainer"

FAMILIES: Mapping[str, str] = {
    "STABLE_DIFFUSION_15": "sd15",
    "STABLE_DIFFUSION_XL_10_BASE": "sdxl",
    "FLUX_DEV_1": "flux1",
    "Z_IMAGE": "z_image",
}

DENOISERS: Mapping[str, str] = {"sd15": "unet", "sdxl": "unet", "flux1": "transformer", "z_image": "transformer"}

OPTIMIZERS: Mapping[str, str] = {
    "ADAMW": "adamw",
    "ADAMW_8BIT": "adamw8bit",
    "ADAFACTOR": "adafactor",
    "PRODIGY": "prodigy",
    "LION": "lion",
    "SCHEDULE_FREE_ADAMW": "schedule_free",
}

SCHEDULES: Mapping[str, str] = {
    "CONSTANT": "constant",
    "LINEAR": "linear",
    "COSINE": "cosine",
    "COSINE_WITH_HARD_RESTARTS": "cosine_restarts",
    "REX": "rex",
}

PRESETS: Mapping[str, list[str]] = {"attn-mlp": ["attention+mlp"], "attn-only": ["attention"], "full": ["all"]}

BLOCKS: Mapping[str, list[str]] = {"flux1": ["all"], "z_image": ["denoiser.layers.*"]}
"""Family -> what the preset `blocks` means as targets."""

LEFT: Mapping[str, str] = {
    **each(
        MACHINE,
        (
            "train_device temp_device train_dtype fallback_train_dtype weight_dtype enable_autocast_cache"
            " dataloader_threads latent_caching clear_cache_before_training only_cache attention_mechanism"
            " gradient_checkpointing enable_activation_offloading enable_async_offloading layer_offload_fraction"
            " async_offloading compile multi_gpu device_indexes gradient_reduce_precision fused_gradient_reduce"
            " async_gradient_reduce async_gradient_reduce_buffer quantization cloud lora_weight_dtype"
            " embedding_weight_dtype"
        ),
    ),
    **each(
        LOGS,
        "debug_mode debug_dir tensorboard tensorboard_expose tensorboard_always_on tensorboard_port"
        " samples_to_tensorboard include_train_config",
    ),
    **each(
        FILES,
        (
            "workspace_dir cache_dir huggingface_cache_dir offline_mode output_dtype output_model_format"
            " prevent_overwrites rolling_backup rolling_backup_count backup_before_save save_filename_prefix"
            " save_skip_first __version sample_image_format sample_video_format sample_audio_format"
            " bundle_additional_embeddings"
        ),
    ),
    **each(RESUME, "continue_last_backup backup_after backup_after_unit"),
    **each(
        "sample pictures are painted at each checkpoint (checkpoints.every)",
        "sample_skip_first non_ema_sampling",
    ),
    "secrets": CARD,
    "optimizer_defaults": "it is what the interface would fill in for other optimizers",
    "validate_after": "the held-out loss is measured at each checkpoint",
    "validate_after_unit": "the held-out loss is measured at each checkpoint",
}

USUAL: Mapping[str, tuple[object, ...]] = {
    "aspect_ratio_bucketing": (True,),
    "learning_rate_scaler": ("NONE",),
    "loss_scaler": ("NONE",),
    "mse_strength": (1, 1.0),
    "vb_loss_strength": (1, 1.0),
    "peft_type": ("LORA",),
    "custom_conditioning_image": (False,),
    "include_train_config": ("NONE",),
    "frames": ("25",),
    "huber_delta": (1, 1.0),
    "lora_decompose_norm_epsilon": (True, False),
    "lora_decompose_output_axis": (False,),
    "ema_update_step_interval": (5,),
    "text_encoder_sequence_length": (512, 77, None),
    "text_encoder_2_sequence_length": (77, 512, None),
    "normalize_masked_area_loss": (False,),
    "dynamic_timestep_shifting": (False,),
    "vae_dtype": ("NONE",),
    "optimizer": ({},),
}
"""Values that change nothing."""

PARTS = names(
    "unet transformer prior unconditional_transformer text_encoder text_encoder_2 text_encoder_3 text_encoder_4 vae"
    " effnet_encoder decoder decoder_text_encoder decoder_vqgan"
)


def translate(translation: Translation) -> None:
    """Carry over the settings of one training.

    Raises:
        RecipeError: it trains something else than a LoRA.
    """
    method = translation.take("training_method", text, "FINE_TUNE")
    if method != "LORA":
        what = f"training_method is {method}, and recipes here train a LoRA"
        raise RecipeError(what, where=translation.where, fix="choose LoRA there")
    parts = {name: told for name in PARTS if isinstance(told := translation.waiting.pop(name, None), dict)}
    family = _base(translation, parts)
    _network(translation, family, parts)
    _course(translation)
    _rates(translation, family, parts)
    _objective(translation, family)
    _concepts(translation)
    _samples(translation)
    _left_of_parts(translation, parts)
    for key, values in USUAL.items():
        if key in translation.waiting and translation.waiting[key] in values:
            translation.waiting.pop(key)
    translation.leave_told(LEFT, off=(*OFF, "NEVER", "NONE"))
    for key in list(translation.waiting):
        told = translation.waiting[key]
        if key.startswith(("oft_", "lokr_", "embedding", "additional_", "preserve_")) or told in ("NONE", "NEVER"):
            translation.waiting.pop(key)
    translation.leave_rest()


def _base(translation: Translation, parts: dict[str, dict[str, Any]]) -> str:
    told = translation.take("model_type", text, "STABLE_DIFFUSION_15")
    family = FAMILIES.get(told, "")
    if not family:
        translation.leave("model_type", told, ELSEWHERE)
    key = "base_model_name"
    named = translation.take(key, text, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    translation.put("base.model", place(translation, key, named), key, named)
    if vae := parts.get("vae", {}).pop("model_name", ""):
        translation.put("base.vae", place(translation, "vae.model_name", vae), "vae.model_name", vae)
    skip = translation.take("text_encoder_layer_skip", whole, 0)
    if skip and family == "sd15":
        translation.put("base.clip_skip", skip + 1, "text_encoder_layer_skip", skip)
    elif skip:
        translation.leave("text_encoder_layer_skip", skip, "this base's text encoders are read at their own layers")
    translation.leave_told({"text_encoder_2_layer_skip": "this base's text encoders are read at their own layers"})
    destination = translation.take("output_model_destination", text, "")
    if destination:
        name = destination.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors")
        translation.put("name", name, "output_model_destination", destination)
    return family


def _network(translation: Translation, family: str, parts: dict[str, dict[str, Any]]) -> None:
    kind = translation.take("peft_type", text, "LORA")
    dora = translation.take("lora_decompose", flag, False)
    if kind == "LOKR":
        translation.put("adapter.kind", "lokr", "peft_type", kind)
        rank = translation.take("lokr_dim", whole, 16)
        translation.put("adapter.rank", rank, "lokr_dim", rank)
        factor = translation.take("lokr_decompose_factor", whole, -1)
        if factor > 0:
            translation.put("adapter.factor", factor, "lokr_decompose_factor", factor)
    else:
        if kind == "LOHA":
            translation.put("adapter.kind", "loha", "peft_type", kind)
        elif kind != "LORA":
            translation.leave("peft_type", kind, "adapters of this kind are not trained here; this trains a LoRA")
        elif dora:
            translation.put("adapter.kind", "dora", "lora_decompose", True)
        translation.carry("lora_rank", "adapter.rank", whole, 16)
    translation.carry("lora_alpha", "adapter.alpha", number, 1.0)
    for key in ("dropout_probability", "module_dropout"):
        translation.leave_told({key: "it leaves out single values; adapter.dropout leaves out whole channels"})
    begins_with(translation, "lora_model_name")
    _targets(translation, family, parts)


def _targets(translation: Translation, family: str, parts: dict[str, dict[str, Any]]) -> None:
    old = translation.waiting.pop("lora_layer_preset", None)
    old_filter = translation.waiting.pop("lora_layers", None)
    preset = translation.take("layer_filter_preset", text, str(old or "full"))
    patterns = translation.take("layer_filter", text, str(old_filter or ""))
    translation.waiting.pop("layer_filter_regex", None)
    layers = BLOCKS.get(family) if preset == "blocks" else PRESETS.get(preset)
    if layers is None:
        why = "write it as patterns in adapter.targets"
        translation.leave("layer_filter", patterns or preset, why)
        layers = ["attention+mlp"]
    elif preset == "full" and family != "sd15":
        translation.notes.append("layer_filter_preset full also has the few layers outside of the blocks there")
    trained = [
        name for name in parts if name.startswith("text_encoder") and parts[name].get("train", True) is not False
    ]
    texts = family in ("sd15", "sdxl") and (
        bool(trained) or any(name not in parts for name in ("text_encoder", *(["text_encoder_2"] * (family == "sdxl"))))
    )
    denoiser = parts.get(DENOISERS.get(family, "unet"), {}).get("train", True) is not False
    targets = [*(layers if denoiser else []), *(["text"] if texts else [])]
    if targets:
        translation.put("adapter.targets", targets, "layer_filter_preset", preset, told=preset in (*PRESETS, "blocks"))
    else:
        translation.leave("unet.train", False, "it leaves nothing to be trained")


def _rates(translation: Translation, family: str, parts: dict[str, dict[str, Any]]) -> None:
    told = translation.told("learning_rate")
    common = translation.take("learning_rate", number, 3e-6)
    part = DENOISERS.get(family, "unet")
    own = parts.get(part, {}).pop("learning_rate", None)
    rate = common if own is None else translation.value(f"{part}.learning_rate", own, number)
    translation.put(
        "train.learning_rate", rate, "learning_rate" if own is None else f"{part}.learning_rate", rate, told=told
    )
    if "text" not in translation.tree.get("adapter", {}).get("targets", []):
        return
    names = [name for name in ("text_encoder", "text_encoder_2") if name in parts]
    rates = [parts[name].pop("learning_rate", None) for name in names]
    told_rates = [
        common if one is None else translation.value(f"{name}.learning_rate", one, number)
        for name, one in zip(names, rates, strict=True)
    ]
    texts = told_rates or [common]
    if len(set(texts)) > 1:
        translation.put("train.text_learning_rate", texts, "text_encoder.learning_rate", texts)
    elif texts[0] != rate:
        translation.put("train.text_learning_rate", texts[0], "text_encoder.learning_rate", texts[0])


def _course(translation: Translation) -> None:
    told = translation.told("epochs")
    epochs = translation.take("epochs", whole, 100)
    translation.put("train.epochs", epochs, "epochs", epochs, told=told or True)
    translation.carry("batch_size", "train.batch", whole, 1)
    accumulation = translation.take("gradient_accumulation_steps", whole, 1)
    if accumulation > 1:
        translation.put("train.accumulation", accumulation, "gradient_accumulation_steps", accumulation)
    name = translation.take("learning_rate_scheduler", text, "CONSTANT")
    ours = SCHEDULES.get(name)
    if ours is None:
        translation.leave("learning_rate_scheduler", name, "there is no such course here")
    else:
        translation.put("train.schedule", ours, "learning_rate_scheduler", name, told=name != "CONSTANT")
    cycles = translation.take("learning_rate_cycles", number, 1.0)
    if ours == "cosine_restarts":
        translation.put("train.cycles", cycles, "learning_rate_cycles", cycles)
    least = translation.take("learning_rate_min_factor", number, 0.0)
    if least and ours not in (None, "constant"):
        translation.put("train.floor", least, "learning_rate_min_factor", least)
    warmup_told = translation.told("learning_rate_warmup_steps")
    warmup = translation.take("learning_rate_warmup_steps", number, 200.0)
    steps = int(warmup / accumulation) if warmup > 1 else warmup
    if warmup == 1:
        translation.leave("learning_rate_warmup_steps", warmup, "a warm-up of the whole training")
    elif warmup:
        translation.put("train.warmup", steps, "learning_rate_warmup_steps", warmup, told=warmup_told)
    _optimizer(translation)
    clip = translation.take("clip_grad_norm", number, 1.0)
    translation.put("train.clip", clip, "clip_grad_norm", clip, told=clip != 1)
    ema = translation.take("ema", text, "OFF")
    decay = translation.take("ema_decay", number, 0.999)
    if ema != "OFF":
        translation.put("train.ema", decay, "ema_decay", decay)
    translation.carry("seed", "train.seed", whole)
    _every(translation, "save_every", "checkpoints", translation.take("save_after", number, 0.0))
    _every(translation, "sample_after", "samples", 0.0)


def _every(translation: Translation, key: str, group: str, usual: float) -> None:
    """How often something is done, in steps or epochs; there it may be told in time too."""
    every = translation.take(key, number, usual)
    unit = translation.take(f"{key}_unit", text, str(translation.waiting.pop("save_after_unit", "NEVER")))
    if every and unit == "STEP":
        translation.put(f"{group}.every", int(every), key, every)
    elif every and unit == "EPOCH":
        translation.put(f"{group}.every_epochs", int(every), key, every)
    elif every and unit != "NEVER":
        translation.leave(key, f"{every:g} {unit.lower()}", "this is counted in steps or epochs, not in time")


def _optimizer(translation: Translation) -> None:
    told = translation.waiting.pop("optimizer", None)
    settings = {"optimizer": told} if isinstance(told, str) else dict(told) if isinstance(told, dict) else {}
    name = str(settings.pop("optimizer", "ADAMW"))
    ours = OPTIMIZERS.get(name)
    if ours is None:
        translation.leave("optimizer.optimizer", name, "there is no such optimizer here; this trains with AdamW")
        return
    translation.put("train.optimizer", ours, "optimizer.optimizer", name, told=name != "ADAMW")
    decay = settings.pop("weight_decay", None)
    if decay is not None:
        translation.put("train.weight_decay", decay, "optimizer.weight_decay", decay)
    found = {key: settings.pop(key) for key in ("beta1", "beta2", "eps") if settings.get(key) is not None}
    for key, value in found.items():
        before = dict(translation.tree.get("train", {}).get("optimizer_settings", {}))
        translation.put("train.optimizer_settings", before | {key: value}, f"optimizer.{key}", value)
    for key, value in settings.items():
        if value not in (*OFF, True) and key not in ("beta3", "clip_threshold", "decay_rate", "eps2", "d0", "d_coef"):
            translation.leave(f"optimizer.{key}", value, ABSENT)


def _objective(translation: Translation, family: str) -> None:
    weighting = translation.take("loss_weight_fn", text, "CONSTANT")
    strength = translation.take("loss_weight_strength", number, 5.0)
    old = translation.take("min_snr_gamma", number, 0.0)
    gamma = strength if weighting == "MIN_SNR_GAMMA" else old
    translation.put("objective.min_snr", gamma, "loss_weight_strength", gamma, told=gamma != 0)
    if weighting == "DEBIASED_ESTIMATION":
        translation.put("objective.debiased", True, "loss_weight_fn", weighting)
    elif weighting not in ("CONSTANT", "MIN_SNR_GAMMA"):
        translation.leave("loss_weight_fn", weighting, "noise levels cannot be weighted so here")
    if translation.take("mse_strength", number, 1.0) == 0 and translation.waiting.get("mae_strength") in (1, 1.0):
        translation.put("objective.loss", "l1", "mae_strength", translation.waiting.pop("mae_strength"))
    translation.leave_told(
        each("a loss is of one kind here: objective.loss", "mae_strength log_cosh_strength huber_strength")
    )
    translation.carry("offset_noise_weight", "objective.noise_offset", number)
    translation.carry("rescale_noise_scheduler_to_zero_terminal_snr", "base.zero_terminal_snr", flag)
    if translation.take("force_v_prediction", flag, False):
        translation.put("base.prediction", "v", "force_v_prediction", True)
    if translation.take("force_epsilon_prediction", flag, False):
        translation.put("base.prediction", "epsilon", "force_epsilon_prediction", True)
    for key, setting, usual in (
        ("max_noising_strength", "objective.max_timestep", 1.0),
        ("min_noising_strength", "objective.min_timestep", 0.0),
    ):
        share = translation.take(key, number, usual)
        if share != usual:
            translation.put(setting, round(1000 * share), key, share)
    _levels(translation, family)
    if translation.take("masked_training", flag, False):
        translation.put("objective.masked_loss", "masks", "masked_training", True)
        translation.leave_told(each("what a mask leaves out counts nothing here", "unmasked_weight"))
        translation.leave_told(each(ABSENT, "unmasked_probability masked_prior_preservation_weight"))
    else:
        translation.put("objective.masked_loss", "off", "masked_training", False, told=False)
        for key in ("unmasked_weight", "unmasked_probability", "masked_prior_preservation_weight"):
            translation.waiting.pop(key, None)


def _levels(translation: Translation, family: str) -> None:
    spread = translation.take("timestep_distribution", text, "UNIFORM")
    weight, bias = translation.take("noising_weight", number, 0.0), translation.take("noising_bias", number, 0.0)
    if spread == "LOGIT_NORMAL":
        translation.put("objective.timesteps", "logit_normal", "timestep_distribution", spread)
        translation.put("objective.logit_mean", bias, "noising_bias", bias, told=bias != 0)
        translation.put("objective.logit_std", weight + 1, "noising_weight", weight, told=weight != 0)
    elif spread == "HEAVY_TAIL":
        translation.put("objective.timesteps", "mode", "timestep_distribution", spread)
        translation.put("objective.mode_scale", weight, "noising_weight", weight)
    elif spread == "UNIFORM":
        translation.put("objective.timesteps", "uniform", "timestep_distribution", spread, told=False)
    else:
        translation.leave("timestep_distribution", spread, "there is no such spread of noise levels here")
    shift = translation.take("timestep_shift", number, 1.0)
    if translation.take("dynamic_timestep_shifting", flag, False):
        translation.put("objective.shift", "resolution", "dynamic_timestep_shifting", True)
    elif family in ("flux1", "z_image"):
        translation.put("objective.shift", shift, "timestep_shift", shift)


def _concepts(translation: Translation) -> None:
    """The folders of pictures, which may stand in a file of their own."""
    told = _listed(translation, "concepts", "concept_file_name")
    concepts = [one for one in told if isinstance(one, dict) and one.get("enabled", True) is not False]
    usual = [one for one in concepts if one.get("type", "STANDARD") == "STANDARD"]
    blocks = [
        _concept(translation, one, "concepts" if len(usual) == 1 else f"concepts[{at}]") for at, one in enumerate(usual)
    ]
    if len(blocks) == 1:
        for setting, (key, value, becomes) in blocks[0].items():
            translation.put(f"dataset.{setting}", becomes, key, value)
    elif blocks:
        told = [{setting: becomes for setting, (_, _, becomes) in block.items()} for block in blocks]
        translation.put("dataset.blocks", told, "concepts", f"{len(blocks)} folders")
    for one in concepts:
        if one not in usual:
            translation.leave(
                "concepts", one.get("path", ""), f"folders of the type {one.get('type')} are not read here"
            )
    resolution(translation, "resolution")
    translation.put("dataset.regularisation", "", "concepts", "", told=False)
    translation.put("dataset.caption_dropout", 0.0, "dropout_probability", 0.0, told=False)
    if not translation.take("validation", flag, False):
        translation.put("dataset.hold_out", 0.0, "validation", False, told=False)
        translation.notes.append(
            "all pictures are trained on, as there; dataset.hold_out = 0.2 keeps some back to judge checkpoints by"
        )


def _concept(translation: Translation, one: dict[str, Any], name: str) -> dict[str, tuple[str, Any, Any]]:
    """What one folder is told: setting -> its key and value there, and its value here."""
    found: dict[str, tuple[str, Any, Any]] = {}
    if path := str(one.get("path", "")):
        found["path"] = (f"{name}.path", path, place(translation, f"{name}.path", path))
    repeats = translation.value(f"{name}.balancing", one.get("balancing", one.get("repeats", 1.0)), number)
    if one.get("balancing_strategy", "REPEATS") != "REPEATS" or repeats != int(repeats):
        translation.leave(f"{name}.balancing", repeats, "pictures are repeated a whole number of times")
    elif repeats != 1:
        found["repeats"] = (f"{name}.balancing", repeats, int(repeats))
    image, told = (dict(inner) if isinstance(inner := one.get(key), dict) else {} for key in ("image", "text"))
    if image.pop("enable_random_flip", False):
        found["flip"] = (f"{name}.image.enable_random_flip", True, True)
    keep = told.pop("keep_tags_count", 1)
    if told.pop("enable_tag_shuffling", False):
        found["shuffle"] = (f"{name}.text.enable_tag_shuffling", True, True)
        found["keep_tokens"] = (f"{name}.text.keep_tags_count", keep, keep)
    if told.pop("tag_dropout_enable", False):
        rate, mode = told.get("tag_dropout_probability", 0.0), told.get("tag_dropout_mode", "FULL")
        if mode == "RANDOM":
            found["tag_dropout"] = (f"{name}.text.tag_dropout_probability", rate, rate)
        else:
            translation.leave(f"{name}.text.tag_dropout_mode", mode, "tags are left out one by one here")
    for group, settings in (("image", image), ("text", told)):
        for key, value in settings.items():
            counts = key.startswith("enable") or key in ("caps_randomize_enable", "tag_dropout_special_tags")
            if counts and key != "enable_crop_jitter" and value not in OFF:
                translation.leave(f"{name}.{group}.{key}", value, ABSENT)
    if one.get("loss_weight", 1.0) not in (None, 1, 1.0):
        translation.leave(f"{name}.loss_weight", one["loss_weight"], ABSENT)
    return found


def _listed(translation: Translation, key: str, file_key: str) -> list[Any]:
    told = translation.waiting.pop(key, None)
    named = translation.take(file_key, text, "")
    if isinstance(told, list):
        return told
    path = found(named, translation.where) if named else None
    if path is None:
        if named:
            translation.leave(file_key, named, "this file is not here")
        return []
    try:
        read = json.loads(read_text(path))
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, list):
        raise RecipeError("this is not a list in JSON", where=path, fix=f"mend it, or take {file_key} out")
    return read


def _samples(translation: Translation) -> None:
    told = _listed(translation, "samples", "sample_definition_file_name")
    prompts = [str(one.get("prompt", "")) for one in told if isinstance(one, dict) and one.get("enabled", True)]
    if prompts := [prompt for prompt in prompts if prompt]:
        translation.put("samples.prompts", prompts, "samples", f"{len(prompts)} prompts")
        translation.put("samples.count", len(prompts), "samples", f"{len(prompts)} prompts")


def _left_of_parts(translation: Translation, parts: dict[str, dict[str, Any]]) -> None:
    known = {"train", "include", "weight_dtype", "learning_rate", "train_embedding", "gradient_checkpointing"}
    known |= {"offload_fraction", "activation_offloading", "stop_training_after_unit", "model_name"}
    for name, told in parts.items():
        for key, value in told.items():
            if key == "guidance_scale":
                if value not in (1, 1.0):
                    why = "a distilled base is told 1 while it is trained"
                    translation.leave(f"{name}.{key}", value, why)
            elif key == "model_name" and value not in OFF:
                translation.leave(f"{name}.{key}", value, "name the base's parts under [base]")
            elif key not in known and value not in OFF:
                translation.leave(f"{name}.{key}", value, ABSENT)
            elif key == "stop_training_after_unit" and value not in (*OFF, "NEVER"):
                translation.leave(f"{name}.stop_training_after", told.get("stop_training_after"), ABSENT)
