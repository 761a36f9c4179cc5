"""Draw the set of docs/guide/captions.md, caption it as three tools and two people would, mend it, and show both.

    python docs/captions_shown.py /tmp/shown

Leaves the set as it was in `/tmp/shown/raw`, the mended one in `/tmp/shown/set`, and writes `docs/images/captions.png`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from velatura.dataset import captioned, editing
from velatura.dataset.editing import Rewording
from velatura.pocket.styles.examples import draw_dataset

BEFORE = (
    "masterpiece, best quality, cactus, purple cactus, flower, pink flower, watercolor",
    "1girl, pink_hair, black_shirt, green background, smile, watercolour",
    "brown cat, sunset, best quality, sky, watercolor",
    "yellow bottle, gray book, green wall, watercolor, table, table",
    "2 birds, pink birds, desert, sun, (watercolor:1.2)",
    "child, blue hair, white shirt, pink background, smiling, watercolor",
    "wtrcol style, green tree, outdoors, watercolour",
    "red mug, grey wall, highres, watercolor, table",
)

MENDED = (
    Rewording(
        replace=(("_", " "),), unify=True, rename=(("gray book", "grey book"), ("smiling", "smile")), deduplicate=True
    ),
    Rewording(remove=("masterpiece", "best quality", "highres", "watercolo*"), trigger="wtrcol style"),
)
"""What a style's trigger takes in is not said, and the rest is said with the same words throughout."""

SIDE, LINE, WIDTH, GAP = 96, 15, 58, 10


def write(folder: Path) -> None:
    """The pictures and their captions, as they came."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draw_dataset(folder, "watercolour", count=len(BEFORE), seed=4)
    for number, text in enumerate(BEFORE, 1):
        (folder / f"{number:02d}.txt").write_text(f"{text}\n", encoding="utf-8")


def shown(before: Path, after: Path) -> Image.Image:
    """Each picture with its captions, what goes in red and what comes in green."""
    pairs = list(zip(captioned.read(before)[0], captioned.read(after)[0], strict=True))
    font = ImageFont.load_default(12)
    sheet = Image.new("RGB", (SIDE + 2 * WIDTH * 7 + 4 * GAP, len(pairs) * (SIDE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (old, new) in enumerate(pairs):
        top = GAP + row * (SIDE + GAP)
        sheet.paste(Image.open(old.picture).convert("RGB").resize((SIDE, SIDE)), (GAP, top))
        for column, (one, other, colour) in enumerate(((old, new, "#b3261e"), (new, old, "#146c2e"))):
            here, there = (", ".join(each.captions or ()).split(", ") for each in (one, other))
            x = SIDE + (2 + column) * GAP + column * WIDTH * 7
            place = [x, top + 8]
            for number, tag in enumerate(here, 1):
                text = tag if number == len(here) else f"{tag}, "
                wide = draw.textlength(text, font)
                if place[0] + wide > x + WIDTH * 7:
                    place = [x, place[1] + LINE]
                draw.text(tuple(place), text, "#202020" if tag in there else colour, font)
                place[0] += int(wide)
    return sheet


def main() -> None:
    """Write all of it."""
    place = Path(sys.argv[1])
    write(place / "raw")
    write(place / "set")
    for wanted in MENDED:
        editing.apply(place / "set", wanted)
    shown(place / "raw", place / "set").save(Path(__file__).parent / "images" / "captions.png", optimize=True)


if __name__ == "__main__":
    main()
