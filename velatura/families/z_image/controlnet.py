"""ControlNets for Z-Image, by their settings or headers alone. No torch.

alibaba-pai's unions take every kind of hint without being told which. Version 1 sees the hint's latents alone; from 2
on there is room for a mask and a picture to paint in, which stay zero here. Version 2.0 was trained with its layers in
the place of those that refine the noise; 2.1 has the same keys, so the weights tell which it is.

Sources: diffusers' ZImageControlNetModel and the settings of its published conversions.
"""

from __future__ import annotations

from pathlib import Path

from velatura.controlnets import ControlFiles, counted, in_folder, prefix_of, settings_in, shape_of
from velatura.errors import ModelError
from velatura.settings import WEIGHT_ENDINGS
from velatura.weights.containers import read_header
from velatura.weights.parts import PartFiles

NETWORK = "ZImageControlNetModel"

PATCH = 4
"""Latents of a token."""


def recognise(path: Path) -> ControlFiles | None:
    """The ControlNet, or None where this is something else.

    Raises:
        ModelError: its settings are damaged.
        FileProblem: it is cut off or damaged.
    """
    if path.is_dir():
        told = settings_in(path, NETWORK)
        return None if told is None else ControlFiles("z_image", NETWORK, path, in_folder(path), told)
    if path.suffix.lower() not in WEIGHT_ENDINGS:
        return None
    header = read_header(path)
    sign = "control_all_x_embedder.2-1.weight"
    before = prefix_of(header, sign)
    if before is None:
        return None
    told = {
        "layers": counted(header, f"{before}control_layers."),
        "n_refiner_layers": counted(header, f"{before}control_noise_refiner."),
        "control_in_dim": shape_of(header, before + sign)[1] // PATCH,
    }
    return ControlFiles("z_image", NETWORK, path, PartFiles((path,), before), told)


def places(layers: int, count: int, path: Path) -> list[int]:
    """The layers of the denoiser that a ControlNet of so many speaks to: evenly from the first on.

    Raises:
        ModelError: they cannot be.
    """
    if not count or layers % count:
        raise ModelError(
            f"this ControlNet has {count} layers, and the base {layers}", where=path, fix="use one for this base"
        )
    return list(range(0, layers, layers // count))
