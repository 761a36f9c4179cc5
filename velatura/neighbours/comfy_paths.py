"""ComfyUI's list of further model folders: `extra_model_paths.yaml` beside the program.

    name of a group:
        base_path: /where/the/others/begin       may be left out; relative to the file's own folder
        checkpoints: models/Stable-diffusion
        loras: |
            models/Lora
            models/LyCORIS

Kinds of folders that Velatura has no use for are passed over; anything of another shape is refused.
Source: ComfyUI, extra_model_paths.yaml.example and utils/extra_config.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from velatura.errors import SettingsError
from velatura.files import disk_problems

FILE = "extra_model_paths.yaml"

LONGEST = 1 << 20
"""Bytes; a list of folders is a page."""

KINDS = {
    "checkpoints": "bases",
    "diffusion_models": "bases",
    "unet": "bases",
    "loras": "loras",
    "vae": "vaes",
    "text_encoders": "text_encoders",
    "clip": "text_encoders",
    "embeddings": "embeddings",
    "controlnet": "controlnets",
    "model_patches": "controlnets",
    "ultralytics_bbox": "detectors",
    "ultralytics_segm": "detectors",
    "upscale_models": "upscalers",
}
"""ComfyUI's name for a kind of folder -> that of the settings."""


def read(path: Path) -> dict[str, list[Path]]:
    """Kind of folder, as the settings call it -> the folders named; empty where there is no such file.

    Raises:
        SettingsError: the file is not of this shape.
        FileProblem: it cannot be read.
    """
    found: dict[str, list[Path]] = {kind: [] for kind in dict.fromkeys(KINDS.values())}
    if not path.is_file():
        return found
    with disk_problems(path), path.open("rb") as file:
        data = file.read(LONGEST + 1)
    for group in _groups(data, path).values():
        base = path.parent / _text(group.get("base_path", ""), path)
        for name, kind in KINDS.items():
            for line in _text(group.get(name, ""), path).splitlines():
                # the published example has remarks behind folders, where YAML knows none
                if folder := line.partition(" #")[0].strip():
                    found[kind].append(base / _text(folder, path))
    return found


def _groups(data: bytes, where: Path) -> dict[str, dict[str, Any]]:
    import yaml

    if len(data) > LONGEST:
        raise _unreadable(where)
    try:
        tree = yaml.safe_load(data.decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _unreadable(where) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise _unreadable(where)
    groups = {str(name): group for name, group in tree.items() if group is not None}
    if not all(isinstance(group, dict) for group in groups.values()):
        raise _unreadable(where)
    return groups


def _text(value: object, where: Path) -> str:
    """A path as it was meant: with the environment's variables and ~ filled in."""
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise _unreadable(where)
    filled = os.path.expandvars(value)
    return os.path.expanduser(filled) if filled.startswith("~") else filled  # noqa: PTH111 - no error where there is no such user


def _unreadable(where: Path) -> SettingsError:
    return SettingsError(
        "this is not a list of ComfyUI's model folders", where=where, fix="mend it, or name the folders in config.toml"
    )
