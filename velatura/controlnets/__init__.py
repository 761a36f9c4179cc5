"""ControlNets: which base a file or folder is for, and where its weights lie, from settings and headers, without torch.

A ControlNet is a copy of a part of the denoiser that sees a hint (edges, a pose, a small version of the picture) and
tells the denoiser what it asks for. So a file of weights says by its keys which family it is for, and all else that it
does not say is as the base's own denoiser has it. A family's `controlnet.recognise(path)` answers here, its model loads
what was recognised.

    sd15, sdxl    lllyasviel's files (control_model.input_hint_block...), and diffusers' (controlnet_cond_embedding...)
    flux1         diffusers' of InstantX, Shakker Labs and others, also unions; XLabs' under the names of FLUX's authors
    z_image       alibaba-pai's unions, 1.0 to 2.1, which have diffusers' names
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from velatura.bases import FAMILIES
from velatura.errors import ModelError
from velatura.files import disk_problems
from velatura.settings import NETWORK_SETTINGS as SETTINGS
from velatura.settings import file_hash
from velatura.tensorfile import Header
from velatura.weights.containers import read_header
from velatura.weights.parts import PartFiles
from velatura.weights.source import BaseFolder

RELATIVES = {
    "a T2I-Adapter": re.compile(r"^(adapter\.)?body\.\d+\.(in_conv|block1|resnets\.)"),
    "a ControlNet-LLLite": re.compile(r"^lllite_"),
    "a Control-LoRA": re.compile(r"^lora_controlnet$"),
    "an IP-Adapter": re.compile(r"^(image_proj|ip_adapter|ip-adapter)\."),
    "the difference of a ControlNet from a base": re.compile(r"^difference$"),
    "a LoRA": re.compile(r"(^|\.)lora_(unet|te\d?)_|\.lora_(A|B|up|down)\."),
}
"""What else guides by a picture, or lies beside ControlNets -> a key by which it is told."""


@dataclass(frozen=True)
class ControlFiles:
    """A ControlNet that has been recognised."""

    family: str
    """Of the bases that it is for."""
    network: str
    """diffusers' class of it."""
    path: Path
    """Its file or folder."""
    lies: PartFiles
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a folder says of its network; for a file, what keys and shapes tell: the rest is as in the base's own."""
    kinds: tuple[str, ...] = ()
    """Of hints, in its own order, where one network knows several and has to be told which."""

    @cached_property
    def hash(self) -> str:
        """sha256 of its file, hex; of several, over theirs."""
        digests = [file_hash(path) for path in self.lies.files]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def described(self) -> bool:
        """Whether its settings are all there."""
        return self.path.is_dir()


def recognise(path: Path) -> ControlFiles:
    """What a ControlNet is for; the first family that knows it decides.

    Raises:
        ModelError: it is something else, or one that no family can use.
        FileProblem: it is cut off or damaged.
    """
    for package in FAMILIES.values():
        found: ControlFiles | None = importlib.import_module(f"{package}.controlnet").recognise(path)
        if found is not None:
            return found
    what = "this is no ControlNet that is known here"
    if path.is_file():
        keys = read_header(path).entries
        told = next((name for name, sign in RELATIVES.items() if any(sign.search(key) for key in keys)), None)
        what = f"this is {told}, and no ControlNet" if told else what
    raise ModelError(what, where=path, fix=f"use a ControlNet for {', '.join(FAMILIES)}")


def check_family(files: ControlFiles, family: str, base: str) -> None:
    """Refuse a ControlNet of another family than the base's.

    Raises:
        ModelError: it is.
    """
    if files.family != family:
        raise ModelError(
            f"this ControlNet is for {files.family}, and {base} is {family}",
            where=files.path,
            fix=f"use one for {family}, or a base that it is for",
        )


def settings_in(path: Path, network: str) -> dict[str, Any] | None:
    """What a folder says of a network of this class; None where it is none of it.

    Raises:
        ModelError: its settings are damaged.
    """
    if not path.is_dir() or not (path / SETTINGS).is_file():
        return None
    with disk_problems(path):
        data = (path / SETTINGS).read_bytes()
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{SETTINGS} is damaged", where=path, fix="fetch the ControlNet again") from error
    if not isinstance(told, dict) or told.get("_class_name") != network:
        return None
    return told


def in_folder(path: Path) -> PartFiles:
    """Where the weights of a folder lie.

    Raises:
        ModelError: there are none.
    """
    return PartFiles(BaseFolder(path).files(""))


def prefix_of(header: Header, ending: str) -> str | None:
    """What stands before the keys of a network in a file, by one of them; None where the file does not hold it."""
    return next(
        (key.removesuffix(ending) for key in header.entries if key == ending or key.endswith(f".{ending}")), None
    )


def shape_of(header: Header, key: str) -> tuple[int, ...]:
    """The shape of a tensor; empty where there is none."""
    entry = header.entries.get(key)
    return entry.shape if entry is not None else ()


def counted(header: Header, before: str) -> int:
    """How many numbers stand behind this beginning, as in `blocks.0`, `blocks.1`."""
    return len({key.removeprefix(before).partition(".")[0] for key in header.entries if key.startswith(before)})
