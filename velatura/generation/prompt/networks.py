"""LoRAs that a prompt names.

    <lora:name>  <lora:name:0.8>   strength 1, 0.8
    <lora:name:0.5:0.8>            0.5 on the text encoders, 0.8 on the denoiser (also te=0.5 unet=0.8)
    <lora:name:1:lbw=OUTS>         1, but only on some blocks: a preset, or a weight for each (`adapters.blocks`)
    <lora:name:1:start=5:stop=20>  1, in the sampling steps 5 to 20 (also step=5-20); of the denoiser alone

`<lyco:...>` means the same.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from velatura.errors import PromptError
from velatura.generation.prompt.emphasis import number

_NETWORK = re.compile(r"<(\w+):([^>]+)>")
_LORA_TYPES = ("lora", "lyco")
_LORA_PLACES = ("name", "te", "unet")
_LORA_SETTINGS = (*_LORA_PLACES, "lbw", "start", "stop", "step")
_LORA_FIX = "write <lora:name:strength>, or <lora:name:text strength:denoiser strength>"


@dataclass(frozen=True)
class LoraUse:
    """A LoRA that a prompt asks for, by the name the prompt gives it."""

    name: str
    denoiser_strength: float = 1.0
    text_strength: float = 1.0
    blocks: str = ""
    """Weights of blocks, as `adapters.blocks.factors` takes them; empty: all the same."""
    start: int | None = None
    """The first sampling step in which it acts, from 1."""
    stop: int | None = None
    """The last one."""


def extract_loras(prompt: str) -> tuple[str, tuple[LoraUse, ...]]:
    """The prompt without its `<lora:...>` marks, and what they ask for.

    Raises:
        PromptError: see `parse`.
    """
    words, end, loras = [], 0, []
    for match in _marks(prompt):
        words.append(prompt[end : match.start()])
        loras.append(_lora(match))
        end = match.end()
    return "".join([*words, prompt[end:]]), tuple(loras)


def _marks(prompt: str) -> Iterator[re.Match[str]]:
    """What is in <...>; behind the last > nothing is looked for, so that text full of < takes no longer."""
    return _NETWORK.finditer(prompt, 0, prompt.rfind(">") + 1)


def rename_loras(prompt: str, names: Mapping[str, str]) -> str:
    """The prompt with its LoRAs called otherwise: a path of this disk becomes a name that travels.

    Raises:
        PromptError: see `parse`.
    """

    def renamed(match: re.Match[str]) -> str:
        name = _lora(match).name
        return f"<{match[1]}:{match[2].replace(name, names.get(name, name), 1)}>"

    end = prompt.rfind(">") + 1
    return _NETWORK.sub(renamed, prompt[:end]) + prompt[end:]


def change_loras(prompt: str, change: Callable[[int, LoraUse], LoraUse | None]) -> str:
    """The prompt with its LoRAs asked for otherwise.

    Args:
        prompt: as it is typed.
        change: place among the prompt's LoRAs and what is asked for -> what is to be asked for; None: not at all.

    Raises:
        PromptError: see `parse`.
    """
    places = itertools.count()

    def changed(match: re.Match[str]) -> str:
        before = _lora(match)
        after = change(next(places), before)
        return match[0] if after == before else "" if after is None else written(after)

    end = prompt.rfind(">") + 1
    return _NETWORK.sub(changed, prompt[:end]) + prompt[end:]


def written(use: LoraUse) -> str:
    """A LoRA as a prompt asks for it.

    Raises:
        PromptError: its name cannot stand in a prompt.
    """
    if re.search("[:<>]", use.name):
        raise PromptError(f"{use.name} cannot stand in a prompt", fix="put the file into a folder of LoRAs and name it")
    same = use.text_strength == use.denoiser_strength
    strengths = [f"{use.text_strength:.10g}", *([] if same else [f"{use.denoiser_strength:.10g}"])]
    told = {"lbw": use.blocks or None, "start": use.start, "stop": use.stop}
    rest = [f"{key}={value}" for key, value in told.items() if value is not None]
    return f"<lora:{':'.join([use.name, *strengths, *rest])}>"


def given_lora(given: str) -> tuple[str, float]:
    """Name and strength of a LoRA that is given beside the prompt: "FILE" or "NAME", with ":0.8" behind it.

    Raises:
        PromptError: the strength is no number.
    """
    name, colon, strength = given.rpartition(":")
    if not colon or "/" in strength or "\\" in strength:
        return given, 1.0
    try:
        value = float(strength)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PromptError(f"the strength '{strength}' of --lora {name} is not a number", fix=f"write --lora {name}:0.8")
    return name, value


def _lora(match: re.Match[str]) -> LoraUse:
    mark, network = match[0], match[1]
    if network not in _LORA_TYPES:
        raise PromptError(f"a prompt can load <lora:...>, not <{network}:...>", where=mark, fix=_LORA_FIX)
    given: dict[str, str] = {}
    places = iter(_LORA_PLACES)
    for item in match[2].split(":"):
        key, equals, value = item.partition("=")
        place = key.strip() if equals else next(places, "dyn")
        if place not in _LORA_SETTINGS or (equals and place == "name"):
            raise PromptError(f"a LoRA in a prompt has no setting {place!r}", where=mark, fix=_LORA_FIX)
        given[place] = (value if equals else item).strip()
    if not given.get("name"):
        raise PromptError("a LoRA in a prompt needs a name", where=mark, fix=_LORA_FIX)
    text_strength = number(given.get("te", "1"), where=mark)
    start, stop = _steps(given, mark)
    strength = number(given.get("unet", str(text_strength)), where=mark)
    return LoraUse(given["name"], strength, text_strength, given.get("lbw", ""), start, stop)


def _steps(given: Mapping[str, str], mark: str) -> tuple[int | None, int | None]:
    told = [given.get("start"), given.get("stop")]
    if "step" in given:
        first, dash, last = given["step"].partition("-")
        told = [first, last if dash else first]
    if not all(one is None or one.isdecimal() for one in told):
        raise PromptError("a sampling step is a whole number", where=mark, fix="write start=5:stop=20, or step=5-20")
    start, stop = (None if one is None else int(one) for one in told)
    if start is not None and stop is not None and start > stop:
        raise PromptError(f"step {start} is not before step {stop}", where=mark, fix="write the smaller one first")
    return start, stop
