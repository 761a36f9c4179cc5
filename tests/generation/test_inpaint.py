"""The part of a picture that is painted anew, against what A1111's own code makes of it (1.10.1)."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests import parity
from tests.paintings import clouds
from tests.parity.refining import ROWS
from velatura.errors import SettingsError
from velatura.generation import parts
from velatura.generation.inpaint import mask_bytes, mask_of, patch
from velatura.generation.masking import filled
from velatura.generation.parts import Inpaint
from velatura.generation.start import latent_mask

SIZE = 160, 120


class Case(NamedTuple):
    """A1111's: green of every 40th pixel, the same of the mask, red of the result, the sum of the latents' mask."""

    mask: str
    told: Inpaint
    painted: tuple[int, int]
    image: list[int]
    masked: list[int]
    result: list[int]
    latents: float


# fmt: off
CASES = [
    Case(
        "box", Inpaint(), (160, 120),
        [219, 159, 146, 156, 145, 0, 98, 177, 72, 106, 103, 155],
        [0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0],
        [255, 223, 251, 4, 127, 42, 70, 138, 232, 22, 75, 113],
        26.0,
    ),
    Case(
        "box", Inpaint(area="only masked"), (128, 128),
        [207, 47, 255, 94, 75, 12, 106, 84, 107, 153, 77, 113, 217, 137, 70, 129],
        [0, 0, 0, 0, 0, 59, 206, 0, 0, 5, 17, 0, 0, 0, 0, 0],
        [255, 223, 251, 4, 127, 42, 67, 138, 232, 22, 75, 113],
        28.0,
    ),
    Case(
        "box", Inpaint(area="only masked", blur=6, padding=16, fill="fill"), (128, 64),
        [219, 153, 238, 45, 153, 164, 140, 0],
        [0, 0, 0, 0, 0, 0, 40, 0],
        [255, 223, 251, 4, 127, 42, 47, 138, 232, 22, 78, 113],
        12.0,
    ),
    Case(
        "box", Inpaint(invert=True, blur=0, fill="fill"), (160, 120),
        [102, 88, 76, 102, 109, 81, 98, 139, 117, 123, 128, 140],
        [255, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 255],
        [255, 204, 163, 219, 92, 122, 88, 206, 85, 95, 196, 32],
        276.0,
    ),
    Case(
        "round", Inpaint(soft=True, blur=3), (160, 120),
        [219, 159, 146, 156, 145, 0, 98, 177, 72, 106, 103, 155],
        [9, 60, 82, 60, 70, 147, 196, 146, 70, 146, 194, 146],
        [255, 214, 195, 105, 107, 122, 70, 206, 151, 95, 196, 32],
        137.808,
    ),
    Case(
        "round", Inpaint(soft=True, blur=0, area="only masked", padding=8), (64, 64),
        [218, 255, 70, 139],
        [3, 70, 65, 176],
        [255, 206, 221, 49, 131, 127, 58, 169, 183, 47, 158, 76],
        25.227,
    ),
]
# fmt: on


def drawn(kind: str) -> Image.Image:
    if kind == "round":
        return ImageOps.invert(Image.radial_gradient("L").resize(SIZE))
    mask = Image.new("L", SIZE)
    mask.paste(255, (60, 30, 100, 70))
    return mask


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def sampled(image: Image.Image, channel: int) -> np.ndarray:
    return np.asarray(image.convert("RGB"), int)[::40, ::40, channel].ravel()


@pytest.mark.parametrize("case", CASES, ids=["whole", "masked", "masked, filled", "inverted", "soft", "soft, masked"])
def test_a_part_is_taken_out_and_put_back_as_a1111_does_it(case: Case) -> None:
    """But for rounding: it blurs in integers, and lays the original over with premultiplied colours."""
    image, told = clouds(3, SIZE), replace(case.told, mask=png(drawn(case.mask)))
    one = patch(image, mask_of(told, SIZE), told, case.painted)
    begun = filled(one.image, one.mask) if told.fill == "fill" else one.image
    assert np.abs(sampled(begun, 1) - case.image).max() <= parity.within(ROWS, ROWS[0].name)
    assert np.abs(sampled(one.mask, 1) - case.masked).max() <= 2
    small = latent_mask(one.mask, case.painted[1] // 8, case.painted[0] // 8, soft=told.soft)
    assert float(small.sum()) == pytest.approx(case.latents, abs=0.1)
    whole = image.copy()
    one.lay(whole, clouds(8, case.painted))
    assert np.abs(sampled(whole, 0) - case.result).max() <= parity.within(ROWS, ROWS[1].name)
    assert np.abs(np.asarray(whole, int) - np.asarray(image, int)).max() > 100


def test_a_mask_of_another_size_is_fitted_and_of_other_proportions_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    drawn("box").resize((320, 240)).save(path)
    assert np.asarray(mask_of(Inpaint(path), SIZE)).sum() == pytest.approx(np.asarray(drawn("box")).sum(), rel=0.02)
    with pytest.raises(SettingsError, match="the mask is 320 x 240 pixels and the picture 160 x 160"):
        mask_of(Inpaint(path), (160, 160))


def test_what_is_opaque_in_a_mask_is_painted_where_some_of_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "mask.webp"
    seen = Image.new("RGBA", SIZE, (255, 255, 255, 0))
    seen.paste((0, 0, 0, 255), (60, 30, 100, 70))
    seen.save(path, lossless=True)
    assert mask_of(Inpaint(path), SIZE).getbbox() == (60, 30, 100, 70)


def test_boxes_are_masks_too_and_right_and_bottom_are_outside(tmp_path: Path) -> None:
    assert mask_of(Inpaint(boxes=((60, 30, 100, 70),)), SIZE).tobytes() == drawn("box").tobytes()
    with pytest.raises(SettingsError, match="the box 60,30,200,70 is not in the picture of 160 x 120 pixels"):
        mask_of(Inpaint(boxes=((60, 30, 200, 70),)), SIZE)


def test_a_mask_with_nothing_in_it_is_refused() -> None:
    for area in parts.AREAS:
        told = Inpaint(png(Image.new("L", SIZE)), area=area)
        with pytest.raises(SettingsError, match="black all over"):
            patch(clouds(1, SIZE), mask_of(told, SIZE), told, SIZE)


@pytest.mark.parametrize("kind", ["box", "round"])
def test_a_mask_is_kept_as_it_is(kind: str) -> None:
    told = Inpaint(mask_bytes(drawn(kind)), soft=True)
    assert mask_of(told, SIZE).tobytes() == drawn(kind).tobytes()


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Inpaint(), "it is not said which part"),
        (Inpaint(b"", area="masked"), "there is no area 'masked' .* did you mean 'only masked'"),
        (Inpaint(b"", fill="noise"), "there is no fill 'noise' .* did you mean 'latent noise'"),
        (Inpaint(b"", blur=-1), "0 or more"),
    ],
)
def test_what_cannot_be_is_refused(told: Inpaint, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        parts.check(told)
