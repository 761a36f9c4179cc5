"""Kill a training again and again, start it anew, and compare what comes out with a training left alone.

    python -m benchmarks.kill                      30 kills on a tiny base with random weights, one or two minutes
    python -m benchmarks.kill --project DIR        the same on a project of your own; it is copied first

Every other kill comes at a random moment, the rest just before or after a file is moved into its place.
After each kill nothing half-written may be taken for whole; in the end every checkpoint's adapter and
state, the LoRA handed over and the sample pictures must be the undisturbed training's, byte for byte.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from velatura import api, tensorfile
from velatura import run as runs
from velatura.events import Progress

PRELOADED = [
    "velatura.api",
    "velatura.evaluation.protocol",
    "velatura.evaluation.report",
    "velatura.generation.contact",
    "velatura.families.sd15",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "transformers.models.clip.modeling_clip",
]
"""Imported once in the process that the trainers are forked from: importing takes longer than training."""

EARLIEST, LATEST = 0.02, 0.7
"""When a trainer is killed, as a share of the time that a whole training takes."""

MOVES = 16
"""Files that are moved into place, at most, before a trainer dies at one: three checkpoints with their pictures."""


@dataclass
class Report:
    """What was done and what came of it."""

    seconds: float
    """Of the training that was left alone."""
    kills: int = 0
    trainings: int = 0
    """Finished in spite of the kills."""

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.kills} kills, {self.trainings} trainings finished, each equal byte for byte to the one left alone "
            f"({self.seconds:.1f} s)"
        )


def train(project: str, home: str, judged: bool, end: int | None = None) -> None:
    """Train to the end, or until judging would begin; runs in a process of its own.

    Args:
        project, home: folders.
        judged: to the end.
        end: dies at the file moved with this number, counted from 1; before it moves where that is even.
    """
    os.environ["VELATURA_HOME"] = home
    if end is not None:
        die_at_move(end)
    for event in api.train(Path(project)):
        if not judged and isinstance(event, Progress) and event.stage == "judging":
            break


def die_at_move(number: int) -> None:
    """End this process, without any cleaning up, when a file is moved for the nth time."""
    move, moved = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal moved
        moved += 1
        if moved == number and number % 2 == 0:
            os._exit(1)
        done = move(path, target)
        if moved == number:
            os._exit(1)
        return done

    Path.replace = replace  # type: ignore[method-assign,assignment]


def disturb(project: Path, *, kills: int, seed: int = 0, judged: bool = True) -> Report:
    """Train copies of a project, killing each now and then, until so many kills are done and each has finished.

    Args:
        project: it is only read.
        kills: how many.
        seed: of the moments.
        judged: a training ends with its judging, not before.

    Raises:
        AssertionError: something half-written was taken for whole, or the results differ.
    """
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    if sys.platform != "win32":
        context.set_forkserver_preload(PRELOADED)
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:

        def start(folder: Path, end: int | None = None) -> multiprocessing.process.BaseProcess:
            process = context.Process(target=train, args=(str(folder), str(Path(scratch) / "home"), judged, end))
            process.start()
            return process

        undisturbed = shutil.copytree(project, Path(scratch) / "undisturbed")
        start(undisturbed).join()  # the first start imports, so it is not the one that is timed
        expected = outcome(undisturbed)
        shutil.rmtree(undisturbed / "runs")
        shutil.rmtree(undisturbed / "loras", ignore_errors=True)
        begun = time.monotonic()
        start(undisturbed).join()
        report = Report(time.monotonic() - begun)
        compare(outcome(undisturbed), expected, "a second undisturbed training")
        while report.kills < kills:
            folder = shutil.copytree(project, Path(scratch) / f"disturbed-{report.trainings}")
            while not finished(folder, judged=judged):
                if report.kills >= kills:
                    start(folder).join()
                elif report.kills % 2:
                    process = start(folder, draw.randint(1, MOVES))
                    process.join()
                    report.kills += process.exitcode != 0
                else:
                    process = start(folder)
                    process.join(draw.uniform(EARLIEST, LATEST) * report.seconds)
                    report.kills += process.is_alive()
                    process.kill()
                    process.join()
                check_whole(folder)
            compare(outcome(folder), expected, "a training that was killed and went on")
            report.trainings += 1
    return report


def finished(project: Path, *, judged: bool) -> bool:
    """Whether the project's run has reached its end."""
    for run in runs.runs_of(project):
        steps = run.recipe.train.steps
        painted = (run.path / "samples" / f"step-{steps:06d}.png").exists()
        if run.finished or (painted and not judged):
            return True
    return False


def check_whole(project: Path) -> None:
    """Everything that counts is complete, and nobody holds the lock."""
    found = runs.runs_of(project)
    assert len(found) <= 1, "a training that goes on makes no second run"
    for run in found:
        assert run.recipe and run.provenance
        assert not runs.locked(run)
        for checkpoint in run.checkpoints():
            run.verify(checkpoint)
            tensorfile.read(checkpoint.adapter)
        if run.finished:
            assert (run.path / "report.html").exists()
            result = runs.read_json(run.path / "result.json")
            tensorfile.read(project / result["lora"])


def outcome(project: Path) -> dict[str, bytes]:
    """What a finished training leaves that must not depend on how it came about; its number may."""
    (run,) = runs.runs_of(project)
    patterns = ["checkpoints/*/*.safetensors", "samples/*.png", "recipe.toml", "dataset.jsonl"]
    patterns += ["evaluation.json", "samples/exam/*/*.png"] if run.finished else []
    found = {path.relative_to(run.path): path for pattern in patterns for path in run.path.glob(pattern)}
    found |= {path.relative_to(project): path for path in (project / "loras").glob("*.safetensors")}
    return {name.as_posix(): path.read_bytes() for name, path in found.items()}


def compare(found: dict[str, bytes], expected: dict[str, bytes], what: str) -> None:
    """Equal names, equal bytes."""
    differing = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    assert not differing, f"{what} differs in {', '.join(differing)}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", type=Path)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = told.project
        if project is None:
            from tests import tiny

            project = tiny.project(Path(scratch) / "project", tiny.sd15(Path(scratch) / "base"))
        print(disturb(project, kills=told.kills, seed=told.seed))


if __name__ == "__main__":
    main()
