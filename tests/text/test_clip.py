"""Prompts through CLIP: emphasis worked out by hand, clip skip as in diffusers, embeddings as the tokens they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from velatura.family import Model
from velatura.generation.reading import weighted
from velatura.text import clip
from velatura.text.clip import Emphasis
from velatura.text.clip_tokens import ClipTokenizer, chunks
from velatura.text.weighted import Embedding, WeightedText, plain

TOLERANCE = 1e-4
LOUD = "a (red boat:1.4) on the [sea]"
WEIGHTS = [1.0, 1.0, 1.4, 1.4, 1.0, 1.0, 1 / 1.1]


@pytest.fixture
def encoder(model: Model) -> Any:
    return model.parts["text_encoder"]


@pytest.fixture
def tokenizer(model: Model) -> ClipTokenizer:
    found: ClipTokenizer = model.tokenizers[0]
    return found


@torch.no_grad()
def features(encoder: Any, tokenizer: ClipTokenizer, *texts: WeightedText, **how: Any) -> Tensor:
    return clip.encode(encoder, tokenizer, texts, **how).tokens_BLD


@torch.no_grad()
def unweighted(encoder: Any, tokenizer: ClipTokenizer, text: str) -> Tensor:
    """What transformers says of one chunk, (77, D)."""
    (chunk,) = chunks(plain(text), tokenizer)
    found: Tensor = encoder(torch.tensor([chunk.tokens])).last_hidden_state[0]
    return found


def distance(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


# --- emphasis --------------------------------------------------------------------------------


def by_hand(encoder: Any, tokenizer: ClipTokenizer, emphasis: Emphasis) -> Tensor:
    """The formulae of A1111's "Original" and "No norm", and of ComfyUI, on the encoder's own output."""
    z = unweighted(encoder, tokenizer, "a red boat on the sea")
    weight = torch.ones(77, 1)
    weight[: len(WEIGHTS), 0] = torch.tensor(WEIGHTS)
    if emphasis == "comfy":
        empty = unweighted(encoder, tokenizer, "")
        return (z - empty) * weight + empty
    return z * weight * (z.mean() / (z * weight).mean() if emphasis == "a1111" else 1.0)


@pytest.mark.parametrize("emphasis", clip.EMPHASES)
def test_weights_act_by_the_formula_of_their_mode(encoder: Any, tokenizer: ClipTokenizer, emphasis: Emphasis) -> None:
    quiet = plain("a cat, " * 40)  # a neighbour of two chunks
    found = features(encoder, tokenizer, weighted(LOUD), quiet, emphasis=emphasis)
    expected = {mode: by_hand(encoder, tokenizer, mode) for mode in clip.EMPHASES}
    assert distance(found[0, :77], expected[emphasis]) < TOLERANCE
    for mode in set(clip.EMPHASES) - {emphasis}:
        assert distance(found[0, :77], expected[mode]) > 100 * TOLERANCE, mode
    assert distance(found[0, 77:], unweighted(encoder, tokenizer, "")) < TOLERANCE
    assert distance(found[1], features(encoder, tokenizer, quiet)[0]) < TOLERANCE


@pytest.mark.parametrize("emphasis", clip.EMPHASES)
def test_without_weights_every_mode_is_the_encoder_s_own_output(
    encoder: Any, tokenizer: ClipTokenizer, emphasis: Emphasis
) -> None:
    found = features(encoder, tokenizer, weighted("a red boat"), emphasis=emphasis)
    assert torch.equal(found[0], unweighted(encoder, tokenizer, "a red boat"))


def test_the_family_reads_texts_as_the_model_is_told(model: Model) -> None:
    told = [replace(model, emphasis=mode) for mode in clip.EMPHASES] + [replace(model, clip_skip=2)]
    with torch.no_grad():
        found = [one.family.encode_prompts(one, [weighted(LOUD)]).tokens_BLD for one in told]
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            assert distance(one, other) > 100 * TOLERANCE


# --- clip skip -------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(("skip", "theirs"), [(1, None), (2, 1)])
def test_clip_skip_is_diffusers_one_less(
    base: Path,
    encoder: Any,
    tokenizer: ClipTokenizer,
    skip: int,
    theirs: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    pipeline = StableDiffusionPipeline(
        text_encoder=encoder, tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"), vae=None, unet=None,
        scheduler=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    # where transformers (5.6 and later) leaves text_model out, diffusers still asks for it
    monkeypatch.setitem(vars(encoder), "text_model", clip.body(encoder))
    expected, _ = pipeline.encode_prompt("a red boat", "cpu", 1, False, clip_skip=theirs)
    found = features(encoder, tokenizer, plain("a red boat"), skip=skip)
    assert distance(found, expected) < TOLERANCE
    assert distance(features(encoder, tokenizer, plain("a red boat"), skip=3 - skip), expected) > 100 * TOLERANCE
    bare = features(encoder, tokenizer, plain("a red boat"), skip=skip, normalised=False)
    assert distance(bare, expected) > 100 * TOLERANCE


# --- embeddings ------------------------------------------------------------------------------


def own(encoder: Any, tokens: Sequence[int], name: str = "ink") -> Embedding:
    """The encoder's own vectors of these tokens."""
    table = clip.body(encoder).embeddings.token_embedding.weight.detach()
    return Embedding(name, {table.shape[1]: table[list(tokens)].numpy().copy()}, "0" * 64)


def test_vectors_that_are_a_word_s_own_give_exactly_that_word_s_features(
    encoder: Any, tokenizer: ClipTokenizer
) -> None:
    ink = own(encoder, tokenizer.encode("red boat"))
    assert len(ink) == 2
    told = [weighted("a (ink:1.3) at night", [ink]), plain("a cat")]
    found = clip.encode(encoder, tokenizer, told, emphasis="a1111-nonorm")
    expected = clip.encode(
        encoder, tokenizer, [weighted("a (red boat:1.3) at night"), told[1]], emphasis="a1111-nonorm"
    )
    assert torch.equal(found.tokens_BLD, expected.tokens_BLD)
    assert torch.equal(found.pooled_BD, expected.pooled_BD)
    other = features(encoder, tokenizer, weighted("a (ink:1.3) at night"), emphasis="a1111-nonorm")
    assert distance(found.tokens_BLD[:1].detach(), other) > 100 * TOLERANCE


def test_vectors_stand_in_the_chunk_that_they_are_in(encoder: Any, tokenizer: ClipTokenizer) -> None:
    ink = own(encoder, tokenizer.encode("red boat"))
    first, second = weighted("ink BREAK a cat ink", [ink]), weighted("red boat BREAK a cat red boat")
    assert torch.equal(features(encoder, tokenizer, first), features(encoder, tokenizer, second))


def test_the_encoder_is_as_before_afterwards_and_after_a_failure(
    encoder: Any, tokenizer: ClipTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = features(encoder, tokenizer, plain("ink"))
    features(encoder, tokenizer, weighted("ink", [own(encoder, [5])]))
    assert torch.equal(features(encoder, tokenizer, plain("ink")), before)
    layer = clip.body(encoder).encoder
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(layer), "forward", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        features(encoder, tokenizer, weighted("ink", [own(encoder, [5])]))
    assert torch.equal(features(encoder, tokenizer, plain("ink")), before)
    assert not clip.body(encoder).embeddings.token_embedding._forward_hooks


def test_gradients_reach_the_encoder_past_an_embedding(model: Model, tokenizer: ClipTokenizer) -> None:
    encoder = model.parts["text_encoder"]
    parameter = next(one for name, one in encoder.named_parameters() if name.endswith("q_proj.weight"))
    parameter.requires_grad_(True)
    try:
        told = clip.encode(encoder, tokenizer, [weighted("a (ink:1.3)", [own(encoder, [5])])])
        (gradient,) = torch.autograd.grad(told.tokens_BLD.square().sum(), parameter)
    finally:
        parameter.requires_grad_(False)
    assert float(gradient.abs().max()) > 0


def test_an_encoder_with_few_places_keeps_its_end_and_cuts_the_vectors(tokenizer: ClipTokenizer) -> None:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.modeling_clip import CLIPTextModel

    from tests import tiny

    short = CLIPTextModel(CLIPTextConfig(**{**tiny.TEXT, "max_position_embeddings": 8})).eval()
    text = "a red boat on the sea, yellow sun at night"
    spelt = own(short, tokenizer.encode(text))
    assert len(spelt) > 8
    assert torch.equal(features(short, tokenizer, weighted("ink", [spelt])), features(short, tokenizer, plain(text)))
