"""The pictures that the oracle learns from and is tested on: drawn once, kept as arrays with their answers.

Two of three pictures are in an everyday rendering, the third is in one of the demo styles, so that the
oracle can also read what a LoRA paints. Seeds are disjoint from those of the base's training (from
20,000,000) and of the demo's examples (from 7,000,000); unseen combinations are drawn like all others.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from questions import COLOURS, HOURS, KINDS, PLACES

from velatura.files import make_folder, write_bytes
from velatura.pocket.compose import compose
from velatura.pocket.renderings import EVERYDAY
from velatura.pocket.scene import Facts, Scene
from velatura.pocket.styles import STYLES

TRAINING_SEED = 1_000_000
TEST_SEED = 5_000_000
SHARD = 500
"""Pictures of one file."""
UNASKED = -1
"""In answers: the picture cannot say."""
HANDS: tuple[str, ...] = (*EVERYDAY, *STYLES)


def hand_of(number: int) -> str:
    """The rendering or style of a picture, from its number: two everyday ones, then a style, all equally often."""
    everyday, styles = tuple(EVERYDAY), tuple(STYLES)
    if number % 3 == 2:
        return styles[number // 3 % len(styles)]
    return everyday[(number // 3 * 2 + number % 3) % len(everyday)]


def tells_colour(hand: str) -> bool:
    """Whether the colours of things can be told in this hand."""
    return hand not in STYLES or STYLES[hand].coloured


def painted(scene: Scene, hand: str, *, size: int = 128) -> Image.Image:
    """The scene in an everyday rendering or a style."""
    paint = EVERYDAY[hand] if hand in EVERYDAY else STYLES[hand].paint
    return paint(scene, size=size)


@dataclass(frozen=True)
class Answers:
    """Right answers for many pictures, as numbers; `UNASKED` where there is none."""

    shown: NDArray[np.bool_]
    """(n, kinds)."""
    colours: NDArray[np.int8]
    """(n, kinds), index of the colour."""
    counts: NDArray[np.int8]
    """(n,), one less than the count of the main kind."""
    settings: NDArray[np.int8]
    times: NDArray[np.int8]
    backgrounds: NDArray[np.int8]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.shown)


def answers_of(facts: list[Facts], hands: list[str]) -> Answers:
    """The right answers for scenes painted by these hands."""
    number = len(facts)
    shown = np.zeros((number, len(KINDS)), np.bool_)
    colours = np.full((number, len(KINDS)), UNASKED, np.int8)
    counts, settings, times, backgrounds = (np.full(number, UNASKED, np.int8) for _ in range(4))
    for row, (fact, hand) in enumerate(zip(facts, hands, strict=True)):
        coloured = tells_colour(hand)
        for thing in fact.things:
            column = KINDS.index(thing.kind)
            shown[row, column] = True
            if thing.colour and coloured:
                colours[row, column] = COLOURS.index(thing.colour)
        if len(fact.things) == 1:
            counts[row] = fact.things[0].count - 1
        settings[row] = PLACES.index(fact.setting)
        if fact.time:
            times[row] = HOURS.index(fact.time)
        if fact.background and coloured:
            backgrounds[row] = COLOURS.index(fact.background)
    return Answers(shown, colours, counts, settings, times, backgrounds)


@dataclass(frozen=True)
class PictureSet:
    """Pictures in files of `SHARD` each, mapped rather than read."""

    first_seed: int
    shards: tuple[NDArray[np.uint8], ...]
    """Each (SHARD, side, side, 3)."""

    def __len__(self) -> int:
        """How many pictures."""
        return SHARD * len(self.shards)

    def pick(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Some of the pictures, (n, side, side, 3)."""
        return np.stack([self.shards[number // SHARD][number % SHARD] for number in numbers])

    def facts(self) -> list[Facts]:
        """What every picture shows."""
        return [compose(self.first_seed + number, unseen=None).facts for number in range(len(self))]

    def hands(self) -> list[str]:
        """How every picture was painted."""
        return [hand_of(number) for number in range(len(self))]


def picture_set(folder: Path, first_seed: int, count: int) -> PictureSet:
    """The first pictures of a sequence, `count` rounded up to whole shards; those that are missing are drawn."""
    shards = []
    for shard in range(-(-count // SHARD)):
        path = folder / f"pictures-{first_seed}-{shard:03d}.npy"
        if not path.exists():
            make_folder(folder)
            _draw(path, first_seed, shard)
            print(f"drawn {path.name}", flush=True)
        shards.append(np.load(path, mmap_mode="r"))
    return PictureSet(first_seed, tuple(shards))


def _draw(path: Path, first_seed: int, shard: int) -> None:
    numbers = range(shard * SHARD, (shard + 1) * SHARD)
    scenes = [compose(first_seed + number, unseen=None) for number in numbers]
    pictures = [np.asarray(painted(scene, hand_of(n)), np.uint8) for n, scene in zip(numbers, scenes, strict=True)]
    encoded = io.BytesIO()
    np.save(encoded, np.stack(pictures))
    write_bytes(path, encoded.getvalue())
