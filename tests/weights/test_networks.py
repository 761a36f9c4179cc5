"""An empty network filled from weights: every weight in its place, and what has none told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from velatura.errors import ModelError
from velatura.weights.networks import fill, listed

WHERE = Path("base.safetensors")


class Network(nn.Module):
    """Weights, a buffer, and counted positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("position_ids", torch.arange(5)[None])


def empty() -> Network:
    with torch.device("meta"):
        return Network()


def weights() -> dict[str, Tensor]:
    return {name: torch.randn(tensor.shape) for name, tensor in empty().state_dict().items() if name != "position_ids"}


def test_every_weight_is_copied_and_positions_are_counted() -> None:
    network, given = empty(), weights()
    assert fill(network, given, part="denoiser", where=WHERE) == ()
    held = network.state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in given.items())
    assert all(held[name].data_ptr() != tensor.data_ptr() for name, tensor in given.items())
    assert network.position_ids.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    "name",
    [
        "position_ids",
        "text_model.embeddings.position_ids",
        "model_ema.decay",
        "model_ema.diffusion_modelout0bias",
        "loss.perceptual_loss.lin0.model.1.weight",
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_mean_coef1",
        "lvlb_weights",
        "logvar",
        "v_pred",
        "ztsnr",
    ],
)
def test_ballast_is_known_by_name(name: str) -> None:
    assert fill(empty(), {**weights(), name: torch.zeros(1)}, part="denoiser", where=WHERE) == ()


@pytest.mark.parametrize("name", ["third.weight", "first.lora_up.weight", "alpha", "loss_weight", "my_betas", "emad"])
def test_anything_else_without_a_place_is_told(name: str) -> None:
    assert fill(empty(), {**weights(), name: torch.zeros(1)}, part="denoiser", where=WHERE) == (name,)


def test_what_a_family_knows_to_be_of_no_use_is_passed_over() -> None:
    given = {**weights(), "logit_scale": torch.zeros(1)}
    assert fill(empty(), given, part="text encoder", where=WHERE, passed_over=("logit_scale",)) == ()


def test_the_first_few_missing_weights_are_named() -> None:
    given = weights()
    for name in ("first.weight", "second.bias"):
        del given[name]
    with pytest.raises(ModelError, match=r"do not fit its settings: first\.weight, second\.bias missing"):
        fill(empty(), given, part="denoiser", where=WHERE)
    with pytest.raises(ModelError, match=r"first\.bias, first\.weight, scale and 2 more missing"):
        fill(empty(), {}, part="denoiser", where=WHERE)


def test_weights_of_another_shape_are_named_with_both_shapes() -> None:
    given = {**weights(), "first.weight": torch.zeros(4, 3), "scale": torch.tensor(1.0)}
    with pytest.raises(ModelError, match=r"first\.weight is 4 x 3 and not 2 x 3, scale is a single number and not 2"):
        fill(empty(), given, part="denoiser", where=WHERE)


def test_a_list_is_cut_after_the_third() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
