"""What every test gets: a home of its own, and one thread, so that numbers do not depend on the machine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from velatura.neighbours import programs

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background job is started deaf to it, and so are its children
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's settings and cache, empty; whoever runs the tests keeps theirs."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("VELATURA_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def neighbourhood(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where other programs are looked for, empty; what this machine has is of no account."""
    folder = tmp_path_factory.mktemp("programs")
    monkeypatch.setattr(programs, "places", lambda: iter([folder]))
    programs._found.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Only where torch is loaded already: tests without it stay fast."""
    if (torch := sys.modules.get("torch")) is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """What a test writes goes into its own folder."""
    root = Path(__file__).parent.parent
    before = set(root.iterdir())
    yield
    assert not {path for path in root.iterdir() if not path.name.startswith(".")} - before
