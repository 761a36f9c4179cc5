"""Optimizers: each does what its paper says, each goes on exactly, and what none can honour is refused."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from velatura import run as runs
from velatura import tensorfile
from velatura.errors import RecipeError, RunError
from velatura.events import Checkpoint
from velatura.family import Model
from velatura.recipe import OPTIMIZER_SETTINGS, TrainSettings, build
from velatura.training import optimizers
from velatura.training.optimizers import averaged, grouped, made, set_rates

from .test_loop import MakeProject, Trainer

STEPS = 3
GRADIENTS = 1.0 + np.random.default_rng(1).normal(size=(STEPS, 2, 12))
RATE, DECAY = 0.01, 0.1


def layer() -> dict[str, nn.Parameter]:
    start = torch.linspace(-1, 1, 12)
    return {
        "denoiser.a.down": nn.Parameter(start.view(2, 6).clone()),
        "denoiser.a.up": nn.Parameter(start.view(6, 2).clone()),
    }


def trained(optimizer: str, **told: Any) -> list[np.ndarray[Any, Any]]:
    """Both factors after three steps with given gradients, as vectors."""
    schedule = {"schedule": "constant"}
    settings = TrainSettings(
        optimizer=optimizer, learning_rate=told.pop("learning_rate", RATE), weight_decay=DECAY, **schedule, **told
    )
    parameters = layer()
    optimizer_ = made(parameters, settings)
    for gradients in GRADIENTS:
        set_rates(optimizer_, settings, 0)
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient).float().view_as(parameter)
        optimizer_.step()
    with averaged(optimizer_):
        return [one.detach().double().numpy().copy().ravel() for one in parameters.values()]


def adamw(gradients: Any, *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> np.ndarray[Any, Any]:
    weight, m, v = np.linspace(-1, 1, 12), np.zeros(12), np.zeros(12)
    for step, gradient in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        weight = weight * (1 - RATE * DECAY)
        weight = weight - RATE * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps)
    return weight


def lion(gradients: Any) -> np.ndarray[Any, Any]:
    weight, m = np.linspace(-1, 1, 12), np.zeros(12)
    for gradient in gradients:
        weight = weight * (1 - RATE * DECAY) - RATE * np.sign(0.9 * m + 0.1 * gradient)
        m = 0.99 * m + 0.01 * gradient
    return weight


def schedule_free(gradients: Any) -> np.ndarray[Any, Any]:
    """Defazio et al. 2024, arXiv:2405.15682, with the decay at y and weights of the average by the squared rate."""
    z = x = y = np.linspace(-1, 1, 12)
    v, total = np.zeros(12), 0.0
    for step, gradient in enumerate(gradients, 1):
        v = 0.999 * v + 0.001 * gradient**2
        move = gradient / (np.sqrt(v / (1 - 0.999**step)) + 1e-8) + DECAY * y
        z = z - RATE * move
        total += RATE**2
        share = RATE**2 / total
        x = (1 - share) * x + share * z
        y = 0.1 * z + 0.9 * x
    return x


def adafactor(gradients: Any, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Shazeer and Stern 2018, arXiv:1804.04235, with a rate from outside and no momentum."""
    weight, rows, columns = np.linspace(-1, 1, 12).reshape(shape), np.zeros(shape[0]), np.zeros(shape[1])
    for step, gradient in enumerate(gradients, 1):
        square = gradient.reshape(shape) ** 2 + 1e-30
        keep = 1 - step**-0.8
        rows, columns = keep * rows + (1 - keep) * square.mean(1), keep * columns + (1 - keep) * square.mean(0)
        update = gradient.reshape(shape) / np.sqrt(np.outer(rows / rows.mean(), columns))
        update = update / max(1.0, np.sqrt((update**2).mean()))
        weight = weight * (1 - RATE * DECAY) - RATE * update
    return np.asarray(weight).ravel()


def prodigy(gradients: Any) -> list[np.ndarray[Any, Any]]:
    """Mishchenko and Defazio 2023, arXiv:2306.06101, algorithm 4: one d for everything, the rate is 1."""
    start = np.linspace(-1, 1, 12)
    weights, m, v, s = ([start.copy() for _ in range(2)], *([np.zeros(12) for _ in range(2)] for _ in range(3)))
    d, largest, above, beta3 = 1e-6, 1e-6, 0.0, np.sqrt(0.999)
    for pair in gradients:
        above *= beta3
        for i in range(2):
            above += (d / 1e-6) * d * float(pair[i] @ (start - weights[i]))
            m[i] = 0.9 * m[i] + 0.1 * d * pair[i]
            v[i] = 0.999 * v[i] + 0.001 * d * d * pair[i] ** 2
            s[i] = beta3 * s[i] + (d / 1e-6) * d * pair[i]
        found = above / sum(float(np.abs(one).sum()) for one in s)
        moved = d
        d = max(d, found) if d == 1e-6 else d
        largest = max(largest, found)
        d = min(largest, d * np.inf)
        for i in range(2):
            weights[i] = weights[i] * (1 - moved * DECAY) - moved * m[i] / (np.sqrt(v[i]) + d * 1e-8)
    return weights


def preconditioned() -> list[np.ndarray[Any, Any]]:
    """Zhang and Pilanci 2024, arXiv:2402.02347: AdamW on gradients made free of the other factor's size."""
    down, up = np.linspace(-1, 1, 12).reshape(2, 6), np.linspace(-1, 1, 12).reshape(6, 2)
    moments = {name: [np.zeros(12), np.zeros(12)] for name in ("down", "up")}
    damped = 1e-6 * np.eye(2)
    for step, (first, second) in enumerate(GRADIENTS, 1):
        moved = {
            "down": np.linalg.inv(up.T @ up + damped) @ first.reshape(2, 6),
            "up": second.reshape(6, 2) @ np.linalg.inv(down @ down.T + damped),
        }
        now = {"down": down, "up": up}
        for name, gradient in moved.items():
            m, v = moments[name]
            m, v = 0.9 * m + 0.1 * gradient.ravel(), 0.999 * v + 0.001 * gradient.ravel() ** 2
            moments[name] = [m, v]
            update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            now[name] = now[name] * (1 - RATE * DECAY) - RATE * update.reshape(now[name].shape)
        down, up = now["down"], now["up"]
    return [down.ravel(), up.ravel()]


EXPECTED: dict[str, Callable[[], list[np.ndarray[Any, Any]]]] = {
    "adamw": lambda: [adamw(GRADIENTS[:, i]) for i in range(2)],
    "lion": lambda: [lion(GRADIENTS[:, i]) for i in range(2)],
    "schedule_free": lambda: [schedule_free(GRADIENTS[:, i]) for i in range(2)],
    "adafactor": lambda: [adafactor(GRADIENTS[:, 0], (2, 6)), adafactor(GRADIENTS[:, 1], (6, 2))],
    "prodigy": lambda: prodigy(GRADIENTS),
    "riemannian": preconditioned,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_three_steps_are_those_of_the_paper(name: str) -> None:
    found = trained(name, **({"learning_rate": 1.0} if name == "prodigy" else {}))
    for one, expected in zip(found, EXPECTED[name](), strict=True):
        assert np.abs(one - expected).max() < 2e-6, name
        if name != "adamw":  # told apart from the default by far more than that
            assert name == "prodigy" or np.abs(expected - adamw(GRADIENTS[:, 0])).max() > 2e-4


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("adamw", {"beta1": 0.5}),
        ("adamw", {"beta2": 0.5}),
        ("adamw", {"eps": 0.1}),
        ("lion", {"beta1": 0.1}),
        ("lion", {"beta2": 0.1}),
        ("adafactor", {"clip_threshold": 0.1}),
        ("adafactor", {"decay_rate": -0.3}),
        ("adafactor", {"eps": 0.5}),
        ("prodigy", {"d0": 1e-3}),
        ("prodigy", {"d_coef": 50.0}),
        ("prodigy", {"use_bias_correction": True}),
        ("schedule_free", {"r": 2.0}),
        ("schedule_free", {"beta1": 0.5}),
        ("riemannian", {"damping": 1.0}),
    ],
)
def test_each_further_setting_changes_the_steps(name: str, told: dict[str, Any]) -> None:
    rate = {"learning_rate": 1.0} if name == "prodigy" else {}
    plain, other = trained(name, **rate), trained(name, optimizer_settings=told, **rate)
    assert max(np.abs(one - two).max() for one, two in zip(plain, other, strict=True)) > 1e-8


def test_every_optimizer_is_made_or_said_why_not() -> None:
    assert set(optimizers._BUILDERS) == set(OPTIMIZER_SETTINGS)
    with pytest.raises(RecipeError, match="adamw8bit needs an NVIDIA card"):
        made(layer(), TrainSettings(optimizer="adamw8bit"))


@pytest.mark.parametrize(
    ("name", "library"), [("prodigy", "prodigyopt"), ("lion", "pytorch_optimizer"), ("schedule_free", "schedulefree")]
)
def test_a_library_that_is_missing_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RecipeError, match=r"velatura\[optim\]"):
        trained(name, **({"learning_rate": 1.0} if name == "prodigy" else {}))


def test_prodigy_does_not_greet(capsys: pytest.CaptureFixture[str]) -> None:
    trained("prodigy", learning_rate=1.0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"optimizer_settings": {"beta": 0.5}}, "adamw has no beta; did you mean beta2"),
        ({"optimizer_settings": {"damping": 1.0}}, "adamw has no damping"),
        ({"optimizer_settings": {"beta1": 1.0}}, "at least 0 and less than 1"),
        ({"optimizer": "prodigy", "learning_rate": 1, "optimizer_settings": {"safeguard_warmup": 1}}, "got 1"),
        ({"optimizer": "prodigy"}, "set it to 1"),
        ({"optimizer": "prodigy", "learning_rate": 1, "rates": ["*=2"]}, "one learning rate for all"),
        ({"optimizer": "schedule_free"}, "train.schedule to constant"),
        ({"optimizer": "schedule_free", "schedule": "constant", "ema": 0.9}, "an average of its own"),
    ],
)
def test_what_an_optimizer_cannot_honour_is_refused(told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build({"train": told})


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.lora_plus=4", "adapter.kind=loha"], "second factor"),
        (["train.optimizer=riemannian", "adapter.kind=dora"], "two factors"),
        (["train.max_norm=1", "adapter.kind=lokr"], "two factors"),
        (["train.optimizer=schedule_free", "train.schedule=constant", "checkpoints.average=3"], "average of its own"),
    ],
)
def test_what_a_kind_of_adapter_cannot_honour_is_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build({}, overrides)


def test_parts_blocks_and_factors_have_their_rates() -> None:
    names = ("denoiser.a.down", "denoiser.a.up", "denoiser.b.up", "text_encoder.x.down", "text_encoder_2.x.up")
    parameters = {name: nn.Parameter(torch.zeros(2)) for name in names}
    settings = TrainSettings(
        learning_rate=0.1, text_learning_rate=[0.01, 0.02], rates=["denoiser.b*=0.5"], lora_plus=4, schedule="constant"
    )
    optimizer = made(parameters, settings)
    set_rates(optimizer, settings, 7)
    rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
    assert rates == pytest.approx(dict(zip(names, (0.1, 0.4, 0.2, 0.01, 0.08), strict=True)))
    with pytest.raises(RecipeError, match="2 rates are told for 1 text encoders"):
        grouped({name: parameters[name] for name in names[:4]}, settings)


# --- in a run --------------------------------------------------------------------------------


@pytest.fixture
def trainer(make_project: MakeProject, model: Model) -> Callable[..., Trainer]:
    return lambda *settings: Trainer(make_project("train.steps=4", "checkpoints.every=2", *settings), model)


OPTIONS = {
    "adamw": (),
    "adafactor": ("train.optimizer=adafactor",),
    "prodigy": ("train.optimizer=prodigy", "train.learning_rate=1"),
    "lion": ("train.optimizer=lion",),
    "schedule_free": ("train.optimizer=schedule_free", "train.schedule=constant"),
    "riemannian": ("train.optimizer=riemannian",),
    "ema": ("train.ema=0.9",),
    "average": ("checkpoints.average=2",),
    "max_norm": ("train.max_norm=0.001",),
    "lora_plus": ("train.lora_plus=8",),
    "restarts": ("train.schedule=cosine_restarts", "train.cycles=2"),
    "polynomial": ("train.schedule=polynomial", "train.power=2"),
    "rex": ("train.schedule=rex",),
    "linear": ("train.schedule=linear",),
    "floor": ("train.floor=0.5",),
    "unclipped": ("train.clip=0",),
    "clipped": ("train.clip=1e-4", "train.optimizer_settings.eps=1e-3"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_changes_training_and_goes_on_exactly(name: str, trainer: Callable[..., Trainer]) -> None:
    told = trainer(*OPTIONS[name])
    complete = told.finish()
    final = "checkpoints/step-000004/adapter.safetensors"
    assert set(complete) >= {final, final.replace("adapter", "state")}
    told.run = runs.create(told.run.path.parent.parent, told.recipe, provenance={}, dataset_lines=[])
    for _ in itertools.takewhile(lambda event: not isinstance(event, Checkpoint), told.events()):
        pass
    assert [one.step for one in told.run.checkpoints()] == [2]
    assert told.finish() == complete
    if final not in PLAIN:
        PLAIN[final] = trainer().finish()[final]
    assert (name == "adamw") == (complete[final] == PLAIN[final])


PLAIN: dict[str, bytes] = {}
"""The file of the default settings, trained once."""


def test_a_state_of_another_optimizer_is_refused(trainer: Callable[..., Trainer]) -> None:
    told = trainer()
    told.finish()
    other = build(told.recipe.model_dump(), ["train.optimizer=lion"])
    with pytest.raises(RunError, match="another optimizer, AdamW"):
        list(told.events(other))


def test_schedule_free_publishes_its_average_and_goes_on_from_what_it_trains(trainer: Callable[..., Trainer]) -> None:
    told = trainer(*OPTIONS["schedule_free"])
    told.finish()
    last = told.run.checkpoints()[-1]
    state, _ = tensorfile.read(last.state)
    published, _ = tensorfile.read(last.adapter)
    name = next(name for name in state if name.startswith("weight/") and name.endswith("attn1.to_k.up"))
    raw, z = (tensorfile.as_float32(state[f"{kind}/{name.removeprefix('weight/')}"]) for kind in ("weight", "z"))
    average = raw + (1 - 1 / 0.9) * (z - raw)
    saved = [tensorfile.as_float32(one) for place, one in published.items() if place.endswith("lora_up.weight")]
    assert any(one.shape == average.shape and np.allclose(one, average, atol=1e-4) for one in saved)
    assert not any(one.shape == raw.shape and np.allclose(one, raw, atol=1e-5) for one in saved)
