"""The same work on many pictures, on all cores, in bounded memory, in the order of the pictures."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from velatura.errors import DatasetError

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 12
"""So few pictures are done sooner than a process has started."""
AHEAD = 4
"""Pictures per process that are begun before the first is asked for."""


def cores() -> int:
    """How many processes can run at once."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def over(
    work: Callable[[Item], Result], items: Iterable[Item], *, count: int, workers: int | None = 1
) -> Iterator[Result]:
    """`work` of every item, in order.

    Processes are started afresh (spawn) on every system, so that all behave alike. A script that asks for
    several must guard its beginning with `if __name__ == "__main__"`.

    Args:
        work: a function at the top of a module; it raises nothing that it can tell otherwise.
        items: what to work on; only a few more than are being worked on are taken at a time.
        count: how many there are.
        workers: processes; None takes all cores, 1 stays in this process.

    Raises:
        DatasetError: a process was ended from outside, as a system short of memory does.
    """
    wanted = cores() if workers is None else workers
    if wanted <= 1 or count <= FEW:
        yield from map(work, items)
        return
    wanted = min(wanted, count)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(wanted, mp_context=context, initializer=_begin)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= AHEAD * wanted:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DatasetError(
            "a process that worked on the pictures was ended by the system, most likely for want of memory",
            fix="try again with fewer at a time: --workers 1",
        ) from None
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=True, cancel_futures=True)


def ahead(work: Callable[[Item], Result], items: Sequence[Item], *, threads: int = 4) -> Generator[Result, None, None]:
    """`work` of every item, in order, done by threads a few items ahead of whoever takes them.

    For what waits for disks and decoders rather than for Python, beside other work: nothing is started afresh, and
    scripts need no guard.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _begin() -> None:
    """Interrupts are left to the parent, and a parent that is killed takes its processes with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    # Each process holds the other end of the queue it waits at, so that none would ever hear of the parent's end.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
