"""What is unwise in a recipe, said before anything runs. No torch.

Nothing of this stops a training: the figures are what practice and published trainings come to, and a person may know
better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from velatura.dataset.buckets import Size
from velatura.recipe import Recipe

SEEN_OFTEN = 350
"""How often a picture is seen, beyond which small sets are learnt by heart rather than in their manner."""

SEEN_SELDOM = 5
"""How often, below which hardly anything is learnt."""

STRENGTHS = (5e-6, 1e-3)
"""Usual range of the learning rate times alpha / rank, of AdamW."""

RATES = {"adamw": 1.0, "adamw8bit": 1.0, "adafactor": 1.0, "schedule_free": 1.0, "lion": 3.0}
"""What an optimizer's rate is multiplied by to be compared; for others nothing is usual."""


def steps(count: int, images: int, pictures: int) -> Iterator[str]:
    """Whether each picture is seen too often or too seldom.

    Args:
        count: steps.
        images: seen in all of them, pictures of the class left aside.
    """
    seen = images / max(pictures, 1)
    if seen > SEEN_OFTEN:
        yield (
            f"each picture is seen {seen:.0f} times, and {pictures} are few for so many steps: they are learnt by heart"
            f" rather than in their manner; {math.ceil(count * SEEN_OFTEN / seen)} steps are plenty"
        )
    elif seen < SEEN_SELDOM:
        yield f"each picture is seen {seen:.1f} times: hardly anything is learnt; take more steps"


def rate(recipe: Recipe, *, small: bool) -> Iterator[str]:
    """Whether the learning rate, with the adapter's scale, is far from what is usual.

    Args:
        small: the base is one of the small ones, which take much higher rates.
    """
    adapter = recipe.adapter
    factor = RATES.get(recipe.train.optimizer)
    if factor is None or small:
        return
    scale = adapter.alpha / (math.sqrt(adapter.rank) if adapter.rslora else adapter.rank)
    strength = recipe.train.learning_rate * scale * factor
    least, most = STRENGTHS
    if not least <= strength <= most:
        which, what = ("low", "raise") if strength < least else ("high", "lower")
        told = f"a learning rate of {recipe.train.learning_rate:g} with alpha / rank {scale:g} comes to {strength:.2g}"
        yield (
            f"{told}, which is unusually {which} ({least:g} to {most:g} are usual):"
            f" {what} train.learning_rate or adapter.alpha"
        )


def buckets(pictures: Mapping[Size, int], batch: int) -> Iterator[str]:
    """Which sizes have a single picture, trained by itself where others are trained together."""
    lonely = [f"{width}x{height}" for (width, height), count in sorted(pictures.items()) if count == 1]
    if lonely and batch > 1:
        what = f"{len(lonely)} sizes have one picture each" if len(lonely) > 1 else "one size has a single picture"
        yield f"{what} ({', '.join(lonely)}), trained in batches of one; crop it to a shape that others have"


def trigger(words: str, count: Callable[[str], int]) -> Iterator[str]:
    """Whether the trigger is made of words that the base has a meaning for already.

    Args:
        count: tokens of a text, to a text encoder of the base.
    """
    known = [word for word in words.split() if word.isalpha() and count(word) == 1]
    if known and len(known) == len(words.split()):
        which = f"“{known[0]}” is a word" if len(known) == 1 else f"“{' '.join(known)}” are words"
        yield f"the trigger {which} that the base knows, so its own meaning mixes in; made-up words begin with none"


def memory(needed: int | None, total: int | None, free: int | None, *, graphics: bool) -> Iterator[str]:
    """Whether a training will not fit, or will push others out."""
    if needed is None:
        return
    size = f"{needed / 1e9:.1f} GB"
    if total is not None and needed > total:
        spill = "the driver moves some of it elsewhere, which is many times slower, or" if graphics else "the system"
        yield f"the training needs {size}, and there are {total / 1e9:.1f} GB in all: {spill} ends it; see [memory]"
    elif free is not None and needed > free:
        yield f"the training needs {size}, and {free / 1e9:.1f} GB are free now: close other programs"
