"""Held-out loss: the arithmetic of paired losses."""

from __future__ import annotations

import numpy as np
import pytest

from velatura.evaluation import heldout

LOG_SNR = (4.0, 3.0, 1.0, 0.0, -2.0, -4.0)


def base(pictures: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 0.4, (pictures, len(LOG_SNR)))


def test_the_base_against_itself_is_exactly_zero() -> None:
    found = heldout.held_out_loss(base(), base(), log_snr=LOG_SNR)

    assert found.value == 0 and found.interval == (0, 0)
    assert set(found.bands.values()) == {0}


def test_a_loss_three_percent_lower_everywhere_says_so_whatever_its_level() -> None:
    found = heldout.held_out_loss(base() * 0.97, base(), log_snr=LOG_SNR)

    assert found.value == pytest.approx(np.log(0.97))


def test_bands_are_thirds_from_little_noise_to_much_in_whatever_order_strata_come() -> None:
    shift = np.array([0.9, 0.9, 1.0, 1.0, 1.2, 1.2])
    order = [3, 0, 5, 1, 4, 2]

    found = heldout.held_out_loss((base() * shift)[:, order], base()[:, order], log_snr=[LOG_SNR[k] for k in order])

    assert found.bands == pytest.approx({"detail": np.log(0.9), "structure": 0, "composition": np.log(1.2)})


@pytest.mark.parametrize("pictures", [3, 6])
def test_the_interval_widens_with_the_scatter_between_pictures(pictures: int) -> None:
    def width(scatter: float) -> float:
        factor = np.exp(scatter * np.random.default_rng(1).standard_normal((pictures, 1)) - 0.02)
        found = heldout.held_out_loss(base(pictures) * factor, base(pictures), log_snr=LOG_SNR)
        assert found.interval is not None and found.interval[0] <= found.value <= found.interval[1]
        return found.interval[1] - found.interval[0]

    assert width(0.05) == pytest.approx(5 * width(0.01))


def test_one_picture_has_a_value_and_no_interval() -> None:
    found = heldout.held_out_loss(base(1) * 0.9, base(1), log_snr=LOG_SNR)

    assert found.value == pytest.approx(np.log(0.9))
    assert found.standard_error is None and found.interval is None


def test_checkpoints_are_compared_picture_by_picture() -> None:
    scatter = np.exp(0.3 * np.random.default_rng(2).standard_normal((6, 1)))
    early = heldout.held_out_loss(base() * scatter, base(), log_snr=LOG_SNR)
    late = heldout.held_out_loss(base() * scatter * 1.01, base(), log_snr=LOG_SNR)

    difference, error = heldout.worse_by(late, early)

    assert difference == pytest.approx(np.log(1.01))
    assert error is not None and error < 1e-6 < (early.standard_error or 0)


def test_the_gap_is_what_was_learnt_by_heart() -> None:
    held_out = heldout.held_out_loss(base() * 0.98, base(), log_snr=LOG_SNR)
    training = heldout.held_out_loss(base() * 0.90, base(), log_snr=LOG_SNR)

    assert heldout.gap(held_out, training) == pytest.approx(np.log(0.98 / 0.90))


def test_text_reliance_is_the_share_of_what_the_base_gains_from_captions() -> None:
    right = base()

    found = heldout.text_reliance(right * 0.9, right * 0.9 * 1.05, right, right * 1.10)

    assert found.share == pytest.approx(np.log(1.05) / np.log(1.10))
    assert heldout.text_reliance(right, right, right, right * 1.1).share == 0


def test_a_base_that_gains_nothing_from_captions_gives_no_share() -> None:
    right = base()
    noise = np.exp(0.1 * np.random.default_rng(3).standard_normal((6, 1)))

    assert heldout.text_reliance(right, right * 1.1, right, right * noise).share is None


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_a_loss_that_is_no_positive_number_is_refused(broken: float) -> None:
    losses = base()
    losses[2, 1] = broken

    with pytest.raises(ValueError, match="positive number"):
        heldout.held_out_loss(losses, base(), log_snr=LOG_SNR)


def test_cells_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(6, 6\) and \(5, 6\)"):
        heldout.held_out_loss(base(6), base(5), log_snr=LOG_SNR)
