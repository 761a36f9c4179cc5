"""Where the files and folders are that another trainer's settings name.

Their relative paths count from wherever that trainer was started, which no file says. They are looked for beside the
file and in the current folder, and left as they are where they are in neither.
"""

from __future__ import annotations

from pathlib import Path

from velatura.foreign.translation import Translation, text


def found(named: str, beside: Path) -> Path | None:
    """The file or folder, absolute; None where it is not here."""
    if not named or named.startswith("-"):
        return None
    for folder in (beside.absolute().parent, Path.cwd()):
        try:
            place = (folder / named.replace("\\", "/")).resolve()
            if place.exists():
                return place
        except (OSError, ValueError):
            return None
    return None


def place(translation: Translation, key: str, named: str) -> str:
    """The path as a recipe says it; a note where there is nothing."""
    here = found(named, translation.where)
    if here is not None:
        return str(here)
    if not is_id(named):
        translation.notes.append(f"{translation.called(key)}: {named} is not here; put the right path into the recipe")
    return named


def begins_with(translation: Translation, key: str) -> None:
    """Carry over the LoRA that a training begins with."""
    if named := translation.take(key, text, ""):
        translation.put("train.init_from", place(translation, key, named), key, named)


def is_id(named: str) -> bool:
    """Whether this is an id on Hugging Face ("org/name") rather than a path."""
    parts = named.split("/")
    file = named.lower().endswith((".safetensors", ".sft", ".ckpt", ".pt", ".bin", ".gguf"))
    return len(parts) == 2 and all(parts) and not file and not named.startswith((".", "~"))
