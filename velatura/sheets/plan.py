"""The cells of a sheet, and the file that says what a sheet is.

sheet.toml
    prompt = "a red boat on the sea"
    loras = ["ink.safetensors:0.8"]     beside those that the prompt names
    controls = ["canny, hint=a.png"]    ControlNets, as `velatura generate --control` has them
    run = "runs/0001-ink"               whose checkpoints are meant
    [settings]                          as `velatura generate` knows them; what is not here is left to the base
    seed = 1
    steps = 20
    [[axes]]                            the first is x, the second y, the third z, and so on
    name = "lora.strength"
    values = "0, 0.4, 0.8, 1.2"         or a list
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velatura.errors import SettingsError, nearest
from velatura.schema import read_tree
from velatura.sheets import axes
from velatura.sheets.axes import Axis, Setting, Value

RANKS = ("base", "prompt", axes.REPLACE, axes.ORDER, axes.CHECKPOINT)
"""In this order they are applied, and LoRAs' names and all else after them, whatever axis each stands on."""

KEYS = ("prompt", "loras", "controls", "run", "settings", "axes")


@dataclass(frozen=True)
class Sheet:
    """What a sheet is."""

    axes: tuple[Axis, ...]
    prompt: str = ""
    loras: tuple[str, ...] = ()
    """FILE or NAME, with `:strength` behind it."""
    run: str = ""
    """Folder of the run whose checkpoints are meant."""
    settings: Mapping[str, Value] = field(default_factory=dict)
    """What all cells have in common."""
    controls: tuple[str, ...] = ()
    """ControlNets, as `generation.control.read` reads them."""


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet."""

    place: tuple[int, ...]
    """On each axis, from 0."""
    values: tuple[Value | None, ...]
    """Of each axis."""


def cells(told: Sequence[Axis]) -> list[Cell]:
    """All cells: the first axis changes fastest, then the second.

    Raises:
        SettingsError: an axis stands twice.
    """
    names = [(axis.name, axis.needle) for axis in told]
    if doubled := next((name for place, (name, _) in enumerate(names) if names[place] in names[:place]), None):
        raise SettingsError(f"{doubled} stands on two axes", fix="put all its values on one of them")
    places = itertools.product(*(range(len(axis.values)) for axis in reversed(told)))
    found = (tuple(reversed(place)) for place in places)
    return [Cell(place, tuple(axis.values[at] for axis, at in zip(told, place, strict=True))) for place in found]


def changes(told: Sequence[Axis], cell: Cell) -> list[tuple[Axis, Value | None]]:
    """What a cell changes, in the order in which it is applied."""

    def rank(change: tuple[Axis, Value | None]) -> int:
        name = change[0].name
        if name in RANKS:
            return RANKS.index(name)
        return len(RANKS) + (0 if name.startswith("lora.") and name.endswith(".name") else 1)

    return sorted(zip(told, cell.values, strict=True), key=rank)


def load(path: Path, known: Mapping[str, Setting]) -> Sheet:
    """A sheet from its file.

    Raises:
        FileProblem: it cannot be read.
        RecipeError: it is not TOML.
        SettingsError: something in it is unknown or not possible; the nearest is named.
    """
    tree = read_tree(path, what="sheet")
    _closed(tree, KEYS, path)
    entries = tree.get("axes", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError("the axes are no list", where=path, fix="write each below a line [[axes]]")
    told = []
    for entry in entries:
        _closed(entry, ("name", "values"), path)
        written = entry.get("values", "")
        one = written if isinstance(written, str | list) else [written]
        told.append(axes.read(str(entry.get("name", "")), one, known))
    settings = {}
    for name, value in tree.get("settings", {}).items():
        setting, read = single(name, value if isinstance(value, str) else axes.shown(value), known)
        settings[setting] = read
    return Sheet(
        tuple(told),
        str(tree.get("prompt", "")),
        _several(tree.get("loras", [])),
        str(tree.get("run", "")),
        settings,
        _several(tree.get("controls", [])),
    )


def _several(told: Any) -> tuple[str, ...]:
    return tuple(map(str, told if isinstance(told, list) else [told]))


def single(name: str, value: str, known: Mapping[str, Setting]) -> tuple[str, Value]:
    """A setting that all cells have, from its name and its value as it is written; a text may hold commas.

    Raises:
        SettingsError: there is no such setting, or the value is none of it.
    """
    setting = axes.find(name, known)
    if setting.name not in known:
        raise SettingsError(f"{setting.name} stands on an axis or nowhere", fix=f"write --x {setting.name}=...")
    written: str | list[Value] = [value] if setting.kind in ("text", "choice", "size") else value
    axis = axes.read(setting.name, written, known)
    if len(axis.values) != 1 or axis.values[0] is None:
        raise SettingsError(f"{value!r} is not one value", where=setting.name, fix=f"put it on an axis: --x {name}=...")
    return setting.name, axis.values[0]


def to_toml(sheet: Sheet) -> str:
    """The sheet's file."""
    lines = [f"prompt = {_text(sheet.prompt)}"]
    if sheet.loras:
        lines.append(f"loras = [{', '.join(map(_text, sheet.loras))}]")
    if sheet.controls:
        lines.append(f"controls = [{', '.join(map(_text, sheet.controls))}]")
    if sheet.run:
        lines.append(f"run = {_text(sheet.run)}")
    lines += ["", "[settings]", *(f"{_key(name)} = {_written(value)}" for name, value in sheet.settings.items())]
    for axis in sheet.axes:
        lines += ["", "[[axes]]", f"name = {_text(axis.name)}"]
        lines.append(f"values = [{', '.join(_written(value) for value in axis.values)}]")
    return "\n".join(lines) + "\n"


def _closed(tree: Mapping[str, Any], known: Sequence[str], path: Path) -> None:
    if wrong := next((key for key in tree if key not in known), None):
        close = nearest(wrong, list(known))
        fix = f"did you mean {close}?" if close else f"known are {', '.join(known)}"
        raise SettingsError(f"a sheet has no {wrong!r}", where=path, fix=fix)


def _written(value: Value | None) -> str:
    if isinstance(value, str):
        return _text(value)
    return '"none"' if value is None else axes.shown(value)


def _key(name: str) -> str:
    return _text(name) if "." in name else name


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
