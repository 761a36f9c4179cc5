"""Pictures made what a set needs: upright 8-bit sRGB, resized, cropped, mirrored; masks follow.

Originals are kept, and all of it can be undone. Interrupted, it goes on with the next picture when the same
is asked for again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from velatura.dataset import authors, choice, faces, images, layout, masks, pool, rights, saliency
from velatura.dataset.buckets import Size
from velatura.dataset.colour import WHITE
from velatura.dataset.framing import Frame, Target, frame
from velatura.dataset.journal import Edit, edit
from velatura.dataset.layout import Entry
from velatura.dataset.scan import chosen
from velatura.errors import DatasetError
from velatura.events import Done, Event, Note, Progress
from velatura.files import disk_problems

Format = Literal["keep", "png", "jpg", "webp"]

SUFFIXES = {"png": ".png", "jpg": ".jpg", "webp": ".webp"}
ENLARGED = 1.01
"""Times from which a picture is said to be enlarged."""
_KEPT = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Formats that stay; everything else becomes PNG."""


@dataclass(frozen=True)
class Options:
    """What pictures become."""

    target: Target = field(default_factory=Target)
    format: Format = "keep"
    quality: int = 95
    """Of JPEG and WebP, 1 to 100."""
    background: tuple[int, int, int] = WHITE
    """What shows through where a picture is transparent."""
    alpha_as_mask: bool = False
    """Keep transparency as the picture's mask."""
    face_model: Path | None = None
    strip: bool = False
    """Also write pictures anew that say more than their pixels: camera, place, owner."""
    enlarger: Callable[[Image.Image], Image.Image] | None = None
    """What makes small pictures larger before they are brought to size, by whatever factor; None: Lanczos alone."""


@dataclass(frozen=True)
class Job:
    """One picture for a worker: read from `entry`, written beside, for the edit to put into place."""

    entry: Entry
    options: Options
    into: Path
    """Without its suffix."""
    mask_into: Path


@dataclass(frozen=True)
class Made:
    """What a worker made of one picture; `suffix` is None where it stays as it is."""

    suffix: str | None = None
    mask: bool = False
    scale: float = 1.0
    notes: tuple[str, ...] = ()
    error: str | None = None


def reframe(
    dataset: Path, options: Options, *, told: str, names: Sequence[str] = (), workers: int | None = 1
) -> Iterator[Event]:
    """Make every chosen picture, or those named, what `options` say.

    Yields:
        Progress, a Note for each picture that stays as it is because something is wrong with it, and Done.

    Raises:
        DatasetError: a name that is not there; another edit was interrupted.
        FileProblem: the disk refuses; the dataset is as it was.
    """
    entries = pick_named(chosen(dataset), names, dataset)
    yield from reframe_each(dataset, {entry.name: options for entry in entries}, told=told, workers=workers)


def reframe_each(
    dataset: Path, options: Mapping[str, Options], *, told: str, workers: int | None = 1
) -> Iterator[Event]:
    """The same with options of its own for each picture, by its name."""
    found = layout.find(dataset)
    if found.kind == "imagefolder" and any(one.format != "keep" for one in options.values()):
        what = "the names of these pictures stand in metadata.jsonl, so their format is kept"
        raise DatasetError(what, where=dataset, fix="leave --format out, or `velatura dataset add` them to a plain set")
    entries = [entry for entry in found.entries if entry.name in options]
    changed, enlarged = 0, list[str]()
    with edit(dataset, told, resumable=True) as changes:
        left = [entry for entry in entries if entry.name not in changes.settled]
        begun = len(changes.settled)
        jobs = [_job(entry, options[entry.name], changes) for entry in left]
        if any(job.options.enlarger is not None for job in jobs):
            workers = 1  # a model takes all cores itself, or a graphics card
        results = pool.over(work, jobs, count=len(jobs), workers=workers)
        for place, (entry, made) in enumerate(zip(left, results, strict=True), start=begun + 1):
            new = entry.name
            yield from (Note(f"{entry.name} {note}") for note in made.notes)
            if made.error is not None:
                yield Note(f"{entry.name} stays as it is: {made.error}")
            elif made.suffix is not None:
                new = _put(entry, made, dataset, changes)
                changed += 1
            if made.scale > ENLARGED:
                enlarged.append(f"{new} {made.scale:.3g} times")
            changes.settle(entry.name, new)
            yield Progress("pictures", place, begun + len(left))
        follow(dataset, {old: new for old, new in changes.settled.items() if old != new}, changes)
    summary = {"pictures": begun + len(left), "changed": changed, "done before": begun or None, "enlarged": enlarged}
    yield Done(0, summary)


def pick_named(entries: Sequence[Entry], names: Sequence[str], dataset: Path) -> list[Entry]:
    """The entries of these names, with or without their ending, `./` before them or not; all where none is named.

    Raises:
        DatasetError: there is no such picture.
    """
    if not names:
        return list(entries)
    by_name = {key: entry for entry in entries for key in (entry.name.rpartition(".")[0], entry.name)}
    names = [name.removeprefix("./") for name in names]
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DatasetError(f"there is no picture {', '.join(missing)}", where=dataset, fix="check the names")
    return list(dict.fromkeys(by_name[name] for name in names))


def follow(dataset: Path, renamed: dict[str, str], changes: Edit) -> None:
    """What is noted of pictures by name goes with their new names."""
    if not renamed:
        return
    made = choice.load(dataset)
    if made.decided and made.renamed(renamed) != made:
        changes.write_text(choice.FILE, made.renamed(renamed).to_json())
    written = authors.load(dataset)
    if written.noted and written.renamed(renamed) != written:
        changes.write_text(authors.FILE, written.renamed(renamed).to_json())
    record = rights.load(dataset)
    if record.pictures and record.renamed(renamed) != record:
        changes.write_text(rights.FILE, record.renamed(renamed).to_toml())


def work(job: Job) -> Made:
    """Read, frame and write one picture, in any process.

    What is wrong with the picture is told of it. A full disk, or a part that is not installed, is raised: it is no
    fault of any picture, and the others would fare no better.
    """
    try:
        return _made(job)
    except DatasetError as error:
        return Made(error=error.what if error.fix is None else f"{error.what}; {error.fix}")
    except (ValueError, MemoryError) as error:
        return Made(error=str(error) or "there is not enough memory for it")


def _made(job: Job) -> Made:
    path, options = job.entry.path, job.options
    size, header = images.picture_size(path), images.header(path)
    at = frame(size, options.target)
    alpha = masks.from_alpha(path) if header.transparent else None
    kept = _KEPT.get(header.format, "png") if options.format == "keep" else options.format
    plain = header.mode in ("RGB", "L") and header.orientation == 1 and header.frames == 1
    plain = plain and alpha is None and (not header.profile or "srgb" in header.profile.lower())
    same_format = _KEPT.get(header.format) == kept and path.suffix.lower() in (SUFFIXES[kept], ".jpeg")
    if plain and same_format and at.is_all_of(size) and not (options.strip and header.told):
        return Made()

    image = images.open_image(path, background=options.background, at_least=_needed(size, at))
    if options.target.cover is not None and options.target.focus != "centre":
        at = frame(size, options.target, focus=_focus(image, size, at, options))
    scale = at.size[0] / (at.box[2] - at.box[0])
    if options.enlarger is not None and scale > ENLARGED:
        image = options.enlarger(image)
    result = cut(image, at, size)
    suffix = SUFFIXES[kept]
    _save(result, job.into.with_name(job.into.name + suffix), kept, options.quality)
    mask = _mask(job, size, alpha if options.alpha_as_mask else None)
    if mask is not None:
        _save(cut(mask, at, size), job.mask_into, "png", 0)
    notes = (f"holds {header.frames} frames; the first is taken",) if header.frames > 1 else ()
    return Made(suffix, mask is not None, scale, notes)


def cut(image: Image.Image, at: Frame, size: Size) -> Image.Image:
    """The part of a picture at its new size (Lanczos). The picture may be a smaller version of `size`."""
    x, y = image.width / size[0], image.height / size[1]
    left, top, right, bottom = at.box
    box = left * x, top * y, min(right * x, image.width), min(bottom * y, image.height)
    whole = (round(box[2] - box[0]), round(box[3] - box[1])) == at.size and all(side == int(side) for side in box)
    result = image.crop(tuple(int(side) for side in box)) if whole else None  # type: ignore[arg-type]
    if result is None:
        result = image.resize(at.size, Image.Resampling.LANCZOS, box=box)
    return result.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if at.mirror else result


def _needed(size: Size, at: Frame) -> Size:
    """How large the whole picture must be decoded so that its part is no smaller than its new size."""
    left, top, right, bottom = at.box
    return -(-size[0] * at.size[0] // max(1, int(right - left))), -(-size[1] * at.size[1] // max(1, int(bottom - top)))


def _focus(image: Image.Image, size: Size, at: Frame, options: Options) -> tuple[float, float] | None:
    """The point to crop around, in pixels of the picture."""
    x, y = size[0] / image.width, size[1] / image.height
    if options.target.focus == "face":
        found = faces.find_faces(image, model=options.face_model)
        if found:
            left, top, right, bottom = found[0]
            return (left + right) / 2 * x, (top + bottom) / 2 * y
    box = options.target.box or (0, 0, *size)
    within = (box[0] / x, box[1] / y, box[2] / x, box[3] / y)
    crop = round((at.box[2] - at.box[0]) / x), round((at.box[3] - at.box[1]) / y)
    across, down = saliency.focus_of(image, crop, within=within)
    return across * x, down * y


def _mask(job: Job, size: Size, alpha: Image.Image | None) -> Image.Image | None:
    return alpha if job.entry.mask is None else masks.read(job.entry.mask, size)


def _save(image: Image.Image, path: Path, kind: str, quality: int) -> None:
    with disk_problems(path), path.open("wb") as file:
        if kind == "png":
            image.save(file, "PNG", compress_level=4)
        elif kind == "jpg":
            image.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        else:
            image.save(file, "WEBP", quality=quality)
        file.flush()
        os.fsync(file.fileno())


def _job(entry: Entry, options: Options, changes: Edit) -> Job:
    relative = entry.path.relative_to(changes.dataset)
    stage = changes.stage(relative.as_posix())
    return Job(entry, options, stage.with_suffix(""), changes.stage(masks.name_for(entry.name)))


def _put(entry: Entry, made: Made, dataset: Path, changes: Edit) -> str:
    """Bring a made picture, and its mask, into place; the picture's new name."""
    old = entry.path.relative_to(dataset)
    new = old.with_name(f"{old.stem}{made.suffix}")
    if old.suffix.lower() == ".jpeg" and made.suffix == ".jpg":
        _restage(changes, new, old)
        new = old
    elif new.as_posix() != old.as_posix() and (dataset / new).exists() and not (dataset / new).samefile(entry.path):
        taken = new
        new = old.with_name(f"{old.stem}-{old.suffix[1:].lower()}{made.suffix}")
        _restage(changes, taken, new)
    if new.name != old.name:
        changes.remove(old.as_posix())
    changes.put(new.as_posix())
    if made.mask:
        changes.put(masks.name_for(entry.name))
        if entry.mask is not None and entry.mask.parent == entry.path.parent:  # OneTrainer's, beside the picture
            changes.remove(entry.mask.relative_to(dataset).as_posix())
    return entry.name.removesuffix(old.name) + new.name


def _restage(changes: Edit, old: Path, new: Path) -> None:
    with disk_problems(changes.folder):
        changes.stage(old.as_posix()).replace(changes.stage(new.as_posix()))
