"""How long and how fast kohya's trainers train: steps, batches, rates, their course, the optimizer, checkpoints.

Facts (`library/train_util.py`): epochs win over steps, and 1600 steps are taken where neither is told; a step is an
optimizer's step. A warm-up below 1 is a share of the steps. `unet_lr` and `text_encoder_lr` win over `learning_rate`,
which is 2e-6 without being told; AdamW decays by 0.01, others not at all. Gradients are shortened to 1.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from velatura.foreign.translation import Translation, number, numbers, text, whole, words

SCHEDULES: Mapping[str, str] = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "cosine": "cosine",
    "cosine_with_restarts": "cosine_restarts",
    "cosine_with_min_lr": "cosine",
    "linear": "linear",
    "polynomial": "polynomial",
}

OPTIMIZERS: Mapping[str, str] = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "pagedadamw8bit": "adamw8bit",
    "adafactor": "adafactor",
    "lion": "lion",
    "prodigy": "prodigy",
    "adamwschedulefree": "schedule_free",
}
"""Their names in small letters, and ours."""

DECAY = 0.01
"""Of AdamW, without being told; of the others 0."""

WITHOUT_DECAY = ("lion", "prodigy", "adafactor", "schedule_free")


def translate(translation: Translation) -> None:
    """Carry over the course of a training."""
    length(translation)
    translation.carry("train_batch_size", "train.batch", whole, 1)
    translation.carry("gradient_accumulation_steps", "train.accumulation", whole)
    rates(translation)
    schedule(translation)
    optimizer(translation)
    clipping = translation.take("max_grad_norm", number, 1.0)
    if clipping != 1.0:
        translation.put("train.clip", clipping, "max_grad_norm", clipping)
    translation.carry("seed", "train.seed", whole)
    checkpoints(translation)


def length(translation: Translation) -> None:
    """Steps or epochs."""
    epochs = translation.take("max_train_epochs", whole, 0)
    told = translation.told("max_train_steps")
    steps = translation.take("max_train_steps", whole, 1600)
    if epochs:
        translation.put("train.epochs", epochs, "max_train_epochs", epochs)
        if told:
            translation.leave("max_train_steps", steps, "max_train_epochs wins over it")
    else:
        translation.put("train.steps", steps, "max_train_steps", steps, told=told)


def rates(translation: Translation) -> None:
    """Learning rates of the denoiser and of each text encoder."""
    told = translation.told("learning_rate") or translation.told("unet_lr")
    key = "unet_lr" if translation.told("unet_lr") else "learning_rate"
    common = translation.take("learning_rate", number, 2e-6)
    denoiser = translation.take("unet_lr", number, common)
    texts = translation.take("text_encoder_lr", numbers, list[float]()) or [common]
    if denoiser:
        translation.put("train.learning_rate", denoiser, key, denoiser, told=told)
    if not any(texts) or "text" not in translation.tree.get("adapter", {}).get("targets", []):
        return
    first = next(rate for rate in texts if rate)
    if not denoiser:
        translation.put("train.learning_rate", first, "text_encoder_lr", first)
    if 0.0 in texts and any(texts):
        translation.leave("text_encoder_lr", texts, "each text encoder that adapter.targets names is trained")
    elif len(set(texts)) > 1:
        translation.put("train.text_learning_rate", texts, "text_encoder_lr", texts)
    elif first != denoiser:
        translation.put("train.text_learning_rate", first, "text_encoder_lr", first)


def schedule(translation: Translation) -> None:
    """The course of the learning rate."""
    told = translation.told("lr_scheduler")
    name = translation.take("lr_scheduler", text, "constant")
    ours = SCHEDULES.get(name)
    if ours is None:
        translation.leave("lr_scheduler", name, f"there is no such course here; it is {_usual(translation)}")
    else:
        translation.put("train.schedule", ours, "lr_scheduler", name, told=told)
    warmup = translation.take("lr_warmup_steps", _steps_or_share, 0.0)
    if warmup and name != "constant":
        steps = int(warmup) if warmup >= 1 else warmup
        translation.put("train.warmup", steps, "lr_warmup_steps", steps)
    cycles = translation.take("lr_scheduler_num_cycles", whole, 1)
    if name == "cosine_with_restarts":
        translation.put("train.cycles", cycles, "lr_scheduler_num_cycles", cycles)
    power = translation.take("lr_scheduler_power", number, 1.0)
    if name == "polynomial":
        translation.put("train.power", power, "lr_scheduler_power", power)
    least = translation.take("lr_scheduler_min_lr_ratio", number, 0.0)
    if name == "cosine_with_min_lr":
        translation.put("train.floor", least, "lr_scheduler_min_lr_ratio", least)


def _usual(translation: Translation) -> str:
    return str(translation.tree.get("train", {}).get("schedule", "cosine"))


def _steps_or_share(value: object) -> float:
    """Steps, or a share of them: below 1, or in percent."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return number(value)


def optimizer(translation: Translation) -> None:
    """The optimizer and its arguments."""
    key = next((one for one in ("use_8bit_adam", "use_lion_optimizer") if translation.waiting.pop(one, None)), "")
    told = translation.take("optimizer_type", text, "")
    name = told or {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}.get(key, "AdamW")
    ours = OPTIMIZERS.get(name.lower())
    if ours is None:
        translation.leave("optimizer_type", name, "there is no such optimizer here; this trains with AdamW")
    else:
        translation.put("train.optimizer", ours, key or "optimizer_type", name, told=bool(told or key))
    given = dict(word.partition("=")[::2] for word in translation.take("optimizer_args", words, list[str]()))
    decay = given.pop("weight_decay", None)
    if decay is not None:
        translation.put("train.weight_decay", _literal(decay), "optimizer_args weight_decay", decay)
    elif ours in WITHOUT_DECAY:
        translation.put("train.weight_decay", 0.0, "optimizer_args weight_decay", 0.0, told=False)
    _further(translation, given)


def _further(translation: Translation, given: Mapping[str, str]) -> None:
    """Further arguments of the optimizer: `betas=0.9,0.99` are two settings here."""
    found: dict[str, object] = {}
    for argument, value in given.items():
        key, read = f"optimizer_args {argument}", _literal(value)
        if argument == "betas" and isinstance(read, tuple):
            found |= {f"beta{place}": beta for place, beta in enumerate(read, start=1)}
        else:
            found[argument] = read
        before = len(translation.carried)
        translation.put("train.optimizer_settings", found, key, value)
        if len(translation.carried) == before:
            found.pop(argument, None)


def _literal(value: str) -> object:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def checkpoints(translation: Translation) -> None:
    """How often the adapter is kept."""
    steps = translation.take("save_every_n_steps", whole, 0)
    epochs = translation.take("save_every_n_epochs", whole, 0)
    if steps:
        translation.put("checkpoints.every", steps, "save_every_n_steps", steps)
    if epochs:
        translation.put("checkpoints.every_epochs", epochs, "save_every_n_epochs", epochs)
    translation.carry("validate_every_n_steps", "validation.every", whole)
    translation.carry("validate_every_n_epochs", "validation.every_epochs", whole)
