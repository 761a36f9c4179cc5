"""What loading a base costs: memory of its own beside the size of the weights it ends with, and seconds.

Weights that are copied once cost their final size and no more; files that are mapped count as the system's cache.
Anonymous memory (RssAnon + RssShmem of /proc/self/status) is counted above the same process with the same imports.
Linux only. Without a base, a Stable Diffusion 1.5 of random weights in fp16 (2 GB) is made and measured.

    python benchmarks/loading.py [BASE] [--dtype fp16] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIMIT = 1.10
"""Anonymous memory, as a multiple of the weights' size."""

BLOCK = 1 << 24
"""Bytes of random weights; the file repeats them."""


def memory() -> dict[str, int]:
    """Bytes of this process, by the system's names."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}


def anonymous() -> int:
    """Bytes that no file stands behind."""
    found = memory()
    return found["RssAnon"] + found["RssShmem"]


def import_everything(base: Path) -> None:
    """Whatever loading imports, without its weights."""
    from velatura.bases import BaseFiles, kinds, recognise
    from velatura.family import family
    from velatura.text import clip_vocabulary
    from velatura.weights.networks import build

    found = recognise(BaseFiles(base))
    family(found.family)
    module = __import__(f"velatura.families.{found.family}.configuration", fromlist=["CLASSES"])
    for kind in kinds(found.family):
        settings = {"UNet2DConditionModel": {"sample_size": 8}}.get(module.CLASSES[kind.name], {})
        build(module.CLASSES[kind.name], settings, base)
    clip_vocabulary.vocabulary()


def load(path: Path, dtype: str) -> None:
    """Load a base and print what it cost, as JSON."""
    import gc

    import torch

    from velatura.family import MemoryPolicy, load_base

    kept = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    import_everything(path)
    gc.collect()
    before, start = anonymous(), time.perf_counter()
    model = load_base(path, policy=MemoryPolicy(dtype=kept, vae_dtype=kept))
    seconds = time.perf_counter() - start
    gc.collect()
    size = sum(tensor.nbytes for part in model.parts.values() for tensor in (*part.parameters(), *part.buffers()))
    print(json.dumps({"size": size, "anonymous": anonymous() - before, "rss": memory()["VmRSS"], "seconds": seconds}))


def published() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor in a single file of Stable Diffusion 1.5."""
    from velatura.families.sd15 import configuration
    from velatura.families.sd15.save import PREFIXES, _original
    from velatura.weights.networks import build

    settings = {
        "denoiser": configuration.UNET,
        "vae": configuration.VAE,
        "text_encoder": configuration.TEXT_ENCODER,
    }
    for part, prefix in PREFIXES.items():
        held = build(configuration.CLASSES[part], settings[part], Path("published")).state_dict()
        for name, place in _original(part, [name for name in held if not name.endswith("position_ids")]).items():
            yield prefix + place.key, (*held[name].shape, *((1, 1) if place.pointwise else ()))


def write(path: Path) -> Path:
    """A single file of random weights in fp16."""
    import numpy as np

    places, end = {}, 0
    for name, shape in published():
        size = 2 * math.prod(shape)
        places[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(places).encode()
    text += b" " * (-len(text) % 8)
    block = (0.02 * np.random.default_rng(0).standard_normal(BLOCK // 2, dtype=np.float32)).astype(np.float16).tobytes()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, BLOCK):
            file.write(block[: end - start])
    return path


def report(base: Path, dtype: str, runs: int) -> bool:
    """Print every run; whether all kept to the limit."""
    good = True
    for _ in range(runs):
        command = [sys.executable, __file__, str(base), "--dtype", dtype, "--child"]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        ratio = told["anonymous"] / told["size"]
        good &= ratio <= LIMIT
        sizes = {name: f"{told[name] / 1e9:.2f} GB" for name in ("size", "anonymous", "rss")}
        print(
            f"weights {sizes['size']}, anonymous memory {sizes['anonymous']} ({ratio:.3f} of them), "
            f"RSS with the mapped file {sizes['rss']}, {told['seconds']:.1f} s",
            flush=True,
        )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", nargs="?", type=Path)
    parser.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], default="fp16")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        load(given.base, given.dtype)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        base = given.base or write(Path(folder) / "random sd15.safetensors")
        return 0 if report(base, given.dtype, given.runs) else 1


if __name__ == "__main__":
    sys.exit(main())
