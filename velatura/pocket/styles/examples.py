"""Pictures with captions in one of the demo styles: the folder that a user would bring to a training."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from velatura import files
from velatura.errors import SettingsError
from velatura.pocket.compose import Kind, compose
from velatura.pocket.scene import Scene
from velatura.pocket.styles import STYLES, Style

FIRST_SEED = 7_000_000
"""Scenes of examples are numbered from here, so that they are none of those that the base was trained on."""
MIXTURE: tuple[Kind, ...] = ("outdoor", "portrait", "outdoor", "table")
"""What the pictures of a folder show in turn, where no kind is asked for."""
CANDIDATES = 8
"""Scenes looked at for each picture of a folder; the least repetitive one is drawn."""


def example(style: str, number: int, *, kind: Kind | None = None, size: int = 256) -> tuple[Image.Image, str]:
    """Paint one picture of a style.

    Args:
        style: a name in `STYLES`.
        number: which scene, from 0; the same number shows the same scene in every style.
        kind: "outdoor", "portrait" or "table"; None lets the number decide.
        size: width and height in pixels, 128 to 512.

    Returns:
        The picture (RGB) and its caption, which ends in the style's trigger words.

    Raises:
        SettingsError: there is no such style.
    """
    return _painted(_style(style), compose(FIRST_SEED + number, kind=kind), size)


def draw_dataset(
    folder: Path, style: str, *, count: int = 20, seed: int, kind: Kind | None = None, size: int = 256
) -> list[Path]:
    """Write 01.png with 01.txt, 02.png with 02.txt, ... into a folder, which is made where it is missing.

    Subjects change from picture to picture as evenly as chance allows: portraits show women, men
    and children alike often.

    Args:
        folder: where to; files of the same name are replaced.
        style: a name in `STYLES`.
        count: how many pictures.
        seed: another seed, another set of pictures; sets of different seeds share no scene.
        kind: "outdoor", "portrait" or "table"; None mixes them.
        size: width and height in pixels, 128 to 512.

    Returns:
        The pictures' paths, in order.

    Raises:
        SettingsError: there is no such style.
        FileProblem: the folder cannot be written.
    """
    hand = _style(style)
    scenes = _varied_scenes(count, seed=seed, kind=kind)
    return _written(folder, [_painted(hand, scene, size) for scene in scenes])


def draw_portraits(folder: Path, style: str, *, count: int = 9, seed: int, size: int = 256) -> list[Path]:
    """Write portraits whose captions say woman, man or child and the style, and nothing else, as for `draw_dataset`.

    This is what an artist brings who has a few drawings of one kind and writes the same below each.
    """
    hand = _style(style)
    scenes = _varied_scenes(count, seed=seed, kind="portrait")
    told = [(scene, f"portrait of a {scene.facts.things[0].kind}, {hand.trigger}") for scene in scenes]
    return _written(folder, [(hand.paint(scene, size=size), caption) for scene, caption in told])


def _written(folder: Path, examples: list[tuple[Image.Image, str]]) -> list[Path]:
    """Numbered pictures with their captions beside them."""
    files.make_folder(folder)
    digits = max(2, len(str(len(examples))))
    paths = []
    for number, (picture, caption) in enumerate(examples, start=1):
        path = folder / f"{number:0{digits}d}.png"
        encoded = io.BytesIO()
        picture.save(encoded, "PNG")
        files.write_bytes(path, encoded.getvalue())
        files.write_text(path.with_suffix(".txt"), caption + "\n")
        paths.append(path)
    return paths


def _varied_scenes(count: int, *, seed: int, kind: Kind | None) -> Iterator[Scene]:
    """Scenes whose subject, colour and surroundings were seen least so far."""
    seen: Counter[str] = Counter()
    for number in range(count):
        shown = kind or MIXTURE[number % len(MIXTURE)]
        first = FIRST_SEED + (1 + seed) * 100_000 + number * CANDIDATES
        candidates = [compose(first + offset, kind=shown) for offset in range(CANDIDATES)]
        scene = min(candidates, key=lambda scene: sum(weight * seen[word] for word, weight in _subjects(scene)))
        seen.update(word for word, _ in _subjects(scene))
        yield scene


def _subjects(scene: Scene) -> list[tuple[str, int]]:
    """What makes two scenes alike, and how much."""
    things = [(f"thing {thing.kind}", 5) for thing in scene.facts.things]
    colours = [(f"colour {thing.colour}", 1) for thing in scene.facts.things]
    around = [(f"around {scene.facts.setting} {scene.facts.time} {scene.facts.background}", 1)]
    return things + colours + around


def _style(name: str) -> Style:
    if name not in STYLES:
        raise SettingsError(f"there is no demo style '{name}'", fix=f"choose one of {', '.join(STYLES)}")
    return STYLES[name]


def _painted(style: Style, scene: Scene, size: int) -> tuple[Image.Image, str]:
    return style.paint(scene, size=size), f"{scene.caption}, {style.trigger}"
