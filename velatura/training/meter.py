"""What a stretch of work takes: seconds by the clock, seconds of computing, and the most memory on the device."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

STATUS = Path("/proc/self/status")


@dataclass
class Meter:
    """A stretch of work on one device; read after it has ended."""

    device: str
    wall: float = 0.0
    cpu: float = 0.0
    peak: int | None = None
    """None where the system does not say."""

    def __enter__(self) -> Meter:
        """Begin, with nothing left on the device's queue."""
        wait(self.device)
        self._ended = threading.Event()
        self._most = held(self.device) or 0
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            self._watcher.start()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, once the device has done everything."""
        wait(self.device)
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        if self.device == "cuda":
            self.peak = int(torch.cuda.max_memory_allocated())
            return
        self._ended.set()
        self._watcher.join()
        self.peak = None if held(self.device) is None else max(self._most, held(self.device) or 0)

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self._most = max(self._most, held(self.device) or 0)


def pace() -> float:
    """Seconds of computing that a fixed piece of work takes the processor now.

    A core that shares its caches and its units with other programs computes more slowly, by half and more; what was
    measured at one pace is compared with what was measured at another by these.
    """
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(320, 320, 3, 3, generator=generator)
    weight = torch.randn(1280, 1280, generator=generator)
    picture = torch.randn(1, 320, 16, 16, generator=generator)
    tokens = torch.randn(256, 1280, generator=generator)
    seconds = []
    for _ in range(7):
        begun = time.process_time()
        torch.nn.functional.silu(torch.nn.functional.conv2d(picture, kernel, padding=1)).sum()
        torch.nn.functional.gelu(tokens @ weight).softmax(dim=1).sum()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds[1:])


def tidy(device: str) -> None:
    """Give back what is free, so that the next stretch is not measured with what another left behind."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def held(device: str) -> int | None:
    """Bytes that the process holds on the device; on the processor those that no file stands behind."""
    if device == "cuda":
        return int(torch.cuda.memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    if not sys.platform.startswith("linux"):
        return None
    with STATUS.open(encoding="utf-8") as lines:
        found = {words[0]: int(words[1]) for line in lines if (words := line.split())[-1:] == ["kB"]}
    return (found.get("RssAnon:", 0) + found.get("RssShmem:", 0)) * 1024
