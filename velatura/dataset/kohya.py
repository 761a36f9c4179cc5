"""kohya-ss/sd-scripts' ways to name a dataset: folders called `10_mara woman`, and a configuration in TOML.

Facts: a folder's name is a number of repeats, an underscore, and the class words, which are the caption of
pictures that have no caption file; a folder without such a name is skipped. In TOML, captions end in
`.caption` unless `caption_extension` says otherwise, and subsets inherit from their dataset and `[general]`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velatura.errors import DatasetError
from velatura.files import disk_problems

PARENTS = ("img", "image", "images", "train")
"""Folders in which kohya_ss and others gather the named ones."""


@dataclass(frozen=True)
class Subset:
    """One folder of pictures that a configuration names."""

    folder: Path
    class_words: str
    repeats: int
    regularisation: bool
    caption_suffix: str
    metadata: Path | None
    masks: Path | None = None
    """`conditioning_data_dir`, which its masked loss reads."""


def folder_name(name: str) -> tuple[int, str] | None:
    """Repeats and class words of a folder's name, or None where it is no such name."""
    number, line, words = name.partition("_")
    try:
        repeats = int(number)
    except ValueError:
        return None
    return (repeats, words) if line and repeats >= 1 else None


def read_toml(path: Path) -> list[Subset]:
    """The subsets of a dataset configuration.

    Folders count from the file's own.

    Raises:
        DatasetError: not TOML, or not such a configuration.
    """
    with disk_problems(path):
        data = path.read_bytes()
    try:
        tree = tomllib.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise DatasetError(f"this is not valid TOML: {error}", where=path, fix="mend the line named") from None
    subsets = []
    general = _table(tree.get("general", {}), "general", path)
    for place, dataset in enumerate(_tables(tree.get("datasets"), "datasets", path)):
        for subset in _tables(dataset.get("subsets"), f"datasets[{place}].subsets", path):
            subsets.append(_subset(general | dataset | subset, path))
    if not subsets:
        what = "this TOML file names no pictures: it has no [[datasets.subsets]]"
        raise DatasetError(what, where=path, fix="give kohya's dataset configuration, or a folder")
    return subsets


def _subset(told: dict[str, Any], path: Path) -> Subset:
    image_dir = told.get("image_dir")
    if not isinstance(image_dir, str) or not image_dir:
        raise DatasetError("a subset has no image_dir", where=path, fix="name its folder of pictures")
    listed = told.get("metadata_file")
    repeats, masks = told.get("num_repeats", 1), told.get("conditioning_data_dir")
    return Subset(
        folder=path.parent / image_dir,
        class_words=str(told.get("class_tokens") or ""),
        repeats=repeats if isinstance(repeats, int) and repeats >= 1 else 1,
        regularisation=told.get("is_reg") is True,
        caption_suffix=str(told.get("caption_extension", ".caption")).lower(),
        metadata=path.parent / listed if isinstance(listed, str) else None,
        masks=path.parent / masks if isinstance(masks, str) and masks else None,
    )


def _tables(value: Any, name: str, path: Path) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise DatasetError(f"{name} is not a list of tables", where=path, fix=f"write [[{name}]]")
    return [_table(one, name, path) for one in value]


def _table(value: Any, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DatasetError(f"{name} is not a table", where=path, fix=f"write [{name}]")
    return value
