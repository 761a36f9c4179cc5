"""What pictures of other programs say of themselves, in A1111's words, and what those cannot say (no torch).

a1111      A1111, Forge and what writes as they do
swarmui    JSON in the place of the infotext
comfyui    the graph that was run, followed from its sampler back to texts, LoRAs and base
invokeai   JSON in the chunk `invokeai_metadata`
novelai    JSON in the chunk `Comment`
stealth    such words hidden in pixels
"""

from __future__ import annotations

from pathlib import Path

from velatura.generation import carriers
from velatura.generation.carriers import Embedded
from velatura.generation.elsewhere import a1111, comfyui, invokeai, novelai, stealth, swarmui
from velatura.generation.elsewhere.foreign import Foreign as Foreign

READERS = (novelai.read, invokeai.read, swarmui.read, a1111.read, comfyui.read)
"""The first that knows a picture reads it; ComfyUI's is last, since some of its savers write infotext too."""


def read(told: Embedded) -> Foreign | None:
    """What a picture of another program says of itself; None where it says nothing that is known."""
    return next((found for reader in READERS if (found := reader(told)) is not None), None)


def read_picture(path: Path) -> Foreign | None:
    """The same of a file: of its chunks, or where they say nothing, of its pixels.

    Raises:
        FileProblem: it is no picture.
    """
    return read(carriers.read(path)) or read(stealth.read(path))
