"""Paint `docs/images/samplers.png`: one prompt and seed with every sampler, on the embedded base.

python docs/sampler_pictures.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from velatura import bases
from velatura.diffusion.samplers import SAMPLERS
from velatura.family import load_base
from velatura.generation.contact import contact_sheet
from velatura.generation.generate import Painted, generate
from velatura.generation.sampling import Job, Sampling

PROMPT = "a red house beside a lake at night"
COLUMNS = 5


def main() -> None:
    """Paint, label and write."""
    model = load_base(bases.find("pocket"))
    painted = {}
    for name in SAMPLERS:
        sampling = Sampling(model.resolution, model.resolution, 20, 5.0, name, "Automatic")
        (painted[name],) = [
            event.image for event in generate(model, [Job(PROMPT, 5)], sampling) if isinstance(event, Painted)
        ]
    names = list(painted)
    rows = [names[start : start + COLUMNS] for start in range(0, len(names), COLUMNS)]
    strips = [contact_sheet([painted[name] for name in row], columns=COLUMNS, column_labels=row) for row in rows]
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    sheet.quantize(256).save(Path(__file__).parent / "images" / "samplers.png", optimize=True)


if __name__ == "__main__":
    main()
