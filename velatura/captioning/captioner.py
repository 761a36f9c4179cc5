"""What every captioner is: it is asked about pictures, and answers each with captions or with why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from velatura.dataset import images


@dataclass(frozen=True)
class Asked:
    """A picture to be captioned."""

    name: str
    path: Path
    captions: tuple[str, ...] = ()
    """What is said of it now."""
    tags: tuple[str, ...] = ()
    """What a tagger says of it, where one was asked beforehand."""

    def image(self) -> Image.Image:
        """The picture, upright RGB, on white where it is transparent."""
        return images.open_image(self.path)


@dataclass(frozen=True)
class Answer:
    """Captions, one or several; or none, and why."""

    captions: tuple[str, ...] = ()
    why: str = ""


class Captioner(Protocol):
    """Describes pictures."""

    name: str
    settings: Mapping[str, object]
    """What is noted beside each caption: everything that the answer depends on but the picture."""
    batch: int
    """Pictures that are asked about at once."""

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """An answer for each picture, in their order. What is wrong with one picture is an answer, not an error."""
        ...
