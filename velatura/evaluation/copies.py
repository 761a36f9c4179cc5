"""Copies: whether a generated picture is a training picture over again.

Three detectors see different disguises: a perceptual hash (small changes), correlation of thumbnails
(shifts), histograms of gradients (recolouring); each looks at the mirrored picture too. None has a threshold
that suits every set, so each is calibrated on the training set itself: as like as its own pictures are to
each other is not a copy. Where captions tell a picture in full, paintings of captions that were kept out of
training come near their own pictures as well, and show how much the words alone make alike. A layout redrawn by
another hand escapes all three.

Shape suffixes: N pictures, M training pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, special

from velatura.evaluation.metrics.pixels import Picture, lightness, square

Matrix = NDArray[np.float64]

FLOORS: Mapping[str, float] = MappingProxyType({"hash": 1 - 24 / 63, "thumbnail": 0.85, "gradients": 0.85})
"""No threshold is set under these: 12 differing bits of 63 is the published limit of the hash, the others
keep drawn scenes of one style apart."""
CEILINGS: Mapping[str, float] = MappingProxyType({"hash": 1 - 4 / 63, "thumbnail": 0.98, "gradients": 0.96})
"""At or above these a picture is the same picture, whatever the set looks like."""
REPEATED = 3
"""A training picture found by this many generated ones draws everything to itself."""


@dataclass(frozen=True)
class Nearest:
    """The training picture most like a generated one."""

    index: int
    """Which training picture."""
    similarity: dict[str, float]
    """Detector -> correlation with that picture; 1 is the same, 0 is chance."""
    flagged: bool
    """A suspected copy: above the set's own threshold for some detector."""
    near_exact: bool = False
    """The same picture, but for noise or mirroring."""


@dataclass(frozen=True)
class CopyCheck:
    """How many pictures of a checkpoint are suspected copies."""

    flagged: int
    total: int
    interval: tuple[float, float]
    """95 % Wilson interval of the rate."""
    near_exact: int
    """Near-exact copies that nobody provoked with a training caption."""
    base_rate: float
    """Share that the base model, which has not seen the pictures, is flagged for: false alarms."""
    repeated: tuple[int, ...] = ()
    """Training pictures that three or more generated ones come down to."""
    caption_rate: float = 0.0
    """Share of pictures that caption and style alone surely make as alike as a copy: the lower end of the interval
    of paintings of held-out captions that are so like their own pictures, which nobody trained on."""


@dataclass(frozen=True)
class Detector:
    """Fingerprints of the training pictures and the thresholds that suit them."""

    prints: dict[str, Matrix]
    thresholds: dict[str, float]

    def nearest(self, generated: Sequence[Picture]) -> list[Nearest]:
        """The nearest training picture of each generated one, by the detector that speaks most clearly."""
        if not generated:
            return []
        found = _similarities(_lights(generated), self.prints)
        excess = self._excess(found)
        answers = []
        for row, index in enumerate(excess.argmax(axis=1)):
            similarity = {name: float(matrix[row, index]) for name, matrix in found.items()}
            # Two detectors must agree: one alone is now and then fooled by a plain scene.
            near_exact = sum(similarity[name] >= limit for name, limit in CEILINGS.items()) >= 2
            answers.append(Nearest(int(index), similarity, bool(excess[row, index] > 0), near_exact))
        return answers

    def by_caption(self, generated: Sequence[Picture], pictures: Sequence[Picture]) -> list[bool]:
        """Whether each picture would be a suspected copy of the one beside it, which was not trained on.

        One that is more like some training picture does not count: it may come from there.
        """
        if not generated:
            return []
        lights = _lights(generated)
        own = self._excess(_similarities(lights, _prints(_lights(pictures)))).diagonal()
        trained = self._excess(_similarities(lights, self.prints)).max(axis=1)
        return [bool(here > max(0, there)) for here, there in zip(own, trained, strict=True)]

    def _excess(self, found: Mapping[str, Matrix]) -> Matrix:
        """How far above its threshold the detector is that speaks most clearly; 0 is at it, 1 the same picture."""
        return np.asarray(
            np.stack([(found[name] - limit) / (1 - limit) for name, limit in self.thresholds.items()]).max(axis=0)
        )


def calibrate(training: Sequence[Picture], *, held_out: Sequence[Picture] = ()) -> Detector:
    """Prepare to search for copies of these pictures.

    A threshold is the highest of: its floor; the likeness that one training picture in a hundred has to its
    nearest other one; the likeness of any held-out picture to its nearest training picture. Pictures that
    the set itself holds twice do not count.

    Args:
        training: the pictures.
        held_out: pictures that cannot be copies, such as real ones kept out of training.

    Raises:
        ValueError: there is no training picture.
    """
    if not training:
        raise ValueError("there are no training pictures to look for copies of")
    lights = _lights(training)
    prints = _prints(lights)
    inside = _similarities(lights, prints)
    across = _similarities(_lights(held_out), prints) if len(held_out) else {}
    same = np.zeros((len(training), len(training)), dtype=bool)
    for name, matrix in inside.items():
        same |= matrix >= CEILINGS[name]
    thresholds = {}
    for name, matrix in inside.items():
        others = np.where(same, -1.0, matrix).max(axis=1)
        levels = [FLOORS[name], _tail(others[others > -1])]
        if name in across:
            levels.append(float(np.where(across[name] >= CEILINGS[name], -1, across[name]).max()))
        # Just under the ceiling, so that the same picture is flagged in every set.
        thresholds[name] = min(max(levels), CEILINGS[name] - 1e-6)
    return Detector(prints, thresholds)


def nearest(
    generated: Sequence[Picture], training: Sequence[Picture], *, held_out: Sequence[Picture] = ()
) -> list[Nearest]:
    """The nearest training picture of each generated one; keep `calibrate`'s answer to ask many times."""
    return calibrate(training, held_out=held_out).nearest(generated)


def likeness(images: Sequence[Picture], training: Sequence[Picture]) -> dict[str, Matrix]:
    """Detector -> how like each picture is to the training picture nearest to it, shape (N,)."""
    found = _similarities(_lights(images), _prints(_lights(training)))
    return {name: matrix.max(axis=1) for name, matrix in found.items()}


def copy_check(
    found: Sequence[Nearest],
    *,
    base: Sequence[Nearest] = (),
    provoked: Sequence[Nearest] = (),
    by_caption: Sequence[bool] = (),
) -> CopyCheck | None:
    """Sum up what was found.

    Args:
        found: pictures of ordinary prompts.
        base: pictures of the base model for the same prompts.
        provoked: pictures of training captions verbatim, where copying shows first; the rate is theirs
            where they exist, since few ordinary pictures have no power to show it.
        by_caption: what `Detector.by_caption` says of a painting of each held-out caption.

    Returns:
        None when there is no picture.
    """
    counted = list(provoked) or list(found)
    if not counted:
        return None
    flagged = sum(one.flagged for one in counted)
    hits = [one.index for one in (*found, *provoked) if one.flagged]
    return CopyCheck(
        flagged=flagged,
        total=len(counted),
        interval=wilson(flagged, len(counted)),
        near_exact=sum(one.near_exact for one in found),
        base_rate=sum(one.flagged for one in base) / len(base) if base else 0.0,
        repeated=tuple(sorted(index for index in set(hits) if hits.count(index) >= REPEATED)),
        caption_rate=wilson(sum(by_caption), len(by_caption))[0] if by_caption else 0.0,
    )


def wilson(hits: int, total: int, *, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927): honest for few trials and for none hit."""
    rate, share = hits / total, z**2 / total
    middle = (rate + share / 2) / (1 + share)
    half = z * math.sqrt(rate * (1 - rate) / total + share / (4 * total)) / (1 + share)
    return max(0.0, middle - half), min(1.0, middle + half)


def _tail(similarities: Matrix) -> float:
    """The 99th percentile that a few similarities below 1 suggest, at least their maximum.

    Few values hold no 99th percentile, so Student's prediction limit on the Fisher scale stands in for it.
    """
    if len(similarities) == 0:
        return -1.0
    highest = float(similarities.max())
    if len(similarities) < 3:
        return highest
    scaled = np.arctanh(np.clip(similarities, -0.999, 0.999))
    count = len(scaled)
    reach = float(special.stdtrit(count - 1, 0.99)) * np.sqrt(1 + 1 / count)
    return max(highest, float(np.tanh(scaled.mean() + reach * scaled.std(ddof=1))))


def _hash_prints(light: Matrix) -> Matrix:
    """63 signs of the low frequencies of a 32 x 32 thumbnail (pHash), shape (63,)."""
    low = fft.dctn(_thumbnail(light, 32), norm="ortho")[:8, :8].ravel()[1:]
    return np.where(low > np.median(low), 1.0, -1.0)


def _thumbnail_prints(light: Matrix) -> Matrix:
    """A 20 x 20 thumbnail, flat, shape (400,)."""
    return _thumbnail(light, 20).ravel()


def _gradient_prints(light: Matrix) -> Matrix:
    """8 x 8 cells of 8 unsigned orientations, shape (512,), block-normalised by the picture."""
    down, across = np.gradient(_thumbnail(light, 64))
    strength = np.sqrt(np.hypot(down, across))
    orientation = np.mod(np.arctan2(down, across), np.pi) / np.pi * 8
    lower = np.floor(orientation).astype(int) % 8
    share = orientation - np.floor(orientation)
    cells = np.zeros((8, 8, 8))
    row, column = np.meshgrid(np.arange(64) // 8, np.arange(64) // 8, indexing="ij")
    np.add.at(cells, (row, column, lower), strength * (1 - share))
    np.add.at(cells, (row, column, (lower + 1) % 8), strength * share)
    return cells.ravel()


def _thumbnail(light: Matrix, side: int) -> Matrix:
    """Means over side x side cells."""
    small = Image.fromarray(light.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


_COMMON_SIDE = 128
_PRINTS: Mapping[str, Callable[[Matrix], Matrix]] = MappingProxyType(
    {"hash": _hash_prints, "thumbnail": _thumbnail_prints, "gradients": _gradient_prints}
)


def _lights(images: Sequence[Picture]) -> list[Matrix]:
    return [lightness(square(image, _COMMON_SIDE)) for image in images]


def _prints(lights: Sequence[Matrix]) -> dict[str, Matrix]:
    return {name: np.stack([make(light) for light in lights]) for name, make in _PRINTS.items()}


def _similarities(lights: Sequence[Matrix], training: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Detector -> similarity of every picture to every training picture, shape (N, M); the better of the
    picture and its mirror image."""
    best: dict[str, Matrix] = {}
    for turned in (lights, [light[:, ::-1] for light in lights]):
        prints = _prints(turned)
        found = {
            "hash": prints["hash"] @ training["hash"].T / 63,
            "thumbnail": _shifted(prints["thumbnail"], training["thumbnail"], side=20, reach=2),
            "gradients": _shifted(prints["gradients"], training["gradients"], side=8, reach=1),
        }
        best = {name: np.maximum(best[name], found[name]) if best else found[name] for name in found}
    return best


def _shifted(images: Matrix, training: Matrix, *, side: int, reach: int) -> Matrix:
    """The best correlation over shifts by up to `reach` cells each way, shape (N, M)."""
    here = images.reshape(len(images), side, side, -1)
    there = training.reshape(len(training), side, side, -1)
    best = np.full((len(here), len(there)), -1.0)
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            ours = here[:, max(down, 0) : side + min(down, 0), max(across, 0) : side + min(across, 0)]
            theirs = there[:, max(-down, 0) : side - max(down, 0), max(-across, 0) : side - max(across, 0)]
            best = np.maximum(best, _standard(ours) @ _standard(theirs).T)
    return best


def _standard(cells: Matrix) -> Matrix:
    """Rows of mean 0 and length 1; a row without contrast becomes zero."""
    flat = cells.reshape(len(cells), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-9, flat / np.maximum(length, 1e-9), 0.0))
