"""Where a picture's noise comes from: its seed, its variation, and whose generator draws.

Each picture draws from its own stream, so its place in a batch changes nothing. Sources, by A1111's names: "cpu" is
torch's generator on the processor, "gpu" that of the device, "nv" that of NVIDIA's cards computed anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from velatura.errors import SettingsError
from velatura.generation import philox
from velatura.generation.brownian import Normals, Path, unit_noise

Source = Literal["cpu", "gpu", "nv"]
Shape = tuple[int, ...]
Draw = Callable[[Shape], Tensor]

SEEDS = 2**64
CLOSE = 0.9995
"""Noise more alike than this is mixed along a straight line."""


@dataclass(frozen=True)
class Seed:
    """What decides a picture's noise."""

    seed: int
    variation: int = 0
    """The seed of the noise that it is mixed with."""
    strength: float = 0.0
    """How much of that: 0 is none, 1 nothing else."""


class SeededNoise:
    """Noise for a batch: the first draw is what pictures start from, the others are for samplers that ask for more."""

    def __init__(
        self,
        seeds: Sequence[Seed],
        shape: Shape,
        device: torch.device | str,
        *,
        source: Source = "cpu",
        seed_delta: int = 0,
        resized_from: tuple[int, int] | None = None,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            seeds: one of each picture.
            shape: of its latents.
            device: where the noise is wanted.
            source: whose generator draws.
            seed_delta: added to the seeds for what samplers draw: A1111's "eta noise seed delta".
            resized_from: latent height and width of pictures whose composition is to be kept at this size.

        Raises:
            SettingsError: the device has no generator of its own.
        """
        check_source(source, device)
        self._seeds, self._shape, self._device = seeds, shape, device
        self._source, self._seed_delta, self._resized_from = source, seed_delta, resized_from
        self._streams = [stream(source, seed.seed, device) for seed in seeds]
        self._started = False

    def next(self) -> Tensor:
        """The next draw of every picture, unit variance, (B, C, H, W)."""
        if self._started:
            drawn = [draw(self._shape) for draw in self._streams]
        else:
            drawn = [self._first(seed, draw) for seed, draw in zip(self._seeds, self._streams, strict=True)]
            self._started = True
            if self._seed_delta:
                moved = [(seed.seed + self._seed_delta) % SEEDS for seed in self._seeds]
                self._streams = [stream(self._source, seed, self._device) for seed in moved]
        return torch.stack(drawn).to(self._device)

    def fresh(self, sigma: float, following: float) -> Tensor:
        """The next draw, for samplers, wherever they step."""
        return self.next()

    def path(self, low: float, high: float, *, together: bool = False) -> Callable[[float, float], Tensor]:
        """Noise of each picture's Brownian path over noise levels from low to high; variations have their seed's.

        Args:
            low: the lowest above 0.
            high: the highest.
            together: one path for the whole batch, from the last picture's seed, so that the batch matters: what A1111
                does where it is told not to make DPM++ SDE deterministic across batch sizes.
        """
        if together:
            generator = torch.Generator("cpu").manual_seed(self._seeds[-1].seed)
            seed = int(torch.randint(0, 2**63 - 1, [], generator=generator))
            whole = Path([seed], low, high, normals(self._source, 1, (len(self._seeds), *self._shape), self._device))
            return lambda sigma, following: unit_noise(whole, sigma, following)[0].to(self._device)
        drawn = normals(self._source, len(self._seeds), self._shape, self._device)
        paths = Path([one.seed for one in self._seeds], low, high, drawn)
        return lambda sigma, following: unit_noise(paths, sigma, following).to(self._device)

    def _first(self, seed: Seed, draw: Draw) -> Tensor:
        if self._resized_from is None:
            return self._varied(seed, draw(self._shape))
        small = (self._shape[0], *self._resized_from)
        if small == self._shape:
            return self._varied(seed, draw(self._shape))
        return _inlaid(draw(self._shape), self._varied(seed, self._alone(small, seed.seed)))

    def _varied(self, seed: Seed, noise: Tensor) -> Tensor:
        if not seed.strength:
            return noise
        return mixed(noise, self._alone(tuple(noise.shape), seed.variation), seed.strength)

    def _alone(self, shape: Shape, seed: int) -> Tensor:
        return stream(self._source, seed, self._device)(shape)


def stream(source: Source, seed: int, device: torch.device | str) -> Draw:
    """Draw after draw from one seed; what "cpu" and "nv" draw is on the processor."""
    if source == "nv":
        count = -1

        def draw(shape: Shape) -> Tensor:
            nonlocal count
            count += 1
            return torch.from_numpy(philox.normals(seed, count, shape))

        return draw
    place = "cpu" if source == "cpu" else device
    generator = torch.Generator(place).manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator, device=place)


def normals(source: Source, count: int, shape: Shape, device: torch.device | str) -> Normals:
    """What as many streams as there are pictures begin with, (N, *); what is drawn holds until the next is."""
    if source == "nv":
        return lambda seeds: torch.from_numpy(np.stack([philox.normals(seed, 0, shape) for seed in seeds]))
    place = "cpu" if source == "cpu" else device
    generator, found = torch.Generator(place), torch.empty((count, *shape), device=place)
    rows = found.unbind()

    def drawn(seeds: Sequence[int]) -> Tensor:
        for row, seed in zip(rows, seeds, strict=True):
            row.normal_(generator=generator.manual_seed(seed))
        return found

    return drawn


def check_source(source: Source, device: torch.device | str) -> None:
    """Refuse a generator that there is not.

    Raises:
        SettingsError: it is the device's own, and the device is no NVIDIA or AMD card.
    """
    kind = torch.device(device).type
    if source == "gpu" and kind != "cuda":
        raise SettingsError(
            f"the generator of the graphics card is not here: pictures are painted on {kind}",
            fix="use rng nv, which computes an NVIDIA card's numbers anywhere, or rng cpu",
        )


def mixed(noise_CHW: Tensor, other_CHW: Tensor, strength: float) -> Tensor:
    """Noise turned towards other noise, in A1111's arithmetic: along the arc, column by column of each channel.

    Args:
        noise_CHW: what strength 0 gives.
        other_CHW: what strength 1 gives.
        strength: 0 to 1.
    """
    unit_CHW = noise_CHW / torch.linalg.vector_norm(noise_CHW, dim=1, keepdim=True)
    other_unit_CHW = other_CHW / torch.linalg.vector_norm(other_CHW, dim=1, keepdim=True)
    alike_CW = (unit_CHW * other_unit_CHW).sum(1)
    if alike_CW.mean() > CLOSE:  # both are nearly the same, so it does not show that A1111 has them the wrong way round
        return noise_CHW * strength + other_CHW * (1 - strength)
    angle_CW = torch.acos(alike_CW)
    sine_CW = torch.sin(angle_CW)
    kept_CW = torch.sin((1.0 - strength) * angle_CW) / sine_CW
    return kept_CW.unsqueeze(1) * noise_CHW + (torch.sin(strength * angle_CW) / sine_CW).unsqueeze(1) * other_CHW


def _inlaid(large_CHW: Tensor, small_CHW: Tensor) -> Tensor:
    """The middle of one noise replaced by that of the other."""
    (_, tall, wide), (_, height, width) = large_CHW.shape, small_CHW.shape
    right, down = (wide - width) // 2, (tall - height) // 2
    shown_width = width if right >= 0 else width + 2 * right
    shown_height = height if down >= 0 else height + 2 * down
    to_x, to_y, from_x, from_y = max(right, 0), max(down, 0), max(-right, 0), max(-down, 0)
    found = large_CHW.clone()
    found[:, to_y : to_y + shown_height, to_x : to_x + shown_width] = small_CHW[
        :, from_y : from_y + shown_height, from_x : from_x + shown_width
    ]
    return found
