"""The adapter that undoes a base's distillation while it is trained: at work in training, away while painting.

It is merged into the weights where the policy merges; where these cannot take the sum, or are not there to be changed,
it is computed beside the layers, whatever else stands beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters.beside import difference, small
from velatura.adapters.kinds import Full
from velatura.adapters.layers import BaseLayer, find
from velatura.adapters.merge import Applied, changes, merge
from velatura.adapters.weights import Change, Lora
from velatura.family import Model


def bring(model: Model) -> None:
    """The model's assistant works, and no other adapter is merged.

    Beside the layers a LoRA stays its two factors; of other kinds what they change is multiplied out once, which takes
    the memory of the layers that they change. What it changes of norms and biases is merged all the same.

    Raises:
        AdapterError: it does not fit.
        ModelError: it is of a kind that depends on the base's own weight, and that is not at hand.
    """
    send_away(model)
    uses = [Applied(model.assistant, 1.0, 1.0)] if model.assistant else []
    if model.policy.merges:
        merge(model.trainable_parts, model.pristine, uses)
        return
    merge(model.trainable_parts, model.pristine, rest := small(model.trainable_parts, uses))
    known = find(model.trainable_parts)
    merged = {name for use in rest for name in use.layers if name not in known}
    own = [replace(use, layers={name: one for name, one in use.layers.items() if name not in merged}) for use in uses]
    for name, ((change, _),) in changes(known, own).items():
        added = _beside_of(name, known[name], change, model)
        if added is not None:
            model.assisting.append(known[name].register_forward_hook(added))


def send_away(model: Model) -> None:
    """No adapter is merged, and none assists. Harmless when done twice."""
    for handle in model.assisting:
        handle.remove()
    model.assisting.clear()
    merge(model.trainable_parts, model.pristine, [])


def _beside_of(name: str, layer: BaseLayer, change: Change, model: Model) -> Callable[..., Tensor] | None:
    """What computes a change beside its layer; None where it changes the bias alone."""
    if isinstance(change, Lora):
        return functools.partial(_beside, *_halves(change.without_core(), layer))
    if isinstance(change, Full) and change.weight is None:
        return None
    return functools.partial(_beside_whole, difference(name, layer.weight, change, 1.0, model.pristine))


def _halves(change: Lora, layer: BaseLayer) -> tuple[Tensor, Tensor]:
    """Both factors where the layer computes and in its type, the scale in the second."""
    down, up = (torch.from_numpy(half).to(layer.weight.device) for half in (change.down, change.up))
    return down.reshape(len(down), *layer.weight.shape[1:]).to(layer.weight.dtype), (change.scale * up.flatten(1)).to(
        layer.weight.dtype
    )


def _beside(down: Tensor, up: Tensor, layer: nn.Module, given: tuple[Any, ...], y: Tensor) -> Tensor:
    x = given[0].to(y.dtype)
    if isinstance(layer, nn.Conv2d):
        return y + F.conv2d(layer._conv_forward(x, down, None), up[..., None, None])
    return y + F.linear(F.linear(x, down), up)


def _beside_whole(delta: Tensor, layer: nn.Module, given: tuple[Any, ...], y: Tensor) -> Tensor:
    x = given[0].to(y.dtype)
    if isinstance(layer, nn.Conv2d):
        made: Tensor = layer._conv_forward(x, delta, None)
        return y + made
    return y + F.linear(x, delta)
