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

from velatura.pocket import landscapes
from velatura.pocket.captions import caption, plain_prompt
from velatura.pocket.landscapes import CLOUD_WORDS, GROUNDS, Light
from velatura.pocket.objects import Look
from velatura.pocket.palette import COLOURS, HAIR, SKIN, jitter, lighten, mix
from velatura.pocket.portraits import Person, portrait
from velatura.pocket.scene import Colour, Facts, Scene, Shape, Thing
from velatura.pocket.shapes import behind, box, ellipse, placed, polygon
from velatura.pocket.vocabulary import (
    COLOUR_WORDS,
    DRAWN,
    NATURAL,
    PEOPLE,
    SETTINGS,
    TABLE,
    is_unseen,
    kinds_in,
)

__all__ = ["caption", "compose", "held_out", "is_unseen", "plain_prompt"]

Kind = Literal["outdoor", "portrait", "table"]
Time = Literal["day", "sunset", "night"]

PAIR_SHARE = 0.32
"""How many outdoor and table scenes hold two different objects."""
GROUP_SHARE = 0.24
"""How many hold two or three of the same."""
TABLE_WOOD: Colour = (176, 122, 76)
IRIS: tuple[Colour, ...] = ((74, 116, 170), (84, 140, 88), (104, 70, 44))
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


def _tops(things: tuple[Thing, ...]) -> list[float]:
    """Where along x something tall hides the sky."""
    if len(things) > 1 or things[0].count > 1:
        count = max(len(things), things[0].count)
        return [0.27, 0.73] if count == 2 else [0.18, 0.5, 0.82]
    return [{"left": 0.33, "right": 0.67, "": 0.5}[things[0].side]]


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
    _check(kind, given, setting, background)
    rng = np.random.default_rng([seed, 1])
    for _ in range(_TRIES):
        facts = _draw_facts(rng, kind, given, setting, time, background)
        held = [held_out(facts, thing) for thing in facts.things]
        if unseen is None or (held[0] if unseen else not any(held)):
            return arrange(seed, facts)
    raise ValueError(f"no combination with unseen={unseen} among what is given; try unseen=None")


def _check(kind: str | None, things: tuple[Thing, ...] | None, setting: str | None, background: str | None) -> None:
    """Refuse words that are not in the vocabulary."""
    if kind not in (None, "outdoor", "portrait", "table"):
        raise ValueError(f"no kind {kind!r}; there are outdoor, portrait and table")
    if background not in (None, "", *COLOUR_WORDS):
        raise ValueError(f"no colour {background!r}; there are {', '.join(COLOUR_WORDS)}")
    place = setting or (kind if kind in ("portrait", "table") else None)
    for thing in things or ():
        known = kinds_in(place) if place else (*DRAWN, *PEOPLE)
        if thing.kind not in known:
            raise ValueError(
                f"no {thing.kind!r} {f'in {place!r}' if place else 'anywhere'}; there are {', '.join(known)}"
            )
        if thing.colour not in COLOUR_WORDS:
            raise ValueError(f"no colour {thing.colour!r}; there are {', '.join(COLOUR_WORDS)}")
    if setting is not None and things is None:
        kinds_in(setting)


def arrange(seed: int, facts: Facts) -> Scene:
    """Put the facts into a picture: the same seed and facts give the same scene."""
    rng = np.random.default_rng([seed, 2])
    text = caption(facts, np.random.default_rng([seed, 3]))
    build = {"portrait": _portrait, "table": _table}.get(facts.setting, _outdoor)
    sky, shapes = build(facts, rng)
    return Scene(seed, facts, text, sky, facts.time == "night", shapes)


Picture = tuple[tuple[Colour, Colour], list[Shape]]
"""The sky's two colours, and shapes in painting order."""


def _extra(facts: Facts, ending: str) -> str:
    """The first word of the extra that ends so: "red" for "red roof"; "" if there is none."""
    return next((extra.split()[0] for extra in facts.extras if extra.endswith(ending)), "")


def _portrait(facts: Facts, rng: np.random.Generator) -> Picture:
    thing = facts.things[0]
    wall = jitter(COLOURS[facts.background], rng, 6)
    hair = HAIR[_extra(facts, " hair") or "brown"]
    skins = [skin for skin in SKIN if sum(abs(a - b) for a, b in zip(skin, hair, strict=True)) > 90]
    person = Person(
        thing.kind,
        hair=jitter(hair, rng),
        skin=jitter(skins[int(rng.integers(len(skins)))], rng, 4),
        shirt=jitter(COLOURS[thing.colour], rng),
        iris=IRIS[int(rng.integers(len(IRIS)))],
        glasses="glasses" in facts.extras,
        beard="beard" in facts.extras,
        pigtails=bool(rng.random() < 0.45),
    )
    x, y, size = 0.5 + rng.uniform(-0.05, 0.05), 0.46 + rng.uniform(-0.02, 0.03), rng.uniform(0.95, 1.12)
    return (wall, wall), portrait(person, x=x, y=y, size=size, mirrored=bool(rng.random() < 0.5))


def _slots(facts: Facts, rng: np.random.Generator) -> list[tuple[float, float, Thing]]:
    """For every single object: where its middle is, its size, and what it is."""
    things = facts.things
    if len(things) == 2:
        size = 0.56 if facts.setting != "table" else 0.5
        return [
            ((0.27 if thing.side == "left" else 0.73) + rng.uniform(-0.03, 0.03), size * rng.uniform(0.92, 1.04), thing)
            for thing in things
        ]
    thing = things[0]
    if thing.count > 1:
        size = {2: 0.45, 3: 0.325}[thing.count]
        places = {2: (0.27, 0.73), 3: (0.175, 0.5, 0.825)}[thing.count]
        return [(x + rng.uniform(-0.015, 0.015), size * rng.uniform(0.94, 1.04), thing) for x in places]
    x = {"left": 0.33, "right": 0.67, "": 0.5}[thing.side] + rng.uniform(-0.025, 0.025)
    return [(x, (0.58 if thing.side else 0.74) * rng.uniform(0.94, 1.07), thing)]


def _draw_thing(thing: Thing, facts: Facts, rng: np.random.Generator) -> list[Shape]:
    """One object in its own frame, its colours a little off the table's."""
    second = None
    word = {"house": _extra(facts, " roof"), "vase": _extra(facts, " flowers")}.get(thing.kind)
    if word and thing == facts.things[0]:
        second = jitter(COLOURS[word], rng)
    look = Look(second=second, night=facts.time == "night")
    return DRAWN[thing.kind](jitter(COLOURS[thing.colour], rng), look)


def _table(facts: Facts, rng: np.random.Generator) -> Picture:
    wall = jitter(COLOURS[facts.background], rng, 6)
    wood = jitter(TABLE_WOOD, rng)
    edge = 0.72 + rng.uniform(-0.04, 0.03)
    shapes = [
        behind(box(-0.1, edge, 1.2, 0.5, wood)),
        behind(box(-0.1, edge, 1.2, 0.022, lighten(wood, 0.25), outlined=False)),
    ]
    for x, size, thing in _slots(facts, rng):
        foot = edge + 0.12 + rng.uniform(-0.015, 0.02)
        shapes.append(landscapes.shadow(x, foot, 0.42 * size, wood))
        drawing = _draw_thing(thing, facts, rng)
        shapes += placed(drawing, x, foot, size, mirrored=bool(rng.random() < 0.5))
    return (wall, wall), shapes


def _sky(facts: Facts, rng: np.random.Generator) -> list[Shape]:
    """Stars, then sun or moon and the clouds, each in a place of its own beside the tall things."""
    shapes = landscapes.stars(rng) if "stars" in facts.extras else []
    hidden = _tops(facts.things)
    places = [0.14, 0.86, 0.5] if rng.random() < 0.5 else [0.86, 0.14, 0.5]
    # The farther from anything tall, the better it is seen.
    places.sort(key=lambda x: -round(min(abs(x - top) for top in hidden), 1))
    light = _extra(facts, " sun")
    if light:
        shapes.append(landscapes.sun(places.pop(0), 0.15 + rng.uniform(-0.02, 0.03), light, rng))
    elif _extra(facts, " moon"):
        crescent = "crescent moon" in facts.extras
        shapes.append(landscapes.moon(places.pop(0), 0.15 + rng.uniform(-0.02, 0.03), crescent=crescent))
    number = next((n for n, words in CLOUD_WORDS.items() if words in facts.extras), 0)
    if number == 3 and len(places) == 2:
        places.append(0.32 if places[0] > 0.5 else 0.68)
    for x in places[:number]:
        paint = landscapes.cloud_colour(facts.time)
        y, size = 0.12 + rng.uniform(-0.04, 0.06), rng.uniform(0.85, 1.1)
        shapes.append(landscapes.cloud(x + rng.uniform(-0.03, 0.03), y, size, paint))
    return shapes


def _outdoor(facts: Facts, rng: np.random.Generator) -> Picture:
    light = Light(facts.time)
    first, second = landscapes.SKIES[facts.time]
    horizon = 0.62 + rng.uniform(-0.03, 0.04)
    shapes = _sky(facts, rng) + landscapes.ground(facts.setting, horizon, light, rng)
    floor = light.on_ground(GROUNDS[facts.setting])
    slots = [(horizon + 0.25 + rng.uniform(-0.03, 0.03), *slot) for slot in _slots(facts, rng)]
    for foot, x, size, thing in sorted(slots, key=lambda slot: slot[0]):
        drawing = _draw_thing(thing, facts, rng)
        drawing = [replace(shape, colour=light.on_subject(shape.colour)) for shape in drawing]
        mirrored = bool(rng.random() < 0.5)
        if thing.kind == "hot air balloon":
            size = min(size, 0.6)
            y = 0.05 + max(size, 0.4) + rng.uniform(0.0, 0.05)
            shapes += placed(drawing, x, y, size, mirrored=mirrored)
        elif facts.setting == "sea":
            shapes += _afloat(thing, drawing, x, foot, size, mirrored, floor, light, rng)
        else:
            shapes.append(landscapes.shadow(x, foot, 0.42 * size, floor))
            shapes += placed(drawing, x, foot, size, mirrored=mirrored)
    return (jitter(first, rng, 5), jitter(second, rng, 5)), shapes


def _afloat(
    thing: Thing,
    drawing: list[Shape],
    x: float,
    foot: float,
    size: float,
    mirrored: bool,
    water: Colour,
    light: Light,
    rng: np.random.Generator,
) -> list[Shape]:
    """A thing at sea: a boat sails, a fish leaps, a bird swims, a lighthouse stands on its rock."""
    if thing.kind == "fish":
        y, tilt = foot - rng.uniform(0.06, 0.12), rng.uniform(-0.3, -0.05) * (-1 if mirrored else 1)
        leap = placed(drawing, x, y, size, mirrored=mirrored, tilt=tilt)
        return [landscapes.shadow(x, foot, 0.4 * size, water), *leap]
    if thing.kind == "bird":
        sea = ellipse(x, foot - 0.02 * size, 0.4 * size, 0.1 * size, mix(water, (255, 255, 255), 0.12), shading="none")
        return [
            *placed(drawing[2:], x, foot + 0.12 * size, size, mirrored=mirrored),
            replace(behind(sea), outlined=False),
        ]
    if thing.kind == "lighthouse":
        half = 0.4 * size
        rock = [
            (x - half, foot + 0.04),
            (x - 0.6 * half, foot - 0.1 * size),
            (x, foot - 0.14 * size),
            (x + 0.7 * half, foot - 0.08 * size),
            (x + half, foot + 0.04),
        ]
        stone = light.on_ground(jitter((112, 106, 104), rng))
        return [polygon(rock, stone), *placed(drawing, x, foot - 0.08 * size, size, mirrored=mirrored)]
    hull = landscapes.shadow(x, foot + 0.02, 0.42 * size, water)
    return [hull, *placed(drawing, x, foot - 0.02, size, mirrored=mirrored)]
