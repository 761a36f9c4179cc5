"""Memory and processors, as far as this process may use them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from pathlib import Path

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
CONTAINER_USE = Path("/sys/fs/cgroup/memory.current")
LINUX_MEMORY = Path("/proc/meminfo")


def threads() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> tuple[int, int] | None:
    """Bytes in all, and bytes free for use; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError, KeyError, subprocess.SubprocessError):
        if sys.platform == "win32":
            return _windows_memory()
        if sys.platform == "darwin":
            return _mac_memory()
        return _linux_memory()
    return None


def _linux_memory() -> tuple[int, int]:
    lines = (line.split() for line in LINUX_MEMORY.read_text().splitlines())
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    total, free = kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024
    with contextlib.suppress(OSError, ValueError):  # a container may have less than its machine
        limit = int(CONTAINER_LIMIT.read_text())
        total, free = min(total, limit), min(free, limit - int(CONTAINER_USE.read_text()))
    return total, free


def _mac_memory() -> tuple[int, int]:
    def ask(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout

    total = int(ask("sysctl", "-n", "hw.memsize"))
    page, free = int(ask("sysctl", "-n", "hw.pagesize")), 0
    for line in ask("vm_stat").splitlines():
        name, _, count = line.partition(":")
        if name in ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable"):
            free += int(count.strip(" .")) * page
    return total, free


class _MemoryStatus(ctypes.Structure):
    """What Windows' GlobalMemoryStatusEx fills in (MEMORYSTATUSEX)."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        ("free", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 5),
    )


def _windows_memory() -> tuple[int, int] | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    return (int(status.total), int(status.free)) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None
