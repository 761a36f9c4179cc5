"""Classifier-free guidance."""

from __future__ import annotations

import pytest
import torch

from tests.parity import guidance as page
from tests.parity import within
from velatura.diffusion.guidance import classifier_free, rescaled
from velatura.diffusion.objective import Objective

torch.set_num_threads(1)

POSITIVE, NEGATIVE = torch.randn(2, 2, 4, 5, 3, generator=torch.Generator().manual_seed(0))


def test_scale_one_is_the_prompt_and_scale_zero_the_negative_prompt() -> None:
    torch.testing.assert_close(classifier_free(POSITIVE, NEGATIVE, 1.0), POSITIVE)
    assert torch.equal(classifier_free(POSITIVE, NEGATIVE, 0.0), NEGATIVE)


def test_guidance_goes_past_the_prompt_away_from_the_negative_one() -> None:
    torch.testing.assert_close(classifier_free(POSITIVE, NEGATIVE, 7.0), 7 * POSITIVE - 6 * NEGATIVE)


def test_each_image_may_have_its_own_scale() -> None:
    scaled = classifier_free(POSITIVE, NEGATIVE, torch.tensor([2.0, 5.0], dtype=torch.float64))
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled[0], classifier_free(POSITIVE[0], NEGATIVE[0], 2.0))
    torch.testing.assert_close(scaled[1], classifier_free(POSITIVE[1], NEGATIVE[1], 5.0))


def test_guiding_predictions_or_clean_latents_is_the_same() -> None:
    noisy = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.3, 0.8])
    for objective in (Objective.from_betas(), Objective.from_betas("v"), Objective.flow()):
        before = objective.denoised(noisy, classifier_free(POSITIVE, NEGATIVE, 5.0), sigma)
        after = classifier_free(
            objective.denoised(noisy, POSITIVE, sigma), objective.denoised(noisy, NEGATIVE, sigma), 5.0
        )
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaling_is_that_of_diffusers(share: float) -> None:
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import rescale_noise_cfg

    guided = classifier_free(POSITIVE, NEGATIVE, 7.0)
    found = rescaled(guided, POSITIVE, share)
    tolerance = within(page.ROWS, "cfg_rescale")
    torch.testing.assert_close(found, rescale_noise_cfg(guided, POSITIVE, share), rtol=tolerance, atol=tolerance)
    if share == 1:
        torch.testing.assert_close(found.std(dim=(1, 2, 3)), POSITIVE.std(dim=(1, 2, 3)))
    assert share == 0 or float((found - guided).abs().max()) > 100 * tolerance
