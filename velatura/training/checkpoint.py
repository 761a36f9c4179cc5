"""A checkpoint's files: the adapter as the world reads it, and the exact state to go on from.

The adapter is fp16, and may be an average; going on from it would not be exact. The state therefore holds the fp32
weights beside everything else that changes as a run trains: what the optimizer remembers of each parameter and of
all, the averages, the loss's scale, the held-out losses so far.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from velatura import tensorfile
from velatura.errors import RunError
from velatura.training.averages import Averages
from velatura.training.gradients import Gradients

NUMBERS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""The types that optimizers remember in, by the file format's names."""


@dataclass
class State:
    """Everything that changes as a run trains."""

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    averages: Averages
    gradients: Gradients
    held_out: list[float] = field(default_factory=list)
    """The held-out losses so far."""

    def __post_init__(self) -> None:
        """The optimizer has done nothing yet: what it says of groups that is no setting changes from now on."""
        self._at_first = [dict(group) for group in self.optimizer.param_groups]
        self._names = {id(parameter): name for name, parameter in self.parameters.items()}

    @property
    def kind(self) -> str:
        """The optimizer's class."""
        return type(self.optimizer).__name__

    def remembered(self) -> Iterator[tuple[str, str, Any]]:
        """What the optimizer remembers of each parameter: its name, what it is, and its value."""
        for parameter, known in self.optimizer.state.items():
            for key, value in known.items():
                yield self._names[id(parameter)], key, value

    def of_groups(self) -> list[dict[str, Any]]:
        """What the optimizer remembers of its groups: the numbers that have changed since it was made."""
        return [
            {
                key: float(value) if isinstance(value, Tensor) else value
                for key, value in group.items()
                if isinstance(value, int | float | Tensor) and key != "lr" and value != first.get(key)
            }
            for group, first in zip(self.optimizer.param_groups, self._at_first, strict=True)
        ]


def state_bytes(state: State, *, step: int) -> bytes:
    """The state after `step` steps, as a safetensors file."""
    tensors = {f"weight/{name}": one for name, one in state.parameters.items()} | state.averages.tensors()
    numbers: dict[str, dict[str, Any]] = {}
    for name, key, value in state.remembered():
        if isinstance(value, Tensor):
            tensors[f"{key}/{name}"] = value
        else:
            numbers.setdefault(name, {})[key] = value
    tensors["scale"] = state.gradients.scale
    told = {"numbers": numbers, "groups": state.of_groups(), "held_out": state.held_out}
    metadata = {"step": str(step), "optimizer": state.kind, "remembered": json.dumps(told, sort_keys=True)}
    return tensorfile.to_bytes({name: _raw(one) for name, one in tensors.items()}, metadata)


@torch.no_grad()
def load_state(path: Path, state: State) -> int:
    """Put a saved state back; the number of steps done.

    Raises:
        RunError: the state is of another adapter or another optimizer.
    """
    tensors, metadata = tensorfile.read(path)
    load_weights(path, state.parameters, tensors)
    if metadata.get("optimizer") != state.kind:
        raise RunError(
            f"this state is of another optimizer, {metadata.get('optimizer', 'of an earlier version')}",
            where=path,
            fix="start a new run with --new, or from its weights alone with --from STEP --weights-only",
        )
    told = json.loads(metadata["remembered"])
    device = state.gradients.scale.device
    for place in tensors:
        key, _, name = place.partition("/")
        if name in state.parameters and key not in ("weight", "ema") and not key.startswith("kept."):
            state.optimizer.state[state.parameters[name]][key] = _tensor(tensors[place]).to(device)
    for name, known in told["numbers"].items():
        state.optimizer.state[state.parameters[name]].update(known)
    for group, known in zip(state.optimizer.param_groups, told["groups"], strict=True):
        group.update(known)
    state.averages.load({name: _tensor(one) for name, one in tensors.items() if "/" in name})
    state.gradients.scale = _tensor(tensors["scale"]).to(device)
    state.held_out[:] = told["held_out"]
    return int(metadata["step"])


@torch.no_grad()
def load_weights(
    path: Path, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, tensorfile.RawTensor] | None = None
) -> None:
    """Put the weights of a saved state back, and nothing else.

    Raises:
        RunError: they are another adapter's.
    """
    found = tensorfile.read(path)[0] if tensors is None else tensors
    saved = {name.removeprefix("weight/"): one for name, one in found.items() if name.startswith("weight/")}
    if {name: one.shape for name, one in saved.items()} != {name: tuple(one.shape) for name, one in parameters.items()}:
        raise RunError("this state belongs to another adapter", where=path, fix="start a new run with --new")
    for name, parameter in parameters.items():
        parameter.copy_(_tensor(saved[name]))


def _raw(tensor: Tensor) -> tensorfile.RawTensor:
    plain = tensor.detach().cpu().contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return tensorfile.RawTensor(NUMBERS[tensor.dtype], tuple(tensor.shape), data)


def _tensor(saved: tensorfile.RawTensor) -> Tensor:
    kind = next(kind for kind, name in NUMBERS.items() if name == saved.dtype)
    data = torch.from_numpy(np.frombuffer(saved.data, dtype=np.uint8).copy())
    return data.view(kind).reshape(saved.shape)
