"""Captions from a server that speaks as OpenAI's does: llama.cpp, vLLM, Ollama, LM Studio here, or one elsewhere.

    POST /v1/chat/completions   a system and a user message, the picture in it as a data URI
    GET  /v1/models             what the server has, where no model is named

What is sent of a picture is its pixels, made no larger than is useful and written as a new JPEG: no name, no EXIF.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from typing import Any

from velatura.captioning.answers import PROMPT, asked_for, caption_or_why, together
from velatura.captioning.captioner import Answer, Asked
from velatura.captioning.server import Server, Unanswered, words_of
from velatura.dataset import images
from velatura.errors import DatasetError, ModelError

IN_A_ROW = 3
"""Pictures without an answer, one after the other, after which the rest is not tried."""

QUALITY = 90


class Endpoint:
    """A vision-language model behind a server."""

    name = "endpoint"

    def __init__(
        self,
        server: Server,
        model: str = "",
        *,
        prompts: Sequence[str] = (PROMPT,),
        system: str = "",
        max_tokens: int = 300,
        temperature: float = 0.0,
        seed: int | None = None,
        side: int = 1024,
        batch: int = 1,
    ) -> None:
        """Take a server; it is asked for its models where none is named.

        Args:
            server: where it is.
            model: as the server calls it.
            prompts: each gives a caption, so that a long and a short one may be had.
            system: what the model is told beforehand.
            max_tokens: of an answer.
            temperature: 0 is the most probable answer.
            seed: of what is drawn above 0, where the server takes one.
            side: pixels of the longer side of what is sent.
            batch: pictures that are asked about at once.

        Raises:
            ModelError: the server is not there, or has several models and none is named.
        """
        self.server, self.batch, self.side = server, batch, side
        self.model = model or _only_model(server)
        self.prompts, self.system = tuple(prompts), system
        self._told: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature}
        if seed is not None:
            self._told["seed"] = seed
        # Not the server's address: it is private, and a model says the same elsewhere.
        self.settings: Mapping[str, object] = {
            "model": _without_folders(self.model), "prompts": self.prompts, "system": system, "side": side, **self._told
        }  # fmt: skip
        self._in_a_row = 0

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """An answer for each picture.

        Raises:
            ModelError: the server refuses all of them, or is gone.
        """
        with ThreadPoolExecutor(self.batch) as pool:
            found = [pool.submit(self._described, one) for one in asked]
            try:
                answers = []
                for one in found:
                    answer, unanswered = one.result()
                    answers.append(answer)
                    self._in_a_row = self._in_a_row + 1 if unanswered else 0
                    if self._in_a_row >= IN_A_ROW:
                        what = f"{IN_A_ROW} pictures in a row have no answer: {answer.why}"
                        fix = "mend that, and start the same command again"
                        raise ModelError(what, where=self.server.host, fix=fix)
                return answers
            finally:
                pool.shutdown(cancel_futures=True)

    def _described(self, one: Asked) -> tuple[Answer, bool]:
        """The answer, and whether there is none because of the server."""
        try:
            picture = data_uri(one.path, self.side)
        except DatasetError as error:
            return Answer(why=error.what), False
        try:
            return together([self._said(picture, asked_for(prompt, one)) for prompt in self.prompts]), False
        except Unanswered as error:
            return Answer(why=str(error)), True

    def _said(self, picture: str, prompt: str) -> tuple[str, str]:
        content = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": picture}}]
        messages: list[dict[str, object]] = [{"role": "user", "content": content}]
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        body = {"model": self.model, "messages": messages, "stream": False, **self._told}
        try:
            reply = self.server.ask("/chat/completions", body)
        except Unanswered as error:
            # OpenAI's newer models have another name for it; all else knows only the first.
            if "max_completion_tokens" not in str(error) or "max_tokens" not in self._told:
                raise
            told = {key: value for key, value in self._told.items() if key != "max_tokens"}
            self._told = {**told, "max_completion_tokens": self._told["max_tokens"]}
            return self._said(picture, prompt)
        return read(reply)


def read(reply: Mapping[str, Any]) -> tuple[str, str]:
    """The caption in a server's reply; or "", and why there is none."""
    try:
        choice = reply["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        if message.get("refusal"):
            return "", f"the model refuses: {str(message['refusal'])[:80]}"
        content = message.get("content") or ""
        if isinstance(content, list):
            content = " ".join(part["text"] for part in content if part.get("type") == "text")
        text = str(content)
    except (KeyError, IndexError, TypeError, AttributeError):
        said = words_of(reply) if "error" in reply else ""
        return "", f"the server says: {said}" if said else "the reply has no answer in it"
    if ended == "content_filter":
        return "", "the server's filter holds the answer back"
    used = (reply.get("usage") or {}).get("completion_tokens") if isinstance(reply.get("usage"), dict) else None
    return caption_or_why(text, cut_off=(used or len(text.split())) if ended == "length" else None)


def data_uri(path: Path, side: int) -> str:
    """A picture as a JPEG inside a URI, its longer side no longer than `side`.

    Raises:
        DatasetError: it cannot be read.
    """
    picture = images.open_image(path, at_least=side)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _only_model(server: Server) -> str:
    try:
        listed = server.ask("/models").get("data")
    except Unanswered as error:
        raise ModelError(f"the server does not say what models it has: {error}", where=server.host) from None
    names = [str(one["id"]) for one in listed if "id" in one] if isinstance(listed, list) else []
    if len(names) == 1:
        return names[0]
    if not names:
        raise ModelError("the server has no model", where=server.host, fix="load one, or name it with --model")
    shown = ", ".join(names[:8])
    raise ModelError(f"the server has {len(names)} models: {shown}", where=server.host, fix="name one with --model")


def _without_folders(model: str) -> str:
    """A model's name; llama.cpp calls its model by the path of its file."""
    is_path = model.startswith(("/", "~", ".")) or "\\" in model or model.lower().endswith(".gguf")
    return PureWindowsPath(model).name if is_path else model
