"""Make the pictures of `docs/guide/refining.md`, painted by the pocket base.

python docs/refining_pictures.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from velatura import api
from velatura.events import Done
from velatura.generation.contact import contact_sheet
from velatura.generation.detail import Detail
from velatura.generation.enlarge import Enlarge
from velatura.generation.finds import Find, Picking
from velatura.generation.parts import Inpaint

FOLDER = Path(__file__).parent / "images"
SHIRT = ((8.0, 92.0, 120.0, 128.0),)
LARGE = 384
PEOPLE = (("a woman with red hair", 3), ("a woman with black hair", 6), ("a man with brown hair", 7))


def painted(folder: Path, prompt: str, seed: int) -> Path:
    """A picture from noise."""
    *_, done = api.generate(api.GenerateRequest(prompt, seed=seed, out=folder))
    assert isinstance(done, Done)
    return folder / done.summary["files"][0]


def refined(picture: Path, work: Any, denoising: float | None = None, **told: Any) -> Path:
    """The same, refined; told is what is otherwise."""
    request = api.RefineRequest((picture,), work, denoising, changes=api.Changes(told))
    *_, done = api.refine(request)
    assert isinstance(done, Done)
    return picture.parent / done.summary["files"][0]


def shown(path: Path, width: int = 256) -> Image.Image:
    """A picture at a size for the page."""
    with Image.open(path) as image:
        size = width, image.height * width // image.width
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def framed(path: Path, boxes: tuple[tuple[float, float, float, float], ...], width: int = 256) -> Image.Image:
    """A picture with boxes drawn on it."""
    with Image.open(path) as opened:
        scale = width / opened.width
    image = shown(path, width)
    for box in boxes:
        ImageDraw.Draw(image).rectangle([edge * scale for edge in box], outline=(20, 200, 60), width=3)
    return image


def parts(folder: Path) -> None:
    """A shirt painted anew."""
    portrait = painted(folder, "a woman with red hair", 3)
    green = refined(portrait, Inpaint(boxes=SHIRT), 0.9, prompt="a woman with red hair and a green shirt")
    blue = refined(portrait, Inpaint(boxes=SHIRT), 0.9, prompt="a woman with red hair and a blue shirt")
    labels = ["the picture, and the box", "a green shirt", "a blue shirt"]
    sheet = contact_sheet([framed(portrait, SHIRT), shown(green), shown(blue)], columns=3, column_labels=labels)
    sheet.save(FOLDER / "refining-inpaint.png")


def details(folder: Path) -> None:
    """Small faces in a picture that was enlarged, found and painted in detail, each with its own prompt."""
    from velatura.detection import detector

    side, small = 128, 32
    row = Image.new("RGB", (len(PEOPLE) * side, side))
    for place, (prompt, seed) in enumerate(PEOPLE):
        row.paste(shown(painted(folder, prompt, seed), side), (place * side, 0))
    far = folder / "far.png"
    row.resize((len(PEOPLE) * small, small), Image.Resampling.LANCZOS).resize(row.size, Image.Resampling.LANCZOS).save(
        far
    )
    found: list[Find] = detector("scene", 0.3)(Image.open(far))
    prompts = "[SEP]".join(prompt for prompt, _ in PEOPLE)
    picking = Picking(order="left to right", grow=8)
    work = Detail("scene", picking=picking, prompt=prompts, denoising=0.5, padding=24, width=side, height=side)
    finer = refined(far, work, base="pocket", prompt="people", seed=1)
    labels = ["enlarged, and the finds", "the finds in detail"]
    pictures = [framed(far, tuple(one.box for one in found), LARGE * 3 // 2), shown(finer, LARGE * 3 // 2)]
    contact_sheet(pictures, columns=2, column_labels=labels).save(FOLDER / "refining-detail.png")


def larger(folder: Path) -> None:
    """A picture four times as large: by Lanczos, and painted over in tiles by little and by too much."""
    sea = painted(folder, "a lighthouse by the sea", 8)
    little = refined(sea, Enlarge(4, denoising=0.2))
    much = refined(sea, Enlarge(4, denoising=0.5))
    labels = ["Lanczos", "tiles, denoising 0.2", "tiles, denoising 0.5: too much"]
    sheet = contact_sheet(
        [shown(sea, LARGE), shown(little, LARGE), shown(much, LARGE)], columns=3, column_labels=labels
    )
    sheet.save(FOLDER / "refining-upscale.png")


def main() -> None:
    """Write all pictures, or those that are named."""
    with tempfile.TemporaryDirectory() as place:
        for make in (parts, larger, details):
            if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
                make(Path(place))


if __name__ == "__main__":
    main()
