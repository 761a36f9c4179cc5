"""What `velatura plan` expects of a training, beside what the training takes.

For each base the plan's short probes are made once (`velatura plan --probe`). Then cases that no probe measured are
trained for a few steps, each in a process of its own, from a project with pictures of several shapes, by the
program's own `api.train`, and compared with what the plan said of them: seconds of one step, and the most anonymous
memory (RssAnon and RssShmem) from the first step on. Seconds are those of computing (the process's own, of one
thread). Other programs on the machine make them longer too, by sharing caches and cores, so a yardstick of fixed work
is timed beside each case and each probe, and what the plan expects is told at the case's pace; seconds by the clock,
and at which pace, stand beside them. Linux only.

The bases are the embedded one at its full size, and Stable Diffusion 1.5 of random weights at its true size (2.1 GB
on the disk for a while, some 6 GB of memory).

    python benchmarks/plan.py [--bases pocket sd15] [--steps 6] [--folder DIR] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from process import anonymous, peak
from random_bases import write

PROBED = ("train.threads=1", "memory.device=cpu", "memory.precision=fp32")

CASES = {
    "pocket": [
        {"side": 128, "batch": 4, "rank": 8},
        {"side": 96, "batch": 2, "rank": 32, "checkpointing": True},
        {"side": 128, "batch": 2, "rank": 16, "text": True},
        {"side": 64, "batch": 6, "rank": 4},
    ],
    "sd15": [
        {"side": 192, "batch": 1, "rank": 16},
        {"side": 128, "batch": 2, "rank": 32},
        {"side": 64, "batch": 4, "rank": 8, "checkpointing": True},
        {"side": 128, "batch": 1, "rank": 8, "text": True},
        {"side": 256, "batch": 1, "rank": 32, "checkpointing": True},
        {"side": 192, "batch": 2, "rank": 4, "text": True, "checkpointing": True},
    ],
}

SHAPES = ((1.0, 1.0), (1.5, 1.0), (1.0, 1.5))


def overrides(case: Mapping[str, Any]) -> list[str]:
    """A case as settings of a recipe."""
    targets = '["attention+mlp", "text"]' if case.get("text") else '["attention+mlp"]'
    return [
        *PROBED,
        f"dataset.resolution={case['side']}",
        f"train.batch={case['batch']}",
        f"adapter.rank={case['rank']}",
        f"adapter.alpha={case['rank']}",
        f"adapter.targets={targets}",
        f"memory.checkpointing={str(case.get('checkpointing', False)).lower()}",
    ]


def project(folder: Path, base: str, case: Mapping[str, Any]) -> Path:
    """A project with full batches of pictures of three shapes."""
    pictures = folder / "dataset"
    pictures.mkdir(parents=True)
    for number in range(3 * case["batch"]):
        width, height = (round(case["side"] * 2 * side) for side in SHAPES[number % 3])
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"a house beside tree {number}, in the evening", encoding="utf-8")
    text = f'version = 2\n[base]\nmodel = "{base}"\n[dataset]\nhold_out = 0.0\n[train]\nsteps = 1000\n'
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return folder


def train(folder: Path, told: list[str], count: int) -> dict[str, float]:
    """Seconds of a step after the first, and the most memory from the first on."""
    from velatura import api
    from velatura.events import Progress
    from velatura.training.meter import pace

    bytes_of: dict[str, float] = {}
    events = api.train(folder, overrides=told)
    _until(events, 1, Progress)
    before = pace()
    with peak(bytes_of, "training"):
        clock, computing = time.perf_counter(), time.process_time()
        _until(events, count, Progress)
        found = {"wall": (time.perf_counter() - clock) / count, "cpu": (time.process_time() - computing) / count}
    found["pace"] = (before + pace()) / 2
    events.close()  # type: ignore[attr-defined]
    return {**found, "bytes": bytes_of["training"], "after": anonymous()}


def _until(events: Iterator[Any], count: int, kind: type) -> None:
    for event in events:
        count -= isinstance(event, kind) and event.stage == "training"
        if count == 0:
            return


def measured(base: str, family: str, case: Mapping[str, Any], steps: int, home: dict[str, str]) -> dict[str, Any]:
    """What the plan expects, and what comes."""
    with tempfile.TemporaryDirectory() as folder:
        made = project(Path(folder) / "project", base, case)
        told = overrides(case)
        words = [word for one in told for word in ("--set", one)]
        plan = json.loads(_run([sys.executable, "-m", "velatura", "plan", str(made), *words, "--json"], home))
        child = [sys.executable, __file__, "--child", str(made), "--steps", str(3 * steps), *told]
        actual = json.loads(_run(child, home).splitlines()[-1])
    estimate = plan["estimate"]
    expected = {
        "cpu": estimate["step_seconds"] / estimate["busy"] * actual["pace"] / estimate["pace"],
        "wall": estimate["step_seconds"],
        "bytes": estimate["memory_bytes"],
    }
    missed = {name: expected[name] / actual[name] - 1 for name in expected}
    return {"base": family, **case, "expected": expected, "actual": actual, "missed": missed}


def _run(command: list[str], home: dict[str, str]) -> str:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=home)
    return done.stdout


@contextmanager
def bases(folder: Path, names: list[str]) -> Iterator[dict[str, str]]:
    """Family -> what names the base."""
    yield {
        name: "pocket" if name == "pocket" else str(write(folder / f"random {name}.safetensors", name))
        for name in names
    }


def shown(found: Mapping[str, Any]) -> str:
    """One row of the table."""
    told = ", ".join(
        [f"{found['side']} px", f"batch {found['batch']}", f"rank {found['rank']}"]
        + ["checkpointing"] * bool(found.get("checkpointing"))
        + ["text encoder"] * bool(found.get("text"))
    )
    expected, actual, missed = found["expected"], found["actual"], found["missed"]
    return (
        f"| {found['base']} | {told} | {expected['cpu']:.3f} s | {actual['cpu']:.3f} s | {missed['cpu']:+.1%} |"
        f" {1000 * actual['pace']:.1f} ms | {actual['wall']:.3f} s |"
        f" {expected['bytes'] / 1e9:.2f} GB | {actual['bytes'] / 1e9:.2f} GB |"
        f" {missed['bytes']:+.1%} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--steps", type=int, default=4, help="epochs of three steps that are measured")
    parser.add_argument("--folder", type=Path, help="where the files go for a while; none: the system's own choice")
    parser.add_argument("--out", type=Path, help="where the figures are written as JSON")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given, told = parser.parse_known_args()
    if given.child:
        print(json.dumps(train(given.child, told, given.steps)))
        return 0
    found = []
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, bases(Path(folder), given.bases) as named:
        home = {**os.environ, "VELATURA_HOME": str(Path(folder) / "home"), "OMP_NUM_THREADS": "1"}
        heads = ("base", "case", "step expected", "computing", "missed", "pace", "by the clock", "memory expected")
        print(f"| {' | '.join((*heads, 'at most', 'missed'))} |\n|{' --- |' * 10}")
        for family, base in named.items():
            probed = project(Path(folder) / f"{family} probed", base, {"side": 64, "batch": 1})
            words = [word for one in PROBED for word in ("--set", one)]
            _run([sys.executable, "-m", "velatura", "plan", str(probed), *words, "--probe"], home)
            for case in CASES[family]:
                found.append(measured(base, family, case, given.steps, home))
                print(shown(found[-1]), flush=True)
    for name in ("cpu", "bytes"):
        worst = max(abs(one["missed"][name]) for one in found)
        print(f"{'time' if name == 'cpu' else 'memory'}: worst of {len(found)} cases {worst:.1%}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
