"""A captioner whose words are put behind what is said already: a tagger's tags behind a description, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from velatura.captioning.captioner import Answer, Asked, Captioner
from velatura.dataset.wording import split_tags, tag_key

_WORDS = 3
"""Words that a tag has at most; an answer with a longer part is a sentence, and is not taken apart."""


class Appended:
    """One captioner, in addition to what each caption says."""

    def __init__(self, captioner: Captioner) -> None:
        """Take the captioner."""
        self.captioner = captioner
        self.name, self.batch = captioner.name, captioner.batch
        self.settings: Mapping[str, object] = {**captioner.settings, "append": True}

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """The captions there are, each with the answer behind it."""
        return [_behind(one, answer) for one, answer in zip(asked, self.captioner.describe(asked), strict=True)]


def _behind(one: Asked, answer: Answer) -> Answer:
    there = tuple(filter(None, one.captions))
    if not answer.captions or not there:
        return answer
    if len(answer.captions) > 1:
        return Answer(why=f"{len(answer.captions)} captions cannot be put behind one; ask one prompt")
    return Answer(tuple(joined(caption, answer.captions[0]) for caption in there))


def joined(caption: str, more: str) -> str:
    """A caption with more behind it: of tags those that are missing, of sentences all that it does not end with."""
    if caption.endswith(more):
        return caption
    tags = split_tags(more)
    if all(len(tag.replace("_", " ").split()) <= _WORDS for tag in tags):
        known = set(map(tag_key, split_tags(caption)))
        more = ", ".join(tag for tag in tags if tag_key(tag) not in known)
    if not more:
        return caption
    return f"{caption} {more}" if caption.endswith((".", "!", "?")) else f"{caption}, {more}"
