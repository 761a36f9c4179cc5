"""Latents as pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from velatura.family import Model
from velatura.generation.reading import breakdown


@torch.inference_mode()
def decode(model: Model, latents_BCHW: Tensor) -> list[Image.Image]:
    """Latents as 8-bit pictures, one at a time, so that memory and bits do not depend on the batch."""
    images = []
    for latents_CHW in latents_BCHW:
        pixels = model.family.decode_latents(model, latents_CHW[None])[0]
        if not bool(pixels.isfinite().all()):
            raise breakdown(model, "the picture", "memory.vae_precision", model.policy.vae_dtype)
        scaled = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        images.append(Image.fromarray(np.ascontiguousarray(scaled.permute(1, 2, 0).cpu().numpy())))
    return images
