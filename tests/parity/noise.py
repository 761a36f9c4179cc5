"""Noise: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Noise"

INTRO = """
What a seed draws, by A1111's formulae (its `rng.py` and `rng_philox.py` were run beside this) and torchsde's tree.
The source is the processor unless `--set rng=` says nv or gpu; in A1111 it is the graphics card, and there the
numbers of large latents depend on the model of card.
"""

A1111 = "A1111 1.10"

NOISE = "generation/test_noise.py::test_noise_is_that_of_a1111"

ROWS = (
    Row(
        "RNG source CPU and NV", A1111, 0, NOISE, "the first draw and those of samplers, each picture from its own seed"
    ),
    Row("RNG source GPU", "–", None, note="the card's own generator, as there; refused where there is no card"),
    Row("Variation seed and strength, seed resize, ENSD", A1111, 0, NOISE),
    Row(
        "Noise of the stochastic samplers (DPM++ SDE and its kin)",
        "torchsde 0.2.6",
        0,
        "generation/test_noise.py::test_brownian_noise_is_that_of_torchsde",
        "one Brownian path for each picture's seed, as in A1111; `one_path` is its option to have one for the batch",
    ),
    Row(
        "The same, where a schedule differs in the last digit of float32",
        A1111,
        0.02,
        "generation/test_noise.py::test_noise_levels_are_counted_to_a_millionth",
        "the path is looked up at noise levels rounded to a millionth",
    ),
    Row(
        "Noise to start from",
        "ComfyUI",
        None,
        note="another: there one generator draws for the whole batch, and epsilon starts from a variance of "
        "1 + sigma^2",
    ),
)
