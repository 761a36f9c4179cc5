"""Seconds until the first training step of a run, without and with what an earlier start has encoded.

    python benchmarks/warm.py [--base sd15] [--pictures 24] [--side 256] [--runs 3]

Each start is a process of its own, a new run on the same pictures, stopped at its first step; in turn with an empty
cache and with the one that the start before has filled. `--base pocket` takes seconds; `sd15` is one of random weights
at true size.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def photographs(folder: Path, count: int) -> None:
    """Pictures of 12 megapixels as cameras save them, each with a caption."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(1)
    for number in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        size = ((4000, 3000), (3000, 4000), (3600, 3600))[number % 3]
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:02d}.jpg", quality=90)
        (folder / f"{number:02d}.txt").write_text(f"a harbour, {number} boats, evening light", encoding="utf-8")


def first_step(project: Path) -> dict[str, float]:
    """Seconds from the command to each stage's last event before the first step, and to that step."""
    start, found = time.perf_counter(), dict[str, float]()
    command = [sys.executable, "-m", "velatura", "train", str(project), "--new", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            stage = json.loads(line).get("stage")
            if stage:
                found[stage] = time.perf_counter() - start
            if stage == "training":
                break
        process.kill()
    return found


def main() -> None:
    from velatura.recipe import build, to_toml

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="sd15")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, project = Path(folder) / "home", Path(folder) / "project"
        os.environ["VELATURA_HOME"] = str(home)
        base = told.base
        if base == "sd15":
            from random_bases import write

            base = str(write(Path(folder) / "sd15.safetensors", "sd15"))
        photographs(project / "dataset", told.pictures)
        recipe = build(
            {
                "version": 2,
                "base": {"model": base},
                "dataset": {"resolution": told.side, "flip": True, "trigger": "hrb"},
                "train": {"steps": 1000, "batch": 1, "threads": 1},
                "samples": {"count": 0},
            }
        )
        (project / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
        first_step(project)  # hashes of the base are remembered from now on, in either case
        found: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
        for _ in range(told.runs):
            shutil.rmtree(home / "cache" / "encoded", ignore_errors=True)
            for kind, stages in found.items():
                stages.append(first_step(project))
                shown = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages[-1].items())
                print(f"{kind}: {shown}", flush=True)
        cold, warm = (statistics.median(one["training"] for one in stages) for stages in found.values())
        kept = sum(path.stat().st_size for path in (home / "cache" / "encoded").rglob("*.safetensors"))
        print(f"first step: cold {cold:.1f} s, warm {warm:.1f} s, {warm / cold:.2f} of it; {kept / 1e6:.1f} MB kept")


if __name__ == "__main__":
    main()
