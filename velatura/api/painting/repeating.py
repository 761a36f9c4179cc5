"""Painting a picture again, from what it says of itself: as it was, or with something changed.

What it was made with is looked for by name and known by its hash, so that it is never silently something else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import bases, controlnets, settings
from velatura import run as runs
from velatura.adapters import formats
from velatura.api.painting.borrowing import borrowed, foreign
from velatura.api.painting.request import FromPicture, GenerateRequest, Original
from velatura.errors import SettingsError, VelaturaError
from velatura.files import sha256
from velatura.generation import prompt as grammar
from velatura.generation.carriers import read
from velatura.generation.control import ControlUse
from velatura.generation.hires import Hires
from velatura.generation.parts import Inpaint
from velatura.recipe import MemorySettings, TuningSettings, with_memory, with_tuning
from velatura.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image

CALLED = {"negative_prompt": "negative", "cfg_scale": "cfg"}
"""What the record calls otherwise than the request; all else has one name in both."""

NESTED = ("begin", "controls", "hires", "memory", "tuning", "loras", "base", "batch")
"""What of a request is made from several things that the record says."""

HARMLESS = frozenset({"out", "form", "quality", "project", "preview", "preview_every"})
"""What of a request may be otherwise without changing the picture."""

ROWS = 256
"""Of a picture that are hashed at a time."""

PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Changes:
    """What is to be otherwise than it was."""

    told: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the request."""
    begin: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the picture to paint from."""
    hires: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the second pass."""
    memory: Sequence[str] = ()
    """Settings of [memory], as "device=cpu"."""
    tuning: Sequence[str] = ()
    """Rarer settings of painting, as "eta=0.5"."""


def again(picture: Path, *, project: Path | None = None, changes: Changes | None = None) -> GenerateRequest:
    """The request that paints a picture again.

    Raises:
        SettingsError: the picture does not say how it was made, or something that it was made with is not here.
        FileProblem: it is no picture.
    """
    changes = changes or Changes()
    record: Mapping[str, Any] | None = read(picture).record
    if record is not None and "refined" in record:
        raise SettingsError(
            "this picture was refined in several steps", where=picture, fix="make it again with velatura refine again"
        )
    if record is None or not isinstance(record.get("base"), dict):
        return _borrow(picture, project, changes)
    return as_it_was(picture, record, project=project, changes=changes)


def as_it_was(
    picture: Path,
    record: Mapping[str, Any],
    *,
    project: Path | None,
    changes: Changes,
    hints: Sequence[Path] = (),
) -> GenerateRequest:
    """The request that a record comes to, with the device, precision and batch that it tells.

    Args:
        picture: whose record it is.
        record: see `picture`.
        project: in which what it names may lie.
        changes: what is to be otherwise.
        hints: further pictures that a ControlNet may have seen.

    Raises:
        SettingsError: something that the picture was made with is not here.
    """
    known = {one.name for one in fields(GenerateRequest)} - set(NESTED)
    prompt, beside = found_loras(record, project)
    begin, same_start = _begin(record.get("begun"), picture, project, changes.begin)
    memory, doubts = _memory(record, changes.memory)
    near = (*hints, *((begin.path,) if begin is not None else ()))
    controls = () if "controls" in changes.told else _controls(record.get("controls", ()), picture, project, near)
    hires = {**(record.get("hires") or {}), **changes.hires}
    variation = record.get("variation") or {"seed": None, "strength": 0.0}
    request = GenerateRequest(
        **{
            **{name: value for key, value in record.items() if (name := CALLED.get(key, key)) in known},
            "prompt": prompt,
            "loras": beside,
            "base": found_base(record["base"], project) if "base" not in changes.told else "",
            "base_sha256": "" if "base" in changes.told else record["base"]["sha256"],
            "vae": record["base"].get("vae", ""),
            "text_encoders": tuple(record["base"].get("text_encoders", ())),
            "begin": begin,
            "controls": controls,
            "hires": Hires(**hires) if hires else None,
            "memory": memory,
            "tuning": with_tuning(changes.tuning, TuningSettings(**record.get("tuning", {}))),
            "variation_seed": variation["seed"],
            "variation_strength": variation["strength"],
            "project": project,
            "as_is": not {"prompt", "negative"} & set(changes.told),
            **changes.told,
        }
    )
    changed = set(changes.told) - HARMLESS or changes.hires or changes.memory or changes.tuning or not same_start
    if changed or "pixels" not in record or "together" not in record:
        return request
    together = _together(record, prompt)
    original = Original(picture, record["pixels"], record["together"]["place"], together, (*doubts, *doubts_of(record)))
    return replace(request, original=original, batch=len(together))


def _borrow(picture: Path, project: Path | None, changes: Changes) -> GenerateRequest:
    """The request that a picture of another program comes to."""
    found = borrowed(foreign(picture), project=project, base="base" not in changes.told)
    begin = dict(changes.begin)
    if found.denoising is not None and "path" not in begin:
        raise SettingsError(
            "this picture was painted from another, which is not in its file",
            where=picture,
            fix="name it with --from",
        )
    if found.denoising is not None:
        begin.setdefault("denoising", found.denoising)
    hires = {**found.hires, **changes.hires}
    return GenerateRequest(
        **{
            **found.told,
            "begin": FromPicture(**begin) if begin else None,
            "hires": Hires(**hires) if hires else None,
            "memory": with_memory(MemorySettings(), changes.memory),
            "tuning": with_tuning(changes.tuning, found.told["tuning"]),
            "remarks": found.remarks,
            "as_is": not {"prompt", "negative"} & set(changes.told),
            "project": project,
            **changes.told,
        }
    )


def _together(record: Mapping[str, Any], prompt: str) -> tuple[tuple[int, str, str, int, float], ...]:
    """The batch, with LoRAs named as they are found."""
    told = record["together"]
    count = len(told["seeds"])
    names = _renamed(record["prompt"], prompt)
    prompts = [grammar.rename_loras(one, names) for one in told.get("prompts", [record["prompt"]] * count)]
    negatives = told.get("negative_prompts", [record["negative_prompt"]] * count)
    variations = told.get("variations", [(0, 0.0)] * count)
    batch = zip(told["seeds"], prompts, negatives, variations, strict=True)
    return tuple((seed, one, negative, other, strength) for seed, one, negative, (other, strength) in batch)


def _renamed(before: str, after: str) -> dict[str, str]:
    pairs = zip(grammar.extract_loras(before)[1], grammar.extract_loras(after)[1], strict=True)
    return {old.name: new.name for old, new in pairs}


def found_base(told: Mapping[str, Any], project: Path | None) -> str:
    """The name or path of the base of a hash.

    Raises:
        SettingsError: it is not here.
    """
    name, wanted = str(told["name"]), str(told["sha256"])
    parts = {"vae": told.get("vae", ""), "text_encoders": told.get("text_encoders", ())}
    try:
        bases.find(name, **parts, beside=project, sha256=wanted, fetch=False)
        return name
    except VelaturaError:
        pass
    for path in settings.list_bases():
        try:
            if bases.base_hash(bases.locate(bases.described(path))) == wanted:
                return str(path)
        except VelaturaError:
            continue
    raise SettingsError(
        f"the base {name} that this picture was painted with is not here: its sha256 begins with {wanted[:10]}",
        fix="put it into a folder of bases, or paint with another by --base",
    )


def found_loras(record: Mapping[str, Any], project: Path | None) -> tuple[str, tuple[str, ...]]:
    """The prompt with its LoRAs named as they are found here, and those that stand beside it.

    Raises:
        SettingsError: one is not here.
    """
    told = record.get("loras", ())
    found = [(one["name"], found_lora(one["name"], one["sha256_tensors"], project), one) for one in told]
    count = len(grammar.extract_loras(record["prompt"])[1])
    prompt = grammar.rename_loras(record["prompt"], {name: place for name, place, _ in found[:count]})
    return prompt, tuple(f"{place}:{one['strength']!r}" for _, place, one in found[count:])


def found_lora(name: str, wanted: str, project: Path | None) -> str:
    """The name or path of the LoRA of a hash.

    Raises:
        SettingsError: it is not here.
    """
    try:
        if formats.tensors_hash(settings.find_lora(name, project=project)) == wanted:
            return name
    except VelaturaError:
        pass
    places = (*((project / "loras", project) if project else ()), *settings.load().folders("loras"))
    checkpoints = [one.adapter for run in (runs.runs_of(project) if project else ()) for one in run.checkpoints()]
    for path in [*settings.list_loras(places), *checkpoints]:
        if settings.remembered("tensor-hashes", [path], formats.tensors_hash)[path] == wanted:
            return str(path)
    raise SettingsError(
        f"the LoRA {name} that this picture was painted with is not here: the sha256 of its tensors begins with"
        f" {wanted[:12]}",
        fix="put it into a folder of LoRAs, or paint without it by another prompt",
    )


def _begin(
    told: Mapping[str, Any] | None, picture: Path, project: Path | None, changes: Mapping[str, Any]
) -> tuple[FromPicture | None, bool]:
    """The picture to paint from, and whether all of it is as it was."""
    if told is None:
        return (FromPicture(**changes), False) if changes else (None, True)
    given: Path | None = changes.get("path")
    found = found_picture(told, beside=picture, project=project, given=given)
    if found is None and given is None:
        raise missing(told, "painted")
    before: dict[str, Any] = {"background": tuple(told["background"])}
    before |= {key: told[key] for key in ("denoising", "resize_mode", "exact_steps")}
    before["colour_correction"] = told.get("colour_correction", False)
    if (part := told.get("inpaint")) is not None:
        mask = None if part["mask"] is None else base64.b64decode(part["mask"])
        boxes = tuple(tuple(box) for box in part["boxes"])
        before |= {"inpaint": Inpaint(**{**part, "mask": mask, "boxes": boxes})}
    same = found is not None and not set(changes) - {"path"}
    return FromPicture(**{"path": found, **before, **changes}), same


def found_picture(
    told: Mapping[str, Any], *, beside: Path, project: Path | None, given: Path | None = None
) -> Path | None:
    """The picture of a name and a hash: the one given, or one beside another; none: it is not there.

    Args:
        told: its "name" and "sha256".
        beside: another picture.
        project: in which it may lie.
        given: its path; no other is looked at then.
    """
    name = str(told["name"])
    places = [beside.parent, Path.cwd(), *((project, project / "images") if project else ())]
    asked = [given] if given is not None else [place / name for place in places]
    return next((path for path in asked if path.is_file() and sha256(path) == told["sha256"]), None)


def missing(told: Mapping[str, Any], how: str) -> SettingsError:
    """That the picture is not there from which another was painted, or refined."""
    return SettingsError(
        f"the picture {told['name']} that this one was {how} from is not here: its sha256 begins with"
        f" {str(told['sha256'])[:10]}",
        fix="name its file with --from",
    )


def _controls(
    told: Sequence[Mapping[str, Any]], picture: Path, project: Path | None, hints: Sequence[Path]
) -> tuple[ControlUse, ...]:
    """ControlNets and hints of these hashes, as they are found here."""
    found = []
    for one in told:
        given = next((path for path in hints if path.is_file() and sha256(path) == one["hint"]["sha256"]), None)
        if (hint := found_picture(one["hint"], beside=picture, project=project, given=given)) is None:
            digits = str(one["hint"]["sha256"])[:10]
            raise SettingsError(
                f"the picture {one['hint']['name']} that a ControlNet saw is not here: its sha256 begins with {digits}",
                fix="put it beside the picture, or name ControlNet and hint with --control",
            )
        rest = {name: value for name, value in one.items() if name not in ("name", "sha256", "hint")}
        found.append(ControlUse(_controlnet(one["name"], one["sha256"], project), hint, **rest))
    return tuple(found)


def _controlnet(name: str, wanted: str, project: Path | None) -> str:
    """The name or path of the ControlNet of a hash."""
    places = (*((project / "controlnets",) if project else ()), *settings.load().folders("controlnets"))
    for path in settings.list_networks(places):
        try:
            if controlnets.recognise(path).hash == wanted:
                return str(path)
        except VelaturaError:
            continue
    raise SettingsError(
        f"the ControlNet {name} that this picture was painted with is not here: its sha256 begins with {wanted[:10]}",
        fix="put it into a folder of ControlNets, or name another with --control",
    )


def _memory(record: Mapping[str, Any], changes: Sequence[str]) -> tuple[MemorySettings, tuple[str, ...]]:
    """Where and in which precision it was painted; what this machine has not is left to choose, and told."""
    from velatura.doctor.devices import devices

    device = record.get("device")
    if device not in {one.kind for one in devices()}:
        return with_memory(MemorySettings(), changes), (f"it was painted on {device}, which is not here",)
    was = {
        "device": device,
        "precision": PRECISIONS.get(str(record.get("dtype"))),
        "vae_precision": PRECISIONS.get(str(record.get("vae_dtype"))),
        "vae_tiling": record.get("vae_tiling"),
        "quantised": record.get("quantised") or "off",
        "in_turn": record.get("in_turn"),
        "swapped_blocks": record.get("swapped_blocks"),
    }
    told = [f"{key}={str(value).lower()}" for key, value in was.items() if value is not None]
    return with_memory(MemorySettings(), [*told, *changes]), ()


def doubts_of(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What is not as it was, and may change the last bits: equal within 1e-4 is what can be said then."""
    import torch

    now = {"torch": torch.__version__, "velatura": __version__, "cpu": torch.backends.cpu.get_cpu_capability()}
    found = [
        f"it was painted with {name} {record[name]}, and this is {value}"
        for name, value in now.items()
        if name in record and record[name] != value
    ]
    if record.get("device") != "cpu":
        found.append(f"{record.get('device')} does not compute the same bits twice")
    return tuple(found)


def pixels_hash(image: Image) -> str:
    """sha256 of a picture's pixels as RGB, hex."""
    digest = hashlib.sha256()
    for top in range(0, image.height, ROWS):  # a large picture is not held twice
        strip = image.crop((0, top, image.width, min(top + ROWS, image.height)))
        digest.update(strip.convert("RGB").tobytes())
    return digest.hexdigest()


def likeness(image: Image, original: Original) -> str:
    """How a picture painted again compares with the first, in a sentence."""
    import numpy as np
    from PIL import Image as Images

    name = original.path.name
    if pixels_hash(image) == original.pixels:
        return f"this is {name} again, bit for bit"
    doubts = "; ".join(original.doubts) or "nothing that was written down is otherwise"
    with Images.open(original.path) as opened:
        first = opened.convert("RGB")
    if pixels_hash(first) != original.pixels:
        return (
            f"this is not {name} bit for bit, and how near it is cannot be said of a file that lost something: {doubts}"
        )
    off = np.abs(np.asarray(first, np.int16) - np.asarray(image.convert("RGB"), np.int16))
    return (
        f"this is {name} again, but for {(off > 0).mean():.2%} of its values, by {off.max()} of 255 at most: {doubts}"
    )
