"""The filter language: `tag:"long hair" and not caption:hat and (tokens:>75 or width<1024)`.

    filter  = both ("or" both)*
    both    = one ("and" one)*
    one     = "not" one | "(" filter ")" | term
    term    = key:value | key sign value | word        sign: = != < <= > >= ~

A word without a key is looked for in the caption. `tag:` takes the whole tag, `caption:` and `name:` take a part,
`~` takes a part of anything; `*` and `?` stand for any letters and for one, and a backslash before them, or before a
quote, takes them as they are. Case is not told apart, nor are spaces and underscores in tags.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterator
from functools import cache

from velatura.dataset.wording import split_tags, tag_key, tags_of
from velatura.errors import DatasetError, nearest

Value = float | str | tuple[str, ...] | None
"""What is filtered by: a number, a word, several words, or None where it is not known."""

Lookup = Callable[[str], Value]
Filter = Callable[[Lookup], bool]

CAPTION_KEYS = ("tag", "caption", "tags", "tokens", "letters", "captions", "author", "name", "width", "height")
"""What captions are filtered by. Of several captions of one picture, one has to hold."""

NUMBERS = frozenset(
    {"width", "height", "pixels", "shape", "bytes", "sharpness", "noise", "brightness", "contrast", "saturation"}
    | {"detail", "captions", "tags", "tokens", "letters"}
)
_IN_PART = frozenset({"caption", "name"})
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_TERM = re.compile(r"([^\W\d]\w*)(:|<=|>=|!=|=|<|>|~)(.*)", re.DOTALL)
_SIGN = re.compile(r"<=|>=|!=|=|<|>|~")


def parse(text: str, keys: Collection[str] = CAPTION_KEYS) -> Filter:
    """The test that a filter describes.

    Args:
        text: the filter.
        keys: what there is to filter by.

    Raises:
        DatasetError: it cannot be read, with the place where.
    """
    return _Parser(text, keys).whole()


def of_caption(caption: str, key: str) -> Value:
    """What a caption itself is filtered by."""
    if key == "tag":
        return tuple(tags_of(caption))
    if key == "tags":
        return len(split_tags(caption))
    return len(caption) if key == "letters" else caption


class _Parser:
    def __init__(self, text: str, keys: Collection[str]) -> None:
        self.text, self.keys = text, keys
        self.words = list(_words(text))
        self.place = 0

    def whole(self) -> Filter:
        if not self.words:
            raise _unreadable(self.text, "it is empty")
        found = self.either()
        if self.place < len(self.words):
            raise _unreadable(self.text, f"and, or or ) is missing before {self.words[self.place]}")
        return found

    def either(self) -> Filter:
        found = [self.both()]
        while self.takes("or"):
            found.append(self.both())
        return found[0] if len(found) == 1 else lambda lookup: any(one(lookup) for one in found)

    def both(self) -> Filter:
        found = [self.one()]
        while self.takes("and"):
            found.append(self.one())
        return found[0] if len(found) == 1 else lambda lookup: all(one(lookup) for one in found)

    def one(self) -> Filter:
        turned = False
        while self.takes("not"):
            turned = not turned
        if self.takes("("):
            found = self.either()
            if not self.takes(")"):
                raise _unreadable(self.text, "a ) is missing")
        else:
            found = self.term()
        return (lambda lookup: not found(lookup)) if turned else found

    def takes(self, word: str) -> bool:
        fits = self.place < len(self.words) and self.words[self.place].lower() == word
        self.place += fits
        return fits

    def next(self) -> str:
        if self.place >= len(self.words):
            raise _unreadable(self.text, "it ends too early")
        self.place += 1
        return self.words[self.place - 1]

    def term(self) -> Filter:
        word = self.next()
        if word in ("(", ")") or word.lower() in ("and", "or"):
            raise _unreadable(self.text, f"{word} stands where a term should be")
        if word in self.keys and self.place < len(self.words) and _SIGN.match(self.words[self.place]):
            word += self.next()
        found = _TERM.fullmatch(word)
        if word in self.keys:
            raise _unreadable(self.text, f"what {word} should be is missing")
        if found is None:
            return _text("caption", "~", _plain(word))
        key, sign, wanted = found.groups()
        if key not in self.keys:
            close = nearest(key, list(self.keys))
            fix = f"did you mean {close}?" if close else f"there are {', '.join(self.keys)}; quote a tag with a colon"
            raise DatasetError(f"there is no value {key}", fix=fix)
        if not wanted:
            wanted = self.next()
        if key in NUMBERS:
            return _number(key, sign, wanted)
        return _text(key, sign, _plain(wanted))


def _words(text: str) -> Iterator[str]:
    """Words and single parentheses; quotes keep spaces together, and a word keeps the parentheses that it opens."""
    place, end = 0, len(text)
    while place < end:
        if text[place].isspace():
            place += 1
        elif text[place] in "()":
            yield text[place]
            place += 1
        else:
            begun, depth, quoted = place, 0, False
            while place < end and (quoted or not text[place].isspace()):
                sign = text[place]
                if sign == "\\":
                    place += 1
                elif sign == '"':
                    quoted = not quoted
                elif not quoted and sign in "()":
                    depth += 1 if sign == "(" else -1
                    if depth < 0:
                        break
                place += 1
            if quoted:
                raise _unreadable(text, "a quotation mark is not closed")
            yield text[begun:place]


def _number(key: str, sign: str, wanted: str) -> Filter:
    if sign == ":":
        led = _SIGN.match(wanted)
        sign, wanted = (led[0], wanted[led.end() :]) if led else ("=", wanted)
    if sign == "~":
        return lambda lookup: wanted in str(lookup(key) or "")
    try:
        number = float(_plain(wanted))
    except ValueError:
        raise DatasetError(f"{wanted!r} is not a number", fix="write a number behind the sign") from None
    compare = _SIGNS[sign]

    def holds(lookup: Lookup) -> bool:
        found = lookup(key)
        return compare(found, number) if isinstance(found, int | float) else sign == "!="

    return holds


def _text(key: str, sign: str, wanted: str) -> Filter:
    if sign not in (":", "=", "!=", "~"):
        raise DatasetError(f"{key} is not a number", fix=f"write {key}:{wanted}")
    part = sign == "~" or (sign == ":" and key in _IN_PART)
    pattern = _pattern(tag_key(wanted) if key == "tag" and not part else wanted)
    test = pattern.search if part else pattern.fullmatch

    def holds(lookup: Lookup) -> bool:
        found = lookup(key)
        values = found if isinstance(found, tuple) else () if found is None else (str(found),)
        return any(test(value) is not None for value in values) != (sign == "!=")

    return holds


@cache
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(wildcards(wanted), re.IGNORECASE | re.DOTALL)


def wildcards(wanted: str) -> str:
    r"""The regular expression of a text with `*` and `?`; `\*` and `\?` are these signs themselves."""
    parts = re.split(r"(\\[*?\\]|[*?])", wanted)
    known = {"*": ".*", "?": "."}
    return "".join(known.get(part) or re.escape(part[1:] if part in ("\\*", "\\?", "\\\\") else part) for part in parts)


def _plain(word: str) -> str:
    """A word without its quotation marks."""
    return re.sub(r'(?<!\\)"', "", word).replace('\\"', '"')


def _unreadable(text: str, why: str) -> DatasetError:
    fix = 'write as in: tag:"long hair" and not caption:hat and width>=1024'
    return DatasetError(f"{text!r} is not a filter: {why}", fix=fix)
