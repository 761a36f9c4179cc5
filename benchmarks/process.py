"""Memory of this process that no file stands behind, and the most of it over a stretch. Linux only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def memory() -> dict[str, int]:
    """Bytes of this process, by the system's names."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[-1:] == ["kB"]}


def anonymous() -> int:
    """Bytes that no file stands behind."""
    found = memory()
    return found["RssAnon"] + found["RssShmem"]


@contextmanager
def peak(told: dict[str, float], name: str) -> Iterator[None]:
    """Write down the largest anonymous memory of a stretch, looked at a hundred times a second."""
    ended, most = threading.Event(), [anonymous()]

    def watch() -> None:
        while not ended.wait(0.01):
            most[0] = max(most[0], anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        told[name] = max(most[0], anonymous())
