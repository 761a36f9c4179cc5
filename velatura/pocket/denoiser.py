"""The pocket base's denoiser and text encoder, trained together on latents.

Epsilon and v on Stable Diffusion's schedule, min-SNR 5; flow on a straight path, every noise level alike. Of all
kinds: a tenth of the captions dropped, strange words in some, noise levels drawn evenly and stratified over all
workers, Muon with AdamW, a flat rate, an exponential average of the weights.

Flow's noise levels are drawn evenly although more in the middle is the custom (Esser et al. 2024, arXiv:2403.03206):
a LoRA's training and the held-out loss draw them evenly too, and a level that the base hardly saw would look like
something that the LoRA has to teach.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from velatura import randomness
from velatura.diffusion.objective import Objective
from velatura.families.z_image.model import HIDDEN_LAYER
from velatura.pocket.architecture import ARCHITECTURES, SCHEDULER
from velatura.pocket.latents import BEYOND, Latents
from velatura.pocket.muon import optimizers
from velatura.pocket.stages import (
    Settings,
    agreed,
    average,
    denoiser_folder,
    keep,
    log,
    resume,
    seeded,
    take_step,
)


def train_denoiser(rank: int, settings: Settings, folder: Path) -> None:
    """Train text encoder and denoiser on latents, from the last checkpoint on."""
    made = ARCHITECTURES[settings.kind]
    text_encoder = seeded(made.text_encoder, settings.seed).to(settings.device)
    denoiser = seeded(made.denoiser, settings.seed + 1).to(settings.device, memory_format=torch.channels_last)
    trained: dict[str, nn.Module] = {"text_encoder": text_encoder, "denoiser": denoiser}
    averaged = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in trained.items()}
    steppers = optimizers(trained.values(), lr=settings.rate)
    state = denoiser_folder(folder, settings.kind)
    step, seen = resume(state, rank, trained, steppers, averaged)
    per_step = settings.batch * settings.workers
    data = Latents(rank, settings, folder)
    kept = time.monotonic()
    while seen < settings.samples:
        latents, tokens = data.batch(step, seen)
        loss = denoiser_loss(text_encoder, denoiser, latents, tokens, settings, step, rank)
        rate = settings.rate * min(1.0, (step + 1) / settings.warmup)
        if settings.anneal:
            rate *= min(1.0, (settings.samples - seen) / settings.anneal)
        take_step(steppers, loss, rate=rate, clip=list(trained.values()))
        step, seen = step + 1, seen + per_step
        last = seen >= settings.samples
        if step % settings.average_every == 0 or last:
            average(settings, list(trained.values()))
            # a tenth of the way so far, until the full horizon is reached
            decay = min(settings.ema, 1 - 1 / (10 + step / 10)) ** settings.average_every
            for name, module in trained.items():
                for key, value in module.state_dict().items():
                    if value.is_floating_point():
                        averaged[name][key].lerp_(value, 1 - decay)
            log(rank, folder, state.name, step, seen, {"loss": float(loss.detach()), "shards": data.count})
            if agreed(settings, time.monotonic() - kept > settings.keep_every) or last:
                keep(state, rank, step, seen, trained, steppers, averaged, settings)
                kept = time.monotonic()


def denoiser_loss(
    text_encoder: Any,
    denoiser: Any,
    latents_BCHW: Tensor,
    tokens_BL: Tensor,
    settings: Settings,
    step: int,
    rank: int,
) -> Tensor:
    """Loss of one batch; noise levels are stratified over all workers' samples."""
    count = len(latents_BCHW)
    rng = randomness.generator(settings.seed, "timesteps", step)
    total = count * settings.workers
    strata = (rng.permutation(total) + rng.random(total)) / total
    level_B = strata[rank * count : (rank + 1) * count]
    noise_BCHW = randomness.normal(tuple(latents_BCHW.shape), settings.seed, "noise", step, rank)
    loss = flow_loss if settings.kind == "flow" else diffusion_loss
    return loss(text_encoder, denoiser, latents_BCHW, noise_BCHW.to(latents_BCHW.device), tokens_BL, level_B, settings)


def diffusion_loss(
    text_encoder: Any,
    denoiser: Any,
    latents_BCHW: Tensor,
    noise_BCHW: Tensor,
    tokens_BL: Tensor,
    level_B: NDArray[np.float64],
    settings: Settings,
) -> Tensor:
    """Min-SNR weighted loss of epsilon or v, as the settings say.

    Args:
        level_B: the timesteps, from 0 to 1.

    Sources: Hang et al. 2023, arXiv:2303.09556; v, Salimans and Ho 2022, arXiv:2202.00512.
    """
    alphas = cumulative_alphas().to(latents_BCHW.device)
    timesteps = torch.from_numpy((level_B * len(alphas)).astype(np.int64)).to(latents_BCHW.device)
    alpha = alphas[timesteps].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * latents_BCHW + (1 - alpha).sqrt() * noise_BCHW
    snr = alphas[timesteps] / (1 - alphas[timesteps])
    if settings.kind == "v":
        target, size = alpha.sqrt() * noise_BCHW - (1 - alpha).sqrt() * latents_BCHW, snr + 1
    else:
        target, size = noise_BCHW, snr
    encoded = text_encoder(tokens_BL).last_hidden_state
    predicted = denoiser(noisy, timesteps, encoded).sample
    error = (predicted - target).square().mean(dim=(1, 2, 3))
    weighted: Tensor = (error * snr.clamp(max=settings.min_snr) / size).mean()
    return weighted


def flow_loss(
    text_encoder: Any,
    denoiser: Any,
    latents_BCHW: Tensor,
    noise_BCHW: Tensor,
    tokens_BL: Tensor,
    level_B: NDArray[np.float64],
    settings: Settings,
) -> Tensor:
    """Squared error of the velocity, told and answered as Z-Image does: 1 - sigma in, minus the velocity out.

    Args:
        level_B: the noise levels before the shift, from 0 to 1.
    """
    objective = Objective.from_scheduler(ARCHITECTURES[settings.kind].scheduler)
    sigma_B = objective.training_sigma(torch.from_numpy(level_B))
    noisy = objective.add_noise(latents_BCHW, noise_BCHW, sigma_B)
    read = tokens_BL != BEYOND
    longest = int(read.sum(dim=1).max())
    read, tokens_BL = read[:, :longest], tokens_BL[:, :longest].clamp(min=0)
    hidden = text_encoder(tokens_BL, output_hidden_states=True, use_cache=False).hidden_states[HIDDEN_LAYER]
    captions = [features[here] for features, here in zip(hidden, read, strict=True)]
    done_B = (1 - sigma_B).float().to(latents_BCHW.device)
    said = denoiser(list(noisy.unsqueeze(2)), done_B, captions, return_dict=False)[0]
    velocity = -torch.stack(list(said)).squeeze(2)
    return (velocity - objective.target(latents_BCHW, noise_BCHW, sigma_B)).square().mean()


@cache
def cumulative_alphas() -> Tensor:
    """Stable Diffusion's cumulative alphas, fp32 of the fp64 product, shape (1000,)."""
    start, end, count = SCHEDULER["beta_start"], SCHEDULER["beta_end"], SCHEDULER["num_train_timesteps"]
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()
