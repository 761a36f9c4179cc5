"""A checkpoint's files: the adapter as the world reads it, and the exact state to go on from.

The adapter is fp16; going on from it would not be exact. The state therefore holds the adapter's
fp32 weights beside the optimizer's two averages.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from velatura import tensorfile
from velatura.errors import RunError

AVERAGES = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each parameter."""


def state_bytes(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, step: int) -> bytes:
    """Weights and optimizer averages after `step` steps, as a safetensors file."""
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"weight/{name}"] = _array(parameter)
        for average in AVERAGES:
            tensors[f"{average}/{name}"] = _array(optimizer.state[parameter][average])
    return tensorfile.to_bytes(tensors, {"step": str(step)})


@torch.no_grad()
def load_state(path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Put a saved state back; the number of steps done.

    Raises:
        RunError: the state is of another adapter.
    """
    tensors, metadata = tensorfile.read(path)
    expected = {
        f"{kind}/{name}": tuple(one.shape) for kind in ("weight", *AVERAGES) for name, one in parameters.items()
    }
    if {name: tensor.shape for name, tensor in tensors.items()} != expected:
        raise RunError("this state belongs to another adapter", where=path, fix="start a new run with --new")
    step = int(metadata["step"])
    for name, parameter in parameters.items():
        parameter.copy_(_tensor(tensors[f"weight/{name}"]))
        saved = {average: _tensor(tensors[f"{average}/{name}"]).to(parameter.device) for average in AVERAGES}
        optimizer.state[parameter] = {"step": torch.tensor(float(step)), **saved}
    return step


def _array(tensor: Tensor) -> tensorfile.RawTensor:
    return tensorfile.raw(tensor.detach().float().cpu().numpy())


def _tensor(saved: tensorfile.RawTensor) -> Tensor:
    return torch.from_numpy(tensorfile.as_float32(saved).copy())
