"""Small adapter files for the tests of this folder; numbers that any program can work out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from velatura import tensorfile
from velatura.adapters.algebra.factors import factors, open_file

Array = NDArray[np.float32]

STEMS = (
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_mid_block_attentions_0_proj_in",
    "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_2",
)


def random_lora(
    *, seed: int = 0, rank: int = 8, alpha: float | None = 4.0, stems: tuple[str, ...] = STEMS, dtype: Any = np.float32
) -> dict[str, NDArray[Any]]:
    """Keys as kohya's, layers of (24, 20), with a spectrum that falls."""
    draw = np.random.default_rng(seed)
    tensors: dict[str, NDArray[Any]] = {}
    for stem in stems:
        fall = np.arange(1, rank + 1) ** -0.8
        tensors[f"{stem}.lora_up.weight"] = (draw.standard_normal((24, rank)) * fall).astype(dtype)
        tensors[f"{stem}.lora_down.weight"] = draw.standard_normal((rank, 20)).astype(dtype)
        if alpha is not None:
            tensors[f"{stem}.alpha"] = np.array(alpha, np.float32)
    return tensors


def written(path: Path, tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> Path:
    path.write_bytes(tensorfile.to_bytes(tensors, metadata))
    return path


def deltas(path: Path) -> dict[str, Array]:
    """The change of every LoRA layer in a file, in full."""
    file = open_file(path)
    return {stem: factors(file, layer).delta() for stem, layer in file.layers.items() if layer.low_rank}


def apart(one: Array, other: Array) -> float:
    """Relative Frobenius difference."""
    return float(np.linalg.norm(one.astype(np.float64) - other) / np.linalg.norm(other))
