"""What painting costs beside the network, and how long a user waits for the first picture.

The overhead is a ratio within one run: the loop, with its sampler, noise, guidance and progress, against the same
calls of the base's own denoiser by hand, with the same conditioning and batch. Reading the prompt and decoding are left
out of both. Seconds are those of the processor, on one thread, so that what else the machine does hardly matters. The
first picture is timed from the command, in a process of its own.

    python benchmarks/painting.py [--runs 5] [--batch 4] [--samplers "DPM++ 2M" "DPM++ SDE"]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from startup import COMMAND, report, timed
from torch import Tensor

from velatura import bases
from velatura.family import Model, load_base
from velatura.generation import generate as painting
from velatura.generation.passes import Pass
from velatura.generation.sampling import Job, Sampling

SAMPLERS = ("DPM++ 2M", "Euler a", "DPM++ SDE", "DPM++ 3M SDE", "UniPC")


@contextmanager
def watched(model: Model) -> Iterator[list[tuple[Tensor, Tensor, object]]]:
    """Within, what the denoiser is asked is kept: noisy latents, sigmas and conditioning of every call."""
    calls: list[tuple[Tensor, Tensor, object]] = []
    kind = type(model.family)
    predict = kind.predict

    def kept(family: object, model: Model, noisy: Tensor, sigma: Tensor, told: object) -> Tensor:
        calls.append((noisy, sigma, told))
        return predict(family, model, noisy, sigma, told)  # type: ignore[arg-type]

    kind.predict = kept  # type: ignore[method-assign, assignment]
    try:
        yield calls
    finally:
        kind.predict = predict  # type: ignore[method-assign]


@torch.inference_mode()
def overhead(model: Model, sampler: str, steps: int, batch: int) -> tuple[float, float, int]:
    """CPU seconds of the loop, and of the bare network with the loop's own arguments, and how often it was asked."""
    side = model.resolution
    sampling = Sampling(side, side, steps, model.defaults.cfg_scale, sampler, "Automatic")
    jobs = [Job("a red house beside a lake at night", seed) for seed in range(batch)]
    texts = [painting.read_all(model, jobs, sampling)] * batch
    one = Pass.of(model, sampling, None)
    with watched(model) as calls:
        for _ in one.run(model, jobs, None, texts, None):
            pass
    start = time.process_time()
    for _ in one.run(model, jobs, None, texts, None):
        pass
    whole = time.process_time() - start
    start = time.process_time()
    for noisy, sigma, told in calls:
        model.family.predict(model, noisy, sigma, told)  # type: ignore[arg-type]
    return whole, time.process_time() - start, len(calls)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samplers", nargs="*", default=SAMPLERS)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    model = load_base(bases.find("pocket"))
    print(f"pocket base, {told.steps} steps, batches of {told.batch}, {told.threads} threads, medians of {told.runs}")
    for sampler in told.samplers:
        overhead(model, sampler, 2, told.batch)
        found = [overhead(model, sampler, told.steps, told.batch) for _ in range(told.runs)]
        ratio = statistics.median(whole / bare for whole, bare, _ in found)
        whole, bare = (statistics.median(one[place] for one in found) for place in (0, 1))
        print(f"{sampler:16} {whole:6.2f} s, bare network {bare:6.2f} s ({found[0][2]} calls): {ratio - 1:+.1%}")
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMAND, "generate", "a red house beside a lake", "--seed", "1", "--out", folder]
        report("first picture of `velatura generate`", lambda: timed(command), told.runs)


if __name__ == "__main__":
    sys.exit(main())
