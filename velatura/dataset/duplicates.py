"""Pictures that are nearly the same: scaled, recompressed, retouched, mirrored copies of one another.

Each picture is reduced to 64 bits that say how its coarse light and dark are laid out (pHash: the
signs of the lowest 8 x 8 cosine frequencies about their median); near-duplicates differ in few bits.
Source: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, MutableMapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura.dataset import borders
from velatura.dataset.images import open_image
from velatura.dataset.scan import Picture

DISTANCE = 8
"""Bits in which near-duplicates may differ; unrelated pictures differ in about 32 of 64."""

_SIDE = 32
_SEEN = 512
"""Pixels of a side that are decoded, enough to see bars."""
_FREQUENCIES = np.cos(np.pi / _SIDE * np.outer(np.arange(8), np.arange(_SIDE) + 0.5))


def phash(image: Image.Image) -> int:
    """The picture's 64 bits, row by row, lowest frequency first; a picture of one colour gives 0."""
    return hashes(image)[0]


Hashes = tuple[int, int]
"""Of a picture and of its mirror image."""


def hashes(image: Image.Image) -> Hashes:
    """The same, and the 64 bits of its mirror image."""
    small = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    return _bits(small), _bits(small[:, ::-1])


def _bits(small: NDArray[np.float64]) -> int:
    spectrum = (_FREQUENCIES @ small @ _FREQUENCIES.T).ravel()
    spectrum[0] = 0.0  # mean brightness says nothing of the layout
    bits = spectrum > np.median(spectrum[1:]) + 1e-6
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicates(
    pictures: Iterable[Picture], *, distance: int = DISTANCE, known: MutableMapping[str, Hashes] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more pictures (by index) that are nearly the same, mirrored or not.

    Args:
        pictures: in their order.
        distance: bits in which they may differ.
        known: hashes of pictures by their content, from earlier times; those that are missing are added.

    Raises:
        DatasetError: a picture can no longer be read.
    """
    known = {} if known is None else known
    found = [known.get(picture.sha256) or known.setdefault(picture.sha256, _hashes(picture)) for picture in pictures]
    return groups([one for one, _ in found], [other for _, other in found], distance=distance)


def _hashes(picture: Picture) -> Hashes:
    return hashes(without_bars(open_image(picture.path, at_least=_SEEN)))


def without_bars(image: Image.Image) -> Image.Image:
    """The picture inside bars of one colour: a screenshot is a copy, whatever stands around it."""
    shown = image if max(image.size) <= 2 * _SEEN else image.reduce(max(image.size) // _SEEN)
    left, top, right, bottom = borders.find(np.asarray(shown.convert("L"), dtype=np.float32))
    return shown.crop((left, top, shown.width - right, shown.height - bottom))


def groups(upright: Sequence[int], mirrored: Sequence[int], *, distance: int = DISTANCE) -> tuple[tuple[int, ...], ...]:
    """Join every two pictures whose hashes lie within `distance`, one of them mirrored or neither.

    Joining is transitive: a series of small changes is one group.
    """
    signs, flipped = _signs(upright), _signs(mirrored)
    leader = list(range(len(signs)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    for index in range(len(signs)):
        agreement = np.maximum(signs[index + 1 :] @ signs[index], signs[index + 1 :] @ flipped[index])
        for other in np.flatnonzero(agreement >= 64 - 2 * distance) + index + 1:
            one, two = sorted((find(index), find(int(other))))
            leader[two] = one
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(signs)):
        members[find(index)].append(index)
    return tuple(tuple(group) for group in members.values() if len(group) > 1)


def _signs(hashes: Sequence[int]) -> NDArray[np.float32]:
    """Bits as +1 and -1, shape (pictures, 64): a product of two rows is 64 - 2 * the bits they differ in."""
    packed = np.frombuffer(b"".join(one.to_bytes(8, "big") for one in hashes), dtype=np.uint8)
    return np.unpackbits(packed).reshape(-1, 64).astype(np.float32) * 2 - 1
