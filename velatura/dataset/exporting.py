"""A dataset in the layout that another program reads: copied, checked, whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from velatura.dataset import archives, layout, masks, rights
from velatura.dataset.captions import read_captions
from velatura.dataset.layout import Entry
from velatura.dataset.names import free_name, legal_name
from velatura.dataset.scan import Dataset, Picture
from velatura.errors import DatasetError, FileProblem, counted
from velatura.files import disk_problems, make_folder, sync_folder

Kind = Literal["plain", "folders", "kohya", "toml", "imagefolder", "civitai"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Item:
    """One picture to write: its names are legal and unlike."""

    picture: Picture
    stem: str
    suffix: str

    @property
    def caption(self) -> str | None:
        """The text of its caption file; None where it has no caption."""
        told = self.picture.captions
        return None if told is None else "".join(f"{one}\n" for one in told)


def export(dataset: Dataset, target: Path, kind: Kind, *, words: str = "", repeats: int = 1) -> int:
    """Write the dataset's chosen pictures for another program; how many there are.

    Args:
        dataset: from `scan`.
        target: a new folder, or for `civitai` a new zip.
        kind: `plain` (01.png, 01.txt), `folders` (images/, captions/, config.json), `kohya` (`10_words/`),
            `toml` (kohya's dataset configuration), `imagefolder` (metadata.jsonl), `civitai` (a zip of the plain kind).
        words: trigger and class, the name of kohya's folder.
        repeats: of kohya's folder.

    Raises:
        DatasetError: kohya's layouts without words.
        FileProblem: something is at the target already, or the disk refuses; there is then nothing of it.
    """
    if kind in ("kohya", "toml") and not legal_name(words):
        raise DatasetError("kohya's folders are named for trigger and class", fix='give --words "mara woman"')
    if target.exists() or target.is_symlink():
        raise FileProblem("there is something here already", where=target, fix="take another name")
    items, of_class = _items(dataset), _of_class(dataset)
    make_folder(target.absolute().parent)
    with disk_problems(target):
        beside = Path(tempfile.mkdtemp(prefix=f".{os.getpid()}-", suffix=".part", dir=target.absolute().parent))
    try:
        if kind == "civitai":
            _civitai(items, beside / "zip")
            whole = beside / "zip"
        else:
            whole = make_folder(beside / "set")
            _WRITERS[kind](items, whole, words, repeats)
            if kind != "imagefolder":
                _regularisation(of_class, whole, kind, words)
            _rights(dataset, items, whole, f"{repeats}_{legal_name(words)}/" if kind == "kohya" else "")
        with disk_problems(target):
            whole.rename(target)
            sync_folder(target.absolute().parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(items)


def left_out(dataset: Dataset, kind: Kind) -> list[str]:
    """What a layout has no place for, in sentences."""
    said = []
    masked = sum(one.mask is not None for one in dataset.pictures)
    if kind == "civitai":
        if masked:
            said.append(f"the masks of {counted(masked, 'picture')} are left out: Civitai's trainer takes none")
        if rights.load(dataset.folder) != rights.Record():
            said.append("what is known of rights is left out: Civitai takes pictures and captions only, tell it there")
    several = sum(len(one.captions or ()) > 1 for one in dataset.pictures)
    if kind == "imagefolder" and several:
        said.append(f"all but the first captions of {counted(several, 'picture')} are left out: this layout takes one")
    if kind in ("civitai", "imagefolder") and layout.find(dataset.folder).regularisation:
        said.append("pictures of the class in reg/ are left out: this layout has no place for them")
    return said


def _items(dataset: Dataset) -> list[Item]:
    """Pictures of several folders get names of one."""
    taken: set[str] = set()
    items = []
    for picture in dataset.pictures:
        stem = free_name(legal_name(layout.stem_of(picture.path)) or "picture", taken)
        taken.add(stem.casefold())
        items.append(Item(picture, stem, picture.path.suffix.lower()))
    return items


def _plain(items: list[Item], folder: Path, words: str, repeats: int) -> None:
    _pictures(items, folder)
    _masks(items, folder / layout.MASKS)


def _folders(items: list[Item], folder: Path, words: str, repeats: int) -> None:
    pictures_in, captions_in = make_folder(folder / "images"), make_folder(folder / "captions")
    for item in items:
        _copy(item.picture.path, pictures_in / f"{item.stem}{item.suffix}")
        _caption(item, captions_in)
    _masks(items, folder / layout.MASKS)
    told = {"version": 1, "words": words, "pictures": len(items)}
    _write(folder / "config.json", json.dumps(told, ensure_ascii=False, indent=1) + "\n")


def _kohya(items: list[Item], folder: Path, words: str, repeats: int) -> None:
    name = f"{repeats}_{legal_name(words)}"
    _pictures(items, make_folder(folder / name))
    _masks(items, folder / layout.MASKS / name)  # a folder without a number, which kohya passes over


def _toml(items: list[Item], folder: Path, words: str, repeats: int) -> None:
    _pictures(items, make_folder(folder / "images"))
    masked = any(item.picture.mask for item in items)
    if masked:  # with masked_loss, kohya wants one for every picture
        _masks(items, folder / layout.MASKS, every=True)
    _write(
        folder / "dataset.toml",
        "[general]\nenable_bucket = true\n\n[[datasets]]\n\n  [[datasets.subsets]]\n"
        f'  image_dir = "images"\n  caption_extension = ".txt"\n  class_tokens = {json.dumps(words)}\n'
        f"  num_repeats = {repeats}\n" + (f'  conditioning_data_dir = "{layout.MASKS}"\n' if masked else ""),
    )


def _imagefolder(items: list[Item], folder: Path, words: str, repeats: int) -> None:
    lines = []
    for item in items:
        name = f"{item.stem}{item.suffix}"
        _copy(item.picture.path, folder / name)
        told = {} if item.picture.captions is None else {"text": item.picture.captions[0]}
        lines.append(json.dumps({"file_name": name, **told}, ensure_ascii=False) + "\n")
    _masks(items, folder / layout.MASKS)
    _write(folder / "metadata.jsonl", "".join(lines))


def _of_class(dataset: Dataset) -> list[Entry]:
    return layout.find(dataset.folder).regularisation


def _regularisation(entries: list[Entry], folder: Path, kind: Kind, words: str) -> None:
    """Pictures of the class: in `reg/`, below it in kohya's folder of the class, or as a subset of their own."""
    if not entries:
        return
    # What is written behind the trigger is the class, unless the folder that they come from says it.
    of_class = next((entry.told[0] for entry in entries if entry.told), words.partition(" ")[2] or words)
    into = folder / "reg" if kind != "kohya" else folder / "reg" / f"1_{legal_name(of_class)}"
    make_folder(into)
    taken: set[str] = set()
    for entry in entries:
        stem = free_name(legal_name(layout.stem_of(entry.path)) or "picture", taken)
        taken.add(stem.casefold())
        _copy(entry.path, into / f"{stem}{entry.path.suffix.lower()}")
        if entry.caption_files:
            text = "".join(f"{one}\n" for one in read_captions(entry.caption_files[0]).captions)
            _write(into / f"{stem}.txt", text)
    if kind == "toml":
        with disk_problems(folder), (folder / "dataset.toml").open("a", encoding="utf-8", newline="\n") as file:
            file.write(
                '\n  [[datasets.subsets]]\n  image_dir = "reg"\n  caption_extension = ".txt"\n  is_reg = true\n'
                f"  class_tokens = {json.dumps(of_class)}\n  num_repeats = 1\n"
            )


def _civitai(items: list[Item], path: Path) -> None:
    """Pictures and captions without folders; masks are unknown there."""
    files: list[tuple[str, Path | bytes]] = []
    for item in items:
        files.append((f"{item.stem}{item.suffix}", item.picture.path))
        if (text := item.caption) is not None:
            files.append((f"{item.stem}.txt", text.encode()))
    archives.pack(path, files)


_WRITERS: dict[str, Callable[[list[Item], Path, str, int], None]] = {
    "plain": _plain,
    "folders": _folders,
    "kohya": _kohya,
    "toml": _toml,
    "imagefolder": _imagefolder,
}


def _caption(item: Item, folder: Path) -> None:
    if (text := item.caption) is not None:
        _write(folder / f"{item.stem}.txt", text)


def _rights(dataset: Dataset, items: list[Item], folder: Path, prefix: str) -> None:
    """What is known of the pictures that are exported, under their new names."""
    known = rights.load(dataset.folder)
    mine = {
        f"{prefix}{item.stem}{item.suffix}": known.pictures[item.picture.name]
        for item in items
        if item.picture.name in known.pictures
    }
    record = rights.Record(known.all, mine)
    if record != rights.Record():
        _write(folder / rights.FILE, record.to_toml())


def _pictures(items: list[Item], folder: Path) -> None:
    """With their captions beside them."""
    for item in items:
        _copy(item.picture.path, folder / f"{item.stem}{item.suffix}")
        _caption(item, folder)


def _masks(items: list[Item], folder: Path, *, every: bool = False) -> None:
    """Masks into a folder; a white one for each picture without, where every one is to have one."""
    for item in items:
        one = item.picture
        if one.mask is None and not every:
            continue
        size = one.width, one.height
        held = Image.new("L", size, 255) if one.mask is None else masks.read(one.mask, size)
        path = make_folder(folder) / f"{item.stem}.png"
        with disk_problems(path):
            path.write_bytes(masks.png(held))


def _write(path: Path, text: str) -> None:
    with disk_problems(path):
        path.write_text(text, encoding="utf-8", newline="\n")


def _copy(source: Path, target: Path) -> None:
    with disk_problems(source), source.open("rb") as readable, disk_problems(target), target.open("xb") as writable:
        shutil.copyfileobj(readable, writable, 1 << 20)
