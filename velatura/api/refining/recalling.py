"""What a picture says of how it was made, for painting on in it: its prompts, LoRAs, base, seed and sampling.

Unlike painting it again (`repeating`), what it was painted from, its size and a second pass are of no account, and this
machine chooses its own precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from velatura import recipe
from velatura.api.painting.borrowing import borrowed
from velatura.api.painting.repeating import CALLED, NESTED, Changes, found_base, found_loras
from velatura.api.painting.request import GenerateRequest
from velatura.errors import SettingsError
from velatura.generation import prompt as grammar
from velatura.generation.carriers import read
from velatura.generation.elsewhere import read_picture

LEFT = frozenset((*NESTED, "width", "height", "threads", "variation_seed", "variation_strength"))
"""What of the record is left behind."""


def recalled(picture: Path, *, project: Path | None = None, changes: Changes | None = None) -> GenerateRequest:
    """The request that paints as a picture was painted, with what is told otherwise.

    Raises:
        SettingsError: the picture does not say how it was made, or something that it was made with is not here.
        FileProblem: it is no picture.
    """
    changes = changes or Changes()
    words, told = read(picture), dict(changes.told)
    remarks: tuple[str, ...] = ()
    if words.record is not None and isinstance(words.record.get("base"), dict):
        found = _own(words.record, project, told)
        tuning = found.pop("tuning")
    elif (foreign := read_picture(picture)) is not None and foreign.infotext.prompt:
        theirs = borrowed(foreign, project=project, base="base" not in told)
        found = {key: value for key, value in theirs.told.items() if key not in LEFT}
        tuning, remarks = theirs.told["tuning"], theirs.remarks
    elif {"prompt", "base"} <= set(told):
        found, tuning = {}, recipe.TuningSettings()
    else:
        missing = [option for name, option in (("base", "--base"), ("prompt", "--prompt")) if name not in told]
        raise SettingsError(
            "this picture does not say how it was made", where=picture, fix=f"say it with {' and '.join(missing)}"
        )
    memory = recipe.load(project).memory if project is not None else recipe.MemorySettings()
    return GenerateRequest(
        **{
            **found,
            "as_is": not {"prompt", "negative"} & set(told),
            "memory": recipe.with_memory(memory, changes.memory),
            "tuning": recipe.with_tuning(changes.tuning, tuning),
            "remarks": remarks,
            "project": project,
            **told,
        }
    )


def _own(record: Mapping[str, Any], project: Path | None, told: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the request out of Velatura's own record; what is told otherwise is not looked for."""
    known = {one.name for one in fields(GenerateRequest)} - LEFT
    found = {name: value for key, value in record.items() if (name := CALLED.get(key, key)) in known}
    inside, loras = len(grammar.extract_loras(str(record["prompt"]))[1]), tuple(record.get("loras", ()))
    named = () if "prompt" in told else loras[:inside]
    beside = () if "loras" in told else loras[inside:]
    words = "" if "prompt" in told else record["prompt"]
    prompt, found["loras"] = found_loras({"prompt": words, "loras": (*named, *beside)}, project)
    if "prompt" not in told:
        found["prompt"] = prompt
    if "base" not in told:
        base = record["base"]
        found["base"], found["base_sha256"] = found_base(base, project), base["sha256"]
        found["vae"], found["text_encoders"] = base.get("vae", ""), tuple(base.get("text_encoders", ()))
    found["tuning"] = recipe.TuningSettings(**record.get("tuning", {}))
    return found
