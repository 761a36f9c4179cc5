"""Faces in pictures, with OpenCV where it is installed: where they are, and whose they might be.

Without a model's file its own Haar cascades are used, which know photographed faces seen from the front, and
no drawn ones. YuNet finds more, and SFace tells people apart; both are ONNX files that the user has.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura.dataset.framing import Box
from velatura.errors import DatasetError, MissingExtra

SIDE = 640
"""Pixels of the longer side that faces are looked for at."""

SAME_PERSON = 0.363
"""Cosine likeness from which SFace's authors take two faces for one person's."""


def find_faces(image: Image.Image, *, model: Path | None = None) -> list[Box]:
    """The faces of a picture, the largest first, as boxes in its pixels.

    Args:
        image: upright, RGB.
        model: YuNet's ONNX file; None uses the cascades that come with OpenCV.

    Raises:
        MissingExtra: OpenCV is not installed.
        DatasetError: the model's file cannot be read.
    """
    found = _yunet(image, model)[0] if model is not None else _cascades(image)
    return sorted(found, key=lambda box: (box[0] - box[2]) * (box[3] - box[1]))


def identity(image: Image.Image, *, detector: Path, recogniser: Path) -> NDArray[np.float32] | None:
    """Numbers that are alike for pictures of one person, of the largest face; None where there is none.

    Args:
        image: upright, RGB.
        detector: YuNet's ONNX file.
        recogniser: SFace's ONNX file.

    Raises:
        MissingExtra, DatasetError: as `find_faces`.
    """
    boxes, rows, shown = _yunet(image, detector)
    if not boxes:
        return None
    largest = max(range(len(boxes)), key=lambda place: rows[place][2] * rows[place][3])
    sface = _load("FaceRecognizerSF", recogniser)
    with _of_its_kind("SFace", recogniser):
        numbers = np.asarray(sface.feature(sface.alignCrop(shown, rows[largest])), dtype=np.float32).ravel()
    return np.asarray(numbers / max(float(np.linalg.norm(numbers)), 1e-9), dtype=np.float32)


def opencv() -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError:
        raise MissingExtra(
            "this is done with OpenCV, which is not installed", fix="pip install 'velatura[vision]'"
        ) from None


def _cascades(image: Image.Image) -> list[Box]:
    small, scale = _small(image)
    found = cascade().detectMultiScale(np.asarray(small.convert("L")), 1.1, 6, minSize=(24, 24))
    return [_box(x, y, wide, high, scale) for x, y, wide, high in found]


def _yunet(image: Image.Image, model: Path) -> tuple[list[Box], Any, Any]:
    small, scale = _small(image)
    shown = np.ascontiguousarray(np.asarray(small.convert("RGB"))[:, :, ::-1])
    detector = _load("FaceDetectorYN", model)
    detector.setInputSize(small.size)
    with _of_its_kind("YuNet", model):
        rows = detector.detect(shown)[1]
    rows = () if rows is None else rows
    return [_box(x, y, wide, high, scale) for x, y, wide, high in (row[:4] for row in rows)], rows, shown


def _small(image: Image.Image) -> tuple[Image.Image, float]:
    scale = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return (image if scale == 1 else image.resize(size, Image.Resampling.BILINEAR)), scale


def _box(x: float, y: float, wide: float, high: float, scale: float) -> Box:
    return float(x / scale), float(y / scale), float((x + wide) / scale), float((y + high) / scale)


@functools.cache
def cascade() -> Any:
    """OpenCV's own detector of faces.

    Raises:
        MissingExtra: it is not installed, or of a version that has none.
    """
    library = opencv()
    if not hasattr(library, "CascadeClassifier"):
        raise MissingExtra(
            "this OpenCV has no cascades any more",
            fix="pip install 'opencv-python-headless<5'; or give YuNet's ONNX file with --face-model",
        )
    return library.CascadeClassifier(library.data.haarcascades + "haarcascade_frontalface_default.xml")


@functools.cache
def _load(kind: str, model: Path) -> Any:
    library = opencv()
    if not model.is_file():
        raise DatasetError("there is no such model", where=model, fix="check the path")
    maker, is_detector = getattr(library, kind), kind == "FaceDetectorYN"
    with _of_its_kind("YuNet" if is_detector else "SFace", model):
        return maker.create(str(model), "", (SIDE, SIDE)) if is_detector else maker.create(str(model), "")


@contextlib.contextmanager
def _of_its_kind(name: str, model: Path) -> Iterator[None]:
    """Any file that OpenCV can read makes a detector; that it is another network shows in what comes out."""
    try:
        yield
    except opencv().error:
        raise DatasetError(f"this is not {name}'s ONNX file", where=model, fix="give another") from None
