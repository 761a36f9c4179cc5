"""What an adapter's weights say: how strong each layer is, how many directions it uses, and whether it is well.

The norm is the Frobenius norm of the change at strength 1. Its singular values say how many directions carry it:
`rank_90` is the fewest that carry 90 % of the energy, the sum of their squares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from velatura.adapters.algebra import blocks
from velatura.adapters.algebra.factors import FactorFile, FileLayer, any_factors, factors, open_file
from velatura.adapters.algebra.small_svd import decompose
from velatura.errors import AdapterError

Values = NDArray[np.float64]
Health = Literal["well", "no numbers", "dead", "exploding", "damaged", "not measured"]

EXPLODING = 30.0
"""Times the median norm of the layers that do something, above which a layer is taken for one that got out of hand."""

MEASURED = frozenset({"LoHa", "LoKr", "full difference"})
"""Kinds beside those of two factors whose change does not depend on the base."""

VALUES_SHOWN = 16
"""Singular values of a layer in JSON."""


@dataclass(frozen=True)
class LayerSpectrum:
    """One layer."""

    stem: str
    block: str
    kind: str
    norm: float
    values: Values
    """Singular values, falling."""
    health: Health

    @property
    def rank_90(self) -> int:
        """The fewest directions that carry 90 % of the energy."""
        return needed(self.values, 0.9)


@dataclass(frozen=True)
class BlockSpectrum:
    """The layers of one block together."""

    block: str
    layers: int
    norm: float
    """Root of the sum of squares of its layers' norms."""
    share: float
    """Of the energy of all blocks."""
    rank: int
    """The largest of its layers."""
    rank_90: float
    """Mean over its layers that do something."""
    fall: Values
    """Mean of its layers' singular values, each divided by its largest."""
    unwell: int
    """Layers that are not well."""


@dataclass(frozen=True)
class Spectrum:
    """What the weights say."""

    layers: tuple[LayerSpectrum, ...]
    blocks: tuple[BlockSpectrum, ...]

    @property
    def unwell(self) -> tuple[LayerSpectrum, ...]:
        """Layers with something the matter."""
        return tuple(layer for layer in self.layers if layer.health not in ("well", "not measured"))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "layers": [
                {
                    "layer": layer.stem,
                    "block": layer.block,
                    "kind": layer.kind,
                    "norm": _number(layer.norm),
                    "rank_90": layer.rank_90,
                    "values": [_number(value) for value in layer.values[:VALUES_SHOWN]],
                    "health": layer.health,
                }
                for layer in self.layers
            ],
            "blocks": [{**asdict(block), "fall": [_number(value) for value in block.fall]} for block in self.blocks],
        }


def _number(value: float) -> float | None:
    """A number with six digits; JSON has none for infinity and NaN."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def needed(values: Values, share: float) -> int:
    """The fewest singular values that carry this share of the energy; 0 of a zero layer."""
    energy = np.cumsum(np.square(values))
    if not len(energy) or energy[-1] <= 0:
        return 0
    return int(np.searchsorted(energy / energy[-1], share - 1e-12)) + 1


def spectrum(path: Path) -> Spectrum:
    """Norms, singular values and health of every layer, read one after the other.

    Raises:
        FileProblem: this is not a safetensors file, or it is damaged.
        AdapterError: it holds no adapter.
    """
    file = open_file(path, folders=True)
    measured = [_measured(file, layer) for layer in file.layers.values()]
    norms = [layer.norm for layer in measured if layer.health == "well" and layer.norm > 0]
    limit = EXPLODING * float(np.median(norms)) if norms else math.inf
    layers = tuple(_judged(layer, limit) for layer in measured)
    return Spectrum(layers, tuple(_gathered(layers)))


def _measured(file: FactorFile, layer: FileLayer) -> LayerSpectrum:
    block = blocks.block_of(layer.stem)
    if not layer.low_rank and layer.kind not in MEASURED:
        return LayerSpectrum(layer.stem, block, layer.kind, 0.0, np.zeros(0), "not measured")
    try:
        change = factors(file, layer) if layer.low_rank else any_factors(file, layer)
    except AdapterError as error:
        health: Health = "no numbers" if "not numbers" in error.what else "damaged"
        return LayerSpectrum(layer.stem, block, layer.kind, math.nan, np.zeros(0), health)
    values = decompose(change.up, change.down, scale=change.scale).values
    return LayerSpectrum(layer.stem, block, layer.kind, float(np.linalg.norm(values)), values, "well")


def _judged(layer: LayerSpectrum, limit: float) -> LayerSpectrum:
    if layer.health != "well":
        return layer
    health: Health = "dead" if layer.norm == 0 else "exploding" if layer.norm > limit else "well"
    return LayerSpectrum(layer.stem, layer.block, layer.kind, layer.norm, layer.values, health)


def _gathered(layers: Sequence[LayerSpectrum]) -> Iterator[BlockSpectrum]:
    named: dict[str, list[LayerSpectrum]] = {}
    for layer in layers:
        named.setdefault(layer.block, []).append(layer)
    energies: Mapping[str, float] = {
        block: sum(layer.norm**2 for layer in found if math.isfinite(layer.norm)) for block, found in named.items()
    }
    whole = sum(energies.values()) or 1.0
    for block in blocks.in_order(named):
        found = named[block]
        alive = [layer for layer in found if len(layer.values) and layer.values[0] > 0]
        rank = max((len(layer.values) for layer in found), default=0)
        falls = [np.pad(layer.values / layer.values[0], (0, rank - len(layer.values))) for layer in alive]
        yield BlockSpectrum(
            block,
            len(found),
            math.sqrt(energies[block]),
            energies[block] / whole,
            rank,
            float(np.mean([layer.rank_90 for layer in alive])) if alive else 0.0,
            np.mean(falls, axis=0) if falls else np.zeros(rank),
            sum(layer.health not in ("well", "not measured") for layer in found),
        )
