"""Stable Diffusion 1.x as training and generation see it.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from velatura.adapters.formats import SD15, KeyMap
from velatura.adapters.targets import PRESETS
from velatura.families.sd15.configuration import FOLDERS
from velatura.families.sd15.load import load
from velatura.family import Conditioning, MemoryPolicy, Model, TextConditioning
from velatura.settings import file_hash
from velatura.text.clip_tokens import CHUNK, Chunk, chunks
from velatura.text.weighted import WeightedText, plain
from velatura.weights.source import BaseFolder


class Sd15:
    """The family."""

    name = "sd15"
    keys: KeyMap = SD15
    targets: Mapping[str, tuple[str, ...]] = PRESETS

    def load(self, source: Path, *, policy: MemoryPolicy) -> Model:
        """As `ModelFamily.load`."""
        return load(self, source, base_hash(source), policy)

    def encode_images(self, model: Model, images_BCHW: Tensor) -> Tensor:
        """As `ModelFamily.encode_images`."""
        vae: Any = model.parts["vae"]
        encoded = vae.encode(images_BCHW.to(model.policy.device, model.policy.vae_dtype))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        scaled: Tensor = (latents.float() - model.latent_shift) * model.latent_scale
        return scaled

    def decode_latents(self, model: Model, latents_BCHW: Tensor) -> Tensor:
        """As `ModelFamily.decode_latents`."""
        vae: Any = model.parts["vae"]
        latents = latents_BCHW / model.latent_scale + model.latent_shift
        images: Tensor = vae.decode(latents.to(model.policy.vae_dtype)).sample
        return images.float()

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """As `ModelFamily.encode_prompts`; emphasis multiplies and keeps each chunk's mean, as A1111's "Original"."""
        tokenizer = model.tokenizers[0]
        cut = [chunks(prompt, tokenizer) for prompt in prompts]
        longest = max(len(pieces) for pieces in cut)
        empty = chunks(plain(""), tokenizer)[0]
        columns = [
            self._encode(model, [pieces[at] if at < len(pieces) else empty for pieces in cut]) for at in range(longest)
        ]
        return TextConditioning(torch.cat(columns, dim=1))

    def _encode(self, model: Model, column: list[Chunk]) -> Tensor:
        text_encoder: Any = model.parts["text_encoder"]
        device = model.policy.device
        # A short text encoder (fewer than 77 places) is told as much as it can hold.
        places = min(CHUNK + 2, int(text_encoder.config.max_position_embeddings))
        tokens_BL = torch.tensor([_shortened(chunk.tokens, places) for chunk in column], device=device)
        weights_BL = torch.tensor([chunk.weights[:places] for chunk in column], device=device)
        if model.clip_skip > 1:
            hidden = text_encoder(tokens_BL, output_hidden_states=True).hidden_states[-model.clip_skip]
            encoded_BLD = _clip_body(text_encoder).final_layer_norm(hidden)
        else:
            encoded_BLD = text_encoder(tokens_BL).last_hidden_state
        if bool((weights_BL == 1).all()):
            plain_BLD: Tensor = encoded_BLD
            return plain_BLD
        weighted_BLD = encoded_BLD * weights_BL[..., None].to(encoded_BLD.dtype)
        kept_B11 = encoded_BLD.mean(dim=(1, 2), keepdim=True) / weighted_BLD.mean(dim=(1, 2), keepdim=True)
        renormalised: Tensor = weighted_BLD * kept_B11
        return renormalised

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """As `ModelFamily.predict`."""
        denoiser: Any = model.parts["denoiser"]
        dtype = model.policy.dtype
        timestep_B = model.objective.timestep(sigma_B).to(torch.float32).to(noisy_BCHW.device)
        scaled_BCHW = model.objective.scale_input(noisy_BCHW, sigma_B).to(dtype)
        if conditioning.extra_latents_BCHW is not None:
            scaled_BCHW = torch.cat([scaled_BCHW, conditioning.extra_latents_BCHW.to(dtype)], dim=1)
        predicted = denoiser(scaled_BCHW, timestep_B, conditioning.text.tokens_BLD.to(dtype), return_dict=False)[0]
        prediction: Tensor = predicted.float()
        return prediction


def _shortened(tokens: tuple[int, ...], places: int) -> tuple[int, ...]:
    """Tokens cut to the places there are; a chunk that is cut keeps its end."""
    if len(tokens) <= places:
        return tokens
    kept = tokens[:places]
    return kept if tokens[-1] in kept else (*kept[:-1], tokens[-1])


def _clip_body(text_encoder: Any) -> Any:
    """The module with the final norm, whichever version of transformers lays it out."""
    return getattr(text_encoder, "text_model", text_encoder)


def base_hash(source: Path) -> str:
    """sha256 of a single file; of a folder, over the hashes of the parts' weight files."""
    if source.is_file():
        return file_hash(source)
    folder = BaseFolder(source)
    digests = [file_hash(folder.weight_file(place)) for place in FOLDERS.values()]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


FAMILY = Sd15()
