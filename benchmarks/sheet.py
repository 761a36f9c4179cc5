"""A sheet of strengths and checkpoints on the pocket base, against the same pictures one by one through diffusers.

    python benchmarks/sheet.py [--side 5] [--steps 20] [--rank 8] [--batch 8] [--rounds 3]

Both in one process, on one thread, with the same prompt, seed, sampler (Euler), guidance and LoRA files: as many
checkpoints as strengths, of drawn numbers on the denoiser's layers. Diffusers paints as its own guide says, all LoRAs
loaded once and `set_adapters` before each picture. Here the sheet is painted as `velatura compare` paints it: loading
the base, writing the cells with their records, the labelled picture and the page are all counted; loading diffusers'
pipeline and its LoRAs is told apart. Both take turns, so that whatever else the machine does slows both; what is told
is the median of the rounds, on the clock and of the processor. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from velatura import api, randomness
from velatura.adapters import writing
from velatura.adapters.layers import shapes
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile, Lora
from velatura.api.comparing import varying
from velatura.bases import described
from velatura.events import Done
from velatura.family import Model, load_base
from velatura.settings import BUILT_IN_BASES
from velatura.sheets import axes, plan

PROMPT, SEED, CFG = "a red boat on the sea, yellow sun", 1, 4.0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--side", type=int, default=5)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--rank", type=int, default=8)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    told = options.parse_args()
    torch.set_num_threads(1)
    strengths = [0.3 * place for place in range(told.side)]
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        files = checkpoints(load_base(described(BUILT_IN_BASES["pocket"])), project, told.side, told.rank)
        paint(project, strengths[:2], told.steps, told.batch, "warm")  # imports, and threads that start once
        pipeline, loading = opened(files)
        pipeline(PROMPT, num_inference_steps=1, guidance_scale=CFG, height=128, width=128)
        rounds = []
        for place in range(told.rounds):
            ours = measured(lambda at=place: paint(project, strengths, told.steps, told.batch, f"sheet{at}"))
            rounds.append((ours, measured(lambda: one_by_one(pipeline, len(files), strengths, told.steps))))
    for place, who in enumerate(("velatura", "diffusers")):
        wall, cpu = (statistics.median(both[place][what] for both in rounds) for what in ("wall", "cpu"))
        print(f"{who}: {told.side} x {told.side} cells in {wall:.1f} s, of the processor {cpu:.1f} s")
    times = {what: sorted(theirs[what] / ours[what] for ours, theirs in rounds) for what in ("wall", "cpu")}
    by_wall, by_cpu = (statistics.median(times[what]) for what in ("wall", "cpu"))
    print(f"{by_wall:.2f} times as fast, {by_cpu:.2f} by the processor; diffusers loads in {loading:.1f} s")
    print(json.dumps({"rounds": rounds, "times": times, **vars(told)}))


def checkpoints(model: Model, project: Path, count: int, rank: int) -> list[Path]:
    """A run with so many checkpoints, of drawn numbers that hardly change a picture."""
    run = project / "runs" / "0001-drawn"
    known = shapes(model.trainable_parts)
    names = [one for one in select(["all"], known, presets=model.family.targets) if one.startswith("denoiser")]
    found = []
    for step in range(1, count + 1):
        layers = {}
        for name in names:
            draw = randomness.generator(step, "lora", name)
            out, *rest = known[name]
            sizes = (rank, *rest), (out, rank)
            down, up = (0.02 * draw.standard_normal(size).astype(np.float32) for size in sizes)
            if len(rest) == 1:
                layers[name] = Lora(down, up, float(rank))
        folder = run / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        found.append(folder / "adapter.safetensors")
        found[-1].write_bytes(writing.to_bytes(AdapterFile(layers), keys=model.family.keys))
        (folder / "manifest.json").write_text(json.dumps({"step": step, "sha256": {}}), encoding="utf-8")
    (run / "provenance.json").write_text("{}", encoding="utf-8")
    return found


def paint(project: Path, strengths: list[float], steps: int, batch: int, name: str) -> None:
    """The sheet."""
    known = varying.known()
    across = axes.read("lora.strength", strengths, known)
    down = axes.read("run.checkpoint", "all" if len(strengths) > 2 else "1", known)
    settings = {"seed": SEED, "steps": steps, "cfg": CFG, "sampler": "Euler", "scheduler": "Automatic"}
    request = api.GenerateRequest(PROMPT, project=project, batch=batch, threads=1)
    sheet = plan.Sheet((across, down), PROMPT, settings=settings)
    *_, done = api.compare(api.CompareRequest(sheet, request, project / name))
    assert isinstance(done, Done)


def opened(files: list[Path]) -> tuple[Any, float]:
    """Diffusers' pipeline with the LoRAs, and the seconds it takes."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    before = time.monotonic()
    pipeline = StableDiffusionPipeline.from_pretrained(
        BUILT_IN_BASES["pocket"], safety_checker=None, feature_extractor=None, requires_safety_checker=False
    ).to(torch.float32)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for place, file in enumerate(files):
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=f"lora{place}")
    return pipeline, time.monotonic() - before


def one_by_one(pipeline: Any, count: int, strengths: list[float], steps: int) -> None:
    """The same pictures."""
    for place in range(count):
        for strength in strengths:
            pipeline.set_adapters(f"lora{place}", adapter_weights=strength)
            drawn = torch.Generator("cpu").manual_seed(SEED)
            pipeline(
                PROMPT, num_inference_steps=steps, guidance_scale=CFG, height=128, width=128, generator=drawn
            ).images[0].tobytes()


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds on the clock and of the processor."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
