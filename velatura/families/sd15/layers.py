"""The layers of a Stable Diffusion 1.x base, from its settings alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velatura.adapters.tables import Table, clip, under, unet
from velatura.families.sd15.configuration import PUBLISHED


def layers(settings: Mapping[str, Mapping[str, Any]] = PUBLISHED) -> Table:
    """Every layer that an adapter may change, with its weight's shape.

    Args:
        settings: part -> what its network is made with, as `configuration.read` returns them.
    """
    return under("denoiser", unet(settings["denoiser"])) | under("text_encoder", clip(settings["text_encoder"]))
