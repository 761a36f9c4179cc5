"""Closed trees of settings: read from TOML with errors a person can act on, written back with comments.

Recipes and briefs are such trees. Unknown keys are errors that name the nearest right one. TOML has no
null, so the word "none" stands for it, in files and on the command line.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from velatura.errors import RecipeError, nearest
from velatura.files import disk_problems

NONE = "none"
"""What stands for a value that is not set."""

LINE = 100
"""Longer lists are written one entry per line."""


class Settings(BaseModel):
    """A group of settings: frozen, closed, documented field by field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # a name may be 1984 without quotes
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        return {key: None if value == NONE and cls._may_be_none(key) else value for key, value in tree.items()}

    @classmethod
    def _may_be_none(cls, key: str) -> bool:
        field = cls.model_fields.get(key)
        return field is not None and type(None) in get_args(field.annotation)


Kind = TypeVar("Kind", bound=Settings)


def read_tree(path: Path, *, what: str) -> dict[str, Any]:
    """The plain values of a TOML file.

    Args:
        path: the file.
        what: what it should be, for the message: "recipe".

    Raises:
        FileProblem: it cannot be read.
        RecipeError: it is not TOML.
    """
    with disk_problems(path):
        data = path.read_bytes()
    try:
        return tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"the {what} is not UTF-8 text", where=path, fix="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the {what} is not valid TOML: {error}", where=path, fix="mend the line named") from error


def build(kind: type[Kind], tree: dict[str, Any], *, where: object = None) -> Kind:
    """Settings from a tree of plain values.

    Raises:
        RecipeError: an unknown key (the nearest right one is named) or a value out of range.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if not _of_union(str(part)))
        if first["type"] == "extra_forbidden":
            close = _nearest_key(key, kind, is_group=isinstance(first["input"], dict))
            fix = f"did you mean {close}?" if close else "`velatura new` writes every setting, explained"
            raise RecipeError(f"unknown setting {key}", where=where, fix=fix) from error
        raise RecipeError(_explain(key, first), where=where, fix="change it in the file or with --set") from error


def to_toml(settings: Settings, *, comments: bool = False) -> str:
    """The settings with every default written out; with comments, each field's docstring stands above it."""
    lines: list[str] = []
    _write_group(settings, (), lines, comments)
    return "\n".join(lines).strip() + "\n"


def known_keys(kind: type[Settings], prefix: str = "") -> list[str]:
    """Every setting's full name, as `--set` takes it."""
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, Settings):
            keys += known_keys(group, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _write_group(group: Settings, path: tuple[str, ...], lines: list[str], comments: bool) -> None:
    if path:
        lines += ["", f"[{'.'.join(path)}]"]
    if comments and type(group).__doc__:
        lines.append(f"# {type(group).__doc__}")
    nested: list[tuple[str, Settings]] = []
    listed: list[tuple[str, list[Settings]]] = []
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        if isinstance(value, Settings):
            nested.append((name, value))
            continue
        if isinstance(value, list) and value and isinstance(value[0], Settings):
            listed.append((name, value))
            continue
        if comments and field.description:
            lines += ["", *(f"# {line}" for line in field.description.splitlines())]
        lines.append(f"{name} = {_toml_value(value)}")
    for name, value in nested:
        _write_group(value, (*path, name), lines, comments)
    for name, values in listed:
        for one in values:
            lines += ["", f"[[{'.'.join((*path, name))}]]"]
            _write_group(one, (), lines, False)  # what each setting means stands above those for all


def _toml_value(value: Any) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        items = [_toml_value(item) for item in value]
        on_one_line = f"[{', '.join(items)}]"
        return on_one_line if len(on_one_line) <= LINE else "[\n" + "".join(f"  {item},\n" for item in items) + "]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml_value(entry)}' for key, entry in value.items())} }}" if value else "{}"
    if isinstance(value, float):
        return repr(value)
    # JSON strings are TOML basic strings but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _of_union(part: str) -> bool:
    """Whether a part of a place names one of the kinds that a value may have, not a setting."""
    return part in ("float", "int", "str", "bool") or part.startswith(("constrained-", "literal[", "list["))


def _explain(key: str, first: Any) -> str:
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return str(message)
    if first["type"] == "model_type":
        return f"{key} is a group of settings, not a value"
    given = first.get("input")
    if message.startswith(f"{key}."):
        return str(message)
    shown = "" if isinstance(given, dict) else f", got {_short(given)}"
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nearest_key(key: str, kind: type[Settings], *, is_group: bool) -> str | None:
    known = known_keys(kind)
    if is_group:
        return nearest(key, sorted({name.rpartition(".")[0] for name in known} - {""}))
    by_last = {name.rsplit(".", 1)[-1]: name for name in known}
    if elsewhere := by_last.get(key.rsplit(".", 1)[-1]):
        return elsewhere
    if match := nearest(key, known):
        return match
    match = nearest(key.rsplit(".", 1)[-1], list(by_last))
    return by_last[match] if match else None
