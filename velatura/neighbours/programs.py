"""Folders of models that other programs have, in the places where people put those programs.

What they hold can be used by its name, as what lies in one's own folders. Only a fixed list of places is looked at, and
no tree is walked: the answer comes at once on any disk. ComfyUI is also asked which further folders it was told of
(`extra_model_paths.yaml`).
"""

from __future__ import annotations

import string
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from velatura.errors import VelaturaError
from velatura.neighbours import comfy_paths

COUNT_UP_TO = 500
"""Files looked at in a folder; there may be very many."""

TITLES = {
    "bases": "bases",
    "loras": "LoRAs",
    "vaes": "autoencoders",
    "text_encoders": "text encoders",
    "embeddings": "embeddings",
    "controlnets": "ControlNets",
    "detectors": "detectors",
    "upscalers": "upscale models",
    "wildcards": "wildcards",
    "styles": "files of styles",
}
"""Kind of folder, as the settings call it -> what a person calls what is in it."""

_BUILT_IN = 3
"""Windows' number for a disk of the machine's own; one that a network holds may let us wait."""

_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".gguf")
_ENDINGS = {"detectors": (".onnx",), "wildcards": (".txt",), "styles": (".csv",)}
"""Kind of folder -> endings of what is counted in it, where that is no weights."""

Layout = Mapping[str, tuple[str, ...]]
"""Kind of folder -> where a program keeps it."""

_A1111: Layout = {
    "bases": ("models/Stable-diffusion",),
    "loras": ("models/Lora",),
    "vaes": ("models/VAE",),
    "text_encoders": ("models/text_encoder",),
    "embeddings": ("embeddings",),
    "controlnets": ("models/ControlNet", "extensions/sd-webui-controlnet/models"),
    "detectors": ("models/adetailer",),
    "upscalers": ("models/ESRGAN", "models/RealESRGAN"),
    "wildcards": ("extensions/sd-dynamic-prompts/wildcards", "extensions/stable-diffusion-webui-wildcards/wildcards"),
    "styles": ("styles.csv",),
}
_COMFY: Layout = {
    "bases": ("models/checkpoints", "models/diffusion_models", "models/unet"),
    "loras": ("models/loras",),
    "vaes": ("models/vae",),
    "text_encoders": ("models/text_encoders", "models/clip"),
    "embeddings": ("models/embeddings",),
    "controlnets": ("models/controlnet", "models/model_patches"),
    "detectors": ("models/ultralytics/bbox", "models/ultralytics/segm"),
    "upscalers": ("models/upscale_models",),
}
_MATRIX: Layout = {
    "bases": ("Models/StableDiffusion", "Models/DiffusionModels"),
    "loras": ("Models/Lora",),
    "vaes": ("Models/VAE",),
    "text_encoders": ("Models/TextEncoders",),
    "embeddings": ("Models/Embeddings",),
    "controlnets": ("Models/ControlNet",),
    "detectors": ("Models/Ultralytics/bbox", "Models/Ultralytics/segm"),
    "upscalers": ("Models/ESRGAN", "Models/RealESRGAN"),
}
_LAYOUTS: dict[str, tuple[str, Layout]] = {
    "stable-diffusion-webui": ("A1111", _A1111),
    "stable-diffusion-webui-forge": ("Forge", _A1111),
    "stable-diffusion-webui-reForge": ("reForge", _A1111),
    "sd.webui/webui": ("A1111", _A1111),
    "webui_forge/webui": ("Forge", _A1111),
    "ComfyUI": ("ComfyUI", _COMFY),
    "ComfyUI_windows_portable/ComfyUI": ("ComfyUI", _COMFY),
    "StabilityMatrix/Data": ("Stability Matrix", _MATRIX),
    "StabilityMatrix": ("Stability Matrix", _MATRIX),
}
"""Folder -> name of the program, and where it keeps what."""


@dataclass(frozen=True)
class Neighbour:
    """Model folders of another program."""

    program: str
    at: Path
    """Where the program lies."""
    folders: Mapping[str, tuple[Path, ...]]
    """Kind of folder, as the settings call it -> the folders that are there."""
    problem: str = ""
    """Why its list of further folders could not be read."""

    @property
    def says(self) -> str:
        """How many files there are."""
        return ", ".join(
            f"{_count(folders, _ENDINGS.get(kind, _WEIGHTS))} {TITLES[kind]}" for kind, folders in self.folders.items()
        )


def neighbours() -> list[Neighbour]:
    """Those found, each once, as they are now."""
    found: dict[Path, Neighbour] = {}
    for place in places():
        for folder, (program, layout) in _LAYOUTS.items():
            at = place / folder
            if _is_folder(at) and at.resolve() not in found:
                here = _neighbour(program, at, layout)
                if here.folders or here.problem:
                    found[at.resolve()] = here
    return list(found.values())


def folders(kind: str) -> tuple[Path, ...]:
    """The folders of one kind of all of them; looked for once, for names are resolved often."""
    return _found(tuple(places())).get(kind, ())


@cache
def _found(_: tuple[Path, ...]) -> Mapping[str, tuple[Path, ...]]:
    every: dict[str, dict[Path, None]] = {}
    for one in neighbours():
        for kind, listed in one.folders.items():
            every.setdefault(kind, {}).update(dict.fromkeys(listed))
    return {kind: tuple(listed) for kind, listed in every.items()}


def _neighbour(program: str, at: Path, layout: Layout) -> Neighbour:
    named: dict[str, list[Path]] = {kind: [at / name for name in layout.get(kind, ())] for kind in TITLES}
    problem = ""
    try:
        for kind, folders in comfy_paths.read(at / comfy_paths.FILE).items():
            named[kind] += folders
    except VelaturaError as error:
        problem = str(error)
    there = {kind: tuple(dict.fromkeys(filter(_is_there, folders))) for kind, folders in named.items()}
    return Neighbour(program, at, {kind: folders for kind, folders in there.items() if folders}, problem)


def places() -> Iterator[Path]:
    """Where people put programs."""
    home = Path.home()
    yield from (home, Path.cwd(), Path.cwd().parent)
    for name in ("Documents", "Desktop", "Downloads", "AI", "ai", "src", "git", "Projects", "projects"):
        yield home / name
    if sys.platform == "win32":
        import ctypes

        yield home / "AppData" / "Roaming"
        for letter in string.ascii_uppercase[2:]:  # A and B are floppy disks
            if ctypes.windll.kernel32.GetDriveTypeW(f"{letter}:\\") == _BUILT_IN:
                yield from (Path(f"{letter}:/"), Path(f"{letter}:/AI"))
    else:
        yield from (Path("/opt"), Path("/workspace"))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a drive that is not ready, a folder that is not ours
        return False


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _count(folders: tuple[Path, ...], endings: tuple[str, ...]) -> str:
    """Files of their kinds, at the first level."""
    names: list[str] = []
    try:
        for folder in folders:
            held = folder.iterdir() if folder.is_dir() else [folder]
            names += [path.name.lower() for path in islice(held, COUNT_UP_TO)]
    except OSError:
        return "unreadable"
    count = sum(name.endswith(endings) for name in names)
    return f"{count}{'+' if len(names) >= COUNT_UP_TO else ''}"
