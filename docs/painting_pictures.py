"""Make the pictures of `docs/guide/painting.md`, painted by the pocket base with the LoRA of a demo.

velatura demo /tmp/a --style contour --portraits
python docs/painting_pictures.py /tmp/a
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

from velatura.family import Model, load_base
from velatura.generation.contact import contact_sheet
from velatura.generation.generate import Painted, generate
from velatura.generation.hires import Hires
from velatura.generation.record import used_loras
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import Start, encoded_picture
from velatura.settings import BUILT_IN_BASES
from velatura.training.samples import merged

FOLDER = Path(__file__).parent / "images"
SAMPLING = Sampling(128, 128, steps=20, cfg_scale=4.0)
PROMPT = "a red boat at sea"
SEED = 11
STRENGTHS = (0, 0.3, 0.6, 0.8, 1, 1.3)


def painted(
    model: Model,
    prompt: str,
    sampling: Sampling = SAMPLING,
    *,
    lora: str = "",
    start: Start | None = None,
    hires: Hires | None = None,
) -> Image.Image:
    """One picture."""
    used = [one.applied for one in used_loras(model, "", [lora] if lora else [], None)]
    with merged(model, used) as adapters:
        events = generate(model, [Job(prompt, SEED)], sampling, start=start, hires=hires, adapters=adapters)
        (found,) = [event.image for event in events if isinstance(event, Painted)]
    return found


def main() -> None:
    """Write all pictures."""
    model = load_base(BUILT_IN_BASES["pocket"])
    file = next(Path(sys.argv[1], "loras").glob("*.safetensors"))
    images = [painted(model, PROMPT, lora=f"{file}:{strength}") for strength in STRENGTHS]
    labels = [f"strength {strength:g}" for strength in STRENGTHS]
    contact_sheet(images, columns=len(images), column_labels=labels).save(FOLDER / "painting-strength.png")

    first = images[0]
    latents = encoded_picture(model, first, 128, 128)
    shares = (0.3, 0.5, 0.7, 0.9)
    images = [
        painted(model, f"{PROMPT}, sunset sky", lora=f"{file}:0.8", start=Start(latents, share)) for share in shares
    ]
    labels = ["the start", *(f"denoising {share:g}" for share in shares)]
    contact_sheet([first, *images], columns=len(labels), column_labels=labels).save(FOLDER / "painting-from.png")

    images = [
        first.resize((256, 256), Image.Resampling.NEAREST),
        painted(model, PROMPT, replace(SAMPLING, width=256, height=256)),
        painted(model, PROMPT, hires=Hires(2.0, denoising=0.6)),
        painted(model, PROMPT, hires=Hires(2.0, denoising=0.4, upscaler="Lanczos")),
    ]
    labels = ["128 x 128", "256 x 256 at once", "Latent, denoising 0.6", "Lanczos, denoising 0.4"]
    contact_sheet(images, columns=len(labels), column_labels=labels).save(FOLDER / "painting-hires.png")


if __name__ == "__main__":
    main()
