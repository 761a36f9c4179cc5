"""What a checkpoint holds where it is not the weights as they are: a running average, or the mean of several.

The running average is W <- d W + (1 - d) w after each step, where d rises to the decay as (1 + n) / (10 + n), so that
the first steps do not weigh for ever. The mean of the newest checkpoints is Kaddour's (2022, arXiv:2209.14981).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Averages:
    """The averages of some parameters."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, ema: float = 0.0, checkpoints: int = 1) -> None:
        """They begin as the parameters are.

        Args:
            ema: decay of the running average; 0: there is none.
            checkpoints: over how many the mean is taken.
        """
        self.parameters, self.ema, self.checkpoints = parameters, ema, checkpoints
        self.running = {name: one.detach().clone() for name, one in parameters.items()} if ema else {}
        self.kept: list[dict[str, Tensor]] = []
        """The weights that the newest checkpoints would have held alone, oldest first."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """A step has been done, the first is 1."""
        if self.ema:
            share = 1 - min(self.ema, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.running.values()), list(self.parameters.values()), share)

    @torch.no_grad()
    def keep(self) -> None:
        """A checkpoint has come that counts in the mean of those after it."""
        if self.checkpoints > 1:
            kept = {name: one.detach().clone() for name, one in self._now().items()}
            self.kept = [*self.kept, kept][1 - self.checkpoints :]

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The parameters hold what a checkpoint holds, for a while."""
        if not self.ema and not self.kept:
            yield
            return
        held = list(self.parameters.values())
        before = [one.detach().clone() for one in held]
        now = self._now()
        with torch.no_grad():
            for name, one in self.parameters.items():
                one.copy_(torch.stack([*(kept[name] for kept in self.kept), now[name]]).mean(dim=0))
        try:
            yield
        finally:
            with torch.no_grad():
                for one, value in zip(held, before, strict=True):
                    one.copy_(value)

    def _now(self) -> Mapping[str, Tensor]:
        return self.running or self.parameters

    def tensors(self) -> dict[str, Tensor]:
        """Everything to go on from, by names that begin with `ema` or `kept`."""
        found = {f"ema/{name}": one for name, one in self.running.items()}
        for number, kept in enumerate(self.kept):
            found |= {f"kept.{number}/{name}": one for name, one in kept.items()}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take `tensors` of another time over."""
        device = next(iter(self.parameters.values())).device

        def under(kind: str) -> dict[str, Tensor]:
            named = {name.removeprefix(f"{kind}/"): one for name, one in tensors.items() if name.startswith(f"{kind}/")}
            return {name: named[name].to(device) for name in self.parameters} if named else {}

        self.running = under("ema")
        found = (under(f"kept.{number}") for number in range(self.checkpoints - 1))
        self.kept = [kept for kept in found if kept]
