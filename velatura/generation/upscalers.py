"""Models that make pictures larger: ESRGAN and its relatives, through spandrel, tile by tile.

A tile is seen with the pixels around it, so that no seam shows, and memory is that of a tile and the result.

Shape suffixes: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from velatura.errors import MissingExtra, ModelError
from velatura.files import sha256

TILE = 192
"""Pixels of a tile's side."""

AROUND = 32
"""Pixels around it that are in view."""


@dataclass(frozen=True)
class UpscaleModel:
    """A model that makes pictures larger by a factor of its own."""

    name: str
    hash: str
    """sha256 of its file, hex."""
    scale: int
    run: Callable[[Tensor], Tensor]
    """Pictures of 0 to 1, (B, 3, H, W) -> larger ones."""
    device: str = "cpu"
    tile: int = TILE
    around: int = AROUND

    def __call__(self, image: Image.Image) -> Image.Image:
        """A picture made larger."""
        *_, larger = self.steps(image)
        assert isinstance(larger, Image.Image)
        return larger

    @torch.inference_mode()
    def steps(self, image: Image.Image) -> Iterator[tuple[int, int] | Image.Image]:
        """The same, with the tiles that are done, and all of them, in front."""
        image = image.convert("RGB")
        larger = Image.new("RGB", (image.width * self.scale, image.height * self.scale))
        lefts, tops = (range(0, side, self.tile) for side in image.size)
        places = [(left, top) for top in tops for left in lefts]
        for done, (left, top) in enumerate(places, start=1):
            right, bottom = min(left + self.tile, image.width), min(top + self.tile, image.height)
            outer = (
                max(0, left - self.around),
                max(0, top - self.around),
                min(image.width, right + self.around),
                min(image.height, bottom + self.around),
            )
            made = self._made(image.crop(outer))
            across, down = (left - outer[0]) * self.scale, (top - outer[1]) * self.scale
            width, height = (right - left) * self.scale, (bottom - top) * self.scale
            inner = made.crop((across, down, across + width, down + height))
            larger.paste(inner, (left * self.scale, top * self.scale))
            yield done, len(places)
        yield larger

    def _made(self, tile: Image.Image) -> Image.Image:
        pixels = torch.from_numpy(np.array(tile, dtype=np.float32)).permute(2, 0, 1)[None] / 255
        found = self.run(pixels.to(self.device))[0].float().cpu()
        levels = (found.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        return Image.fromarray(np.ascontiguousarray(levels))


def load(path: Path, device: str = "cpu") -> UpscaleModel:
    """A model from a file of weights; nothing but weights is read from a pickled one.

    Raises:
        MissingExtra: spandrel is not installed, or not as it should be.
        ModelError: no architecture that it knows, or one that does not enlarge pictures.
    """
    try:
        spandrel: Any = importlib.import_module("spandrel")
    except ImportError:
        raise MissingExtra("upscale models are read with spandrel", fix="pip install 'velatura[upscale]'") from None
    except RuntimeError as error:  # a torchvision for another torch: it fails as it is imported
        raise MissingExtra(
            f"spandrel cannot be used: {str(error).splitlines()[0]}",
            fix="install the torchvision that belongs to your torch, from where torch came",
        ) from error
    try:
        if path.suffix.lower() == ".safetensors":
            weights = importlib.import_module("safetensors.torch").load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        found = spandrel.ModelLoader("cpu").load_from_state_dict(spandrel.canonicalize_state_dict(weights))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:150]
        raise ModelError(f"this is no upscale model that can be read: {reason}", where=path) from error
    pictures = found.input_channels == found.output_channels == 3
    if not isinstance(found, spandrel.ImageModelDescriptor) or not pictures or found.scale < 2:
        raise ModelError("this model does not make pictures larger", where=path, fix="use one as 4x-UltraSharp")
    found.to(device).eval()
    return UpscaleModel(path.stem, sha256(path), int(found.scale), found, device)
