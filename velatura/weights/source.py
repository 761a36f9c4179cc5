"""Where a base model's weights lie, read without copying them.

Tensors are mapped from the file, in the file's type. A model keeps them as its pristine weights:
what an adapter is merged onto, and restored from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura.errors import ModelError
from velatura.files import disk_problems
from velatura.tensorfile import read_header

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_NAMES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""A part's weights in a diffusers folder; with fp16 variants before the ending."""


@dataclass(frozen=True)
class BaseFolder:
    """A base as a diffusers folder: one folder for each part."""

    path: Path

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """A part's settings.

        Raises:
            ModelError: the file is missing or damaged.
        """
        path = self.path / part / name
        if not path.exists():
            raise ModelError(f"the base lacks {part}/{name}", where=self.path, fix="fetch the base again")
        with disk_problems(path):
            text = path.read_text(encoding="utf-8")
        try:
            loaded = json.loads(text)
        except ValueError as error:
            raise ModelError(f"{part}/{name} is damaged", where=self.path, fix="fetch the base again") from error
        return dict(loaded)

    def weight_file(self, part: str) -> Path:
        """The file with a part's weights.

        Raises:
            ModelError: there is none.
        """
        for name in WEIGHT_NAMES:
            for candidate in (name, name.replace(".safetensors", ".fp16.safetensors")):
                path = self.path / part / candidate
                if path.exists():
                    return path
        raise ModelError(
            f"the base has no weights for its {part} as safetensors",
            where=self.path / part,
            fix="fetch it in safetensors format; pickled weights are never loaded",
        )

    def weights(self, part: str) -> dict[str, Tensor]:
        """A part's tensors, mapped."""
        return mapped(self.weight_file(part))


def mapped(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, mapped rather than read.

    Raises:
        FileProblem: the file is cut off or not a safetensors file.
    """
    from safetensors.torch import load_file

    read_header(path)  # checks the file before the library maps it
    tensors: dict[str, Tensor] = load_file(path)
    return tensors
