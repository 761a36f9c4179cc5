"""Making masks: from transparency, from a box, from faces, from a model that finds the subject."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from velatura.dataset import faces, images, layout, masks
from velatura.dataset.framing import Box
from velatura.dataset.journal import edit
from velatura.dataset.layout import Entry
from velatura.dataset.reframing import pick_named
from velatura.dataset.scan import chosen
from velatura.errors import DatasetError, MissingExtra, VelaturaError, counted

Maker = Callable[[Path], Image.Image | None]
"""A picture's mask, at the upright picture's size; None where there is nothing to mask."""

_IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
"""Means and spreads of the pictures that U2-Net, BiRefNet and most others are trained on."""
_HALVES = np.array([[0.5, 0.5, 0.5], [1, 1, 1]], np.float32)
"""What IS-Net takes off instead, and RMBG 1.4, which is of its kind."""
_LIKE_ISNET = re.compile(r"is-?net|rmbg-?1", re.IGNORECASE)


def make(
    dataset: Path, maker: Maker, *, told: str, names: Sequence[str] = (), replace: bool = False
) -> tuple[dict[str, float], dict[str, str]]:
    """Write masks for the chosen pictures, or those named.

    Args:
        dataset: the folder.
        maker: one of this module's.
        told: for the history of edits.
        names: of pictures.
        replace: also where there is a mask.

    Returns:
        Picture -> its mask's mean weight, and picture -> why it got none.
    """
    entries = pick_named(chosen(dataset), names, dataset)
    weights: dict[str, float] = {}
    without: dict[str, str] = {}
    with edit(dataset, told) as changes:
        for entry in entries:
            if entry.mask is not None and not replace:
                without[entry.name] = "has a mask already"
                continue
            try:
                mask = maker(entry.path)
            except DatasetError as error:
                without[entry.name] = error.what
                continue
            if mask is None:
                without[entry.name] = "shows nothing to mask"
                continue
            changes.write(masks.name_for(entry.name), masks.png(mask))
            weights[entry.name] = masks.coverage(mask)
    return weights, without


def remove(dataset: Path, *, names: Sequence[str] = ()) -> list[str]:
    """Take masks away; of which pictures."""
    entries = pick_named(layout.find(dataset).entries, names, dataset)
    masked: list[Entry] = [entry for entry in entries if entry.mask is not None]
    with edit(dataset, f"remove {counted(len(masked), 'mask')}") as changes:
        for entry in masked:
            assert entry.mask is not None
            changes.remove(entry.mask.relative_to(dataset).as_posix())
    return [entry.name for entry in masked]


def alpha() -> Maker:
    """Masks from the pictures' own transparency."""
    return masks.from_alpha


def box(part: Box, *, outside: int = 0) -> Maker:
    """The same box in every picture; sides from 0 to 1 are shares of its width and height.

    Args:
        part: left, top, right, bottom.
        outside: grey around it, 0 to 255.
    """

    def made(path: Path) -> Image.Image:
        width, height = images.picture_size(path)
        x, y = (width, height) if max(part) <= 1 else (1, 1)
        left, top, right, bottom = part[0] * x, part[1] * y, part[2] * x, part[3] * y
        if min(right, width) - max(left, 0) < 1 or min(bottom, height) - max(top, 0) < 1:
            raise DatasetError(f"is {width} x {height} pixels, of which the box holds none")
        return masks.from_boxes((width, height), [(left, top, right, bottom)], outside=outside)

    return made


def face(*, model: Path | None = None, outside: int = 0, margin: float = 0.25) -> Maker:
    """Faces with some of what is around them.

    Args:
        model: YuNet's ONNX file; None uses OpenCV's own cascades.
        outside: grey elsewhere, 0 to 255.
        margin: added on each side, as a share of the face.
    """
    faces.opencv()

    def made(path: Path) -> Image.Image | None:
        image = images.open_image(path)
        wider = []
        for left, top, right, bottom in faces.find_faces(image, model=model):
            x, y = (right - left) * margin, (bottom - top) * margin
            wider.append((left - x, top - y, right + x, bottom + y))
        if not wider:
            return None
        return masks.from_boxes(image.size, wider, outside=outside, blur=max(image.size) / 200)

    return made


def subject(model: Path, *, outside: int = 0) -> Maker:
    """What a network of the U2-Net, IS-Net or BiRefNet kind takes for the subject.

    Args:
        model: an ONNX file; one picture in, shape (1, 3, H, W), maps out, of which the first counts. A file whose name
            says IS-Net is given pixels less 0.5, any other pixels normalised as ImageNet's.
        outside: grey of what is no subject, 0 to 255.

    Raises:
        MissingExtra: onnxruntime is not installed.
        DatasetError: the file is no such network.
    """
    session = _session(model)
    told = session.get_inputs()[0]
    height, width = (side if isinstance(side, int) else 320 for side in told.shape[2:4])
    mean, spread_of = _HALVES if _LIKE_ISNET.search(model.name) else _IMAGENET

    def made(path: Path) -> Image.Image:
        image = images.open_image(path, at_least=max(width, height))
        small = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32) / 255
        pixels = ((small - mean) / spread_of).transpose(2, 0, 1)[None].astype(np.float32)
        try:
            found = np.asarray(session.run(None, {told.name: pixels})[0], dtype=np.float32)
        except Exception as error:
            raise DatasetError(f"the model refuses the picture: {error}", where=model) from error
        if found.ndim < 2 or not found.size or not np.isfinite(found).all():
            raise DatasetError("the model gives no map of the picture", where=model)
        found = found.reshape(-1, *found.shape[-2:])[0]
        if found.min() < -0.01 or found.max() > 1.01:  # BiRefNet's are logits
            found = 1 / (1 + np.exp(-found.clip(-60, 60)))
        spread = float(found.max() - found.min())
        shares = (found - found.min()) / spread if spread > 1e-6 else np.zeros_like(found)
        grey = outside + shares * (255 - outside)
        return Image.fromarray(np.rint(grey).astype(np.uint8)).resize(
            images.picture_size(path), Image.Resampling.BICUBIC
        )

    return made


@functools.cache
def _session(model: Path) -> Any:
    if not model.is_file():
        raise DatasetError("there is no such model", where=model, fix="check the path")
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("models of this kind run with onnxruntime", fix="pip install 'velatura[caption]'") from None
    try:
        session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        rank = len(session.get_inputs()[0].shape)
    except VelaturaError:
        raise
    except Exception as error:  # the library raises kinds of its own for each way a file can be wrong
        raise DatasetError(f"this is not an ONNX file that can be read: {error}", where=model) from error
    if rank != 4:
        raise DatasetError("this network does not take a picture", where=model, fix="give one that finds subjects")
    return session
