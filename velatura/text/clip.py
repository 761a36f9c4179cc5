"""Prompts through CLIP text encoders: chunk by chunk, each word with its weight.

What Stable Diffusion 1.x, SDXL and FLUX.1 have in common; which hidden layer is read, and whether it is
normalised, is each family's own.

Shape suffixes: B batch, L tokens, D features.
Sources: A1111's `sd_hijack_clip.py` and `sd_emphasis.py` for "a1111" and "a1111-nonorm", ComfyUI's `sd1_clip.py`
for "comfy"; facts, not code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from velatura.text.clip_tokens import CHUNK, Chunk, ClipTokenizer
from velatura.text.weighted import WeightedText, plain

Emphasis = Literal["a1111", "a1111-nonorm", "comfy"]
"""a1111: features times weight, then each chunk's mean restored. a1111-nonorm: the mean stays as it comes.
comfy: the distance from the empty text's features, times weight."""

EMPHASES: tuple[Emphasis, ...] = get_args(Emphasis)


@dataclass(frozen=True)
class ClipText:
    """Encoded prompts."""

    tokens_BLD: Tensor
    pooled_BD: Tensor
    """Of each prompt's first chunk, unweighted; projected where the encoder projects."""


def encode(
    text_encoder: Any,
    tokenizer: ClipTokenizer,
    prompts: Sequence[WeightedText],
    *,
    skip: int = 1,
    normalised: bool = True,
    emphasis: Emphasis = "a1111",
    least_chunks: int = 1,
) -> ClipText:
    """Prompts as features, shorter ones filled up with empty chunks. Differentiable.

    Args:
        text_encoder: transformers' CLIPTextModel, with or without projection.
        skip: which hidden layer, counted from the last.
        normalised: whether the final norm is applied to it.
        least_chunks: chunks at least, where another encoder of the base needs more.
    """
    cut = [tokenizer.chunked(prompt) for prompt in prompts]
    longest = max(least_chunks, *(len(pieces) for pieces in cut))
    empty = tokenizer.chunked(plain(""))[0]
    columns = [[pieces[at] if at < len(pieces) else empty for pieces in cut] for at in range(longest)]
    encoded = [_column(text_encoder, column, empty, skip, normalised, emphasis) for column in columns]
    return ClipText(torch.cat([tokens for tokens, _ in encoded], dim=1), encoded[0][1])


def encoders(parts: Mapping[str, Any], tokenizers: Sequence[Any]) -> list[Any]:
    """A base's text encoders where it is told prompts by CLIP alone; none where by another kind, be it beside CLIP."""
    if not all(isinstance(one, ClipTokenizer) for one in tokenizers):
        return []
    return [part for name, part in parts.items() if name.startswith("text_encoder")]


def count_chunks(tokenizer: ClipTokenizer, prompts: Sequence[WeightedText]) -> int:
    """How many chunks the longest of the prompts takes."""
    return max(len(tokenizer.chunked(prompt)) for prompt in prompts)


def _column(
    text_encoder: Any, column: list[Chunk], empty: Chunk, skip: int, normalised: bool, emphasis: Emphasis
) -> tuple[Tensor, Tensor]:
    # A short text encoder (fewer than 77 places) is told as much as it can hold.
    places = min(CHUNK + 2, int(text_encoder.config.max_position_embeddings))
    device = text_encoder.device
    weights_BL = torch.tensor([chunk.weights[:places] for chunk in column], device=device)
    weighted = not bool((weights_BL == 1).all())
    told = [*column, empty] if weighted and emphasis == "comfy" else column
    tokens_BL = torch.tensor([_shortened(chunk.tokens, places) for chunk in told], device=device)
    with _embedded(text_encoder, column, places):
        features_BLD, pooled_BD = _features(text_encoder, tokens_BL, skip, normalised)
    pooled_BD = pooled_BD[: len(column)]
    if not weighted:
        return features_BLD, pooled_BD
    weights_BL1 = weights_BL[..., None].to(features_BLD.dtype)
    if emphasis == "comfy":
        bare_1LD = features_BLD[len(column) :]
        return (features_BLD[: len(column)] - bare_1LD) * weights_BL1 + bare_1LD, pooled_BD
    weighted_BLD = features_BLD * weights_BL1
    if emphasis == "a1111":
        weighted_BLD = weighted_BLD * (
            features_BLD.mean(dim=(1, 2), keepdim=True) / weighted_BLD.mean(dim=(1, 2), keepdim=True)
        )
    return weighted_BLD, pooled_BD


def _features(text_encoder: Any, tokens_BL: Tensor, skip: int, normalised: bool) -> tuple[Tensor, Tensor]:
    """The hidden layer and the pooled vector."""
    plain_read = skip == 1 and normalised
    out = text_encoder(tokens_BL, output_hidden_states=not plain_read)
    pooled = out.text_embeds if hasattr(out, "text_embeds") else out.pooler_output
    if plain_read:
        return out.last_hidden_state, pooled
    hidden = out.hidden_states[-skip]
    return body(text_encoder).final_layer_norm(hidden) if normalised else hidden, pooled


@contextmanager
def _embedded(text_encoder: Any, column: Sequence[Chunk], places: int) -> Iterator[None]:
    """The encoder with the chunks' embeddings in place of their tokens' own vectors; afterwards as before.

    A hook, because not every version of transformers lets CLIP take vectors in place of tokens.
    """
    width = int(text_encoder.config.hidden_size)
    placed = [(row, at, one.vectors[width]) for row, chunk in enumerate(column) for at, one in chunk.embeddings]
    if not placed:
        yield
        return

    def replaced(_: Any, __: Any, own_BLD: Tensor) -> Tensor:
        found_BLD = own_BLD.clone()
        for row, at, vectors in placed:
            fitting = torch.as_tensor(vectors[: max(0, places - 1 - at)])  # a chunk that is cut keeps its end
            found_BLD[row, at : at + len(fitting)] = fitting.to(found_BLD)
        return found_BLD

    handle = body(text_encoder).embeddings.token_embedding.register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def body(text_encoder: Any) -> Any:
    """The module with the final norm, whichever version of transformers lays it out."""
    return getattr(text_encoder, "text_model", text_encoder)


def _shortened(tokens: tuple[int, ...], places: int) -> tuple[int, ...]:
    """Tokens cut to the places there are; a chunk that is cut keeps its end."""
    if len(tokens) <= places:
        return tokens
    kept = tokens[:places]
    return kept if tokens[-1] in kept else (*kept[:-1], tokens[-1])
