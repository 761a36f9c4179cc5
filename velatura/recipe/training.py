"""Settings of the training itself: how long, how fast, by which optimizer.

What an optimizer or a schedule cannot honour is an error here, so it is found before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from velatura.errors import nearest
from velatura.schema import Settings

Rate = Annotated[float, Field(gt=0)]

OptimizerName = Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion", "schedule_free", "riemannian"]

MOMENTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

OPTIMIZER_SETTINGS: Mapping[OptimizerName, Mapping[str, bool | int | float]] = {
    "adamw": MOMENTS,
    "adamw8bit": MOMENTS,
    "adafactor": {"clip_threshold": 1.0, "decay_rate": -0.8, "eps": 1e-30},
    "prodigy": {**MOMENTS, "d0": 1e-6, "d_coef": 1.0, "use_bias_correction": False, "safeguard_warmup": False},
    "lion": {"beta1": 0.9, "beta2": 0.99},
    "schedule_free": {**MOMENTS, "r": 0.0, "weight_lr_power": 2.0},
    "riemannian": {**MOMENTS, "damping": 1e-6},
}
"""Optimizer -> its further settings, as their authors preset them."""


def check_optimizer(settings: TrainSettings) -> None:
    """Refuse what an optimizer cannot honour.

    Raises:
        ValueError: in a sentence that names the setting.
    """
    name, known = settings.optimizer, OPTIMIZER_SETTINGS[settings.optimizer]
    for key, value in settings.optimizer_settings.items():
        if key not in known:
            close = nearest(key, list(known))
            meant = f"did you mean {close}?" if close else f"it has {', '.join(known)}"
            raise ValueError(f"train.optimizer_settings: {name} has no {key}; {meant}")
        if isinstance(known[key], bool) != isinstance(value, bool):
            raise ValueError(f"train.optimizer_settings: {key} is {known[key]} or such, got {value}")
        if key.startswith("beta") and not 0 <= value < 1:
            raise ValueError(f"train.optimizer_settings: {key} is at least 0 and less than 1, got {value}")
    if name == "prodigy" and (settings.text_learning_rate is not None or settings.rates or settings.lora_plus != 1):
        raise ValueError(
            "prodigy finds one learning rate for all layers: leave out train.text_learning_rate, rates and lora_plus"
        )
    if name == "prodigy" and settings.learning_rate < 0.01:
        raise ValueError("prodigy multiplies the rate that it finds by train.learning_rate: set it to 1")
    if name == "schedule_free" and settings.schedule != "constant":
        raise ValueError(f"{name} averages instead of lowering the rate: set train.schedule to constant")
    if name == "schedule_free" and (settings.ema or settings.max_norm):
        raise ValueError(f"{name} keeps an average of its own: leave out train.ema and train.max_norm")


class TrainSettings(Settings):
    """How long and how fast to train."""

    steps: int = Field(default=1500, gt=0)
    """Optimizer steps, not micro-batches."""
    epochs: int | None = Field(default=None, gt=0)
    """Whole passes over the pictures, which then decide how many steps there are; "none": `steps` decides."""
    batch: int = Field(default=4, gt=0)
    """Pictures that go through the base at once; fewer take less memory."""
    accumulation: int = Field(default=1, gt=0)
    """Such batches of one step, their gradients added up: 2 x 2 trains as 4 x 1 does, in less memory and more time."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Learning rate after the warm-up: 1e-4 for most; 1 for Prodigy, which finds it; a third for Lion. Lower it where
    pictures come out harsh or copied, raise it where nothing is learnt."""
    text_learning_rate: Rate | list[Rate] | None = None
    """The same for layers of text encoders, where targets name any (`text`); a list has one for each text encoder;
    "none": as `learning_rate`. Half of it is usual."""
    rates: list[str] = Field(default=[])
    """What the learning rate of some layers is multiplied by, as `PATTERN=FACTOR`; the first that fits counts."""
    lora_plus: float = Field(default=1.0, ge=1)
    """What the learning rate of a LoRA's second factor is multiplied by (LoRA+, 16 in its paper); it learns faster at
    the same rate of the first. Lower `learning_rate` with it."""
    schedule: Literal["constant", "cosine", "cosine_restarts", "linear", "polynomial", "rex"] = "cosine"
    """The learning rate's course after the warm-up; all but constant fall to `floor` at the last step, REX late and
    steeply. Constant lets a run be lengthened as if it had been told so at first."""
    cycles: int = Field(default=1, ge=1)
    """How often cosine_restarts falls; 3 is usual for Pony and Illustrious."""
    power: float = Field(default=1.0, gt=0)
    """Exponent of polynomial: 1 is linear, 2 falls early."""
    floor: float = Field(default=0.0, ge=0, lt=1)
    """Share of the learning rate at which the course ends; 0.1 keeps the last steps of a long run from being idle."""
    warmup: int | float = Field(default=0, ge=0)
    """Steps in which the learning rate rises from zero; below 1, the share of all steps. Some 5 % where the first
    steps leap."""
    init_from: str = ""
    """A LoRA of the same base, ranks and alpha that training begins with: a file, or a name as in prompts; none: a new
    one. For going on with what another program or an earlier run has trained."""
    lengthened: list[int] = Field(default=[])
    """Steps at which `velatura train RUN --more` took a finished run up again; each part has its own course."""
    optimizer: OptimizerName = "adamw"
    """AdamW; the same with averages in 8 bits (NVIDIA cards); Adafactor, which keeps almost nothing; Prodigy, which
    finds the learning rate; Lion; schedule-free AdamW, which averages instead of falling; AdamW preconditioned for
    the two factors of a LoRA, which forgives a wrong learning rate. Stay with AdamW unless memory or time is short."""
    optimizer_settings: dict[str, bool | int | float] = Field(default={})
    """Further settings of the optimizer, such as { beta2 = 0.99 }; docs/guide/training.md lists them. Leave it out
    unless a paper says otherwise."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay, per step and unit of learning rate; more of it keeps the adapter smaller."""
    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; longer ones are shortened to it; 0: none are. Lower it where the loss leaps."""
    max_norm: float | None = Field(default=None, gt=0)
    """Largest Frobenius norm of each layer's change; larger ones are shrunk after each step. 1 keeps a LoRA from
    burning in; "none": no limit."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of a running average of the weights, which is what checkpoints then hold; 0.999 for long runs with a high
    learning rate; 0: the weights themselves."""
    compile: bool = False
    """Compile the denoiser's blocks (torch.compile): some minutes at the start, faster steps on NVIDIA cards."""
    channels_last: bool = False
    """Lay pictures out channel by channel last: faster convolutions of SD 1.5 and SDXL on NVIDIA cards in 16 bits."""
    seed: int = Field(default=1, ge=0)
    """Every random draw of the run follows from it."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads; "none": as many as there are cores. Results depend on it in the last bits."""

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up."""
        return round(self.warmup * self.steps) if self.warmup < 1 else int(self.warmup)

    @model_validator(mode="after")
    def _fits(self) -> TrainSettings:
        """What the schedule and the optimizer cannot honour is refused."""
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(f"train.warmup ({self.warmup}) is neither whole steps nor a share below 1")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"train.warmup ({self.warmup}) must be less than train.steps ({self.steps})")
        for name, schedule in (("cycles", "cosine_restarts"), ("power", "polynomial")):
            if getattr(self, name) != 1 and self.schedule != schedule:
                raise ValueError(f"train.{name} is for the schedule {schedule}, and train.schedule is {self.schedule}")
        if self.floor and self.schedule == "constant":
            raise ValueError("train.floor is for schedules that fall, and train.schedule is constant")
        if self.lengthened != sorted(set(self.lengthened)) or not all(0 < end < self.steps for end in self.lengthened):
            raise ValueError("train.lengthened must rise and stay below train.steps")
        check_optimizer(self)
        return self
