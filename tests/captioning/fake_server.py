"""A server on loopback that answers as llama.cpp's and vLLM's documentation describe."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends back."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Until it does."""


Answering = Callable[["Seen"], Reply]


@dataclass
class Seen:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any


def completion(text: object, *, ended: str = "stop", tokens: int = 12, **message: object) -> dict[str, Any]:
    """A chat completion, as both servers give it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "seeing",
        "choices": [{"index": 0, "finish_reason": ended, "message": {"role": "assistant", "content": text, **message}}],
        "usage": {"prompt_tokens": 300, "completion_tokens": tokens, "total_tokens": 300 + tokens},
    }


def models(*names: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "vllm"} for name in names]}


def vllm_error(status: int, message: str, kind: str) -> Reply:
    return Reply({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)


def llama_error(status: int, message: str, kind: str) -> Reply:
    return Reply({"error": {"code": status, "message": message, "type": kind}}, status)


class Fake:
    """The server: `replies` are given one after the other, the last one again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[Seen] = []
        self.replies: list[Reply | Answering] = [Reply(completion("a boat on a lake"))]
        self.names = ("seeing",)

    @property
    def asked(self) -> list[Seen]:
        """Requests for a caption."""
        return [one for one in self.seen if one.path.endswith("/chat/completions")]

    def reply(self, one: Seen) -> Reply:
        self.seen.append(one)
        if one.path == "/v1/models":
            return Reply(models(*self.names))
        if one.path != "/v1/chat/completions":
            return Reply({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)
        found = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return found if isinstance(found, Reply) else found(one)


@contextmanager
def serving() -> Iterator[Fake]:
    """A server for as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Any) -> None:
            reply = fake.reply(Seen(self.path, dict(self.headers), body))
            time.sleep(reply.seconds)
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # who asked did not wait

        def log_message(self, *words: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = Fake(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
