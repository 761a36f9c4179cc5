"""The loss of a batch: how far the denoiser's prediction is from what it should have said.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from torch import Tensor

from velatura.family import Model
from velatura.training.data import Batch


def errors(model: Model, batch: Batch) -> Tensor:
    """Mean squared error of every sample, fp32, (B,); the mean is over all latents, those that a mask hides too."""
    objective = model.objective_for(*batch.clean_BCHW.shape[-2:])
    noisy_BCHW = objective.add_noise(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B)
    predicted_BCHW = model.family.predict(model, noisy_BCHW, batch.sigma_B, batch.conditioning)
    target_BCHW = objective.target(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B)
    square_BCHW = (predicted_BCHW.float() - target_BCHW.float()).square()
    if batch.mask_B1HW is not None:
        square_BCHW = square_BCHW * batch.mask_B1HW.to(square_BCHW.device)
    return square_BCHW.mean(dim=(1, 2, 3))


def loss(model: Model, batch: Batch, *, min_snr: float | None) -> Tensor:
    """The batch's weighted mean error, a scalar; without a gamma, or at 0, every noise level counts the same.

    Samples count as their batch says. Source of the weight by noise level: Hang et al. 2023, arXiv:2303.09556.
    """
    weight_B = model.objective.loss_weight(batch.sigma_B, min_snr or None)
    if batch.weight_B is not None:
        weight_B = weight_B * batch.weight_B
    error_B = errors(model, batch)
    return (error_B * weight_B.to(error_B.dtype).to(error_B.device)).mean()
