"""Prompts as a base reads them: weighted text, and what its text encoders make of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from velatura.errors import ModelError
from velatura.family import Model, TextConditioning
from velatura.generation import prompt as grammar
from velatura.text.weighted import BREAK, Embedding, WeightedText
from velatura.weights.policy import precision


def weighted(text: str, embeddings: Sequence[Embedding] = ()) -> WeightedText:
    """What a prompt says at one step as weighted text; LoRAs named in it are left to the caller."""
    pieces: list[tuple[str, float]] = []
    for place, part in enumerate(grammar.parse(text).parts):
        pieces += [BREAK] if place else []
        pieces += [(fragment.text, fragment.weight) for fragment in part if fragment.text]
    return WeightedText(tuple(pieces), tuple(embeddings))


def read_texts(model: Model, texts: Iterable[str], embeddings: Sequence[Embedding] = ()) -> dict[str, TextConditioning]:
    """Each text encoded once.

    Raises:
        PromptError: a text has no meaning.
        ModelError: what comes out are no numbers.
    """
    return {text: encoded(model, text, embeddings) for text in dict.fromkeys(texts)}


def encoded(model: Model, text: str, embeddings: Sequence[Embedding] = ()) -> TextConditioning:
    """One text, encoded.

    Raises:
        PromptError: it has no meaning.
        ModelError: what comes out are no numbers.
    """
    told = model.read(weighted(text, embeddings))
    check_text(model, told)
    return told


def check_text(model: Model, told: TextConditioning) -> None:
    """Refuse an encoded prompt that is no numbers.

    Raises:
        ModelError: it is none.
    """
    if not told.finite:
        raise breakdown(model, "what the text encoders say", "memory.precision", model.policy.dtype)


def breakdown(model: Model, what: str, setting: str, dtype: torch.dtype) -> ModelError:
    """What to say instead of a black picture."""
    fixes = {torch.float16: "set it to bf16 or fp32", torch.bfloat16: "set it to fp32"}
    fix = fixes.get(dtype, "lower the strength of LoRAs, or fetch the base again")
    return ModelError(f"{what} came out as no numbers; {setting} is {precision(dtype)}", where=model.name, fix=fix)
