"""The adapter that a recipe asks for: which layers of the base, at which rank."""

from __future__ import annotations

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
        RecipeError: a target means no layer, or one of a text encoder.
    """
    names = select(recipe.adapter.targets, find(model.trainable_parts), presets=model.family.targets)
    # Captions are encoded once, before training, so a change to the encoder would never be seen.
    if told := [name for name in names if part_of(name) != "denoiser"]:
        raise RecipeError(
            f"text encoders are not trained here, only denoisers: {told[0]}",
            where="adapter.targets",
            fix="leave out text, and patterns that begin with text_encoder or *",
        )
    return [LayerSpec(name, recipe.adapter.rank, recipe.adapter.alpha) for name in names]
