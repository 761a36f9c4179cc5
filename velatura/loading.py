"""Putting a base together: its networks, built empty and filled from mapped weights, and what its settings say.

What every family does alike; which names a part's tensors bear in its files is the family's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from velatura.bases import Base, base_hash, kinds
from velatura.configuration import Configuration
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.family import MemoryPolicy, Model, ModelFamily, Pristine
from velatura.settings import base_name
from velatura.text.readers import Reader
from velatura.weights import policy as memory
from velatura.weights.containers import read_header
from velatura.weights.layouts import Place, stable_diffusion
from velatura.weights.networks import BALLAST, build, unused
from velatura.weights.parts import held_by
from velatura.weights.residence import Resident, Turns
from velatura.weights.source import FP8_MARKS, Weights, held

Places = Callable[[str, Mapping[str, Tensor], Collection[str], str], Mapping[str, Place]]
"""Where the tensors of a part lie: its name, its network's tensors, the keys in its files, their layout."""


@dataclass(frozen=True)
class Networks:
    """A base's networks, and the weights that they were filled from."""

    parts: dict[str, nn.Module]
    weights: dict[str, Weights]
    unused: dict[str, tuple[str, ...]]
    """Part -> keys in its files that its network has no use for; "base" -> those of a file that are of no part."""
    turns: Turns | None = None
    """Which of them are in memory, where they take turns."""


def networks(
    base: Base,
    classes: Mapping[str, str],
    told: Configuration,
    policy: MemoryPolicy,
    *,
    places: Places,
    passed_over: Mapping[str, Collection[str]],
    prepare: Callable[[str, nn.Module], None] = lambda part, network: None,
) -> Networks:
    """Every part's network with a copy of its weights, on the policy's device; where parts take turns, filled later.

    Args:
        classes: part -> the class of its network.
        places: where tensors lie that bear other names in their files.
        passed_over: part -> endings of keys that its files may hold for others.
        prepare: done to each network before it is filled.

    Raises:
        ModelError: weights are missing or misshapen, or a network is of a kind that is not known.
    """
    parts, mapped, left, residents = {}, {}, {}, {}
    for kind in kinds(base.variant.family):
        part, lies = kind.name, base.parts[kind.name]
        network = build(classes[part], told.parts[part], base.source)
        prepare(part, network)
        tensors = held(lies)
        weights = Weights(tensors, places(part, network.state_dict(), tensors.keys(), lies.layout))
        left[part] = unused(network, weights, tuple(passed_over.get(part, ())))
        parts[part], mapped[part] = network, weights
        resident = Resident(part, network, weights, policy, where=base.source)
        if policy.in_turn:
            residents[part] = resident
        else:
            resident.arrive()
    left["base"] = _of_no_part(base, tuple(end for ends in passed_over.values() for end in ends))
    return Networks(parts, mapped, left, Turns(residents, parts) if residents else None)


def _of_no_part(base: Base, passed_over: tuple[str, ...]) -> tuple[str, ...]:
    """Keys of a base's file that stand behind the prefix of none of its parts, and are not known as ballast."""
    if base.source.is_dir():
        return ()
    header = read_header(base.source)
    prefixes = tuple(prefix for prefix, _ in held_by(header, kinds(base.variant.family)).values())
    ends = (*passed_over, *FP8_MARKS)
    others = (key for key in header.entries if not key.startswith(prefixes) and not key.endswith(ends))
    return tuple(sorted(key for key in others if not BALLAST.search(key)))


def autoencoder_places(own: Collection[str], keys: Collection[str], layout: str) -> Mapping[str, Place]:
    """Where the tensors of an AutoencoderKL lie, in its authors' layout or in diffusers' of any year."""
    if layout == "diffusers":
        return stable_diffusion.current_autoencoder(keys)
    return stable_diffusion.autoencoder(own)


def assembled(
    family: ModelFamily,
    base: Base,
    told: Configuration,
    found: Networks,
    policy: MemoryPolicy,
    *,
    resolution: int,
    scaling_factor: float,
    tokenizers: tuple[Any, ...],
    readers: tuple[Reader, ...],
    **facts: Any,
) -> Model:
    """The model, frozen.

    Args:
        scaling_factor: of its latents, where the autoencoder's settings are silent.
        facts: of this checkpoint, further fields of `Model`.
    """
    vae = told.parts["vae"]
    model = Model(
        family=family,
        variant=base.variant,
        name=base_name(base.source),
        hash=base_hash(base),
        objective=Objective.from_scheduler(told.scheduler),
        parts=found.parts,
        pristine=Pristine(found.parts, found.weights),
        tokenizers=tokenizers,
        readers=readers,
        resolution=resolution,
        latent_channels=int(vae.get("latent_channels", 4)),
        latent_factor=told.latent_factor,
        latent_scale=float(vae.get("scaling_factor", scaling_factor)),
        latent_shift=float(vae.get("shift_factor") or 0.0),
        policy=policy,
        turns=found.turns,
        unused=found.unused,
        **facts,
    )
    model.freeze()
    memory.apply(model.parts, policy)
    return model


def check_autoencoder(told: Configuration, base: Base, known: tuple[str, ...] = ("AutoencoderKL",)) -> None:
    """Refuse a base with an autoencoder of another kind.

    Raises:
        ModelError: it has one.
    """
    kind = told.parts["vae"].get("_class_name", known[0])
    if kind not in known:
        raise ModelError(
            f"the autoencoder of this base is a {kind}", where=base.source, fix=f"use one that is an {known[0]}"
        )


def extra_channels(told: Configuration, base: Base) -> int:
    """What a UNet takes beside the latents: 0, or the mask and the masked picture's latents of an inpainting base.

    Raises:
        ModelError: it takes something else.
    """
    taken = int(told.parts["denoiser"].get("in_channels", 4))
    given = int(told.parts["vae"].get("latent_channels", 4))
    if taken not in (given, 2 * given + 1):
        raise ModelError(
            f"the denoiser takes {taken} channels and the latents have {given}: this is neither a base nor an"
            " inpainting base",
            where=base.source,
            fix="use the base that it was made from",
        )
    return taken - given
