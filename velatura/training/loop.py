"""The training loop, read top to bottom.

It yields events: progress, metrics, checkpoints as they stand on disk. Stopping the iteration stops
the training; what was published stays. Everything drawn at a step follows from the seed and the
step's number, so going on from a checkpoint is the uninterrupted run, bit for bit on a CPU.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from velatura.adapters.lora import Injected
from velatura.adapters.weights import Change, part_of
from velatura.errors import AdapterError, ModelError, TrainingError, VelaturaError
from velatura.events import Checkpoint, Event, Metric, Note, Progress, Resumed
from velatura.family import Model
from velatura.recipe import Recipe
from velatura.run import CheckpointFolder, Request, Run, wait_while_paused
from velatura.training import norms, optimizers
from velatura.training.adapter import changes_text
from velatura.training.averages import Averages
from velatura.training.breakdown import place
from velatura.training.checkpoint import State, load_state, state_bytes
from velatura.training.data import Batch, Batches, Cached
from velatura.training.descent import Descent
from velatura.training.due import Due, exhausted
from velatura.training.gradients import Gradients
from velatura.training.losses import loss, preservation
from velatura.training.pace import Faster, spent
from velatura.training.pivotal import LearnedWord
from velatura.training.readings import METRIC_EVERY, Health, Readings
from velatura.training.validation import HeldOut
from velatura.weights.policy import precision

CALMER = "lower train.learning_rate, which starts a new run; the checkpoints so far are kept"

TIMESTEPS = 1000
"""As bases count noise levels, from none to pure noise."""

AdapterBytes = Callable[[dict[str, Change], int], bytes]
"""The adapter's file from its weights and the step."""


def train(
    model: Model,
    injected: Injected,
    cached: Cached,
    recipe: Recipe,
    run: Run,
    *,
    adapter_bytes: AdapterBytes,
    word: LearnedWord | None = None,
) -> Iterator[Event]:
    """Train the injected adapter to the recipe's last step, from the run's newest resumable checkpoint on.

    Yields a `Checkpoint` right after each is whole on disk. A request to stop ends the loop early,
    with a checkpoint at the step reached. Nothing waits for the device but checkpoints, and optimizers that
    `optimizers.step` names.

    Args:
        word: is trained beside the adapter.

    Raises:
        TrainingError: losses or gradients are no numbers time after time, the loss explodes, or neither depends on what
            is trained; nothing of such steps is kept.
        RunError: the checkpoint to go on from is damaged.
    """
    settings = recipe.train
    state = beginning(model, injected, recipe, word)
    gradients, optimizer, averages = state.gradients, state.optimizer, state.averages
    batches = Batches(model, cached, recipe, encode_texts=changes_text(injected.layers) or word is not None)
    descend = Descent(functools.partial(error, model, injected, recipe), gradients)
    due, held_out = Due(recipe, batches.per_epoch), HeldOut(model, injected, cached, recipe.validation)
    step = resume(run, state)
    forget_old_states(run, keep=recipe.checkpoints.keep_state)  # a killed process may not have come to it
    if step or run.events():  # an earlier start may have ended before its first checkpoint
        yield Resumed(step)
    rate = functools.partial(optimizers.measured, optimizer, settings)
    faster = Faster(model, compiled=settings.compile)
    readings, health = Readings(), Health(recorded_losses(run, step))
    controls = run.control_end()
    started, first = time.monotonic(), step
    while not over(recipe, step, state.held_out):
        optimizers.set_rates(optimizer, settings, step)
        with injected.step(step), faster, reaching(injected.named()) if step == first else nullcontext():
            descended = descend(batches.of(step))
        norm = gradients.finish(clip=settings.clip)
        optimizers.step(optimizer, gradients.nothing)
        if settings.max_norm:
            norms.limit(injected, settings.max_norm)
        step += 1
        averages.update(step)
        readings.send(step, descended, [norm, norms.of(state.parameters), gradients.scale[0]])
        yield from map(Note, descend.said())
        yield from reports(readings, health, batches, due, step, rate)
        if health.failed:
            raise broken_down(model, injected, batches, run, health, recipe)
        if due.measurement(step):
            yield from measured(held_out, state, step)
        seconds = (time.monotonic() - started) / (step - first) * (settings.steps - step)
        yield Progress("training", step, settings.steps, round(seconds, 1))
        asked, controls = yield from requests(run, controls)
        ends = over(recipe, step, state.held_out)
        if due.checkpoint(step) or ends or _wants_checkpoint(asked):
            yield publish(model, injected, recipe, run, state, step, adapter_bytes, counts=due.checkpoint(step))
            yield Metric(step, spent(model, seconds=(time.monotonic() - started) / (step - first)))
        if ends and step < settings.steps:
            yield Note(f"stopped at step {step}: the loss on held-out pictures has not fallen any more")
        if "stop" in asked:
            yield Note(f"stopped at step {step}; start it again to go on")
            return


def error(model: Model, injected: Injected, recipe: Recipe, batch: Batch) -> Tensor:
    """A batch's share of the error of its step, a scalar."""
    told = recipe.adapter
    if told.timestep_rank is not None:
        objective = model.objective_for(*batch.clean_BCHW.shape[-2:])
        share_B = 1 - objective.timestep(batch.sigma_B) / TIMESTEPS
        injected.open_ranks(share_B, smallest=told.timestep_rank, power=told.timestep_power)
    found = loss(model, batch, recipe.objective)
    return found if batch.preserved is None else found + preservation(model, injected, batch, recipe.objective)


def reports(
    readings: Readings,
    health: Health,
    batches: Batches,
    due: Due,
    step: int,
    more: Callable[[int], dict[str, float]],
) -> Iterator[Event]:
    """What has been read of the steps up to `step`; everything, where a checkpoint is due after it.

    Args:
        more: what to record of a step, counted from 0, beside what was read.
    """
    for reading in readings.arrived(wait=due.checkpoint(step)):
        for micro in health.see(reading):
            told = batches.told(reading.step - 1, micro)
            yield Note(f"step {reading.step}: {told} gave no numbers and is left out")
        if health.failed:
            return
        if reading.step % METRIC_EVERY == 0 or due.checkpoint(reading.step):
            yield Metric(reading.step, health.close() | more(reading.step - 1))


def measured(held_out: HeldOut, state: State, step: int) -> Iterator[Metric]:
    """The held-out loss of what a checkpoint would hold now, where pictures are held out.

    Raises:
        TrainingError: it is no number.
    """
    try:
        with state.averages.shown(), optimizers.averaged(state.optimizer):
            found = held_out.measure()
    except ModelError as error:
        raise TrainingError(_broken_by(step, error), fix=_calmer(held_out.model)) from error
    if found:
        state.held_out.append(found["held_out"])
        yield Metric(step, found)


def requests(run: Run, controls: int) -> Generator[Event, None, tuple[list[Request], int]]:
    """What was asked for since the last step, after waiting for as long as it is to pause."""
    asked, controls = run.requests(controls)
    while _pauses(asked):
        yield Note("paused")
        more, controls = wait_while_paused(run, controls)
        asked += more
    return asked, controls


def beginning(model: Model, injected: Injected, recipe: Recipe, word: LearnedWord | None = None) -> State:
    """Everything that changes as a run trains, before its first step."""
    parameters = injected.named() | ({} if word is None else word.parameters)
    averages = Averages(parameters, ema=recipe.train.ema, checkpoints=recipe.checkpoints.average)
    gradients = Gradients(list(parameters.values()), scaled=model.policy.dtype == torch.float16)
    optimizer = optimizers.made(parameters, recipe.train, word_rate=recipe.word.learning_rate)
    return State(parameters, optimizer, averages, gradients)


def over(recipe: Recipe, step: int, held_out: Sequence[float]) -> bool:
    """Whether training has come to its end, or has stopped by itself."""
    return step >= recipe.train.steps or exhausted(held_out, recipe.validation.patience)


def publish(
    model: Model,
    injected: Injected,
    recipe: Recipe,
    run: Run,
    state: State,
    step: int,
    adapter_bytes: AdapterBytes,
    *,
    counts: bool,
) -> Checkpoint:
    """Write a checkpoint.

    Args:
        counts: it counts in the means of later ones, which one that was only asked for does not.
    """
    with state.averages.shown(), optimizers.averaged(state.optimizer):
        adapter = _sound(model, adapter_bytes, injected.weights(), step)
    if counts:
        state.averages.keep()
    files = {
        "adapter.safetensors": adapter,
        "state.safetensors": state_bytes(state, step=step),
    }
    published = run.publish(step, files)
    forget_old_states(run, keep=recipe.checkpoints.keep_state)
    return Checkpoint(step, published.path.relative_to(run.path).as_posix())


@contextmanager
def reaching(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """See that something of each part is read; single layers may go unread, as the last of CLIP does.

    Raises:
        TrainingError: nothing at all of a part is.
    """
    reached: set[str] = set()
    handles = []
    for name, one in parameters.items():
        reach = functools.partial(_reach, reached, part_of(name))
        handles.append(one.register_post_accumulate_grad_hook(reach))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    for part in {part_of(name): None for name in parameters}:
        if part not in reached:
            raise TrainingError(
                f"what adapter.targets names of {part} changes nothing in this base",
                fix=f"leave {part} out of adapter.targets",
            )


def _reach(reached: set[str], part: str, _: Tensor) -> None:
    reached.add(part)


def broken_down(
    model: Model, injected: Injected, batches: Batches, run: Run, health: Health, recipe: Recipe
) -> TrainingError:
    """The error that ends a training which has come apart; checkpoints from since then are taken back."""
    step = health.last.step
    if health.exploded:
        norms = {name: float(one.detach().norm()) for name, one in injected.named().items()}
        grown = max(norms, key=lambda name: norms[name])
        what = f"training has exploded by step {step}: the loss is {health.last.loss:.3g}"
        return TrainingError(f"{what}, and what has grown most is {grown}", fix=_calmer(model))
    for checkpoint in run.checkpoints():
        if checkpoint.step >= health.since:
            run.take_back(checkpoint)
    micro = max(place for place, good in enumerate(health.last.good) if not good)
    with injected.step(step - 1):
        broken = itertools.islice(batches.of(step - 1), micro, micro + 1)
        where = place(model, injected, broken, recipe.objective)
    what = f"training broke down at step {health.since}: what is no number appears {where}"
    return TrainingError(f"{what}, {health.broken} times in a row", fix=_calmer(model))


def recorded_losses(run: Run, step: int) -> list[float]:
    """The losses that earlier starts have recorded up to a step."""
    events = run.events()
    return [
        one.values["loss"] for one in events if isinstance(one, Metric) and one.step <= step and "loss" in one.values
    ]


def resume(run: Run, state: State) -> int:
    """Go back to the newest checkpoint that has its state; the step to go on from."""
    for checkpoint in reversed(run.checkpoints()):
        if checkpoint.state.exists():
            run.verify(checkpoint)
            return load_state(checkpoint.state, state)
    if run.start.exists():  # the state of another run's checkpoint
        return load_state(run.start, state)
    return 0


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
        raise TrainingError(_broken_by(step, error), fix=_calmer(model)) from error


def _broken_by(step: int, error: VelaturaError) -> str:
    return f"training has broken down by step {step}: {error.what}"
