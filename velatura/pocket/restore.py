"""Go on training from published weights, where a training's own state is gone.

    python -m velatura.pocket.restore --state FOLDER [--base FOLDER]
    python -m velatura.pocket.train --state FOLDER ...

The optimizers start afresh and the weights come back from fp16; what was learnt is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from velatura import settings as user
from velatura.errors import RunError
from velatura.files import make_folder, write_text
from velatura.pocket import tokenizer
from velatura.pocket.architecture import ARCHITECTURES, Part, build
from velatura.pocket.stages import Settings, denoiser_folder, tokenizer_folder
from velatura.weights.parts import PartFiles
from velatura.weights.source import BaseFolder, held


def restore(base: Path, state: Path) -> None:
    """Write a state folder from a published base.

    Raises:
        RunError: the folder holds a training already.
        ModelError: the base is incomplete.
    """
    if any(state.glob("*/newest.json")):
        raise RunError("this folder holds a training already", where=state, fix="choose another folder")
    folder = BaseFolder(base)
    told = json.loads((base / "velatura.json").read_text(encoding="utf-8"))
    settings = Settings(**told["settings"])
    made = ARCHITECTURES[settings.kind]
    words = make_folder(tokenizer_folder(state, settings.kind))
    for name in tokenizer.FILES[made.tokenizer]:
        shutil.copyfile(base / "tokenizer" / name, words / name)
    steps = settings.vae_crops // (settings.vae_batch * settings.workers)
    vae = _filled(folder, made.autoencoder)
    _write(state / "autoencoder", steps, settings.vae_crops, {"model": vae, "averaged": {}})
    if settings.decoder_crops:
        steps = settings.decoder_crops // (settings.vae_batch * settings.workers)
        parts = {name: _within(vae, name) for name in ("decoder", "post_quant_conv")}
        _write(state / "decoder", steps, settings.decoder_crops, {**parts, "averaged": {}})
    trained = {"denoiser": _filled(folder, made.denoiser), "text_encoder": _filled(folder, made.text_encoder)}
    steps = told["samples"] // (settings.batch * settings.workers)
    _write(denoiser_folder(state, settings.kind), steps, told["samples"], {**trained, "averaged": trained})


def _filled(base: BaseFolder, part: Part) -> dict[str, Tensor]:
    weights = held(PartFiles(base.files(part.folder)))
    state: dict[str, Tensor] = build(part).state_dict()
    return {key: weights[key].float() if key in weights else value for key, value in state.items()}


def _within(weights: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{part}."): value for key, value in weights.items() if key.startswith(f"{part}.")}


def _write(folder: Path, step: int, seen: int, weights: dict[str, Any]) -> None:
    make_folder(folder)
    torch.save(weights, folder / f"weights-{step:07d}.pt")
    write_text(folder / "newest.json", json.dumps({"step": step, "seen": seen}))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="velatura.pocket.restore")
    parser.add_argument("--state", type=Path, required=True, help="folder to write the training's state to")
    parser.add_argument("--base", type=Path, default=user.BUILT_IN_BASES["pocket"], help="the published base")
    given = parser.parse_args()
    restore(given.base, given.state)


if __name__ == "__main__":
    main()
