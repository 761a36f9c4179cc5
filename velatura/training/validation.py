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
from velatura.adapters.lora import Injected
from velatura.family import Model, stack_prompts
from velatura.generation.reading import breakdown
from velatura.recipe import ValidationSettings
from velatura.training.adapter import changes_text
from velatura.training.data import Batch, Cached, Sample, conditioned, stack_masks
from velatura.training.encoding import retold
from velatura.training.losses import errors
from velatura.weights.convolutions import FastConvolutions


@torch.no_grad()
def cells(model: Model, samples: Sequence[Sample], *, strata: int) -> NDArray[np.float64]:
    """The error of every picture at every noise level, shape (pictures, strata), strata by rising sigma.

    The noise of a cell follows from the picture's content and the stratum: not from the run's seed,
    so that two runs on the same pictures can be compared.

    Raises:
        ModelError: an error is no number.
    """
    device, fast = model.policy.device, FastConvolutions(model.parts["denoiser"])
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
        with fast:
            rows.append(errors(model, batch).cpu().double().numpy())
        if not np.isfinite(rows[-1]).all():
            what = f"the held-out loss of {sample.prepared.picture.name}"
            raise breakdown(model, what, "memory.precision", model.policy.dtype)
    return np.stack(rows) if rows else np.empty((0, strata))


BANDS = ("detail", "structure", "composition")
"""From little noise to much: what a denoiser decides at each."""


class HeldOut:
    """The held-out loss of an adapter in training, beside the base's."""

    def __init__(self, model: Model, injected: Injected, cached: Cached, told: ValidationSettings) -> None:
        """Nothing is measured yet."""
        self.model, self.injected, self.strata = model, injected, told.strata
        self.samples = cached.held_out[: told.pictures]
        self.anew = changes_text(injected.layers) or bool(model.words)
        self._base: NDArray[np.float64] | None = None

    def measure(self) -> dict[str, float]:
        """ln(loss / the base's loss), mean over pictures and noise levels, and of each third of these.

        0 is the base and -0.02 about 2 % lower. Empty where no picture is held out.

        Raises:
            ModelError: an error is no number.
        """
        if not self.samples:
            return {}
        if self._base is None:
            with self.injected.silent():
                self._base = cells(self.model, self.samples, strata=self.strata)
        samples = retold(self.model, self.samples) if self.anew else self.samples
        ratio_NK = np.log(cells(self.model, samples, strata=self.strata) / self._base)
        thirds = zip(BANDS, np.array_split(ratio_NK, len(BANDS), axis=1), strict=True)
        bands = {f"held_out_{name}": float(part.mean()) for name, part in thirds if part.size}
        return {"held_out": float(ratio_NK.mean()), **bands}
