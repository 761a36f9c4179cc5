"""Captions edited in bulk: what is to be done, what it would change, and the change as one entry of the journal.

Every operation takes a caption and gives one. A caption in which nothing changes is left as it was, byte for byte.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from velatura.dataset import authors, captioned, filters, journal
from velatura.dataset.captioned import Captioned
from velatura.dataset.captions import lines_of
from velatura.dataset.layout import Problem
from velatura.dataset.wording import begins_with, is_tags, split_tags, tag_key, tags_of, two_wordings, words_of
from velatura.errors import DatasetError

Operation = Callable[[str], str]

PLACES = ("first", "last")
SORTS = ("frequency", "alphabetic")


@dataclass(frozen=True)
class Rewording:
    """What is done to captions, in the order of these fields.

    Tags are compared as `wording.tag_key` says; those to remove or rename may have the wildcards `*` and `?`.
    """

    replace: tuple[tuple[str, str], ...] = ()
    """Text for text, anywhere in a caption."""
    regex: bool = False
    """What is replaced are regular expressions, and what comes instead may have groups such as `\\1`."""
    rename: tuple[tuple[str, str], ...] = ()
    """Whole tags for whole tags."""
    unify: bool = False
    """Of near-synonyms and spellings of one thing, the more common takes the place of the rarer."""
    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    """Tags that are put where they are missing."""
    place: str = "last"
    """Where tags are put: `first` (behind the trigger), `last`, or before the tag that is named."""
    trigger: str = ""
    """Stands first in every caption, and only there."""
    deduplicate: bool = False
    sort: str | tuple[str, ...] = ()
    """`frequency` (the most common first), `alphabetic`, or tags in the order in which they are to stand."""
    keep_first: int = 0
    """Tags at the beginning that are not sorted; a trigger is one of them."""


@dataclass(frozen=True)
class Change:
    """One caption file before and after."""

    name: str
    file: str
    before: tuple[str, ...] | None
    after: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """What an edit does, or did."""

    selected: int
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...] = ()
    unified: tuple[tuple[str, str], ...] = ()
    """What `unify` came to: rarer word -> the one that is kept."""


@dataclass(frozen=True)
class Selection:
    """Which captions are edited."""

    names: tuple[str, ...] = ()
    where: str = ""
    count_tokens: Callable[[str], int] | None = None


def plan(folder: Path, rewording: Rewording, selection: Selection | None = None) -> Planned:
    """What an edit would change; nothing is written.

    Raises:
        DatasetError: a filter, a regular expression or a name that means nothing.
    """
    with _without_collecting():
        return _planned(folder, rewording, selection or Selection())


def _planned(folder: Path, rewording: Rewording, chosen: Selection) -> Planned:
    found, problems = captioned.read(folder, chosen.names)
    selected = select(folder, found, chosen)
    pairs = _unified(selected) if rewording.unify else ()
    operations = _operations(rewording, selected, pairs)
    changes = []
    for one in selected:
        after = _reworded(one.captions, operations)
        if after is not None and after != one.captions:
            changes.append(Change(one.name, one.file, one.captions, after))
    return Planned(len(selected), tuple(changes), tuple(problems), pairs)


def apply(folder: Path, rewording: Rewording, selection: Selection | None = None, *, told: str = "captions") -> Planned:
    """Edit captions; `velatura.dataset.journal.undo` takes it back.

    Args:
        folder: the dataset.
        rewording: what is done.
        selection: to which captions; all of them where it is not given.
        told: what is done, as the history names it.

    Raises:
        DatasetError: as for `plan`, or another process is editing this dataset.
    """
    # Read behind the lock: what another process wrote last is seen.
    with journal.edit(folder, told) as changes, _without_collecting():
        planned = plan(folder, rewording, selection)
        changes.write_all({one.file: ("\n".join(one.after) + "\n").encode() for one in planned.changes})
    return planned


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Python looks for circles among its objects each time that there are many more of them; here are a million, none
    in a circle, and looking would take a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def select(folder: Path, found: list[Captioned], selection: Selection) -> list[Captioned]:
    """The captions of a selection."""
    if not selection.where:
        return found
    written = authors.load(folder)
    return captioned.matching(found, selection.where, count_tokens=selection.count_tokens, written=written)


def add(tags: Iterable[str], *, place: str = "last", trigger: str = "") -> Operation:
    """Put tags where they are missing, in the order given: first behind the trigger, last, or before another tag."""
    wanted = [tag for one in tags for tag in split_tags(one)]
    wanted_keys = list(map(tag_key, wanted))

    def change(listed: list[str]) -> list[str]:
        keys = list(map(tag_key, listed))
        missing = [tag for tag, key in zip(wanted, wanted_keys, strict=True) if key not in keys]
        if place == "first":
            at = int(bool(trigger) and keys[:1] == [tag_key(trigger)])
        else:
            at = keys.index(tag_key(place)) if place != "last" and tag_key(place) in keys else len(listed)
        return [*listed[:at], *missing, *listed[at:]]

    return _on_tags(change)


def remove(tags: Iterable[str]) -> Operation:
    """Take tags away."""
    gone = tests_of(tag for one in tags for tag in split_tags(one))
    return _on_tags(lambda listed: [tag for tag in listed if not gone(tag_key(tag))])


def rename(old: str, new: str) -> Operation:
    """Whole tags for another, which is there once afterwards; nothing for `new` removes them."""
    fits = tests_of([old])
    new, new_key = new.strip(), tag_key(new)

    def change(listed: list[str]) -> list[str]:
        keys = list(map(tag_key, listed))
        hits = list(map(fits, keys))
        if True not in hits:
            return listed
        there = not new or (new_key, False) in zip(keys, hits, strict=True)
        kept = []
        for tag, hit in zip(listed, hits, strict=True):
            if not hit:
                kept.append(tag)
            elif not there:
                kept.append(new)
                there = True
        return kept

    return _on_tags(change)


def replace(old: str, new: str, *, regex: bool = False) -> Operation:
    """Text for text, anywhere in a caption."""
    if not old:
        raise DatasetError("there is nothing to replace", fix="name the text that is to go")
    if not regex:
        return lambda text: text.replace(old, new)
    try:
        pattern = re.compile(old)
        pattern.sub(new, "")  # fails for a group that is not there
    except (re.error, IndexError) as error:
        raise DatasetError(f"{old!r} to {new!r} is not a regular expression: {error}") from None
    return lambda text: pattern.sub(new, text)


def set_trigger(trigger: str) -> Operation:
    """The trigger first, and only there; a sentence that begins with it, or nearly so, stays as it is."""
    word, key = trigger.strip(), tag_key(trigger)
    if not key:
        raise DatasetError("the trigger is empty", fix="name the word")

    def change(text: str) -> str:
        listed = split_tags(text)
        others = [tag for tag in listed if tag_key(tag) != key]
        if len(others) == len(listed) and begins_with(text, word):
            return text
        changed = [word, *others]
        return text if [tag_key(tag) for tag in changed] == [tag_key(tag) for tag in listed] else ", ".join(changed)

    return change


def deduplicate() -> Operation:
    """Each tag once, where it stands first."""
    return _on_tags(lambda listed: list({tag_key(tag): tag for tag in reversed(listed)}.values())[::-1])


def sort(by: str | Sequence[str], *, keep_first: int = 0, counts: Counter[str] | None = None) -> Operation:
    """Tags in order: the most common first, alphabetic, or as given and the others behind; the first n stay."""
    if by == "frequency":
        known = counts or Counter()

        def order(key: str) -> tuple[int, str]:
            return -known[key], key
    elif by == "alphabetic":

        def order(key: str) -> tuple[int, str]:
            return 0, key
    else:
        given = [tag_key(tag) for tag in ([by] if isinstance(by, str) else by)]
        places = {key: place for place, key in reversed(list(enumerate(given)))}

        def order(key: str) -> tuple[int, str]:
            return places.get(key, len(given)), ""

    @cache
    def order_of(tag: str) -> tuple[int, str]:
        return order(tag_key(tag))

    def change(listed: list[str]) -> list[str]:
        return [*listed[:keep_first], *sorted(listed[keep_first:], key=order_of)]

    return _on_tags(change)


def _operations(
    rewording: Rewording, selected: Sequence[Captioned], unified: Sequence[tuple[str, str]]
) -> list[Operation]:
    texts = [text for one in selected for text in one.captions or ()]
    made = [replace(old, new, regex=rewording.regex) for old, new in rewording.replace]
    made += [rename(old, new) for old, new in rewording.rename]
    if unified:
        made += [rename(*pair) if is_tags(texts) else _word_for_word(*pair) for pair in unified]
    if rewording.remove:
        made.append(remove(rewording.remove))
    if rewording.add:
        made.append(add(rewording.add, place=rewording.place, trigger=rewording.trigger))
    if rewording.trigger:
        made.append(set_trigger(rewording.trigger))
    if rewording.deduplicate:
        made.append(deduplicate())
    if rewording.sort:
        if texts and not is_tags(texts):
            what = "these captions are sentences, which sorting would scramble"
            raise DatasetError(what, fix='choose those that are tags, as with --where "tags:>3"')
        frequent = rewording.sort == "frequency"
        counts = Counter(chain.from_iterable(set(tags_of(text)) for text in texts)) if frequent else None
        kept = max(rewording.keep_first, int(bool(rewording.trigger)))
        made.append(sort(rewording.sort, keep_first=kept, counts=counts))
    return _joined(made)


def _unified(selected: Sequence[Captioned]) -> tuple[tuple[str, str], ...]:
    """Rarer word -> the one that is kept; where that is rarer than a third, the third."""
    texts = {one.name: " , ".join(one.captions) for one in selected if one.captions and any(one.captions)}
    kept = {one.rarer: one.kept for one in two_wordings(words_of(texts))}
    pairs = []
    for old, new in kept.items():
        seen = {old}
        while new in kept and new not in seen:
            seen.add(new)
            new = kept[new]
        if new != old:
            pairs.append((old, new))
    return tuple(pairs)


def _reworded(before: tuple[str, ...] | None, operations: Sequence[Operation]) -> tuple[str, ...] | None:
    """The captions of a picture afterwards; None where it had none and still has none."""
    after = list[str]()
    for text in before or ("",):
        for operation in operations:
            text = operation(text)
        # A replacement may bring line breaks in, and each line of a file is a caption.
        after += lines_of(text)
    kept = tuple(filter(None, after))
    return kept or (None if before is None else ("",))


@dataclass(frozen=True)
class _OnTags:
    """Operations on a caption's list of tags, one after the other: it is taken apart and put together once."""

    changes: tuple[Callable[[list[str]], list[str]], ...]

    def __call__(self, text: str) -> str:
        listed = changed = split_tags(text)
        for change in self.changes:
            changed = change(changed)
        return text if changed == listed else ", ".join(changed)


def _on_tags(change: Callable[[list[str]], list[str]]) -> Operation:
    return _OnTags((change,))


def _joined(operations: Iterable[Operation]) -> list[Operation]:
    """The same operations, neighbours on tags made one."""
    made: list[Operation] = []
    for one in operations:
        if made and isinstance(one, _OnTags) and isinstance(last := made[-1], _OnTags):
            made[-1] = _OnTags(last.changes + one.changes)
        else:
            made.append(one)
    return made


def _word_for_word(old: str, new: str) -> Operation:
    pattern = re.compile(rf"(?<![\w'-]){re.escape(old)}(?![\w'-])", re.IGNORECASE)
    return lambda text: pattern.sub(lambda _: new, text)


def tests_of(tags: Iterable[str]) -> Callable[[str], bool]:
    """Whether a tag is one of these, wildcards read."""
    keys = [tag_key(tag) for tag in tags]
    plain = {key.replace("\\*", "*").replace("\\?", "?") for key in keys if not re.search(r"(?<!\\)[*?]", key)}
    patterns = [re.compile(filters.wildcards(key), re.DOTALL) for key in keys if re.search(r"(?<!\\)[*?]", key)]
    if not patterns:
        return plain.__contains__
    return cache(lambda key: key in plain or any(pattern.fullmatch(key) for pattern in patterns))
