"""A word that is learnt beside the LoRA: the trigger stands for vectors of its own (pivotal tuning).

The vectors take the place of the trigger in the captions, are trained by the same steps, and go with the LoRA in its
file, bundled as OneTrainer bundles them and A1111 and Forge read them. Text encoders themselves stay as they are, or
are trained too, where targets name them. Sources: Gal et al. 2022, arXiv:2208.01618; Roich et al. 2021,
arXiv:2106.05744; the names in files are OneTrainer's and A1111's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from velatura.adapters.weights import Array
from velatura.errors import RecipeError
from velatura.family import Model
from velatura.recipe import Recipe
from velatura.text import clip
from velatura.text.weighted import Embedding

PARAMETER = "word"
"""What follows the text encoder's name in that of the parameter."""

PLACES = {1: ("string_to_param.*",), 2: ("clip_l", "clip_g")}
"""How many text encoders -> the names of their vectors in a LoRA's file."""


class LearnedWord:
    """The vectors in training, one parameter for each text encoder."""

    def __init__(self, model: Model, recipe: Recipe) -> None:
        """They begin as those of the words told, repeated or cut to as many tokens as there are to be.

        Raises:
            RecipeError: the base is told its prompts by more than CLIP.
        """
        told, encoders = recipe.word, clip.encoders(model.parts, model.tokenizers)
        if len(encoders) not in PLACES:
            raise RecipeError(
                "a word can be learnt where CLIP alone reads the prompts, as in Stable Diffusion 1.5 and SDXL",
                where="word.tokens",
                fix="set it to 0",
            )
        parts = [name for name in model.parts if name.startswith("text_encoder")]
        self.parameters: dict[str, nn.Parameter] = {}
        for part, encoder, tokenizer in zip(parts, encoders, model.tokenizers, strict=True):
            begun = _begun(encoder, tokenizer.encode(told.init), told.tokens)
            self.parameters[f"{part}.{PARAMETER}"] = nn.Parameter(begun)
        vectors: dict[int, Any] = {one.shape[-1]: one for one in self.parameters.values()}
        self.embedding = Embedding(recipe.dataset.trigger, vectors, "")

    @torch.no_grad()
    def bundled(self) -> dict[str, dict[str, Array]]:
        """The word as it goes into a LoRA's file: word -> place -> vectors (tokens, width)."""
        places = PLACES[len(self.parameters)]
        held = (one.detach().float().cpu().clone().numpy() for one in self.parameters.values())
        return {self.embedding.name: dict(zip(places, held, strict=True))}


def is_word(parameter: str) -> bool:
    """Whether a parameter of this name is a word's."""
    return parameter.endswith(f".{PARAMETER}")


def _begun(encoder: Any, tokens: list[int], count: int) -> Tensor:
    """The vectors of some tokens, fp32, (count, width)."""
    rows: Tensor = clip.body(encoder).embeddings.token_embedding.weight
    chosen = torch.tensor([tokens[place % len(tokens)] for place in range(count)], device=rows.device)
    return rows[chosen].detach().float().clone()
