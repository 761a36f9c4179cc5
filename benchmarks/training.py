"""Training steps beside kohya's sd-scripts and diffusers' example: speed, memory and the first step.

    python benchmarks/training.py --kohya DIR --python VENV/bin/python [--diffusers train_text_to_image_lora.py]
                                  [--diffusers-python PYTHON] [--threads 1 2] [--rounds 4] [--folder DIR]

Stable Diffusion 1.5 of random weights at true size, 256 px, batch 1, AdamW, rank 16 beside the 192 layers that kohya
adapts; diffusers' example adapts 128 of them. Peers are not part of this project: name the folder of a checkout and a
Python that has what it asks for; a peer that is not named is left out, and said to be. Peers are given the settings of
the C library's allocator that Velatura gives itself.

Trainers are loaded one after the other, then take turns in stretches of a few steps while the others stand still; the
medians of the stretches are compared. Their first steps are measured before that, cold (nothing of the base or the
pictures is known) and warm, as they come; kohya's caches are those of its --cache_latents_to_disk. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from random_bases import settings, write, write_folder
from trainers import Running, Trainer

PICTURES, SIDE, RANK, RATE = 16, 256, 16, 1e-4

WAYS: dict[str, tuple[str, ...]] = {
    "fp32": ("memory.precision=fp32", "memory.prefer=fast"),
    "fast": ("memory.prefer=fast",),
    "lean": ("memory.prefer=lean",),
    "half": ("memory.precision=fp32", "memory.prefer=fast", "memory.quantised=half"),
}
"""Velatura's, by the names that docs/benchmarks.md gives them."""

GROUPS = {"fp32": ("no", ("fp32", "half")), "bf16": ("bf16", ("fast", "lean"))}
"""What kohya is told of its precision, and which ways of Velatura take turns with it."""

ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "2147483647"}
"""What Velatura tells the C library itself."""

ENDLESS = 100_000

KOHYAS_TOKENIZER = "openai_clip-vit-large-patch14"


def prepare(folder: Path) -> None:
    """The base, in one file and as diffusers keeps it; the pictures; CLIP's tokenizer where the peers look for it."""
    from velatura.text.clip_vocabulary import vocabulary

    if not (folder / "sd15.safetensors").exists():
        write(folder / "sd15.safetensors", "sd15")
    for part in settings("sd15"):
        place = folder / "diffusers" / ("unet" if part == "denoiser" else part)
        if not place.exists():
            write_folder(place, "sd15", part)
    told = vocabulary()
    for place in (folder / "tokenizers" / KOHYAS_TOKENIZER, folder / "diffusers" / "tokenizer"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "vocab.json").write_text(json.dumps(told.vocab), encoding="utf-8")
        (place / "merges.txt").write_text("\n".join(["#version: 0.2", *told.merges]), encoding="utf-8")
        kind = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": 77,
            "unk_token": told.special_tokens["eos_token"],
        }
        (place / "tokenizer_config.json").write_text(json.dumps(kind | told.special_tokens), encoding="utf-8")
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    scheduler = folder / "diffusers" / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir(parents=True, exist_ok=True)
    scheduler.write_text(json.dumps({"_class_name": "DDPMScheduler", **noise}), encoding="utf-8")
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    captions = []
    for number in range(PICTURES):
        coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        smooth.save(pictures / f"{number:02d}.png")
        caption = f"a harbour, {number} boats, evening light"
        (pictures / f"{number:02d}.txt").write_text(caption, encoding="utf-8")
        captions.append(json.dumps({"file_name": f"{number:02d}.png", "text": caption}))
    (pictures / "metadata.jsonl").write_text("\n".join(captions), encoding="utf-8")


def environment(threads: int, **more: str) -> dict[str, str]:
    """The processes'; nothing is fetched."""
    own = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return {**own, "PYTHONUNBUFFERED": "1", **more}


def project(folder: Path, told: Sequence[str], threads: int) -> Path:
    """A project that trains as the peers do."""
    from velatura.recipe import build, to_toml

    tree = {
        "version": 2,
        "base": {"model": str(folder / "sd15.safetensors")},
        "dataset": {"resolution": SIDE, "hold_out": 0.0},
        "adapter": {"rank": RANK, "alpha": float(RANK), "targets": ["attention+mlp"]},
        "objective": {"min_snr": 0.0},
        "train": {
            "steps": ENDLESS, "batch": 1, "threads": threads, "learning_rate": RATE, "schedule": "constant", "clip": 1.0
        },
        "checkpoints": {"every": ENDLESS},
        "samples": {"count": 0},
    }  # fmt: skip
    place = Path(tempfile.mkdtemp(dir=folder, prefix="project-"))
    shutil.copytree(folder / "pictures", place / "dataset", ignore=shutil.ignore_patterns("*.jsonl", "*.npz"))
    (place / "recipe.toml").write_text(to_toml(build(tree, told)), encoding="utf-8")
    return place


def ours(folder: Path, way: str, threads: int) -> Trainer:
    """Velatura, in one of its ways."""
    place = project(folder, WAYS[way], threads)
    command = [sys.executable, "-m", "velatura", "train", str(place), "--new", "--json"]
    home = {"VELATURA_HOME": str(folder / "home"), "PYTHONPATH": str(Path(__file__).parents[1])}
    return Trainer(f"velatura {way}", command, folder, environment(threads, **home))


def kohya(folder: Path, told: argparse.Namespace, precision: str, threads: int) -> Trainer:
    """kohya's train_network.py."""
    dataset = folder / "kohya.toml"
    subset = f'image_dir = "{folder / "pictures"}"\nnum_repeats = 1\ncaption_extension = ".txt"'
    text = f"[[datasets]]\nresolution = {SIDE}\nbatch_size = 1\n[[datasets.subsets]]\n{subset}\n"
    dataset.write_text(text, encoding="utf-8")
    options = {
        "pretrained_model_name_or_path": folder / "sd15.safetensors", "tokenizer_cache_dir": folder / "tokenizers",
        "dataset_config": dataset, "output_dir": folder / "kohya", "output_name": "lora",
        "network_module": "networks.lora", "network_dim": RANK, "network_alpha": RANK, "optimizer_type": "AdamW",
        "learning_rate": RATE, "lr_scheduler": "constant", "max_train_steps": ENDLESS, "mixed_precision": precision,
        "max_data_loader_n_workers": 0, "seed": 1,
    }  # fmt: skip
    command = [told.python, "train_network.py", *(str(one) for name in options for one in (f"--{name}", options[name]))]
    command += ["--network_train_unet_only", "--cache_latents", "--cache_latents_to_disk", "--sdpa"]
    own = {name: text for name, text in environment(threads, **ALLOCATOR).items() if name != "PYTHONPATH"}
    return Trainer(f"kohya {precision}", command, Path(told.kohya), own)


def example(folder: Path, told: argparse.Namespace, threads: int) -> Trainer:
    """diffusers' train_text_to_image_lora.py, in fp32."""
    options = {
        "pretrained_model_name_or_path": folder / "diffusers", "train_data_dir": folder / "pictures",
        "caption_column": "text", "output_dir": folder / "example", "cache_dir": folder / "datasets",
        "resolution": SIDE, "train_batch_size": 1, "rank": RANK, "learning_rate": RATE, "lr_scheduler": "constant",
        "max_train_steps": ENDLESS, "dataloader_num_workers": 0, "seed": 1, "mixed_precision": "no",
    }  # fmt: skip
    command = [told.diffusers_python or told.python, told.diffusers]
    command += [str(one) for name in options for one in (f"--{name}", options[name])]
    own = {name: text for name, text in environment(threads, **ALLOCATOR).items() if name != "PYTHONPATH"}
    return Trainer("diffusers' example", command, folder, {**own, "HF_DATASETS_CACHE": str(folder / "datasets")})


def first_steps(folder: Path, trainer: Trainer) -> dict[str, tuple[float, float]]:
    """Seconds to the first step by the clock and of the processor, cold and warm."""
    for left in ("home", "kohya", "datasets"):
        shutil.rmtree(folder / left, ignore_errors=True)
    for cached in (folder / "pictures").glob("*.npz"):
        cached.unlink()
    found = {}
    for kind in ("cold", "warm"):
        running = Running(trainer)
        found[kind] = running.first_step()
        running.end()
    return found


def take_turns(trainers: Sequence[Trainer], rounds: int, count: int) -> list[tuple[Running, list[tuple[float, float]]]]:
    """Load each, then let each go on for a stretch, and again."""
    found: list[tuple[Running, list[tuple[float, float]]]] = []
    for trainer in trainers:
        running = Running(trainer)
        running.until(2)  # the first step is slower: it meets what it needs for the first time
        running.pause()
        found.append((running, []))
    for _ in range(rounds):
        for running, stretches in found:
            stretches.append(running.stretch(count))
    for running, _ in found:
        running.end()
    return found


def row(running: Running, stretches: Sequence[tuple[float, float]], peer: Sequence[Any] | None) -> str:
    """A line of the table; ratios to the peer that took turns with it."""
    wall, cpu = (statistics.median(one[which] for one in stretches) for which in (0, 1))
    told = [f"{wall:.2f}", f"{cpu:.2f}", f"{running.resident / 1e9:.2f}", f"{running.anonymous / 1e9:.2f}"]
    if peer is None:
        return f"| {running.trainer.name} | {' | '.join(told)} | | | |"
    other, others = peer
    times = [
        statistics.median(theirs[which] / own[which] for theirs, own in zip(others, stretches, strict=True))
        for which in (0, 1)
    ]
    memory = f"{running.resident / other.resident:.2f} ({running.anonymous / other.anonymous:.2f})"
    return f"| {running.trainer.name} | {' | '.join(told)} | {times[0]:.2f} | {times[1]:.2f} | {memory} |"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kohya", help="folder of a checkout of kohya-ss/sd-scripts")
    parser.add_argument("--python", help="a Python that has what sd-scripts asks for")
    parser.add_argument("--diffusers", help="the file train_text_to_image_lora.py")
    parser.add_argument("--diffusers-python", help="a Python that has what it asks for")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--stretch", type=int, default=3, help="steps that one goes on for")
    parser.add_argument("--only", nargs="+", choices=["first", *GROUPS], default=["first", *GROUPS])
    parser.add_argument("--folder", type=Path, help="where base and pictures are kept; none: a folder for a while")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (told.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        for name, given in (("kohya's sd-scripts", told.kohya), ("diffusers' example", told.diffusers)):
            if not given:
                print(f"{name}: absent, not compared")
        for threads in told.threads:
            measure(folder, told, threads)


def measure(folder: Path, told: argparse.Namespace, threads: int) -> None:
    """Everything with so many threads."""
    print(f"{threads} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    if "first" in told.only:
        starters = [ours(folder, "fast", threads)]
        starters += [kohya(folder, told, "no", threads)] if told.kohya else []
        for trainer in starters:
            found: Mapping[str, tuple[float, float]] = first_steps(folder, trainer)
            shown = ", ".join(f"{kind} {wall:.1f} s ({cpu:.1f} CPU)" for kind, (wall, cpu) in found.items())
            print(f"{trainer.name}: first step {shown}", flush=True)
    print("| | s a step | CPU s | resident GB | of it without a file | times as fast | in CPU s | memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in [group for group in GROUPS if group in told.only]:
        precision, ways = GROUPS[name]
        peers = [kohya(folder, told, precision, threads)] if told.kohya else []
        peers += [example(folder, told, threads)] if told.diffusers and name == "fp32" else []
        found_here = take_turns([*peers, *(ours(folder, way, threads) for way in ways)], told.rounds, told.stretch)
        for running, stretches in found_here:
            peer = found_here[0] if told.kohya and running is not found_here[0][0] else None
            print(row(running, stretches, peer), flush=True)
        print(f"(load {os.getloadavg()[0]:.1f})", flush=True)


if __name__ == "__main__":
    main()
