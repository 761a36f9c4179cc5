"""Adapters that are compared or joined: the layers of each, by names that mean the same in all of them.

Without a base's names the layers are known by their spelling in the files, which will do where all spell alike. Given a
family's key map and layers, they are known by the base's own names, whatever the spelling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from velatura import tensorfile
from velatura.adapters.algebra.factors import FactorFile, Factors, any_factors, of_change, open_file
from velatura.adapters.formats import Attached, KeyMap, attach, changes_of
from velatura.adapters.weights import Shape
from velatura.errors import AdapterError
from velatura.tensorfile import RawTensor


class Side(Protocol):
    """One of several adapters."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def names(self) -> Mapping[str, object]:
        """Its layers, in order."""

    def factors(self, name: str) -> Factors:
        """A layer's change.

        Raises:
            AdapterError: it is damaged, or depends on the base's weight.
        """


@dataclass(frozen=True)
class SpelledSide:
    """An adapter whose layers are known as its file spells them."""

    file: FactorFile

    @property
    def path(self) -> Path:
        """As in `Side`."""
        return self.file.path

    @property
    def names(self) -> Mapping[str, object]:
        """As in `Side`."""
        return self.file.layers

    def factors(self, name: str) -> Factors:
        """As in `Side`."""
        return any_factors(self.file, self.file.layers[name])


@dataclass(frozen=True)
class NamedSide:
    """An adapter whose layers are known as the base calls them."""

    file: FactorFile
    attached: Attached

    @property
    def path(self) -> Path:
        """As in `Side`."""
        return self.file.path

    @cached_property
    def names(self) -> Mapping[str, str]:
        """As in `Side`: the base's name -> the file's."""
        return {name: stem for stem, owners in self.attached.owners.items() for name, _ in owners}

    def factors(self, name: str) -> Factors:
        """As in `Side`."""
        stem = self.names[name]
        tensors: dict[str, RawTensor] = {
            key: tensorfile.read_tensor(self.path, self.file.header, key) for key in self.attached.stems[stem].values()
        }
        return of_change(changes_of(self.attached, stem, tensors, self.file.metadata)[name], name, self.path)

    def flattened(self, layers: Mapping[str, Shape]) -> bool:
        """Whether it changes a convolution in a kind that stores its kernel flat, so that the base has to tell it."""
        flat = {stem for stem, layer in self.file.layers.items() if layer.kind in ("LoHa", "LoKr")}
        return any(stem in flat and math.prod(layers[name][2:]) > 1 for name, stem in self.names.items())


@dataclass(frozen=True)
class Names:
    """What a family's layers are called."""

    keys: KeyMap
    layers: Mapping[str, Shape]


def spelled(paths: Sequence[Path]) -> list[SpelledSide]:
    """The adapters by their files' spelling.

    Raises:
        FileProblem, AdapterError: a file is damaged, or no adapter.
    """
    return [SpelledSide(open_file(path)) for path in paths]


def named(paths: Sequence[Path], names: Names) -> list[NamedSide]:
    """The adapters by the base's names.

    Raises:
        FileProblem, AdapterError: a file is damaged, or has keys that attach to nothing.
    """
    sides = []
    for path in paths:
        file = open_file(path)
        attached = attach(file.header.entries, keys=names.keys, layers=names.layers, where=path)
        if attached.strange:
            raise AdapterError(
                f"{len(attached.strange)} keys of this file belong to no layer of {names.keys.family}: "
                f"{attached.strange[0]}",
                where=path,
            )
        sides.append(NamedSide(file, attached))
    return sides


def alike(sides: Sequence[NamedSide]) -> bool:
    """Whether all files spell every layer that they share the same way."""
    spellings: dict[str, str] = {}
    for side in sides:
        for name, stem in side.names.items():
            if spellings.setdefault(name, stem) != stem:
                return False
    return True
