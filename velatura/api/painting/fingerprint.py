"""A digest of all that a picture is made of, from the request for it alone: no base is loaded (no torch).

By it a sheet knows a picture that it has painted before. Files count with their hashes, which are remembered by path,
size and time of change; so what a name means is looked up, and a file that has changed makes another picture. What a
base suits itself (its sampler, the precision that the machine allows) is as it was when the picture was painted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from velatura import bases, settings
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import second_pass, template_of, wildcards_of
from velatura.errors import VelaturaError
from velatura.generation import prompt as grammar
from velatura.text import embeddings
from velatura.version import __version__

UNSAID = frozenset(
    {
        *("out", "project", "preview", "preview_every", "remarks", "original", "threads", "batch", "count"),
        *("prompt", "negative", "styles", "base_sha256", "strict"),
    }
)
"""What the picture does not depend on, or what counts otherwise."""


def fingerprints() -> Callable[[GenerateRequest], str | None]:
    """A function that gives the digest of a picture; what it has looked up for one it knows for the next.

    Its None means that it cannot be told: a name means nothing, or a base is still to be fetched.
    """
    lora, base, words, control = cache(_lora), cache(_base), cache(_words), cache(_control)

    def of(request: GenerateRequest) -> str | None:
        try:
            seed = request.seed or 0
            template, wildcards = template_of(request), wildcards_of(request.project)
            prompt, negative = template.resolve(seed, wildcards)
            hires = second_pass(request.hires, seed, prompt, template, wildcards)
            own = grammar.extract_loras(prompt)[1]
            names = [*(use.name for use in own), *(grammar.given_lora(given)[0] for given in request.loras)]
            texts = prompt, negative, *((hires.prompt, hires.negative_prompt) if hires else ())
            told = {name: value for name, value in _plain(request).items() if name not in UNSAID}
            told |= {
                "velatura": __version__,
                "texts": texts,
                "files": base(request.base, request.vae, request.text_encoders, request.project),
                "loras": [(request.loras, [lora(name, request.project) for name in names])],
                "networks": [control(use.file, request.project) for use in request.controls],
                "words": [words(text or "", request.project) for text in texts],
            }
        except VelaturaError:
            return None
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=_file).encode()).hexdigest()[:20]

    return of


def _plain(request: GenerateRequest) -> dict[str, Any]:
    return asdict(request) | {name: getattr(request, name).model_dump() for name in ("tuning", "memory")}


def _file(value: object) -> str:
    """A file counts with its content."""
    return settings.file_hash(value) if isinstance(value, Path) and value.is_file() else str(value)


def _lora(name: str, project: Path | None) -> str:
    return settings.file_hash(settings.find_lora(name, project=project))


def _base(name: str, vae: str, text_encoders: tuple[str, ...], project: Path | None) -> str:
    files = bases.find(name, vae=vae, text_encoders=text_encoders, beside=project, fetch=False)
    return bases.base_hash(bases.locate(files))


def _control(name: str, project: Path | None) -> list[str]:
    place = settings.find_controlnet(name, project=project)
    files = [place] if place.is_file() else sorted(path for path in place.iterdir() if path.is_file())
    return [settings.file_hash(path) for path in files]


def _words(text: str, project: Path | None) -> list[tuple[str, str]]:
    """The textual inversions whose names are in a text, wherever they lie."""
    folders = (*((project / "embeddings",) if project else ()), *settings.load().folders("embeddings"))
    found = embeddings.files_of(folders)
    return [(name, settings.file_hash(path)) for name in sorted(found) if name in text.lower() for path in found[name]]
