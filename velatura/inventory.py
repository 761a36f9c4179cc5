"""What bases there are, and what each of them is: from settings and headers alone, without torch.

A base's file of 24 GB is told in a fraction of a second, for only its header is read. What is told of files is
remembered by their path, size and time of change.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from velatura import bases, settings
from velatura.bases import FAMILIES, BaseFiles, Variant
from velatura.errors import VelaturaError
from velatura.settings import BUILT_IN_BASES
from velatura.tensorfile import Header
from velatura.version import __version__
from velatura.weights import hub
from velatura.weights.containers import read_header
from velatura.weights.parts import PartFiles, PartKind
from velatura.weights.source import BaseFolder

PRECISIONS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8 (e5m2)"}
"""Type of a tensor -> what a person calls it; types of GGUF go by their own names."""

FEWEST = 0.02
"""Share of a part's weights below which a precision is not told: norms are often kept in fp32."""

ENDS = (
    ("input_blocks.0.0.weight", "out.2.weight"),
    ("conv_in.weight", "conv_out.weight"),
    ("img_in.weight", "final_layer.linear.weight"),
)
"""The denoiser's first and last layer, under every name: what comes in, and what goes out."""

V_MARK, ZERO_TERMINAL_MARK = "v_pred", "ztsnr"


@dataclass(frozen=True)
class PartFound:
    """One part of a base, as it was found."""

    title: str
    """What a person calls it: "autoencoder (VAE)"."""
    files: tuple[str, ...]
    """Where it lies; empty: it is missing."""
    precision: str = ""
    """That of most of its weights, and further ones behind a comma."""
    size: int = 0
    """Bytes."""
    fix: str = ""
    """How a missing part is given."""


@dataclass(frozen=True)
class BaseFound:
    """One base, as it was found."""

    name: str
    where: str
    family: str = ""
    variant: str = ""
    """As `ss_base_model_version` names it."""
    traits: tuple[str, ...] = ()
    """What sets it apart: "inpainting", "v-prediction", "distilled guidance"..."""
    parts: tuple[PartFound, ...] = ()
    problem: str = ""
    """Why it cannot be used; empty: nothing is known that keeps it from being used."""

    @property
    def size(self) -> int:
        """Bytes of all its parts."""
        return sum(part.size for part in self.parts)

    @property
    def precision(self) -> str:
        """That of the denoiser."""
        return self.parts[0].precision if self.parts else ""

    @property
    def missing(self) -> tuple[PartFound, ...]:
        """The parts that are in no file."""
        return tuple(part for part in self.parts if not part.files)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "size": self.size, "precision": self.precision}


def examine(files: BaseFiles, *, name: str = "") -> BaseFound:
    """What a base is, by its headers. Parts that its own files lack are looked for as `bases.locate` does.

    Raises:
        ModelError: no family knows it.
        FileProblem: a file is cut off or damaged.
    """
    variant = bases.recognise(files)
    found = bases.present(files, variant.family)
    told = [_part(kind, found.get(kind.name), files, variant.family) for kind in bases.kinds(variant.family)]
    return BaseFound(
        name or settings.base_name(files.model),
        str(files.model),
        variant.family,
        variant.name,
        _traits(files, variant, found),
        tuple(told),
    )


def every() -> list[BaseFound]:
    """Every base that comes with the program, lies in the user's folders, or is in the Hugging Face cache.

    Files there that are something else are left out; a file that is damaged is told with its problem.
    """
    listed = settings.list_bases()
    known = settings.remembered(f"bases-{_mark()}", (path for path in listed if path.is_file()), _told)
    found = [_folder(path, name) for name, path in BUILT_IN_BASES.items()]
    for path in listed:
        if path not in known:
            found.append(_folder(path))
        elif known[path] is not None:
            found.append(_recalled(known[path], path))
    return found + [_folder(path, identifier) for identifier, path in hub.all_cached().items()]


def _folder(path: Path, name: str = "") -> BaseFound:
    try:
        return examine(bases.described(path), name=name or settings.base_name(path))
    except VelaturaError as error:
        return BaseFound(name or settings.base_name(path), str(path), problem=error.what)


def _told(path: Path) -> dict[str, Any] | None:
    """A file's base as plain values, without what depends on other files; None where it is none."""
    files = BaseFiles(path)
    try:
        variant = bases.recognised(files)
        if variant is None:
            return None
        found = bases.present(files, variant.family)
    except VelaturaError as error:
        return {"problem": error.what}
    held = {kind.name: asdict(_part(kind, found.get(kind.name), files, "")) for kind in bases.kinds(variant.family)}
    traits = _traits(files, variant, found)
    return {"family": variant.family, "variant": variant.name, "traits": traits, "parts": held}


def _recalled(told: dict[str, Any], path: Path) -> BaseFound:
    name, where = settings.base_name(path), str(path)
    if "problem" in told:
        return BaseFound(name, where, problem=told["problem"])
    listed = []
    for kind in bases.kinds(told["family"]):
        values = told["parts"][kind.name]
        part = PartFound(**{**values, "files": (where,) if values["files"] else ()})
        listed.append(part if part.files else _part(kind, None, BaseFiles(path), told["family"]))
    return BaseFound(name, where, told["family"], told["variant"], tuple(told["traits"]), tuple(listed))


def _part(kind: PartKind, lies: PartFiles | None, files: BaseFiles, family: str) -> PartFound:
    """A part by the headers of its files.

    Args:
        family: in whose name a missing part is looked for; empty: nowhere.
    """
    if lies is None:
        others = bases.candidates(kind, family) if family and kind.option and files.model.is_file() else []
        if len(others) != 1:
            return PartFound(kind.title, (), fix=_fix(kind, others))
        lies = others[0]
    sizes: dict[str, int] = {}
    for path in lies.files:
        for key, entry in read_header(path).entries.items():
            if key.startswith(lies.prefix):
                kept = PRECISIONS.get(entry.dtype, entry.dtype)
                sizes[kept] = sizes.get(kept, 0) + entry.end - entry.start
    total = sum(sizes.values())
    order = sorted(sizes, key=lambda kept: -sizes[kept])
    told = [kept for place, kept in enumerate(order) if place == 0 or sizes[kept] > FEWEST * total]
    return PartFound(kind.title, tuple(str(path) for path in lies.files), ", ".join(told), total)


def _fix(kind: PartKind, others: list[PartFiles]) -> str:
    if not kind.option:
        return "use a base that has it"
    if others:
        return f"{len(others)} files in your folders hold one; name the right one with {kind.option}"
    return f"give one with {kind.option}"


def _traits(files: BaseFiles, variant: Variant, found: dict[str, PartFiles]) -> tuple[str, ...]:
    """What sets a base apart from the plain ones of its family."""
    if files.model.is_dir():
        folder = BaseFolder(files.model)
        denoiser = bases.kinds(variant.family)[0].folder
        settled = {**folder.known(denoiser), **folder.known("scheduler", "scheduler_config.json")}
        purpose = _purpose(settled.get("in_channels"), settled.get("out_channels"))
        v = settled.get("prediction_type") == "v_prediction"
        zero_terminal = settled.get("rescale_betas_zero_snr") is True
        guided = settled.get("guidance_embeds") is True
    else:
        header = read_header(files.model)
        prefix = found["denoiser"].prefix if "denoiser" in found else ""
        purpose = _purpose(*(_channels(header, prefix) or (0, 0)))
        zero_terminal = ZERO_TERMINAL_MARK in header.entries
        v = V_MARK in header.entries or header.metadata.get("modelspec.prediction_type") == "v"
        guided = f"{prefix}guidance_in.in_layer.weight" in header.entries
    few = any(word in f"{variant.name} {variant.architecture}".lower() for word in ("schnell", "turbo"))
    marks = {"v-prediction": v, "zero terminal SNR": zero_terminal}
    marks |= {"distilled guidance": guided, "distilled to few steps": few}
    return (*((purpose,) if purpose else ()), *(name for name, given in marks.items() if given))


def _channels(header: Header, prefix: str) -> tuple[int, int] | None:
    for first, last in ENDS:
        comes, goes = header.entries.get(prefix + first), header.entries.get(prefix + last)
        if comes is not None and goes is not None and len(comes.shape) > 1 and goes.shape:
            return comes.shape[1], goes.shape[0]
    return None


def _purpose(comes: object, goes: object) -> str:
    """What a denoiser is for that takes more than latents; empty: for painting."""
    if not isinstance(comes, int) or not isinstance(goes, int) or comes <= goes:
        return ""
    # a mask beside the masked picture: one more channel in SD, 4 x 64 of its pixels in FLUX.1 Fill
    return "inpainting" if comes in (2 * goes + 1, 6 * goes) else "guided by a picture"


def _mark() -> str:
    """Stands for how files are told apart: another version or other signs, other answers."""
    signs = repr([(name, bases.kinds(name)) for name in FAMILIES])
    return hashlib.sha256(f"{__version__}\n{signs}".encode()).hexdigest()[:12]


def size_text(size: int) -> str:
    """Bytes as a person reads them."""
    if size < 1024**3:
        return f"{math.ceil(size / 1024**2)} MB"
    return f"{size / 1024**3:.1f} GB"
