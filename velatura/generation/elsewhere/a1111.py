"""Pictures of A1111, Forge, and of all that write their infotext."""

from __future__ import annotations

from velatura.generation.carriers import Embedded
from velatura.generation.elsewhere.foreign import Foreign
from velatura.generation.infotext import Infotext


def read(told: Embedded) -> Foreign | None:
    """An infotext with settings in it."""
    found = told.infotext
    if found is None or not found.settings:
        return None
    return Foreign(program(found), found)


def program(found: Infotext) -> str:
    """Who wrote it, as far as the version tells."""
    version = found.settings.get("Version", "")
    if version.startswith("velatura"):
        return "Velatura"
    if version.lower().startswith(("f1", "f2", "forge", "neo", "classic")):
        return "Forge"
    if "comfyui" in version.lower():
        return "ComfyUI"
    return "A1111"
