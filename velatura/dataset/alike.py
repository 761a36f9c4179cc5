"""How alike pictures are: copies, crops of one another, outliers of style, and how much a set varies.

Everything is computed from what `measures` gives of each picture, except crops, which are looked for in the
pictures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from velatura.dataset import duplicates, images
from velatura.dataset.measures import Measures
from velatura.dataset.scan import Picture

CROP_SIDE = 72
"""Pixels of the longer side at which crops are looked for."""
CROP_LIKENESS = 0.93
"""Correlation from which a picture is taken for a part of another."""
CROP_CLOSE = 0.6
"""Correlation from which sizes in between are looked at: one that is off by a few hundredths blurs all detail."""
CROP_SHARES = (0.95, 0.88, 0.8, 0.72, 0.65, 0.58, 0.52, 0.46, 0.4, 0.34)
"""Sizes of a part as shares of the whole."""
CROP_MOST = 400
"""More pictures are not compared in pairs."""
CROP_PALETTE = 0.35
"""Pictures whose palettes overlap less are not compared."""
CROP_NEAREST = 16
"""Each picture is compared with so many others, those whose colours are most like its own."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Diversity:
    """How much a set varies, 0 (all alike) to 1 (as unlike as pictures of everything)."""

    palette: float
    composition: float
    texture: float


def near_duplicates(measures: Sequence[Measures]) -> tuple[tuple[int, ...], ...]:
    """Groups of pictures that are nearly the same, mirrored or not."""
    return duplicates.groups([one.hash for one in measures], [one.mirrored for one in measures])


def palettes(measures: Sequence[Measures]) -> Vectors:
    """Shares of colours and of lightness, shape (pictures, 42); a row sums to 2."""
    return np.array([one.palette for one in measures], dtype=np.float32)


def palette_overlap(vectors: Vectors) -> Vectors:
    """How much of their colours two pictures share, 0 to 1, shape (pictures, pictures)."""
    colours = vectors[:, :36]
    return np.stack([np.minimum(one, colours).sum(1) for one in colours])


def crops(
    pictures: Sequence[Picture], measures: Sequence[Measures], *, known: Sequence[Sequence[int]] = ()
) -> list[tuple[int, int]]:
    """Pairs (part, whole): a picture that was cut out of another one.

    Args:
        pictures: at most `CROP_MOST`; of more nothing is looked for.
        measures: of the same pictures.
        known: groups of pictures that are known to be alike already.
    """
    if not 1 < len(pictures) <= CROP_MOST:
        return []
    group_of = {index: place for place, group in enumerate(known) for index in group}
    overlap = palette_overlap(palettes(measures))
    small = [_small(picture, one.borders) for picture, one in zip(pictures, measures, strict=True)]
    found = []
    for whole in range(len(pictures)):
        near = [int(part) for part in np.argsort(-overlap[:, whole], kind="stable") if part != whole]
        others = [
            part
            for part in near[:CROP_NEAREST]
            if overlap[part, whole] > CROP_PALETTE and group_of.get(part, -1) != group_of.get(whole, -2)
        ]
        if others and small[whole].std() > 4:
            found += [(part, whole) for part in others if small[part].std() > 4 and _is_part(small[part], small[whole])]
    return found


def style_outliers(measures: Sequence[Measures], *, least: int = 8) -> list[tuple[int, float]]:
    """Pictures whose colours and texture are far from those of the rest, with how many times the usual distance.

    Distances are from the median, in units of the set's own spread.
    """
    if len(measures) < least:
        return []
    vectors = style_vectors(measures)
    distances = np.linalg.norm(vectors - np.median(vectors, 0), axis=1)
    middle = float(np.median(distances))
    spread = float(np.median(np.abs(distances - middle))) * 1.4826 + 0.15 * middle
    return [
        (index, float(distance / max(middle, 1e-6)))
        for index, distance in enumerate(distances)
        if distance > middle + 3.5 * spread and distance > 1.5 * middle
    ]


def style_vectors(measures: Sequence[Measures]) -> Vectors:
    """Texture, saturation, contrast and the palette's main traits, each in units of its usual spread among pictures."""
    texture = np.array([one.texture for one in measures], dtype=np.float32)
    rest = np.array([[one.saturation, one.contrast, one.brightness, one.detail] for one in measures], np.float32)
    grey = palettes(measures)[:, :36].reshape(-1, 6, 6)[:, :, 0].sum(1, keepdims=True)
    scale = np.array([0.7] * 4 + [0.12] * 6 + [0.5], np.float32)
    return np.hstack([texture / scale, rest / np.array([0.15, 0.08, 0.18, 0.3], np.float32), grey / 0.3])


def features(measures: Sequence[Measures]) -> Vectors:
    """What two pictures are compared by for variety: colours, composition, texture; shape (pictures, n)."""
    layout = np.array([one.layout for one in measures], dtype=np.float32) / 6
    texture = np.array([one.texture for one in measures], dtype=np.float32)
    return np.hstack([np.sqrt(palettes(measures)) * 0.7, layout, texture * 0.25])


def diversity(measures: Sequence[Measures]) -> Diversity:
    """Mean distance of pairs in palette, composition and texture, each against that of unlike pictures."""
    if len(measures) < 2:
        return Diversity(0.0, 0.0, 0.0)
    # Sums over all pairs, without a table of them: of ten thousand pictures it would have a hundred million places.
    pairs = len(measures) * (len(measures) - 1)
    layout = np.array([one.layout for one in measures], dtype=np.float64)
    agreement = ((layout.sum(0) ** 2).sum() - (layout**2).sum()) / (layout.shape[1] * pairs)
    # In a sorted column, each value is the lesser one against all behind it.
    colours = np.sort(palettes(measures)[:, :36].astype(np.float64), axis=0)
    overlap = 2 * (colours * np.arange(len(measures))[::-1, None]).sum() / pairs
    texture = style_vectors(measures)
    spread = np.linalg.norm(texture - texture.mean(0), axis=1).mean()
    return Diversity(
        palette=round(float(1 - overlap), 3),
        composition=round(float(np.clip(1 - agreement, 0, 1)), 3),
        texture=round(float(np.clip(spread / 4, 0, 1)), 3),
    )


def _small(picture: Picture, bars: tuple[float, float, float, float]) -> NDArray[np.float32]:
    """The picture without bars at its edges, in grey and small."""
    image = images.open_image(picture.path, at_least=2 * CROP_SIDE).convert("L")
    left, top, right, bottom = bars
    image = image.crop(
        (
            round(left * image.width),
            round(top * image.height),
            round((1 - right) * image.width),
            round((1 - bottom) * image.height),
        )
    )
    scale = CROP_SIDE / max(image.size)
    size = max(8, round(image.width * scale)), max(8, round(image.height * scale))
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32)


def _is_part(part: NDArray[np.float32], whole: NDArray[np.float32]) -> bool:
    """Whether some scaled version of the one correlates with a place in the other."""
    best, share = 0.0, 0.0
    for at in CROP_SHARES:
        best, share = max((best, share), (_likeness(part, whole, at), at))
        if best > CROP_LIKENESS:
            return True
    if best < CROP_CLOSE:
        return False
    between = (share + hundredths / 100 for hundredths in (-1, 1, -2, 2, -3, 3, -4, 4))
    return any(_likeness(part, whole, at) > CROP_LIKENESS for at in between)


def _likeness(part: NDArray[np.float32], whole: NDArray[np.float32], share: float) -> float:
    """How well the part, as large as a share of the whole, correlates with the best place in it."""
    scale = share * min(whole.shape[0] / part.shape[0], whole.shape[1] / part.shape[1])
    rows, columns = round(part.shape[0] * scale), round(part.shape[1] * scale)
    if min(rows, columns) < 10:
        return 0.0
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return _correlation(np.asarray(Image.fromarray(part).resize((columns, rows), resampling)), whole)


def _correlation(template: NDArray[np.float32], whole: NDArray[np.float32]) -> float:
    """The highest normalised cross-correlation of a template inside a picture."""
    centred = template - template.mean()
    energy = float((centred**2).sum())
    if energy < 1:
        return 0.0
    shape = [fft.next_fast_len(one + other) for one, other in zip(whole.shape, template.shape, strict=True)]
    rows, columns = template.shape
    spectrum = fft.rfft2(whole, shape) * np.conj(fft.rfft2(centred, shape))
    products = fft.irfft2(spectrum, shape)[: whole.shape[0] - rows + 1, : whole.shape[1] - columns + 1]
    sums, squares = (_windows(values, rows, columns) for values in (whole, whole**2))
    variance = squares - sums**2 / (rows * columns)
    return float((products / np.sqrt(np.maximum(variance, 1e-3) * energy))[variance > 0.25 * energy].max(initial=0.0))


def _windows(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float64]:
    sums = np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return np.asarray(sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns])
