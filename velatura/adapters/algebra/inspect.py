"""What an adapter file says of itself: kind, family, ranks, training, tags, trigger, hashes, from its header alone.

Only alphas are read besides, a few bytes each. What the weights say is in `spectrum`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from velatura import tensorfile
from velatura.adapters.algebra import blocks, store
from velatura.adapters.algebra.factors import FactorFile, open_file
from velatura.adapters.signatures import made_for
from velatura.files import BLOCK, disk_problems, sha256

TAGS_SHOWN = 20

SETTINGS = {
    "ss_output_name": "name", "modelspec.title": "title", "modelspec.author": "author", "modelspec.license": "licence",
    "modelspec.date": "date", "modelspec.resolution": "resolution", "modelspec.architecture": "architecture",
    "ss_sd_model_name": "base", "ss_base_model_version": "base version", "ss_network_module": "module",
    "ss_learning_rate": "learning rate", "ss_unet_lr": "denoiser's learning rate",
    "ss_text_encoder_lr": "text encoders' learning rate", "ss_optimizer": "optimizer", "ss_lr_scheduler": "schedule",
    "ss_steps": "steps", "ss_epoch": "epoch", "ss_num_epochs": "epochs", "ss_num_train_images": "pictures",
    "ss_total_batch_size": "batch size", "ss_clip_skip": "clip skip", "ss_seed": "seed",
    "ss_noise_offset": "noise offset", "ss_min_snr_gamma": "min-SNR gamma", "ss_mixed_precision": "mixed precision",
    "ss_training_comment": "comment", "modelspec.usage_hint": "hint", "modelspec.description": "description",
    "modelspec.merged_from": "merged from",
}  # fmt: skip
"""Metadata key -> what a person calls it."""


@dataclass(frozen=True)
class Inspection:
    """What a file says of itself."""

    file: str
    """Its name."""
    size: int
    """Bytes."""
    family: str | None
    """Of bases, told from its keys; None where they are not known."""
    kinds: Mapping[str, int]
    """Kind of change -> layers."""
    ranks: Mapping[int, int]
    """Rank -> layers."""
    scales: Mapping[str, int]
    """alpha / rank, written with four digits -> layers; "1" where a file has no alpha."""
    precisions: Mapping[str, int]
    """Type -> tensors; alphas do not count."""
    parameters: int
    blocks: Mapping[str, int]
    """Block -> layers."""
    trigger: str | None
    """The words that call it, as the file says."""
    tags: Mapping[str, int]
    """The commonest tags of its captions, and how often each occurs."""
    settings: Mapping[str, str]
    """What the file says of its training, by what a person calls it."""
    lineage: tuple[str, ...]
    """What was done to it, oldest first."""
    hashes: Mapping[str, str]
    """Those that the header states, unproven."""
    problems: tuple[str, ...]
    unknown_keys: tuple[str, ...] = ()
    true_hashes: Mapping[str, str] = field(default_factory=dict)
    """Worked out from the file's bytes, where that was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def inspect(path: Path, *, hashes: bool = False) -> Inspection:
    """Read a file's header.

    Args:
        hashes: work out the true hashes as well, which reads the whole file.

    Raises:
        FileProblem: this is not a safetensors file, or it is damaged.
        AdapterError: it holds no adapter.
    """
    file = open_file(path, folders=True)
    metadata, layers = file.metadata, list(file.layers.values())
    weighty = [entry for entry in file.header.entries.values() if entry.shape and math.prod(entry.shape) > 1]
    stated = {key: metadata[key] for key in store.blank_hashes() if key in metadata}
    truth = true_hashes(file.path) if hashes else {}
    return Inspection(
        path.name,
        file.path.stat().st_size,
        made_for(file.header.entries),
        dict(Counter(layer.kind for layer in layers).most_common()),
        dict(Counter(rank for layer in layers if (rank := file.rank(layer)) is not None).most_common()),
        _scales(file),
        dict(Counter(entry.dtype for entry in weighty).most_common()),
        sum(math.prod(entry.shape) for entry in weighty),
        {block: len(found) for block, found in blocks.gathered(file.layers).items()},
        metadata.get("modelspec.trigger_phrase") or None,
        _tags(metadata),
        {told: metadata[key] for key, told in SETTINGS.items() if metadata.get(key) not in (None, "", "None")},
        tuple(_lineage(metadata)),
        stated,
        tuple(_problems(file, stated, truth)),
        file.others,
        truth,
    )


def true_hashes(path: Path) -> dict[str, str]:
    """The hashes by which programs know the file: of all of it, and of the tensors alone.

    AutoV2 is A1111's "Model hash"; AutoV3 is in "Lora hashes" and does not change with the metadata. AutoV1 is the old
    one, of 64 KiB from 1 MiB on.
    """
    with disk_problems(path), path.open("rb") as file:
        file.seek(store.LEGACY_WINDOW[0])
        old = hashlib.sha256(file.read(BLOCK)[: store.LEGACY_WINDOW[1] - store.LEGACY_WINDOW[0]]).hexdigest()
    whole, content = sha256(path), tensorfile.content_hash(path)
    return {"sha256": whole, "AutoV1": old[:8], "AutoV2": whole[:10], "AutoV3": content[:12], "model_hash": content}


def _scales(file: FactorFile) -> dict[str, int]:
    found: Counter[str] = Counter()
    for layer in file.layers.values():
        rank = file.rank(layer)
        if rank and layer.kind != "incomplete":
            found[f"{file.alpha(layer, rank) / rank:.4g}"] += 1
    return dict(found.most_common())


def _tags(metadata: Mapping[str, str]) -> dict[str, int]:
    folders = _json(metadata.get("ss_tag_frequency"))
    counted: Counter[str] = Counter()
    for tags in folders.values():
        if isinstance(tags, dict):
            counted.update({str(tag): count for tag, count in tags.items() if type(count) is int})
    return dict(counted.most_common(TAGS_SHOWN))


def _lineage(metadata: Mapping[str, str]) -> list[str]:
    try:
        steps = json.loads(metadata.get(store.LINEAGE, "[]"))
        return [
            f"{step['command']} of {', '.join(str(source['name']) for source in step['from'])}"
            + "".join(f", {name} {value}" for name, value in sorted(step["settings"].items()))
            for step in steps
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _json(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _problems(file: FactorFile, stated: Mapping[str, str], truth: Mapping[str, str]) -> list[str]:
    found = []
    if incomplete := [layer.stem for layer in file.layers.values() if layer.kind == "incomplete"]:
        found.append(f"{len(incomplete)} layers are incomplete: {incomplete[0]}")
    if file.others:
        found.append(f"{len(file.others)} keys are of no known kind: {file.others[0]}")
    ranks = {file.rank(layer) for layer in file.layers.values() if layer.kind == "LoRA"}
    told = file.metadata.get("ss_network_dim", "")
    if re.fullmatch("[0-9]{1,6}", told) and len(ranks) == 1 and ranks != {int(told)}:
        found.append(f"the file says rank {told}, its layers have rank {ranks.pop()}")
    if truth and (said := stated.get("sshs_model_hash")) and said != truth["model_hash"]:
        found.append(f"its header states a wrong hash: {said[:12]}, it is {truth['AutoV3']}")
    if truth and (said := stated.get("modelspec.hash_sha256")) and said.removeprefix("0x") != truth["model_hash"]:
        found.append(f"its header states a wrong modelspec hash: {said[:14]}, it is 0x{truth['AutoV3']}")
    return found
