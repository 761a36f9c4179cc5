from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from velatura.doctor import machine

MEMINFO = "MemTotal:  16000000 kB\nMemFree:  1000000 kB\nMemAvailable:  9000000 kB\nHugePages_Total: 0\n"


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 GB, not in a container."""
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(machine, "LINUX_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CONTAINER_LIMIT", tmp_path / "max")
    monkeypatch.setattr(machine, "CONTAINER_USE", tmp_path / "current")
    return tmp_path


def test_this_machine_tells_its_memory_and_threads() -> None:
    memory = machine.memory()

    assert machine.threads() >= 1
    assert memory is not None and 0 < memory[1] <= memory[0]


def test_linux_tells_what_is_available_rather_than_what_is_unused(linux: Path) -> None:
    assert machine.memory() == (16_000_000 * 1024, 9_000_000 * 1024)


def test_a_container_has_only_what_it_was_given(linux: Path) -> None:
    (linux / "max").write_text("4000000000\n")
    (linux / "current").write_text("1000000000\n")

    assert machine.memory() == (4_000_000_000, 3_000_000_000)


def test_a_container_without_a_limit_has_all_of_its_machine(linux: Path) -> None:
    (linux / "max").write_text("max\n")
    (linux / "current").write_text("1000000000\n")

    assert machine.memory() == (16_000_000 * 1024, 9_000_000 * 1024)


def test_a_system_that_does_not_say_is_none(linux: Path) -> None:
    (linux / "meminfo").write_text("nothing of use\n")

    assert machine.memory() is None


def test_macos_is_asked_through_its_own_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "hw.memsize": "17179869184\n",
        "hw.pagesize": "16384\n",
        "vm_stat": "Mach Virtual Memory Statistics:\nPages free:   1000.\nPages active: 5000.\nPages inactive: 2000.\n",
    }
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: SimpleNamespace(stdout=answers[command[-1]]))

    assert machine.memory() == (16 * 1024**3, 3000 * 16384)
