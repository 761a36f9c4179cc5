"""What is wrong with captions: missing, without their trigger, too long, of two minds about words.

What a caption names can be prompted for; what it leaves out is drawn into the trigger. So a style's captions name
what is shown and not how, a character's name clothes and places and not the face.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from velatura.dataset.findings import Finding, quoted
from velatura.dataset.scan import Picture

Counted = Callable[[str], int]


@dataclass(frozen=True)
class Told:
    """What captions are held against."""

    trigger: str = ""
    count_tokens: Counted | None = None
    """Tokens of a text as the base's own tokenizer cuts it, start and end not counted."""
    token_limit: int | None = None
    """Tokens that the base reads at once."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


COMMON_WORDS = _set(
    """
    a an the and or of in on at with by for from to man woman boy girl person people child face portrait
    photo picture image drawing painting art style sketch cat dog horse bird house tree car city night
    day light dark red green blue black white yellow old young new big small beautiful anime cartoon
    realistic watercolor watercolour oil ink pencil comic manga fantasy model fashion nature water fire
    sky rose lily mark art
    """
)
"""Words that every base knows; a trigger of one of them fights what it means already."""

LEFTOVERS = _set(
    """
    watermark signature artist_name text logo username web_address patreon_username twitter_username
    dated masterpiece best_quality high_quality highres absurdres lowres worst_quality low_quality
    jpeg_artifacts rating:safe rating:explicit rating:questionable commentary_request
    translation_request bad_id md5_mismatch tagme score_9 score_8_up score_7_up source_anime blurry
    """
)
"""Tags that taggers and boards leave, and that say nothing of what is shown."""

LOOK = {
    "style": _set(
        """
    watercolor watercolour painting oil_painting sketch drawing illustration monochrome lineart ink
    traditional_media digital_art anime cartoon photo photograph photorealistic style
    """
    ),
    "character": _set(
        """
    face eyes nose freckles eye_color hair_color skin mole
    """
    ),
}
"""Words for what the trigger of each kind should take in, and that captions therefore leave out."""

_SYNONYMS = (
    ("woman", "lady", "female", "1girl"),
    ("man", "guy", "male", "1boy"),
    ("photo", "photograph", "picture", "image"),
    ("painting", "artwork", "illustration"),
    ("child", "kid"),
    ("smiling", "smile"),
    ("outdoors", "outside"),
    ("indoors", "inside"),
    ("colour", "color"),
    ("grey", "gray"),
    ("sitting", "seated"),
    ("bike", "bicycle"),
    ("car", "automobile"),
    ("sea", "ocean"),
    ("forest", "woods"),
    ("street", "road"),
)

EARLY = 12
"""Letters of a sentence before a trigger that still stands first, as in "a photo of mara"."""

_SEVERAL = 3
"""Captions in which two wordings must stand before they are told."""


_ASKED = 1000
"""Captions that are enough to know what they all are."""


def is_tags(captions: Sequence[str]) -> bool:
    """Whether most captions are lists of tags rather than sentences; of very many, some are asked."""
    captions = captions[:: max(1, len(captions) // _ASKED)]
    parts = [part.split() for text in captions for part in text.split(",") if part.strip()]
    listed = [text for text in captions if text.count(",") >= 2]
    return len(listed) > len(captions) / 2 and sum(len(words) <= 3 for words in parts) > 0.7 * len(parts)


def split_tags(caption: str) -> list[str]:
    """Tags of a caption as they are written, empty ones aside."""
    return list(filter(None, map(str.strip, caption.split(","))))


def tags_of(caption: str) -> list[str]:
    """Tags of a caption, as they are compared."""
    return list(filter(None, map(tag_key, caption.split(","))))


@lru_cache(maxsize=1 << 16)
def tag_key(tag: str) -> str:
    """A tag as it is compared: lower case, underscores as spaces, `(weights:1.2)` and escaping backslashes aside.

    Parentheses that are part of a tag stay, as in `jeanne (alter)`, and so do faces such as `:3`.
    """
    text = tag.strip()
    while (inner := _weighted(text)) is not None:
        text = inner
    text = text.replace("\\(", "(").replace("\\)", ")").lower()
    return " ".join(text.replace("_", " ").split()) if _WORD.search(text) else text


_WORD = re.compile(r"[^\W\d_]{2}")
"""Two letters in a row; a tag without them is a face such as `^_^`, and its underscores are its mouth."""


def has_words(tag: str) -> bool:
    """Whether a tag is made of words; faces such as `^_^` are not."""
    return _WORD.search(tag) is not None


def synonyms(word: str) -> tuple[str, ...]:
    """Words that mean the same, the word itself among them."""
    return next((group for group in _SYNONYMS if word in group), (word,))


_WEIGHT = re.compile(r":\s*[+-]?\d*\.?\d+$")


def _weighted(text: str) -> str | None:
    """What stands in brackets that raise or lower a weight; None where there are none."""
    plain = re.sub(r"\\.", "xx", text)
    opened, closed = sum(map(plain.count, "([{")), sum(map(plain.count, ")]}"))
    if not (opened or closed) or not _WORD.search(text):
        return None
    if opened > closed and plain[0] in "([{":  # the first of several tags that share a weight
        return text[1:].strip()
    if closed > opened and plain[-1] in ")]}":
        return _WEIGHT.sub("", text[:-1].strip()).strip()
    if plain[0] + plain[-1] not in ("()", "[]", "{}") or not _encloses(plain):
        return None
    return _WEIGHT.sub("", text[1:-1].strip()).strip()


def _encloses(text: str) -> bool:
    """Whether the first bracket is closed by the last."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def has_trigger(caption: str, trigger: str) -> bool:
    """Whether a caption says the trigger, in any case of letters."""
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE) is not None


def begins_with(caption: str, trigger: str) -> bool:
    """Whether a caption begins with the trigger: its first tag, or a sentence with at most a few words before it."""
    before = rf"[^,]{{0,{EARLY}}}"
    return re.match(rf"{before}(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE) is not None


def check(pictures: Sequence[Picture], told: Told, *, kind: str = "", folder: str = "DIR") -> list[Finding]:
    """Everything that is wrong with the captions of a set."""
    return [
        *_missing(pictures, told, folder),
        *_trigger(pictures, told, kind, folder),
        *_length(pictures, told, folder),
        *_words(pictures, told, kind, folder),
    ]


def _missing(pictures: Sequence[Picture], told: Told, folder: str) -> list[Finding]:
    missing = tuple(one.name for one in pictures if one.captions is None)
    empty = tuple(one.name for one in pictures if one.captions is not None and not any(one.captions))
    findings = []
    if missing:
        alone = (
            f"they are told by the trigger alone, {told.trigger}"
            if told.trigger
            else "they are trained on nothing said"
        )
        every = len(missing) == len(pictures)
        what = "without a caption" if not every else "no picture has a caption"
        why = f"{alone}, and everything in them goes into it"
        fix = f"write NAME.txt beside each, or velatura dataset tag {folder}"
        findings.append(Finding("no caption", "warning", missing, what, why, fix))
    if empty:
        why = "an empty caption says that nothing is to be said; a forgotten one says the same"
        fix = "write into the file, or remove it"
        findings.append(Finding("empty caption", "warning", empty, "an empty caption", why, fix))
    return findings


def _trigger(pictures: Sequence[Picture], told: Told, kind: str, folder: str) -> list[Finding]:
    trigger = told.trigger.strip()
    if not trigger:
        return []
    findings = []
    captioned = [one for one in pictures if one.captions and any(one.captions)]
    having = [one for one in captioned if all(has_trigger(text, trigger) for text in one.captions or ())]
    lacking = tuple(one.name for one in captioned if one not in having)
    if lacking and having:
        what = f"the trigger {trigger} stands in some captions and not in these"
        why = "training puts it in front where it is missing, so it stands in two places"
        fix = f"velatura dataset edit {folder} --trigger {quoted(trigger)}, or leave it out everywhere"
        findings.append(Finding("trigger missing", "warning", lacking, what, why, fix))
    late = tuple(one.name for one in having if not all(begins_with(text, trigger) for text in one.captions or ()))
    if late:
        what = f"the trigger {trigger} does not stand first"
        why = "words at the beginning weigh more, and shuffling keeps only the first"
        fix = f"velatura dataset edit {folder} --trigger {quoted(trigger)}"
        findings.append(Finding("trigger late", "warning", late, what, why, fix))
    words = re.findall(r"\w+", trigger.lower())
    common = [word for word in words if word in COMMON_WORDS]
    if words and len(common) == len(words):
        what = f"the trigger {trigger} is made of common words"
        why = "the base knows them: their meaning is mixed into what is learnt, and any prompt with them calls it up"
        fix = "set dataset.trigger to a word that means nothing, such as a name with letters changed"
        findings.append(Finding("trigger common", "warning", (), what, why, fix))
    elif told.count_tokens is not None and len(words) == 1 and len(trigger) > 2 and told.count_tokens(trigger) == 1:
        what = f"the trigger {trigger} is one token of the base"
        why = "a token of its own means that the base has often seen the word, and has a meaning for it"
        fix = "paint it without the LoRA first; a word of two or three tokens is free"
        findings.append(Finding("trigger known", "warning", (), what, why, fix))
    return findings


def _length(pictures: Sequence[Picture], told: Told, folder: str) -> list[Finding]:
    count, limit = told.count_tokens, told.token_limit
    if count is None or limit is None:
        return []
    added = f"{told.trigger}, " if told.trigger else ""
    long: dict[str, int] = {}
    for one in pictures:
        texts = [text if has_trigger(text, told.trigger) else added + text for text in one.captions or ()]
        most = max(map(count, texts), default=0)
        if most > limit:
            long[one.name] = most
    if not long:
        return []
    what = f"longer than the {limit} tokens that the base reads at once; the longest has {max(long.values())}"
    why = "what comes after is cut off, or weighs little"
    fix = f'shorten them: velatura dataset stats {folder} --where "tokens:>{limit}" lists them'
    return [Finding("long caption", "warning", tuple(long), what, why, fix)]


def _words(pictures: Sequence[Picture], told: Told, kind: str, folder: str) -> list[Finding]:
    texts = {one.name: " , ".join(one.captions) for one in pictures if one.captions and any(one.captions)}
    if len(texts) < 2:
        return []
    tagged = is_tags(list(texts.values()))
    where = words_of(texts)
    own = set(tags_of(told.trigger)) | set(re.findall(r"\w+", told.trigger.lower()))
    findings = [*_leftovers(texts, folder), *_wordings(where, folder)]
    if tagged and len(texts) >= 5:
        findings += _on_all(where, len(texts), own, kind, folder)
    taken = LOOK.get(kind, frozenset())
    named = {word: names for word, names in where.items() if word.replace(" ", "_") in taken and word not in own}
    if named:
        words = ", ".join(sorted(named))
        what = f"name what the trigger of a {kind} should take in: {words}"
        why = "what a caption names is left out of the trigger, and has to be prompted each time"
        names = tuple(dict.fromkeys(name for listed in named.values() for name in listed))
        findings.append(
            Finding("named", "note", names, what, why, f'velatura dataset edit {folder} --remove "{words}"')
        )
    return findings


def _leftovers(texts: dict[str, str], folder: str) -> list[Finding]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, text in texts.items():
        for tag in tags_of(text):
            if tag.replace(" ", "_") in LEFTOVERS:
                found[tag].append(name)
    if not found:
        return []
    words = ", ".join(sorted(found))
    names = tuple(dict.fromkeys(name for listed in found.values() for name in listed))
    why = "they say nothing of what is shown, and are learnt as part of it"
    fix = f'velatura dataset edit {folder} --remove "{words}"'
    return [Finding("leftovers", "warning", names, f"tags left from boards and taggers: {words}", why, fix)]


@dataclass(frozen=True)
class TwoWordings:
    """One thing under two names."""

    words: tuple[str, str]
    rarer: str
    how: str

    @property
    def kept(self) -> str:
        """The name that is the more common."""
        return self.words[self.words[0] == self.rarer]


def two_wordings(where: Mapping[str, Collection[str]]) -> list[TwoWordings]:
    """Spellings and near-synonyms of which both are in use, never in one caption.

    Args:
        where: the pictures of each tag or word.
    """
    pairs: list[tuple[str, str, str]] = []
    for group in _SYNONYMS:
        used = [word for word in group if word in where]
        if len(used) > 1 and sum(len(where[word]) for word in used) >= _SEVERAL:
            pairs.append((used[0], used[1], "mean the same"))
    known = sorted(word for word in where if len(word) >= 5)
    by_start: dict[str, list[str]] = defaultdict(list)
    for word in known:
        by_start[word[:2]].append(word)
    for words in by_start.values():
        for index, word in enumerate(words):
            for other in words[index + 1 :]:
                if len(where[word]) + len(where[other]) >= _SEVERAL and _variant(word, other):
                    pairs.append((word, other, "differ in spelling alone"))
    found = []
    for one, other, how in pairs:
        if set(where[one]).isdisjoint(where[other]):
            rarer = min((one, other), key=lambda word: len(where[word]))
            found.append(TwoWordings((one, other), rarer, how))
    return found


def words_of(captions: Mapping[str, str]) -> dict[str, list[str]]:
    """Which pictures say each tag, or each word where captions are sentences."""
    tagged = is_tags(list(captions.values()))
    where: dict[str, list[str]] = defaultdict(list)
    for name, text in captions.items():
        for word in set(tags_of(text) if tagged else re.findall(r"[\w'-]+", text.lower())):
            where[word].append(name)
    return where


def _wordings(where: Mapping[str, Collection[str]], folder: str) -> list[Finding]:
    findings = []
    for one in two_wordings(where)[:10]:
        both = " and ".join(f"{word} ({len(where[word])})" for word in one.words)
        what = f"{both} {one.how}"
        why = "one thing under two names is learnt half as well under each"
        fix = f"velatura dataset edit {folder} --rename {quoted(one.rarer)} {quoted(one.kept)}"
        findings.append(Finding("wording", "note", tuple(where[one.rarer]), what, why, fix))
    return findings


def _variant(one: str, other: str) -> bool:
    """Spelling variants of a word: a hyphen, British and American, a plural, a slip of one letter in a long word."""
    (plain, *respelt), (second, *respelt_too) = _spellings(one), _spellings(other)
    if plain == second or plain + "s" == second or second + "s" == plain:
        return True
    if any(map(operator.eq, respelt, respelt_too)):
        return True
    shorter, longer = sorted((len(plain), len(second)))
    # The ratio is 2 * matching / (shorter + longer), so unlike lengths decide it alone.
    if shorter < 8 or 2 * shorter <= _LIKE * (shorter + longer) or _DIGIT.search(plain) or _DIGIT.search(second):
        return False
    matcher = difflib.SequenceMatcher(None, plain, second)
    return matcher.quick_ratio() > _LIKE and matcher.ratio() > _LIKE


_LIKE = 0.93
_DIGIT = re.compile(r"\d")


@lru_cache(maxsize=1 << 14)
def _spellings(word: str) -> tuple[str, ...]:
    """A word without what parts its parts, and with each kind of British spelling made American."""
    plain = re.sub(r"[\s_-]", "", word)
    return plain, *(plain.replace(a, b) for a, b in (("our", "or"), ("grey", "gray"), ("ise", "ize")))


def _on_all(where: dict[str, list[str]], count: int, own: Iterable[str], kind: str, folder: str) -> list[Finding]:
    """Tags on (nearly) every picture: the trigger cannot take them in, and nothing tells them apart."""
    known = set(own)
    every = [word for word, names in where.items() if len(names) >= 0.9 * count and word not in known]
    if not every:
        return []
    words = ", ".join(sorted(every))
    what = f"on nearly every picture: {words}"
    why = "such a tag and the trigger are learnt as one; without it in the prompt, half of it is missing"
    meant = {"character": "who is shown", "style": "how it is drawn", "concept": "the thing itself"}.get(
        kind, "what is meant"
    )
    fix = f"remove them where they are part of {meant}, so that the trigger takes them in; else add pictures without"
    return [Finding("on all", "note", (), what, why, f'{fix}; velatura dataset edit {folder} --remove "{words}"')]


def frequencies(pictures: Sequence[Picture]) -> Counter[str]:
    """How many captions say each tag or word."""
    texts = [" , ".join(one.captions) for one in pictures if one.captions]
    tagged = is_tags(texts)
    return Counter(
        word for text in texts for word in set(tags_of(text) if tagged else re.findall(r"[\w'-]+", text.lower()))
    )
