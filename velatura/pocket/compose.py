"""Scenes from a seed: which things, where, in which colours, at what hour, and how it is said.

`compose(seed)` draws everything at random; whatever is given stays as given. Choosing (facts) and
arranging (shapes) use separate random streams of the same seed, so that the same facts can be
arranged anew. One tenth of the (object, colour, setting) combinations is held out of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from velatura.pocket.arrange import arrange
from velatura.pocket.captions import caption, plain_prompt
from velatura.pocket.landscapes import CLOUD_WORDS
from velatura.pocket.palette import HAIR
from velatura.pocket.scene import Facts, Scene, Thing
from velatura.pocket.vocabulary import (
    COLOUR_WORDS,
    DRAWN,
    NATURAL,
    PEOPLE,
    SETTINGS,
    TABLE,
    TIMES,
    is_unseen,
    kinds_in,
)

__all__ = ["arrange", "caption", "compose", "held_out", "is_unseen", "plain_prompt"]

Kind = Literal["outdoor", "portrait", "table"]
Time = Literal["day", "sunset", "night"]

PAIR_SHARE = 0.32
"""How many outdoor and table scenes hold two different objects."""
GROUP_SHARE = 0.24
"""How many hold two or three of the same."""
_TRIES = 3000


def held_out(facts: Facts, thing: Thing) -> bool:
    """Whether a thing of this scene is a combination that training never shows."""
    return is_unseen(thing.kind, thing.colour, facts.background or facts.setting)


def _one(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _colour_for(kind: str, rng: np.random.Generator, avoid: tuple[str, ...] = ()) -> str:
    """A colour word, the natural ones preferred where there are any; none of those to avoid."""
    natural = tuple(word for word in NATURAL.get(kind, ()) if word not in avoid)
    if natural and rng.random() < 0.3:
        return _one(natural, rng)
    return _one([word for word in COLOUR_WORDS if word not in avoid], rng)


def _draw_things(setting: str, background: str, rng: np.random.Generator) -> tuple[Thing, ...]:
    """One thing, several alike, or two different ones."""
    kinds = kinds_in(setting)
    avoid = (background,) if background else ()
    first = _one(kinds, rng)
    colour = _colour_for(first, rng, avoid)
    if setting == "portrait":
        return (Thing(first, colour),)
    draw = rng.random()
    if draw < PAIR_SHARE:
        second = _one([kind for kind in kinds if kind != first], rng)
        other = _colour_for(second, rng, (*avoid, colour))
        left_first = bool(rng.random() < 0.5)
        return (
            Thing(first, colour, side="left" if left_first else "right"),
            Thing(second, other, side="right" if left_first else "left"),
        )
    if draw < PAIR_SHARE + GROUP_SHARE:
        return (Thing(first, colour, count=int(rng.integers(2, 4))),)
    sides: tuple[Literal["left", "right", ""], ...] = ("left", "right", "", "", "", "")
    return (Thing(first, colour, side=sides[int(rng.integers(6))]),)


def _draw_extras(
    things: tuple[Thing, ...], setting: str, time: str, background: str, rng: np.random.Generator
) -> tuple[str, ...]:
    """What else the scene shows and a caption may name."""
    extras: list[str] = []
    main = things[0]
    if setting == "portrait":
        # Hair that stands out from the wall and the shirt; no child's is grey.
        lost = {"blonde" if word == "yellow" else word for word in (background, main.colour)}
        lost |= {"grey"} if main.kind == "child" else set()
        extras.append(f"{_one([word for word in HAIR if word not in lost], rng)} hair")
        extras += ["glasses"] if rng.random() < 0.25 else []
        extras += ["beard"] if main.kind == "man" and rng.random() < 0.35 else []
        return tuple(extras)
    if main.kind == "house" and rng.random() < 0.6:
        extras.append(f"{_colour_for('roof', rng, (main.colour,))} roof")
    if main.kind == "vase" and rng.random() < 0.6:
        extras.append(f"{_colour_for('flowers', rng, (main.colour,))} flowers")
    if setting == "table":
        return tuple(extras)
    single = len(things) == 1 and main.count == 1
    if rng.random() < 0.55:
        if time == "night":
            extras.append("crescent moon" if rng.random() < 0.6 else "full moon")
        else:
            tones = ("yellow", "yellow", "orange", "red")
            extras.append(f"{_one(tones if time == 'day' else tones[1:], rng)} sun")
    if time == "night" and rng.random() < 0.75:
        extras.append("stars")
    if rng.random() < 0.5:
        extras.append(CLOUD_WORDS[int(rng.integers(1, 3 if single else 4))])
    return tuple(extras)


def _draw_facts(
    rng: np.random.Generator,
    kind: str | None,
    things: tuple[Thing, ...] | None,
    setting: str | None,
    time: Time | None,
    background: str | None,
) -> Facts:
    if kind is None:
        kind = _kind_of(things, setting, time, background, rng)
    if kind == "outdoor":
        if setting is None:
            usable = [s for s in SETTINGS if things is None or all(t.kind in kinds_in(s) for t in things)]
            if not usable:
                raise ValueError(f"no setting holds all of {', '.join(t.kind for t in things or ())}")
            # The sea holds five kinds only; drawn as often as the land, they would be drawn too often.
            weights = np.array([0.75 if s == "sea" else 1.0 for s in usable])
            setting = str(rng.choice(usable, p=weights / weights.sum()))
        if time is None:
            draw = rng.random()
            time = "day" if draw < 0.46 else "sunset" if draw < 0.73 else "night"
        background = ""
    else:
        setting = kind
        taken = [thing.colour for thing in things or ()]
        background = background or _one([word for word in COLOUR_WORDS if word not in taken], rng)
    chosen = things or _draw_things(setting, background, rng)
    return Facts(chosen, setting, time or "", background, _draw_extras(chosen, setting, time or "", background, rng))


def _kind_of(
    things: tuple[Thing, ...] | None,
    setting: str | None,
    time: str | None,
    background: str | None,
    rng: np.random.Generator,
) -> str:
    """Outdoors, portrait or table, as far as what is given decides it."""
    if setting is not None:
        return setting if setting in ("portrait", "table") else "outdoor"
    possible = {"outdoor": 0.6, "portrait": 0.2, "table": 0.2}
    if time is not None:
        return "outdoor"
    if background is not None:
        del possible["outdoor"]
    if things is not None:
        homes = {
            "portrait": PEOPLE,
            "table": TABLE,
            "outdoor": tuple(kind for kind in DRAWN if kind == "cat" or kind not in TABLE),
        }
        possible = {k: w for k, w in possible.items() if all(thing.kind in homes[k] for thing in things)}
    if not possible:
        raise ValueError(f"no scene holds {', '.join(thing.kind for thing in things or ())} with what else is given")
    names, weights = list(possible), np.array(list(possible.values()))
    return str(rng.choice(names, p=weights / weights.sum()))


def compose(
    seed: int,
    *,
    kind: Kind | None = None,
    things: Sequence[Thing] | None = None,
    setting: str | None = None,
    time: Time | None = None,
    background: str | None = None,
    unseen: bool | None = False,
) -> Scene:
    """Draw a scene.

    Args:
        seed: decides whatever is not given, the arrangement and the caption's wording.
        kind: "outdoor", "portrait" or "table".
        things: one thing (its count 1 to 3), or two single things.
        setting: an outdoor setting.
        time: "day", "sunset" or "night"; outdoors only.
        background: the colour word of the wall or the portrait's background.
        unseen: False draws no held-out combination, True makes the first thing one, None does not
            care. Given `things` are held to it too.

    Raises:
        ValueError: what is given cannot go together, or leaves no combination that `unseen` asks for.
    """
    given = tuple(things) if things is not None else None
    _check_words(given, setting, time, background)
    _check_together(kind, given, setting, time, background)
    rng = np.random.default_rng([seed, 1])
    if given is not None and len(given) == 2 and given[0].side == given[1].side:
        first: Literal["left", "right"] = "left" if rng.random() < 0.5 else "right"
        given = (replace(given[0], side=first), replace(given[1], side="right" if first == "left" else "left"))
    for _ in range(_TRIES):
        facts = _draw_facts(rng, kind, given, setting, time, background)
        held = [held_out(facts, thing) for thing in facts.things]
        if unseen is None or (held[0] if unseen else not any(held)):
            return arrange(seed, facts)
    raise ValueError(f"no combination with unseen={unseen} among what is given; try unseen=None")


def _known(what: str, word: str | None, words: Sequence[str]) -> None:
    if word and word not in words:
        raise ValueError(f"no {what} {word!r}; there are {', '.join(words)}")


def _check_words(
    things: tuple[Thing, ...] | None, setting: str | None, time: str | None, background: str | None
) -> None:
    """Refuse words that are not in the vocabulary."""
    _known("setting", setting, (*SETTINGS, "table", "portrait"))
    _known("time", time, TIMES)
    _known("colour", background, COLOUR_WORDS)
    for thing in things or ():
        _known("thing", thing.kind, (*DRAWN, *PEOPLE))
        _known("colour", thing.colour or "none", COLOUR_WORDS)


def _check_together(
    kind: str | None, things: tuple[Thing, ...] | None, setting: str | None, time: str | None, background: str | None
) -> None:
    """Refuse what cannot be in one picture."""
    _known("kind", kind, ("outdoor", "portrait", "table"))
    outdoors = kind == "outdoor" or setting in SETTINGS or time is not None
    indoors = kind in ("portrait", "table") or setting in ("portrait", "table") or bool(background)
    if outdoors and indoors:
        raise ValueError(
            "an outdoor scene has a setting and a time, a table or portrait has a background colour; not both"
        )
    place = kind if kind in ("portrait", "table") else setting
    for thing in things or ():
        if place:
            _known(f"thing for {place!r}", thing.kind, tuple(dict.fromkeys(kinds_in(place))))
    counts = [thing.count for thing in things or ()]
    if things is not None and counts not in ([1], [2], [3], [1, 1]):
        raise ValueError(f"a scene holds one to three of a kind, or two single things; not {counts}")
