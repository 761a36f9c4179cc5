"""Make the pictures of the README and the guides from finished demo folders.

    velatura demo /tmp/watercolour
    velatura demo /tmp/contour --style contour --portraits
    python docs/pictures.py /tmp/watercolour /tmp/contour

Each demo folder gives `docs/images/STYLE-dataset.png`, `-portfolio.png`, `-strength.png` and
`-checkpoints.png`, made by the program's own contact sheets from the pictures in it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from velatura import run as runs
from velatura.demo import STRENGTHS
from velatura.generation.contact import contact_sheet

FOLDER = Path(__file__).parent / "images"
SIDE = 128


def pictures(paths: list[Path]) -> list[Image.Image]:
    """Pictures at one size."""
    return [Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS) for path in paths]


def main() -> None:
    """Write the pictures of every folder named."""
    FOLDER.mkdir(exist_ok=True)
    for project in map(Path, sys.argv[1:]):
        run = [one for one in runs.runs_of(project) if one.finished][-1]
        name = run.recipe.name
        drawn = sorted((project / "dataset").glob("*.png"))[:12]
        contact_sheet(pictures(drawn), columns=9 if len(drawn) == 9 else 6).save(FOLDER / f"{name}-dataset.png")
        painted = sorted((project / "images").glob("portfolio-*.png"))
        contact_sheet(pictures(painted), columns=6).save(FOLDER / f"{name}-portfolio.png")
        strip = [project / "images" / f"strength-{strength:g}.png" for strength in STRENGTHS]
        labels = [f"strength {strength:g}" for strength in STRENGTHS]
        contact_sheet(pictures(strip), columns=len(strip), column_labels=labels).save(FOLDER / f"{name}-strength.png")
        newest = run.checkpoints()[-1]
        Image.open(run.path / "samples" / f"step-{newest.step:06d}.png").save(FOLDER / f"{name}-checkpoints.png")


if __name__ == "__main__":
    main()
