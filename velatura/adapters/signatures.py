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

UNREAD: Mapping[str, str] = {
    "an OFT of PEFT's before its release 0.14": r"\.oft_r(\.|$)",
    "a VeRA": r"\.vera_",
    "a GLoRA with Tucker cores": r"\.bm\.weight$",
    "a textual inversion and no adapter": r"^emb_params$|^string_to_param|^clip_[lg]$",
    "a whole model": r"^model\.diffusion_model\.|^first_stage_model\.",
}
"""Kinds that are told by a key and not read."""

MERGEABLE = frozenset({"OFT", "VeRA", "GLoRA"})
"""Those of them that change a base's weights, so that a base with them in it can be made elsewhere."""


def made_for(keys: Iterable[str]) -> str | None:
    """The family of base models that a file's keys name, or None."""
    return _first(keys, FAMILIES)


def unread_kind(keys: Iterable[str]) -> str | None:
    """What keys are of where they are of a kind that is not read, or None."""
    return _first(keys, UNREAD)


def _first(keys: Iterable[str], table: Mapping[str, str]) -> str | None:
    listed = "\n".join(keys)  # one search of all is many times as fast as one of each
    return next((name for name, pattern in table.items() if re.search(pattern, listed, re.MULTILINE)), None)
