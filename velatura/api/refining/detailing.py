"""Finds in a picture painted in detail, one after another, each on the picture as it is by then."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura.api.painting.paint import Finished, Read, Ready, made_ready, painted, picture_file
from velatura.api.painting.repeating import pixels_hash
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import wanted
from velatura.bases import BaseFiles
from velatura.events import Event, Note, Progress
from velatura.generation import prompt as grammar
from velatura.generation.detail import SEPARATOR, Detail, prompt_at, prompts, skipped
from velatura.generation.finds import Find, Picking, masks, picked
from velatura.generation.parts import Inpaint

if TYPE_CHECKING:
    from PIL.Image import Image

    from velatura.family import Model
    from velatura.generation.record import UsedLora

SETTINGS = ("detector", "denoising", "exact_steps", "blur", "only_masked", "padding")
"""What the record has as the work has it."""

Detector = Callable[["Image"], Sequence[Find]]
"""What finds: a picture -> its finds, in pixels."""


def looked_for(image: Image, told: Detail, detector: Detector | None) -> list[Find]:
    """The finds that are painted, in order."""
    if told.finds is not None:
        return list(told.finds)
    found = [Find((left, top, right - 1, bottom - 1)) for left, top, right, bottom in told.boxes]
    if detector is not None:
        found += detector(image)
    return picked(found, image.size, told.picking)


def detailed(
    picture: Path,
    model: Model,
    files: BaseFiles,
    request: GenerateRequest,
    told: Detail,
    detector: Detector | None = None,
) -> Generator[Event, None, tuple[Image, bytes] | None]:
    """A picture with its finds painted in detail, and the file that it is to be; none where nothing was found.

    Args:
        picture: the file.
        model: the base, with its files.
        files: see `model`.
        request: as the picture was painted; its size is what finds are painted in.
        told: what is found, and how it is painted.
        detector: what finds.

    Raises:
        VelaturaError: the picture cannot be read, a prompt has no meaning, a LoRA does not fit.
    """
    from velatura.dataset.images import open_image
    from velatura.generation.inpaint import begin_with, patch
    from velatura.generation.record import infotext_of, parent_of

    image = open_image(picture)
    finds = looked_for(image, told, detector)
    shapes = masks(finds, image.size, told.picking)
    if not shapes:
        yield Note(f"nothing was found in {picture.name}, and it stays as it is")
        return None
    width, height = _size(model, image, request, told)
    request = replace(request, width=width, height=height, count=1, batch=1)
    read, seed = Read(), request.seed or 0
    (main,) = wanted(request, seed, request.variation_seed or 0)
    own = main.jobs[0]
    texts = prompts(told.prompt, own.prompt), prompts(told.negative, own.negative_prompt)
    each = [(prompt_at(texts[0], place), prompt_at(texts[1], place)) for place in range(len(shapes))]
    steps: list[tuple[int, Ready]] = []
    for place, (prompt, negative) in enumerate(each):
        if skipped(prompt):
            continue
        as_is = told.finds is not None or (prompt, negative) == (own.prompt, own.negative_prompt)
        asked = replace(request, prompt=prompt, negative=negative, seed=seed + place, styles=(), as_is=as_is)
        steps.append((place, (yield from made_ready(model, files, asked, wanted(asked, seed + place), read))))
    inpaint = Inpaint(
        b"", blur=told.blur, area="only masked" if told.only_masked else "whole picture", padding=told.padding
    )
    used: dict[str, UsedLora] = {}
    for number, (place, ready) in enumerate(steps):
        one = patch(image, shapes[place], inpaint, (width, height))
        ready = replace(
            ready,
            start=begin_with(model, one, denoising=told.denoising, exact_steps=told.exact_steps),
            patch=one,
            original=image,
            sampling=replace(
                ready.sampling, controls=tuple(net.of_part(image.size, one.part) for net in ready.sampling.controls)
            ),
        )
        used |= {lora.asked: lora for _, loras in ready.groups for lora in loras if lora.asked is not None}
        for event in painted(ready):
            if isinstance(event, Finished):
                image = event.image
            elif isinstance(event, Progress):
                yield replace(event, done=number * event.total + event.done, total=event.total * len(steps))
            else:
                yield event
    ready = yield from made_ready(model, files, request, [main], read)
    names = {asked: lora.name for asked, lora in used.items()}
    said = [tuple(grammar.rename_loras(text, names) for text in pair) for pair in each]
    joined = [SEPARATOR.join(texts) for texts in zip(*said, strict=True)]
    words = told.words(joined[0] if told.prompt else "", joined[1] if told.negative else "")
    infotext, record = infotext_of(
        model, own, ready.sampling, ready.groups[0][1], batch=1, files=files, words=words, also=list(used.values()),
    )  # fmt: skip
    record["refined"] = {
        "work": "detail",
        **{name: getattr(told, name) for name in SETTINGS},
        "picking": asdict(told.picking),
        "finds": [_written(find) for find in finds],
        "prompt": joined[0],
        "negative": joined[1],
        "loras": [{"name": lora.name, "sha256_tensors": lora.hash} for lora in used.values()],
    }
    record |= {"parent": parent_of(picture), "pixels": pixels_hash(image)}
    return image, picture_file(image, request, infotext, record)


def _size(model: Model, image: Image, request: GenerateRequest, told: Detail) -> tuple[int, int]:
    """What finds are painted in: as told, else the base's area in the picture's proportions."""
    from velatura.generation.sampling import nearest_side

    width, height = request.width, request.height
    if not told.only_masked and not (width or height):
        return nearest_side(model, image.width), nearest_side(model, image.height)
    side, shape = model.resolution, image.width / image.height
    width = width or nearest_side(model, round(height * shape if height else side * shape**0.5))
    return width, height or nearest_side(model, round(width / shape))


def _written(find: Find) -> dict[str, Any]:
    from velatura.generation.inpaint import mask_bytes

    shape = {} if find.mask is None else {"mask": base64.b64encode(mask_bytes(find.mask.convert("L"))).decode()}
    return {"box": list(find.box), "confidence": find.confidence, "label": find.label, **shape}


def as_recorded(told: Mapping[str, Any], names: Mapping[str, str]) -> Detail:
    """What a record says of the work, with LoRAs named as they are found here.

    Args:
        told: the record's "refined".
        names: LoRA as the record calls it -> as it is found.
    """
    from PIL import Image

    finds = tuple(
        Find(
            tuple(one["box"]),
            one["confidence"],
            one["label"],
            Image.open(io.BytesIO(base64.b64decode(one["mask"]))).convert("L") if "mask" in one else None,
        )
        for one in told["finds"]
    )
    picking = {**told["picking"], "labels": tuple(told["picking"]["labels"])}
    return Detail(
        picking=Picking(**picking),
        prompt=grammar.rename_loras(told["prompt"], names),
        negative=told["negative"],
        finds=finds,
        **{name: told[name] for name in SETTINGS},
    )
