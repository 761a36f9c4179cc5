"""How long a user waits: for `velatura --help`, and from the command to the first training step.

Beside each stands a limit measured in the same run: an empty Python for the help, the import of torch
and of diffusers' UNet for the first step.

    python benchmarks/startup.py [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COMMAND = [sys.executable, "-m", "velatura"]
NETWORK = "from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel"


def timed(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command that must succeed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_step(project: Path) -> tuple[float, float]:
    """Wall seconds to the first training step of a new run, and CPU seconds until the process was stopped there."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [*COMMAND, "train", str(project), "--new", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("stage") == "training":
                break
        seconds = time.perf_counter() - start
        process.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(name: str, measure: Callable[[], tuple[float, float]], runs: int) -> float:
    """Print the median of some runs after a warm-up; the median wall time."""
    measure()
    found = [measure() for _ in range(runs)]
    wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
    print(f"{name:44} {wall:6.2f} s wall  {cpu:6.2f} s CPU")
    return wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    empty = report("python -c pass", lambda: timed([sys.executable, "-c", "pass"]), runs)
    told = report("velatura --help", lambda: timed([*COMMAND, "--help"]), runs)
    print(f"{'':44} {told / empty:6.1f} times an empty Python")
    imported = report("import torch and the UNet's class", lambda: timed([sys.executable, "-c", NETWORK]), runs)
    with tempfile.TemporaryDirectory() as folder:
        from velatura.demo import SETTINGS
        from velatura.pocket.styles.examples import draw_dataset
        from velatura.recipe import build, to_toml

        project = Path(folder)
        draw_dataset(project / "dataset", "watercolour", count=20, seed=1)
        (project / "recipe.toml").write_text(to_toml(build({**SETTINGS, "name": "startup"})), encoding="utf-8")
        step = report("velatura train: to the first step", lambda: first_step(project), runs)
    print(f"{'':44} {step / imported:6.1f} times the imports")


if __name__ == "__main__":
    main()
