"""LoRAs that a prompt names."""

from __future__ import annotations

import pytest

from velatura.errors import PromptError
from velatura.generation.prompt import Fragment, LoraUse, Prompt, extract_loras, parse


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("<lora:ink>", LoraUse("ink", 1.0, 1.0)),
        ("<lora:ink:0.8>", LoraUse("ink", 0.8, 0.8)),
        ("<lora:ink:0.5:0.8>", LoraUse("ink", denoiser_strength=0.8, text_strength=0.5)),
        ("<lora:ink:te=0.5:unet=0.8>", LoraUse("ink", denoiser_strength=0.8, text_strength=0.5)),
        ("<lora:ink:0.5:unet=0>", LoraUse("ink", denoiser_strength=0.0, text_strength=0.5)),
        ("<lora:ink:unet=0.8>", LoraUse("ink", denoiser_strength=0.8, text_strength=1.0)),
        ("<lora:ink:te=0.5>", LoraUse("ink", denoiser_strength=0.5, text_strength=0.5)),
        ("<lora:ink:1:lbw=MIDD>", LoraUse("ink", blocks="MIDD")),
        ("<lora:ink:1:0.5:lbw=1,0,0.5:stop=12>", LoraUse("ink", 0.5, 1.0, "1,0,0.5", None, 12)),
        ("<lora:ink:start=3:stop=7>", LoraUse("ink", start=3, stop=7)),
        ("<lora:ink:step=3-7>", LoraUse("ink", start=3, stop=7)),
        ("<lora:My ink v1.2 (final):-1>", LoraUse("My ink v1.2 (final)", -1.0, -1.0)),
        ("<lyco:ink:2>", LoraUse("ink", 2.0, 2.0)),
    ],
)
def test_a_lora_is_named_with_its_strengths(mark: str, expected: LoraUse) -> None:
    assert extract_loras(f"a {mark}, b") == ("a , b", (expected,))


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("<lora:ink:strong>", "'strong' is not a number"),
        ("<lora:ink:nan>", "'nan' is not a number"),
        ("<lora:ink:>", "'' is not a number"),
        ("<lora: >", "needs a name"),
        ("<lora:te=1>", "needs a name"),
        ("<lora:ink:1:1:4>", "no setting 'dyn'"),
        ("<lora:ink:1:start=x>", "whole number"),
        ("<lora:ink:1:step=9-4>", "not before"),
        ("<lora:ink:name=other>", "no setting 'name'"),
        ("<hypernet:ink:1>", "not <hypernet:"),
    ],
)
def test_a_lora_that_cannot_be_understood_is_pointed_at(mark: str, words: str) -> None:
    with pytest.raises(PromptError, match=words) as caught:
        parse(f"a house {mark}")
    assert caught.value.where == mark
    assert caught.value.fix


def test_a_prompt_is_fragments_and_loras() -> None:
    prompt = parse("a (red:1.2) house <lora:ink:0.8> BREAK by night<lora:moon>")
    assert prompt == Prompt(
        parts=(
            (Fragment("a ", 1.0), Fragment("red", 1.2), Fragment(" house", 1.0)),
            (Fragment("by night", 1.0),),
        ),
        loras=(LoraUse("ink", 0.8, 0.8), LoraUse("moon")),
    )
    assert prompt.plain == "a red house by night"


def test_what_only_looks_like_a_lora_stays_in_the_text() -> None:
    assert parse("a < b, c > d, <3 and <lora>").plain == "a < b, c > d, <3 and <lora>"
