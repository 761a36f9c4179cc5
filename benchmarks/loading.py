"""What loading a base costs: memory of its own beside the size of the weights it ends with, and seconds.

Weights that are copied once cost their final size and no more; files that are mapped count as the system's cache.
Anonymous memory (RssAnon + RssShmem of /proc/self/status) is counted above the same process with the same imports.
Linux only. Without a base, a Stable Diffusion 1.5 of random weights in fp16 (2 GB) is made and measured.

    python benchmarks/loading.py [BASE] [--dtype fp16] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from process import anonymous, memory
from random_bases import write

LIMIT = 1.10
"""Anonymous memory, as a multiple of the weights' size."""


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
        base = given.base or write(Path(folder) / "random sd15.safetensors", "sd15")
        return 0 if report(base, given.dtype, given.runs) else 1


if __name__ == "__main__":
    sys.exit(main())
