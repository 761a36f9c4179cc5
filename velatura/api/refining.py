"""Refining pictures: a part painted anew, finds in detail, the whole larger; each says what it was made from.

What a picture says of itself is recalled, so that it is painted on as it was painted. The result is written beside it
and never over it. Its record holds the picture's name, hash and own record: a chain back to the one from noise.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from velatura.api.painting import Finished, check, drawn_unless, free_name, made_ready, opened, painted
from velatura.api.recalling import recalled
from velatura.api.repeating import Changes
from velatura.api.request import FromPicture, GenerateRequest
from velatura.api.wanted import wanted
from velatura.bases import BaseFiles
from velatura.errors import SettingsError
from velatura.events import Done, Event, Note, Preview
from velatura.files import make_folder, write_bytes
from velatura.generation.parts import Inpaint

if TYPE_CHECKING:
    from velatura.family import Model


@dataclass(frozen=True)
class RefineRequest:
    """What `velatura refine` is told."""

    pictures: tuple[Path, ...]
    work: Inpaint
    """What is done to each of them."""
    denoising: float | None = None
    """How much is painted anew, 0 to 1; none: what suits the work."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    changes: Changes = field(default_factory=Changes)
    """What is to be otherwise than the pictures say: prompt, base, seed, sampler..."""
    out: Path | None = None
    """Folder for the results; none: that of each picture."""
    project: Path | None = None


DENOISING = {Inpaint: 0.75}
"""Work -> how much is painted anew where it is not said."""


def refine(request: RefineRequest) -> Iterator[Event]:
    """Refine pictures one after another; each result is written whole, with its record, or not at all.

    Raises:
        VelaturaError: a picture does not say how it was made, or it cannot be refined so; nothing is painted then.
    """
    from velatura.dataset.images import picture_size
    from velatura.generation.inpaint import mask_of

    if not request.pictures:
        raise SettingsError("there is nothing to refine", fix="name a picture")
    told = [_told(request, picture) for picture in request.pictures]
    for picture, one in zip(request.pictures, told, strict=True):
        check(one)
        mask_of(request.work, picture_size(picture))
    files: list[str] = []
    shelf = Shelf()
    for picture, one in zip(request.pictures, told, strict=True):
        for remark in one.remarks:
            yield Note(remark)
        folder = make_folder(request.out or picture.parent)
        files += yield from _inpainted(picture, one, shelf, folder)
    yield Done(len(files), {"folder": str(request.out or request.pictures[0].parent), "files": files})


def _told(request: RefineRequest, picture: Path) -> GenerateRequest:
    """What painting is told for a picture."""
    told = recalled(picture, project=request.project, changes=request.changes)
    share = DENOISING[type(request.work)] if request.denoising is None else request.denoising
    begin = FromPicture(picture, share, exact_steps=request.exact_steps, inpaint=request.work)
    return replace(told, begin=begin, seed=drawn_unless(told.seed))


@dataclass
class Shelf:
    """The base that was loaded last."""

    request: GenerateRequest | None = None
    model: Model | None = None
    files: BaseFiles | None = None

    def base(self, request: GenerateRequest) -> Generator[Event, None, tuple[Model, BaseFiles]]:
        """The base of a request; loaded anew only where it is another."""
        if self.model is None or self.files is None or self.request is None or _other(self.request, request):
            self.model = self.files = None
            self.model, self.files = yield from opened(request)
            self.request = request
        return self.model, self.files


def _other(one: GenerateRequest, request: GenerateRequest) -> bool:
    names = ("base", "vae", "text_encoders", "base_sha256", "strict", "memory", "threads")
    return any(getattr(one, name) != getattr(request, name) for name in names)


def _inpainted(
    picture: Path, request: GenerateRequest, shelf: Shelf, folder: Path
) -> Generator[Event, None, Sequence[str]]:
    """Paint a part of a picture anew, once for each seed; the names of the results."""
    model, files = yield from shelf.base(request)
    groups = wanted(request, request.seed or 0, drawn_unless(request.variation_seed))
    ready = yield from made_ready(model, files, request, groups)
    names = []
    for event in painted(ready):
        if not isinstance(event, Finished):
            yield event
            continue
        names.append(written(folder, f"{picture.stem}-inpaint", event.data, request.form))
        yield Preview(len(names), str(folder / names[-1]))
    return names


def written(folder: Path, stem: str, data: bytes, form: str) -> str:
    """Write a result under a name that is not taken; the name."""
    name = free_name(folder, stem, form)
    write_bytes(folder / name, data)
    return name
