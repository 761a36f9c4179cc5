"""What painting costs beside the network, and how long a user waits for the first picture.

The overhead is what the loop, with its sampler, noise, guidance and progress, takes outside the base's own denoiser,
against the time inside it, both within the same run. Reading the prompt and decoding are left out. Seconds are those of
the processor, on one thread, so that what else the machine does hardly matters. The first picture is timed from the
command, in a process of its own.

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

SAMPLERS = ("DPM++ 2M", "Euler a", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 3M SDE", "UniPC")


@contextmanager
def timed_calls(model: Model) -> Iterator[list[float]]:
    """Within, the CPU seconds of every call of the denoiser are noted."""
    seconds: list[float] = []
    kind = type(model.family)
    predict = kind.predict

    def noted(family: object, model: Model, noisy: Tensor, sigma: Tensor, told: object) -> Tensor:
        start = time.process_time()
        answer = predict(family, model, noisy, sigma, told)  # type: ignore[arg-type]
        seconds.append(time.process_time() - start)
        return answer

    kind.predict = noted  # type: ignore[method-assign, assignment]
    try:
        yield seconds
    finally:
        kind.predict = predict  # type: ignore[method-assign]


@torch.inference_mode()
def overhead(model: Model, sampler: str, steps: int, batch: int) -> tuple[float, float, int]:
    """CPU seconds of the loop, those of them inside the network, and how often it was asked."""
    side = model.resolution
    sampling = Sampling(side, side, steps, model.defaults.cfg_scale, sampler, "Automatic")
    jobs = [Job("a red house beside a lake at night", seed) for seed in range(batch)]
    texts = [painting.read_all(model, jobs, sampling)] * batch
    one = Pass.of(model, sampling, None)
    with timed_calls(model) as seconds:
        start = time.process_time()
        for _ in one.run(model, jobs, None, texts, None):
            pass
        whole = time.process_time() - start
    return whole, sum(seconds), len(seconds)


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
        ratio = statistics.median(whole / inside for whole, inside, _ in found)
        whole, inside = (statistics.median(one[place] for one in found) for place in (0, 1))
        print(f"{sampler:16} {whole:6.2f} s, in the network {inside:6.2f} s ({found[0][2]} calls): {ratio - 1:+.1%}")
    with tempfile.TemporaryDirectory() as folder:
        command = [*COMMAND, "generate", "a red house beside a lake", "--seed", "1", "--out", folder]
        report("first picture of `velatura generate`", lambda: timed(command), told.runs)


if __name__ == "__main__":
    sys.exit(main())
