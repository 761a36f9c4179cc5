"""The adapter that a recipe asks for: which layers of the base, at which rank."""

from __future__ import annotations

from collections.abc import Iterable

from velatura.adapters.layers import find
from velatura.adapters.lora import LayerSpec
from velatura.adapters.targets import select
from velatura.adapters.weights import part_of
from velatura.errors import RecipeError
from velatura.family import Model
from velatura.recipe import Recipe


def specs(recipe: Recipe, model: Model) -> list[LayerSpec]:
    """The layers to adapt, in the model's order.

    Raises:
        RecipeError: a target means no layer, or one that has no name in the family's adapter files, or a text
            encoder is given a learning rate and none is trained.
    """
    names = select(recipe.adapter.targets, find(model.trainable_parts), presets=model.family.targets)
    if nameless := [name for name in names if part_of(name) not in model.family.keys.parts]:
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
    return [LayerSpec(name, recipe.adapter.rank, recipe.adapter.alpha) for name in names]


def changes_text(layers: Iterable[str]) -> bool:
    """Whether any of the layers is a text encoder's: encoded captions then change with the adapter."""
    return any(of_text(name) for name in layers)


def of_text(name: str) -> bool:
    """Whether a layer, or a parameter of it, is a text encoder's."""
    return part_of(name).startswith("text_encoder")
