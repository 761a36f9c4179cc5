"""Work on many pictures at once: what becomes of its processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import pytest

from velatura.dataset import pool


def _identity(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def _works_for_long(told: Connection) -> None:
    for identity in pool.over(_identity, [0.01] * 10_000, count=10_000, workers=2):
        told.send(identity)


def _runs(identity: int) -> bool:
    try:
        os.kill(identity, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="to ask whether a process runs, by its number, would end it there")
def test_processes_end_with_the_one_that_was_killed() -> None:
    context = multiprocessing.get_context("spawn")
    listening, told = context.Pipe(duplex=False)
    parent = context.Process(target=_works_for_long, args=(told,))
    parent.start()
    assert listening.poll(60)
    workers = {listening.recv() for _ in range(5)}
    assert parent.pid not in workers
    parent.kill()
    parent.join()

    until = time.monotonic() + 10
    while any(map(_runs, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_runs, workers))
