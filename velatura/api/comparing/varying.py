"""What of a request may stand on the axis of a sheet, and a request with some of it changed (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from velatura import schema
from velatura.api.painting.request import FromPicture, GenerateRequest
from velatura.errors import SettingsError, nearest
from velatura.generation import control
from velatura.generation import prompt as grammar
from velatura.generation.control import ControlUse
from velatura.generation.hires import Hires
from velatura.generation.prompt import LoraUse
from velatura.recipe import MemorySettings, TuningSettings
from velatura.sheets import axes, values
from velatura.sheets.axes import Axis, Kind, Setting, Value

APART = frozenset(
    {
        *("base_sha256", "batch", "controls", "count", "form", "loras", "original", "out", "preview", "preview_every"),
        *("project", "quality", "remarks", "strict", "text_encoders", "threads"),
    }
)
"""Fields of a request that are no settings of a picture, or that have axes of their own."""

GROUPS: Mapping[str, type] = {"begin": FromPicture, "hires": Hires, "tuning": TuningSettings, "memory": MemorySettings}
"""Fields that hold several settings."""

CHECKPOINT = "checkpoint"
"""What the LoRA of a run's checkpoint is called in lora.checkpoint.strength."""

_PLAIN: Mapping[object, Kind] = {bool: "switch", int: "whole", float: "number", str: "text", Path: "text"}


def known() -> dict[str, Setting]:
    """Every setting of a picture, by name: as a request has it, with its group before it."""
    found = {"size": Setting("size", "size"), "styles": Setting("styles", "text", (), optional=True)}
    for prefix, kind in {"": GenerateRequest, **GROUPS}.items():
        for name, hint in get_type_hints(kind).items():
            if prefix or name not in {*APART, *GROUPS}:
                setting = _setting(f"{prefix}.{name}" if prefix else name, hint)
                if setting is not None:
                    found[setting.name] = setting
    found["hires.scale"] = replace(found["hires.scale"], optional=True)
    for name, hint in get_type_hints(ControlUse).items():
        if (setting := _setting(f"control.{name}", hint)) is not None:
            found[setting.name] = setting
    return found


def _setting(name: str, hint: Any) -> Setting | None:
    optional = False
    if get_origin(hint) in (Union, UnionType):
        kinds = [one for one in get_args(hint) if one is not type(None)]
        optional, hint = len(kinds) < len(get_args(hint)), kinds[0] if len(kinds) == 1 else None
    if get_origin(hint) is Literal:
        choices = tuple(str(one) for one in get_args(hint))
        return Setting(name, "choice", choices, optional)
    kind = _PLAIN.get(hint)
    return None if kind is None else Setting(name, kind, (), optional)


def varied(
    request: GenerateRequest, changes: Iterable[tuple[Axis, Value | None]], run: Mapping[int, Path] | None = None
) -> GenerateRequest:
    """A request with settings changed, in this order.

    Args:
        request: as it is.
        changes: what stands on which axis.
        run: step -> adapter file of each checkpoint that may be meant.

    Raises:
        SettingsError: a LoRA that is not there, a needle that does not occur, a setting of what is not asked for.
        RecipeError: a value that is out of range.
    """
    beside = {CHECKPOINT: -1}
    gone: set[str] = set()
    for axis, value in changes:
        name = axis.name
        if name.rpartition(".")[0] in gone:
            continue
        if name.startswith("lora.") and name.endswith(".name") and value == "none":
            gone.add(name.rpartition(".")[0])
        if name == axes.ORDER:
            request = replace(request, prompt=axes.reordered(request.prompt, str(value)))
        elif name == axes.REPLACE:
            request = _replaced(request, axis.needle, str(value))
        elif name == axes.CHECKPOINT:
            beside[CHECKPOINT] = len(request.loras)
            request = replace(request, loras=(*request.loras, f"{(run or {})[int(str(value))]}:1"))
        elif name.startswith("lora."):
            request = _lora(request, name, value, beside[CHECKPOINT])
        else:
            request = changed(request, name, value)
    return request


def changed(request: GenerateRequest, name: str, value: Value | None) -> GenerateRequest:
    """A request with one setting changed; its name as `known` has it.

    Raises:
        RecipeError: a value that is out of range.
    """
    told: Any = value
    if name == "size":
        width, height = axes.size(str(value))
        return replace(request, width=width, height=height)
    group, dot, last = name.partition(".")
    if group == "control":
        return replace(request, controls=_controls(request.controls, name, told))
    if not dot:
        if name == "base":
            return replace(request, base=str(value), base_sha256="")
        if name == "styles":
            told = () if value is None else tuple(values.listed(str(value)))
        return replace(request, **{name: told})
    before = getattr(request, group)
    if name == "hires.scale" and value is None:
        return replace(request, hires=None)
    if is_dataclass(kind := GROUPS[group]):
        if name == "begin.path":
            told = Path(str(value))
        after: Any = _of(kind, before, last, told)
    else:
        after = schema.build(kind, {**before.model_dump(), last: told}, where=name)
    return replace(request, **{group: after})


def _of(kind: Any, before: Any, name: str, value: Any) -> Any:
    """A dataclass with one of its fields changed; where there is none yet, a new one."""
    if before is not None:
        return replace(before, **{name: value})
    needed = {"begin": {"path"}, "hires": {"scale", "width", "height"}}
    group = next(group for group, one in GROUPS.items() if one is kind)
    if name not in needed[group]:
        what = "a picture to paint from" if group == "begin" else "a second pass"
        first = "begin.path=FILE" if group == "begin" else "hires.scale=2"
        raise SettingsError(f"{group}.{name} needs {what}", fix=f"set it with --set {first}, or put it on an axis")
    return kind(**{name: value})


def _controls(uses: tuple[ControlUse, ...], axis: str, value: Any) -> tuple[ControlUse, ...]:
    """ControlNets with one of them changed: control.weight, or control.2.weight where there are several.

    Raises:
        SettingsError: there is no such ControlNet, or the value cannot be.
    """
    which, _, what = axis.removeprefix("control.").rpartition(".")
    if not uses:
        raise SettingsError(f"{axis} needs a ControlNet", fix='give one with --control "FILE, hint=PICTURE"')
    if not which and len(uses) > 1:
        fix = " or ".join(f"control.{number}.{what}" for number in range(1, len(uses) + 1))
        raise SettingsError(f"{axis} may mean {len(uses)} ControlNets", fix=f"write {fix}")
    place = int(which or 1) - 1
    if not 0 <= place < len(uses):
        raise SettingsError(f"{axis} means a ControlNet that is not there", fix=f"there are {len(uses)}, from 1")
    return control.changed(uses, place, what, value)


def ordered(names: Iterable[str]) -> list[str]:
    """Settings in an order in which each finds what it needs."""
    first = ("begin.path", "hires.scale", "hires.width", "hires.height")
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def _replaced(request: GenerateRequest, needle: str, value: str) -> GenerateRequest:
    hires = request.hires
    second = {name: text for name in ("prompt", "negative_prompt") if (text := getattr(hires, name, None)) is not None}
    if not any(needle in text for text in (request.prompt, request.negative, *second.values())):
        raise SettingsError(
            f"{needle!r} does not occur in the prompt, so nothing can stand in its place",
            where=axes.REPLACE,
            fix="write a word of the prompt first, as in prompt.replace=boat,ship",
        )
    if hires is not None:
        hires = replace(hires, **{name: text.replace(needle, value) for name, text in second.items()})
    prompt, negative = (text.replace(needle, value) for text in (request.prompt, request.negative))
    return replace(request, prompt=prompt, negative=negative, hires=hires)


def _lora(request: GenerateRequest, axis: str, value: Value | None, checkpoint: int) -> GenerateRequest:
    """A request with one of its LoRAs changed."""
    which, what = axis.removeprefix("lora.").rpartition(".")[::2]
    marks = grammar.extract_loras(request.prompt)[1]
    place = _which(which, marks, request.loras, checkpoint, axis)
    if place < len(marks):
        prompt = grammar.change_loras(request.prompt, lambda at, use: _use(use, what, value) if at == place else use)
        hires = request.hires
        if hires is not None and hires.prompt is not None:
            second = grammar.change_loras(hires.prompt, lambda at, use: _use(use, what, value) if at == place else use)
            hires = replace(hires, prompt=second)
        return replace(request, prompt=prompt, hires=hires)
    loras = list(request.loras)
    name, strength = grammar.given_lora(loras.pop(place - len(marks)))
    after = _use(LoraUse(name, strength, strength), what, value)
    if after is None:
        return replace(request, loras=tuple(loras))
    if after.text_strength == after.denoiser_strength and not after.blocks:
        loras.insert(place - len(marks), f"{after.name}:{after.denoiser_strength!r}")
        return replace(request, loras=tuple(loras))
    return replace(request, prompt=request.prompt + grammar.written(after), loras=tuple(loras))


def _use(use: LoraUse, what: str, value: Value | None) -> LoraUse | None:
    if what == "name":
        return None if value == "none" else replace(use, name=str(value))
    if what == "blocks":
        return replace(use, blocks="" if value == "none" else str(value))
    strength = float(str(value))
    if what == "text_strength":
        return replace(use, text_strength=strength)
    return replace(use, denoiser_strength=strength, text_strength=strength)


def _which(which: str, marks: tuple[LoraUse, ...], loras: tuple[str, ...], checkpoint: int, axis: str) -> int:
    """Which of the LoRAs an axis means, those of the prompt first."""
    names = [*(use.name for use in marks), *(grammar.given_lora(given)[0] for given in loras)]
    called = [Path(name).stem if place >= len(marks) else name for place, name in enumerate(names)]
    if checkpoint >= 0:
        called[len(marks) + checkpoint] = CHECKPOINT
    if not names:
        raise SettingsError(
            f"{axis} needs a LoRA", fix="give one with --lora NAME or in the prompt, or put run.checkpoint on an axis"
        )
    if not which:
        if len(names) > 1:
            fix = " or ".join(f"lora.{name}.{axis.rpartition('.')[2]}" for name in called)
            raise SettingsError(f"{axis} may mean {len(names)} LoRAs", fix=f"write {fix}")
        return 0
    if which.isdecimal() and which not in called and 1 <= int(which) <= len(called):
        return int(which) - 1
    if which in called:
        return called.index(which)
    close = nearest(which, called) or called[0]
    raise SettingsError(f"{axis} means a LoRA that is not there", fix=f"did you mean lora.{close}?")
