"""Picture grids of the benchmarks: every picture with its prompt, and what the oracle read where it was wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from questions import Answer, verdict

from velatura.files import write_bytes
from velatura.generation.contact import INK, PAPER, contact_sheet, label_size, wrapped
from velatura.pocket.scene import Facts

RUST = (176, 44, 22)
LINES = 4
"""Of a prompt below its picture."""
SCALE = 1.5


def labelled(picture: Image.Image, text: str, remark: str = "") -> Image.Image:
    """The picture, enlarged, with a text below it and a remark in red."""
    width, height = (round(side * SCALE) for side in picture.size)
    font = ImageFont.load_default(label_size(width))
    line = round(label_size(width) * 1.5)
    tile = Image.new("RGB", (width, height + (LINES + 2) * line), PAPER)
    tile.paste(picture.resize((width, height), Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(tile)
    told = wrapped(text, font, width, lines=LINES)
    draw.multiline_text((0, height + 2), told, INK, font)
    below = draw.multiline_textbbox((0, height + 2), told, font)[3] + 3
    draw.multiline_text((0, below), wrapped(remark, font, width, lines=2), RUST, font)
    return tile


def remark(facts: Facts, answer: Answer) -> str:
    """What the oracle read, where that is not what was asked; "" where all is right."""
    right = verdict(facts, answer)
    words = []
    objects = right.get("object", True) and right.get("two objects", True)
    if not objects:
        words.append(" + ".join(sorted(answer.kinds)))
    if not (right.get("colour", True) and right.get("two colours", True)):
        words.append(" + ".join(answer.colours[thing.kind] for thing in facts.things))
    told = {"count": str(answer.count), "setting": answer.setting, "time": answer.time}
    told["background"] = f"{answer.background} wall"
    words += [text for question, text in told.items() if not right.get(question, True)]
    return ", ".join(words)


def write_grid(
    path: Path,
    pictures: Sequence[Image.Image],
    prompts: Sequence[str],
    scenes: Sequence[Facts],
    answers: Sequence[Answer],
    *,
    title: str,
    columns: int = 8,
) -> None:
    """Write pictures with their prompts as one PNG."""
    tiles = [
        labelled(picture, prompt, remark(facts, answer))
        for picture, prompt, facts, answer in zip(pictures, prompts, scenes, answers, strict=True)
    ]
    write_png(path, contact_sheet(tiles, columns=columns, title=title))


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture, whole or not at all."""
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    write_bytes(path, encoded.getvalue())
