"""Running averages and the means of checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from velatura.training.averages import Averages


def walk(averages: Averages, parameter: nn.Parameter, *values: float) -> None:
    for step, value in enumerate(values):
        with torch.no_grad():
            parameter.fill_(value)
        averages.update(step + 1)


def shown(averages: Averages, parameter: nn.Parameter) -> float:
    with averages.shown():
        return float(parameter.detach()[0])


def test_the_running_average_is_the_one_stated() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    averages = Averages({"w": parameter}, ema=0.2)
    walk(averages, parameter, 1.0, 2.0)
    first = (1 - 2 / 11) * 1.0  # the decay is 2/11 at first
    second = 0.2 * first + 0.8 * 2.0  # and 0.2 from then on, since 3/12 is more
    assert shown(averages, parameter) == pytest.approx(second)
    assert float(parameter.detach()[0]) == 2.0, "training goes on from the weights themselves"


def test_the_mean_of_checkpoints_is_over_the_newest() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    averages = Averages({"w": parameter}, checkpoints=3)
    seen = []
    for value in (1.0, 2.0, 6.0, 7.0):
        walk(averages, parameter, value)
        seen.append(shown(averages, parameter))
        averages.keep()
    assert seen == [1.0, 1.5, 3.0, 5.0]


def test_without_either_a_checkpoint_holds_the_weights() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    averages = Averages({"w": parameter})
    walk(averages, parameter, 1.0, 5.0)
    averages.keep()
    assert shown(averages, parameter) == 5.0
    assert averages.tensors() == {}


def test_everything_comes_back() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    averages = Averages({"w": parameter}, ema=0.5, checkpoints=3)
    for value in (1.0, 4.0):
        walk(averages, parameter, value)
        averages.keep()
    again = Averages({"w": parameter}, ema=0.5, checkpoints=3)
    again.load({name: one.clone() for name, one in averages.tensors().items()})
    assert shown(again, parameter) == shown(averages, parameter)
    assert sorted(averages.tensors()) == ["ema/w", "kept.0/w", "kept.1/w"]
