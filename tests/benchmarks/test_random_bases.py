"""Bases of random weights: files of the published size that are known for what they are."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from random_bases import PREFIXES, TYPES, published

from tests.sparse import write
from velatura.bases import BaseFiles, locate, recognise
from velatura.weights.policy import counted

SIZES = {"sd15": 1_066_235_307, "sdxl": 3_468_837_857, "flux1": 16_860_369_379}
"""Numbers of all parts together."""


@pytest.mark.parametrize("family", list(PREFIXES))
def test_the_file_is_of_the_published_size_and_recognised_with_all_its_parts(family: str, tmp_path: Path) -> None:
    tensors = {name: (TYPES[family], shape) for name, shape in published(family)}
    assert abs(sum(math.prod(shape) for _, shape in tensors.values()) / SIZES[family] - 1) < 1e-6
    path = write(tmp_path / "random.safetensors", tensors)
    assert recognise(BaseFiles(path)).family == family
    parts = locate(BaseFiles(path)).parts
    assert set(parts) == set(PREFIXES[family])
    assert sum(counted(parts).values()) == sum(math.prod(shape) for _, shape in tensors.values())
