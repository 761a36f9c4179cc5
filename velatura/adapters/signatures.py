"""What an adapter file is for and of which kind, told from its keys alone: for errors that help."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

FAMILIES: Mapping[str, str] = {
    "FLUX.1": r"double_blocks|single_transformer_blocks|lora_unet_single_blocks",
    "SD 3": r"joint_blocks|\.attn\.add_[qkv]_proj",
    "Qwen-Image": r"transformer_blocks_\d+_(attn_add|img_mlp|txt_mlp)|transformer_blocks\.\d+\.(img|txt)_mlp",
    "Z-Image": r"layers[._]\d+[._](attention|feed_forward)[._]",
    "Wan": r"blocks[._]\d+[._](self|cross)_attn[._]",
    "SDXL": r"lora_te[12]_|text_encoder_2\.|(input|output)_blocks_\d+_1_|middle_block_1_"
    r"|attentions[._]\d+[._]transformer_blocks[._][1-9]",
    "SD 1.5": r"attentions[._]\d+[._](transformer_blocks[._]0|proj_)|lora_te_text_model|^text_encoder\.",
}
"""A pattern that some key of the family's adapters matches and none of those further down; looked at in order."""

KINDS: Mapping[str, str] = {
    "a DoRA": r"\.dora_scale$|\.lora_magnitude_vector",
    "a LoHa": r"\.hada_[wt]\d",
    "a LoKr": r"\.lokr_[wt]\d",
    "a LoCon with Tucker cores": r"\.lora_mid\.weight$",
    "an OFT": r"\.oft_",
    "a GLoRA": r"\.[ab][12]\.weight$",
    "full differences": r"\.diff(_b)?$",
    "changes of norms": r"\.[wb]_norm$",
    "a textual inversion": r"^bundle_emb\.|^emb_params$|^string_to_param",
}


def made_for(keys: Iterable[str]) -> str | None:
    """The family of base models that a file's keys name, or None."""
    return _first(keys, FAMILIES)


def kind_of(keys: Iterable[str]) -> str | None:
    """The kind of adapter that keys name where it is not a plain LoRA, or None."""
    return _first(keys, KINDS)


def _first(keys: Iterable[str], table: Mapping[str, str]) -> str | None:
    listed = list(keys)
    return next((name for name, pattern in table.items() if any(re.search(pattern, key) for key in listed)), None)
