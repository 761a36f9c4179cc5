"""Write the trained pocket base as a diffusers folder: fp16 safetensors, settings, and what made it.

python -m velatura.pocket.export --state FOLDER [--to FOLDER] [--version 1] [--single-file FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from velatura import settings as user
from velatura import tensorfile
from velatura.families.sd15.save import to_single_file
from velatura.files import make_folder, write_bytes, write_text
from velatura.pocket.architecture import (
    AUTOENCODER,
    DENOISER,
    SCHEDULER,
    TEXT_ENCODER,
    build_autoencoder,
    build_denoiser,
    build_text_encoder,
)
from velatura.pocket.train import newest_weights, scaling_factor

TOKENIZER_FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")


def export(state: Path, folder: Path, *, version: int, commit: str) -> None:
    """Write the averaged weights of a training's newest checkpoint; an older base in the folder is replaced."""
    autoencoder = newest_weights(state / "autoencoder")["model"]
    trained = newest_weights(state / "denoiser")
    scale = scaling_factor(state)
    averaged = trained["averaged"]
    _part(folder / "vae", "diffusion_pytorch_model", autoencoder, build_autoencoder().state_dict())
    _part(folder / "unet", "diffusion_pytorch_model", averaged["denoiser"], build_denoiser().state_dict())
    _part(folder / "text_encoder", "model", averaged["text_encoder"], build_text_encoder().state_dict())
    _config(folder / "vae" / "config.json", {"_class_name": "AutoencoderKL", **AUTOENCODER, "scaling_factor": scale})
    _config(folder / "unet" / "config.json", {"_class_name": "UNet2DConditionModel", **DENOISER})
    text = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **TEXT_ENCODER}
    _config(folder / "text_encoder" / "config.json", text)
    _config(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    for name in TOKENIZER_FILES:
        make_folder(folder / "tokenizer")
        shutil.copyfile(state / "tokenizer" / name, folder / "tokenizer" / name)
    parts = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "scheduler": ["diffusers", SCHEDULER["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    told = json.loads((state / "settings.json").read_text(encoding="utf-8"))
    made = {"version": version, "commit": commit, "samples": _samples_seen(state), "settings": told}
    write_text(folder / "velatura.json", json.dumps(made, indent=2))
    _config(folder / "model_index.json", parts)


def _part(folder: Path, name: str, weights: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    tensors = {
        key: tensorfile.raw(value.half().cpu().numpy())
        for key, value in weights.items()
        if key in own and value.is_floating_point()
    }
    make_folder(folder)
    write_bytes(folder / f"{name}.safetensors", tensorfile.to_bytes(tensors, {"format": "pt"}))


def _config(path: Path, values: dict[str, Any]) -> None:
    make_folder(path.parent)
    write_text(path, json.dumps(values, indent=2, sort_keys=True) + "\n")


def _samples_seen(state: Path) -> int:
    newest = json.loads((state / "denoiser" / "newest.json").read_text(encoding="utf-8"))
    return int(newest["seen"])


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="velatura.pocket.export")
    parser.add_argument("--state", type=Path, required=True, help="folder of the training")
    parser.add_argument("--to", type=Path, default=user.BUILT_IN_BASES["pocket"], help="folder to write")
    parser.add_argument("--version", type=int, default=1, help="version of the weights")
    parser.add_argument("--single-file", type=Path, help="also write it as one file, as A1111 and ComfyUI load it")
    given = parser.parse_args()
    torch.set_num_threads(1)
    export(given.state, given.to, version=given.version, commit=_commit())
    if given.single_file is not None:
        make_folder(given.single_file.parent)
        write_bytes(given.single_file, to_single_file(given.to))


if __name__ == "__main__":
    main()
