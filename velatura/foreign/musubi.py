"""kohya-ss/musubi-tuner: a command line, the TOML of --config_file, the TOML of --dataset_config.

Facts: the options are those of sd-scripts with other files for the base (`dit`, `vae`, `text_encoder`); text encoders
are never trained; the table of sigmas is not shifted without being told. A dataset is a folder (`image_directory`) at
960 x 544 without being told, and without `enable_bucket` cut to one size. Sources: `training/parser_common.py`,
`dataset/config_utils.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from velatura.foreign import kohya, kohya_captions, kohya_course, kohya_network, kohya_noise
from velatura.foreign.places import place
from velatura.foreign.reasons import ABSENT, ELSEWHERE, MACHINE, each
from velatura.foreign.translation import Translation, text

TRAINER = "kohya-ss/musubi-tuner"

LEFT: Mapping[str, str] = {
    **each(
        MACHINE,
        (
            "dit_dtype vae_dtype text_encoder_dtype fp8_llm fp8_t5 fp8_vl fp8_scaled fp8_base flash_attn sage_attn"
            " flash3 split_attn attn_mode compile compile_backend compile_mode compile_dynamic compile_fullgraph"
            " compile_cache_size_limit cuda_allow_tf32 cuda_cudnn_benchmark dynamo_mode dynamo_fullgraph dynamo_dynamic"
            " gradient_checkpointing_cpu_offload use_pinned_memory_for_block_swap block_swap_h2d_only"
            " block_swap_ring_size img_in_txt_in_offloading disable_numpy_memmap vae_tiling vae_chunk_size"
            " vae_spatial_tile_sample_min_size use_32bit_attention num_timestep_buckets cache_directory"
            " vae_cache_cpu vae_enable_tiling"
        ),
    ),
    **each(
        ABSENT,
        "preserve_distribution_shape video_directory image_jsonl_file video_jsonl_file control_directory",
    ),
    **each(ELSEWHERE, "dit_in_channels image_encoder clip t5 task num_layers is_i2v"),
}


def translate(translation: Translation, *, script: str = "") -> None:
    """Carry over the settings of one training.

    Args:
        script: the name of the script that the settings are for, where the file says it.
    """
    family = kohya.family_of(script, translation.waiting)
    if family != "z_image":
        module = translation.waiting.get("network_module") or script or "a file"
        translation.notes.append(f"{module} is for a base that is not known here; name the base that you mean")
    _base(translation)
    translation.waiting.setdefault("network_train_unet_only", True)
    kohya_network.translate(translation, family)
    kohya_course.translate(translation)
    kohya_noise.loss(translation)
    kohya_noise.flow(translation, shift=1.0)
    kohya_noise.levels(translation)
    if folder := translation.waiting.pop("image_directory", None):
        translation.waiting["image_dir"] = folder
    kohya_captions.translate(translation)
    kohya.samples(translation)
    translation.leave_told({**kohya.LEFT, **LEFT})
    translation.leave_rest()


def _base(translation: Translation) -> None:
    for key, setting in {"dit": "base.model", "vae": "base.vae"}.items():
        if named := translation.take(key, text, ""):
            translation.put(setting, place(translation, key, named), key, named)
    keys = ("text_encoder", "text_encoder1", "text_encoder2")
    told = {key: named for key in keys if (named := translation.take(key, text, ""))}
    if told:
        found = [place(translation, key, named) for key, named in told.items()]
        translation.put("base.text_encoders", found, ", ".join(told), ", ".join(told.values()))
    if weights := translation.take("base_weights", text, ""):
        translation.put("base.assistant", place(translation, "base_weights", weights), "base_weights", weights)
    translation.carry("output_name", "name", text)
