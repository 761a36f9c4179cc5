"""Every kind that can be trained, on every family: beside the layers, in a file, merged, and gone without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.contracts.test_families import distance, folder, latents_BCHW, loaded, predict, told  # noqa: F401
from velatura.adapters import formats
from velatura.adapters.beside import beside
from velatura.adapters.layers import every_shape, find
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.trainable import LAYERS
from velatura.adapters.weights import AdapterFile
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
        data = formats.to_bytes(adapter, keys=keys, precision="F32", form=form, layers=every_shape(parts))
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
