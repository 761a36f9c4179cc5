"""What bases of true size cost on this machine: loading, two training steps and two sampling steps.

A base of random weights is written in its authors' single-file layout (see `random_bases`), loaded, given a LoRA
beside the denoiser's attention, trained for two steps and painted with for two; FLUX.1 only paints. Each base has a
process of its own. What is printed: seconds to load, seconds of every training step (both passes and the optimiser's)
and of the second sampling step (with guidance, where the base has it), and the largest anonymous memory (RssAnon and
RssShmem) of each stretch, the interpreter's own included. Linux only.

What is not told with --memory is as in `POLICIES`. Files go to a folder beside --folder and are deleted: 2.1 GB for
sd15, 6.9 GB for sdxl, 46 GB for flux1 (33.7 GB of them the base, the others its 8-bit blocks while they wait).

    python benchmarks/true_size.py sd15 sdxl flux1 [--size 256] [--memory KEY=VALUE] [--threads 1] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from process import peak
from random_bases import PREFIXES, write

IN_BF16 = ("device=cpu", "precision=bf16", "vae_precision=bf16", "checkpointing=true")
POLICIES = {
    "sd15": IN_BF16,
    "sdxl": (*IN_BF16, "in_turn=true"),
    # fp32 where it is computed, which takes no memory of blocks that rest in 8 bits
    "flux1": ("device=cpu", "precision=fp32", "in_turn=true", "quantised=int8", "swapped_blocks=57"),
}

STEPS = 2
RANK = 16


def measure(path: Path, size: int, told: Sequence[str], threads: int, train: bool) -> dict[str, Any]:
    """Seconds and bytes of everything that is done with the base."""
    import torch

    from velatura.api.memory import chosen
    from velatura.bases import BaseFiles
    from velatura.family import load_base
    from velatura.generation.generate import Painted, generate
    from velatura.generation.sampling import Job, Sampling
    from velatura.recipe import MemorySettings, with_memory

    torch.set_num_threads(threads)
    bytes_of: dict[str, float] = {}
    seconds: dict[str, Any] = {}
    policy = chosen(BaseFiles(path), with_memory(MemorySettings(), told), task="train").policy
    with peak(bytes_of, "load"):
        start = time.perf_counter()
        model = load_base(path, policy=policy)
        seconds["load"] = time.perf_counter() - start
    if train:
        with peak(bytes_of, "train"):
            seconds["training step"] = trained(model, size)
    with peak(bytes_of, "sample"):
        start, ends = time.perf_counter(), []
        own = model.defaults
        sampling = Sampling(size, size, STEPS, own.cfg_scale, own.sampler, own.scheduler)
        for event in generate(model, [Job("a red boat on the sea", 1)], sampling):
            ends.append(time.perf_counter())
            if isinstance(event, Painted):
                print(f"painted {event.image.size[0]} x {event.image.size[1]}", file=sys.stderr)
        seconds["first sampling step, texts encoded and parts brought"] = ends[0] - start
        seconds["sampling step"] = [later - sooner for sooner, later in pairwise(ends[:STEPS])]
        seconds["painting, whole"] = time.perf_counter() - start
    return {"seconds": seconds, "bytes": bytes_of}


def trained(model: Any, size: int) -> list[float]:
    """Seconds of every step."""
    import torch

    from velatura import randomness
    from velatura.adapters import targets
    from velatura.adapters.layers import shapes
    from velatura.adapters.lora import LayerSpec, inject
    from velatura.family import Geometry
    from velatura.text.weighted import plain

    chosen = targets.select(["attention"], shapes(model.trainable_parts), presets=model.family.targets)
    side_12 = torch.full((1, 2), float(size))
    seconds = []
    with inject(model.trainable_parts, [LayerSpec(name, RANK, float(RANK)) for name in chosen], seed=0) as beside:
        optimiser = torch.optim.AdamW(beside.parameters(), lr=1e-4)
        with torch.no_grad():
            text = model.read(plain("a red boat on the sea"))
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
            seconds.append(time.perf_counter() - start)
            if not bool(loss.isfinite()):
                raise SystemExit(f"the loss of step {step + 1} is {float(loss)}")
    return seconds


def shown(family: str, size: int, told: Sequence[str], found: dict[str, Any]) -> str:
    """One paragraph."""
    seconds = (
        f"{name} {', '.join(f'{one:.1f}' for one in (value if isinstance(value, list) else [value]))} s"
        for name, value in found["seconds"].items()
    )
    memory = ", ".join(f"{name} {value / 1e9:.2f} GB" for name, value in found["bytes"].items())
    return f"{family}, {size} px, {' '.join(told)}: {'; '.join(seconds)}; anonymous memory at most: {memory}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=list(PREFIXES))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--memory", action="append", metavar="KEY=VALUE", help="in place of the family's policy")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the files go for a while; none: the system's own choice")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for family in given.families:
        told = tuple(given.memory or POLICIES[family])
        if given.child:
            print(json.dumps(measure(given.child, given.size, told, given.threads, train=family != "flux1")))
            return 0
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            base = write(Path(folder) / f"random {family}.safetensors", family)
            more = [word for one in told for word in ("--memory", one)]
            command = [sys.executable, __file__, family, "--size", str(given.size), "--threads", str(given.threads)]
            own = {**os.environ, "VELATURA_HOME": str(Path(folder) / "home")}
            done = subprocess.run(
                [*command, *more, "--child", str(base)], check=True, stdout=subprocess.PIPE, text=True, env=own
            )
        print(shown(family, given.size, told, json.loads(done.stdout.splitlines()[-1])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
