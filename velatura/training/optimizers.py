"""Optimizers by the names that recipes give them, and the parameters in groups with rates of their own.

Those that torch has not come from other libraries, which are looked for when they are asked for. Their states are
plain tensors and numbers, so `checkpoint` keeps any of them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from velatura.adapters.weights import part_of
from velatura.errors import RecipeError
from velatura.recipe import OPTIMIZER_SETTINGS, TrainSettings
from velatura.training.adapter import of_text, told_for
from velatura.training.pivotal import is_word
from velatura.training.rate import learning_rate

EXTRA = 'pip install "velatura[optim]"'


def made(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings, *, word_rate: float = 0.0
) -> torch.optim.Optimizer:
    """The recipe's optimizer over an adapter's parameters.

    Args:
        word_rate: learning rate of a word among them.

    Raises:
        RecipeError: its library is not there, or this device cannot have it.
    """
    told = {**OPTIMIZER_SETTINGS[settings.optimizer], **settings.optimizer_settings}
    device = next(iter(parameters.values())).device.type
    build = _BUILDERS[settings.optimizer]
    words = {name: one for name, one in parameters.items() if is_word(name)}
    groups = grouped({name: one for name, one in parameters.items() if name not in words}, settings)
    if words:  # a word is no change that could be kept small: nothing decays
        told_apart = {"encoder": None, "factor": word_rate / settings.learning_rate, "weight_decay": 0.0}
        groups.append({"params": list(words.values()), "names": list(words), **told_apart})
    return build(groups, {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}, told, device)


def grouped(parameters: Mapping[str, nn.Parameter], settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameters with the same rate together: denoiser, text encoders, blocks and factors with rates of their own.

    Raises:
        RecipeError: the rates of text encoders are not as many as those that are trained.
    """
    encoders = sorted({part_of(name) for name in parameters if of_text(name)})
    told = settings.text_learning_rate
    if isinstance(told, list) and len(told) != len(encoders):
        raise RecipeError(
            f"{len(told)} rates are told for {len(encoders)} text encoders that are trained",
            where="train.text_learning_rate",
            fix="give one for each, or one for all",
        )
    kinds: dict[tuple[int, float], list[str]] = {}
    for name in parameters:
        encoder = encoders.index(part_of(name)) if of_text(name) else -1
        factor = told_for(name, settings.rates, 1.0) * (settings.lora_plus if name.endswith(".up") else 1.0)
        kinds.setdefault((encoder, factor), []).append(name)
    return [
        {
            "params": [parameters[name] for name in names],
            "names": names,
            "encoder": None if encoder < 0 else encoder,
            "factor": factor,
        }
        for (encoder, factor), names in sorted(kinds.items(), key=lambda kind: kind[0])
    ]


def step(optimizer: torch.optim.Optimizer, nothing: Tensor) -> None:
    """One step, but where there is nothing to learn from: weights and what is remembered then stay as they are.

    torch's fused optimizers look themselves; before the others the device is waited for.

    Args:
        nothing: 1.0 where there is nothing, else 0.0; a scalar.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = nothing  # type: ignore[attr-defined]
        optimizer.step()
    elif not bool(nothing):
        optimizer.step()


def set_rates(optimizer: torch.optim.Optimizer, settings: TrainSettings, step: int) -> None:
    """Give each group its rate of a step."""
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(settings, step, encoder=group["encoder"])


def measured(optimizer: torch.optim.Optimizer, settings: TrainSettings, step: int) -> dict[str, float]:
    """The learning rate of a step, and where the optimizer finds it, what it found."""
    rate = {"learning_rate": learning_rate(settings, step)}
    found = optimizer.param_groups[0].get("d")
    return rate if found is None else rate | {"found_rate": rate["learning_rate"] * float(found)}


@contextlib.contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The weights as a schedule-free optimizer would have them used, for a while; others' are that already.

    What it trains comes back as a copy: to and fro by its own arithmetic would not be exact.
    """
    if not hasattr(optimizer, "eval"):
        yield
        return
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    before = [parameter.detach().clone() for parameter in held]
    optimizer.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(held, before, strict=True):
                parameter.copy_(value)
        for group in optimizer.param_groups:
            group["train_mode"] = True


class RiemannianAdamW(torch.optim.AdamW):
    """AdamW on the gradients of a LoRA's factors, each made independent of the other factor's size.

    With down (R, I), up (O, R) and damping d:  grad(down) <- (up' up + d)^-1 grad(down),
    grad(up) <- grad(up) (down down' + d)^-1. Source: Zhang and Pilanci 2024, arXiv:2402.02347, algorithm 2.
    """

    def __init__(self, groups: list[dict[str, Any]], *, damping: float, **told: Any) -> None:
        """Groups name their parameters, "<layer>.down" and "<layer>.up", in `names`."""
        super().__init__(groups, **told)
        self.damping = damping
        known = {name: one for group in groups for name, one in zip(group["names"], group["params"], strict=True)}
        self.pairs: dict[int, list[tuple[nn.Parameter, nn.Parameter]]] = {}
        for name, down in known.items():
            if name.endswith(".down"):
                pair = (down, known[f"{name.removesuffix('.down')}.up"])
                self.pairs.setdefault(len(down), []).append(pair)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step; gradients are changed in place."""
        for rank, pairs in self.pairs.items():
            damped = self.damping * torch.eye(rank, device=pairs[0][0].device)
            of_down = torch.stack([_gram(up.flatten(1).t()) for _, up in pairs]) + damped
            of_up = torch.stack([_gram(down.flatten(1)) for down, _ in pairs]) + damped
            left, right = (torch.linalg.inv_ex(one).inverse for one in (of_down, of_up))
            for (down, up), before, behind in zip(pairs, left, right, strict=True):
                if down.grad is not None and up.grad is not None:
                    down.grad.copy_((before @ down.grad.flatten(1)).view_as(down))
                    up.grad.copy_((up.grad.flatten(1) @ behind).view_as(up))
        return super().step(closure)


def _gram(factor_RX: Tensor) -> Tensor:
    return factor_RX @ factor_RX.t()


Groups = list[dict[str, Any]]
Told = dict[str, Any]


def _moments(told: Told) -> Told:
    return {"betas": (told["beta1"], told["beta2"]), **({"eps": told["eps"]} if "eps" in told else {})}


def _adamw(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, **base, **_moments(told), fused=device in ("cpu", "cuda"))


def _adamw8bit(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    if device != "cuda":
        raise RecipeError("adamw8bit needs an NVIDIA card", where="train.optimizer", fix="set it to adamw")
    made: torch.optim.Optimizer = _library("bitsandbytes.optim").AdamW8bit(groups, **base, **_moments(told))
    return made


def _adafactor(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    # torch's own scales the rate with the weights' size, and a LoRA begins with weights of zero
    made: torch.optim.Optimizer = _library("transformers.optimization").Adafactor(
        groups,
        **base,
        eps=(told["eps"], 1e-3),
        clip_threshold=told["clip_threshold"],
        decay_rate=told["decay_rate"],
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )
    return made


def _prodigy(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    rest = {name: told[name] for name in ("d0", "d_coef", "use_bias_correction", "safeguard_warmup")}
    with contextlib.redirect_stdout(io.StringIO()):  # it greets
        made: torch.optim.Optimizer = _library("prodigyopt").Prodigy(groups, **base, **_moments(told), **rest)
    return made


def _lion(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    made: torch.optim.Optimizer = _library("pytorch_optimizer").Lion(groups, **base, **_moments(told))
    return made


def _schedule_free(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    rest = {name: told[name] for name in ("r", "weight_lr_power")}
    made = _library("schedulefree").AdamWScheduleFree(groups, **base, **_moments(told), **rest)
    made.train()
    optimizer: torch.optim.Optimizer = made
    return optimizer


def _riemannian(groups: Groups, base: Told, told: Told, device: str) -> torch.optim.Optimizer:
    fused = device in ("cpu", "cuda")
    return RiemannianAdamW(groups, **base, **_moments(told), damping=told["damping"], fused=fused)


_BUILDERS: Mapping[str, Callable[[Groups, Told, Told, str], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "prodigy": _prodigy,
    "lion": _lion,
    "schedule_free": _schedule_free,
    "riemannian": _riemannian,
}


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = re.split(r"\.", module)[0].replace("_", "-")
        raise RecipeError(f"this optimizer needs {name}", where="train.optimizer", fix=EXTRA) from error
