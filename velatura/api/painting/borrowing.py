"""Painting what a picture of another program says: as far as it goes, with a note of what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura import settings
from velatura.errors import SettingsError, VelaturaError
from velatura.generation import infotext as texts
from velatura.generation import prompt as grammar
from velatura.generation import tuned
from velatura.generation.carriers import read
from velatura.generation.elsewhere import Foreign, read_picture
from velatura.generation.infotext import Infotext
from velatura.recipe import TuningSettings, with_tuning
from velatura.tensorfile import content_hash

FIELDS: Mapping[str, tuple[str, type]] = {
    "Steps": ("steps", int),
    "Sampler": ("sampler", str),
    "Schedule type": ("scheduler", str),
    "CFG scale": ("cfg", float),
    "Distilled CFG Scale": ("guidance", float),
    "Seed": ("seed", int),
    "Clip skip": ("clip_skip", int),
    "LoRA strength on negative": ("negative_strength", float),
    "Variation seed": ("variation_seed", int),
    "Variation seed strength": ("variation_strength", float),
}
"""A1111's name -> that of the request."""

SECOND: Mapping[str, tuple[str, type]] = {
    "Denoising strength": ("denoising", float),
    "Hires upscale": ("scale", float),
    "Hires steps": ("steps", int),
    "Hires upscaler": ("upscaler", str),
    "Hires sampler": ("sampler", str),
    "Hires schedule type": ("scheduler", str),
    "Hires prompt": ("prompt", str),
    "Hires negative prompt": ("negative_prompt", str),
    "Hires CFG Scale": ("cfg_scale", float),
}
"""The same for the second pass."""

EMPHASIS = {"Original": "a1111", "No norm": "a1111-nonorm", "comfy": "comfy"}

ELSEWHERE = frozenset(
    {"Size", "Hires resize", "Emphasis", "RNG", "Model", "Model hash", "VAE", "VAE hash"}
    | {"Lora hashes", "TI hashes", "Hashes", "Version", "User", "Denoising strength", "Init image hash"}
)
"""Settings that are read by more than a change of name, or that nothing depends on."""

SAME = ("Use same sampler", "Use same scheduler", "Use same checkpoint", "")


@dataclass(frozen=True)
class Borrowed:
    """What a request for such a picture is made of."""

    told: dict[str, Any]
    """Fields of the request."""
    hires: dict[str, Any]
    """Fields of its second pass; none: there is none."""
    denoising: float | None
    """Of a picture painted from another, which is not in the file."""
    remarks: tuple[str, ...]


def foreign(picture: Path) -> Foreign:
    """What a picture of another program says.

    Raises:
        SettingsError: nothing that is known.
        FileProblem: it is no picture.
    """
    found = read_picture(picture)
    if found is None:
        raise SettingsError("this picture does not say how it was made", where=picture, fix="name another")
    return found


def record_of(picture: Path) -> Mapping[str, Any] | None:
    """Velatura's own record in a picture.

    Raises:
        FileProblem: it is no picture.
    """
    return read(picture).record


def borrowed(found: Foreign, *, project: Path | None, base: bool = True) -> Borrowed:
    """The request that such a picture comes to.

    Args:
        base: whether its base is looked for.

    Raises:
        SettingsError: its base, or a LoRA, is not here.
    """
    said, lost = found.infotext.settings, list(found.lost)
    told = _cast(said, FIELDS, lost)
    told.setdefault("scheduler", "Automatic")
    told["prompt"], remarks = _with_loras(found.infotext, project)
    told["negative"] = found.infotext.negative_prompt
    if told.get("cfg") == 1 and told["negative"]:
        told["negative"] = ""
        lost.append("the negative prompt, which has no part at cfg 1")
    if (size := found.infotext.size) is not None:
        told["width"], told["height"] = size
    if "Emphasis" in said:
        if said["Emphasis"] in EMPHASIS:
            told["emphasis"] = EMPHASIS[said["Emphasis"]]
        else:
            lost.append(f"Emphasis: {said['Emphasis']}")
    told["tuning"] = _tuning(said, lost)
    if base:
        named, remark = _base(said)
        told |= named
        remarks = (*remarks, *remark)
    hires, denoising = _second(said, lost)
    known = {*FIELDS, *ELSEWHERE, *tuned.NAMES.values(), tuned.OF_DDIM, *(SECOND if hires else ())}
    lost += [f"{name}: {value}" for name, value in said.items() if name not in known]
    sentence = f"{found.program} painted this; what it says is followed"
    remarks = (sentence + (f", but for {'; '.join(lost)}" if lost else ""), *remarks)
    return Borrowed(told, hires, denoising, remarks)


def _second(said: Mapping[str, str], lost: list[str]) -> tuple[dict[str, Any], float | None]:
    """Fields of the second pass; or how much of another picture was painted anew."""
    if not any(name in said for name in ("Hires upscale", "Hires resize")):
        share = _cast(said, {"Denoising strength": ("denoising", float)}, lost).get("denoising")
        return {}, share
    hires = {name: value for name, value in _cast(said, SECOND, lost).items() if value not in SAME}
    hires.setdefault("upscaler", "Latent")
    if "Hires resize" in said:
        size = Infotext("", settings={"Size": said["Hires resize"]}).size or (0, 0)
        hires["width"], hires["height"] = size
    return hires, None


def _tuning(said: Mapping[str, str], lost: list[str]) -> TuningSettings:
    """Rarer settings; noise that a graphics card drew is computed as an NVIDIA card's, the nearest there is."""
    found = TuningSettings()
    for override in tuned.overrides(said):
        if override == "rng=gpu":
            lost.append("noise that a graphics card drew, which is computed as an NVIDIA card's")
            override = "rng=nv"
        try:
            found = with_tuning([override], found)
        except VelaturaError:
            lost.append(override)
    return found


def _cast(said: Mapping[str, str], names: Mapping[str, tuple[str, type]], lost: list[str]) -> dict[str, Any]:
    """Values by the request's names; what is no number is told as lost."""
    found = {}
    for name, (field, kind) in names.items():
        if name not in said:
            continue
        try:
            found[field] = kind(float(said[name])) if kind is int and "." in said[name] else kind(said[name])
        except ValueError:
            lost.append(f"{name}: {said[name]}")
    return found


def _base(said: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The base of a name, and what is to be said of its hash."""
    name, digits = said.get("Model", ""), said.get("Model hash", "").lower()
    if not name:
        raise SettingsError("the picture does not name its base", fix="name one with --base")
    try:
        path = settings.find_base(name)
    except VelaturaError as error:
        hint = f" (its hash is {digits})" if digits else ""
        raise SettingsError(
            f"the base {name}{hint} that this picture was painted with is not here",
            fix="put it into a folder of bases, or name one with --base",
        ) from error
    named: dict[str, Any] = {"base": name if name in settings.BUILT_IN_BASES else str(path)}
    vae = said.get("VAE", "")
    if vae and vae not in ("None", "Automatic"):
        named["vae"] = vae
    if path.is_file() and len(digits) >= 8 and not settings.file_hash(path).startswith(digits):
        return named, (f"the base {path.name} is called as the picture's, but is another: its hash is not {digits}",)
    return named, ()


def _with_loras(found: Infotext, project: Path | None) -> tuple[str, tuple[str, ...]]:
    """The prompt with its LoRAs named as they are found, by name or by hash, and what is to be said of them."""
    hashes = texts.read_lora_hashes(found.settings.get("Lora hashes", ""))
    names: dict[str, str] = {}
    remarks = []
    for use in grammar.extract_loras(found.prompt)[1]:
        digits = hashes.get(use.name, "").lower().removeprefix("0x")
        try:
            path = settings.find_lora(use.name, project=project)
        except SettingsError:
            if (other := _of_hash(digits, project)) is None:
                raise
            names[use.name] = str(other)
            continue
        if digits and not _tensor_hash(path).startswith(digits) and not settings.file_hash(path).startswith(digits):
            if (other := _of_hash(digits, project)) is not None:
                names[use.name] = str(other)
            else:
                remarks.append(
                    f"the LoRA {path.name} is called as the picture's, but is another: its hash is not {digits}"
                )
    return grammar.rename_loras(found.prompt, names), tuple(remarks)


def _of_hash(digits: str, project: Path | None) -> Path | None:
    """The LoRA whose hash begins so: of its tensors, as A1111 writes it, or of its file."""
    if len(digits) < 8:
        return None
    places = (*((project / "loras",) if project else ()), *settings.load().folders("loras"))
    for path in settings.list_weights(places, settings.LORA_ENDINGS):
        if _tensor_hash(path).startswith(digits) or settings.file_hash(path).startswith(digits):
            return path
    return None


def _tensor_hash(path: Path) -> str:
    return str(settings.remembered("tensor-hashes", [path], content_hash)[path])
