"""YOLO in ONNX files: what its outputs mean, whichever version wrote them.

    v8 to v12           (1, 4 + classes, places): middle, width, height and a probability of each class
    the same, shapes    (1, 4 + classes + 32, places), and 32 prototypes of masks (1, 32, H / 4, W / 4)
    v5                  (1, places, 5 + classes): the same behind a probability that there is anything
    end to end          (1, finds, 6): corners, probability, class; 32 numbers more for shapes

A picture is brought into the square that the network was exported for, grey around it. What a class is called, and the
square where the export left it open, stand in the file's metadata. No torch.
Source: https://github.com/ultralytics/ultralytics (the exporter's metadata, LetterBox, process_mask) as documented.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura.detection.boxes import Letterbox, kept
from velatura.errors import MissingExtra, ModelError
from velatura.generation.finds import Find

OVERLAP = 0.7
"""Of two boxes of one class that overlap more, the less sure is left out; as ultralytics has it."""

MOST = 300
"""Finds of a picture."""

GREY = 114
"""Around the picture."""

SIDE = 640
"""Of a network that does not say."""

MASKS = 32
"""Prototypes that shapes are mixed of."""

STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""Pixels between the places that networks speak of, level by level."""

V5 = 3
"""Boxes that v5 says for each place."""

PICKLED = (".pt", ".pth")

Array = NDArray[np.float32]


class Yolo:
    """A detector out of an ONNX file."""

    def __init__(self, path: Path, confidence: float) -> None:
        """Open the file.

        Raises:
            ModelError: it is pickled, cannot be read, or takes something else than a picture.
            MissingExtra: onnxruntime is not installed.
        """
        self.path, self.confidence = path, confidence
        self._session = _opened(path)
        given = self._session.get_inputs()[0]
        told = dict(self._session.get_modelmeta().custom_metadata_map)
        if len(given.shape) != 4 or given.shape[1] not in (3, "3"):
            raise ModelError(
                f"this network takes {list(given.shape)}, and not a picture", where=path, fix="give a YOLO for pictures"
            )
        self._input, self._half = str(given.name), "float16" in str(given.type)
        self.names = _names(told.get("names", ""))
        height, width = (_side(given.shape[axis], told.get("imgsz", ""), axis - 2) for axis in (2, 3))
        self.size = width, height

    def __call__(self, image: Image.Image) -> list[Find]:
        """What is found in a picture, the surest first.

        Raises:
            ModelError: what comes out is none of the forms that are known.
        """
        box = Letterbox.of(image.size, self.size)
        pixels = np.asarray(box.placed(image, GREY), dtype=np.float32).transpose(2, 0, 1)[None] / 255
        said = self._session.run(None, {self._input: pixels.astype(np.float16 if self._half else np.float32)})
        outputs = [np.asarray(one, dtype=np.float32) for one in said]
        protos = next((one[0] for one in outputs if one.ndim == 4 and one.shape[1] == MASKS), None)
        corners, scores, labels, coefficients = self._read(outputs[0], shapes=protos is not None)
        sure = np.flatnonzero(scores >= self.confidence)
        places = sure[kept(corners[sure], scores[sure], OVERLAP, labels[sure])][:MOST]
        finds = []
        for place in places:
            mask = None if protos is None else _mask(coefficients[place] @ protos.reshape(MASKS, -1), protos, box)
            found = box.back(corners[place])
            finds.append(Find(found, float(scores[place]), self._name(int(labels[place])), _within(mask, found)))
        return finds

    def _name(self, label: int) -> str:
        return self.names.get(label, str(label))

    def _read(self, said: Array, *, shapes: bool) -> tuple[Array, Array, NDArray[np.int64], Array]:
        """Corners (N, 4), scores, classes, and what the shapes are mixed of (N, 32), of one output.

        Raises:
            ModelError: it is none of the forms that are known.
        """
        extra = MASKS if shapes else 0
        if said.ndim != 3 or len(said) != 1:
            raise self._unknown(said)
        width, height = self.size
        counts = {sum((height // step) * (width // step) for step in strides) for strides in STRIDES}
        rows: Array = said[0].T if said.shape[2] in counts else said[0]
        classes = rows.shape[1] - extra - 4
        if len(rows) in counts and (not self.names or classes == len(self.names)):
            found = rows[:, 4 : 4 + classes]
            return _corners(rows), found.max(axis=1), found.argmax(axis=1), rows[:, 4 + classes :]
        if len(rows) in {V5 * count for count in counts} and (not self.names or classes - 1 == len(self.names)):
            found = rows[:, 5 : 4 + classes] * rows[:, 4:5]
            return _corners(rows), found.max(axis=1), found.argmax(axis=1), rows[:, 4 + classes :]
        if rows.shape[1] == 6 + extra and len(rows) not in counts:
            return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64), rows[:, 6:]
        raise self._unknown(said)

    def _unknown(self, said: Array) -> ModelError:
        return ModelError(
            f"what this network says, {' x '.join(map(str, said.shape))} for a picture of {self.size[0]} x"
            f" {self.size[1]} and {len(self.names)} classes, is of no YOLO that is known",
            where=self.path,
            fix="export it with ultralytics, as in: yolo export model=FILE.pt format=onnx",
        )


def _opened(path: Path) -> Any:
    if path.suffix.lower() in PICKLED:
        raise ModelError(
            "a pickled YOLO could run any program, so it is not opened",
            where=path,
            fix=f"where you trust it, make an ONNX file of it: yolo export model={path.name} format=onnx",
        )
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("detectors run with onnxruntime", fix="pip install 'velatura[detect]'") from None
    try:
        return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime raises kinds of its own, without a common one
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"this detector cannot be read ({first})", where=path, fix="export or fetch it again"
        ) from None


def _names(text: str) -> Mapping[int, str]:
    """Number of a class -> what it is called; empty where the file does not say."""
    try:
        told = ast.literal_eval(text) if text else {}
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {}
    if isinstance(told, Sequence) and not isinstance(told, str):
        told = dict(enumerate(told))
    return {int(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}


def _side(given: object, told: str, axis: int) -> int:
    """A side of what the network takes: its own, that of its metadata, else the usual one."""
    if isinstance(given, int) and given > 0:
        return given
    try:
        sizes = ast.literal_eval(told)
        return int(sizes[axis] if isinstance(sizes, Sequence) else sizes)
    except (ValueError, SyntaxError, TypeError, IndexError):
        return SIDE


def _corners(rows: Array) -> Array:
    """Boxes told by their middle and size, by their corners."""
    half = rows[:, 2:4] / 2
    return np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)


def _mask(mixed: Array, protos: Array, box: Letterbox) -> Image.Image:
    """A shape on the whole picture: white where it is more likely than not."""
    _, height, width = protos.shape
    logits = Image.fromarray(np.ascontiguousarray(mixed.reshape(height, width), dtype=np.float32))
    across, down = width / box.size[0], height / box.size[1]
    inner = (box.left, box.top, box.left + box.inner[0], box.top + box.inner[1])
    part = (inner[0] * across, inner[1] * down, inner[2] * across, inner[3] * down)
    whole = logits.resize(box.picture, Image.Resampling.BILINEAR, box=part)
    return Image.fromarray(np.where(np.asarray(whole) > 0, 255, 0).astype(np.uint8))


def _within(mask: Image.Image | None, box: tuple[float, float, float, float]) -> Image.Image | None:
    """The shape as far as it lies in its box; the box itself where nothing is left of it."""
    if mask is None:
        return None
    left, top, right, bottom = (round(side) for side in box)
    cut = Image.new("L", mask.size)
    if right > left and bottom > top:
        cut.paste(mask.crop((left, top, right, bottom)), (left, top))
    return cut if cut.getbbox() else None
