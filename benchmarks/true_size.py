"""What bases of true size cost on this machine's processor: loading, two training steps and two sampling steps.

A base of random weights is written in its authors' single-file layout (fp16: 2.1 GB for Stable Diffusion 1.5, 6.9 GB
for SDXL), loaded, given a LoRA beside the denoiser's attention, trained for two steps and painted with for two. Each
base has a process of its own. What is printed: seconds to load, seconds of every training step (both passes and the
optimiser's) and of the second sampling step with guidance (two predictions), and the largest anonymous memory (RssAnon
and RssShmem) of each stretch, the interpreter's own included. Gradients are checkpointed. Linux only.

    python benchmarks/true_size.py sd15 sdxl [--size 256] [--dtype bf16] [--threads 1]
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

PREFIXES = {
    "sd15": {
        "denoiser": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "cond_stage_model.transformer.",
    },
    "sdxl": {
        "denoiser": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
}
"""Family -> part -> what its keys begin with in a single file."""

STEPS = 2
RANK = 16
BLOCK = 1 << 24
"""Bytes of random weights; the file repeats them."""


def published(family: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor in a single file of the family's published size."""
    from velatura.weights.layouts import Place, clip, stable_diffusion
    from velatura.weights.networks import build

    told = importlib.import_module(f"velatura.families.{family}.configuration")
    sizes = {"denoiser": told.UNET, "vae": told.VAE, "text_encoder": told.TEXT_ENCODER}
    sizes |= {"text_encoder_2": told.TEXT_ENCODER_2} if family == "sdxl" else {}
    for part, prefix in PREFIXES[family].items():
        own = build(told.CLASSES[part], sizes[part], Path("published")).state_dict()
        own = {name: tensor for name, tensor in own.items() if not name.endswith("position_ids")}
        if part == "denoiser":
            places = stable_diffusion.unet(own)
        elif part == "vae":
            places = stable_diffusion.autoencoder(own)
        elif part == "text_encoder_2":
            places = clip.openclip(own, width=sizes[part]["hidden_size"])
        else:
            places = {name: Place(f"text_model.{name.removeprefix('text_model.')}") for name in own}
        fused: dict[str, tuple[int, ...]] = {}
        for name, place in places.items():
            shape = tuple(own[name].shape)
            shape = (*shape, 1, 1) if place.pointwise else shape[::-1] if place.transposed else shape
            rows = max(place.rows[1] if place.rows else shape[0], fused.get(place.key, (0,))[0])
            fused[place.key] = (rows, *shape[1:])
        yield from ((prefix + key, shape) for key, shape in fused.items())


def write(path: Path, family: str) -> Path:
    """A single file of random weights in fp16."""
    import numpy as np

    places, end = {}, 0
    for name, shape in published(family):
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


def anonymous() -> int:
    """Bytes of this process that no file stands behind."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0] in ("RssAnon:", "RssShmem:"))


@contextmanager
def peak(told: dict[str, float], name: str) -> Iterator[None]:
    """Write down the largest anonymous memory of a stretch, looked at a hundred times a second."""
    ended, most = threading.Event(), [anonymous()]

    def watch() -> None:
        while not ended.wait(0.01):
            most[0] = max(most[0], anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        told[name] = max(most[0], anonymous())


def measure(path: Path, size: int, dtype: str, threads: int) -> dict[str, Any]:
    """Seconds and bytes of everything that is done with the base."""
    import torch

    from velatura import randomness
    from velatura.adapters import targets
    from velatura.adapters.layers import shapes
    from velatura.adapters.lora import LayerSpec, inject
    from velatura.family import Geometry, MemoryPolicy, load_base
    from velatura.generation.generate import Job, Sampling, generate
    from velatura.text.weighted import plain

    torch.set_num_threads(threads)
    kept = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    bytes_of: dict[str, float] = {}
    seconds: dict[str, Any] = {}
    with peak(bytes_of, "load"):
        start = time.perf_counter()
        model = load_base(path, policy=MemoryPolicy(dtype=kept, vae_dtype=kept, checkpointing=True))
        seconds["load"] = time.perf_counter() - start
    chosen = targets.select(["attention"], shapes(model.trainable_parts), presets=model.family.targets)
    side_12 = torch.full((1, 2), float(size))
    seconds["training step"] = []
    with (
        peak(bytes_of, "train"),
        inject(model.trainable_parts, [LayerSpec(name, RANK, float(RANK)) for name in chosen], seed=0) as beside,
    ):
        optimiser = torch.optim.AdamW(beside.parameters(), lr=1e-4)
        with torch.no_grad():
            text = model.family.encode_prompts(model, [plain("a red boat on the sea")])
            picture_BCHW = randomness.normal((1, 3, size, size), 0, "picture").clamp(-1, 1)
            latents_BCHW = model.family.encode_images(model, picture_BCHW)
        conditioning = model.conditioned(text, geometry=Geometry(side_12, torch.zeros_like(side_12), side_12))
        for step in range(STEPS):
            start = time.perf_counter()
            noise_BCHW = randomness.normal(tuple(latents_BCHW.shape), step, "noise")
            sigma_B = torch.ones(1, dtype=torch.float64)
            said = model.family.predict(model, latents_BCHW + noise_BCHW, sigma_B, conditioning)
            loss = (said - noise_BCHW).square().mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            seconds["training step"].append(time.perf_counter() - start)
            if not bool(loss.isfinite()):
                raise SystemExit(f"the loss of step {step + 1} is {float(loss)}")
    with peak(bytes_of, "sample"):
        start, ends = time.perf_counter(), []
        for _ in generate(model, [Job("a red boat on the sea", 1)], Sampling(size, size, steps=STEPS)):
            ends.append(time.perf_counter())
        seconds["sampling step"] = [later - sooner for sooner, later in pairwise(ends[:STEPS])]
        seconds["painting, whole"] = time.perf_counter() - start
    return {"seconds": seconds, "bytes": bytes_of}


def shown(family: str, size: int, dtype: str, found: dict[str, Any]) -> str:
    """One paragraph."""
    seconds, peaks = found["seconds"], found["bytes"]
    steps = {name: ", ".join(f"{one:.1f}" for one in seconds[name]) for name in ("training step", "sampling step")}
    memory = ", ".join(f"{name} {value / 1e9:.2f} GB" for name, value in peaks.items())
    return (
        f"{family}, {size} px, {dtype}: load {seconds['load']:.1f} s; training steps {steps['training step']} s; "
        f"sampling step {steps['sampling step']} s, painting in all {seconds['painting, whole']:.1f} s; "
        f"anonymous memory at most: {memory}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=list(PREFIXES))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], default="bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.child, given.size, given.dtype, given.threads)))
        return 0
    for family in given.families:
        with tempfile.TemporaryDirectory() as folder:
            base = write(Path(folder) / f"random {family}.safetensors", family)
            told = ["--size", str(given.size), "--dtype", given.dtype, "--threads", str(given.threads)]
            command = [sys.executable, __file__, family, *told, "--child", str(base)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(shown(family, given.size, given.dtype, json.loads(done.stdout.splitlines()[-1])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
