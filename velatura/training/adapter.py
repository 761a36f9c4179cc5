"""The adapter that a recipe asks for: which layers of the base, at which rank."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from velatura.adapters.layers import shapes
from velatura.adapters.lora import LayerSpec
from velatura.adapters.targets import select
from velatura.adapters.trainable import made
from velatura.adapters.weights import Shape, part_of
from velatura.errors import RecipeError
from velatura.family import Model, ModelFamily
from velatura.recipe import AdapterSettings, Recipe


def specs(recipe: Recipe, model: Model) -> list[LayerSpec]:
    """The layers to adapt, in the model's order.

    Raises:
        RecipeError: a target means no layer, or one that has no name in the family's adapter files, or a text
            encoder is given a learning rate and none is trained.
    """
    return planned(recipe, shapes(model.trainable_parts), model.family)


def planned(recipe: Recipe, known: Mapping[str, Shape], family: ModelFamily) -> list[LayerSpec]:
    """As `specs`, from the shapes of a base's layers alone.

    Args:
        known: layer -> shape of its weight, as `families.names.layers_of` tells it from headers too.
    """
    names = select(recipe.adapter.targets, known, presets=family.targets)
    if nameless := [name for name in names if part_of(name) not in family.keys.parts]:
        raise RecipeError(
            f"no program reads changes of this base's text encoder: {nameless[0]}",
            where="adapter.targets",
            fix="leave out patterns that begin with text_encoder or *",
        )
    if recipe.train.text_learning_rate is not None and not changes_text(names):
        raise RecipeError(
            "no text encoder is trained that could have a learning rate",
            where="train.text_learning_rate",
            fix="add text to adapter.targets, or leave this out",
        )
    for setting, told in (("adapter.ranks", recipe.adapter.ranks), ("train.rates", recipe.train.rates)):
        _check(told, setting, names)
    found = [_spec(name, recipe.adapter, kernel=math.prod(known[name][2:]) > 1) for name in names]
    return [spec for spec in found if spec is not None]


def _spec(name: str, told: AdapterSettings, *, kernel: bool) -> LayerSpec | None:
    """How one layer is adapted; alpha follows the rank, so that a layer of another rank is not applied otherwise."""
    own = told.conv_rank if kernel and told.conv_rank else told.rank
    rank = int(told_for(name, told.ranks, own))
    if rank == 0:
        return None
    alpha = told.alpha * (math.sqrt(rank) if told.rslora else rank / told.rank)
    return LayerSpec(name, rank, alpha, told.kind, told.dropout, told.factor)


def trained_numbers(spec: LayerSpec, shape: Shape) -> int:
    """How many numbers an adapter trains beside one layer."""
    out, into, *kernel = shape
    base: nn.Linear | nn.Conv2d = (
        nn.Conv2d(into, out, (kernel[0], kernel[1]), bias=False, device="meta")
        if kernel
        else nn.Linear(into, out, bias=False, device="meta")
    )
    layer = made(spec.kind, base.requires_grad_(False), rank=spec.rank, alpha=spec.alpha, factor=spec.factor)
    return sum(one.numel() for one in layer.parameters() if one.requires_grad)


def told_for(name: str, told: Sequence[str], otherwise: float) -> float:
    """The number that the first fitting "PATTERN=NUMBER" tells for a layer, or for a parameter of it."""
    for one in told:
        pattern, _, number = one.rpartition("=")
        if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern):
            return float(number)
    return otherwise


def _check(told: Sequence[str], setting: str, names: Sequence[str]) -> None:
    for one in told:
        pattern, _, number = one.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        whole = setting == "train.rates" or value == int(value if math.isfinite(value) else 0)
        if not math.isfinite(value) or value < 0 or not whole or (setting == "adapter.ranks" and value > 1024):
            raise RecipeError(f"{one!r} is no pattern with a number", where=setting, fix="write PATTERN=NUMBER")
        if not any(fnmatchcase(name, pattern) for name in names):
            raise RecipeError(f"no layer that is trained is called like {pattern!r}", where=setting)


def changes_text(layers: Iterable[str]) -> bool:
    """Whether any of the layers is a text encoder's: encoded captions then change with the adapter."""
    return any(of_text(name) for name in layers)


def of_text(name: str) -> bool:
    """Whether a layer, or a parameter of it, is a text encoder's."""
    return part_of(name).startswith("text_encoder")
