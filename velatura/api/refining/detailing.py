"""Finds in a picture painted in detail, one after another, each on the picture as it is by then."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from velatura.api.painting.paint import Finished, Read, Ready, made_ready, painted, picture_file
from velatura.api.painting.repeating import pixels_hash
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import wanted
from velatura.api.refining.detail_record import written
from velatura.bases import BaseFiles
from velatura.events import Event, Note, Progress
from velatura.generation import prompt as grammar
from velatura.generation.detail import SEPARATOR, Detail, prompt_at, prompts, skipped
from velatura.generation.finds import Find, masks, picked
from velatura.generation.parts import Inpaint

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.family import Model
    from velatura.generation.record import UsedLora
    from velatura.generation.sampling import Job

OTHERWISE = 0.1
"""A find's own size is taken where a side differs by more than this share from the usual one, as in ADetailer."""

Detector = Callable[["Image"], Sequence[Find]]
"""What finds: a picture -> its finds, in pixels."""


def looked_for(image: Image, told: Detail, detector: Detector | None) -> list[Find]:
    """The finds that are painted, in order; boxes that were drawn all count."""
    if told.finds is not None:
        return list(told.finds)
    drawn = [Find((left, top, right - 1, bottom - 1)) for left, top, right, bottom in told.boxes]
    found = detector(image) if detector is not None else ()
    return picked(found, image.size, told.picking, drawn=drawn)


def detailed(
    picture: Path,
    model: Model,
    files: BaseFiles,
    request: GenerateRequest,
    told: Detail,
    detectors: Sequence[Detector | None],
) -> Generator[Event, None, tuple[Image, bytes] | None]:
    """A picture with its finds painted in detail, and the file that it is to be; none where nothing was found.

    Args:
        picture: the file.
        model: the base, with its files.
        files: see `model`.
        request: as the picture was painted; its size is what finds are painted in.
        told: what is found, and how it is painted.
        detectors: what finds, for each of `told.passes`.

    Raises:
        VelaturaError: the picture cannot be read, a prompt has no meaning, a LoRA does not fit.
    """
    from velatura.dataset.images import open_image
    from velatura.generation.record import infotext_of, parent_of

    image = open_image(picture)
    request = replace(request, count=1, batch=1)
    (main,) = wanted(request, request.seed or 0, request.variation_seed or 0)
    desk = _Desk(model, files, request, main.jobs[0])
    width, height = _size(desk, image, told)
    ready = yield from made_ready(model, files, replace(request, width=width, height=height), [main], desk.read)
    for one in told.passes:
        for prompt in prompts(one.prompt, desk.own.prompt):
            if not skipped(prompt):  # what cannot be painted ends here
                yield from desk.ready(one, prompt, desk.own.negative_prompt, _size(desk, image, one))
    done: list[_Pass] = []
    for place, (one, detector) in enumerate(zip(told.passes, detectors, strict=True), start=1):
        finds = looked_for(image, one, detector)
        made = _Pass(one, finds)
        if not (shapes := masks(finds, image.size, one.picking)) and len(told.passes) > 1:
            yield Note(f"{one.detector} found nothing in {picture.name}")
        for event in _painted(made, image, shapes, desk):
            if isinstance(event, Progress) and len(told.passes) > 1:
                event = replace(event, stage=f"{event.stage} what {one.detector} found, {place} of {len(told.passes)}")
            yield event
        image = made.image or image
        done.append(made)
    if not any(made.image for made in done):
        why = "every find is skipped" if any(made.prompts for made in done) else "nothing was found"
        yield Note(f"{why} in {picture.name}, and it stays as it is")
        return None
    used = {lora.asked: lora for made in done for lora in made.loras}
    names = {asked: lora.name for asked, lora in used.items() if asked is not None}
    words: dict[str, object] = {}
    for place, made in enumerate(done):
        prompt, negative = made.said(names)
        words |= made.told.words(prompt if made.told.prompt else "", negative if made.told.negative else "", place)
    infotext, record = infotext_of(
        model,
        desk.own,
        ready.sampling,
        ready.groups[0][1],
        batch=1,
        files=files,
        words=words,
        also=list(used.values()),
    )
    record["refined"] = {
        "work": "detail",
        "passes": [written(made.told, made.finds, made.said(names)) for made in done],
        "loras": [{"name": lora.name, "sha256_tensors": lora.hash} for lora in used.values()],
    }
    record |= {"parent": parent_of(picture), "pixels": pixels_hash(image)}
    return image, picture_file(image, request, infotext, record)


@dataclass(frozen=True)
class _Desk:
    """What all finds of a picture share."""

    model: Model
    files: BaseFiles
    request: GenerateRequest
    """As the picture was painted."""
    own: Job
    """The picture's."""
    read: Read = field(default_factory=Read)

    def ready(
        self, told: Detail, prompt: str, negative: str, size: tuple[int, int], place: int = 0
    ) -> Generator[Event, None, Ready]:
        """All that painting a find needs, but for what is there at first.

        Raises:
            VelaturaError: a prompt has no meaning, a LoRA does not fit.
        """
        as_is = told.finds is not None or (prompt, negative) == (self.own.prompt, self.own.negative_prompt)
        named = ("steps", "cfg", "sampler", "scheduler")
        sampled = {name: own for name in named if (own := getattr(told, name)) is not None}
        seed = (self.request.seed or 0) + place
        asked = replace(
            self.request,
            prompt=prompt,
            negative=negative,
            seed=seed,
            styles=(),
            as_is=as_is,
            width=size[0],
            height=size[1],
            **sampled,
        )
        return (yield from made_ready(self.model, self.files, asked, wanted(asked, seed), self.read))


@dataclass
class _Pass:
    """What was looked for at once, and what became of it."""

    told: Detail
    finds: Sequence[Find]
    prompts: list[tuple[str, str]] = field(default_factory=list)
    """Of each find, and what it keeps away from, with all choices made."""
    loras: list[UsedLora] = field(default_factory=list)
    image: Image | None = None
    """The picture after it; none: nothing was painted."""

    def said(self, names: Mapping[str, str]) -> list[str]:
        """The prompts of all finds, and what they keep away from, with LoRAs called otherwise."""
        both = zip(*self.prompts, strict=True) if self.prompts else ((), ())
        return [grammar.rename_loras(SEPARATOR.join(texts), names) for texts in both]


def _painted(made: _Pass, image: Image, shapes: Sequence[Image], desk: _Desk) -> Iterator[Event]:
    """Paint finds one after another; the pass is told what became of them."""
    from velatura.generation.inpaint import begin_with, patch

    told = made.told
    texts = prompts(told.prompt, desk.own.prompt), prompts(told.negative, desk.own.negative_prompt)
    area = "only masked" if told.only_masked else "whole picture"
    inpaint = Inpaint(b"", blur=told.blur, area=area, padding=told.padding)
    for place, shape in enumerate(shapes):
        prompt, negative = (prompt_at(one, place) for one in texts)
        if skipped(prompt):
            made.prompts.append((prompt, negative))
            continue
        size = _size(desk, image, told, shape)
        ready = yield from desk.ready(told, prompt, negative, size, place)
        job = ready.groups[0][0].jobs[0]
        made.prompts.append((job.prompt, job.negative_prompt))
        made.loras += [lora for _, loras in ready.groups for lora in loras if lora.asked is not None]
        one = patch(image, shape, inpaint, size)
        share = told.share(_area(shape) / (image.width * image.height))
        controls = tuple(net.of_part(image.size, one.part) for net in ready.sampling.controls)
        ready = replace(
            ready,
            start=begin_with(desk.model, one, denoising=share, exact_steps=told.exact_steps),
            patch=one,
            original=image,
            sampling=replace(ready.sampling, controls=controls),
        )
        for event in painted(ready):
            if isinstance(event, Finished):
                made.image = image = event.image
            elif isinstance(event, Progress):
                yield replace(event, done=place * event.total + event.done, total=event.total * len(shapes))
            else:
                yield event


def _area(shape: Image) -> int:
    """Pixels of the box around a mask."""
    left, top, right, bottom = shape.getbbox() or (0, 0, 0, 0)
    return (right - left) * (bottom - top)


def _size(desk: _Desk, image: Image, told: Detail, shape: Image | None = None) -> tuple[int, int]:
    """What finds are painted in: as told, else the base's area in the picture's proportions, or in the find's own."""
    from velatura.generation.sampling import covering_size, nearest_side

    model, request = desk.model, desk.request
    width, height = told.width or request.width, told.height or request.height
    if not told.only_masked and not (width or height):
        return nearest_side(model, image.width), nearest_side(model, image.height)
    side, proportions = model.resolution, image.width / image.height
    width = width or nearest_side(model, round(height * proportions if height else side * proportions**0.5))
    height = height or nearest_side(model, round(width / proportions))
    if not told.match or shape is None:
        return width, height
    left, top, right, bottom = shape.getbbox() or (0, 0, 1, 1)
    longer, proportions = max(width, height), (right - left) / (bottom - top)
    own = covering_size(model, longer * min(proportions, 1), longer / max(proportions, 1))
    differs = abs(own[0] - width) > OTHERWISE * width or abs(own[1] - height) > OTHERWISE * height
    return own if differs else (width, height)
