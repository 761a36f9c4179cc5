"""Loading a FLUX.1 base from a diffusers folder or files in its authors' layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from velatura.bases import Base, base_hash
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.families.flux1 import configuration, layout
from velatura.families.flux1.configuration import CLASSES, PARTS, PATCH, VAE, Configuration
from velatura.family import Defaults, MemoryPolicy, Model, Pristine
from velatura.settings import base_name
from velatura.text import clip_files, clip_tokens, t5_files, t5_tokens
from velatura.weights.layouts import Place, clip, stable_diffusion
from velatura.weights.networks import build, fill
from velatura.weights.source import Weights, held

if TYPE_CHECKING:
    from velatura.family import ModelFamily

T5_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")
"""Two names of one tensor; files have either or both."""

DEV = Defaults(steps=20, cfg_scale=1.0, guidance=3.5, sampler="Euler", scheduler="Uniform")
SCHNELL = Defaults(steps=4, cfg_scale=1.0, sampler="Euler", scheduler="Uniform")


def load(family: ModelFamily, base: Base, policy: MemoryPolicy) -> Model:
    """The base with its networks on the policy's device.

    Raises:
        ModelError: a part is missing, damaged, or of a kind that is not known.
    """
    told = configuration.read(base)
    vae = told.parts["vae"]
    _check(told.parts["denoiser"], vae, base)
    tokenizers = _tokenizers(base, told)  # before gigabytes are read
    parts: dict[str, nn.Module] = {}
    weights: dict[str, Weights] = {}
    unused: dict[str, tuple[str, ...]] = {}
    for kind in PARTS:
        part = kind.name
        network = build(CLASSES[part], told.parts[part], base.source)
        if part == "text_encoder_2":
            _tie(network)
        weights[part] = _weights(part, network, base)
        unused[part] = fill(
            network,
            weights[part],
            part=part,
            where=base.source,
            device=policy.device,
            dtype=policy.vae_dtype if part == "vae" else policy.dtype,
            passed_over=clip.BALLAST if part == "text_encoder" else (),
        )
        parts[part] = network
    model = Model(
        family=family,
        variant=base.variant,
        name=base_name(base.source),
        hash=base_hash(base),
        objective=Objective.from_scheduler(told.scheduler),
        parts=parts,
        pristine=Pristine(parts, weights),
        tokenizers=tokenizers,
        resolution=told.resolution,
        latent_channels=int(vae["latent_channels"]),
        latent_factor=told.latent_factor,
        patch=PATCH,
        side_step=PATCH,
        latent_scale=float(vae.get("scaling_factor", VAE["scaling_factor"])),
        latent_shift=float(vae.get("shift_factor") or 0.0),
        guidance="distilled" if told.guided else "none",
        policy=policy,
        defaults=DEV if told.guided else SCHNELL,
        distilled_steps=not told.guided,
        unused=unused,
    )
    model.freeze()
    return model


def _check(denoiser: Mapping[str, Any], vae: Mapping[str, Any], base: Base) -> None:
    taken = int(denoiser.get("in_channels", 0))
    given = int(vae.get("latent_channels", 0)) * PATCH**2
    if taken != given:
        raise ModelError(
            f"the denoiser takes {taken} channels, a patch of the autoencoder's latents has {given}",
            where=base.source,
            fix="use the autoencoder of FLUX.1",
        )


def _tie(text_encoder: Any) -> None:
    """One embedding under both its names: transformers ties them only when it loads a file itself."""
    text_encoder.set_input_embeddings(text_encoder.shared)


def _weights(part: str, network: nn.Module, base: Base) -> Weights:
    """A part's mapped tensors under the names of its network."""
    lies = base.parts[part]
    tensors, own = held(lies), network.state_dict()
    places: dict[str, Place] = {}
    if part == "text_encoder":
        places = clip.transformers(own, tensors)
    elif part == "text_encoder_2":
        shared = next((name for name in T5_EMBEDDING if name in tensors), T5_EMBEDDING[0])
        places = {name: Place(shared) for name in T5_EMBEDDING if name in own}
    elif part == "vae":
        diffusers = lies.layout == "diffusers"
        places = stable_diffusion.current_autoencoder(tensors) if diffusers else stable_diffusion.autoencoder(own)
    elif lies.layout != "diffusers":
        places = layout.transformer({name: tuple(tensor.shape) for name, tensor in own.items()})
    return Weights(tensors, places)


def _tokenizers(base: Base, told: Configuration) -> tuple[Any, ...]:
    if base.source.is_dir():
        return clip_tokens.load(base.source / "tokenizer"), t5_tokens.load(base.source / "tokenizer_2")
    clip_l, t5 = (base.parts[part].files[0] for part in ("text_encoder", "text_encoder_2"))
    return (
        clip_files.load(clip_l, told.parts["text_encoder"]),
        t5_files.load(t5, told.parts["text_encoder_2"], name="tokenizer_2"),
    )
