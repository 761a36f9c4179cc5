"""One sentence for all pictures but for the subject: `pencil portrait of a {woman|man|child}, {caption}`.

Of alternatives, the one that the picture's caption or its file's name says is taken, near-synonyms read; an empty
last one, as in `{woman|man|}`, is for all others. `{tags}` are those of a tagger that is asked beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from velatura.captioning.captioner import Answer, Asked
from velatura.dataset.wording import synonyms
from velatura.errors import DatasetError

_BRACES = re.compile(r"\{([^{}]*)\}")
FIELDS = ("caption", "name", "tags")


class Template:
    """Captions from a template."""

    name, batch = "template", 1000

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            DatasetError: it has no words, a brace that is not closed, or a field that there is not.
        """
        if not text.strip() or re.search(r"[{}]", _BRACES.sub("", text)):
            raise DatasetError(f"{text!r} is not a template", fix='write as in "portrait of a {woman|man}, {caption}"')
        for inner in _BRACES.findall(text):
            if "|" not in inner and inner not in FIELDS:
                fix = f"there are {', '.join(FIELDS)}, and alternatives such as {{woman|man}}"
                raise DatasetError(f"a template has no {{{inner}}}", fix=fix)
        self.text = text
        self.settings: Mapping[str, object] = {"template": text}

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """The template filled in for each picture."""
        return [self._filled(one) for one in asked]

    def _filled(self, one: Asked) -> Answer:
        unsure: list[str] = []

        def fill(found: re.Match[str]) -> str:
            if "|" not in found[1]:
                stem = one.name.rpartition("/")[2].rpartition(".")[0]
                return {"name": stem, "caption": _HERE, "tags": ", ".join(one.tags)}[found[1]]
            choices = [choice.strip() for choice in found[1].split("|")]
            said = f"{one.name} {' '.join(one.captions)} {', '.join(one.tags)}".lower()
            fitting = [choice for choice in choices if choice and _says(said, choice)]
            if len(fitting) == 1 or (not fitting and choices[-1] == ""):
                return fitting[0] if fitting else ""
            known = " and ".join(fitting) if fitting else f"none of {', '.join(filter(None, choices))}"
            unsure.append(f"its caption and name say {known}")
            return ""

        text = _BRACES.sub(fill, self.text)
        if unsure:
            return Answer(why=unsure[0])
        # Each line of a caption is a caption; filled in once more, the same template says the same.
        said = [_without(text, caption) for caption in one.captions] if _HERE in text else []
        return Answer(tuple(_tidy(text.replace(_HERE, caption)) for caption in said or [""]))


_HERE = "\0"
"""Where a caption comes to stand in a template that is filled in otherwise."""


def _without(text: str, caption: str) -> str:
    """What a caption said before this template, filled in alike, was put around it."""
    before, _, after = _tidy(text).partition(_HERE)
    if _HERE in after or not before + after:
        return caption
    if caption == _tidy(before + after):
        return ""
    around = caption.startswith(before) and caption.endswith(after) and len(before) + len(after) < len(caption)
    return caption[len(before) : len(caption) - len(after)] if around else caption


def _tidy(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"(\s*,)+", ",", text)).strip(" ,")


def _says(text: str, word: str) -> bool:
    return any(re.search(rf"(?<![^\W_]){re.escape(one)}(?![^\W_])", text) for one in synonyms(word.lower()))
