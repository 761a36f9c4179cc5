"""Putting facts into a picture: where things stand, how large, under which light.

The facts of a scene are chosen in `compose`; here they become shapes. The same seed and facts
always give the same scene.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from velatura.pocket import landscapes
from velatura.pocket.captions import caption
from velatura.pocket.landscapes import CLOUD_WORDS, GROUNDS, Light
from velatura.pocket.objects import Look
from velatura.pocket.palette import COLOURS, HAIR, SKIN, jitter, lighten, mix
from velatura.pocket.portraits import Person, portrait
from velatura.pocket.scene import Colour, Facts, Scene, Shape, Thing
from velatura.pocket.shapes import behind, box, ellipse, placed, polygon
from velatura.pocket.vocabulary import DRAWN

TABLE_WOOD: Colour = (176, 122, 76)
IRIS: tuple[Colour, ...] = ((74, 116, 170), (84, 140, 88), (104, 70, 44))

Picture = tuple[tuple[Colour, Colour], list[Shape]]
"""The sky's two colours, and shapes in painting order."""


def arrange(seed: int, facts: Facts) -> Scene:
    """Put the facts into a picture: the same seed and facts give the same scene."""
    rng = np.random.default_rng([seed, 2])
    text = caption(facts, np.random.default_rng([seed, 3]))
    build = {"portrait": _portrait, "table": _table}.get(facts.setting, _outdoor)
    sky, shapes = build(facts, rng)
    return Scene(seed, facts, text, sky, facts.time == "night", shapes)


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


def _tops(things: tuple[Thing, ...]) -> list[float]:
    """Where along x something tall hides the sky."""
    if len(things) > 1 or things[0].count > 1:
        count = max(len(things), things[0].count)
        return [0.27, 0.73] if count == 2 else [0.18, 0.5, 0.82]
    return [{"left": 0.33, "right": 0.67, "": 0.5}[things[0].side]]


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
