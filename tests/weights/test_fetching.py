"""A base's weights are fetched on from where an attempt was cut short, here from a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from velatura.errors import ModelError
from velatura.weights.fetching import resumed

WEIGHTS = bytes(range(256)) * 4000


class Site:
    """Serves one file, as the site's storage does: with ranges."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[str | None] = []
        """The range of each request."""
        self.cut_at: int | None = None
        """Where the connection breaks."""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = self.headers.get("Range")
                site.asked.append(told)
                start = int(told.removeprefix("bytes=").partition("-")[0]) if told else 0
                self.send_response(206 if told else 200)
                self.send_header("Content-Length", str(len(site.data) - start))
                if told:
                    self.send_header("Content-Range", f"bytes {start}-{len(site.data) - 1}/{len(site.data)}")
                self.end_headers()
                self.wfile.write(site.data[start : site.cut_at])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/weights"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # 10 MB: what a break costs at most
    found = Site(WEIGHTS)
    yield found
    found.close()


def blob(folder: Path, data: bytes = WEIGHTS) -> Path:
    """Where a file goes: its name is its hash."""
    return folder / hashlib.sha256(data).hexdigest()


def part(whole: Path) -> Path:
    """Where it lies until it is whole."""
    return whole.with_name(f"{whole.name}.velatura.incomplete")


def test_a_file_arrives_whole(site: Site, tmp_path: Path) -> None:
    whole = blob(tmp_path)
    assert list(resumed(site.url, whole, size=len(WEIGHTS)))[-1] == len(WEIGHTS)
    assert whole.read_bytes() == WEIGHTS
    assert site.asked == [None]
    assert not part(whole).exists()


def test_what_an_earlier_process_fetched_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    whole = blob(tmp_path)
    part(whole).write_bytes(WEIGHTS[:300_001])
    list(resumed(site.url, whole, size=len(WEIGHTS)))
    assert site.asked == ["bytes=300001-"]
    assert whole.read_bytes() == WEIGHTS


def test_a_connection_that_breaks_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    site.cut_at = 500_000
    whole = blob(tmp_path)

    def mended() -> None:
        site.cut_at = None

    threading.Timer(0.5, mended).start()
    list(resumed(site.url, whole, size=len(WEIGHTS)))
    assert len(site.asked) > 1 and site.asked[0] is None and all(site.asked[1:])
    assert whole.read_bytes() == WEIGHTS


def test_parts_that_do_not_fit_together_are_thrown_away(site: Site, tmp_path: Path) -> None:
    whole = blob(tmp_path)
    part(whole).write_bytes(b"of another file")
    with pytest.raises(ModelError, match=r"does not fit together.*start again"):
        list(resumed(site.url, whole, size=len(WEIGHTS)))
    assert not whole.exists() and not part(whole).exists()
    list(resumed(site.url, whole, size=len(WEIGHTS)))
    assert whole.read_bytes() == WEIGHTS


def test_a_part_longer_than_the_file_is_begun_anew(site: Site, tmp_path: Path) -> None:
    whole = blob(tmp_path)
    part(whole).write_bytes(WEIGHTS + b"more")
    list(resumed(site.url, whole, size=len(WEIGHTS)))
    assert whole.read_bytes() == WEIGHTS and site.asked == [None]


def test_stopping_in_the_middle_keeps_what_there_is(site: Site, tmp_path: Path) -> None:
    site.cut_at = 400_000
    whole = blob(tmp_path)
    fetching = resumed(site.url, whole, size=len(WEIGHTS))
    while next(fetching) < 400_000:
        pass
    fetching.close()  # type: ignore[attr-defined]
    assert 400_000 <= part(whole).stat().st_size < len(WEIGHTS) and not whole.exists()
    site.cut_at = None
    list(resumed(site.url, whole, size=len(WEIGHTS)))
    assert whole.read_bytes() == WEIGHTS and site.asked[-1] is not None
