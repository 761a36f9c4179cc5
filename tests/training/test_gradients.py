"""The gradients of a step, put together without waiting for the device."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from velatura.training import gradients, optimizers
from velatura.training.gradients import Gradients


def pair() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]


def leave(found: Gradients, *sizes: float) -> Tensor:
    """A micro-batch whose gradients are of these sizes; its error."""
    error = sum((size * one.sum() for size, one in zip(sizes, found.parameters, strict=True)), torch.zeros(()))
    found.backward(error)
    return error.detach()


def test_the_gradients_of_micro_batches_add_up() -> None:
    found = Gradients(pair())
    found.begin()
    for size, count in ((1.0, 3), (5.0, 1)):
        assert found.take(leave(found, size, 2 * size), count) == 1
    norm = found.finish(clip=0)
    assert torch.equal(found.parameters[0].grad, torch.full((2, 3), 6.0))
    assert torch.equal(found.parameters[1].grad, torch.full((4,), 12.0))
    assert norm == pytest.approx((6 * 36 + 4 * 144) ** 0.5)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_no_number_is_left_out_and_its_neighbours_stay(broken: float) -> None:
    found = Gradients(pair())
    found.begin()
    taken = [found.take(leave(found, size, 1.0), count) for size, count in ((1.0, 2), (broken, 2), (3.0, 4))]
    assert taken == [1, 0, 1]
    assert found.finish(clip=0).isfinite()
    expected = torch.full((2, 3), (1.0 + 3.0) * 8 / 6)  # the mean of those that there are
    torch.testing.assert_close(found.parameters[0].grad, expected)


def test_an_error_that_is_no_number_leaves_its_gradients_out_too() -> None:
    found = Gradients(pair())
    found.begin()
    leave(found, 1.0, 1.0)
    assert found.take(torch.tensor(float("nan")), 1) == 0
    assert found.finish(clip=1.0) == 0


def test_longer_gradients_are_shortened_shorter_ones_and_0_leave_them() -> None:
    for clip, expected in ((0.5, 0.5), (100.0, 10**0.5), (0.0, 10**0.5)):
        found = Gradients(pair())
        found.begin()
        found.take(leave(found, 1.0, 1.0), 1)
        assert found.finish(clip=clip) == pytest.approx(10**0.5)
        length = torch.cat([one.grad.flatten() for one in found.parameters if one.grad is not None]).norm()
        assert length == pytest.approx(expected, rel=1e-5)


def test_a_step_begins_with_nothing() -> None:
    found = Gradients(pair())
    for _ in range(2):
        found.begin()
        found.take(leave(found, 1.0, 1.0), 1)
        found.finish(clip=0)
    assert torch.equal(found.parameters[0].grad, torch.ones(2, 3))


def test_a_scaled_loss_gives_the_same_gradients() -> None:
    found = Gradients(pair(), scaled=True)
    found.begin()
    found.take(leave(found, 2.0, 1.0), 1)
    found.finish(clip=0)
    assert torch.equal(found.parameters[0].grad, torch.full((2, 3), 2.0))


def test_the_scale_is_halved_at_an_overflow_and_doubled_after_many_steps_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradients, "GROW_AFTER", 3)
    found = Gradients(pair(), scaled=True)
    scales = []
    for size in (1.0, float("inf"), 1.0, 1.0, 1.0, 1.0):
        found.begin()
        leave(found, size, 1.0)
        assert found.take(torch.tensor(0.5), 1) == 1, "an overflow says nothing of training"
        scales.append(float(found.scale[0]))
    assert scales == [65536, 32768, 32768, 32768, 65536, 65536]


def test_what_overflows_at_a_scale_of_one_is_broken() -> None:
    found = Gradients(pair(), scaled=True)
    found.scale[0] = 1.0
    found.begin()
    leave(found, float("inf"), 1.0)
    assert found.take(torch.tensor(0.5), 1) == 0


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_without_any_numbers_changes_neither_weights_nor_what_the_optimizer_remembers(fused: bool) -> None:
    found = Gradients(pair())
    optimizer = torch.optim.AdamW(found.parameters, lr=0.1, weight_decay=0.1, fused=fused)

    def step(size: float) -> list[Tensor]:
        found.begin()
        found.take(leave(found, size, 1.0), 1)
        found.finish(clip=0)
        optimizers.step(optimizer, found.nothing)
        held = [value for one in found.parameters for value in optimizer.state[one].values()]
        return [one.detach().clone() for one in (*found.parameters, *held)]

    first = step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(step(float("nan")), first, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(step(2.0), first, strict=True))
