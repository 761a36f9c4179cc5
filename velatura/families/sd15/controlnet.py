"""ControlNets for Stable Diffusion 1.x, by their settings or headers alone. No torch."""

from __future__ import annotations

from pathlib import Path

from velatura.controlnets import ControlFiles, unet


def recognise(path: Path) -> ControlFiles | None:
    """The ControlNet, or None where this is something else.

    Raises:
        ModelError, FileProblem: as `unet.recognise`.
    """
    return unet.recognise(path, "sd15", sized=False)
