"""What an adapter file says about its training: from recipe, pictures and base alone, no dates, no paths."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from velatura.adapters import writing
from velatura.adapters.metadata import TrainingFacts, build
from velatura.adapters.weights import AdapterFile, Change
from velatura.family import Model
from velatura.recipe import FolderSettings, ObjectiveSettings, Recipe
from velatura.training.adapter import changes_text
from velatura.training.dataset import Pictures
from velatura.training.loop import AdapterBytes
from velatura.training.pivotal import LearnedWord
from velatura.training.rate import full_rate
from velatura.version import __version__


def run_fingerprint(recipe: Recipe, pictures: Pictures, base_hash: str) -> str:
    """A hash over everything that decides what a run computes; not where base and pictures lie."""
    where: dict[str, Any] = {
        "base": {"model", "sha256", "vae", "text_encoders", "assistant", "strict"},
        "dataset": {"path"},
        "tracking": True,
    }
    tree = recipe.model_dump(mode="json", exclude=where)
    for block in tree["dataset"]["blocks"]:
        del block["path"]
    told = json.dumps(tree, sort_keys=True)
    return hashlib.sha256(f"{told}\n{pictures.fingerprint}\n{base_hash}".encode()).hexdigest()


def adapter_writer(
    recipe: Recipe, pictures: Pictures, model: Model, *, per_epoch: int, word: LearnedWord | None = None
) -> AdapterBytes:
    """A function from weights and step to the bytes of the adapter's file.

    Args:
        word: goes with it, as it is when the function is called.
    """
    settings = recipe.train
    fingerprint = run_fingerprint(recipe, pictures, model.hash)
    words = Counter(
        tag.strip()
        for one in pictures.train
        for caption in one.captions[:1]
        for tag in caption.split(",")
        if tag.strip()
    )
    resolution = recipe.dataset.resolution or model.resolution
    text_rate = full_rate(settings, 0)

    def write(layers: dict[str, Change], step: int) -> bytes:
        facts = TrainingFacts(
            output_name=recipe.name,
            fingerprint=fingerprint,
            base_name=model.name,
            base_version=model.variant.name,
            base_hash=model.hash,
            architecture=model.variant.architecture,
            prediction_type=None if model.objective.kind == "flow" else model.objective.kind,
            clip_skip=recipe.base.clip_skip,
            rank=recipe.adapter.rank,
            alpha=recipe.adapter.alpha,
            kind=recipe.adapter.kind,
            rslora=recipe.adapter.rslora,
            dropout=recipe.adapter.dropout,
            ranks=tuple(recipe.adapter.ranks),
            targets=tuple(recipe.adapter.targets),
            steps=step,
            max_steps=settings.steps,
            epoch=-(-step // per_epoch),
            epochs=-(-settings.steps // per_epoch),
            batch_size=settings.batch,
            gradient_accumulation=settings.accumulation,
            batches_per_epoch=per_epoch,
            learning_rate=settings.learning_rate,
            text_learning_rate=text_rate if changes_text(layers) else None,
            optimizer=settings.optimizer,
            optimizer_arguments={"weight_decay": settings.weight_decay, **settings.optimizer_settings},
            schedule=settings.schedule,
            warmup_steps=settings.warmup_steps,
            max_grad_norm=settings.clip,
            seed=settings.seed,
            loss_type=recipe.objective.loss,
            min_snr_gamma=recipe.objective.min_snr or None,
            noise_offset=recipe.objective.noise_offset or None,
            zero_terminal_snr=model.objective.zero_terminal_snr,
            others=_others(recipe, pictures),
            dataset_name=pictures.dataset.folder.name,
            train_images=len(pictures.train),
            held_out_images=len(pictures.held_out),
            resolution=(resolution, resolution),
            buckets=pictures.buckets,
            flip=any(one.flip for one in recipe.dataset.folders),
            caption_dropout=recipe.dataset.caption_dropout,
            tag_frequency=dict(words),
            software=f"velatura {__version__}",
            trigger=", ".join(recipe.dataset.triggers) or None,
            title=recipe.name,
        )
        bundled = {} if word is None else word.bundled()
        return writing.to_bytes(AdapterFile(layers, build(facts), bundled), keys=model.family.keys)

    return write


def _others(recipe: Recipe, pictures: Pictures) -> dict[str, object]:
    """Settings that are not as usual, by kohya's names where there are such."""
    told, usual = recipe.objective, ObjectiveSettings()
    rules, of_folders = recipe.dataset.folders[0], FolderSettings()
    known = (
        ("debiased_estimation", "debiased", told, usual),
        ("scale_v_pred_loss_like_noise_pred", "v_as_noise", told, usual),
        ("v_pred_like_loss", "v_like", told, usual),
        ("huber_c", "huber_c", told, usual),
        ("huber_schedule", "huber_schedule", told, usual),
        ("noise_offset_random_strength", "noise_offset_random", told, usual),
        ("adaptive_noise_scale", "noise_offset_adaptive", told, usual),
        ("multires_noise_iterations", "multires_iterations", told, usual),
        ("multires_noise_discount", "multires_discount", told, usual),
        ("ip_noise_gamma", "input_perturbation", told, usual),
        ("ip_noise_gamma_random_strength", "input_perturbation_random", told, usual),
        ("timestep_sampling", "timesteps", told, usual),
        ("discrete_flow_shift", "shift", told, usual),
        ("weighting_scheme", "flow_weighting", told, usual),
        ("min_timestep", "min_timestep", told, usual),
        ("max_timestep", "max_timestep", told, usual),
        ("shuffle_caption", "shuffle", rules, of_folders),
        ("keep_tokens", "keep_tokens", rules, of_folders),
        ("caption_tag_dropout_rate", "tag_dropout", rules, of_folders),
        ("caption_dropout_every_n_epochs", "caption_dropout_every", rules, of_folders),
    )
    found = {
        name: getattr(of, field) for name, field, of, plain in known if getattr(of, field) != getattr(plain, field)
    }
    found["num_train_images"] = sum(one.repeats for one in pictures.train)
    if pictures.regularisation:
        found["num_reg_images"] = sum(one.repeats for one in pictures.regularisation)
        found["prior_loss_weight"] = recipe.dataset.prior_weight
    return found
