"""Write the trained pocket base as a diffusers folder: fp16 safetensors, settings, and what made it.

python -m velatura.pocket.export --state FOLDER [--kind epsilon|v|flow] [--to FOLDER] [--version 1]
                                 [--single-file FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from velatura import settings as user
from velatura import tensorfile
from velatura.families.sd15.save import to_single_file
from velatura.files import make_folder, write_bytes, write_text
from velatura.pocket import tokenizer
from velatura.pocket.architecture import ARCHITECTURES, KINDS, Kind, Part, build
from velatura.pocket.decoder import autoencoder_weights
from velatura.pocket.latents import scaling_factor
from velatura.pocket.stages import denoiser_folder, newest_weights, settings_file, tokenizer_folder


def export(state: Path, folder: Path, *, version: int, commit: str, kind: Kind = "epsilon") -> None:
    """Write the averaged weights of a training's newest checkpoint; an older base in the folder is replaced.

    Args:
        kind: which of the state's denoisers.
    """
    made = ARCHITECTURES[kind]
    averaged = newest_weights(denoiser_folder(state, kind))["averaged"]
    _part(folder, made.autoencoder, autoencoder_weights(state), scaling_factor=scaling_factor(state))
    _part(folder, made.text_encoder, averaged["text_encoder"])
    _part(folder, made.denoiser, averaged["denoiser"])
    _config(folder / "scheduler" / "scheduler_config.json", made.scheduler)
    for name in tokenizer.FILES[made.tokenizer]:
        make_folder(folder / "tokenizer")
        shutil.copyfile(tokenizer_folder(state, kind) / name, folder / "tokenizer" / name)
    parts = {
        "_class_name": made.pipeline,
        "scheduler": ["diffusers", made.scheduler["_class_name"]],
        "tokenizer": ["transformers", made.tokenizer],
        **{part.folder: [part.library, part.kind] for part in made.parts},
        **{name: [None, None] for name in made.absent},
    }
    told = json.loads(settings_file(state, kind).read_text(encoding="utf-8"))
    made_by = {"version": version, "commit": commit, "samples": _samples_seen(state, kind), "settings": told}
    write_text(folder / "velatura.json", json.dumps(made_by, indent=2))
    _config(folder / "model_index.json", parts)


def _part(folder: Path, part: Part, weights: Mapping[str, Tensor], **measured: float) -> None:
    own = build(part).state_dict()
    tensors = {
        key: tensorfile.raw(value.half().cpu().numpy())
        for key, value in weights.items()
        if key in own and value.is_floating_point()
    }
    name = "diffusion_pytorch_model" if part.library == "diffusers" else "model"
    make_folder(folder / part.folder)
    write_bytes(folder / part.folder / f"{name}.safetensors", tensorfile.to_bytes(tensors, {"format": "pt"}))
    if part.library == "diffusers":
        told: dict[str, Any] = {"_class_name": part.kind}
    else:
        told = {"architectures": [part.kind], "model_type": part.model_type}
    _config(folder / part.folder / "config.json", {**told, **part.settings, **measured})


def _config(path: Path, values: Mapping[str, Any]) -> None:
    make_folder(path.parent)
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def _samples_seen(state: Path, kind: Kind) -> int:
    newest = json.loads((denoiser_folder(state, kind) / "newest.json").read_text(encoding="utf-8"))
    return int(newest["seen"])


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="velatura.pocket.export")
    parser.add_argument("--state", type=Path, required=True, help="folder of the training")
    parser.add_argument("--kind", choices=KINDS, default="epsilon", help="which of its denoisers")
    parser.add_argument("--to", type=Path, help="folder to write (default, of epsilon alone: the built-in base)")
    parser.add_argument("--version", type=int, default=1, help="version of the weights")
    parser.add_argument("--single-file", type=Path, help="also write it as one file, as A1111 and ComfyUI load it")
    given = parser.parse_args()
    if given.kind != "epsilon" and given.to is None:
        parser.error("--to is needed: the built-in base is of the kind epsilon")
    if given.kind == "flow" and given.single_file is not None:
        parser.error("--single-file is for epsilon and v")
    folder = given.to or user.BUILT_IN_BASES["pocket"]
    torch.set_num_threads(1)
    export(given.state, folder, version=given.version, commit=_commit(), kind=given.kind)
    if given.single_file is not None:
        make_folder(given.single_file.parent)
        write_bytes(given.single_file, to_single_file(folder))


if __name__ == "__main__":
    main()
