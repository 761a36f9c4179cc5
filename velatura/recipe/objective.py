"""Settings of the objective: at which noise levels a run trains, with what noise, and how an error counts.

Names and formulae are those of the field (kohya-ss/sd-scripts and the papers named). What a base cannot honour is an
error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from velatura.schema import Settings

Density = Literal["uniform", "sigmoid", "logit_normal", "mode", "style_friendly"]
"""How the noise levels trained on are spread."""

NEEDS: dict[str, tuple[str, tuple[object, ...]]] = {
    "huber_c": ("loss", ("huber", "smooth_l1")),
    "huber_schedule": ("loss", ("huber", "smooth_l1")),
    "sigmoid_scale": ("timesteps", ("sigmoid",)),
    "logit_mean": ("timesteps", ("logit_normal",)),
    "logit_std": ("timesteps", ("logit_normal",)),
    "mode_scale": ("timesteps", ("mode",)),
    "log_snr_mean": ("timesteps", ("style_friendly",)),
    "log_snr_std": ("timesteps", ("style_friendly",)),
}
"""A setting that has an effect only where another has one of these values."""


class ObjectiveSettings(Settings):
    """What is asked of the denoiser: at which noise levels, with what noise, and how its errors count."""

    loss: Literal["l2", "l1", "huber", "smooth_l1"] = "l2"
    """How the distance from what should have been said is measured; `huber` and `smooth_l1` (pseudo-Huber, 2c(root(d^2
    + c^2) - c), the latter without the first c) let single bad pictures count less: try them on mixed sets."""
    huber_c: float = Field(default=0.1, gt=0, le=1)
    """Error, in units of the prediction, at which `huber` and `smooth_l1` turn from square to straight; lower is
    more tolerant of outliers."""
    huber_schedule: Literal["constant", "exponential", "snr"] = "snr"
    """How that error follows the noise level: not at all, falling from 1 to it exponentially with the timestep, or
    with the signal-to-noise ratio ((1 - c) / (1 + sigma)^2 + c; not for flows)."""
    min_snr: float | None = Field(default=None, ge=0)
    """Gamma of the min-SNR weighting (Hang et al. 2023), lower is stronger; 0: every noise level counts the same;
    "none": what suits the base, 5 where it predicts noise or v and no other weighting is told, else 0."""
    soft_min_snr: bool = False
    """Bend min-SNR's edge to a curve: SNR gamma / (SNR + gamma) stands for min(SNR, gamma) (Crowson et al. 2024)."""
    debiased: bool = False
    """Weigh by 1 / root(SNR) (Yu et al. 2023), with v by 1 / (SNR + 1): noisy levels count more, for composition and
    colour rather than detail. Not for flows."""
    v_like: float = Field(default=0.0, ge=0)
    """Add the loss as a v-prediction would weigh it, times this, to that of a base that predicts noise; 0: off."""
    v_as_noise: bool = False
    """Weigh the loss of a base that predicts v as one that predicts noise would have it, by SNR / (SNR + 1)."""
    flow_weighting: Literal["none", "sigma_sqrt", "cosmap"] = "none"
    """How much a flow's noise levels count: all the same, by 1 / sigma^2 (detail), or as cosine schedules would
    (Esser et al. 2024)."""
    masked_loss: Literal["masks", "alpha", "off"] = "masks"
    """What weighs the parts of a picture in the loss: its mask in masks/, and with `alpha` else its transparency."""
    preserve: str = ""
    """Words of the class that the trigger is one of, as `woman`: each caption is also told with them in the trigger's
    place, and what the base alone predicts then is to stay (differential output preservation of ai-toolkit). For
    people and things, without pictures of the class; a step takes twice the time; none: off."""
    preserve_weight: float = Field(default=1.0, gt=0)
    """What that loss counts beside the other; less where the likeness suffers."""
    noise_offset: float = Field(default=0.0, ge=0, le=1)
    """How far the noise of each channel is moved as a whole, in standard deviations; 0.03 to 0.1 lets a base that
    predicts noise learn very dark and very bright pictures; 0: off."""
    noise_offset_random: bool = False
    """Draw the strength of the offset for each sample, from 0 to `noise_offset`."""
    noise_offset_adaptive: float = 0.0
    """Add this times the channel's absolute mean to the offset, so that pictures far from grey get more; 0: off."""
    multires_iterations: int = Field(default=0, ge=0, le=10)
    """Layers of ever coarser noise that are added (pyramid noise); 6 to 10 lets a run learn large areas of light;
    0: off."""
    multires_discount: float = Field(default=0.3, gt=0, lt=1)
    """Strength of each such layer as a share of the one before."""
    input_perturbation: float = Field(default=0.0, ge=0, le=1)
    """Further noise, in standard deviations, that is put in and not asked for (Ning et al. 2023); 0.05 to 0.1 against
    learning pictures by heart; 0: off."""
    input_perturbation_random: bool = False
    """Draw its strength for each sample, from 0 to `input_perturbation`."""
    timesteps: Density | None = None
    """How noise levels are spread: evenly, round the middle (`sigmoid`, `logit_normal`, `mode`: Esser et al. 2024), or
    towards noise, where style is decided (`style_friendly`: Choi et al. 2024; flows only); "none": evenly."""
    sigmoid_scale: float = Field(default=1.0, gt=0)
    """Spread of `sigmoid`: the level is sigmoid(scale x normal); larger is wider."""
    logit_mean: float = 0.0
    """Middle of `logit_normal`, as a logit; above 0 leans towards noise."""
    logit_std: float = Field(default=1.0, gt=0)
    """Spread of `logit_normal`."""
    mode_scale: float = Field(default=1.29, ge=-1, le=1.75)
    """Weight of the middle in `mode`; 0 is even, below 0 favours both ends."""
    log_snr_mean: float = -6.0
    """Middle of `style_friendly`, the logarithm of the signal-to-noise ratio; lower is noisier."""
    log_snr_std: float = Field(default=2.0, gt=0)
    """Spread of `style_friendly`."""
    shift: Annotated[float, Field(gt=0)] | Literal["resolution"] | None = None
    """How far a flow's levels lean towards noise while training, s t / (1 + (s - 1) t): a number, 1 for not at all, or
    `resolution` to let it grow with the picture as FLUX.1 does; "none": the base's own."""
    min_timestep: int = Field(default=0, ge=0, le=999)
    """Least noise that is trained on, in thousandths of the schedule; 300 or so teaches composition only."""
    max_timestep: int = Field(default=1000, ge=1, le=1000)
    """Most noise that is trained on, in thousandths; 500 or so teaches detail only."""

    @model_validator(mode="after")
    def _fits(self) -> ObjectiveSettings:
        for name, (other, values) in NEEDS.items():
            if getattr(self, name) != type(self).model_fields[name].default and getattr(self, other) not in values:
                raise ValueError(f"{name} has no effect without {other} = {values[0]}")
        needed = {
            "noise_offset_random": self.noise_offset,
            "noise_offset_adaptive": self.noise_offset,
            "input_perturbation_random": self.input_perturbation,
            "soft_min_snr": self.min_snr != 0,
            "preserve_weight": self.preserve,
        }
        for name, on in needed.items():
            if getattr(self, name) != type(self).model_fields[name].default and not on:
                without = "min_snr" if name == "soft_min_snr" else name.rpartition("_")[0]
                raise ValueError(f"{name} has no effect without {without}")
        if self.min_timestep >= self.max_timestep:
            raise ValueError(f"min_timestep ({self.min_timestep}) must be less than max_timestep ({self.max_timestep})")
        return self
