"""Tensors that rest in a file: given back bit for bit, for as long as they are held."""

from __future__ import annotations

import gc

import pytest
import torch

from velatura import settings as user
from velatura.weights.shelf import Shelf

TENSORS = (
    torch.arange(7, dtype=torch.uint8),
    torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
    torch.full((2, 3, 1, 1), -0.5, dtype=torch.bfloat16),
    torch.randn(4, 6, generator=torch.Generator().manual_seed(1)).t(),
)


def test_tensors_come_back_as_they_were_put_also_after_the_shelf_is_closed() -> None:
    with Shelf() as shelf:
        resting = [shelf.put(tensor) for tensor in TENSORS]
    del shelf
    gc.collect()
    for tensor, found in zip(TENSORS, resting, strict=True):
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found, tensor)


def test_a_closed_shelf_takes_nothing_and_leaves_no_file() -> None:
    shelf = Shelf()
    shelf.put(TENSORS[0])
    shelf.close()
    shelf.close()
    with pytest.raises(ValueError, match="closed"):
        shelf.put(TENSORS[0])
    assert not list(user.load().cache.glob("resting-*"))
