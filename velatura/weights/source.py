"""Where a base model's weights lie, read without copying them.

Tensors are mapped from the file, in the file's type. A model keeps them as its pristine weights:
what an adapter is merged onto, and restored from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velatura.errors import FileProblem, ModelError
from velatura.files import disk_problems
from velatura.weights import containers
from velatura.weights.layouts import Place
from velatura.weights.parts import PartFiles

if TYPE_CHECKING:
    from torch import Tensor

WEIGHT_NAMES = ("diffusion_pytorch_model", "model")
"""A part's weights in a diffusers folder, without variant and ending."""

VARIANTS = ("", ".fp16", ".bf16")

SCALES = (".scale_weight", ".weight_scale")
"""What stands beside a weight that is stored in fp8 divided by a scale, in place of `.weight`."""

FP8_MARKS = ("scaled_fp8", ".scale_input", ".input_scale", ".comfy_quant", *SCALES)
"""How keys end that belong to such storage and to no network."""


@dataclass(frozen=True)
class BaseFolder:
    """A base as a diffusers folder: one folder for each part."""

    path: Path

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """A part's settings.

        Raises:
            ModelError: the file is missing or damaged.
        """
        path = self.path / part / name
        if not path.exists():
            raise ModelError(f"the base lacks {part}/{name}", where=self.path, fix="fetch the base again")
        with disk_problems(path):
            data = path.read_bytes()
        try:
            return dict(json.loads(data))
        except (ValueError, TypeError, RecursionError) as error:
            raise ModelError(f"{part}/{name} is damaged", where=self.path, fix="fetch the base again") from error

    def known(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """As `config`; empty where the file is missing or damaged, which loading will tell."""
        try:
            return self.config(part, name)
        except (ModelError, FileProblem):
            return {}

    def held(self, part: str) -> tuple[Path, ...]:
        """As `files`; empty where there are none.

        Raises:
            ModelError: a shard is missing, or the list of shards is damaged.
        """
        for name in WEIGHT_NAMES:
            for variant in VARIANTS:
                path = self.path / part / f"{name}{variant}.safetensors"
                if path.exists():
                    return (path,)
                index = self.path / part / f"{name}.safetensors.index{variant}.json"
                if index.exists():
                    return self._shards(index)
        return ()

    def files(self, part: str) -> tuple[Path, ...]:
        """The file, or the shards, with a part's weights.

        Raises:
            ModelError: there are none, or a shard is missing.
        """
        if found := self.held(part):
            return found
        raise ModelError(
            f"the base has no weights for its {part} as safetensors",
            where=self.path / part,
            fix="fetch it in safetensors format",
        )

    def _shards(self, index: Path) -> tuple[Path, ...]:
        with disk_problems(index):
            text = index.read_text(encoding="utf-8")
        try:
            names = sorted(set(json.loads(text)["weight_map"].values()))
            # a shard lies beside its index, whatever the index says
            shards = tuple(index.parent / Path(str(name)).name for name in names)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError("the list of shards is damaged", where=index, fix="fetch the base again") from error
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise ModelError(
                f"the base lacks {missing[0] or 'a shard'}", where=index.parent, fix="fetch the base again"
            )
        return shards


class Held(Mapping[str, "Tensor"]):
    """A part's tensors under their keys without the part's prefix, mapped, or made when asked for."""

    def __init__(self, part: PartFiles) -> None:
        """Open the part's files.

        Raises:
            FileProblem: a file is cut off or damaged.
            ModelError: a pickled file holds more than weights.
            MissingExtra: a file's format needs a package that is not installed.
        """
        self._places: dict[str, tuple[Mapping[str, Tensor], str]] = {}
        for path in part.files:
            opened = containers.tensors(path)
            for key in opened:
                if key.startswith(part.prefix):
                    self._places[key.removeprefix(part.prefix)] = opened, key

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of this key."""
        opened, full = self._places[key]
        return opened[full]

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)


def held(part: PartFiles) -> Held:
    """A part's tensors."""
    return Held(part)


class Weights(Mapping[str, "Tensor"]):
    """A part's tensors under the names that its network gives them: views of the mapped files, made when asked for.

    Weights in scaled fp8 are multiplied out, in fp32, when asked for.
    """

    def __init__(self, held: Mapping[str, Tensor], places: Mapping[str, Place]) -> None:
        """Names whose key is not held are left out; keys that nothing asks for keep their own names."""
        self._held = held
        self._places = {name: place for name, place in places.items() if place.key in held}
        used = {place.key for place in self._places.values()}
        for key in held:
            if key not in used and not key.endswith(FP8_MARKS):
                self._places.setdefault(key, Place(key))

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of this name."""
        place = self._places[name]
        tensor = self._held[place.key]
        stem = place.key.removesuffix(".weight")
        scale = next((self._held[stem + end] for end in SCALES if stem + end in self._held), None)
        if scale is not None:
            tensor = tensor.float() * scale.float()
        return taken(tensor, place)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)


def taken(tensor: Tensor, place: Place) -> Tensor:
    """What a place means of the tensor that lies there: a view, but for swapped halves."""
    import torch

    if place.rows is not None:
        tensor = tensor[slice(*place.rows)]
    if place.transposed:
        tensor = tensor.T
    if place.halves_swapped:
        first, second = tensor.chunk(2)
        tensor = torch.cat([second, first])
    if place.pointwise and tensor.shape[2:] == (1,) * (tensor.dim() - 2):
        tensor = tensor.flatten(1)
    return tensor
