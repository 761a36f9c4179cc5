"""Pictures as they look so far: clean latents as small RGB pictures, at no cost worth naming.

A linear map of a latent's channels to red, green and blue shows a picture an eighth of its size. The map belongs to the
autoencoder, which is known by its channels and its scale; pictures of an unknown one are decoded in full.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
Sources: the factors of SD 1.x, SDXL and FLUX.1 (whose autoencoder Z-Image has) are those published in ComfyUI's
`latent_formats`; those of the pocket base are `fit`ted on 480 of its scenes, see tests/generation/test_preview.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from velatura.family import Model


@dataclass(frozen=True)
class Factors:
    """What a latent's channels are in red, green and blue, in [-1, 1]."""

    rows: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


SD1 = Factors(
    ((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177))
)
SDXL = Factors(
    ((0.3651, 0.4232, 0.4341), (-0.2533, -0.0042, 0.1068), (0.1076, 0.1111, -0.0362), (-0.3165, -0.2492, -0.2188)),
    (0.1084, -0.0175, -0.0011),
)
FLUX1 = Factors(
    (
        (-0.0346, 0.0244, 0.0681), (0.0034, 0.0210, 0.0687), (0.0275, -0.0668, -0.0433), (-0.0174, 0.0160, 0.0617),
        (0.0859, 0.0721, 0.0329), (0.0004, 0.0383, 0.0115), (0.0405, 0.0861, 0.0915), (-0.0236, -0.0185, -0.0259),
        (-0.0245, 0.0250, 0.1180), (0.1008, 0.0755, -0.0421), (-0.0515, 0.0201, 0.0011), (0.0428, -0.0012, -0.0036),
        (0.0817, 0.0765, 0.0749), (-0.1264, -0.0522, -0.1103), (-0.0280, -0.0881, -0.0499), (-0.1262, -0.0982, -0.0778),
    ),
    (-0.0329, -0.0718, -0.0851),
)  # fmt: skip

POCKET = Factors(
    (
        (0.5450, 0.4483, 0.0199), (0.3986, 0.8166, 0.1017), (0.0503, 0.0096, 0.2782), (0.0222, 0.0065, 0.1711),
        (0.0574, -0.1547, -0.0535), (-0.0613, 0.0951, 0.0261), (0.0106, 0.0761, 0.0321), (-0.0491, 0.0200, -0.0667),
        (0.0191, 0.0023, -0.0068), (0.0078, 0.0090, 0.0121), (0.0087, -0.0022, -0.0188), (-0.0050, 0.0019, 0.0050),
        (0.0009, 0.0045, -0.0148), (-0.0042, -0.0043, -0.0008), (-0.0045, -0.0034, 0.0033), (0.0036, 0.0029, -0.0106),
    ),
    (0.0475, -0.0255, 0.0350),
)  # fmt: skip
"""98.7 % of the variance of colour is explained."""

KNOWN: dict[tuple[int, float], Factors] = {
    (4, 0.18215): SD1,
    (4, 0.13025): SDXL,
    (16, 0.3611): FLUX1,
    (16, 0.50601): POCKET,
}
"""Channels and scale of an autoencoder -> its factors."""


@torch.inference_mode()
def small_pictures(model: Model, latents_BCHW: Tensor) -> list[Image.Image]:
    """Clean latents as pictures: one pixel for each latent where the autoencoder is known, else in full."""
    factors = KNOWN.get((model.latent_channels, round(model.latent_scale, 5)))
    if factors is None:
        pixels = torch.cat([model.family.decode_latents(model, one[None]) for one in latents_BCHW])
    else:
        rows = torch.tensor(factors.rows, device=latents_BCHW.device)
        bias = torch.tensor(factors.bias, device=latents_BCHW.device)
        pixels = functional.linear(latents_BCHW.float().movedim(1, -1), rows.T, bias).movedim(-1, 1)
    scaled = ((pixels.nan_to_num().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    return [Image.fromarray(np.ascontiguousarray(one.permute(1, 2, 0).numpy())) for one in scaled]


@torch.inference_mode()
def fit(model: Model, images: Sequence[Image.Image]) -> tuple[Factors, float]:
    """The factors of a base's autoencoder by least squares, and the share of the variance that they explain.

    Args:
        images: RGB, of sides that its latents can have; each is compared with itself at the size of its latents.
    """
    latents, colours = [], []
    for image in images:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1
        found = model.family.encode_images(model, pixels).float()
        small = functional.interpolate(pixels, size=found.shape[-2:], mode="area")
        latents.append(found[0].flatten(1).T.cpu().numpy())
        colours.append(small[0].flatten(1).T.numpy())
    x, y = np.concatenate(latents).astype(np.float64), np.concatenate(colours).astype(np.float64)
    solved = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    left = y - np.column_stack([x, np.ones(len(x))]) @ solved
    rows = tuple((float(r), float(g), float(b)) for r, g, b in solved[:-1].round(4))
    red, green, blue = solved[-1].round(4)
    return Factors(rows, (float(red), float(green), float(blue))), float(1 - left.var() / y.var())
