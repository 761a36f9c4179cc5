"""Classifier-free guidance: away from the negative prompt, towards the prompt.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
Source: Ho and Salimans 2022, arXiv:2207.12598.
"""

from __future__ import annotations

from torch import Tensor


def classifier_free(positive_BCHW: Tensor, negative_BCHW: Tensor, cfg_scale: float | Tensor) -> Tensor:
    """Two answers of the denoiser as one.

    Predictions and denoised latents may both be given: guidance is the same for either.

    Args:
        positive_BCHW: the answer to the prompt.
        negative_BCHW: the answer to the negative prompt.
        cfg_scale: how far to go; 1 is the prompt alone, and then the negative answer is not needed at
            all. A tensor of shape (B,) gives each image its own.
    """
    if isinstance(cfg_scale, Tensor):
        cfg_scale = cfg_scale.to(positive_BCHW).view(-1, *[1] * (positive_BCHW.dim() - 1))
    return negative_BCHW + cfg_scale * (positive_BCHW - negative_BCHW)
