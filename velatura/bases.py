"""Which family a base model belongs to, its size, and where its parts lie: from settings and headers, without torch.

A base is a diffusers folder, one checkpoint file, or a file with files for the parts that it lacks. A family is
one package of `velatura.families`, with the same file names in each. Of these, `recognise`
(`recognise(files)`) and `configuration` (`PARTS`, `read(base).resolution`) answer here, and `model` (`FAMILY`)
is what `velatura.family` loads.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velatura import settings
from velatura.errors import ModelError
from velatura.tensorfile import read_header
from velatura.weights import parts
from velatura.weights.parts import PartFiles, PartKind
from velatura.weights.source import BaseFolder

FAMILIES = {
    "sd15": "velatura.families.sd15",
    "flux1": "velatura.families.flux1",
}
"""Name of a family -> its package."""


@dataclass(frozen=True)
class Variant:
    """What a base was recognised as."""

    family: str
    name: str
    """The variant as `ss_base_model_version` names it: "sd_v1"..."""
    architecture: str
    """As modelspec names it: "stable-diffusion-v1"..."""


@dataclass(frozen=True)
class BaseFiles:
    """A base as the user names it."""

    model: Path
    """A diffusers folder, or a checkpoint file that holds at least the denoiser."""
    vae: Path | None = None
    """A file whose autoencoder is used instead."""
    text_encoders: tuple[Path, ...] = ()
    """Files whose text encoders are used instead, in any order."""

    @property
    def others(self) -> tuple[Path, ...]:
        """The files beside the first."""
        return (*((self.vae,) if self.vae else ()), *self.text_encoders)


@dataclass(frozen=True)
class Base:
    """A base whose every part has been found."""

    variant: Variant
    files: BaseFiles
    parts: Mapping[str, PartFiles]
    notes: tuple[str, ...] = ()
    """What the user should know of where they were found."""

    @property
    def source(self) -> Path:
        """What errors name."""
        return self.files.model


def find(model: str, *, vae: str = "", text_encoders: Sequence[str] = (), beside: Path | None = None) -> BaseFiles:
    """The files that names or paths mean.

    Args:
        beside: folder against which relative paths are also tried (a recipe's).

    Raises:
        SettingsError: nothing, or more than one file, has such a name.
    """
    return BaseFiles(
        settings.find_base(model, beside=beside),
        settings.find_base(vae, beside=beside) if vae else None,
        tuple(settings.find_base(one, beside=beside) for one in text_encoders),
    )


def recognise(files: BaseFiles) -> Variant:
    """What a base is; the first family that knows it decides.

    Raises:
        ModelError: none does.
        FileProblem: a safetensors file that is cut off or damaged.
    """
    for package in FAMILIES.values():
        found: Variant | None = importlib.import_module(f"{package}.recognise").recognise(files.model)
        if found is not None:
            return found
    raise ModelError(
        "this is not a base model that is known here",
        where=files.model,
        fix=f"known families are {', '.join(FAMILIES)}; a LoRA is given with --lora",
    )


def kinds(family: str) -> tuple[PartKind, ...]:
    """The parts of a family's bases."""
    found: tuple[PartKind, ...] = importlib.import_module(f"{FAMILIES[family]}.configuration").PARTS
    return found


def locate(files: BaseFiles) -> Base:
    """Recognise a base and find each of its parts.

    Raises:
        ModelError: no family knows it, or a part is nowhere.
        FileProblem: a file is cut off or damaged.
    """
    variant = recognise(files)
    wanted = parts.by_name(kinds(variant.family))
    found: dict[str, PartFiles] = {}
    if files.model.is_dir():
        folder = BaseFolder(files.model)
        found = {name: PartFiles(folder.files(kind.folder)) for name, kind in wanted.items()}
    else:
        found = _in_file(files.model, wanted)
    for path in files.others:
        given = {name: place for name, place in _in_file(path, wanted).items() if name != "denoiser"}
        if not given:
            raise ModelError(f"this file holds no part of a base of {variant.family}", where=path)
        found |= given
    for name, kind in wanted.items():
        if name not in found:
            raise ModelError(f"this checkpoint holds no {kind.title}", where=files.model, fix=_given(kind))
    return Base(variant, files, {name: found[name] for name in wanted})


def _in_file(path: Path, wanted: Mapping[str, PartKind]) -> dict[str, PartFiles]:
    held = parts.held_by(read_header(path), wanted.values())
    return {name: PartFiles((path,), prefix, layout) for name, (prefix, layout) in held.items()}


def _given(kind: PartKind) -> str:
    return f"give one with {kind.option}" if kind.option else "use one that has all its parts"


def resolution(files: BaseFiles) -> int:
    """Side of the square that a base was made for, in pixels.

    Raises:
        ModelError: no family knows it, a part is nowhere, or its settings are damaged.
    """
    base = locate(files)
    side: int = importlib.import_module(f"{FAMILIES[base.variant.family]}.configuration").read(base).resolution
    return side


def base_hash(base: Base) -> str:
    """sha256 of a base that is one file; else over the hashes of its parts' files, in the order of the parts."""
    files = [path for part in base.parts.values() for path in part.files]
    if set(files) == {base.source}:
        return settings.file_hash(base.source)
    digests = [settings.file_hash(path) for path in dict.fromkeys(files)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
