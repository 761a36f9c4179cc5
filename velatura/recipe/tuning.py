"""How pictures are sampled in detail: a group of its own, as hardly anyone changes it.

What is "none" here is left to the sampler, the schedule and the base; what they cannot honour is refused.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from velatura.schema import Settings


class TuningSettings(Settings):
    """Rarer settings of painting; what the sampler, the schedule or the base cannot honour is refused."""

    eta: float | None = Field(default=None, ge=0)
    """Noise that ancestral and stochastic samplers add at each step; "none": 1, for DDIM 0."""
    s_churn: float | None = Field(default=None, ge=0)
    """Noise that Euler, Heun and DPM2 add before each step; "none": none."""
    s_tmin: float | None = Field(default=None, ge=0)
    """The lowest noise level at which they do; "none": 0."""
    s_tmax: float | None = Field(default=None, ge=0)
    """The highest noise level at which they do; "none": any."""
    s_noise: float | None = Field(default=None, ge=0)
    """What fresh noise is multiplied by; "none": 1."""
    unipc_order: int | None = Field(default=None, ge=1, le=4)
    """How many answers UniPC learns from; "none": 3."""
    unipc_variant: Literal["bh1", "bh2"] | None = None
    """How UniPC weighs them, bh1 or bh2; "none": bh1."""
    sigma_min: float | None = Field(default=None, gt=0)
    """The schedule's lowest noise level; "none": the base's."""
    sigma_max: float | None = Field(default=None, gt=0)
    """The schedule's highest noise level; "none": the base's."""
    rho: float | None = Field(default=None, gt=0)
    """The bend of Karras and Polyexponential; "none": 7 and 1."""
    beta_alpha: float | None = Field(default=None, gt=0)
    """The shape of the schedule Beta at its noisy end; "none": 0.6."""
    beta_beta: float | None = Field(default=None, gt=0)
    """The shape of the schedule Beta at its clean end; "none": 0.6."""
    rng: Literal["cpu", "gpu", "nv"] = "cpu"
    """Whose generator draws noise: the processor's, the graphics card's, or nv, an NVIDIA card's computed anywhere."""
    ensd: int = 0
    """Added to the seed for noise that samplers draw after the start: A1111's eta noise seed delta."""
    one_path: bool = False
    """Stochastic samplers draw for a batch at once, so pictures depend on it: A1111's compatibility option."""
    seed_resize_from: str | None = Field(default=None, pattern=r"^[1-9]\d*x[1-9]\d*$")
    """Size in pixels, as in 512x512, at which a seed's composition is to be kept; "none": as painted."""
    cfg_rescale: float = Field(default=0.0, ge=0, le=1)
    """How far guidance's contrast is brought back to the prompt's own; 0.7 is usual with zero terminal SNR."""
    skip_early_cfg: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps, from the first on, that go without guidance."""
    s_min_uncond: float = Field(default=0.0, ge=0)
    """Below this noise level every other step goes without guidance, which takes half its time."""
    s_min_uncond_all: bool = False
    """Every step below it, not every other one."""

    def told(self) -> dict[str, float | str]:
        """What samplers and schedules are told by name."""
        names = [name for name, field in type(self).model_fields.items() if field.default is None]
        given = {name: getattr(self, name) for name in names if name != "seed_resize_from"}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def resized_from(self) -> tuple[int, int] | None:
        """Width and height in pixels, where a size is told."""
        if self.seed_resize_from is None:
            return None
        width, height = self.seed_resize_from.split("x")
        return int(width), int(height)
