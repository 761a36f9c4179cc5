"""Held-out loss: the same pictures, noise and noise levels for every checkpoint and for the base.

Unlike the training loss it has signal: noise levels are stratified, the noise is fixed for each
picture, and every checkpoint is paired with the base, so most of the variance cancels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from velatura import randomness
from velatura.family import Model, stack_prompts
from velatura.generation.reading import breakdown
from velatura.training.data import Batch, Sample, conditioned, stack_masks
from velatura.training.losses import errors


@torch.no_grad()
def cells(model: Model, samples: Sequence[Sample], *, strata: int) -> NDArray[np.float64]:
    """The error of every picture at every noise level, shape (pictures, strata), strata by rising sigma.

    The noise of a cell follows from the picture's content and the stratum: not from the run's seed,
    so that two runs on the same pictures can be compared.

    Raises:
        ModelError: an error is no number.
    """
    device = model.policy.device
    rows = []
    for sample in samples:
        shape = tuple(sample.latents_CHW.shape)
        sigma_K = model.objective_for(*shape[-2:]).strata(strata)
        name = sample.prepared.picture.sha256
        noise = torch.stack([randomness.normal(shape, 0, "held-out", name, k) for k in range(strata)])
        text = stack_prompts([sample.texts[0]] * strata, sample.texts[0]).to(device)
        clean = sample.latents_CHW.expand(strata, *shape)
        told = conditioned(model, text, [sample.geometry] * strata)
        mask = stack_masks([sample.mask_HW] * strata, sample.latents_CHW)
        batch = Batch(clean.to(device), noise.to(device), sigma_K, told, mask_B1HW=mask)
        rows.append(errors(model, batch).cpu().double().numpy())
        if not np.isfinite(rows[-1]).all():
            what = f"the held-out loss of {sample.prepared.picture.name}"
            raise breakdown(model, what, "memory.precision", model.policy.dtype)
    return np.stack(rows) if rows else np.empty((0, strata))
