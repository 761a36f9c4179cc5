"""How well a pocket base paints what it is asked: figures over prompts drawn from its vocabulary.

    python benchmarks/pocket.py                                   the built-in base, 400 prompts
    python benchmarks/pocket.py --base FOLDER --prompts 40        another one, a quick look
    python benchmarks/pocket.py --lora FILE --trigger "pencil drawing"      what a LoRA leaves of it
    python benchmarks/pocket.py --lora FILE --trigger WORDS --strength 0    the control: trigger words alone

Prompts are canonical; a share of them are combinations of thing, colour and setting that training never
drew, and their figures stand apart. Writes `figures.json`, `grid.png` and `misread.png`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from oracle import VERSION, Oracle, load_oracle, own_error, read
from oracle_pictures import HANDS, painted, tells_colour
from PIL import Image
from questions import Answer, Rate, kept, percent, rates, table
from sheets import write_grid

from velatura import settings as user
from velatura.adapters.merge import Applied
from velatura.errors import VelaturaError
from velatura.events import Progress
from velatura.family import Model, load_base
from velatura.files import make_folder, write_text
from velatura.generation.generate import Painted, generate
from velatura.generation.sampling import Job, Sampling
from velatura.pocket.compose import compose, held_out, plain_prompt
from velatura.pocket.renderings import EVERYDAY
from velatura.pocket.scene import Scene
from velatura.training.samples import merged, read_adapter

PROMPT_SEED = 6_000_000
"""Scenes that prompts are taken from; neither the base nor the oracle was trained on them."""
VAE_SEED = 6_500_000
NOISE_SEED = 1
GRID = 48
"""Pictures shown in a grid."""


def draw_prompts(count: int, *, unseen: float) -> list[Scene]:
    """Scenes to ask for: every n-th is an unseen combination, so that their share is `unseen`."""
    marks = [int((n + 1) * unseen) > int(n * unseen) for n in range(count)]
    return [compose(PROMPT_SEED + n, unseen=mark) for n, mark in enumerate(marks)]


@dataclass(frozen=True)
class Exam:
    """Pictures painted for prompts, and what the oracle reads in them."""

    scenes: list[Scene]
    prompts: list[str]
    pictures: list[Image.Image]
    answers: list[Answer]
    seconds: float
    """For all pictures."""
    cpu_seconds: float

    def rates(self, among: str = "all") -> dict[str, Rate]:
        """Every question's rate over "all", "seen" or "unseen" combinations."""
        unseen = [any(held_out(scene.facts, thing) for thing in scene.facts.things) for scene in self.scenes]
        chosen = [n for n, mark in enumerate(unseen) if among == "all" or mark == (among == "unseen")]
        return rates([self.scenes[n].facts for n in chosen], [self.answers[n] for n in chosen])


def examine(
    model: Model,
    oracle: Oracle,
    scenes: list[Scene],
    sampling: Sampling,
    *,
    trigger: str = "",
    lora: Applied | None = None,
    batch: int = 8,
) -> Exam:
    """Paint each scene's prompt with a seed of its own and read the pictures.

    Args:
        trigger: words put behind every prompt, as in the captions of a style's pictures.
        lora: an adapter to paint with.
    """
    prompts = [f"{plain_prompt(scene.facts)}, {trigger}" if trigger else plain_prompt(scene.facts) for scene in scenes]
    jobs = [Job(prompt, NOISE_SEED + place) for place, prompt in enumerate(prompts)]
    wall, cpu = time.monotonic(), time.process_time()
    pictures: list[Image.Image] = []
    with merged(model, [lora]) if lora is not None else nullcontext():
        for event in generate(model, jobs, sampling, batch=batch):
            if isinstance(event, Painted):
                pictures.append(event.image)
            elif isinstance(event, Progress) and event.done % (5 * sampling.steps) == 0:
                print(f"painted {len(pictures) + batch} of {len(jobs)}", file=sys.stderr, flush=True)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return Exam(scenes, prompts, pictures, read(oracle, pictures), wall, cpu)


def through_vae(model: Model, oracle: Oracle, count: int) -> dict[str, dict[str, float]]:
    """How much of a drawn picture the base's autoencoder keeps, for every rendering and style.

    Returns:
        Hand -> "psnr" (mean over pictures, dB) and the oracle's rates of "object" and "colour" on what came back.
    """
    found = {}
    scenes = [compose(VAE_SEED + n, unseen=None) for n in range(count)]
    for hand in HANDS:
        before = [np.array(painted(scene, hand, size=model.resolution), np.uint8) for scene in scenes]
        after = [rebuilt(model, picture) for picture in before]
        seen = rates([scene.facts for scene in scenes], read(oracle, [Image.fromarray(picture) for picture in after]))
        decibels = [psnr(one, other) for one, other in zip(before, after, strict=True)]
        found[hand] = {
            "psnr": float(np.mean(decibels)),
            "object": seen["object"].share,
            "colour": seen["colour"].share,
        }
    return found


@torch.inference_mode()
def rebuilt(model: Model, picture: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture, encoded and decoded."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = model.family.encode_images(model, pixels.to(model.policy.device))
    decoded = model.family.decode_latents(model, latents)[0].clamp(-1, 1)
    return ((decoded + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def psnr(one: np.ndarray[Any, np.dtype[np.uint8]], other: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures in dB; 100 where they are equal."""
    error = np.square(one.astype(np.float64) - other.astype(np.float64)).mean()
    return float(min(100.0, 10 * np.log10(255**2 / error))) if error else 100.0


def rate_table(exam: Exam) -> str:
    """The exam's rates in percent: all with their 95 % margin, seen and unseen combinations apart."""
    every, seen, unseen = (exam.rates(among) for among in ("all", "seen", "unseen"))
    rows = [["right, %", "all", "+-", "asked", "seen", "unseen", "asked"]]
    for question, rate in every.items():
        rows.append(
            [
                question,
                percent(rate.share),
                percent(rate.margin),
                str(rate.asked),
                percent(seen[question].share),
                percent(unseen[question].share),
                str(unseen[question].asked),
            ]
        )
    return table(rows)


def kept_table(base: Exam, exam: Exam) -> str:
    """The base's rates, the LoRA's, and what share of the former the latter keeps."""
    before, after = base.rates(), exam.rates()
    rows = [["right, %", "base", "LoRA", "kept", "asked"]]
    for question, rate in after.items():
        share = kept(rate, before[question])
        rows.append([question, percent(before[question].share), percent(rate.share), percent(share), str(rate.asked)])
    return table(rows)


def vae_table(found: dict[str, dict[str, float]]) -> str:
    """What the autoencoder keeps, one row per hand, everyday renderings first with their mean."""
    rows = [["autoencoder", "PSNR dB", "object %", "colour %"]]
    everyday = [figures for hand, figures in found.items() if hand in EVERYDAY]
    mean = {key: float(np.mean([figures[key] for figures in everyday])) for key in ("psnr", "object", "colour")}
    for hand, figures in {"everyday, mean": mean, **found}.items():
        colour = percent(figures["colour"]) if tells_colour(hand) else "-"
        rows.append([hand, f"{figures['psnr']:.1f}", percent(figures["object"]), colour])
    return table(rows)


def as_numbers(exam: Exam) -> dict[str, Any]:
    """The exam for the JSON file."""
    count = len(exam.pictures)
    return {
        "rates": {
            among: {
                question: {"right": rate.right, "asked": rate.asked, "share": round(rate.share, 4)}
                for question, rate in exam.rates(among).items()
                if rate.asked
            }
            for among in ("all", "seen", "unseen")
        },
        "pictures": count,
        "images_per_second": round(count / exam.seconds, 3),
        "cpu_seconds_per_image": round(exam.cpu_seconds / count, 3),
    }


def write_sheets(folder: Path, exam: Exam, *, title: str) -> None:
    """The first pictures, and the first that were misread."""

    def write(name: str, chosen: Sequence[int], told: str) -> None:
        pictures, prompts = [exam.pictures[n] for n in chosen], [exam.prompts[n] for n in chosen]
        facts, answers = [exam.scenes[n].facts for n in chosen], [exam.answers[n] for n in chosen]
        write_grid(folder / name, pictures, prompts, facts, answers, title=told)

    write("grid.png", range(len(exam.pictures))[:GRID], title)
    objects = ("object and colour", "two objects, two colours")
    wrong = [
        n
        for n, (scene, answer) in enumerate(zip(exam.scenes, exam.answers, strict=True))
        if any(rates([scene.facts], [answer])[question].share == 0 for question in objects)
    ]
    if wrong:
        write("misread.png", wrong[:GRID], f"{title}: {len(wrong)} with an object or colour misread")


def main() -> None:
    """The command."""
    given = _arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    oracle = load_oracle()
    model = load_base(user.find_base(given.base))
    sampling = Sampling(model.resolution, model.resolution, given.steps, given.cfg)
    folder = make_folder(given.out)
    scenes = draw_prompts(given.prompts, unseen=given.unseen)
    base = examine(model, oracle, scenes, sampling, batch=given.batch)
    figures: dict[str, Any] = {
        "base": {"name": model.name, "sha256": model.hash},
        "oracle": {"version": VERSION, "error": own_error()["everyday"]},
        "sampling": {"steps": sampling.steps, "cfg_scale": sampling.cfg_scale, "sampler": sampling.sampler},
        "threads": torch.get_num_threads(),
        "batch": given.batch,
        "plain": as_numbers(base),
    }
    errors = figures["oracle"]["error"]
    print(f"base {model.name} {model.hash[:12]}, {len(scenes)} prompts, {sampling.steps} steps, guidance {given.cfg:g}")
    print(f"the oracle's own error: object {percent(errors['object'])} %, colour {percent(errors['colour'])} %\n")
    print(rate_table(base), end="\n\n")
    shown = base
    if given.lora or given.trigger:
        lora = _lora(model, given.lora, given.strength)
        shown = examine(model, oracle, scenes, sampling, trigger=given.trigger, lora=lora, batch=given.batch)
        figures["lora"] = {"trigger": given.trigger, "strength": given.strength, **as_numbers(shown)}
        print(kept_table(base, shown), end="\n\n")
    write_sheets(folder, shown, title=f"{model.name} {given.trigger}".strip())
    speed = figures["plain"]
    print(
        f"{speed['images_per_second']:.2f} images per second in batches of {given.batch} on {figures['threads']} "
        f"threads, {speed['cpu_seconds_per_image']:.2f} CPU seconds each\n"
    )
    if given.vae:
        figures["autoencoder"] = through_vae(model, oracle, given.vae)
        print(vae_table(figures["autoencoder"]), end="\n\n")
    write_text(folder / "figures.json", json.dumps(figures, indent=1) + "\n")
    print(f"written to {folder}")


def _lora(model: Model, path: Path | None, strength: float) -> Applied | None:
    if path is None or strength == 0:
        return None
    return Applied(read_adapter(model, path).layers, strength, strength)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", default="pocket", help="name or folder (default: the built-in one)")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--unseen", type=float, default=0.25, help="share of unseen combinations (default 0.25)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default 20)")
    parser.add_argument("--cfg", type=float, default=4.0, help="guidance (default 4)")
    parser.add_argument("--batch", type=int, default=8, help="pictures painted at once (default 8)")
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    parser.add_argument("--lora", type=Path, help="adapter file to measure")
    parser.add_argument("--trigger", default="", help="words behind every prompt of the adapter's pictures")
    parser.add_argument("--strength", type=float, default=0.9, help="of the adapter; 0 is the control (default 0.9)")
    parser.add_argument("--vae", type=int, default=16, help="pictures per rendering for the autoencoder; 0: none")
    parser.add_argument("--out", type=Path, default=user.cache_folder() / "benchmarks" / "pocket", help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except VelaturaError as error:
        sys.exit(str(error))
