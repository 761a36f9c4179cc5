"""The sizes of the pocket base's kinds, and which of their weights go by which optimizer."""

from __future__ import annotations

import pytest
import torch

from velatura.pocket.architecture import ARCHITECTURES, KINDS, Kind, build
from velatura.pocket.muon import optimizers


@pytest.mark.parametrize("kind", KINDS)
def test_denoiser_and_text_encoder_of_each_kind_have_the_shipped_ones_size(kind: Kind) -> None:
    made = ARCHITECTURES[kind]
    with torch.device("meta"):
        sizes = [
            sum(weight.numel() for weight in build(part).parameters()) for part in (made.denoiser, made.text_encoder)
        ]

    assert 7e6 < sizes[0] < 8e6
    assert 0.6e6 < sizes[1] < 1e6


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_norms_and_biases_are_left_to_adamw(kind: Kind) -> None:
    made = ARCHITECTURES[kind]
    networks = [build(made.denoiser), build(made.text_encoder)]
    named = {id(weight): name for network in networks for name, weight in network.named_parameters()}
    muon, adamw = (
        {named[id(weight)] for group in one.param_groups for weight in group["params"]}
        for one in optimizers(networks, lr=1e-3)
    )

    assert muon | adamw == set(named.values())
    assert not [name for name in muon if name.endswith("bias") or "norm" in name or "embed" in name or "token" in name]
    words = {"epsilon": "token_embedding", "v": "token_embedding", "flow": "embed_tokens"}[kind]
    assert [name for name in adamw if words in name]
    assert [name for name in muon if "to_q" in name]
