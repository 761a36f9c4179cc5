"""Pictures named 01, 02, ... in their order with their captions and masks, or legally; captions as UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from velatura.dataset import layout, origin
from velatura.dataset.captions import decode
from velatura.dataset.journal import edit
from velatura.dataset.layout import Entry
from velatura.dataset.names import free_name, legal_name, numbered
from velatura.dataset.reframing import follow
from velatura.dataset.scan import nothing
from velatura.errors import DatasetError, counted
from velatura.files import disk_problems


def rename(dataset: Path, *, prefix: str = "", legal: bool = False) -> dict[str, str]:
    """Name the pictures of a dataset anew; those that are set aside too. Old name -> new name.

    Args:
        dataset: the folder.
        prefix: stands before each number.
        legal: keep the names, and change only what another system would refuse.

    Raises:
        DatasetError: there is no picture, the names stand in a list of captions, or pictures share one caption.
    """
    found = layout.find(dataset)
    if not found.entries:
        raise nothing(dataset, found.problems)
    if found.kind == "imagefolder":
        what = "the names of these pictures stand in metadata.jsonl"
        raise DatasetError(what, where=dataset, fix="`velatura dataset add` them to a plain set first")
    stems = _legal(found.entries) if legal else [legal_name(prefix) + one for one in numbered(len(found.entries))]
    pairs: list[tuple[str, str]] = []
    renamed: dict[str, str] = {}
    shared: set[Path] = set()
    for entry, stem in zip(found.entries, stems, strict=True):
        for path in filter(None, (entry.path, *entry.caption_files, entry.mask)):
            if path in shared:
                what = f"several pictures share {path.name}"
                raise DatasetError(what, where=dataset, fix="give each its own caption first")
            shared.add(path)
            label = layout.MASK_LABEL if path == entry.mask and path.parent == entry.path.parent else ""
            old = path.relative_to(dataset)
            pairs.append((old.as_posix(), old.with_name(f"{stem}{label}{path.suffix.lower()}").as_posix()))
        for path in origin.sidecars(entry.path):  # left behind, it would speak of whichever picture has the name next
            if path not in shared:
                shared.add(path)
                ending = entry.path.suffix.lower() if path.stem == entry.path.name else ""
                old = path.relative_to(dataset)
                pairs.append((old.as_posix(), old.with_name(f"{stem}{ending}.json").as_posix()))
        folder, _, _ = entry.name.rpartition("/")
        renamed[entry.name] = f"{folder}/" * bool(folder) + f"{stem}{entry.path.suffix.lower()}"
    renamed = {old: new for old, new in renamed.items() if old != new}
    told = "name legally" if legal else f"rename {counted(len(stems), 'picture')}"
    with edit(dataset, told) as changes:
        changes.rename(pairs)
        follow(dataset, renamed, changes)
    return renamed


def _legal(entries: Sequence[Entry]) -> list[str]:
    taken: set[str] = set()
    stems = []
    for entry in entries:
        folder = entry.name.rpartition("/")[0]
        stem = free_name(f"{folder}/{legal_name(layout.stem_of(entry.path)) or 'picture'}", taken)
        taken.add(stem.casefold())
        stems.append(stem.rpartition("/")[2])
    return stems


def recode(dataset: Path) -> list[str]:
    """Write captions of other encodings as UTF-8 without a mark; the files that were changed.

    Raises:
        DatasetError: a caption is not text.
    """
    found = layout.find(dataset)
    changed = []
    with edit(dataset, "captions as UTF-8") as changes:
        for path in dict.fromkeys(one for entry in found.entries for one in entry.caption_files[:1]):
            with disk_problems(path):
                data = path.read_bytes()
            text = decode(data, path)[0]
            if text.encode() != data:
                name = path.relative_to(dataset).as_posix()
                changes.write_text(name, text)
                changed.append(name)
    return changed
