"""CLIP's own vocabulary, which comes with the program: every Stable Diffusion, SDXL and FLUX.1 cuts its texts with it.

Only the merges are kept; the tokens follow from them. In order: the 256 bytes, those of printable characters first;
the same at a word's end; what each merge makes; start and end of a text. 49,408 in all.
Source: OpenAI, https://github.com/openai/CLIP (simple_tokenizer.py; MIT, see clip_merges.LICENSE.txt).
"""

from __future__ import annotations

import bz2
from functools import cache
from importlib import resources

from velatura.text.clip_tokens import Vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"

PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that stand for themselves, as characters of Latin-1; the others are given characters from U+0100 on."""


@cache
def vocabulary(pad: str = END) -> Vocabulary:
    """The parts of CLIP's tokenizer.

    Args:
        pad: what fills up behind the end: the end again in CLIP-L, "!" (number 0) in OpenCLIP.
    """
    packed = resources.files("velatura.text").joinpath("clip_merges.txt.bz2").read_bytes()
    merges = bz2.decompress(packed).decode().splitlines()
    letters = _letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *(pair.replace(" ", "") for pair in merges)]
    numbers = {token: number for number, token in enumerate([*tokens, START, END])}
    return Vocabulary(numbers, merges, {"bos_token": START, "eos_token": END, "pad_token": pad})


def _letters() -> list[str]:
    """A character for each byte."""
    unprintable = 256 - len(PRINTABLE)
    return [chr(code) for code in (*PRINTABLE, *range(0x100, 0x100 + unprintable))]
