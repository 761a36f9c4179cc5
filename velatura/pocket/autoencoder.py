"""The pocket base's autoencoder, trained on crops of pictures and textures.

L1 and squares on pixels, L1 on their gradients and on a low-passed picture, a light KL, and an auxiliary target that
ties three latents to the mean colour and fades out (without it the first thousand steps are lost); squared error
beside L1, which alone would rather drop a thin line than draw it half right.

Shape suffixes: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from velatura import randomness
from velatura.pocket import shards
from velatura.pocket.architecture import ARCHITECTURES
from velatura.pocket.muon import optimizers
from velatura.pocket.stages import Settings, agreed, average, keep, log, resume, seeded, take_step


def train_autoencoder(rank: int, settings: Settings, folder: Path) -> None:
    """Train the autoencoder on crops of pictures and textures, from its last checkpoint on.

    Where pictures are encoded already it is finished, whatever is asked for: denoisers were trained on its latents.
    """
    if shards.latents(folder / "shards", 0).exists():
        return
    model = seeded(ARCHITECTURES[settings.kind].autoencoder, settings.seed).to(settings.device)
    steppers = optimizers([model], lr=settings.vae_rate)
    state = folder / "autoencoder"
    step, seen = resume(state, rank, {"model": model}, steppers, None)
    per_step = settings.vae_batch * settings.workers
    if seen >= settings.vae_crops:
        return
    pictures = shards.of_autoencoder(folder / "shards", settings.vae_shards)
    kept = time.monotonic()
    while seen < settings.vae_crops:
        crops_BCHW = crops(pictures, settings, "crops", step, rank).to(settings.device)
        share = seen / settings.vae_crops
        rate = settings.vae_rate * min(1.0, (step + 1) / 50) * (1.0 if share < 0.5 else 2 * (1 - share) + 0.02)
        losses = autoencoder_losses(
            model, crops_BCHW, tie=max(0.0, 1 - share / 0.5), seed=settings.seed, step=step, rank=rank
        )
        parts = [losses[name] for name in ("l1", "square", "gradient", "low", "tie")]
        loss = sum(parts, settings.vae_kl * losses["kl"])
        take_step(steppers, loss, rate=rate, clip=[model])
        step, seen = step + 1, seen + per_step
        last = seen >= settings.vae_crops
        if step % settings.average_every == 0 or last:
            average(settings, [model])
            log(rank, folder, "autoencoder", step, seen, {k: float(v.detach()) for k, v in losses.items()})
            if agreed(settings, time.monotonic() - kept > settings.keep_every) or last:
                keep(state, rank, step, seen, {"model": model}, steppers, None, settings)
                kept = time.monotonic()


def autoencoder_losses(
    model: Any, crops_BCHW: Tensor, *, tie: float, seed: int, step: int, rank: int
) -> dict[str, Tensor]:
    """The terms of the autoencoder's loss on pictures in [-1, 1]."""
    posterior = model.encode(crops_BCHW).latent_dist
    noise = randomness.normal(tuple(posterior.mean.shape), seed, "posterior", step, rank).to(crops_BCHW.device)
    latents = posterior.mean + posterior.std * noise
    rebuilt = model.decode(latents).sample
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    colour = F.avg_pool2d(crops_BCHW, 8)
    return {
        **pixel_losses(rebuilt - crops_BCHW),
        "kl": kl,
        "tie": tie * (posterior.mean[:, :3] - 2 * colour).abs().mean(),
    }


def pixel_losses(difference_BCHW: Tensor) -> dict[str, Tensor]:
    """What is wrong pixel by pixel, from one to the next, and at a quarter of the size."""
    across, down = difference_BCHW.diff(dim=-1), difference_BCHW.diff(dim=-2)
    return {
        "l1": difference_BCHW.abs().mean(),
        "square": 4 * difference_BCHW.square().mean(),
        "gradient": across.abs().mean() + down.abs().mean(),
        "low": F.avg_pool2d(difference_BCHW, 4).abs().mean(),
    }


def crops(pictures: list[Any], settings: Settings, purpose: str, step: int, rank: int) -> Tensor:
    """Squares cut out of pictures for one step of one worker, half of them mirrored; (B, C, H, W) in [-1, 1]."""
    rng = randomness.generator(settings.seed, purpose, step, rank)
    side, cut = settings.vae_crop, []
    for _ in range(settings.vae_batch):
        source = pictures[rng.integers(len(pictures))]
        picture = source[rng.integers(len(source))]
        top, left = rng.integers(0, picture.shape[0] - side + 1, size=2)
        crop = picture[top : top + side, left : left + side]
        cut.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    stacked = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1
