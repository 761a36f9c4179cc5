"""ostris/ai-toolkit: the YAML, or JSON, of a job of the kind `sd_trainer`.

Facts (`toolkit/config_modules.py`, `jobs/process/BaseSDTrainProcess.py`, `toolkit/optimizer.py`): the rank is 4 and
alpha 1 without being told; 1000 steps at 1e-6; adapters lie in the transformer's blocks; a list of resolutions trains
every picture at each; optimizers add 1e-6; noise levels of a flow are the sigmoid of normal numbers; `[trigger]` in a
prompt stands for the trigger word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velatura.errors import RecipeError
from velatura.foreign.kohya_captions import resolution
from velatura.foreign.places import begins_with, place
from velatura.foreign.reasons import ABSENT, CARD, ELSEWHERE, FILES, HUB, LOGS, MACHINE, each
from velatura.foreign.translation import NOTHING, Translation, flag, number, text, whole

TRAINER = "ostris/ai-toolkit"

KINDS: Mapping[str, str] = {"lora": "lora", "locon": "lora", "lokr": "lokr"}

OPTIMIZERS: Mapping[str, str] = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "adafactor": "adafactor",
    "prodigy": "prodigy",
    "lion": "lion",
}

LOSSES: Mapping[str, str] = {"mse": "l2", "mae": "l1"}

MANY = 9999
"""A rank beyond this means whole matrices."""

MACHINE_KEYS = (
    "device train.dtype train.gradient_checkpointing train.xformers train.sdp train.attention_backend"
    " train.cache_text_embeddings train.unload_text_encoder model.quantize model.quantize_te model.qtype model.qtype_te"
    " model.low_vram model.dtype model.vae_device model.vae_dtype model.te_device model.te_dtype model.compile"
    " model.block_compile model.compile_mode model.compile_fullgraph model.compile_dynamic model.cache_size_limit"
    " model.layer_offloading model.auto_memory model.layer_offloading_transformer_percent model.text_encoder_bits"
    " model.layer_offloading_text_encoder_percent model.split_model_over_gpus model.quantize_kwargs"
    " network.layer_offloading datasets.cache_latents datasets.cache_latents_to_disk datasets.num_workers"
    " datasets.prefetch_factor datasets.cache_text_embeddings datasets.cache_latents_num_workers"
    " datasets.cache_tensors_to_disk datasets.fast_image_size"
)

FILE_KEYS = "training_folder save.dtype save.save_format save.max_step_saves_to_keep sample.format type sqlite_db_path"

LEFT: Mapping[str, str] = {
    **each(MACHINE, MACHINE_KEYS),
    **each(FILES, FILE_KEYS),
    "meta": CARD,
    **each(HUB, "save.push_to_hub save.hf_repo_id save.hf_private"),
    **each(
        LOGS,
        (
            "performance_log_every logging.log_every logging.verbose logging.use_wandb logging.use_ui_logger"
            " logging.project_name logging.run_name torch_profiler"
        ),
    ),
    **each(
        "sample pictures are painted at each checkpoint, as the base needs it",
        (
            "sample.sampler sample.sample_start_step sample.width sample.height sample.neg"
            " sample.walk_seed sample.guidance_rescale sample.num_frames sample.fps train.skip_first_sample"
            " train.force_first_sample train.disable_sampling"
        ),
    ),
    "network.old_lokr_format": FILES,
    "network.network_kwargs": "write it as patterns in adapter.targets",
    "model.inference_lora_path": "sample pictures are painted with what is trained alone",
    "train.do_cfg": ABSENT,
}

USUAL: Mapping[str, tuple[object, ...]] = {
    "train.train_unet": (True,),
    "train.train_refiner": (True,),
    "train.content_or_style": ("balanced",),
    "train.noise_multiplier": (1.0,),
    "train.reg_weight": (1.0,),
    "train.noise_scheduler": ("flowmatch", "ddpm"),
    "train.max_denoising_steps": (1000, 999),
    "network.transformer_only": (True,),
    "datasets.buckets": (True,),
    "datasets.bucket_tolerance": (64,),
    "datasets.scale": (1.0,),
    "datasets.network_weight": (1.0,),
    "datasets.loss_multiplier": (1.0,),
    "datasets.caption_ext": ("txt", ".txt"),
    "datasets.random_triggers_max": (1,),
    "datasets.num_frames": (1,),
    "datasets.shrink_video_to_frames": (True,),
    "datasets.type": ("image",),
    "model.use_text_encoder_1": (True,),
    "model.use_text_encoder_2": (True,),
    "train.gradient_accumulation_steps": (1,),
    "train.gradient_accumulation": (1,),
    "train.loss_target": ("noise",),
    "train.weight_jitter": (0.0,),
}
"""Values that change nothing."""


def settings_of(tree: Mapping[str, Any], translation: Translation) -> dict[str, Any]:
    """The settings of the job's one training, each under its full name: `train.lr`.

    Raises:
        RecipeError: it is no such job.
    """
    where = translation.where
    config = tree.get("config")
    processes = config.get("process") if isinstance(config, dict) else None
    if not isinstance(processes, list) or not processes or not all(isinstance(one, dict) for one in processes):
        raise RecipeError("this job has no process", where=where, fix="give a job as ai-toolkit runs it")
    if len(processes) > 1:
        raise RecipeError(f"this job has {len(processes)} processes, not one", where=where, fix="leave one")
    assert isinstance(config, dict)
    found: dict[str, Any] = {"name": config.get("name"), "meta": tree.get("meta")}
    job = tree.get("job")
    if job not in ("extension", "train"):
        found["job"] = job
    for key, value in processes[0].items():
        if key == "datasets":
            found |= _datasets(value, where)
        elif isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = value
    return {key: value for key, value in found.items() if value not in NOTHING}


def _datasets(told: Any, where: object) -> dict[str, Any]:
    """Settings of the folders of pictures; what several do not share is named for each."""
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise RecipeError("datasets is not a list of folders", where=where, fix="write each with a - in front")
    own = [one for one in told if not one.get("is_reg")]
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in own for key in one):
        values = [one.get(key) for one in own]
        if all(value == values[0] for value in values):
            found[f"datasets.{key}"] = values[0]
        else:
            found |= {f"datasets[{at}].{key}": value for at, value in enumerate(values) if value is not None}
    classes = [one for one in told if one.get("is_reg")]
    if len(classes) == 1:
        found["datasets.reg_folder"] = classes[0].get("folder_path")
    elif classes:
        found |= {f"datasets.is_reg[{at}]": one.get("folder_path") for at, one in enumerate(classes)}
    return found


def translate(translation: Translation) -> None:
    """Carry over the settings of one training."""
    translation.carry("name", "name", text)
    family = _base(translation)
    _network(translation, family)
    _course(translation)
    _objective(translation, family)
    _pictures(translation)
    _preserved(translation)
    _samples(translation)
    for key, values in USUAL.items():
        if key in translation.waiting and translation.waiting[key] in values:
            translation.waiting.pop(key)
    translation.leave_told(LEFT)
    for key in [
        key for key in translation.waiting if key.partition(".")[0] in ("train", "model", "network", "datasets")
    ]:
        translation.leave_told({key: ABSENT})
    translation.leave_rest()


def _base(translation: Translation) -> str:
    key = "model.name_or_path"
    named = translation.take(key, text, "")
    if named:
        translation.put("base.model", place(translation, key, named), key, named)
    told = str(translation.waiting.pop("model.arch", "") or "")
    signs = {"model.is_flux": "flux1", "model.is_xl": "sdxl"}
    family = next((name for sign, name in signs.items() if translation.waiting.pop(sign, None) is True), "")
    families = {"flux": "flux1", "sdxl": "sdxl", "zimage": "z_image", "sd1": "sd15", "sd": "sd15"}
    family = family or families.get(told, "")
    if told and told not in families:
        translation.leave("model.arch", told, ELSEWHERE)
    if vae := translation.take("model.vae_path", text, ""):
        translation.put("base.vae", place(translation, "model.vae_path", vae), "model.vae_path", vae)
    if assistant := translation.take("model.assistant_lora_path", text, ""):
        key = "model.assistant_lora_path"
        translation.put("base.assistant", place(translation, key, assistant), key, assistant)
    if translation.take("model.is_v_pred", flag, False):
        translation.put("base.prediction", "v", "model.is_v_pred", True)
    return family


def _network(translation: Translation, family: str) -> None:
    told = translation.take("network.type", text, "lora")
    kind = KINDS.get(told.lower(), "")
    if kind:
        translation.put("adapter.kind", kind, "network.type", told, told=kind != "lora")
    else:
        translation.leave("network.type", told, "adapters of this kind are not trained here; this trains a LoRA")
    linear = translation.take("network.linear", whole, 4)
    key = "network.rank" if translation.told("network.rank") else "network.linear"
    rank = translation.take("network.rank", whole, linear)
    alpha = translation.take("network.linear_alpha", number, translation.take("network.alpha", number, 1.0))
    full = translation.take("network.lokr_full_rank", flag, True)
    if kind == "lokr":
        factor = translation.take("network.lokr_factor", whole, -1)
        if factor > 0:
            translation.put("adapter.factor", factor, "network.lokr_factor", factor)
        if full or rank > MANY:
            translation.leave("network.lokr_full_rank", True, "set adapter.rank: a large one makes whole matrices")
            return
    translation.put("adapter.rank", rank, key, rank)
    translation.put("adapter.alpha", alpha, "network.linear_alpha", alpha)
    conv = translation.take("network.conv", whole, 0)
    conv_alpha = translation.take("network.conv_alpha", number, float(conv))
    if conv and conv != rank:
        translation.put("adapter.conv_rank", conv, "network.conv", conv)
    if conv and conv_alpha * rank != alpha * conv:
        why = f"alpha / rank is the same for all layers here, {alpha:g} / {rank}"
        translation.leave("network.conv_alpha", conv_alpha, why)
    translation.leave_told(
        {"network.dropout": "it leaves out single values; adapter.dropout leaves out whole channels"}
    )
    begins_with(translation, "network.pretrained_lora_path")
    layers = {"flux1": ["all"], "z_image": ["denoiser.layers.*"]}.get(family, ["all"] if conv else ["attention+mlp"])
    texts = translation.take("train.train_text_encoder", flag, False)
    translation.put("adapter.targets", [*layers, *(["text"] if texts else [])], "network.type", told, told=False)


def _course(translation: Translation) -> None:
    told = translation.told("train.steps")
    steps = translation.take("train.steps", whole, 1000)
    legacy = translation.take("train.gradient_accumulation_steps", whole, 1)
    true = translation.take("train.gradient_accumulation", whole, 1)
    if legacy > 1:
        translation.put("train.steps", max(1, steps // legacy), "train.steps", steps)
        translation.put("train.accumulation", legacy, "train.gradient_accumulation_steps", legacy)
        translation.notes.append(f"train.steps = {steps} counts batches there, and {legacy} make one step")
    else:
        translation.put("train.steps", steps, "train.steps", steps, told=told)
        if true > 1:
            translation.put("train.accumulation", true, "train.gradient_accumulation", true)
    translation.carry("train.batch_size", "train.batch", whole, 1)
    _optimizer(translation)
    rate = translation.take("train.lr", number, 1e-6)
    denoiser = translation.take("train.unet_lr", number, rate)
    translation.put("train.learning_rate", denoiser, "train.lr", denoiser)
    texts = translation.take("train.text_encoder_lr", number, rate)
    if texts != denoiser and "text" in translation.tree["adapter"].get("targets", []):
        translation.put("train.text_learning_rate", texts, "train.text_encoder_lr", texts)
    _schedule(translation)
    translation.carry("train.max_grad_norm", "train.clip", number)
    uses = translation.waiting.pop("train.ema_config", None)
    if isinstance(uses, dict) and uses.get("use_ema") is True:
        decay = uses.get("ema_decay", 0.999)
        translation.put("train.ema", decay, "train.ema_config.ema_decay", decay)
    translation.carry("save.save_every", "checkpoints.every", whole, 1000)
    translation.carry("sample.sample_every", "samples.every", whole, 100)


def _optimizer(translation: Translation) -> None:
    name = translation.take("train.optimizer", text, "adamw")
    ours = OPTIMIZERS.get(name.lower())
    parameters = translation.waiting.pop("train.optimizer_params", None) or {}
    if ours is None:
        translation.leave("train.optimizer", name, "there is no such optimizer here; this trains with AdamW")
        ours = "adamw"
    else:
        rate = translation.waiting.get("train.lr")
        if ours == "prodigy" and (rate is None or translation.value("train.lr", rate, number) < 0.1):
            translation.waiting["train.lr"] = 1.0
            translation.notes.append("train.lr: this trainer takes 1 for Prodigy where less than 0.1 is told")
        if ours == "prodigy":
            translation.put("train.learning_rate", translation.waiting["train.lr"], "train.lr", rate)
        translation.put("train.optimizer", ours, "train.optimizer", name, told=ours != "adamw")
    found: dict[str, Any] = {"eps": 1e-6} if ours in ("adamw", "adamw8bit", "prodigy") else {}
    if found:
        translation.put("train.optimizer_settings", dict(found), "train.optimizer", "eps 1e-6", told=False)
    decay = parameters.pop("weight_decay", None) if isinstance(parameters, dict) else None
    if decay is not None:
        translation.put("train.weight_decay", decay, "train.optimizer_params.weight_decay", decay)
    elif ours in ("prodigy", "lion", "adafactor"):
        translation.put("train.weight_decay", 0.0, "train.optimizer_params.weight_decay", 0.0, told=False)
    for key, value in parameters.items() if isinstance(parameters, dict) else ():
        betas = isinstance(value, list) and key == "betas"
        more = {f"beta{at}": beta for at, beta in enumerate(value, start=1)} if betas else {key: value}
        translation.put("train.optimizer_settings", found | more, f"train.optimizer_params.{key}", value)


def _schedule(translation: Translation) -> None:
    name = translation.take("train.lr_scheduler", text, "constant")
    parameters = translation.waiting.pop("train.lr_scheduler_params", None) or {}
    ours = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine", "linear": "linear"}.get(
        name
    )
    if ours is None:
        translation.leave("train.lr_scheduler", name, "there is no such course here")
        return
    translation.put("train.schedule", ours, "train.lr_scheduler", name, told=name != "constant")
    if not isinstance(parameters, dict):
        return
    warmup = parameters.pop("num_warmup_steps", 1000 if name == "constant_with_warmup" else None)
    if warmup is not None:
        translation.put("train.warmup", warmup, "train.lr_scheduler_params.num_warmup_steps", warmup)
    for key, value in parameters.items():
        translation.leave(f"train.lr_scheduler_params.{key}", value, ABSENT)


def _objective(translation: Translation, family: str) -> None:
    gamma = translation.take("train.min_snr_gamma", number, translation.take("train.snr_gamma", number, 0.0))
    translation.put("objective.min_snr", gamma, "train.min_snr_gamma", gamma, told=gamma != 0)
    translation.carry("train.noise_offset", "objective.noise_offset", number)
    kind = translation.take("train.loss_type", text, "mse")
    if kind in LOSSES:
        translation.put("objective.loss", LOSSES[kind], "train.loss_type", kind, told=kind != "mse")
    else:
        translation.leave("train.loss_type", kind, "there is no such loss here")
    least = translation.take("train.min_denoising_steps", whole, 0)
    if least:
        translation.put("objective.min_timestep", least, "train.min_denoising_steps", least)
    most = translation.take("train.max_denoising_steps", whole, 999)
    if most < 999:
        translation.put("objective.max_timestep", most + 1, "train.max_denoising_steps", most)
    flows = family in ("flux1", "z_image") or translation.waiting.get("train.noise_scheduler") == "flowmatch"
    how = translation.take("train.timestep_type", text, "sigmoid")
    if flows:
        _levels(translation, how)
    translation.carry("train.reg_weight", "dataset.prior_weight", number)
    translation.leave_told({"train.bypass_guidance_embedding": "a distilled base is told 1 while it is trained"})


def _preserved(translation: Translation) -> None:
    """What is to stay of the class; after the trigger, whose place it takes."""
    if translation.take("train.diff_output_preservation", flag, False):
        strength = translation.take("train.diff_output_preservation_multiplier", number, 1.0)
        kept = translation.take("train.diff_output_preservation_class", text, "")
        translation.put("objective.preserve", kept, "train.diff_output_preservation_class", kept)
        translation.put("objective.preserve_weight", strength, "train.diff_output_preservation_multiplier", strength)
    for key in ("train.diff_output_preservation_multiplier", "train.diff_output_preservation_class"):
        translation.waiting.pop(key, None)


def _levels(translation: Translation, how: str) -> None:
    densities = {
        "sigmoid": ("sigmoid", 1.0),
        "linear": ("uniform", 1.0),
        "flux_shift": ("uniform", "resolution"),
        "shift": ("uniform", None),
    }
    if translation.take("train.linear_timesteps", flag, False) or translation.take(
        "train.linear_timesteps2", flag, False
    ):
        translation.leave("train.linear_timesteps", True, "its weights of noise levels are not known here")
        how = "linear"
    if how not in densities:
        translation.leave("train.timestep_type", how, "there is no such spread of noise levels here")
        return
    density, shift = densities[how]
    translation.put("objective.timesteps", density, "train.timestep_type", how)
    if shift is not None:
        translation.put("objective.shift", shift, "train.timestep_type", how)


def _pictures(translation: Translation) -> None:
    key = "datasets.folder_path" if translation.told("datasets.folder_path") else "datasets.dataset_path"
    if named := translation.take(key, text, ""):
        translation.put("dataset.path", place(translation, key, named), key, named)
    sides = translation.waiting.get("datasets.resolution")
    if isinstance(sides, list) and len(sides) > 1:
        translation.waiting.pop("datasets.resolution")
        translation.put("dataset.resolution", sides[0], "datasets.resolution", sides)
        translation.put("dataset.further_resolutions", sides[1:], "datasets.resolution", sides)
    else:
        if isinstance(sides, list):
            translation.waiting["datasets.resolution"] = sides[0] if sides else None
        resolution(translation, "datasets.resolution")
    if folder := translation.take("datasets.reg_folder", text, ""):
        where = place(translation, "datasets.is_reg", folder)
        translation.put("dataset.regularisation", where, "datasets.is_reg", folder)
    else:
        translation.put("dataset.regularisation", "", "datasets.is_reg", False, told=False)
    trigger = translation.take("trigger_word", text, "") or translation.take("datasets.trigger_word", text, "")
    if trigger:
        translation.put("dataset.trigger", trigger, "trigger_word", trigger)
    dropout = translation.take("datasets.caption_dropout_rate", number, 0.0)
    translation.put("dataset.caption_dropout", dropout, "datasets.caption_dropout_rate", dropout, told=dropout != 0)
    for key, setting, read in (
        ("datasets.token_dropout_rate", "dataset.tag_dropout", number),
        ("datasets.shuffle_tokens", "dataset.shuffle", flag),
        ("datasets.keep_tokens", "dataset.keep_tokens", whole),
        ("datasets.flip_x", "dataset.flip", flag),
        ("datasets.num_repeats", "dataset.repeats", whole),
    ):
        translation.carry(key, setting, read)
    masked = "alpha" if translation.take("datasets.alpha_mask", flag, False) else "off"
    translation.put("objective.masked_loss", masked, "datasets.alpha_mask", masked == "alpha", told=masked == "alpha")
    translation.leave_told({"datasets.mask_path": "masks are read from masks/ in the folder of the pictures"})
    translation.put("dataset.hold_out", 0.0, "train.validation_config", None, told=False)
    translation.notes.append(
        "all pictures are trained on, as there; dataset.hold_out = 0.2 keeps some back to judge checkpoints by"
    )


def _samples(translation: Translation) -> None:
    trigger = translation.tree.get("dataset", {}).get("trigger", "")
    told = translation.waiting.pop("sample.samples", None) or translation.waiting.pop("sample.prompts", None)
    translation.waiting.pop("sample.prompts", None)
    items = told if isinstance(told, list) else []
    prompts = [str(one.get("prompt", "") if isinstance(one, dict) else one) for one in items]
    prompts = [prompt.replace("[trigger]", trigger) for prompt in prompts if prompt]
    if prompts:
        translation.put("samples.prompts", prompts, "sample.prompts", f"{len(prompts)} prompts")
        translation.put("samples.count", len(prompts), "sample.prompts", f"{len(prompts)} prompts")
    if any(isinstance(one, dict) and len(one) > 1 for one in items):
        translation.leave("sample.samples", "width, height, seed...", "these are the same for all sample pictures here")
    translation.carry("sample.seed", "samples.seed", whole)
    translation.carry("sample.sample_steps", "samples.sampling_steps", whole)
    scale = translation.take("sample.guidance_scale", number, 7.0)
    setting = "samples.guidance" if "flux" in str(translation.tree.get("base", {}).get("model", "")).lower() else ""
    translation.put(setting or "samples.cfg_scale", scale, "sample.guidance_scale", scale, told=True)
    for key in ("sample.neg", "sample.walk_seed"):
        translation.waiting.pop(key, None)
