"""The training loop, read top to bottom.

It yields events: progress, metrics, checkpoints as they stand on disk. Stopping the iteration stops
the training; what was published stays. Everything drawn at a step follows from the seed and the
step's number, so going on from a checkpoint is the uninterrupted run, bit for bit on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from velatura.adapters.lora import Injected
from velatura.adapters.weights import Change, part_of
from velatura.errors import AdapterError, TrainingError
from velatura.events import Checkpoint, Event, Metric, Note, Progress, Resumed
from velatura.family import Model
from velatura.recipe import Recipe, TrainSettings
from velatura.run import CheckpointFolder, Request, Run, wait_while_paused
from velatura.training.adapter import changes_text, of_text, told_for
from velatura.training.breakdown import place
from velatura.training.checkpoint import load_state, state_bytes
from velatura.training.data import Batches, Cached
from velatura.training.losses import loss
from velatura.training.rate import learning_rate
from velatura.weights.policy import precision

METRIC_EVERY = 10
"""Steps between two recorded losses."""

CALMER = "lower train.learning_rate, which starts a new run; the checkpoints so far are kept"

AdapterBytes = Callable[[dict[str, Change], int], bytes]
"""The adapter's file from its weights and the step."""


def train(
    model: Model, injected: Injected, cached: Cached, recipe: Recipe, run: Run, *, adapter_bytes: AdapterBytes
) -> Iterator[Event]:
    """Train the injected adapter to the recipe's last step, from the run's newest resumable checkpoint on.

    Yields a `Checkpoint` right after each is whole on disk. A request to stop ends the loop early,
    with a checkpoint at the step reached.

    Raises:
        TrainingError: loss or gradients are no numbers, or do not depend on what is trained; nothing of that step is
            kept.
        RunError: the checkpoint to go on from is damaged.
    """
    settings = recipe.train
    parameters = injected.named()
    optimizer = torch.optim.AdamW(
        _groups(parameters, settings), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    batches = Batches(model, cached, recipe, encode_texts=changes_text(injected.layers))
    step = resume(run, injected, optimizer)
    forget_old_states(run, keep=recipe.checkpoints.keep_state)  # a killed process may not have come to it
    if step or run.events():  # an earlier start may have ended before its first checkpoint
        yield Resumed(step)
    controls = run.control_end()
    started, first = time.monotonic(), step
    losses: list[torch.Tensor] = []
    while step < settings.steps:
        with injected.step(step):
            value = torch.zeros((), device=model.policy.device)
            for batch in batches.of(step):
                part = loss(model, batch, recipe.objective)
                if part.requires_grad:  # not where nothing that is trained is read: the next line says so
                    part.backward()  # type: ignore[no-untyped-call]
                value += part.detach()
        _complete_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), settings.clip, error_if_nonfinite=False)
        if not bool(norm.isfinite() & value.isfinite()):  # waits for the device: nothing broken may be taken over
            with injected.step(step):
                where = place(model, injected, batches.of(step), recipe.objective)
            what = f"training broke down at step {step + 1}: what is no number appears {where}"
            raise TrainingError(what, fix=_calmer(model))
        _set_rates(optimizer, settings, step)
        losses.append(value)
        if (step + 1) % METRIC_EVERY == 0 or due(recipe, step + 1):
            mean = float(torch.stack(losses).mean())
            yield Metric(step + 1, {"loss": mean, "learning_rate": learning_rate(settings, step)})
            losses = []
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        seconds = (time.monotonic() - started) / (step - first) * (settings.steps - step)
        yield Progress("training", step, settings.steps, round(seconds, 1))
        asked, controls = run.requests(controls)
        while _pauses(asked):
            yield Note("paused")
            more, controls = wait_while_paused(run, controls)
            asked += more
        if due(recipe, step) or _wants_checkpoint(asked):
            files = {
                "adapter.safetensors": _sound(model, adapter_bytes, injected.weights(), step),
                "state.safetensors": state_bytes(parameters, optimizer, step=step),
            }
            published = run.publish(step, files)
            forget_old_states(run, keep=recipe.checkpoints.keep_state)
            yield Checkpoint(step, published.path.relative_to(run.path).as_posix())
        if "stop" in asked:
            yield Note(f"stopped at step {step}; start it again to go on")
            return


def _groups(parameters: Mapping[str, nn.Parameter], settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameters with the same learning rate together: denoiser and text encoders apart, and blocks with their own."""
    kinds: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, one in parameters.items():
        kinds.setdefault((of_text(name), told_for(name, settings.rates, 1.0)), []).append(one)
    return [
        {"params": chosen, "text": text, "factor": factor}
        for (text, factor), chosen in sorted(kinds.items(), key=lambda kind: kind[0])
    ]


def _set_rates(optimizer: torch.optim.Optimizer, settings: TrainSettings, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(settings, step, text=group["text"])


def _complete_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Zeros for layers that nothing reads, such as the text encoder's last where an earlier one is read.

    Raises:
        TrainingError: nothing at all of a part is read.
    """
    reached = {part_of(name) for name, parameter in parameters.items() if parameter.grad is not None}
    for name, parameter in parameters.items():
        if part_of(name) not in reached:
            raise TrainingError(
                f"what adapter.targets names of {part_of(name)} changes nothing in this base",
                fix=f"leave {part_of(name)} out of adapter.targets",
            )
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def resume(run: Run, injected: Injected, optimizer: torch.optim.Optimizer) -> int:
    """Go back to the newest checkpoint that has its state; the step to go on from."""
    for checkpoint in reversed(run.checkpoints()):
        if checkpoint.state.exists():
            run.verify(checkpoint)
            return load_state(checkpoint.state, injected.named(), optimizer)
    return 0


def due(recipe: Recipe, step: int) -> bool:
    """Whether a checkpoint is due after this many steps."""
    return step % recipe.checkpoints.every == 0 or step == recipe.train.steps


def forget_old_states(run: Run, *, keep: int) -> None:
    """Keep the optimizer's state of the newest checkpoints only; it is three times the adapter."""
    with_state: list[CheckpointFolder] = [one for one in run.checkpoints() if one.state.exists()]
    for checkpoint in with_state[:-keep]:
        run.drop_state(checkpoint)


def _pauses(asked: list[Request]) -> bool:
    """Whether, of what was asked since the last step, the last word is to pause."""
    return "stop" not in asked and [one for one in asked if one in ("pause", "continue")][-1:] == ["pause"]


def _wants_checkpoint(asked: list[Request]) -> bool:
    return any(request in ("stop", "snapshot", "preview") for request in asked)


def _calmer(model: Model) -> str:
    """What to change where training has broken down."""
    if model.policy.dtype == torch.float32:
        return CALMER
    return f"set memory.precision to fp32 (it is {precision(model.policy.dtype)}), or {CALMER}"


def _sound(model: Model, adapter_bytes: AdapterBytes, weights: dict[str, Change], step: int) -> bytes:
    """The adapter's file; weights that are not numbers are never written."""
    try:
        return adapter_bytes(weights, step)
    except AdapterError as error:
        raise TrainingError(f"training has broken down by step {step}: {error.what}", fix=_calmer(model)) from error
