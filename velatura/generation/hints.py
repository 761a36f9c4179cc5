"""ControlNets and the hints that they see: read, made to fit, and told to the denoiser at the steps that are theirs.

A hint is made to fit the picture to paint, and what a preprocessor makes of it is made at that size; a second, larger
pass sees a hint of its own size, made of the picture that was given.

Shape suffixes: R rows that go through the denoiser.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from velatura import controlnets, settings
from velatura.dataset.images import open_image
from velatura.errors import SettingsError, nearest
from velatura.family import Control, ControlNet, Model
from velatura.files import sha256
from velatura.generation import preprocess
from velatura.generation.control import ControlUse
from velatura.generation.masking import Region
from velatura.generation.start import fitted

BLACK = (0, 0, 0)
"""What shows through a hint where it is transparent: nothing is asked for there."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A ControlNet, and what it is shown."""

    net: ControlNet
    picture: Image.Image
    use: ControlUse
    sha256: str = ""
    """Of the hint's file, hex."""
    _made: dict[tuple[int, int], Tensor] = field(default_factory=dict, repr=False)

    def hint(self, model: Model, width: int, height: int) -> Tensor:
        """The hint for a picture of a size, as the network takes it."""
        if (width, height) not in self._made:
            hint_1CHW = as_tensor(self.fitted(width, height)).to(model.policy.device)
            with torch.no_grad():
                self._made[width, height] = model.family.encode_hint(model, self.net, hint_1CHW)
        return self._made[width, height]

    def fitted(self, width: int, height: int) -> Image.Image:
        """The hint as a picture of a size."""
        told, small = self.use, fitted(self.picture, width, height, self.use.resize_mode)
        return preprocess.hint(small, told.preprocessor, told.threshold_a, told.threshold_b)

    def of_part(self, whole: tuple[int, int], part: Region) -> Shown:
        """The same for a part of a picture that is painted by itself: what the hint says of that part.

        Args:
            whole: width and height of the picture.
            part: of it.
        """
        across, down = self.picture.width / whole[0], self.picture.height / whole[1]
        if self.use.resize_mode == "stretch" or across == down:  # of a large picture no more than the part is made
            box = (part.left * across, part.top * down, part.right * across, part.bottom * down)
            piece = self.picture.resize(part.size, Image.Resampling.LANCZOS, box=box)
        else:
            piece = fitted(self.picture, *whole, self.use.resize_mode).crop(part)
        return replace(self, picture=piece, _made={})

    def check(self, steps: int) -> None:
        """Refuse what would say nothing.

        Raises:
            SettingsError: it would be at work in none of so many steps.
        """
        if self.use.weight and not any(self.acts(step, steps) for step in range(steps)):
            raise SettingsError(
                f"the ControlNet {self.net.name} would be at work in none of {steps} steps: from {self.use.start:g} to"
                f" {self.use.end:g}",
                fix="let it end later, or use more steps",
            )

    def acts(self, step: int, steps: int) -> bool:
        """Whether it is at work at a step, counted from 0."""
        return self.use.acts(min(step, steps - 1), steps)

    def control(self, hint: Tensor, negative_R: Tensor) -> Control:
        """What a prediction is told of it.

        Args:
            hint: as `hint` says.
            negative_R: which rows are negative prompts.
        """
        alone = self.use.mode == "control" or self.net.pooled
        weight_R = self.use.weight * (~negative_R).float() if alone else torch.full((len(negative_R),), self.use.weight)
        kinds = self.net.files.kinds
        kind = kinds.index(self.use.kind) if kinds else 0
        return Control(self.net, hint, weight_R, self.use.mode != "balanced", kind)


def shown(model: Model, use: ControlUse, project: Path | None, known: dict[Path, ControlNet]) -> Shown:
    """A ControlNet that a request names, loaded beside the base, with its hint.

    Args:
        model: the base.
        use: what is asked.
        project: whose folder may hold the ControlNet.
        known: those loaded before; what is loaded is added.

    Raises:
        SettingsError: there is no such ControlNet, or it cannot do what is asked.
        ModelError: it is for other bases.
        DatasetError: the hint cannot be read.
    """
    path = settings.find_controlnet(use.file, project=project)
    picture = open_image(use.hint, background=BLACK)
    if path not in known:
        files = controlnets.recognise(path)
        controlnets.check_family(files, model.variant.family, model.name)
        known[path] = model.family.load_controlnet(model, files)
    net = known[path]
    _check(use, net)
    return Shown(net, picture, use, sha256(use.hint))


def _check(use: ControlUse, net: ControlNet) -> None:
    if use.mode != "balanced" and not net.layered:
        raise SettingsError(
            f"the mode {use.mode!r} is for ControlNets of UNets, and {net.name} is for {net.files.family}",
            fix="leave mode out, and use less weight, or end earlier",
        )
    kinds = net.files.kinds
    if kinds and use.kind not in kinds:
        close = nearest(use.kind, list(kinds)) if use.kind else None
        raise SettingsError(
            f"the ControlNet {net.name} knows several kinds of hints, and has to be told which"
            if not use.kind
            else f"the ControlNet {net.name} knows no hint of the kind {use.kind!r}",
            fix=f"write kind={close}" if close else f"write kind= and one of {', '.join(kinds)}",
        )
    if use.kind and not kinds:
        raise SettingsError(f"the ControlNet {net.name} is not told the kind of its hint", fix="leave kind out")


def as_tensor(image: Image.Image) -> Tensor:
    """A picture as (1, 3, H, W), RGB in [0, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32)) / 255
    return pixels.permute(2, 0, 1)[None]
