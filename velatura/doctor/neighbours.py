"""Folders of models that other programs have, in the places where people put those programs.

Only a fixed list of places is looked at, and no tree is walked: the answer comes at once on any disk.
"""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

COUNT_UP_TO = 500
"""Files looked at in a folder; there may be very many."""

_ENDINGS = (".safetensors", ".ckpt", ".gguf")

_A1111 = ("models/Stable-diffusion", "models/Lora")
_COMFY = ("models/checkpoints", "models/loras")
_LAYOUTS = {
    "stable-diffusion-webui": ("A1111", *_A1111),
    "stable-diffusion-webui-forge": ("Forge", *_A1111),
    "stable-diffusion-webui-reForge": ("reForge", *_A1111),
    "sd.webui/webui": ("A1111", *_A1111),
    "webui_forge/webui": ("Forge", *_A1111),
    "ComfyUI": ("ComfyUI", *_COMFY),
    "ComfyUI_windows_portable/ComfyUI": ("ComfyUI", *_COMFY),
    "StabilityMatrix/Data": ("Stability Matrix", "Models/StableDiffusion", "Models/Lora"),
    "StabilityMatrix": ("Stability Matrix", "Models/StableDiffusion", "Models/Lora"),
}
"""Folder -> name of the program, where it keeps bases, where it keeps LoRAs."""


@dataclass(frozen=True)
class Neighbour:
    """Model folders of another program."""

    program: str
    bases: Path | None
    loras: Path | None

    @property
    def says(self) -> str:
        """How many files there are."""
        parts = [
            f"{_count(folder)} {what}" for folder, what in ((self.bases, "bases"), (self.loras, "LoRAs")) if folder
        ]
        return ", ".join(parts)


def neighbours() -> list[Neighbour]:
    """Those found, each once."""
    found: dict[Path, Neighbour] = {}
    for place in _places():
        for folder, (program, bases, loras) in _LAYOUTS.items():
            at = place / folder
            here = Neighbour(program, _folder(at / bases), _folder(at / loras))
            if here.bases or here.loras:
                found.setdefault(at.resolve(), here)
    if hub := _folder(_hugging_face()):
        found.setdefault(hub.resolve(), Neighbour("Hugging Face", hub, None))
    return list(found.values())


def _places() -> Iterator[Path]:
    """Where people put programs."""
    home = Path.home()
    yield from (home, Path.cwd(), Path.cwd().parent)
    for name in ("Documents", "Desktop", "Downloads", "AI", "ai", "src", "git", "Projects", "projects"):
        yield home / name
    if sys.platform == "win32":
        yield home / "AppData" / "Roaming"
        for letter in string.ascii_uppercase[2:]:  # A and B are floppy disks
            yield from (Path(f"{letter}:/"), Path(f"{letter}:/AI"))
    else:
        yield from (Path("/opt"), Path("/workspace"))


def _hugging_face() -> Path:
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME")
    above = Path(cache) if cache else Path.home() / ".cache"
    return Path(os.environ.get("HF_HOME", above / "huggingface")) / "hub"


def _folder(path: Path) -> Path | None:
    try:
        return path if path.is_dir() else None
    except OSError:  # a drive that is not ready, a folder that is not ours
        return None


def _count(folder: Path) -> str:
    """Files of weights, or folders that hold a model, at the first level."""
    try:
        names = [path.name.lower() for path in islice(folder.iterdir(), COUNT_UP_TO)]
    except OSError:
        return "unreadable"
    count = sum(name.endswith(_ENDINGS) or name.startswith("models--") for name in names)
    return f"{count}{'+' if len(names) == COUNT_UP_TO else ''}"
