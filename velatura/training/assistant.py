"""The adapter that undoes a base's distillation while it is trained: at work in training, away while painting.

It is merged into the weights where the policy merges; where these cannot take the sum, or are not there to be changed,
it is computed beside the layers, whatever else stands beside them.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from velatura.adapters.layers import BaseLayer, find
from velatura.adapters.merge import Applied, changes, merge
from velatura.adapters.weights import Lora
from velatura.errors import AdapterError
from velatura.family import Model


def bring(model: Model) -> None:
    """The model's assistant works, and no other adapter is merged.

    Raises:
        AdapterError: it does not fit, or is of a kind that cannot be computed beside a layer.
    """
    send_away(model)
    uses = [Applied(model.assistant, 1.0, 1.0)] if model.assistant else []
    if model.policy.merges:
        merge(model.trainable_parts, model.pristine, uses)
        return
    known = find(model.trainable_parts)
    for name, ((change, _),) in changes(known, uses).items():
        if not isinstance(change, Lora):
            raise AdapterError(f"an assistant of this kind cannot be computed beside {name}", fix="use a plain LoRA")
        layer = known[name]
        model.assisting.append(
            layer.register_forward_hook(functools.partial(_beside, *_halves(change.without_core(), layer)))
        )


def send_away(model: Model) -> None:
    """No adapter is merged, and none assists. Harmless when done twice."""
    for handle in model.assisting:
        handle.remove()
    model.assisting.clear()
    merge(model.trainable_parts, model.pristine, [])


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
