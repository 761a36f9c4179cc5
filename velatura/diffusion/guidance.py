"""Classifier-free guidance: away from the negative prompt, towards the prompt.

Several prompts for one picture pull it away from the negative prompt together.

Shape suffixes: B batch, P prompts of one picture, C latent channels, H and W latent height and width.
Source: Ho and Salimans 2022, arXiv:2207.12598; Liu et al. 2022, arXiv:2206.01714 (several prompts); Lin et al. 2023,
arXiv:2305.08891, section 3.4 (rescaling).
"""

from __future__ import annotations

from collections.abc import Sequence

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


def composed(answers_PCHW: Tensor, negative_CHW: Tensor, weights: Sequence[float]) -> Tensor:
    """The answers to several prompts of one picture as one, for `classifier_free`; (C, H, W).

    Predictions and denoised latents may both be given.
    """
    found = negative_CHW.clone()
    for answer, weight in zip(answers_PCHW, weights, strict=True):
        found += weight * (answer - negative_CHW)
    return found


def rescaled(guided_BCHW: Tensor, positive_BCHW: Tensor, share: float) -> Tensor:
    """Guided predictions whose contrast is brought back towards that of the prompt's own answer.

    Args:
        guided_BCHW: what `classifier_free` made of both answers.
        positive_BCHW: the answer to the prompt.
        share: 0 leaves them as they are, 1 gives them the standard deviation of the prompt's answer.
    """
    over = tuple(range(1, guided_BCHW.dim()))
    ratio = positive_BCHW.std(dim=over, keepdim=True) / guided_BCHW.std(dim=over, keepdim=True)
    return guided_BCHW * (share * ratio + (1 - share))
