"""Train the pocket base from nothing: tokenizer, autoencoder, decoder, then text encoder and denoiser together.

    python -m velatura.pocket.train --state FOLDER [--kind epsilon|v|flow] [--workers 2] [--samples 500000]

Every stage is resumable: started again on the same folder it goes on from its last checkpoint. The kinds share a
folder's autoencoder and shards (`stages`); train them one after the other.
Workers are processes with one thread each that average their weights every few steps; on two CPU
cores that is faster than two threads. On a GPU use one worker.

The recipes stand in `autoencoder`, `decoder` and `denoiser`.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing

from velatura.files import make_folder, write_text
from velatura.pocket import shards, tokenizer
from velatura.pocket.architecture import KINDS, Kind
from velatura.pocket.autoencoder import train_autoencoder
from velatura.pocket.decoder import train_decoder
from velatura.pocket.denoiser import train_denoiser
from velatura.pocket.stages import Settings, barrier, settings_file, tokenizer_folder


def main() -> None:
    """The command."""
    settings, folder = _arguments()
    # glibc hands every large tensor back to the system and asks for it again; keeping it is 5 % faster
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "4000000000")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "8000000000")
    train(settings, folder)


def train(settings: Settings, folder: Path) -> None:
    """Run every stage that is not finished."""
    make_folder(folder)
    learn_words(folder, settings.kind)
    write_text(settings_file(folder, settings.kind), json.dumps(asdict(settings), indent=2))
    if settings.workers == 1:
        _work(0, settings, str(folder), "")
    else:
        meeting = (folder / f"meeting-{os.getpid()}").resolve()
        try:
            multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
                _work, args=(settings, str(folder), meeting.as_uri()), nprocs=settings.workers
            )
        finally:
            meeting.unlink(missing_ok=True)


def _arguments() -> tuple[Settings, Path]:
    parser = argparse.ArgumentParser(
        prog="velatura.pocket.train", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--state", type=Path, required=True, help="folder for data and checkpoints")
    for name, value in asdict(Settings()).items():
        choices = KINDS if name == "kind" else None
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, choices=choices)
    given = vars(parser.parse_args())
    folder = given.pop("state")
    return Settings(**given), folder


def _work(rank: int, settings: Settings, state: str, meeting: str) -> None:
    folder = Path(state)
    if settings.device == "cpu":
        torch.set_num_threads(1)
    if settings.workers > 1:
        dist.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=settings.workers, timeout=timedelta(hours=2)
        )
    for shard in range(rank, settings.vae_shards, settings.workers):
        shards.draw(folder / "shards", shard)
        shards.draw_textures(folder / "shards", shard)
    barrier(settings)
    train_autoencoder(rank, settings, folder)
    train_decoder(rank, settings, folder)
    train_denoiser(rank, settings, folder)
    if settings.workers > 1:
        dist.destroy_process_group()


def learn_words(state: Path, kind: Kind) -> None:
    """Learn the tokenizer from the first shard's captions; no-op where it stands."""
    folder = tokenizer_folder(state, kind)
    if not (folder / "vocab.json").exists():
        shards.draw(state / "shards", 0)
        learn = tokenizer.learn_chat if kind == "flow" else tokenizer.learn
        learn(shards.captions(state / "shards", 0), folder)


if __name__ == "__main__":
    main()
