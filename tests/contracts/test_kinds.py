"""Every kind that can be trained, on every family: beside the layers, in a file, merged, and gone without a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.contracts.test_families import distance, folder, latents_BCHW, loaded, predict, told  # noqa: F401
from velatura.adapters import formats, writing
from velatura.adapters.beside import SamplesTogether, beside
from velatura.adapters.layers import every_shape, find
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.trainable import LAYERS
from velatura.adapters.weights import AdapterFile, Lora
from velatura.family import Model

TOLERANCE = 1e-4


@pytest.mark.parametrize("kind", LAYERS)
def test_injected_saved_merged_and_beside_say_the_same(
    kind: str,
    loaded: Model,  # noqa: F811
    latents_BCHW: Tensor,  # noqa: F811
    tmp_path: Path,
) -> None:
    parts, keys = loaded.trainable_parts, loaded.family.keys
    names = select(["all"], find(parts), presets=loaded.family.targets)
    bits = {name: layer.weight.clone() for name, layer in find(parts).items()}
    conditioning = told(loaded, "a red boat", "a cat")
    before = predict(loaded, latents_BCHW, conditioning)
    with inject(parts, [LayerSpec(name, 2, 1.0, kind) for name in names], seed=3) as injected:
        with torch.no_grad():
            for index, parameter in enumerate(injected.parameters()):
                generator = torch.Generator().manual_seed(index)
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        expected = predict(loaded, latents_BCHW, conditioning)
        changes = injected.weights()
    assert torch.equal(predict(loaded, latents_BCHW, conditioning), before)
    assert distance(expected, before) >= 100 * TOLERANCE

    for form in (None, "kohya", "comfy"):
        path = tmp_path / f"{form}.safetensors"
        if kind == "lokr" and form is not None and loaded.variant.family in ("flux1", "z_image"):
            continue  # fused there, where it becomes a full difference: see test_golden
        adapter = AdapterFile(changes)
        data = writing.to_bytes(adapter, keys=keys, precision="F32", form=form, layers=every_shape(parts))
        path.write_bytes(data)
        read = formats.read(path, keys=keys, layers=every_shape(parts))
        uses = [Applied(read.layers, 1.0, 1.0)]
        merge(parts, loaded.pristine, uses)
        assert distance(predict(loaded, latents_BCHW, conditioning), expected) <= TOLERANCE, form
        merge(parts, loaded.pristine, [])
        assert all(torch.equal(layer.weight, bits[name]) for name, layer in find(parts).items())
        with beside(parts, uses, loaded.pristine):
            assert distance(predict(loaded, latents_BCHW, conditioning), expected) <= TOLERANCE, form
        assert torch.equal(predict(loaded, latents_BCHW, conditioning), before)


TOGETHER = {"z_image": ("denoiser.all_x_embedder", "denoiser.cap_embedder")}
"""Family -> how layers begin that take the samples of a batch one behind the other."""


def test_samples_of_a_batch_have_strengths_of_their_own_or_the_layer_says_its_name(
    loaded: Model,  # noqa: F811
    latents_BCHW: Tensor,  # noqa: F811
) -> None:
    parts = {"denoiser": loaded.trainable_parts["denoiser"]}
    refused = TOGETHER.get(loaded.variant.family, ())
    draw = np.random.default_rng(0)
    shapes = {name: tuple(layer.weight.shape) for name, layer in find(parts).items()}
    layers = {
        name: Lora(
            (0.3 * draw.standard_normal((2, *shape[1:]))).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:]))),
            draw.standard_normal((shape[0], 2, *[1] * (len(shape) - 2))).astype(np.float32),
            2.0,
        )
        for name, shape in shapes.items()
    }
    conditioning = told(loaded, "a red boat", "a cat")
    kept = {name: lora for name, lora in layers.items() if not name.startswith(refused or ("-",))}
    with beside(parts, [Applied(kept, 1.0, 1.0, name="ink")], loaded.pristine) as placed:
        alike = predict(loaded, latents_BCHW, conditioning)
        with placed.strengths({"ink": torch.tensor([1.0, 0.25])}):
            apart = predict(loaded, latents_BCHW, conditioning)
    with beside(parts, [Applied(kept, 0.25, 0.25, name="ink")], loaded.pristine):
        weak = predict(loaded, latents_BCHW, conditioning)
    assert distance(apart[:1], alike[:1]) <= TOLERANCE and distance(apart[1:], weak[1:]) <= TOLERANCE
    assert distance(apart[1:], alike[1:]) >= 100 * TOLERANCE

    for begin in refused:
        name = next(name for name in layers if name.startswith(begin))
        with beside(parts, [Applied({name: layers[name]}, 1.0, 1.0, name="ink")], loaded.pristine) as placed:
            predict(loaded, latents_BCHW, conditioning)  # one strength for all is no trouble
            with placed.strengths({"ink": torch.tensor([1.0, 0.25])}), pytest.raises(SamplesTogether, match=name):
                predict(loaded, latents_BCHW, conditioning)
