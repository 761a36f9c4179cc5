"""Where training broke down: the step is done once more with every layer watched.

Nothing of the broken step has been taken over, and what is drawn at a step follows from its number, so it breaks down
again in the same place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from velatura.adapters.lora import Injected
from velatura.family import Model
from velatura.recipe import ObjectiveSettings
from velatura.training.data import Batch
from velatura.training.losses import loss


def place(model: Model, injected: Injected, batches: Iterable[Batch], told: ObjectiveSettings) -> str:
    """Where what is no number first appears in a step's batches, as the end of a sentence."""
    trained = {f"in {name}, which is trained": parameter for name, parameter in injected.named().items()}
    for parameter in injected.parameters():
        parameter.grad = None
    for batch in batches:
        given = {
            "among the latents": batch.clean_BCHW,
            "among the encoded captions": batch.conditioning.text.tokens_BLD,
            **trained,
        }
        if broken := next((name for name, tensor in given.items() if not finite(tensor)), None):
            return broken
        with _watched(model) as found:
            value = loss(model, batch, told)
            if found:
                return f"in what {found[0]} gives"
            value.backward()  # type: ignore[no-untyped-call]
        broken = next((name for name, one in injected.named().items() if not finite(one.grad)), None)
        if broken:
            return f"in the gradient of {broken}"
    return "where the gradients are put together"


def finite(tensor: Tensor | None) -> bool:
    """Whether there are numbers only."""
    return tensor is None or bool(tensor.isfinite().all())


@contextmanager
def _watched(model: Model) -> Iterator[list[str]]:
    """The layers whose result is no number, in the order in which they are computed, while this lasts."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            if isinstance(result, torch.Tensor) and not finite(result):
                found.append(name)

        return hook

    handles = [
        module.register_forward_hook(watch(f"{part}.{path}"))
        for part, network in model.trainable_parts.items()
        for path, module in network.named_modules()
        if not any(module.children())
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
