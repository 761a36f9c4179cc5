"""The objective of a base model: how latents are noised and what the denoiser must predict.

One convention for training and generation alike, the sigma space:

    noisy = clean + sigma * noise              epsilon and v: sigma from about 0.03 to 14.6
    noisy = (1 - sigma) * clean + sigma * noise          flow: sigma from 0 to 1

Sigmas are float64 on the CPU wherever numbers are worked out, and become float32 on the latents'
device only as finished coefficients. Latents in half precision therefore come back as float32.
Pure noise to start sampling from is `add_noise(zeros, noise, sigma_max)` for every kind.

Shape suffixes: B batch, C latent channels, H and W latent height and width, T rows of the table.
Sources: Ho et al. 2020, arXiv:2006.11239 (epsilon); Salimans and Ho 2022, arXiv:2202.00512 (v);
Liu et al. 2022, arXiv:2209.03003 (flow); Karras et al. 2022, arXiv:2206.00364 (sigma, scalings);
Lin et al. 2023, arXiv:2305.08891 (zero terminal SNR); Hang et al. 2023, arXiv:2303.09556 (min-SNR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from velatura.errors import ModelError

Kind = Literal["epsilon", "v", "flow"]

FLOW_STEPS = 1000
"""Flow models count their timesteps in thousandths of sigma."""

LAST_ALPHA_BAR = 4.8973451890853435e-08
"""Stands for the 0 that zero terminal SNR asks for; ComfyUI and A1111 use the same, sigma is then 4519."""

HELD_OUT_TIMESTEPS = (20.0, 980.0)
"""Where held-out loss is measured; outside it the loss says nothing about the pictures."""


@dataclass(frozen=True)
class DynamicShift:
    """A flow shift that grows with the image: exp(mu), mu on a straight line through two sizes.

    Source: the FLUX.1 reference code and diffusers' `calculate_shift`.
    """

    base_tokens: int = 256
    max_tokens: int = 4096
    base_mu: float = 0.5
    max_mu: float = 1.15

    def at(self, tokens: int) -> float:
        """The shift for an image of so many latent tokens."""
        slope = (self.max_mu - self.base_mu) / (self.max_tokens - self.base_tokens)
        return math.exp(self.base_mu + slope * (tokens - self.base_tokens))


@dataclass(frozen=True)
class Objective:
    """What one checkpoint was trained to predict, and on which noise levels.

    Make one with `from_betas`, `flow` or `from_scheduler`.
    """

    kind: Kind
    table: tuple[float, ...] = ()
    """Sigma of every training timestep, rising; empty for flow, whose table follows from the shift."""
    shift: float | DynamicShift = 1.0
    """Flow only: how far the noise levels lean towards noise. Dynamic ones need `for_tokens` first."""

    @classmethod
    def from_betas(
        cls,
        kind: Kind = "epsilon",
        *,
        start: float = 0.00085,
        end: float = 0.012,
        schedule: str = "scaled_linear",
        timesteps: int = 1000,
        zero_terminal_snr: bool = False,
    ) -> Objective:
        """An epsilon or v objective from its noise schedule; the defaults are those of SD 1.5 and SDXL.

        Raises:
            ModelError: the schedule is none of linear, scaled_linear and squaredcos_cap_v2.
        """
        alpha_bar = np.cumprod(1.0 - _betas(schedule, start, end, timesteps))
        if zero_terminal_snr:
            alpha_bar = _without_last_signal(alpha_bar)
        return cls(kind, tuple(float(sigma) for sigma in _sigmas(alpha_bar)))

    @classmethod
    def flow(cls, shift: float | DynamicShift = 1.0) -> Objective:
        """A rectified flow; the shift is the checkpoint's own, 3.0 for SD3, dynamic for FLUX.1-dev."""
        return cls("flow", shift=shift)

    @classmethod
    def from_scheduler(cls, config: Mapping[str, object]) -> Objective:
        """The objective that a diffusers `scheduler_config.json` describes.

        Raises:
            ModelError: it predicts something else, or its noise schedule is unknown.
        """
        name = str(config.get("_class_name", ""))
        if "FlowMatch" in name or config.get("prediction_type") == "flow_prediction":
            if not config.get("use_dynamic_shifting", False):
                return cls.flow(_number(config, "shift", _number(config, "flow_shift", 1.0)))
            return cls.flow(
                DynamicShift(
                    int(_number(config, "base_image_seq_len", 256)),
                    int(_number(config, "max_image_seq_len", 4096)),
                    _number(config, "base_shift", 0.5),
                    _number(config, "max_shift", 1.15),
                )
            )
        kinds: dict[str, Kind] = {"epsilon": "epsilon", "v_prediction": "v"}
        prediction = str(config.get("prediction_type", "epsilon"))
        if prediction not in kinds:
            raise ModelError(
                f"this model predicts {prediction!r}; known are epsilon, v_prediction and flow matching",
                where="scheduler_config.json",
            )
        return cls.from_betas(
            kinds[prediction],
            # diffusers' own defaults, which hold where the file is silent
            start=_number(config, "beta_start", 0.0001),
            end=_number(config, "beta_end", 0.02),
            schedule=str(config.get("beta_schedule", "linear")),
            timesteps=int(_number(config, "num_train_timesteps", 1000)),
            zero_terminal_snr=bool(config.get("rescale_betas_zero_snr", False)),
        )

    def changed(self, kind: Kind | None, *, zero_terminal_snr: bool | None) -> Objective:
        """This objective, epsilon or v, predicting the other, or with its noise levels stretched to no signal at all.

        Args:
            kind: what is predicted; None: as before.
            zero_terminal_snr: True stretches the levels; False wants them not stretched; None: as they are.

        Raises:
            ModelError: levels that are stretched cannot be put back.
        """
        table = np.asarray(self.table)
        if zero_terminal_snr is False and self.zero_terminal_snr:
            raise ModelError("this base's own noise levels end without signal; base.zero_terminal_snr cannot undo that")
        if zero_terminal_snr and not self.zero_terminal_snr:
            table = _sigmas(_without_last_signal(1 / (1 + table**2)))
        return replace(self, kind=kind or self.kind, table=tuple(float(sigma) for sigma in table))

    def for_tokens(self, tokens: int) -> Objective:
        """This objective for images of one size: a dynamic shift is settled, all else stays as it is.

        Args:
            tokens: latent tokens of the image; for FLUX.1 (height / 16) * (width / 16).
        """
        if not isinstance(self.shift, DynamicShift):
            return self
        return replace(self, shift=self.shift.at(tokens))

    @cached_property
    def sigmas(self) -> Tensor:
        """Sigma of every training timestep, rising, float64 on the CPU, shape (T,)."""
        if self.kind == "flow":
            return self._shifted(torch.arange(1, FLOW_STEPS + 1, dtype=torch.float64) / FLOW_STEPS)
        return torch.tensor(self.table, dtype=torch.float64)

    @property
    def sigma_min(self) -> float:
        """The smallest noise level of the table."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The largest: 14.61 for SD and SDXL, 4519 with zero terminal SNR, 1 for flow."""
        return float(self.sigmas[-1])

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last noise level of epsilon or v leaves nothing of the picture."""
        return self.kind != "flow" and self.sigma_max > 1000

    def sigma_at(self, position: float) -> float:
        """Sigma at a place between rows of the table, 0 to T - 1.

        Linear in log-sigma for epsilon and v, linear in unshifted time for flow; whole numbers give
        the table's own values.
        """
        if self.kind == "flow":
            return float(self._shifted(torch.tensor((position + 1) / FLOW_STEPS, dtype=torch.float64)))
        row = min(int(position), len(self.table) - 1)
        share = position - row
        if share == 0:
            return self.table[row]
        low, high = math.log(self.table[row]), math.log(self.table[row + 1])
        return math.exp((1 - share) * low + share * high)

    def position(self, sigma: float) -> float:
        """The place of a noise level in the table: what `sigma_at` takes, and held at the ends."""
        if self.kind == "flow":
            shift = self._settled_shift()
            return max(sigma / (shift - (shift - 1) * sigma) * FLOW_STEPS - 1, 0.0)
        return float(self.timestep(torch.tensor(sigma, dtype=torch.float64)))

    def timestep(self, sigma_B: Tensor) -> Tensor:
        """The timesteps that stand for these noise levels, float64 on the CPU, shape as given.

        A sigma of the table gives its integer exactly, in float32 too; between rows it is linear in
        log-sigma, and beyond the ends it is held. Flow: a thousand times sigma, unshifted; a family
        whose network counts otherwise turns it into what that network takes.
        """
        sigma_B = _exact(sigma_B)
        if self.kind == "flow":
            return sigma_B * FLOW_STEPS
        log_T = np.log(np.asarray(self.table))
        found_B = np.interp(np.log(sigma_B.numpy()), log_T, np.arange(len(log_T), dtype=np.float64))
        whole_B = np.round(found_B)
        # A float32 sigma is off by up to 1e-5 of a timestep: less than any two rows could differ.
        return torch.from_numpy(np.where(np.abs(found_B - whole_B) < 1e-4, whole_B, found_B))

    def add_noise(self, clean_BCHW: Tensor, noise_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        """Noisy latents at each sample's noise level."""
        sigma_B = _exact(sigma_B)
        noise_part = _column(sigma_B, noise_BCHW) * noise_BCHW
        if self.kind == "flow":
            return _column(1 - sigma_B, clean_BCHW) * clean_BCHW + noise_part
        return clean_BCHW + noise_part

    def scale_input(self, noisy_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        """Noisy latents as the denoiser takes them: unit variance for epsilon and v, unchanged for flow."""
        if self.kind == "flow":
            return noisy_BCHW
        return _column((1 + _exact(sigma_B) ** 2).rsqrt(), noisy_BCHW) * noisy_BCHW

    def target(self, clean_BCHW: Tensor, noise_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        """What the denoiser should have said: the noise, v, or the velocity from clean to noise."""
        if self.kind == "epsilon":
            return noise_BCHW
        if self.kind == "flow":
            return noise_BCHW - clean_BCHW
        sigma_B = _exact(sigma_B)
        alpha_B = (1 + sigma_B**2).rsqrt()
        return _column(alpha_B, noise_BCHW) * noise_BCHW - _column(sigma_B * alpha_B, clean_BCHW) * clean_BCHW

    def denoised(self, noisy_BCHW: Tensor, prediction_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
        """The clean latents that a prediction amounts to."""
        sigma_B = _exact(sigma_B)
        moved = _column(self._output_scale(sigma_B), noisy_BCHW) * prediction_BCHW
        if self.kind == "v":
            return _column(1 / (1 + sigma_B**2), noisy_BCHW) * noisy_BCHW - moved
        return noisy_BCHW - moved

    def snr(self, sigma_B: Tensor) -> Tensor:
        """Signal-to-noise ratio, float64 on the CPU, shape as given."""
        sigma_B = _exact(sigma_B)
        signal_B = 1 - sigma_B if self.kind == "flow" else torch.ones_like(sigma_B)
        return (signal_B / sigma_B) ** 2

    def loss_weight(self, sigma_B: Tensor, min_snr_gamma: float | None = None, *, soft: bool = False) -> Tensor:
        """Factor for each sample's loss, float64 on the CPU, shape (B,); all 1 without a gamma.

        Min-SNR weighs the error of the clean latents by min(SNR, gamma), whatever is predicted:
        min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v. Its soft form has
        SNR gamma / (SNR + gamma) in the minimum's place.
        """
        sigma_B = _exact(sigma_B)
        if min_snr_gamma is None:
            return torch.ones_like(sigma_B)
        snr_B = self.snr(sigma_B)
        # written so that no signal at all, and nothing but signal, have a weight too
        counted_B = 1 / (1 / snr_B + 1 / min_snr_gamma) if soft else snr_B.clamp(max=min_snr_gamma)
        return counted_B * self._output_scale(sigma_B) ** 2

    def training_sigma(self, uniform_B: Tensor) -> Tensor:
        """Noise levels to train on, from numbers drawn evenly in [0, 1); float64 on the CPU, shape (B,).

        Epsilon and v pick a row of the table, each equally often. Flow shifts the number itself.
        """
        uniform_B = _exact(uniform_B)
        if self.kind == "flow":
            return self._shifted(uniform_B)
        rows = len(self.table)
        return self.sigmas[(uniform_B * rows).long().clamp(0, rows - 1)]

    def strata(self, count: int) -> Tensor:
        """Noise levels at which held-out loss is measured: the middles of equal slices, float64, rising.

        Slices of the timesteps 20 to 980 for epsilon and v, of shifted time for flow; never the ends,
        where there is either nothing to predict or nothing to see.
        """
        if count < 1:
            raise ValueError(f"held-out loss needs at least one noise level, got {count}")
        middle = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        if self.kind == "flow":
            return self._shifted(middle)
        low, high = (edge / 1000 * len(self.table) for edge in HELD_OUT_TIMESTEPS)
        return self.sigmas[(low + (high - low) * middle).round().long()]

    def _shifted(self, time: Tensor) -> Tensor:
        """Flow time to sigma. Source: Esser et al. 2024, arXiv:2403.03206, equation 23."""
        shift = self._settled_shift()
        return shift * time / (1 + (shift - 1) * time)

    def _settled_shift(self) -> float:
        if isinstance(self.shift, DynamicShift):
            raise ValueError("this objective's noise levels depend on the image size: use for_tokens first")
        return self.shift

    def _output_scale(self, sigma_B: Tensor) -> Tensor:
        """How far a prediction that is off by 1 puts the clean latents off."""
        return sigma_B * (1 + sigma_B**2).rsqrt() if self.kind == "v" else sigma_B


def _betas(schedule: str, start: float, end: float, timesteps: int) -> np.ndarray:
    if schedule == "linear":
        return np.linspace(start, end, timesteps, dtype=np.float64)
    if schedule == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, timesteps, dtype=np.float64) ** 2
    if schedule == "squaredcos_cap_v2":
        time = np.arange(timesteps + 1, dtype=np.float64) / timesteps
        alpha_bar = np.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        return cast("np.ndarray", np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))
    raise ModelError(f"unknown noise schedule {schedule!r}; known are linear, scaled_linear and squaredcos_cap_v2")


def _without_last_signal(alpha_bar: np.ndarray) -> np.ndarray:
    """Zero terminal SNR: the signal's roots moved and stretched so that the last is none."""
    root = np.sqrt(alpha_bar)
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    found = root**2
    found[-1] = LAST_ALPHA_BAR
    return cast("np.ndarray", found)


def _sigmas(alpha_bar: np.ndarray) -> np.ndarray:
    return cast("np.ndarray", np.sqrt((1.0 - alpha_bar) / alpha_bar))


def _number(config: Mapping[str, object], key: str, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{key} must be a number, not {value!r}", where="scheduler_config.json")
    return float(value)


def _exact(sigma_B: Tensor) -> Tensor:
    return sigma_B.detach().to("cpu", torch.float64)


def _column(factor_B: Tensor, like_BCHW: Tensor) -> Tensor:
    """Finished coefficients beside latents: rounded before they move, as not every device knows float64."""
    dtype = torch.float64 if like_BCHW.dtype == torch.float64 else torch.float32
    return factor_B.to(dtype).to(like_BCHW.device).view(-1, *[1] * (like_BCHW.dim() - 1))
