"""How two adapters act together on a base: measured on what it predicts, not on their weights.

Both are painted with together for a few steps; on the noisy latents that come up, the base predicts four times: as it
is, with the first, with the second, and with both. Where the effects add up they leave each other alone, whatever their
weights have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from velatura.family import Conditioning, Model

SUBJECTS = ("a portrait of a woman", "a house by the sea", "a cat on a chair", "a still life with fruit")
"""What is painted, with both adapters' trigger words before it."""

STEPS, MEASURED = 8, (0, 2, 4, 6)
"""Sampling steps, and those at which predictions are compared: from composition to detail."""

Cell = tuple[int, float, "Tensor"]
"""A prompt's place, a noise level, and the noisy latents there, (1, C, H, W)."""


@dataclass(frozen=True)
class Interference:
    """What two adapters do to each other, the mean over prompts and noise levels."""

    interference: float
    """|both - first - second + none| / (|first - none| + |second - none|): 0 where their effects add up."""
    cosine: float
    """Of what each does."""
    dominance: float
    """The second's effect divided by the first's."""
    cells: tuple[dict[str, Any], ...]
    """Each prompt and noise level by itself."""


def interference(
    first: Path, second: Path, base: str, *, strengths: tuple[float, float] = (1.0, 1.0), seed: int = 0
) -> Interference:
    """Measure two adapters on a base: 16 cells, each predicted four times.

    Raises:
        AdapterError: one does not fit the base.
        ModelError, SettingsError: the base is not found, or not known.
    """
    from velatura import bases
    from velatura.adapters.algebra import overlap
    from velatura.api.inputs import set_threads
    from velatura.api.loras import inspect_lora
    from velatura.api.memory import chosen
    from velatura.family import load_base
    from velatura.generation.record import used_loras
    from velatura.recipe import MemorySettings
    from velatura.training.samples import merged

    files = bases.find(base)
    set_threads(None)
    model = load_base(files, policy=chosen(files, MemorySettings(), task="paint").policy)
    given = [f"{path}:{strength}" for path, strength in zip((first, second), strengths, strict=True)]
    one, other = (lora.applied for lora in used_loras(model, "", given, None))
    triggers = [word for path in (first, second) if (word := inspect_lora(path).trigger)]
    prompts = [", ".join([*triggers, subject]) for subject in SUBJECTS]
    uses = {"none": [], "first": [one], "second": [other], "both": [one, other]}
    with merged(model, uses["both"]):
        cells = _cells(model, prompts, seed)
    predicted: dict[str, list[Tensor]] = {}
    for name, used in uses.items():
        with merged(model, used):
            told = [_conditioning(model, prompt) for prompt in prompts]
            predicted[name] = [_predict(model, x, sigma, told[place]) for place, sigma, x in cells]
    measured: list[dict[str, Any]] = []
    for at, (place, sigma, _) in enumerate(cells):
        found = overlap.interference({name: all_of[at].cpu().numpy() for name, all_of in predicted.items()})
        measured.append({"prompt": prompts[place], "sigma": sigma, **found})
    return Interference(
        mean(cell["interference"] for cell in measured),
        mean(cell["cosine"] for cell in measured),
        mean(cell["dominance"] for cell in measured),
        tuple(measured),
    )


def _cells(model: Model, prompts: Sequence[str], seed: int) -> list[Cell]:
    """Noisy latents on the way to a picture of each prompt."""
    import torch

    from velatura import randomness
    from velatura.diffusion import samplers

    side = model.resolution // model.latent_factor
    sampler, schedule = samplers.resolve("Euler", model.defaults.scheduler, model.objective)
    sigmas = schedule(model.objective_for(side, side), STEPS)
    cells: list[Cell] = []
    for place, prompt in enumerate(prompts):
        conditioning = _conditioning(model, prompt)
        noise = randomness.normal((1, model.latent_channels, side, side), seed, "interference", place)
        start = torch.full((1,), sampler.start(sigmas[0]), dtype=torch.float64)
        latents = model.objective.add_noise(torch.zeros_like(noise), noise, start).to(model.policy.device)

        def denoise(
            x: Tensor, sigma: float, step: int, place: int = place, conditioning: Conditioning = conditioning
        ) -> Tensor:
            if step in MEASURED:
                cells.append((place, float(sigma), x.clone()))
            prediction = _predict(model, x, sigma, conditioning)
            return model.objective.denoised(x, prediction, torch.full((1,), float(sigma), dtype=torch.float64))

        for _ in sampler.run(denoise, latents, sigmas, noise=lambda _, __, noise=noise: noise):
            pass
    return cells


def _conditioning(model: Model, prompt: str) -> Conditioning:
    import torch

    from velatura.family import Geometry
    from velatura.generation.reading import encoded

    size = torch.full((1, 2), float(model.resolution))
    return model.conditioned(encoded(model, prompt), geometry=Geometry(size, torch.zeros_like(size), size))


def _predict(model: Model, x: Tensor, sigma: float, conditioning: Conditioning) -> Tensor:
    import torch

    with torch.inference_mode():
        sigma_B = torch.full((1,), float(sigma), dtype=torch.float64)
        return model.family.predict(model, x, sigma_B, conditioning)
