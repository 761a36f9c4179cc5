"""A captioner that is given a tagger's tags: what the tagger is sure of, a model need not guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from velatura.captioning.captioner import Answer, Asked, Captioner


class Tagged:
    """One captioner told what another says of each picture."""

    def __init__(self, captioner: Captioner, tagger: Captioner) -> None:
        """Take both.

        Args:
            captioner: who describes.
            tagger: who is asked beforehand; where it has no answer, the captioner is told nothing.
        """
        self.captioner, self.tagger = captioner, tagger
        self.name, self.batch = captioner.name, captioner.batch
        self.settings: Mapping[str, object] = {
            **captioner.settings,
            "tagger": tagger.name,
            **{f"tagger_{name}": value for name, value in tagger.settings.items()},
        }

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """The captioner's answers."""
        found = self.tagger.describe(asked)
        told = [replace(one, tags=tags_in(answer)) for one, answer in zip(asked, found, strict=True)]
        return self.captioner.describe(told)


def tags_in(answer: Answer) -> tuple[str, ...]:
    """The tags of a tagger's answer."""
    return tuple(tag for text in answer.captions for part in text.split(",") if (tag := part.strip()))
