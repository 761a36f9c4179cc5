"""What follows a layer's name in a key of an adapter file, whichever program wrote it."""

from __future__ import annotations

from collections.abc import Mapping

_LORA = {
    "down": ("lora_down.weight", "lora_A.weight", "lora.down.weight", "lora_linear_layer.down.weight"),
    "up": ("lora_up.weight", "lora_B.weight", "lora.up.weight", "lora_linear_layer.up.weight"),
    "mid": ("lora_mid.weight",),
    "bias": ("lora_B.bias", "lora_up.bias"),
    "magnitude": ("dora_scale",),
    "peft_magnitude": ("lora_magnitude_vector", "lora_magnitude_vector.weight"),
    "alpha": ("alpha",),
    "scale": ("scale",),
}

_OTHERS = (
    *(f"hada_w{number}_{half}" for number in (1, 2) for half in "ab"),
    *("hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t1", "lokr_t2"),
    *("diff", "diff_b", "w_norm", "b_norm"),
    *("oft_blocks", "rescale"),
    *("on_input", "ia3_l"),
)

ENDINGS: Mapping[str, str] = {
    **{f".{ending}": name for name, endings in _LORA.items() for ending in endings},
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_magnitude_vector.default.weight": "peft_magnitude",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora1.down.weight": "down",
    "_lora1.up.weight": "up",
    "_lora2.down.weight": "down",
    "_lora2.up.weight": "up",
    **{f".{name}": name for name in _OTHERS},
    **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2")},
    ".oft_R.weight": "oft_vectors",
    ".oft_R.scaled_oft": "oft_scaled",
    ".boft_R": "boft_blocks",
    ".boft_s": "boft_scale",
    ".weight": "weight",
}
"""What follows the layer in a key -> what the tensor is. The longest one that fits counts."""

_BY_LENGTH = sorted(ENDINGS, key=len, reverse=True)

NUMBERED = {"_lora1": "1", "_lora2": "2"}
"""XLabs' adapters for the picture's and the text's side of a block: the number belongs to the layer's name."""


def split(key: str) -> tuple[str, str | None]:
    """A key as the layer's name in the file and what the tensor is; None where that is not known."""
    for ending in _BY_LENGTH:
        if key.endswith(ending) and len(key) > len(ending):
            stem = key[: -len(ending)]
            return stem + NUMBERED.get(ending.partition(".")[0], ""), ENDINGS[ending]
    return key, None
