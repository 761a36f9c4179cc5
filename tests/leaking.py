"""Load a tiny base again and again, switch LoRAs and texts on it, and print what memory the process then has.

    python -m tests.leaking FOLDER LOADS

Prints the bytes that no file stands behind, as the system counts them, after a first round of LOADS and after each of
two rounds more. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests import tiny
from velatura.adapters.layers import shapes
from velatura.adapters.merge import Applied
from velatura.adapters.weights import Lora
from velatura.family import MemoryPolicy, load_base
from velatura.text.weighted import plain
from velatura.training.samples import merged

POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"in_turn": True},
    {"swapped_blocks": 1},
    {"dtype": torch.bfloat16, "checkpointing": True, "in_turn": True, "swapped_blocks": 2},
)


def anonymous() -> int:
    """Bytes of this process that no file stands behind, when all that is free has been given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))


@torch.no_grad()
def loaded(base: Path, number: int) -> None:
    """One load, with two switches of LoRAs and texts."""
    model = load_base(base, policy=MemoryPolicy(**POLICIES[number % len(POLICIES)]))
    noisy_BCHW, sigma_B = torch.ones(1, 4, 8, 8), torch.ones(1, dtype=torch.float64)
    draw = np.random.default_rng(number)
    known = shapes({"denoiser": model.trainable_parts["denoiser"]})
    for turn in range(2):
        lora = {
            name: Lora(
                draw.standard_normal((4, *shape[1:])).astype(np.float32),
                0.01 * draw.standard_normal((shape[0], 4, *[1] * (len(shape) - 2))).astype(np.float32),
                4.0,
            )
            for name, shape in known.items()
        }
        text = model.conditioned(model.read(plain(f"a cat, {turn}")))
        with merged(model, [Applied(lora, 0.5, 0.5, name="ink")]):
            assert bool(model.family.predict(model, noisy_BCHW, sigma_B, text).isfinite().all())


def main(folder: Path, loads: int) -> list[int]:
    """What is printed."""
    torch.set_num_threads(1)
    base = tiny.sd15(folder)
    found = []
    for first in range(0, 3 * loads, loads):
        for number in range(first, first + loads):
            loaded(base, number)
        found.append(anonymous())
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
