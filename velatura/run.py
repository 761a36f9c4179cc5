"""The run folder: one training, its record, its resume point, and the only channel to it.

    runs/0001-name/
      recipe.toml  provenance.json  dataset.jsonl    what was asked, with what, on what
      events.jsonl                                   appended: progress, metrics, checkpoints
      control.jsonl  lock                            requests, read between steps; one trainer at a time
      checkpoints/step-000400/                       whole once its manifest.json stands
      samples/  evaluation.json  report.html  result.json (written last)

Nothing half-written is taken for whole: a checkpoint is written beside, synced and renamed, and
its manifest, which names every file's sha256, is written last. A run counts once its provenance
stands, which is written last as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from velatura import locks
from velatura.errors import RunError, VelaturaError
from velatura.events import Checkpoint, Event, Progress, Resumed, from_json, to_json
from velatura.files import append_line, disk_problems, make_folder, sha256, sync_folder, write_bytes, write_text
from velatura.recipe import Recipe, load, to_toml

Request = Literal["stop", "pause", "continue", "snapshot", "preview"]


@dataclass(frozen=True)
class CheckpointFolder:
    """A checkpoint that is whole."""

    step: int
    path: Path

    @property
    def adapter(self) -> Path:
        """The adapter's file."""
        return self.path / "adapter.safetensors"

    @property
    def state(self) -> Path:
        """The optimizer's state; absent in older checkpoints."""
        return self.path / "state.safetensors"


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    @property
    def recipe(self) -> Recipe:
        """What the run was told, every default written out."""
        return load(self.path / "recipe.toml")

    @property
    def start(self) -> Path:
        """The state of another run's checkpoint that this one began with; absent in most."""
        return self.path / "start.safetensors"

    def retell(self, recipe: Recipe) -> None:
        """Write down other settings that the run goes on with; a finished one is open again."""
        with disk_problems(self.path):
            (self.path / "result.json").unlink(missing_ok=True)
        write_text(self.path / "recipe.toml", to_toml(recipe))

    @property
    def finished(self) -> bool:
        """Whether the run has reached its end."""
        return (self.path / "result.json").exists()

    @property
    def provenance(self) -> dict[str, Any]:
        """What the run was made with."""
        return read_json(self.path / "provenance.json")

    def append(self, event: Event) -> None:
        """Add an event to the record; a torn last line, left by a killed process, is closed first."""
        append_line(self.path / "events.jsonl", to_json(event))

    def events(self) -> list[Event]:
        """The record; torn lines are left out, and what a resume has voided too."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return []
        with disk_problems(path):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept: list[Event] = []
        for line in lines:
            event = from_json(line)
            if isinstance(event, Resumed):
                kept = [old for old in kept if getattr(old, "step", 0) <= event.step]
            if event is not None:
                kept.append(event)
        return kept

    def checkpoints(self) -> list[CheckpointFolder]:
        """The whole checkpoints, oldest first."""
        found = []
        for folder in (self.path / "checkpoints").glob("step-*"):
            name = re.fullmatch(r"step-(\d+)", folder.name)
            if name and (folder / "manifest.json").exists():
                found.append(CheckpointFolder(int(name[1]), folder))
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def publish(self, step: int, files: Mapping[str, bytes]) -> CheckpointFolder:
        """Write a checkpoint so that it is whole or not there; one of the same step is replaced."""
        parent = make_folder(self.path / "checkpoints")
        folder = parent / f"step-{step:06d}"
        beside = parent / f".step-{step:06d}.part"
        manifest = {
            "step": step,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "sha256": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
        }
        with disk_problems(folder):
            for leftover in parent.glob(".step-*.part"):
                shutil.rmtree(leftover)
            try:
                beside.mkdir()
                for name, data in files.items():
                    write_bytes(beside / name, data)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
            if folder.exists():
                (folder / "manifest.json").unlink(missing_ok=True)
                shutil.rmtree(folder)
            beside.replace(folder)
            sync_folder(parent)
        write_text(folder / "manifest.json", json.dumps(manifest, indent=2))
        return CheckpointFolder(step, folder)

    def verify(self, checkpoint: CheckpointFolder) -> None:
        """Compare a checkpoint's files with its manifest.

        Raises:
            RunError: a file is missing or changed. (State that was dropped on purpose is no longer listed.)
        """
        for name, digest in read_json(checkpoint.path / "manifest.json")["sha256"].items():
            path = checkpoint.path / name
            if not path.exists() or sha256(path) != digest:
                raise RunError(
                    f"{name} of checkpoint {checkpoint.step} is missing or damaged",
                    where=checkpoint.path,
                    fix="delete that checkpoint's folder; the run goes on from the one before",
                )

    def take_back(self, checkpoint: CheckpointFolder) -> None:
        """Give up a checkpoint: it stops counting first, and then is removed."""
        with disk_problems(checkpoint.path):
            (checkpoint.path / "manifest.json").unlink(missing_ok=True)
            shutil.rmtree(checkpoint.path)

    def drop_state(self, checkpoint: CheckpointFolder) -> None:
        """Give up a checkpoint's optimizer state; the adapter stays."""
        path = checkpoint.path / "manifest.json"
        manifest = read_json(path)
        if manifest["sha256"].pop("state.safetensors", None) is not None:
            write_text(path, json.dumps(manifest, indent=2))
        with disk_problems(checkpoint.state):
            checkpoint.state.unlink(missing_ok=True)

    def requests(self, offset: int) -> tuple[list[Request], int]:
        """Requests written to `control.jsonl` since the offset, and the new offset. Whole lines only."""
        path = self.path / "control.jsonl"
        if not path.exists():
            return [], 0
        with disk_problems(path), path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        asked: list[Request] = []
        for line in whole.splitlines():
            try:
                request = json.loads(line).get("request")
            except (ValueError, AttributeError):
                continue
            if request in get_args(Request):
                asked.append(request)
        return asked, offset + len(whole)

    def ask(self, request: Request) -> None:
        """Ask the trainer of this run for something."""
        append_line(self.path / "control.jsonl", json.dumps({"request": request}))

    def control_end(self) -> int:
        """Offset of the end of `control.jsonl`: requests from before a start are not for it."""
        path = self.path / "control.jsonl"
        return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class Summary:
    """A run in one line."""

    name: str
    state: Literal["running", "finished", "stopped", "damaged"]
    step: int
    """Optimizer steps done."""
    steps: int
    """Those it was told to do."""
    chosen: int | None
    """Step of the checkpoint that was named the best; none while none was, or where none can be."""
    started: str
    """Date and time in UTC, ISO 8601."""


def lock(run: Run) -> AbstractContextManager[None]:
    """Keep other trainers out of a run; RunError where another process has it."""
    busy = RunError("another process is training this run", where=run.path, fix="wait for it, or stop it first")
    return locks.hold(run.path / "lock", busy=busy)


def locked(run: Run) -> bool:
    """Whether some process is training this run now."""
    return locks.held(run.path / "lock")


def create(
    project: Path, recipe: Recipe, *, provenance: dict[str, Any], dataset_lines: list[str], start: Path | None = None
) -> Run:
    """Make the next run folder of a project. It counts as a run once its provenance stands, written last.

    Args:
        start: the state of another run's checkpoint to begin with.
    """
    runs = make_folder(project / "runs")
    slug = re.sub(r"\W+", "-", recipe.name.lower())[:40].strip("-") or "run"
    with disk_problems(runs):
        number = 1 + max((int(folder.name[:4]) for folder in runs.glob("[0-9][0-9][0-9][0-9]-*")), default=0)
        while True:
            folder = runs / f"{number:04d}-{slug}"
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
    started = {"started": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        write_text(folder / "recipe.toml", to_toml(recipe))
        write_text(folder / "dataset.jsonl", "".join(line + "\n" for line in dataset_lines))
        if start is not None:
            write_bytes(folder / "start.safetensors", start.read_bytes())
        write_text(folder / "provenance.json", json.dumps(provenance | started, indent=2, sort_keys=True))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Run(folder)


def open_run(folder: Path) -> Run:
    """A run that exists.

    Raises:
        RunError: the folder is not a run.
    """
    if not (folder / "provenance.json").exists() or not (folder / "recipe.toml").exists():
        raise RunError("this is not a run folder", where=folder, fix="`velatura runs` lists the runs of a project")
    return Run(folder)


def runs_of(project: Path) -> list[Run]:
    """The runs of a project, oldest first."""
    folders = sorted((project / "runs").glob("[0-9][0-9][0-9][0-9]-*"))
    return [Run(folder) for folder in folders if (folder / "provenance.json").exists()]


def summary(run: Run) -> Summary:
    """How far a run has come. A damaged one is said to be so, and hides no other."""
    try:
        steps, started = run.recipe.train.steps, str(run.provenance.get("started", ""))
        result = read_json(run.path / "result.json") if run.finished else {}
    except VelaturaError:
        return Summary(run.path.name, "damaged", 0, 0, None, "")
    if run.finished:
        chosen = result.get("step") if result.get("chosen") else None
        return Summary(run.path.name, "finished", steps, steps, chosen, started)
    return Summary(run.path.name, "running" if locked(run) else "stopped", _reached(run), steps, None, started)


def _reached(run: Run) -> int:
    for event in reversed(run.events()):
        if isinstance(event, Progress) and event.stage == "training":
            return event.done
        if isinstance(event, Resumed | Checkpoint):
            return event.step
    return 0


def matching(project: Path, recipe: Recipe, *, fingerprint: str, base_hash: str) -> Run | None:
    """The newest run that was told the same, on the same pictures and the same base. Damaged runs are passed over."""
    for run in reversed(runs_of(project)):
        with contextlib.suppress(VelaturaError):
            made = run.provenance
            same = (made.get("dataset_fingerprint"), made.get("base_hash")) == (fingerprint, base_hash)
            if same and run.recipe == recipe:
                return run
    return None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a run.

    Raises:
        RunError: the file is damaged.
    """
    with disk_problems(path):
        data = path.read_bytes()
    try:
        value = json.loads(data)
    except ValueError as error:
        raise RunError("this file is damaged", where=path, fix="restore it, or start a new run") from error
    if not isinstance(value, dict):
        raise RunError("this file is damaged", where=path, fix="restore it, or start a new run")
    return value


def wait_while_paused(run: Run, offset: int, *, poll_seconds: float = 0.5) -> tuple[list[Request], int]:
    """Wait until a paused run is asked to continue or to stop; everything asked for meanwhile, and the new offset."""
    asked: list[Request] = []
    while not any(request in ("continue", "stop") for request in asked):
        time.sleep(poll_seconds)
        more, offset = run.requests(offset)
        asked += more
    return asked, offset
