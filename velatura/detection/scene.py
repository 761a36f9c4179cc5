"""A small detector for drawn faces: those of the pocket base's portraits, which detectors of photographs do not see.

Eight convolutions over the picture at 160 x 160, in numpy; every sixteenth place says how likely the middle of a face
is near, and how far the face reaches from there. It comes with the program: 0.3 MB, in fp16, trained by
`python -m velatura.pocket.detector`. No torch.

Shape suffixes: C channels, H and W height and width, O channels of what comes out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura import tensorfile
from velatura.detection.boxes import Letterbox, kept
from velatura.generation.finds import Find

WEIGHTS = Path(__file__).with_name("scene.safetensors")

LABEL = "face"

SIDE = 160
"""Pixels of the square that the picture is brought into."""

STRIDE = 16
"""Pixels between two places that are asked."""

UNIT = 32.0
"""Pixels that a distance of 1 stands for."""

LAYERS = ((3, 16, 2), (16, 32, 2), (32, 48, 2), (48, 64, 2), (64, 64, 1), (64, 64, 1), (64, 64, 1), (64, 5, 1))
"""Channels in, channels out and stride of each convolution."""

SLOPE = 0.1
"""Of the activation below 0."""

OVERLAP = 0.4
"""Of two boxes that overlap more, the less likely is left out."""

GREY = 128
"""Around the picture."""

Array = NDArray[np.float32]

Layers = tuple[tuple[Array, Array], ...]
"""Weight and bias of each convolution."""


def detect(image: Image.Image, confidence: float, layers: Layers | None = None) -> list[Find]:
    """The faces of a picture, the most likely first.

    Args:
        image: RGB.
        confidence: 0 to 1; less likely ones are left out.
        layers: weights of another training; none: those that come with the program.
    """
    box = Letterbox.of(image.size, (SIDE, SIDE))
    pixels = np.asarray(box.placed(image, GREY), dtype=np.float32)
    said_OHW = forward(prepared(pixels), layers or weights())
    likely = 1 / (1 + np.exp(-said_OHW[0]))
    rows, columns = np.nonzero(likely >= confidence)
    corners = decoded(said_OHW)[rows, columns]
    scores = likely[rows, columns]
    places = kept(corners, scores, OVERLAP)
    return [Find(box.back(corners[place]), float(scores[place]), LABEL) for place in places]


def prepared(pixels_HWC: NDArray[np.float32]) -> Array:
    """A picture as the network takes it, (C, H, W), about -1 to 1."""
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1) / 127.5 - 1, dtype=np.float32)


def decoded(said_OHW: Array) -> Array:
    """The box that every place speaks of: left, top, right, bottom, (H, W, 4)."""
    middle = (np.arange(said_OHW.shape[1], dtype=np.float32) + 0.5) * STRIDE
    reach = np.exp(np.clip(said_OHW[1:5], -6, 3)) * UNIT
    x, y = middle[None, :], middle[:, None]
    return np.stack([x - reach[0], y - reach[1], x + reach[2], y + reach[3]], axis=-1)


def forward(x_CHW: Array, layers: Layers) -> Array:
    """What the network says of a picture, (5, H / 16, W / 16): a logit, and the logarithms of four distances."""
    for place, ((weight, bias), (_, _, stride)) in enumerate(zip(layers, LAYERS, strict=True)):
        if place:
            x_CHW = np.where(x_CHW > 0, x_CHW, SLOPE * x_CHW)
        x_CHW = _convolved(x_CHW, weight, bias, stride)
    return x_CHW


def _convolved(x_CHW: Array, weight_OCHW: Array, bias_O: Array, stride: int) -> Array:
    padded = np.pad(x_CHW, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    channels, height, width = windows.shape[:3]
    columns = windows.transpose(0, 3, 4, 1, 2).reshape(channels * 9, height * width)
    found = weight_OCHW.reshape(len(weight_OCHW), -1) @ columns + bias_O[:, None]
    return found.reshape(-1, height, width).astype(np.float32)


@cache
def weights(path: Path = WEIGHTS) -> Layers:
    """Those of a file, in fp32."""
    held, _ = tensorfile.read(path)
    return tuple(
        (tensorfile.as_float32(held[f"{place}.weight"]), tensorfile.as_float32(held[f"{place}.bias"]))
        for place in range(len(LAYERS))
    )
