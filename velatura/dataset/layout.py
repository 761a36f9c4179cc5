"""Where a dataset folder keeps its pictures, captions and masks, and what in it is passed over.

Read are, of these, the first that fits:

    01.png 01.txt                            pictures with captions beside them: the plain layout
    images/01.png  captions/01.txt           the same in folders of their own
    10_mara woman/01.png  reg/1_woman/...    kohya's: a number of repeats and the class words in the folder's name
    metadata.jsonl  train/0001.png           Hugging Face's imagefolder, also with metadata.csv

A picture's mask is `masks/01.png`, or `01-masklabel.png` beside it as OneTrainer has it. Hidden files, and
originals kept in `.originals`, are not looked at.
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from velatura.dataset import captions, images, kohya, metadata
from velatura.dataset.names import name_of as name_of
from velatura.dataset.names import natural_key as natural_key
from velatura.dataset.names import stem_of as stem_of
from velatura.errors import DatasetError

MASKS = "masks"
MASK_LABEL = "-masklabel"
"""How OneTrainer's masks end, before the suffix."""

_OTHER_PICTURES = frozenset(
    {".psd", ".psb", ".xcf", ".kra", ".clip", ".svg", ".ai", ".eps", ".pdf", ".zip"}
    | {".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"}
    | {".jxl", ".exr", ".hdr", ".tga", ".ico"}
)
"""Endings that a person may take for pictures of the dataset, and that are not read."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file: `what` continues a sentence that begins with `name`.

    `left_out` tells whether a picture is missing from the dataset because of it.
    """

    name: str
    what: str
    left_out: bool = False

    def __str__(self) -> str:
        """The whole sentence."""
        return f"{self.name} {self.what}"


@dataclass(frozen=True)
class Entry:
    """One picture file, and what lies beside it."""

    path: Path
    name: str
    """The file's name; behind that of its folder where a dataset has several."""
    caption_files: tuple[Path, ...] = ()
    """The first is read."""
    told: tuple[str, ...] | None = None
    """Captions that stand elsewhere, in metadata.jsonl or a folder's name; read where there is no file."""
    mask: Path | None = None
    repeats: int = 1
    """How often an epoch holds it, as kohya's folders say."""


@dataclass(slots=True)
class _Found:
    """What lies in a folder, as the folder itself tells; asking each file again would take most of the time."""

    folder: Path
    name: str
    stem: str
    """Without its ending, letters composed."""
    suffix: str
    """In small letters."""
    is_file: bool
    is_folder: bool
    is_link: bool

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.name

    @property
    def is_picture(self) -> bool:
        """Whether it is taken for a picture, by its name."""
        return self.suffix in images.SUFFIXES and not self.is_folder


@dataclass
class Layout:
    """What lies in a dataset folder, in natural order."""

    kind: str = "plain"
    folder: Path | None = None
    """From which names count, where that is known."""
    entries: list[Entry] = field(default_factory=list)
    regularisation: list[Entry] = field(default_factory=list)
    """Pictures of the class, kohya's `reg/`; not part of what is learnt."""
    problems: list[Problem] = field(default_factory=list)


def find(folder: Path) -> Layout:
    """Sort what lies in a dataset folder, without opening any picture.

    Raises:
        DatasetError: no such folder, no access, or a project in whose `dataset/` the pictures are.
    """
    top = _entries(folder)
    if _child(top, "recipe.toml") and (inner := _child(top, "dataset")):
        raise DatasetError("this is a project, not a dataset", where=folder, fix=f"its pictures are in {inner}")
    listed = metadata.find(
        {one.name.lower(): one.path for one in top if one.is_folder or one.suffix in metadata.SUFFIXES}
    )
    if listed is not None and (layout := _imagefolder(folder, listed)):
        return layout
    if any(one.is_picture for one in top):
        return _simple(folder, top, pictures_in=None)
    images_in = _child(top, "images")
    for parent in filter(None, (*(_child(top, name) for name in kohya.PARENTS), folder)):
        inside = top if parent == folder else _entries(parent) if parent.is_dir() else []
        named = [(one.path, words) for one in inside if one.is_folder and (words := kohya.folder_name(one.name))]
        if any(_holds_pictures(path) for path, _ in named):
            return _kohya(folder, top, named)
    return _simple(folder, top, pictures_in=images_in)


def collect(folder: Path, *, root: Path | None = None, prefix: str = "") -> Layout:
    """The pictures of one folder with the captions and masks beside them."""
    layout = Layout()
    files = _files(_entries(folder), root or folder, layout)
    layout.entries = _paired(files, files, layout, prefix=prefix)
    return layout


def is_picture(path: Path) -> bool:
    """Whether a file is taken for a picture, by its name."""
    return path.suffix.lower() in images.SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _simple(folder: Path, top: list[_Found], *, pictures_in: Path | None) -> Layout:
    """Pictures in one folder; captions beside them or in `captions/`, masks in `masks/`."""
    layout = Layout("folders" if pictures_in else "plain")
    captions_in, masks_in = _child(top, "captions"), _child(top, MASKS)
    entries = _entries(pictures_in) if pictures_in else top
    files = _files(entries, folder, layout)
    caption_files = files + (_files(_entries(captions_in), folder, layout) if captions_in else [])
    layout.entries = _paired(files, caption_files, layout)
    layout.entries = _masked(layout.entries, masks_in, folder, layout)
    known = {pictures_in, captions_in, masks_in}
    for path in dict.fromkeys(one.path for one in (*top, *entries) if one.is_folder):
        if path in known or not _holds_pictures(path):
            continue
        if path.name.lower() == "reg":
            layout.regularisation += collect(path, root=folder, prefix="reg/").entries
            continue
        what = "is a folder of its own; the pictures in it are not read"
        layout.problems.append(Problem(f"{name_of(path)}/", what, left_out=True))
    return layout


def _kohya(folder: Path, top: list[_Found], named: list[tuple[Path, tuple[int, str]]]) -> Layout:
    """Folders named for their repeats and class words; the words are the caption where a file has none."""
    layout = Layout("kohya")
    layout.entries = _of_named(folder, named, layout)
    masks_in, reg = _child(top, MASKS), _child(top, "reg")
    layout.entries = _masked(layout.entries, masks_in, folder, layout)
    if reg is not None:
        inside = [(one.path, words) for one in _entries(reg) if (words := kohya.folder_name(one.name))]
        layout.regularisation = _of_named(folder, inside, layout, prefix="reg/")
    known = {masks_in, reg, *(one for one, _ in named)}
    for path in (one.path for one in top if one.is_folder):
        if path not in known and _holds_pictures(path):
            what = "is left out: its name is not a number of repeats and words, as in 10_mara"
            layout.problems.append(Problem(f"{name_of(path)}/", what, left_out=True))
    return layout


def _of_named(
    folder: Path, named: list[tuple[Path, tuple[int, str]]], layout: Layout, *, prefix: str = ""
) -> list[Entry]:
    entries = []
    for path, (repeats, words) in named:
        inner = collect(path, root=folder, prefix=f"{prefix}{name_of(path)}/")
        layout.problems += inner.problems
        entries += [replace(entry, told=(words,), repeats=repeats) for entry in inner.entries]
    return entries


def _imagefolder(folder: Path, listed: Path) -> Layout | None:
    """Pictures anywhere below, named with their captions in one file; None where it names no picture that is here."""
    layout = Layout("imagefolder")
    root = folder.resolve()
    rows, remarks = metadata.read(listed)
    layout.problems += [Problem(name_of(listed), remark) for remark in remarks]
    for name, text in rows.items():
        path = listed.parent / name
        inside = name_of(listed.parent) + "/" if listed.parent != folder else ""
        if not path.is_file():
            what = f"names {inside}{name}, which is not there"
            layout.problems.append(Problem(name_of(listed), what, left_out=True))
        elif not path.resolve().is_relative_to(root):
            layout.problems.append(Problem(name_of(listed), f"names {name}, outside of the folder", left_out=True))
        elif is_picture(path):
            beside = tuple(one for suffix in captions.SUFFIXES if (one := path.with_suffix(suffix)).is_file())
            told = None if text is None else (text,)
            layout.entries.append(Entry(path, path.relative_to(folder).as_posix(), beside, told))
    if not layout.entries:
        return None
    named = {entry.path for entry in layout.entries}
    below = [one.path for parent in {one.parent for one in named} for one in _entries(parent) if one.is_picture]
    left = sorted((path for path in below if path not in named), key=lambda path: natural_key(path.name))
    layout.entries += [Entry(path, path.relative_to(folder).as_posix()) for path in left]
    masks_in = _child(_entries(folder), MASKS)
    layout.entries = _masked(layout.entries, masks_in, folder, layout)
    layout.entries.sort(key=lambda entry: natural_key(entry.name))
    return layout


def _paired(files: list[_Found], caption_files: list[_Found], layout: Layout, *, prefix: str = "") -> list[Entry]:
    """Pictures with the caption files of their stem, and OneTrainer's masks."""
    found: dict[str, list[Path]] = defaultdict(list)
    for suffix in captions.SUFFIXES:
        for one in caption_files:
            if one.suffix == suffix:
                found[one.stem].append(one.path)
    pictures = [one for one in files if one.is_picture]
    stems = {one.stem for one in pictures}
    labels = {
        one.stem.removesuffix(MASK_LABEL): one.path
        for one in pictures
        if one.stem.endswith(MASK_LABEL) and one.stem.removesuffix(MASK_LABEL) in stems
    }
    masks = set(labels.values())
    for one in files:
        if one.suffix in _OTHER_PICTURES:
            what = f"is left out: {one.suffix} files are not read; export it as PNG"
            layout.problems.append(Problem(prefix + name_of(one.path), what, left_out=True))
    kept = [one for one in pictures if not masks or one.path not in masks]
    entries = [
        Entry(path := one.path, prefix + name_of(path), tuple(found.get(one.stem, ())), mask=labels.get(one.stem))
        for one in kept
    ]
    _report_captions(zip([one.stem for one in kept], entries, strict=True), found, layout, prefix=prefix)
    return entries


def _masked(entries: list[Entry], masks_in: Path | None, folder: Path, layout: Layout) -> list[Entry]:
    """The entries with their masks in `masks/`, below it in the same folder as the picture."""
    if masks_in is None:
        return entries
    found: dict[str, Path] = {}
    for place in (masks_in, *(one.path for one in _entries(masks_in) if one.is_folder)):
        prefix = "" if place == masks_in else f"{name_of(place)}/"
        for one in _files(_entries(place), folder, layout):
            if one.is_picture:
                found[prefix + one.stem] = one.path
    stems = {entry.name: entry.name.rpartition(".")[0] for entry in entries}
    lonely = set(found) - set(stems.values())
    layout.problems += [
        Problem(f"{MASKS}/{name_of(found[stem])}", "is a mask without a picture")
        for stem in sorted(lonely, key=natural_key)
    ]
    return [replace(entry, mask=found.get(stems[entry.name], entry.mask)) for entry in entries]


def _report_captions(
    entries: Iterable[tuple[str, Entry]], found: dict[str, list[Path]], layout: Layout, *, prefix: str
) -> None:
    sharing: dict[str, list[str]] = defaultdict(list)
    for stem, entry in entries:
        sharing[stem].append(entry.name)
    for stem, paths in found.items():
        names = sharing.get(stem, [])
        if not names:
            what = "is a caption without a picture"
            layout.problems += [Problem(prefix + name_of(path), what) for path in paths]
            continue
        if len(names) > 1:
            what = f"share one caption, {name_of(paths[0])}; rename one picture"
            layout.problems.append(Problem(" and ".join(names), what))
        layout.problems += [
            Problem(prefix + name_of(path), f"is not read, because there is also {name_of(paths[0])}")
            for path in paths[1:]
        ]


def _entries(folder: Path) -> list[_Found]:
    """What lies in a folder, hidden things aside, in natural order."""
    try:
        with os.scandir(folder) as listed:
            inside = [_found(folder, one) for one in listed if not one.name.startswith(".")]
    except FileNotFoundError:
        raise DatasetError("there is no such folder", where=folder, fix="check the path") from None
    except NotADirectoryError:
        raise DatasetError("this is a file, not a folder", where=folder, fix="give the folder it lies in") from None
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DatasetError(what, where=folder, fix="check its access rights") from None
    return sorted(inside, key=lambda one: natural_key(one.name))


def _found(folder: Path, entry: os.DirEntry[str]) -> _Found:
    stem, dot, suffix = entry.name.rpartition(".")
    if not stem or not suffix:  # as pathlib has it
        stem, dot, suffix = entry.name, "", ""
    is_file = is_folder = is_link = False
    with contextlib.suppress(OSError):  # a link in a circle, or into a folder that is closed to us
        is_link = entry.is_symlink()
        is_file = entry.is_file()
        is_folder = not is_file and entry.is_dir()
    stem = stem if stem.isascii() else unicodedata.normalize("NFC", stem)
    return _Found(folder, entry.name, stem, (dot + suffix).lower(), is_file, is_folder, is_link)


def _files(entries: Iterable[_Found], folder: Path, layout: Layout) -> list[_Found]:
    """The regular files among them.

    A link may not lead out of the dataset: what it points to would be read, packed and sent along.
    """
    listed = list(entries)
    root = folder.resolve()
    # All of them lie in one folder, which is resolved once, and only links one by one.
    inside = not listed or listed[0].path.parent.resolve().is_relative_to(root)
    files = []
    for one in listed:
        if one.is_file and (one.path.resolve().is_relative_to(root) if one.is_link else inside):
            files.append(one)
        elif one.is_file and (one.is_picture or one.suffix in captions.SUFFIXES):
            what = "is left out: it is a link out of the folder; copy the file in"
            layout.problems.append(Problem(name_of(one.path), what, left_out=one.is_picture))
        elif one.is_link and not one.path.exists():
            what = "is left out: it is a link that leads nowhere"
            layout.problems.append(Problem(name_of(one.path), what, left_out=one.is_picture))
    return files


def _holds_pictures(path: Path) -> bool:
    try:
        return any(is_picture(inside) for inside in path.iterdir())
    except OSError:
        return False


def _child(entries: Iterable[_Found], name: str) -> Path | None:
    return next((one.path for one in entries if one.name.lower() == name), None)
