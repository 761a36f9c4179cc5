"""How much each noise level counts, against kohya-ss/sd-scripts' own numbers and the papers' formulae."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from velatura.diffusion.objective import Objective
from velatura.recipe import ObjectiveSettings
from velatura.training.weighting import weight

ROWS = [5, 40, 400, 950]

OF_KOHYA: list[tuple[str, dict[str, Any], list[float]]] = [  # its custom_train_functions, of a loss of 1
    ("epsilon", {"min_snr": 1.0}, [0.0051863766, 0.039624445, 1.0, 1.0]),
    ("epsilon", {"min_snr": 5.0}, [0.025931884, 0.19812223, 1.0, 1.0]),
    ("v", {"min_snr": 1.0}, [0.0051596169, 0.03811419, 0.42448276, 0.0082471063]),
    ("v", {"min_snr": 5.0}, [0.025798084, 0.19057097, 0.42448276, 0.0082471063]),
    ("epsilon", {"debiased": True}, [0.072016507, 0.19905891, 1.1643918, 10.966067]),
    ("v", {"debiased": True}, [0.0051596169, 0.03811419, 0.57551724, 0.99175292]),
    ("v", {"v_as_noise": True}, [0.99484038, 0.96188581, 0.42448276, 0.0082471063]),
    ("epsilon", {"v_like": 0.5}, [1.5025932, 1.5198122, 2.1779041, 61.627327]),
]


@pytest.mark.parametrize(("kind", "told", "expected"), OF_KOHYA)
def test_the_weights_are_those_of_kohya(kind: Any, told: dict[str, Any], expected: list[float]) -> None:
    objective = Objective.from_betas(kind)
    found = weight(objective, ObjectiveSettings(**{"min_snr": 0.0, **told}), objective.sigmas[ROWS])
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_very_clean_levels_count_as_a_ratio_of_1000() -> None:
    objective = Objective.from_betas()
    first = objective.sigmas[:1]
    assert float(objective.snr(first)) > 1000
    assert float(weight(objective, ObjectiveSettings(min_snr=0.0, debiased=True), first)) == pytest.approx(1000**-0.5)


def test_weights_multiply() -> None:
    objective = Objective.from_betas()
    sigma_B = objective.sigmas[ROWS]
    one, other = ObjectiveSettings(min_snr=5.0), ObjectiveSettings(min_snr=0.0, debiased=True)
    both = ObjectiveSettings(min_snr=5.0, debiased=True)
    product = weight(objective, one, sigma_B) * weight(objective, other, sigma_B)
    assert torch.allclose(weight(objective, both, sigma_B), product)


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_soft_min_snr_bends_the_edge(kind: Any) -> None:
    objective = Objective.from_betas(kind)
    sigma_B = objective.sigmas[ROWS]
    snr_B = 1 / sigma_B**2
    expected = 5 / (snr_B + 5) * (1 if kind == "epsilon" else snr_B / (snr_B + 1))
    found = weight(objective, ObjectiveSettings(min_snr=5.0, soft_min_snr=True), sigma_B)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    hard = weight(objective, ObjectiveSettings(min_snr=5.0), sigma_B)
    assert float((found - hard).abs().max()) > 0.05


@pytest.mark.parametrize("soft", [False, True])
def test_levels_without_signal_and_without_noise_have_a_weight_too(soft: bool) -> None:
    told = ObjectiveSettings(min_snr=5.0, soft_min_snr=soft)
    assert weight(Objective.flow(), told, torch.tensor([0.0, 1.0])).tolist() == [0.0, 0.0]
    for kind in ("epsilon", "v"):
        stretched = Objective.from_betas(kind, zero_terminal_snr=True)  # type: ignore[arg-type]
        assert bool(weight(stretched, told, stretched.sigmas).isfinite().all())


def test_a_flows_weights_are_those_of_stable_diffusion_3() -> None:
    sigma_B = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    flow = Objective.flow(3.0)
    root = weight(flow, ObjectiveSettings(min_snr=0.0, flow_weighting="sigma_sqrt"), sigma_B)
    assert root.tolist() == pytest.approx([100.0, 4.0, 1 / 0.81])
    cosmap = weight(flow, ObjectiveSettings(min_snr=0.0, flow_weighting="cosmap"), sigma_B)
    assert cosmap.tolist() == pytest.approx([2 / (math.pi * 0.82), 4 / math.pi, 2 / (math.pi * 0.82)])
    none = weight(flow, ObjectiveSettings(min_snr=0.0, flow_weighting="sigma_sqrt"), torch.tensor([0.0]))
    assert none.tolist() == [1e6], "no noise at all counts as the least of the table"
