"""What a run is told: one frozen tree of settings, read from TOML, written back with nothing left out.

Units stand in each field's docstring. Derived numbers (epochs, effective batch) are not settings; they
live in the plan.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from velatura import schema
from velatura.errors import RecipeError
from velatura.recipe.dataset import BlockSettings as BlockSettings
from velatura.recipe.dataset import DatasetSettings as DatasetSettings
from velatura.recipe.dataset import FolderSettings as FolderSettings
from velatura.recipe.objective import ObjectiveSettings as ObjectiveSettings
from velatura.recipe.training import OPTIMIZER_SETTINGS as OPTIMIZER_SETTINGS
from velatura.recipe.training import TrainSettings as TrainSettings
from velatura.recipe.tuning import TuningSettings as TuningSettings
from velatura.recipe.upgrade import NEWEST, upgraded
from velatura.schema import Settings


class BaseSettings(Settings):
    """The base model that the adapter is trained on."""

    model: str = "pocket"
    """A name (`pocket`, or one of your bases), a file, a diffusers folder, or an id on Hugging Face ("org/name")."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Hash of the base as `velatura new` and each run write it down; any other base is refused; none: not checked."""
    vae: str = ""
    """File or name of another autoencoder; none: the base's own."""
    text_encoders: list[str] = Field(default=[])
    """Files or names of text encoders, for bases of several files; none: the base's own."""
    clip_skip: int | None = Field(default=None, ge=1, le=32)
    """Layer of CLIP that is read, counted from the last, 2 for many bases of drawings; "none": the base's own."""
    prediction: Literal["epsilon", "v"] | None = None
    """What the base predicts, where its file does not say so, as some v-prediction bases; "none": as its file says."""
    zero_terminal_snr: bool | None = None
    """Stretch its noise levels until nothing of the picture is left (Lin et al. 2023); only with v; "none": as its
    file says."""
    assistant: str = ""
    """A LoRA that undoes the distillation of a few-step base; it works while training and is not in the result."""
    strict: bool = False
    """Refuse a base whose files hold keys that its networks have no use for, rather than note them."""


class AdapterSettings(Settings):
    """What is trained."""

    kind: Literal["lora", "locon", "dora", "loha", "lokr"] = "lora"
    """LoRA; the same with a core for convolutions' kernels (`locon`), or with trained lengths (`dora`); a product by
    elements (`loha`), good at low ranks; a Kronecker product (`lokr`), small files."""
    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the factors of each layer."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale of the adapter times the rank: it is applied with alpha / rank."""
    rslora: bool = False
    """Apply it with alpha / the root of the rank instead, so that high ranks learn as fast as low ones."""
    conv_rank: int | None = Field(default=None, ge=1, le=1024)
    """Rank of convolutions with a kernel, where targets name any; "none": as `rank`."""
    ranks: list[str] = Field(default=[])
    """Other ranks for some layers, as `PATTERN=RANK`; the first that fits counts, and rank 0 leaves a layer out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the rank's channels of each layer that are left out in a step."""
    timestep_rank: int | None = Field(default=None, ge=1, le=1024)
    """Channels of the rank that train where there is most noise; towards none all of them do (T-LoRA). Half the rank
    for subjects with few pictures, whose poses are learnt by heart at high noise; "none": all at every noise level."""
    timestep_power: float = Field(default=1.0, gt=0)
    """How the channels grow as the noise falls: 1 evenly, more of it later."""
    factor: int | None = Field(default=None, ge=1)
    """Of a LoKr, the largest side of its small matrix; "none": as near to a square as it can be."""
    targets: list[str] = Field(default=["attention+mlp"])
    """Presets (`attention`, `attention+mlp`, `all`, `text`) or patterns such as `denoiser.*.attn*.to_q`."""


NO_WORD = './\\:*?"<>|,'
"""Characters that a learned word cannot have: it is part of keys and names of files."""


class WordSettings(Settings):
    """The trigger as a word that is learnt beside the LoRA (pivotal tuning, after textual inversion)."""

    tokens: int = Field(default=0, ge=0, le=32)
    """Vectors that the trigger stands for, of Stable Diffusion 1.5 and SDXL; 1 or 2 for a style, up to 4 for a face;
    more learn the pictures by heart. 0: the trigger is read as any other word."""
    init: str = ""
    """Words whose vectors they begin as, `woman` or `watercolour`; the nearer the meaning, the fewer steps."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the vectors, on the course of `train.schedule`; lower it where pictures fall apart early."""

    @model_validator(mode="after")
    def _fits(self) -> WordSettings:
        if self.tokens and not self.init.strip():
            raise ValueError("word.init is needed where word.tokens is not 0: the words that the trigger begins as")
        return self


class CheckpointSettings(Settings):
    """When the adapter is kept."""

    every: int = Field(default=250, gt=0)
    """Optimizer steps between two checkpoints."""
    every_epochs: int | None = Field(default=None, gt=0)
    """Epochs between two checkpoints, in place of steps; 1 for sets of which the best epoch is sought; "none": by
    `every`."""
    keep_state: int = Field(default=2, ge=1)
    """How many of the newest checkpoints keep the optimizer's state, to resume from."""
    average: int = Field(default=1, ge=1, le=32)
    """Each checkpoint holds the mean of its weights and those at the checkpoints before it, so many in all; 3 to 5
    smooth a high learning rate; 1: its own alone."""


class ValidationSettings(Settings):
    """The held-out loss, measured at each checkpoint."""

    strata: int = Field(default=8, ge=2, le=64)
    """Noise levels at which each held-out picture is measured."""
    pictures: int = Field(default=8, ge=1)
    """Largest number of held-out pictures measured."""
    paintings: int = Field(default=12, ge=4, le=96)
    """Pictures painted at each checkpoint to judge its style by; more of them tell smaller differences apart."""
    every: int | None = Field(default=None, gt=0)
    """Optimizer steps between two measurements while training; "none": at each checkpoint. Each costs strata x pictures
    predictions."""
    every_epochs: int | None = Field(default=None, gt=0)
    """Epochs between two measurements, in place of steps; "none": by `every`."""
    patience: int = Field(default=0, ge=0)
    """Measurements without a lower loss on held-out pictures after which training stops by itself; 3 or more, since
    pictures may still get better where the loss rises; 0: never."""


class SampleSettings(Settings):
    """Pictures painted at each checkpoint; also those by which checkpoints are compared."""

    every: int | None = Field(default=None, gt=0)
    """Optimizer steps between two paintings; a checkpoint is kept for each; "none": at each checkpoint."""
    every_epochs: int | None = Field(default=None, gt=0)
    """Epochs between two paintings, in place of steps; "none": by `every`."""

    prompts: list[str] = Field(default=[])
    """Prompts to paint; none: the held-out captions, then the training captions."""
    count: int = Field(default=4, ge=0)
    """How many prompts are painted at each checkpoint."""
    seed: int = Field(default=7, ge=0)
    """Seed of the first prompt's noise; each further prompt counts up."""
    sampling_steps: int | None = Field(default=None, gt=0)
    """Steps of the sampler; "none": as many as suit the base, 20 for most."""
    cfg_scale: float | None = Field(default=None, ge=1)
    """Classifier-free guidance; "none": what suits the base, 5 for most."""
    guidance: float | None = Field(default=None, ge=0)
    """Guidance told to bases into which it is distilled (FLUX.1-dev); "none": 3.5."""
    negative_strength: float = Field(default=1.0, ge=0, le=1)
    """What the adapter's strength is multiplied by on the negative side of guidance; below 1 the pictures show more of
    it, which helps where the captions say little."""
    sampler: str = ""
    """Name of the sampler, as A1111 writes it; empty: what suits the base, DPM++ 2M for most."""
    scheduler: str = ""
    """Name of the noise schedule, as A1111 writes it; empty: what suits the sampler and the base."""
    tuning: TuningSettings = TuningSettings()


class TrackingSettings(Settings):
    """Where the numbers of a run go beside its folder."""

    tensorboard: bool = False
    """Write them for TensorBoard too, into the run's folder `tensorboard`; needs velatura[track]."""
    wandb: str = ""
    """Send them to this project on Weights & Biases; needs velatura[track] and an account there; none: nothing
    leaves this machine."""


Precision = Literal["fp32", "fp16", "bf16"]


class MemorySettings(Settings):
    """Where and in which precision the base lives; `velatura plan` says what suits this machine, and why."""

    device: Literal["cpu", "cuda", "mps"] | None = None
    """What computes: the processor, an NVIDIA (or AMD) card, Apple's graphics; "none": what suits."""
    precision: Precision | None = None
    """Of the frozen base, fp32, fp16 or bf16; what is trained is fp32 in any case; "none": what suits."""
    vae_precision: Precision | None = None
    """The same for the autoencoder; "none": what suits."""
    vae_tiling: bool | None = None
    """Large pictures go through the autoencoder in tiles, changing them a little; "none": where memory is tight."""
    checkpointing: bool | None = None
    """Compute twice rather than keep what gradients need; the same result; "none": where memory is tight."""
    in_turn: bool | None = None
    """Text encoders leave before the denoiser comes; "none": where there is no room for both."""
    prefer: Literal["fast", "lean"] | None = None
    """What the settings here that are none lean to while training: a fast step (`fast`: parts in turn, on a processor
    large convolutions in 16 bits), or little memory for little time (`lean`: all weights, and checkpointing); "none":
    room, where there is room."""
    quantised: Literal["off", "half", "large", "int8", "int4", "fp8"] | None = None
    """Store the frozen weights in 8 or 4 bits (large text encoders' in 8), or in 16 while computing in fp32: all
    (`half`) or large convolutions alone (`large`), which changes nothing of a base whose file holds 16; `fp8` needs no
    package and keeps what fp8 files hold, of others it loses more than int8; "none": 8 where a card has no room."""
    swapped_blocks: int | None = Field(default=None, ge=0)
    """Blocks of the denoiser that wait outside the device's memory; "none": as many as a card has no room for."""


class Recipe(Settings):
    """Everything a run is told."""

    version: Literal[2] = NEWEST
    """Version of this format."""
    name: str = Field(
        default="style", min_length=1, max_length=80, pattern=r"^[^/\\:*?\"<>|\x00-\x1f.][^/\\:*?\"<>|\x00-\x1f]*$"
    )
    """Name of the adapter: of its file, and in `<lora:name:1>`."""
    base: BaseSettings = BaseSettings()
    dataset: DatasetSettings = DatasetSettings()
    adapter: AdapterSettings = AdapterSettings()
    word: WordSettings = WordSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    train: TrainSettings = TrainSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    validation: ValidationSettings = ValidationSettings()
    samples: SampleSettings = SampleSettings()
    tracking: TrackingSettings = TrackingSettings()
    memory: MemorySettings = MemorySettings()

    @model_validator(mode="after")
    def _trigger_fits(self) -> Recipe:
        """What takes the trigger's place, or is learnt for it, needs one."""
        trigger = self.dataset.trigger.strip()
        if self.objective.preserve and not trigger:
            raise ValueError("objective.preserve takes the place of dataset.trigger, and there is none")
        if not self.word.tokens:
            return self
        if not trigger or not set(trigger).isdisjoint(NO_WORD):
            raise ValueError(f"word.tokens makes dataset.trigger a word: it must be told, without any of {NO_WORD}")
        if self.train.optimizer == "prodigy":
            raise ValueError("prodigy finds one learning rate for all: set word.tokens to 0, or take another")
        return self

    @model_validator(mode="after")
    def _factors_fit(self) -> Recipe:
        """What needs the two factors of a LoRA is refused for other kinds."""
        train, kind = self.train, self.adapter.kind
        if train.lora_plus != 1 and kind not in ("lora", "locon", "dora"):
            raise ValueError(f"train.lora_plus needs a second factor, which {kind} has not")
        for told, setting in (
            (train.optimizer == "riemannian", "train.optimizer = riemannian"),
            (train.max_norm is not None, "train.max_norm"),
        ):
            if told and kind != "lora":
                raise ValueError(f"{setting} works on the two factors of a LoRA, and adapter.kind is {kind}")
        if self.adapter.timestep_rank is not None and kind not in ("lora", "locon"):
            raise ValueError(f"adapter.timestep_rank is for the ranks of a LoRA, and adapter.kind is {kind}")
        if self.adapter.timestep_rank is not None and self.adapter.timestep_rank > self.adapter.rank:
            raise ValueError("adapter.timestep_rank is more than adapter.rank")
        if self.adapter.timestep_power != 1 and self.adapter.timestep_rank is None:
            raise ValueError("adapter.timestep_power has an effect only with adapter.timestep_rank")
        if self.checkpoints.average > 1 and train.optimizer == "schedule_free":
            raise ValueError("schedule_free keeps an average of its own: leave out checkpoints.average")
        return self


def load(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe, given by its file or its folder, and apply overrides of the form `train.steps=120`.

    Raises:
        FileProblem: the file is missing or cannot be read.
        RecipeError: it is not TOML, or holds a key or value that a recipe has not.
    """
    if path.is_dir():
        path = path / "recipe.toml"
    return build(schema.read_tree(path, what="recipe"), overrides, where=path)


def build(tree: dict[str, Any], overrides: Iterable[str] = (), *, where: object = None) -> Recipe:
    """A recipe from a tree of plain values.

    Raises:
        RecipeError: an unknown key (the nearest right one is named) or a value out of range.
    """
    if isinstance(blocks := tree.get("dataset"), list):
        tree = {**tree, "dataset": {"blocks": blocks}}
    for override in overrides:
        tree = apply_override(tree, override)
    return schema.build(Recipe, upgraded(tree), where=where)


def with_memory(told: MemorySettings, overrides: Iterable[str]) -> MemorySettings:
    """Memory settings with overrides of the form `precision=fp32`.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    named = (f"memory.{override}" for override in overrides)
    return build({"memory": told.model_dump()}, named).memory


def with_tuning(overrides: Iterable[str], told: TuningSettings | None = None) -> TuningSettings:
    """Settings of painting with overrides of the form `eta=0.5`.

    Raises:
        RecipeError: an unknown key or a value out of range.
    """
    tree = (told or TuningSettings()).model_dump()
    for override in overrides:
        tree = apply_override(tree, override)
    return schema.build(TuningSettings, tree, where="--set")


def apply_override(tree: dict[str, Any], override: str) -> dict[str, Any]:
    """The tree with one setting replaced; the value is read as TOML, or as text where it is not TOML."""
    key, equals, value = override.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise RecipeError(f"cannot read the setting '{override}'", fix="write it as key=value, as in train.steps=120")
    changed = copy.deepcopy(tree)
    place = changed
    for name in names[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise RecipeError(f"{name} in '{override}' is a value, not a group of settings", fix="see `velatura new`")
    place[names[-1]] = _value(value.strip())
    return changed


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = parsed["value"]
    known = isinstance(value, bool | int | float | str | list | dict)  # a date is text here
    return value if known and len(parsed) == 1 else text


def to_toml(recipe: Recipe, *, comments: bool = False) -> str:
    """The recipe with every default written out; with comments, each field's docstring stands above it."""
    return schema.to_toml(recipe, comments=comments)


def known_keys() -> list[str]:
    """Every setting's full name, as `--set` takes it."""
    return schema.known_keys(Recipe)
