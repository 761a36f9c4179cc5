from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from velatura import files, locks
from velatura import run as runs
from velatura.errors import FileProblem, RunError
from velatura.events import Checkpoint, Done, Event, Metric, Note, Progress, Resumed
from velatura.recipe import Recipe, build
from velatura.run import CheckpointFolder, Run, lock

FILES = {"adapter.safetensors": b"adapter", "state.safetensors": b"state"}

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from velatura.run import Run, lock
with lock(Run(Path(sys.argv[1]))):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runs.create(tmp_path, Recipe(name="Ink & Wash"), provenance={"seed": 1}, dataset_lines=["{}", "{}"])


@pytest.fixture
def other_trainer(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Another process that is training the run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


class Killed(BaseException):
    """The process ends here."""


def kill_at_call(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """End the process at the given one of all calls that change the disk; the list says which calls came."""
    calls: list[str] = []

    def watched(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: object, **options: object) -> object:
            calls.append(name)
            if len(calls) == number:
                raise Killed
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir"), (Path, "unlink"), (runs.shutil, "rmtree")):
        watched(owner, name)
    return calls


# The record


def test_a_new_run_holds_what_was_asked(run: Run, tmp_path: Path) -> None:
    assert run.path == tmp_path / "runs" / "0001-ink-wash"
    assert run.recipe == Recipe(name="Ink & Wash")
    assert run.provenance["seed"] == 1 and run.provenance["started"].endswith("+00:00")
    assert (run.path / "dataset.jsonl").read_text() == "{}\n{}\n"
    assert not run.finished and run.events() == [] and run.checkpoints() == []


def test_runs_are_numbered_and_listed_in_order(run: Run, tmp_path: Path) -> None:
    second = runs.create(tmp_path, Recipe(name="\N{ARTIST PALETTE}"), provenance={}, dataset_lines=[])
    third = runs.create(tmp_path, Recipe(name="größe " * 13), provenance={}, dataset_lines=[])

    assert [one.path.name[:4] for one in runs.runs_of(tmp_path)] == ["0001", "0002", "0003"]
    assert second.path.name == "0002-run"
    assert len(third.path.name) < 60
    assert runs.open_run(second.path) == second


def test_a_run_whose_making_failed_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 20):
        with monkeypatch.context() as patched:
            kill_at_call(patched, number)
            try:
                runs.create(tmp_path, Recipe(), provenance={}, dataset_lines=[])
            except Killed:
                assert runs.runs_of(tmp_path) == []
            else:
                break
    else:
        pytest.fail("a run was never made")

    assert number > 4
    assert all(one.recipe == Recipe() for one in runs.runs_of(tmp_path))


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        runs.open_run(tmp_path)


def test_a_file_in_the_place_of_the_runs_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")

    with pytest.raises(FileProblem, match="a file stands where a folder is needed"):
        runs.create(tmp_path, Recipe(), provenance={}, dataset_lines=[])


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff"], ids=range(4))
def test_a_damaged_record_is_one_sentence(run: Run, text: str) -> None:
    (run.path / "provenance.json").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(RunError, match="this file is damaged"):
        _ = run.provenance


# Events


def test_events_come_back_in_order(run: Run) -> None:
    told: list[Event] = [Note("begins"), Progress("training", 1, 2), Metric(1, {"loss": 0.5}), Done(2)]
    for event in told:
        run.append(event)

    assert run.events() == told


def test_a_torn_last_line_is_dropped_and_does_not_spoil_the_next(run: Run) -> None:
    run.append(Note("one"))
    path = run.path / "events.jsonl"
    whole = path.read_bytes()
    for end in range(1, len(whole)):
        path.write_bytes(whole + whole[:end])
        assert run.events()[0] == Note("one")

        run.append(Note("two"))

        assert run.events()[0] == Note("one") and run.events()[-1] == Note("two")
        assert len(run.events()) == (3 if end == len(whole) - 1 else 2)


def test_a_resume_voids_the_steps_after_it(run: Run) -> None:
    for event in (Metric(100, {"loss": 1.0}), Checkpoint(100, "a"), Metric(150, {"loss": 9.0}), Note("said")):
        run.append(event)
    run.append(Resumed(100))
    run.append(Metric(150, {"loss": 2.0}))

    assert [event for event in run.events() if isinstance(event, Metric)] == [
        Metric(100, {"loss": 1.0}),
        Metric(150, {"loss": 2.0}),
    ]
    assert Checkpoint(100, "a") in run.events() and Note("said") in run.events()


# Checkpoints


def test_a_checkpoint_is_published_whole(run: Run) -> None:
    published = run.publish(400, FILES)

    assert run.checkpoints() == [published] == [CheckpointFolder(400, run.path / "checkpoints" / "step-000400")]
    assert published.adapter.read_bytes() == b"adapter" and published.state.read_bytes() == b"state"
    run.verify(published)


def test_checkpoints_are_listed_by_step_and_strange_folders_are_passed_over(run: Run) -> None:
    for step in (1_000_000, 999_999, 5):
        run.publish(step, FILES)
    for name in ("step-000005 copy", "step-", "step-x"):
        (run.path / "checkpoints" / name).mkdir()
        (run.path / "checkpoints" / name / "manifest.json").write_text("{}")

    assert [one.step for one in run.checkpoints()] == [5, 999_999, 1_000_000]


@pytest.mark.parametrize("there_already", [False, True])
def test_a_checkpoint_killed_at_any_write_is_whole_or_absent(
    run: Run, monkeypatch: pytest.MonkeyPatch, there_already: bool
) -> None:
    """And the next attempt succeeds, with nothing left over; other checkpoints are not touched."""
    earlier = run.publish(200, {"adapter.safetensors": b"earlier"})
    number = 0
    while True:
        number += 1
        if there_already:
            run.publish(400, {"adapter.safetensors": b"old", "state.safetensors": b"old too"})
        else:
            shutil.rmtree(run.path / "checkpoints" / "step-000400", ignore_errors=True)
        with monkeypatch.context() as patched:
            calls = kill_at_call(patched, number)
            patched.setattr(runs.shutil, "rmtree", half_removed(runs.shutil.rmtree, calls, number))
            try:
                run.publish(400, FILES)
            except Killed:
                killed = True
            else:
                killed = False
        for checkpoint in run.checkpoints():
            run.verify(checkpoint)
        assert earlier in run.checkpoints()
        if not killed:
            break
        run.publish(400, FILES)
        assert names(run.path / "checkpoints") == ["step-000200", "step-000400"]

    assert number > 8


def half_removed(original: Callable[..., None], calls: list[str], number: int) -> Callable[..., None]:
    """A removal that the end of the process cuts short; afterwards nobody tidies up."""

    def call(folder: Path, **options: bool) -> None:
        if len(calls) >= number:
            return
        if len(calls) == number - 1 and (folder / "adapter.safetensors").exists():
            os.remove(folder / "adapter.safetensors")  # noqa: PTH107 - Path.unlink is watched
        original(folder, **options)

    return call


def test_a_full_disk_leaves_no_half_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = run.publish(200, FILES)
    written = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) == 3:  # file, folder, file
            raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(FileProblem, match="the disk is full"):
        run.publish(400, FILES)

    assert run.checkpoints() == [earlier]
    assert names(run.path / "checkpoints") == ["step-000200"]


def test_publishing_a_step_again_replaces_it(run: Run) -> None:
    run.publish(400, FILES)
    again = run.publish(400, {"adapter.safetensors": b"new"})

    assert run.checkpoints() == [again]
    assert again.adapter.read_bytes() == b"new" and not again.state.exists()
    run.verify(again)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_checkpoint_is_found_out(run: Run, damage: str) -> None:
    published = run.publish(400, FILES)
    if damage == "changed":
        published.state.write_bytes(b"stete")
    else:
        published.state.unlink()

    with pytest.raises(RunError, match=r"state.safetensors of checkpoint 400 is missing or damaged"):
        run.verify(published)


def test_the_manifest_vouches_for_the_bytes_that_were_meant(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that garbles what it is given must not be believed."""
    original = files.write_bytes
    monkeypatch.setattr(runs, "write_bytes", lambda path, data: original(path, data[::-1]))

    published = run.publish(400, FILES)

    with pytest.raises(RunError):
        run.verify(published)


def test_state_is_given_up_and_the_checkpoint_stays_whole(run: Run) -> None:
    published = run.publish(400, FILES)

    run.drop_state(published)
    run.drop_state(published)

    assert not published.state.exists() and published.adapter.exists()
    run.verify(published)


def test_state_left_over_by_a_kill_is_removed_the_next_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    published = run.publish(400, FILES)
    with monkeypatch.context() as patched:
        kill_at_call(patched, 4)
        with pytest.raises(Killed):
            run.drop_state(published)
    assert published.state.exists()
    run.verify(published)

    run.drop_state(published)

    assert not published.state.exists()


# Requests


def test_requests_are_read_once_and_in_order(run: Run) -> None:
    assert run.requests(0) == ([], 0)
    run.ask("pause")
    run.ask("snapshot")

    asked, offset = run.requests(0)

    assert asked == ["pause", "snapshot"]
    assert run.requests(offset) == ([], offset)
    run.ask("continue")
    assert run.requests(offset)[0] == ["continue"]


def test_requests_from_before_a_start_are_not_for_it(run: Run) -> None:
    assert run.control_end() == 0
    run.ask("stop")

    assert run.requests(run.control_end())[0] == []


def test_half_a_request_waits_for_its_other_half_and_nonsense_is_passed_over(run: Run) -> None:
    path = run.path / "control.jsonl"
    path.write_bytes(b'{"request": "dance"}\n[]\n5\nnot json\n{"request": "st')
    asked, offset = run.requests(0)
    assert asked == []

    with path.open("ab") as file:
        file.write(b'op"}\n')

    assert run.requests(offset)[0] == ["stop"]


def test_a_request_behind_a_torn_one_is_heard(run: Run) -> None:
    (run.path / "control.jsonl").write_bytes(b'{"request": "sna')

    run.ask("stop")

    assert run.requests(0)[0] == ["stop"]


def test_what_is_asked_of_a_paused_run_is_not_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    to_ask: list[runs.Request] = ["snapshot", "preview", "continue"]
    monkeypatch.setattr(locks.time, "sleep", lambda _: run.ask(to_ask.pop(0)))

    asked, offset = runs.wait_while_paused(run, 0)

    assert asked == ["snapshot", "preview", "continue"]
    assert offset == run.control_end()


# The lock


def test_a_second_trainer_is_kept_out(run: Run, other_trainer: subprocess.Popen[str]) -> None:
    assert runs.locked(run)
    with pytest.raises(RunError, match="another process is training this run"), lock(run):
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no kill -9")
def test_the_lock_is_free_after_kill_9(run: Run, other_trainer: subprocess.Popen[str]) -> None:
    other_trainer.send_signal(signal.SIGKILL)
    other_trainer.wait()

    assert not runs.locked(run)
    with lock(run):
        assert runs.locked(run)
    assert not runs.locked(run)


def test_asking_whether_a_run_is_locked_leaves_no_trace(run: Run) -> None:
    before = names(run.path)

    assert not runs.locked(run)

    assert names(run.path) == before


def test_a_trainer_waits_for_a_moment_while_somebody_looks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = (run.path / "lock").open("ab+")
    assert locks.taken(looking)
    monkeypatch.setattr(locks.time, "sleep", lambda _: looking.close())

    with lock(run):
        assert runs.locked(run)


# Going on


def test_the_newest_run_that_was_told_the_same_is_found(tmp_path: Path) -> None:
    recipe, other = build({"objective": {"min_snr": "none"}}), build({"train": {"steps": 7}})
    made = {"dataset_fingerprint": "f", "base_hash": "b"}
    runs.create(tmp_path, recipe, provenance=made, dataset_lines=[])
    newest = runs.create(tmp_path, recipe, provenance=made, dataset_lines=[])
    runs.create(tmp_path, other, provenance=made, dataset_lines=[])
    runs.create(tmp_path, recipe, provenance=made | {"base_hash": "c"}, dataset_lines=[])
    runs.create(tmp_path, recipe, provenance=made | {"dataset_fingerprint": "g"}, dataset_lines=[])

    assert runs.matching(tmp_path, recipe, fingerprint="f", base_hash="b") == newest
    assert runs.matching(tmp_path, build({"name": "x"}), fingerprint="f", base_hash="b") is None


def test_a_damaged_run_does_not_stand_in_the_way_of_others(tmp_path: Path) -> None:
    made = {"dataset_fingerprint": "f", "base_hash": "b"}
    whole, damaged, newer = (runs.create(tmp_path, Recipe(), provenance=made, dataset_lines=[]) for _ in range(3))
    (damaged.path / "provenance.json").write_text("{")
    (newer.path / "recipe.toml").write_text("version = 99\n")

    assert runs.matching(tmp_path, Recipe(), fingerprint="f", base_hash="b") == whole


def test_nothing_in_a_checkpoint_tells_where_it_was_made(run: Run) -> None:
    manifest = json.loads((run.publish(400, FILES).path / "manifest.json").read_text())

    assert set(manifest) == {"step", "written", "sha256"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest["written"])
