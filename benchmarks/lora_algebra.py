"""What resizing a LoRA costs, beside the dense decomposition that the common tool runs.

A LoRA of SDXL's true shapes, random, rank 128, is resized to 32 by `velatura lora resize` in a process of its own: CPU
seconds, wall seconds and peak memory are the process's, reading, writing and hashing included. It has the 722 layers of
the UNet, and with --text-encoders their 264.

Then, in the same run and with as many threads, layers are truncated in memory three ways: by the small decomposition,
and by torch.linalg.svd of up @ down, with full_matrices as kohya's resize_lora.py calls it, and thin. One layer of
every shape is measured and its seconds counted as often as the shape occurs: an extrapolation, the same for all three,
and the table says so. With --layers N only the first N layers are there.

    python benchmarks/lora_algebra.py [--rank 128] [--to 32] [--precision F16] [--layers 0] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from velatura import settings, tensorfile
from velatura.adapters.algebra import small_svd, store
from velatura.tensorfile import RawTensor

LIMITS = {"cpu_s": 30.0, "peak_mb": 1000.0, "full_ratio": 200.0, "thin_ratio": 40.0, "difference": 1e-5}
"""What must hold at SDXL's size, rank 128 to 32."""

Shape = tuple[int, int]


def sdxl() -> dict[str, Shape]:
    """kohya's name of each layer in SDXL's UNet that its default LoRA trains -> (out, in)."""
    blocks = {"input_blocks_4_1": (640, 2), "input_blocks_5_1": (640, 2), "input_blocks_7_1": (1280, 10)}
    blocks |= {"input_blocks_8_1": (1280, 10), "middle_block_1": (1280, 10)}
    blocks |= {f"output_blocks_{index}_1": (1280, 10) for index in range(3)}
    blocks |= {f"output_blocks_{index}_1": (640, 2) for index in range(3, 6)}
    found: dict[str, Shape] = {}
    for block, (width, depth) in blocks.items():
        found |= {f"lora_unet_{block}_{name}": (width, width) for name in ("proj_in", "proj_out")}
        for place in range(depth):
            stem = f"lora_unet_{block}_transformer_blocks_{place}"
            for attention, text in (("attn1", width), ("attn2", 2048)):
                found |= {f"{stem}_{attention}_{name}": (width, width) for name in ("to_q", "to_out_0")}
                found |= {f"{stem}_{attention}_{name}": (width, text) for name in ("to_k", "to_v")}
            found[f"{stem}_ff_net_0_proj"] = (8 * width, width)
            found[f"{stem}_ff_net_2"] = (width, 4 * width)
    return found


def text_encoders() -> dict[str, Shape]:
    """The same of SDXL's two text encoders."""
    found: dict[str, Shape] = {}
    for prefix, width, depth in (("lora_te1", 768, 12), ("lora_te2", 1280, 32)):
        for place in range(depth):
            stem = f"{prefix}_text_model_encoder_layers_{place}"
            found |= {f"{stem}_self_attn_{name}": (width, width) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
            found |= {f"{stem}_mlp_fc1": (4 * width, width), f"{stem}_mlp_fc2": (width, 4 * width)}
    return found


def factors(stem: str, shape: Shape, rank: int) -> tuple[small_svd.Matrix, small_svd.Matrix]:
    """A layer's factors with a falling spectrum, as training leaves them; a twentieth of all layers are zero."""
    draw = np.random.default_rng(list(stem.encode()))
    fall = (np.arange(1, rank + 1) ** -0.7).astype(np.float32)
    up = draw.standard_normal((shape[0], rank), dtype=np.float32) * fall * 0.02
    if draw.random() < 0.05:
        up[:] = 0
    return up, draw.standard_normal((rank, shape[1]), dtype=np.float32) / np.float32(np.sqrt(shape[1]))


def write(path: Path, layers: dict[str, Shape], rank: int, precision: store.Precision) -> None:
    planned = {}
    for stem, (outputs, inputs) in layers.items():
        planned[f"{stem}.lora_down.weight"] = store.Planned(precision, (rank, inputs))
        planned[f"{stem}.lora_up.weight"] = store.Planned(precision, (outputs, rank))
        planned[f"{stem}.alpha"] = store.Planned("F32", ())

    def make(key: str) -> RawTensor:
        stem, _, role = key.partition(".")
        if role == "alpha":
            return tensorfile.raw(np.array(rank / 2, np.float32))
        up, down = factors(stem, layers[stem], rank)
        return store.stored(up if "up" in role else down, precision, name=stem)

    store.write(path, planned, {"ss_network_dim": str(rank), "ss_network_alpha": str(rank / 2)}, make)


def resized(source: Path, out: Path, rank: int, precision: str) -> dict[str, float]:
    """The command's own cost, in a process of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "velatura", "lora", "resize", str(source), "-o", str(out), "--rank", str(rank)]
    subprocess.run([*command, "--precision", precision], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu, "wall_s": time.perf_counter() - start, "peak_mb": after.ru_maxrss / 1000}


def truncations(layers: dict[str, Shape], rank: int, to: int) -> dict[str, float]:
    """The three ways, on one layer of each shape, and the largest relative difference of their results."""
    import torch

    seconds, difference = {"small": 0.0, "thin": 0.0, "full": 0.0}, 0.0
    for shape, times in Counter(layers.values()).items():
        stem = next(name for name, other in layers.items() if other == shape and factors(name, shape, rank)[0].any())
        halves = factors(stem, shape, rank)
        spent = {"small": min(_small(*halves, to)[0] for _ in range(5))}
        mine = _small(*halves, to)[1]
        up, down = map(torch.from_numpy, halves)
        for way in ("thin", "full"):
            start = time.process_time()
            left, values, right = torch.linalg.svd(up @ down, full_matrices=way == "full")
            kept = (left[:, :to] * values[:to], right[:to])
            spent[way] = time.process_time() - start
        theirs = (kept[0].double() @ kept[1].double()).numpy()
        apart = float(np.linalg.norm(mine - theirs) / np.linalg.norm(theirs))
        difference = max(difference, apart)
        seconds = {way: seconds[way] + times * spent[way] for way in seconds}
        told = ", ".join(f"{way} {1000 * spent[way]:.1f} ms" for way in spent)
        print(f"  {shape[0]} x {shape[1]}, {times} layers: {told}, relative difference {apart:.1e}", flush=True)
    return {**{f"{way}_cpu_s": value for way, value in seconds.items()}, "difference": difference}


def _small(up: small_svd.Matrix, down: small_svd.Matrix, to: int) -> tuple[float, np.ndarray]:
    start = time.process_time()
    halves = small_svd.truncated(up, down, small_svd.decompose(up, down), to)
    spent = time.process_time() - start
    return spent, halves[0].astype(np.float64) @ halves[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--to", type=int, default=32)
    parser.add_argument("--precision", choices=("F16", "F32", "BF16"), default="F16")
    parser.add_argument("--layers", type=int, default=0, help="the first so many only; 0: all")
    parser.add_argument("--text-encoders", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=settings.cache_folder() / "benchmarks")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    os.environ.update({name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    layers = sdxl() | (text_encoders() if options.text_encoders else {})
    layers = dict(list(layers.items())[: options.layers or None])
    with tempfile.TemporaryDirectory() as folder:
        source, out = (Path(folder) / f"{name}.safetensors" for name in ("whole", "resized"))
        write(source, layers, options.rank, options.precision)
        figures: dict[str, float] = {"layers": len(layers), "input_mb": source.stat().st_size / 1e6}
        print(f"{len(layers)} layers, {figures['input_mb']:.0f} MB", flush=True)
        figures |= resized(source, out, options.to, options.precision)
        print("command: {cpu_s:.1f} CPU s, {wall_s:.1f} s, peak {peak_mb:.0f} MB".format(**figures), flush=True)
    figures |= truncations(layers, options.rank, options.to)
    figures |= {f"{way}_ratio": figures[f"{way}_cpu_s"] / figures["small_cpu_s"] for way in ("full", "thin")}
    figures |= {f"{way}_over_command": figures[f"{way}_cpu_s"] / figures["cpu_s"] for way in ("full", "thin")}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "lora_algebra.json").write_text(json.dumps(figures, indent=2), encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:24} {value:.3g}" if value < 100 else f"{name:24} {value:.0f}")
    print("small, thin and full are extrapolated: one layer of each shape, times the number of its layers")
    missed = [
        name for name, limit in LIMITS.items() if (figures[name] < limit if "ratio" in name else figures[name] > limit)
    ]
    print(f"missed: {', '.join(missed)}" if missed else "all limits hold")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
