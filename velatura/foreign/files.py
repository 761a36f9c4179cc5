"""Files of other trainers: read whole, with every way of being broken said in one sentence.

Text may begin with a byte order mark and have Windows' line ends. YAML may name a part again by its anchor, as long
as what that comes to stays within bounds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from velatura.errors import RecipeError
from velatura.files import disk_problems
from velatura.schema import read_tree

LARGEST = 4_000_000
"""Bytes; a recipe with hundreds of sample prompts is far smaller."""

MOST = 200_000
"""Values of a YAML file, each counted as often as it is named."""


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        FileProblem: it cannot be read.
        RecipeError: it is no text, or far too large.
    """
    with disk_problems(path):
        if path.stat().st_size > LARGEST:
            raise RecipeError("this is far too large for a trainer's settings", where=path, fix="is it the right file?")
        data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError("this is not a text file in UTF-8", where=path, fix="save it as UTF-8") from None
    return text.replace("\r\n", "\n")


def tree_of(path: Path) -> dict[str, Any] | None:
    """The settings in a TOML, JSON or YAML file; None where it is text of another kind.

    Raises:
        FileProblem, RecipeError: it cannot be read, or is not what its name says.
    """
    kind = path.suffix.lower()
    text = read_text(path)
    if kind == ".toml":
        return read_tree(path, what="file")
    if kind == ".json" or (kind not in (".yaml", ".yml") and text.lstrip().startswith("{")):
        return _mapping(_json(text, path), path)
    if kind in (".yaml", ".yml"):
        return _mapping(_yaml(text, path), path)
    return None


def _mapping(tree: Any, path: Path) -> dict[str, Any]:
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise RecipeError("this file holds no settings by name", where=path, fix="give a trainer's own file")
    return tree


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        told = "" if isinstance(error, RecursionError) else f": {error}"
        raise RecipeError(f"this is not valid JSON{told}", where=path, fix="mend the line named") from None


def _yaml(text: str, path: Path) -> Any:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _values(node, {}) > MOST:
            what = "this YAML file names its own parts again and again, far beyond any settings"
            raise RecipeError(what, where=path, fix="is it the right file?")
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        what = f"this is not valid YAML{line}: {error.problem or error.context}"
        raise RecipeError(what, where=path, fix="mend it") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise RecipeError("this is not valid YAML", where=path, fix="give a trainer's own file") from None


def _values(node: Any, known: dict[int, int]) -> int:
    """How many values a part comes to with all that it names again; one that holds itself counts beyond all bounds."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # until it is known: met again within itself, it has no end
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        counts = [] if isinstance(node.value, str) else [_values(part, known) for part in inner]
        known[id(node)] = 1 + sum(counts)
    return known[id(node)]
