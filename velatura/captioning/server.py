"""JSON asked of a server over HTTP: patient where waiting helps, and one sentence where it does not.

Rate limits (429) and servers that are still loading (503) are waited for as long as they say themselves; what fails by
chance (500, 502, 504, a cut connection, a time-out) is tried again a few times. Redirects are not followed, so that
pictures and keys go where the user said and nowhere else, and what stays on this machine passes no proxy.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from velatura import settings
from velatura.errors import ModelError
from velatura.version import __version__

TRIES = 5
"""Times that one question is asked at most."""
BY_CHANCE = 3
"""The same where the server failed, or did not answer in time."""
LONGEST_WAIT = 60.0
"""Seconds that are waited before another try; a server that asks for more is left until later."""
MOST_BYTES = 4_000_000
"""A larger reply is no caption."""

_WAITING, _CHANCE = (429, 503), (500, 502, 504, 529)

_BLIND = re.compile(
    r"image input is not supported|missing data required for image input|not a multimodal model|at most 0 image"
    r"|does not support (?:vision|image|multimodal)|only 'text' content type is supported",
    re.IGNORECASE,
)
"""How llama.cpp, Ollama and vLLM say that their model does not see; no other picture would change it."""
_TOO_LONG = re.compile(r"context (?:size|length|window)|maximum model length", re.IGNORECASE)
"""How they say that picture and prompt are too many tokens."""


class Unanswered(Exception):
    """One question has no answer; the next may have."""


@dataclass(frozen=True)
class Server:
    """Where questions go, and how patiently."""

    url: str
    """As `address` gives it."""
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    """Seconds without a sign of the server until a try counts as failed."""
    wait: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    @property
    def host(self) -> str:
        """The machine that is asked."""
        return urlsplit(self.url).hostname or ""

    @property
    def local(self) -> bool:
        """Whether that is this machine, so that nothing leaves it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        """The server's reply.

        Args:
            path: behind the address.
            body: what is posted, as JSON; nothing asks with GET.

        Raises:
            ModelError: no question to this server can be answered: it is not there, or refuses us.
            Unanswered: this one cannot.
        """
        for tries in range(1, TRIES + 1):
            failed = _Failed("")
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                with error:
                    failed = self._refused(error)
            except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
                failed = self._unreachable(error)
            if tries >= failed.tries:
                raise Unanswered(failed.why)
            self.wait(min(failed.wait or 2.0 ** (tries - 1), LONGEST_WAIT))
        raise AssertionError("the last try ends above")

    def _once(self, path: str, body: object) -> dict[str, Any]:
        head = {"Accept": "application/json", "User-Agent": f"velatura/{__version__}"}
        if self.key:
            head["Authorization"] = f"Bearer {self.key}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            head["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self.url}{path}", data, head)
        proxies = urllib.request.ProxyHandler({} if self.local else None)
        with urllib.request.build_opener(proxies, _Stay).open(request, timeout=self.timeout) as reply:
            found = reply.read(MOST_BYTES + 1)
        try:
            tree = json.loads(found) if len(found) <= MOST_BYTES else None
        except (ValueError, RecursionError):
            tree = None
        if not isinstance(tree, dict):
            what = "what answers there does not speak as OpenAI's servers do"
            raise ModelError(what, where=self.url, fix="give the address that ends with /v1")
        return tree

    def _refused(self, error: urllib.error.HTTPError) -> _Failed:
        """What a status that is no success means."""
        said = self._said(error)
        if error.code in (401, 403):
            what = "the server refuses the key" if self.key else "the server wants a key"
            fix = "set the environment variable VELATURA_API_KEY, or name another with --key-from"
            raise ModelError(what, where=self.host, fix=fix)
        if error.code in (404, 405):
            if re.search(r"model", said, re.IGNORECASE):
                raise ModelError(f"the server has no such model: {said}", where=self.host, fix="name one with --model")
            raise ModelError("there is nothing at this address", where=self.url, fix="it ends with /v1 as a rule")
        if 300 <= error.code < 400:
            what = f"the server sends us on to {error.headers.get('Location', 'another place')}, which is not followed"
            raise ModelError(what, where=self.url, fix="give that address, if it is the right one")
        if error.code == 402 or (error.code == 429 and re.search(r"insufficient_quota|billing", said)):
            raise ModelError(f"the account is used up: {said}", where=self.host, fix="see to it, and start again")
        if _BLIND.search(said):
            fix = "load one that does; llama-server also needs --mmproj, the part of it that sees"
            raise ModelError(f"the server's model takes no pictures: {said}", where=self.host, fix=fix)
        if error.code < 500 and _TOO_LONG.search(said):
            return _Failed(f"it is more than the server reads at once; --side makes the picture smaller: {said}")
        why = f"the server says {error.code}{f': {said}' if said else ''}"
        if error.code in _WAITING:
            wait = _seconds(error.headers.get("Retry-After"))
            if wait > LONGEST_WAIT:
                what = f"the server asks to be left alone for {round(wait / 60) or 1} min"
                raise ModelError(what, where=self.host, fix="start the same command again then; it goes on")
            return _Failed(why, TRIES, wait)
        return _Failed(why, BY_CHANCE if error.code in _CHANCE else 1)

    def _unreachable(self, error: BaseException) -> _Failed:
        """What it means that there is no reply at all."""
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            return _Failed(f"no answer within {self.timeout:g} s; --timeout gives more", BY_CHANCE)
        if isinstance(reason, ConnectionRefusedError):
            raise ModelError("no server listens there", where=self.url, fix="start it, or check the address")
        if isinstance(reason, ConnectionError | http.client.HTTPException):
            return _Failed("the connection was cut", BY_CHANCE)
        if type(reason).__name__ == "gaierror":
            raise ModelError("no machine has this name", where=self.host, fix="check the address and the network")
        what = f"the server cannot be reached ({_line(str(reason))})"
        raise ModelError(what, where=self.url, fix="check the address and the network")

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The server's own words, never the key."""
        try:
            said = words_of(json.loads(error.read(100_000)))
        except (ValueError, RecursionError, OSError, http.client.HTTPException):
            return ""
        return said.replace(self.key, "...") if self.key else said


def words_of(tree: object) -> str:
    """What is wrong, in a line, wherever the various programs put it in their reply."""
    for name in ("error", "message", "detail"):
        if isinstance(tree, dict) and name in tree:
            tree = tree[name]
    if isinstance(tree, list) and tree and isinstance(tree[0], dict) and "msg" in tree[0]:
        tree = tree[0]["msg"]  # FastAPI's, which vLLM is built on: one for each field that is wrong
    return _line(tree if isinstance(tree, str) else json.dumps(tree))


@dataclass(frozen=True)
class _Failed:
    why: str
    tries: int = 1
    """Times that it is worth to ask in all."""
    wait: float = 0.0
    """Seconds until then, where the server says so."""


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **named: Any) -> None:
        """No other address is asked than the user's."""


def address(text: str) -> str:
    """A server's address as it is asked: http or https, ending with the folder of its interface, `/v1` as a rule.

    Raises:
        ModelError: it is not an address of this kind.
    """
    try:
        parts = urlsplit(text.strip())
        known = parts.scheme in ("http", "https") and bool((parts.hostname or "").encode("idna")) and parts.port != 0
        known = known and text.strip().isprintable() and " " not in text.strip()
    except ValueError:
        known = False
    if not known:
        raise ModelError(f"{text} is not an address", fix="write it as in http://localhost:8080/v1")
    if parts.username or parts.password or parts.query:
        what = "a key does not belong into an address, where it would be seen"
        raise ModelError(what, fix="set the environment variable VELATURA_API_KEY")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path or "/v1", "", ""))


def refuse_offline(server: Server) -> None:
    """Where the user's settings say `offline = true`, only this machine is asked.

    Raises:
        ModelError: the server is another.
    """
    if not server.local and settings.load().offline:
        fix = "take `offline` out of config.toml, or ask a server on this machine"
        raise ModelError("your settings say that nothing goes out", where=server.host, fix=fix)


def _seconds(told: str | None) -> float:
    """Retry-After, which is seconds or a date; 0 where it says neither."""
    try:
        return max(0.0, float(told or 0))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told or "").timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _line(text: str) -> str:
    return " ".join(text.split())[:200].rstrip(".")
