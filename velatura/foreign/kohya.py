"""kohya-ss/sd-scripts: a command line, the TOML of --config_file, the TOML of --dataset_config.

Facts: sections of a --config_file mean nothing, and what the command line says wins over it; a dataset's TOML wins
over both. Without being told, text encoders are trained, the rank is 4 with alpha 1, and a run takes 1600 steps at a
constant learning rate. Sources: `library/train_util.py`, `train_network.py`, `networks/lora.py`,
`networks/lora_flux.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velatura.foreign import kohya_captions, kohya_course, kohya_network, kohya_noise
from velatura.foreign.places import place
from velatura.foreign.reasons import ABSENT, CARD, ELSEWHERE, FILES, HUB, LOGS, MACHINE, RESUME, each
from velatura.foreign.translation import OFF, Translation, text, whole, words

TRAINER = "kohya-ss/sd-scripts"

LEFT: Mapping[str, str] = {
    **each(
        MACHINE,
        (
            "mixed_precision full_fp16 full_bf16 fp8_base fp8_base_unet lowram highvram xformers sdpa mem_eff_attn"
            " mem_eff_save cache_latents cache_latents_to_disk skip_cache_check cache_info cache_text_encoder_outputs"
            " cache_text_encoder_outputs_to_disk text_encoder_batch_size vae_batch_size no_half_vae"
            " max_data_loader_n_workers persistent_data_loader_workers gradient_checkpointing"
            " cpu_offload_checkpointing blocks_to_swap single_blocks_to_swap double_blocks_to_swap torch_compile"
            " dynamo_backend split_mode fused_backward_pass disable_mmap_load_safetensors ddp_timeout"
            " ddp_gradient_as_bucket_view ddp_static_graph deepspeed zero_stage offload_optimizer_device"
            " offload_optimizer_nvme_path offload_param_device offload_param_nvme_path zero3_init_flag"
            " zero3_save_16bit_model fp16_master_weights_and_gradients dataset_class num_cpu_threads_per_process"
            " num_processes num_machines gpu_ids main_process_port multi_gpu dynamo_mode dynamo_use_dynamic"
            " dynamo_use_fullgraph m"
        ),
    ),
    **each(
        LOGS,
        (
            "logging_dir log_prefix log_tracker_name wandb_run_name log_tracker_config wandb_api_key"
            " log_config console_log_level console_log_file console_log_simple debug_dataset show_timesteps"
            " show_timesteps_resolution"
        ),
    ),
    **each(
        FILES,
        (
            "output_dir save_model_as use_safetensors save_precision no_metadata save_n_epoch_ratio tokenizer_cache_dir"
            " output_config save_clip save_t5xxl"
        ),
    ),
    **each(
        HUB,
        (
            "huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token"
            " huggingface_repo_visibility save_state_to_huggingface resume_from_huggingface async_upload"
        ),
    ),
    **each(
        CARD,
        (
            "training_comment metadata_title metadata_author metadata_description metadata_license metadata_tags"
            " metadata_usage_hint metadata_thumbnail metadata_merged_from metadata_trigger_phrase metadata_preprocessor"
            " metadata_is_negative_embedding metadata_reso metadata_arch"
        ),
    ),
    **each(RESUME, "resume skip_until_initial_step initial_epoch initial_step"),
    **each(
        "the optimizer's state is kept with the newest checkpoints (checkpoints.keep_state)",
        "save_state save_state_on_train_end save_last_n_epochs_state save_last_n_steps_state",
    ),
    **each("every checkpoint is kept", "save_last_n_epochs save_last_n_steps"),
    **each(ELSEWHERE, "v2 gemma2 clip_g byt5 qwen3 controlnet_model_name_or_path"),
    **each(
        "text encoders read a fixed length here, and `velatura plan` names the captions that are longer",
        "max_token_length t5xxl_max_token_length",
    ),
    "weighted_captions": "captions are read as they stand",
    "sample_at_first": "the base is painted with when checkpoints are judged",
    "validation_seed": "which pictures are held out follows from train.seed",
    **each(
        "every held-out picture is measured, at validation.strata noise levels",
        "max_validation_steps",
    ),
    **each(
        ABSENT,
        (
            "base_weights_multiplier apply_t5_attn_mask train_inpainting dim_from_weights"
            " stop_text_encoder_training lr_decay_steps lr_scheduler_timescale"
            " lr_scheduler_type lr_scheduler_args conditioning_data_dir resize_interpolation network_multiplier"
            " custom_attributes"
        ),
    ),
}
"""What is not carried over, and why."""

WANDB_PROJECT = "network_train"
"""What kohya's trainer calls its project on Weights & Biases where nothing else is told."""


def translate(translation: Translation, *, script: str = "") -> None:
    """Carry over the settings of one training.

    Args:
        script: the name of the script that the settings are for, where the file says it.
    """
    family = family_of(script, translation.waiting)
    base(translation, family)
    kohya_network.translate(translation, family)
    kohya_course.translate(translation)
    kohya_noise.translate(translation, family)
    kohya_captions.translate(translation)
    samples(translation)
    tracked(translation)
    translation.leave_told(LEFT, off=(*OFF, "fp32") if family else OFF)
    translation.leave_rest()


def family_of(script: str, told: Mapping[str, Any]) -> str:
    """The family of the base, as the script or the network's module tells it; empty where nothing does."""
    hints = f"{script} {told.get('network_module', '')}"
    for family, signs in {"flux1": ("flux",), "sdxl": ("sdxl",), "z_image": ("zimage", "z_image")}.items():
        if any(sign in hints for sign in signs):
            return family
    if told.get("t5xxl") and told.get("ae"):
        return "flux1"
    return "sd15" if script == "train_network" else ""


def base(translation: Translation, family: str) -> None:
    """The base model and its parts, and the name of what is made."""
    named = translation.take("pretrained_model_name_or_path", text, "")
    if named:
        key = "pretrained_model_name_or_path"
        translation.put("base.model", place(translation, key, named), key, named)
    for key in ("vae", "ae"):
        if vae := translation.take(key, text, ""):
            translation.put("base.vae", place(translation, key, vae), key, vae)
    encoders = {key: named for key in ("clip_l", "t5xxl") if (named := translation.take(key, text, ""))}
    if encoders:
        found = [place(translation, key, named) for key, named in encoders.items()]
        translation.put("base.text_encoders", found, ", ".join(encoders), ", ".join(encoders.values()))
    told = translation.take("model_type", text, "flux")
    if told != "flux":
        translation.leave("model_type", told, ELSEWHERE)
    if family == "sdxl":
        translation.leave_told({"clip_skip": "for SDXL this trainer ignores it too"}, off=(*OFF, 1, 2, "1", "2"))
    else:
        translation.carry("clip_skip", "base.clip_skip", number_of_layers)
    merged = translation.take("base_weights", words, list[str]())
    if len(merged) == 1 and translation.waiting.get("base_weights_multiplier") in (None, [1], [1.0], "1", "1.0"):
        translation.waiting.pop("base_weights_multiplier", None)
        translation.put("base.assistant", place(translation, "base_weights", merged[0]), "base_weights", merged[0])
    elif merged:
        translation.leave("base_weights", merged, "one LoRA can be merged while training, at its full strength")
    translation.carry("output_name", "name", text)


def number_of_layers(value: Any) -> int | None:
    """CLIP's layer counted from the last; 0 and 1 are the last, which is what is read without being told."""
    layer = int(float(value))
    return layer if layer > 1 else None


def tracked(translation: Translation) -> None:
    """Where the numbers of a run go."""
    told = translation.take("log_with", text, "")
    if told in ("tensorboard", "all"):
        translation.put("tracking.tensorboard", True, "log_with", told)
    if told in ("wandb", "all"):
        project = translation.take("log_tracker_name", text, "") or WANDB_PROJECT
        translation.put("tracking.wandb", project, "log_with", told)


def samples(translation: Translation) -> None:
    """Sample pictures, painted here at each checkpoint."""
    told = translation.take("sample_prompts", text, "")
    lines = kohya_captions.prompt_lines(told, translation) if told else []
    prompts = [line.partition(" --")[0].strip() for line in lines]
    if prompts := list(dict.fromkeys(prompt for prompt in prompts if prompt)):
        translation.put("samples.prompts", prompts, "sample_prompts", told)
        translation.put("samples.count", len(prompts), "sample_prompts", told)
    if any(" --" in line for line in lines):
        why = "size, seed and guidance are the same for all sample pictures: set them under [samples]"
        translation.leave("sample_prompts", "--w, --h, --d, --l, --s, --n", why)
    translation.carry("sample_every_n_steps", "samples.every", whole)
    translation.carry("sample_every_n_epochs", "samples.every_epochs", whole)
    translation.leave_told({"sample_sampler": "set samples.sampler, by its name in A1111"}, off=(*OFF, "ddim"))
