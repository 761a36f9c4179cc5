"""Adapters beside a model's layers, for painting with bases whose weights cannot hold the sum.

Rounding a merged weight to bf16 loses a good part of a typical change; computed beside the layer, the change is
rounded by itself. Several adapters on one layer become one of their ranks' sum, which says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from velatura.adapters.layers import find
from velatura.adapters.lora import Injected, LayerSpec, inject
from velatura.adapters.merge import Applied, Change, changes
from velatura.adapters.weights import LayerWeights


def beside(parts: Mapping[str, nn.Module], uses: Sequence[Applied]) -> Injected:
    """Put adapters beside the layers of a model, until they are ejected.

    Raises:
        AdapterError: an adapter does not fit the model, or a layer is adapted already.
    """
    joined = {name: _joined(told) for name, told in changes(find(parts), uses).items()}
    injected = inject(parts, [LayerSpec(name, one.rank, one.alpha) for name, one in joined.items()], seed=0)
    injected.load(joined)
    return injected


def _joined(told: Sequence[Change]) -> LayerWeights:
    """One change that is the sum of several, their strengths in it."""
    down = np.concatenate([weights.down for weights, _ in told], axis=0)
    up = np.concatenate([weights.up * np.float32(strength * weights.scale) for weights, strength in told], axis=1)
    return LayerWeights(down, up, alpha=float(len(down)))
