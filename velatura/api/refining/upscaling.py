"""A picture made larger and painted over tile by tile, in memory bounded by a tile; cut off, it goes on with the next.

What is done lies in a folder beside the result, whose name tells what it is of: the enlarged picture, and each tile as
it was painted. The same command finds it, lays these tiles again, and paints the others; the result is the same bit for
bit.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura import settings
from velatura.api.painting.paint import Ready, made_ready, picture_file
from velatura.api.painting.repeating import pixels_hash
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import wanted
from velatura.bases import BaseFiles
from velatura.errors import FileProblem, SettingsError
from velatura.events import Event, Note, Progress
from velatura.files import disk_problems, make_folder, write_bytes
from velatura.generation.carriers import read
from velatura.generation.enlarge import LARGEST, USUAL, Enlarge, factors, target

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.adapters.switch import Switch
    from velatura.family import Model
    from velatura.generation.inpaint import Patch
    from velatura.generation.tiles import Piece
    from velatura.generation.upscalers import UpscaleModel

ENLARGED = "enlarged.png"


def upscaled(
    picture: Path,
    model: Model,
    files: BaseFiles,
    request: GenerateRequest,
    told: Enlarge,
    folder: Path,
    write: Callable[[bytes], str],
) -> Generator[Event, None, str]:
    """Make a picture larger, and write it; its name.

    Args:
        picture: the file.
        model: the base, with its files.
        files: see `model`.
        request: as the picture was painted.
        told: how large, and how it is painted over.
        folder: where the result goes, and until then what is done.
        write: puts the result there.

    Raises:
        VelaturaError: the picture cannot be read, an upscaler is not there, a LoRA does not fit.
        FileProblem: the disk refuses.
    """
    from velatura.dataset.images import open_image
    from velatura.generation.record import infotext_of, parent_of
    from velatura.generation.sampling import covering_size
    from velatura.generation.tiles import pieces

    image = open_image(picture)
    size = target(image.size, told)
    tiling = told.tiling(model.resolution)
    request = replace(request, width=None, height=None, count=1, batch=1)
    (group,) = wanted(request, request.seed or 0, request.variation_seed or 0)
    painted = covering_size(model, *pieces(size, tiling)[0].painted)
    ready = yield from made_ready(model, files, replace(request, width=painted[0], height=painted[1]), [group])
    model_file = None if told.upscaler in USUAL else settings.find_upscaler(told.upscaler)
    name = told.upscaler if model_file is None else model_file.stem
    words = told.words(tiling.tile, name)
    infotext, record = infotext_of(
        model, group.jobs[0], ready.sampling, ready.groups[0][1], batch=1, files=files, words=words
    )
    digest = {} if model_file is None else {"upscaler_sha256": settings.file_hash(model_file)}
    work = {**asdict(told), "upscaler": name, "width": size[0], "height": size[1], "tile": list(tiling.tile)}
    record["refined"] = {"work": "upscale", **work, **digest}
    record["parent"] = parent_of(picture)
    plan = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    if (there := _there(folder, picture.stem, request.form, plan)) is not None:
        yield Note(f"{there} is there already, and is not made again")
        return there
    done = make_folder(folder / f".{picture.stem}-{plan}.unfinished")
    larger = yield from _enlarged(image, size, told, model_file, model.policy.device, done / ENLARGED)
    del image
    yield from _painted(larger, ready, told, pieces(size, tiling), done)
    record |= {"pixels": pixels_hash(larger), "plan": plan}
    written = write(picture_file(larger, request, infotext, record))
    shutil.rmtree(done, ignore_errors=True)
    return written


def _there(folder: Path, stem: str, form: str, plan: str) -> str | None:
    """The name of a result of the same plan."""
    for path in sorted(folder.glob(f"{stem}-upscale*.{form}")):
        with contextlib.suppress(FileProblem):
            if (read(path).record or {}).get("plan") == plan:
                return path.name
    return None


def _enlarged(
    image: Image, size: tuple[int, int], told: Enlarge, model_file: Path | None, device: str, kept: Path
) -> Generator[Event, None, Image]:
    """The picture at its size, before it is painted over; kept, so that it is not made again."""
    from PIL import Image as Images

    from velatura.dataset.images import open_image
    from velatura.generation import upscale, upscalers

    if kept.is_file():
        return open_image(kept, max_pixels=LARGEST)
    larger = image
    steps = [] if told.upscaler == "None" else factors(image.size, size)
    if model_file is None:
        for factor in steps:
            larger = upscale.scaled(larger, factor, upscale.resized_by(told.upscaler, factor))
    else:
        model = upscalers.load(model_file, device)
        for factor in steps:
            larger = yield from _by_model(larger, factor, model)
    if larger.size != size:
        larger = larger.resize(size, Images.Resampling.LANCZOS)
    _keep(larger, kept)
    return larger


def _by_model(image: Image, scale: int, model: UpscaleModel) -> Generator[Event, None, Image]:
    """A picture so many times as large: `upscale.scaled`, telling how far it is."""
    from velatura.generation import upscale

    steps = [image]
    for _ in range(3):  # it asks no more often
        if min(steps[-1].width / image.width, steps[-1].height / image.height) >= scale:
            break
        for event in model.steps(steps[-1]):
            if isinstance(event, tuple):
                yield Progress("enlarging", *event)
            else:
                steps.append(event)
    made = iter(steps[1:])
    return upscale.scaled(image, scale, lambda _: next(made))


def _painted(
    whole: Image, ready: Ready, told: Enlarge, pieces: list[Piece], done: Path
) -> Generator[Event, None, None]:
    """Paint the picture over, piece by piece; those that are kept are laid as they are."""
    from PIL import Image as Images

    from velatura.generation.inpaint import cut_out
    from velatura.generation.sampling import covering_size
    from velatura.generation.tiles import mask_of
    from velatura.training.samples import merged

    model, (_, loras) = ready.model, ready.groups[0]
    kept = [done / f"{number:05d}.png" for number in range(len(pieces))]
    if count := sum(path.is_file() for path in kept):
        yield Note(f"{count} of {len(pieces)} tiles are painted already, and it goes on with the others")
    with merged(model, [lora.applied for lora in loras], apart=ready.sampling.apart) as adapters:
        for number, (piece, path) in enumerate(zip(pieces, kept, strict=True)):
            window, mask = mask_of(piece, whole.size)
            if mask.getbbox() is None:
                continue
            painted_in = covering_size(model, *piece.painted)
            patch = cut_out(whole, mask, padding=piece.padding, painted=painted_in, at=(window.left, window.top))
            if path.is_file():
                with disk_problems(path), Images.open(path) as opened:
                    painted = opened.convert("RGB")
            else:
                share = told.seam_denoising if piece.seam else told.denoising
                controls = tuple(net.of_part(whole.size, patch.part) for net in ready.sampling.controls)
                here = replace(ready, sampling=replace(ready.sampling, controls=controls))
                painted = yield from _tile(here, patch, share, told.exact_steps, adapters, number, len(pieces))
                _keep(painted, path)
            patch.lay(whole, painted)


def _tile(
    ready: Ready, patch: Patch, denoising: float, exact_steps: bool, adapters: Switch, number: int, count: int
) -> Generator[Event, None, Image]:
    """Paint one piece."""
    from velatura.generation.generate import Painted, generate
    from velatura.generation.inpaint import begin_with

    start = begin_with(ready.model, patch, denoising=denoising, exact_steps=exact_steps)
    sampling = replace(ready.sampling, width=patch.image.width, height=patch.image.height)
    image = patch.image
    for event in generate(
        ready.model, ready.groups[0][0].jobs, sampling, start=start, embeddings=ready.embeddings, adapters=adapters
    ):
        if isinstance(event, Painted):
            image = event.image
        elif isinstance(event, Progress):
            yield Progress(f"painting {count} tiles", number * event.total + event.done, count * event.total)
        elif isinstance(event, Note):
            yield event
    return image


def _keep(image: Image, path: Path) -> None:
    """Write a picture that loses nothing, quickly, whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    write_bytes(path, buffer.getvalue())


def as_recorded(told: Mapping[str, Any]) -> Enlarge:
    """What a record says of the work.

    Raises:
        SettingsError: its upscale model is not here, or another one.
    """
    names = set(Enlarge.__dataclass_fields__)
    work = Enlarge(**{**{name: value for name, value in told.items() if name in names}, "tile": tuple(told["tile"])})
    if work.upscaler not in USUAL:
        path = settings.find_upscaler(work.upscaler)
        if settings.file_hash(path) != told["upscaler_sha256"]:
            raise SettingsError(f"the upscaler {work.upscaler} here is another than the picture's", where=path)
    return work
