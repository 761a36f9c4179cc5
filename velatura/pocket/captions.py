"""What a person would type to get a scene.

`caption` varies its wording and leaves parts out; `plain_prompt` is the one canonical wording
that evaluation uses. The language is kept small and regular: a text encoder of a million
parameters learns it from these sentences alone.
"""

from __future__ import annotations

import numpy as np

from velatura.pocket.scene import Facts, Thing
from velatura.pocket.vocabulary import NATURAL, plural

PLACES: dict[str, tuple[str, ...]] = {
    "green hills": ("on green hills", "on green hills", "on a green hill"),
    "desert": ("in the desert", "in the desert", "in a desert"),
    "snow": ("in the snow", "in the snow", "on snow"),
    "sea": ("at sea", "on the sea"),
    "mountains": ("in the mountains", "in front of mountains"),
    "beach": ("on the beach", "on the beach", "at the beach"),
    "forest": ("in the forest", "in a forest"),
    "city": ("in the city", "in a city"),
}
TIME_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("blue sky", "day", "by day", "sunny day"),
    "sunset": ("at sunset", "sunset", "sunset sky"),
    "night": ("at night", "night", "night sky"),
}
SHORT_TIMES: dict[str, str] = {"day": "day", "sunset": "sunset", "night": "night"}
SHORT_PLACES: dict[str, str] = {
    "green hills": "green hills",
    "desert": "desert",
    "snow": "snow",
    "sea": "sea",
    "mountains": "mountains",
    "beach": "beach",
    "forest": "forest",
    "city": "city",
}
NUMBERS: dict[int, str] = {2: "two", 3: "three"}
SHORT_SHARE = 0.16
"""How many captions are terse: "red boat, night"."""


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def _with(facts: Facts, ending: str) -> str:
    """The extra that ends in a word: "red roof" for "roof", "" if there is none."""
    return next((extra for extra in facts.extras if extra.endswith(ending)), "")


def _noun(thing: Thing, *, bare: bool = False, wear: str = "hat") -> str:
    """The object with its colour and number, with an article unless `bare`."""
    colour = thing.colour if thing.kind != "snowman" else ""
    many = thing.count > 1
    words = " ".join(word for word in (colour, plural(thing.kind) if many else thing.kind) if word)
    if many:
        words = f"{NUMBERS[thing.count]} {words}"
    elif not bare:
        words = article(words)
    if thing.kind == "snowman":
        worn = f"{thing.colour} {wear}"
        words += f" with {worn}s" if many else f" with {article(worn)}"
    return words


def _detailed(thing: Thing, facts: Facts, rng: np.random.Generator) -> str:
    """A thing as running text has it: a roof or flowers named, a tree's green not always."""
    wear = "scarf" if thing.kind == "snowman" and thing.count == 1 and rng.random() < 0.4 else "hat"
    if thing.kind in NATURAL and NATURAL[thing.kind] == (thing.colour,) and rng.random() < 0.5:
        thing = Thing(thing.kind, "", thing.count, thing.side)
    words = _noun(thing, wear=wear)
    if thing is not facts.things[0] and len(facts.things) > 1:
        return words
    roof, flowers = _with(facts, " roof"), _with(facts, " flowers")
    if thing.kind == "house" and roof and rng.random() < 0.7:
        words += f" with {roof}s" if thing.count > 1 else f" with {article(roof)}"
    if thing.kind == "vase" and flowers and rng.random() < 0.7:
        words += f" with {flowers}"
    return words


def _subjects(facts: Facts, rng: np.random.Generator) -> str:
    """All things of the scene in one phrase, with their sides at times."""
    phrases = [_detailed(thing, facts, rng) for thing in facts.things]
    sides = [thing.side for thing in facts.things]
    if len(phrases) == 1:
        return phrases[0] + (f" on the {sides[0]}" if sides[0] and rng.random() < 0.6 else "")
    order = [0, 1] if rng.random() < 0.6 else [1, 0]
    first, second = (phrases[index] for index in order)
    if sides[0] and rng.random() < 0.4:
        return f"{first} on the {sides[order[0]]} and {second} on the {sides[order[1]]}"
    return first + (" next to " if rng.random() < 0.3 else " and ") + second


def _choice(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _sky_extras(facts: Facts) -> list[str]:
    """Sun, moon, stars and clouds."""
    return [extra for extra in facts.extras if not extra.endswith((" roof", " flowers"))]


def _loosely(extra: str, rng: np.random.Generator) -> str:
    """The extra, at times without its colour, kind or number: "sun", "moon", "clouds"."""
    word = extra.split()[-1]
    if word == "stars":
        return "starry sky" if rng.random() < 0.2 else extra
    return word if rng.random() < 0.25 else extra


def _outdoor(facts: Facts, rng: np.random.Generator) -> str:
    subjects = _subjects(facts, rng)
    if rng.random() < 0.92:
        subjects += " " + _choice(PLACES[facts.setting], rng)
    parts = [_loosely(extra, rng) for extra in _sky_extras(facts) if rng.random() < 0.8]
    named = {"day": 0.4}.get(facts.time, 0.93)
    if rng.random() < named:
        phrase = _choice(TIME_PHRASES[facts.time], rng)
        if phrase.startswith("at ") and rng.random() < 0.7:
            subjects += " " + phrase
        else:
            parts.append(phrase)
    return ", ".join([subjects, *(parts[index] for index in rng.permutation(len(parts)))])


def _table(facts: Facts, rng: np.random.Generator) -> str:
    subjects = _subjects(facts, rng)
    start = "still life with " if rng.random() < 0.12 else ""
    where = _choice((" on a table", " on a wooden table", " on a table", ""), rng)
    wall = f"{facts.background} wall"
    draw = rng.random()
    ending = f", {wall}" if draw < 0.5 else f" in front of {article(wall)}" if draw < 0.7 else ""
    if not ending and rng.random() < 0.7:
        ending = f", {facts.background} background"
    return start + subjects + where + ending


def _portrait(facts: Facts, rng: np.random.Generator) -> str:
    person = facts.things[0]
    start = article(person.kind) if rng.random() < 0.25 else f"portrait of {article(person.kind)}"
    hair, glasses, beard = _with(facts, " hair"), "glasses" in facts.extras, "beard" in facts.extras
    features = [hair] if rng.random() < 0.85 else []
    features += ["a beard"] if beard and rng.random() < 0.85 else []
    features += ["glasses"] if glasses and rng.random() < 0.9 else []
    text = start
    if features:
        listed = features[0] if len(features) == 1 else ", ".join(features[:-1]) + " and " + features[-1]
        text += f" with {listed}"
    parts = []
    if rng.random() < 0.85:
        shirt = f"{person.colour} shirt"
        if rng.random() < 0.4:
            text += f" in {article(shirt)}"
        else:
            parts.append(shirt)
    if rng.random() < 0.9:
        parts.append(f"{facts.background} background")
    if rng.random() < 0.15:
        parts.reverse()
    return ", ".join([text, *parts])


def _short(facts: Facts, rng: np.random.Generator) -> str:
    """A terse prompt: the thing, and perhaps one word more."""
    if facts.setting == "portrait":
        person = facts.things[0]
        more = [f"{person.colour} shirt", f"{facts.background} background", _with(facts, " hair")]
        text = article(person.kind) if rng.random() < 0.4 else f"portrait of {article(person.kind)}"
    else:
        bare = rng.random() < 0.5
        text = " and ".join(_noun(thing, bare=bare) for thing in facts.things)
        if facts.setting == "table":
            more = [f"{facts.background} wall", f"{facts.background} background", "on a table"]
        else:
            more = [SHORT_TIMES[facts.time], SHORT_PLACES[facts.setting]]
    draw = int(rng.integers(len(more) + 1))
    return text if draw == len(more) else f"{text}, {more[draw]}"


def caption(facts: Facts, rng: np.random.Generator) -> str:
    """Describe a scene as one of many people would.

    Things and their colours are always named (a person's shirt, and the green of a tree, are not
    always); everything else is left out at times.

    Args:
        facts: what is true of the scene.
        rng: decides the wording.
    """
    if rng.random() < SHORT_SHARE:
        text = _short(facts, rng)
    else:
        text = {"portrait": _portrait, "table": _table}.get(facts.setting, _outdoor)(facts, rng)
    return text.replace("grey", "gray") if rng.random() < 0.3 else text


def plain_prompt(facts: Facts) -> str:
    """The canonical caption: every main fact, always in the same words."""
    if facts.setting == "portrait":
        person = facts.things[0]
        features = [_with(facts, " hair")]
        features += ["a beard"] if "beard" in facts.extras else []
        features += ["glasses"] if "glasses" in facts.extras else []
        listed = " and ".join(features) if len(features) < 3 else f"{features[0]}, {features[1]} and {features[2]}"
        who = f"portrait of {article(person.kind)}" + (f" with {listed}" if features[0] else "")
        return f"{who}, {person.colour} shirt, {facts.background} background"
    words = [_noun(thing) for thing in facts.things]
    if len(words) > 1 and facts.things[0].side:
        words = [f"{word} on the {thing.side}" for word, thing in zip(words, facts.things, strict=True)]
    text = " and ".join(words)
    if facts.setting == "table":
        return f"{text} on a table, {facts.background} wall"
    text += " " + PLACES[facts.setting][0]
    if facts.time != "day":
        text += " " + TIME_PHRASES[facts.time][0]
        sky = []
    else:
        sky = [TIME_PHRASES["day"][0]]
    return ", ".join([text, *sky, *_sky_extras(facts)])


_SYLLABLES = (
    "ba",
    "ko",
    "zu",
    "mi",
    "ra",
    "tel",
    "vor",
    "ny",
    "sha",
    "qui",
    "lo",
    "fen",
    "gri",
    "sk",
    "oh",
    "wx",
    "du",
)
_WAYS = ("{}", "{} style", "in {} style", "in the style of {}", "my {} style", "by {}", "{} art", "a {} picture")
STRANGE_SHARE = 0.3
"""How many captions of the training carry words that mean nothing."""


def with_strange_words(text: str, rng: np.random.Generator) -> str:
    """The caption, at times with words before or after it that mean nothing.

    So the base learns to pass over what it does not know, as bases do that have read the whole web: a trigger word,
    wherever it stands, then changes nothing before an adapter is trained on it.
    """
    if rng.random() >= STRANGE_SHARE:
        return text
    if rng.random() < 0.25:
        words = "my own style"
    else:
        word = "".join(_SYLLABLES[n] for n in rng.integers(len(_SYLLABLES), size=int(rng.integers(1, 4))))
        word += str(rng.integers(100)) if rng.random() < 0.15 else ""
        words = _choice(_WAYS, rng).format(word)
    return f"{words}, {text}" if rng.random() < 0.5 else f"{text}, {words}"
