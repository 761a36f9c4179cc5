"""Make the pictures of `docs/guide/prompts.md`, painted by the pocket base.

velatura demo /tmp/a --style contour --portraits
velatura demo /tmp/b --style watercolour
python docs/prompt_pictures.py contour=/tmp/a watercolour=/tmp/b
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from PIL import Image

from velatura import recipe
from velatura.family import Model, load_base
from velatura.generation.contact import contact_sheet
from velatura.generation.generate import Painted, generate
from velatura.generation.record import used_loras
from velatura.generation.sampling import Job, Sampling
from velatura.settings import BUILT_IN_BASES
from velatura.training.samples import merged

FOLDER = Path(__file__).parent / "images"
SAMPLING = Sampling(128, 128, steps=20, cfg_scale=4.0)
STRENGTHS = (0, 0.5, 1)


def painted(model: Model, prompts: Sequence[str], seed: int, loras: Sequence[str] = ()) -> list[Image.Image]:
    """One picture for each prompt, all from the same noise."""
    used = [one.applied for one in used_loras(model, "", loras, None)]
    with merged(model, used) as adapters:
        jobs = [Job(prompt, seed) for prompt in prompts]
        events = list(generate(model, jobs, SAMPLING, adapters=adapters))
    return [event.image for event in events if isinstance(event, Painted)]


def main() -> None:
    """Write all pictures."""
    model = load_base(BUILT_IN_BASES["pocket"])
    whens = ("0", "0.1", "0.2", "0.3", "0.5", "1.0")
    images: list[Image.Image] = []
    rows = ("[a red apple:a blue teapot:WHEN] on a table", "a lighthouse by the sea[ at night:WHEN]")
    for text, seed in zip(rows, (5, 9), strict=True):
        images += painted(model, [text.replace("WHEN", when) for when in whens], seed)
    sheet = contact_sheet(
        images, columns=len(whens), row_labels=rows, column_labels=[f"WHEN = {when}" for when in whens]
    )
    sheet.save(FOLDER / "prompt-schedule.png")

    prompts = ("a black cat in the snow", "a black [cat|dog] in the snow", "a black dog in the snow")
    images = [image for seed in (1, 6) for image in painted(model, prompts, seed)]
    contact_sheet(images, columns=3, row_labels=["seed 1", "seed 6"], column_labels=prompts).save(
        FOLDER / "prompt-alternation.png"
    )

    weights = (0.0, 0.4, 0.8, 1.2)
    prompts = tuple(f"a red boat on the sea AND the sea at sunset :{weight}" for weight in weights)
    images = [image for seed in (2, 3) for image in painted(model, prompts, seed)]
    labels = [f"AND ... :{weight:g}" for weight in weights]
    contact_sheet(images, columns=4, row_labels=["seed 2", "seed 3"], column_labels=labels).save(
        FOLDER / "prompt-and.png"
    )
    two_loras(model, dict(argument.split("=", 1) for argument in sys.argv[1:]))


def two_loras(model: Model, told: Mapping[str, str]) -> None:
    """A project under each of two names: its LoRA at several strengths beside the other's."""
    projects = [Path(folder) for folder in told.values()]
    files = [next((project / "loras").glob("*.safetensors")) for project in projects]
    triggers = [recipe.load(project).dataset.trigger for project in projects]
    images = []
    for pair in product(STRENGTHS, STRENGTHS):
        words = [trigger for trigger, strength in zip(triggers, pair, strict=True) if trigger and strength]
        loras = [f"{file}:{strength}" for file, strength in zip(files, pair, strict=True)]
        images += painted(model, [", ".join(["a lighthouse by the sea", *words])], 9, loras)
    rows, columns = ([f"{name} {strength:g}" for strength in STRENGTHS] for name in told)
    contact_sheet(images, columns=len(STRENGTHS), row_labels=rows, column_labels=columns).save(
        FOLDER / "prompt-two-loras.png"
    )


if __name__ == "__main__":
    main()
