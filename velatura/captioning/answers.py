"""What language models are asked, and what of their answers is a caption.

A model that refuses, thinks aloud, repeats itself or is cut off says something all the same; trained on, that does
more harm than a missing caption. So such an answer is no caption, and why is said.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

from velatura.captioning.captioner import Answer, Asked

PROMPT = (
    "Describe this picture in one or two plain sentences: who or what is shown, what they do, where, and in which"
    " light. Begin with the subject itself. Do not guess, judge, or mention that it is a picture."
)
"""What is asked where the user asks nothing else."""

WITH_TAGS = "A tagger noted: {tags}. Use what of it is true."
"""What is added to a prompt that has no place of its own for a tagger's tags."""

LONGEST = 20_000
"""Letters of an answer that may still be a caption."""

_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_MARKS = re.compile(
    r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:eos|bos|pad|unk|image)>|</?think>"
)
_CAN_NOT = r"(?:can ?not|can['’]?t|won['’]?t|will not|(?:am|['’]m) (?:unable|not able)|am not allowed)"
_REFUSALS = re.compile(
    rf"(?:(?:i['’]?m|i am) (?:really |very |so )?sorry\b|sorry,|i apologi[sz]e\b|as an ai\b|unfortunately, i\b"
    rf"|i ?(?:really )?{_CAN_NOT}\b)",
    re.IGNORECASE,
)
_BLIND = re.compile(
    r"(?:i (?:do not|don['’]?t|cannot|can['’]?t) (?:actually )?see (?:an?|any|the|your) (?:image|picture|photo|attach)"
    r"|there is no (?:image|picture|photo)\b|no (?:image|picture|photo) (?:was|is|has been) (?:provided|attached|shown)"
    r"|(?:please|could you(?: please)?|feel free to) (?:provide|share|upload|attach|send)\b"
    r"|it (?:seems|looks|appears)(?: like| that)? (?:you|there|no|the (?:image|picture))[^.]*(?:no\b|not|n['’]t|forgot)"
    r"|as a text[- ](?:based|only))",
    re.IGNORECASE,
)
"""How models answer that were shown no picture, as servers do that drop it without a word."""
_REPEATED = 5.0
"""Times that a text is packed smaller where it says the same over and over; sentences come to 2, tags to 3."""
_SHORT = 60


def asked_for(prompt: str, one: Asked) -> str:
    """The prompt for one picture: `{tags}` and `{caption}` are what a tagger and the caption file say of it."""
    if one.tags and "{tags}" not in prompt:
        prompt = f"{prompt} {WITH_TAGS}"
    return prompt.replace("{tags}", ", ".join(one.tags)).replace("{caption}", " ".join(one.captions))


def caption_or_why(text: str, *, cut_off: int | None = None) -> tuple[str, str]:
    """The caption in a model's answer; or "", and why there is none.

    Args:
        text: the answer.
        cut_off: where it was cut off, the number of tokens that it was given.
    """
    said = " ".join(_THOUGHT.sub(" ", text).split()).strip()
    said = said[1:-1].strip() if len(said) > 1 and said[0] + said[-1] in ('""', "“”") else said
    if cut_off is not None:
        return "", f"the answer was cut off at {cut_off} tokens; --max-tokens gives more"
    if not said:
        return "", "the answer is empty"
    if _BLIND.match(said):
        return "", f"the model was shown no picture, so it is none that sees: {_short(said)}"
    if _REFUSALS.match(said):
        return "", f"the model refuses: {_short(said)}"
    if marks := _MARKS.search(said):
        return "", f"the answer has the model's own marks in it ({marks[0]}), so its chat template is not the right one"
    packed = said.encode("utf-8", "replace")
    if not any(sign.isalpha() for sign in said) or "\N{REPLACEMENT CHARACTER}" in said:
        return "", f"the answer is not text: {_short(said)}"
    if len(packed) >= _SHORT and len(packed) > _REPEATED * len(zlib.compress(packed)):
        return "", f"the answer repeats itself: {_short(said)}"
    if len(said) > LONGEST:
        return "", f"an answer of {len(said)} letters is no caption"
    return said, ""


def together(found: Sequence[tuple[str, str]]) -> Answer:
    """The captions of several prompts, one for each; or none, where one of them has none."""
    why = next((why for _, why in found if why), "")
    return Answer(why=why) if why else Answer(tuple(said for said, _ in found))


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
