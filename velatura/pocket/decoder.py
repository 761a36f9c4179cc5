"""The pocket base's decoder, trained on once its latents stand.

What an autoencoder cannot tell from its latents, squares and L1 paint as the mean of all that it could be: a little too
smooth. Styles that live in grain and stroke lose just that. Here the encoder is held, so that latents mean what they
meant to every denoiser trained on them, and the decoder goes on with one more term: in small windows, and over the
crop, each band of the spectrum is to hold as much power as in the picture, wherever its waves lie.

Shape suffixes: B batch, C channels, H and W height and width, L windows, K bands.
"""

from __future__ import annotations

import math
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from velatura import randomness
from velatura.pocket import shards
from velatura.pocket.architecture import ARCHITECTURES
from velatura.pocket.autoencoder import crops, pixel_losses
from velatura.pocket.muon import optimizers
from velatura.pocket.stages import Settings, agreed, average, keep, log, newest_weights, resume, seeded, take_step

WINDOW = 16
"""Side of the windows whose spectra are compared, in pixels; they overlap by half."""
RINGS = (1.0, 2.0, 3.0, 4.2, 5.7, 7.5, 12.0)
"""Where bands begin and end, in waves per window; from the third on each is four directions apart."""
FLOOR = 1e-4
"""Added to the power of a band, so that an even field has a logarithm; a few grey levels of grain."""
DOUBT = 0.5
"""The share of the posterior's spread that latents are drawn with: the decoder is to bear latents not quite right."""


def train_decoder(rank: int, settings: Settings, folder: Path) -> None:
    """Train the decoder on crops of pictures and textures, from its last checkpoint on."""
    if settings.decoder_crops == 0:
        return
    model = seeded(ARCHITECTURES[settings.kind].autoencoder, settings.seed)
    model.load_state_dict(newest_weights(folder / "autoencoder")["model"])
    model = model.to(settings.device)
    decoder: dict[str, nn.Module] = {"decoder": model.decoder, "post_quant_conv": model.post_quant_conv}
    steppers = optimizers(decoder.values(), lr=settings.decoder_rate)
    state = folder / "decoder"
    step, seen = resume(state, rank, decoder, steppers, None)
    per_step = settings.vae_batch * settings.workers
    pictures = shards.of_autoencoder(folder / "shards", settings.vae_shards)
    kept = time.monotonic()
    while seen < settings.decoder_crops:
        crops_BCHW = crops(pictures, settings, "decoder crops", step, rank).to(settings.device)
        losses = decoder_losses(model, crops_BCHW, seed=settings.seed, step=step, rank=rank)
        loss = sum(losses.values(), (settings.decoder_spectrum - 1) * losses["spectrum"])
        left = 1 - seen / settings.decoder_crops
        rate = settings.decoder_rate * min(1.0, (step + 1) / 50, left / 0.6 + 0.01)
        take_step(steppers, loss, rate=rate, clip=list(decoder.values()))
        step, seen = step + 1, seen + per_step
        last = seen >= settings.decoder_crops
        if step % settings.average_every == 0 or last:
            average(settings, list(decoder.values()))
            log(rank, folder, "decoder", step, seen, {name: float(value.detach()) for name, value in losses.items()})
            if agreed(settings, time.monotonic() - kept > settings.keep_every) or last:
                keep(state, rank, step, seen, decoder, steppers, None, settings)
                kept = time.monotonic()


def autoencoder_weights(folder: Path) -> dict[str, Tensor]:
    """The autoencoder of a training's state, with the decoder as far as it was trained on."""
    weights: dict[str, Tensor] = dict(newest_weights(folder / "autoencoder")["model"])
    if (folder / "decoder" / "newest.json").exists():
        for part, own in newest_weights(folder / "decoder").items():
            weights |= {f"{part}.{key}": value for key, value in own.items()}
    return weights


def decoder_losses(model: Any, crops_BCHW: Tensor, *, seed: int, step: int, rank: int) -> dict[str, Tensor]:
    """The terms of the decoder's loss on pictures in [-1, 1]; the encoder has no part in their gradient."""
    with torch.no_grad():
        posterior = model.encode(crops_BCHW).latent_dist
        noise = randomness.normal(tuple(posterior.mean.shape), seed, "doubt", step, rank).to(crops_BCHW.device)
    rebuilt = model.decode(posterior.mean + DOUBT * posterior.std * noise).sample
    return {**pixel_losses(rebuilt - crops_BCHW), "spectrum": spectrum_loss(rebuilt, crops_BCHW)}


def spectrum_loss(rebuilt_BCHW: Tensor, picture_BCHW: Tensor) -> Tensor:
    """How far apart two pictures' powers are in each band, in decades: window by window, and in the mean of all."""
    found, wanted = band_power(rebuilt_BCHW), band_power(picture_BCHW)
    near = (torch.log10(found + FLOOR) - torch.log10(wanted + FLOOR)).abs().mean()
    whole = (torch.log10(found.mean(1) + FLOOR / 4) - torch.log10(wanted.mean(1) + FLOOR / 4)).abs().mean()
    return near + whole


def band_power(picture_BCHW: Tensor) -> Tensor:
    """The mean power in each band of each window, shape (B, L, C, K); channels are brightness and two contrasts."""
    window, bands_PK, opponent = (part.to(picture_BCHW) for part in _bands())
    contrasts = torch.einsum("oc,bchw->bohw", opponent, picture_BCHW)
    cut = F.unfold(contrasts, WINDOW, stride=WINDOW // 2).transpose(1, 2)
    windows = cut.reshape(*cut.shape[:2], 3, WINDOW, WINDOW)
    windows = (windows - windows.mean((-1, -2), keepdim=True)) * window
    power: Tensor = torch.fft.rfft2(windows).abs().square() / WINDOW**2
    return torch.matmul(power.flatten(-2), bands_PK)


@cache
def _bands() -> tuple[Tensor, Tensor, Tensor]:
    """A Hann window of mean square 1, the share of each coefficient in each band, and red, green, blue as contrasts."""
    slope = torch.hann_window(WINDOW, periodic=False)
    window = torch.outer(slope, slope)
    down = (torch.fft.fftfreq(WINDOW) * WINDOW)[:, None]
    across = (torch.fft.rfftfreq(WINDOW) * WINDOW)[None, :]
    radius = torch.hypot(down, across)
    direction = (torch.atan2(down, across) + math.pi / 8) % math.pi // (math.pi / 4)
    bands = []
    for begin, end in pairwise(RINGS):
        ring = (radius >= begin) & (radius < end)
        bands += [ring] if begin < RINGS[2] else [ring & (direction == quarter) for quarter in range(4)]
    shares = torch.stack([band.float().flatten() / band.sum() for band in bands], dim=1)
    opponent = torch.tensor([[0.299, 0.587, 0.114], [0.5, -0.25, -0.25], [0.0, 0.5, -0.5]])
    return window / window.square().mean().sqrt(), shares, opponent
