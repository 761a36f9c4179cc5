"""What an adapter file says about itself: how it was trained, for which base, and its hashes.

`ss_*` keys are those of kohya's trainer, which A1111, ComfyUI, Civitai and every LoRA manager read;
`modelspec.*` is https://github.com/Stability-AI/ModelSpec, 1.0.1. All values are text as Python writes it. There are
no dates, and no folder of this machine: the same training gives the same bytes anywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from velatura import tensorfile
from velatura.tensorfile import RawTensor

MODELSPEC = "1.0.1"

NETWORK_MODULE = "networks.lora"
"""The module of kohya's trainer that reads such files; programs tell the kind of adapter by it."""

LYCORIS_MODULE = "lycoris.kohya"
"""The module that reads the other kinds."""

FILES = (".safetensors", ".ckpt", ".gguf", ".pt", ".bin")
"""How files of base models end."""


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What is known about a training at one of its checkpoints; None is "does not apply", never "unknown".

    A name that is a path on this machine is cut to its last part.
    """

    output_name: str
    """Name of the adapter; programs also offer it as an alias."""
    fingerprint: str
    """Of recipe, dataset, base and seed; the session is named after it."""

    base_name: str
    base_version: str = "sd_v1"
    """kohya's name of the family."""
    base_hash: str | None = None
    """sha256 of the base's file, hex."""
    base_short_hash: str | None = None
    """A1111's old hash of it, 8 hex digits."""
    architecture: str = "stable-diffusion-v1"
    """modelspec's name of the family."""
    prediction_type: str | None = "epsilon"
    """"epsilon", "v", or None where modelspec has no word for it (flow)."""
    clip_skip: int | None = None

    rank: int
    alpha: float
    kind: str = "lora"
    """A kind that is trained: "lora", "locon", "dora", "loha" or "lokr"."""
    rslora: bool = False
    dropout: float = 0.0
    ranks: tuple[str, ...] = ()
    """Layers of another rank, as the recipe has them."""
    targets: tuple[str, ...]
    """Presets and patterns, as the recipe has them."""

    steps: int
    """Optimizer steps done."""
    max_steps: int
    epoch: int
    """Of this checkpoint, from 1."""
    epochs: int
    batch_size: int
    gradient_accumulation: int = 1
    batches_per_epoch: int
    learning_rate: float
    text_learning_rate: float | None = None
    """None where no text encoder is trained."""
    optimizer: str
    optimizer_arguments: Mapping[str, object] = field(default_factory=dict)
    schedule: str
    """As kohya calls it: "constant", "cosine"..."""
    warmup_steps: int = 0
    max_grad_norm: float | None = None
    mixed_precision: str = "no"
    """"no", "fp16" or "bf16"."""
    seed: int
    loss_type: str = "l2"
    min_snr_gamma: float | None = None
    noise_offset: float | None = None
    zero_terminal_snr: bool = False

    dataset_name: str
    """Name of the dataset's folder."""
    train_images: int
    """Pictures trained on."""
    held_out_images: int = 0
    repeats: int = 1
    resolution: tuple[int, int]
    """Width and height of the training area, pixels."""
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """(width, height) -> pictures."""
    flip: bool = False
    caption_dropout: float = 0.0
    tag_frequency: Mapping[str, int] = field(default_factory=dict)
    """Words or tags of the captions and how often each occurs."""

    others: Mapping[str, object] = field(default_factory=dict)
    """Further values by kohya's names, without `ss_`; they win over those above."""

    software: str
    """Name and version of the program."""
    trigger: str | None = None
    title: str | None = None
    """None: the output name."""
    author: str | None = None
    description: str | None = None
    license: str | None = None
    tags: str | None = None
    usage_hint: str | None = None


def build(facts: TrainingFacts) -> dict[str, str]:
    """All metadata of a file but its hashes, which `writing.to_bytes` adds."""
    return {**_training(facts), **_modelspec(facts)}


def _training(facts: TrainingFacts) -> dict[str, str]:
    folder = _last_part(facts.dataset_name)
    arguments = ",".join(f"{name}={value}" for name, value in facts.optimizer_arguments.items())
    values: dict[str, object] = {
        "session_id": session_id(facts.fingerprint),
        "output_name": facts.output_name,
        "training_comment": f"{facts.software}, fingerprint {facts.fingerprint}",
        "v2": facts.base_version.startswith("sd_v2"),
        "base_model_version": facts.base_version,
        "sd_model_name": _base_name(facts.base_name),
        "clip_skip": facts.clip_skip,
        "network_module": NETWORK_MODULE if facts.kind == "lora" else LYCORIS_MODULE,
        "network_dim": facts.rank,
        "network_alpha": facts.alpha,
        "network_dropout": facts.dropout or None,
        "network_args": _json(_arguments(facts)),
        "learning_rate": facts.learning_rate,
        "unet_lr": facts.learning_rate,
        "text_encoder_lr": facts.text_learning_rate,
        "optimizer": f"{facts.optimizer}({arguments})" if arguments else facts.optimizer,
        "lr_scheduler": facts.schedule,
        "lr_warmup_steps": facts.warmup_steps,
        "max_grad_norm": facts.max_grad_norm,
        "mixed_precision": facts.mixed_precision,
        "seed": facts.seed,
        "steps": facts.steps,
        "max_train_steps": facts.max_steps,
        "epoch": facts.epoch,
        "num_epochs": facts.epochs,
        "num_batches_per_epoch": facts.batches_per_epoch,
        "batch_size_per_device": facts.batch_size,
        "total_batch_size": facts.batch_size * facts.gradient_accumulation,
        "gradient_accumulation_steps": facts.gradient_accumulation,
        "loss_type": facts.loss_type,
        "min_snr_gamma": facts.min_snr_gamma,
        "noise_offset": facts.noise_offset,
        "zero_terminal_snr": facts.zero_terminal_snr,
        "num_train_images": facts.train_images * facts.repeats,
        "num_validation_images": facts.held_out_images,
        "num_reg_images": 0,
        "resolution": facts.resolution,
        "enable_bucket": bool(facts.buckets),
        "bucket_info": _bucket_info(facts.buckets),
        "flip_aug": facts.flip,
        "caption_dropout_rate": facts.caption_dropout,
        "dataset_dirs": _json({folder: {"n_repeats": facts.repeats, "img_count": facts.train_images}}),
        "tag_frequency": _json({folder: dict(facts.tag_frequency)}),
    }
    if facts.base_hash is not None:
        values["new_sd_model_hash"] = facts.base_hash
    if facts.base_short_hash is not None:
        values["sd_model_hash"] = facts.base_short_hash
    values.update(facts.others)
    return {f"ss_{key}": str(value) for key, value in values.items()}


def _arguments(facts: TrainingFacts) -> dict[str, str]:
    """What is particular to the kind, as LyCORIS has it, and which layers are trained."""
    told = {"targets": ",".join(facts.targets)}
    if facts.kind != "lora":
        told["algo"] = facts.kind if facts.kind in ("loha", "lokr") else "locon"
    if facts.kind == "dora":
        told["dora_wd"] = "True"
    if facts.kind == "locon":
        told["use_tucker"] = "True"
    if facts.rslora:
        told["rs_lora"] = "True"
    if facts.ranks:
        told["ranks"] = ",".join(facts.ranks)
    return told


def _modelspec(facts: TrainingFacts) -> dict[str, str]:
    width, height = facts.resolution
    values = {
        "sai_model_spec": MODELSPEC,
        "architecture": f"{facts.architecture}/lora",
        "implementation": "diffusers",
        "implementation_version": facts.software,
        "title": facts.title or facts.output_name,
        "resolution": f"{width}x{height}",
        "prediction_type": facts.prediction_type,
        "encoder_layer": None if facts.clip_skip is None else str(facts.clip_skip),
        "trigger_phrase": facts.trigger,
        "author": facts.author,
        "description": facts.description,
        "license": facts.license,
        "tags": facts.tags,
        "usage_hint": facts.usage_hint,
    }
    return {f"modelspec.{key}": value for key, value in values.items() if value}


def session_id(fingerprint: str) -> int:
    """A number below 2^32 for a run; kohya's trainer draws one at random."""
    return int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:4], "big")


def hashes(tensors: Mapping[str, RawTensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The hashes by which other programs know the file.

    As kohya's trainer has it, they are of the file as it would be with its `ss_*` metadata alone, so
    that a title or a thumbnail can be edited later. `sshs_model_hash` is the sha256 of all that stands behind the
    header, its first 12 digits are AutoV3; `sshs_legacy_hash` is of 64 KiB from 1 MiB on, hence of nothing where the
    file is smaller.
    """
    training = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    bare = tensorfile.to_bytes(tensors, training)
    digest = tensorfile.tensor_hash(bare)
    return {
        "sshs_model_hash": digest,
        "sshs_legacy_hash": tensorfile.legacy_hash(bare),
        "modelspec.hash_sha256": f"0x{digest}",
    }


def _bucket_info(buckets: Mapping[tuple[int, int], int]) -> str:
    listed = [{"resolution": list(size), "count": buckets[size]} for size in sorted(buckets)]
    return _json({"buckets": {str(index): bucket for index, bucket in enumerate(listed)}} if listed else {})


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _last_part(path: str) -> str:
    return next((part for part in reversed(re.split(r"[\\/]+", path)) if part), "")


def _base_name(name: str) -> str:
    """A model's name as given ("owner/model"), or the last part of a path on this machine."""
    return (
        name if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) and not name.endswith(FILES) else _last_part(name)
    )
