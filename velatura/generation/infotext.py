"""How a picture was made, in A1111's words.

    a red house <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 7, Size: 128x128, ...

It is what other programs and websites read. Civitai finds base, autoencoder and LoRAs by "Model hash", "VAE hash"
and "Lora hashes", from which it makes what its own extension calls "Hashes"; where they lie in a file is in `carriers`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NEGATIVE = "Negative prompt:"

FIRST = (
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Seed",
    "Size",
    "Model hash",
    "Model",
    "VAE hash",
    "VAE",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Denoising strength",
    "Conditional mask weight",
    "Clip skip",
    "ENSD",
    "Init image hash",
    "RNG",
    "Tiling",
)
"""A1111's order; settings that are not here follow in the order given, and "Version" is last."""

_NAME = re.compile(r"\w[\w \-/]+")
_SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)")
_FEWEST = 3
"""With fewer settings A1111 takes the line for a part of the prompt."""


@dataclass(frozen=True)
class Infotext:
    """What an infotext says; `str()` writes it, `parse` reads it."""

    prompt: str
    negative_prompt: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    """By A1111's names, values as text."""

    def __str__(self) -> str:
        """As it stands in a file."""
        return write(self.prompt, self.negative_prompt, self.settings)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, where they are told."""
        match = _SIZE.fullmatch(self.settings.get("Size", ""))
        return (int(match[1]), int(match[2])) if match else None


def write(prompt: str, negative_prompt: str = "", settings: Mapping[str, object] | None = None) -> str:
    """The infotext of a picture.

    Args:
        prompt: as the user wrote it, LoRAs included.
        negative_prompt: left out when empty.
        settings: by A1111's names; those that are None are left out, the rest is brought into order.

    Raises:
        ValueError: a name that no reader would recognise, or settings too few to be recognised.
    """
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    for name in given:
        if not _NAME.fullmatch(name):
            raise ValueError(f"infotext cannot name a setting {name!r}")
    if 0 < len(given) < _FEWEST:
        raise ValueError(f"infotext needs {_FEWEST} settings or none, got {', '.join(given)}")
    names = [name for name in FIRST if name in given]
    names += [name for name in given if name not in FIRST and name != "Version"]
    names += ["Version"] if "Version" in given else []
    negative = f"\n{NEGATIVE} {negative_prompt}" if negative_prompt else ""
    line = ", ".join(f"{name}: {quote(given[name])}" for name in names)
    return f"{prompt}{negative}\n{line}".strip()


def parse(text: str) -> Infotext:
    """Read an infotext; whatever is no settings line is prompt, so any text can be read.

    A1111's rules: the last line holds the settings if it has three or more, and every line is
    stripped. Sizes stay as they are ("512x768").
    """
    *lines, last = text.strip().split("\n")
    found = _SETTING.findall(last)
    if len(found) < _FEWEST:
        lines, found = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in (line.strip() for line in lines):
        if line.startswith(NEGATIVE):
            current = negative
            line = line.removeprefix(NEGATIVE).strip()
        current.append(line)
    settings = {name: unquote(value) for name, value in found}
    return Infotext(_joined(prompt), _joined(negative), settings)


def quote(value: object) -> str:
    """A value as it stands in the settings line: JSON if it holds a comma, a colon or a line's end.

    Text that would lose its own quotes or spaces when read is written as JSON too.
    """
    text = str(value)
    if any(sign in text for sign in ",:\n\r") or text != text.strip() or text.startswith('"'):
        return json.dumps(text, ensure_ascii=False)
    return text


def unquote(text: str) -> str:
    """The value that `quote` wrote; text that is not quite JSON is taken as it stands."""
    if not (text.startswith('"') and text.endswith('"')):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def lora_hashes(hashes: Iterable[tuple[str, str]]) -> str:
    """The setting "Lora hashes" from names and their 12-digit hashes."""
    return ", ".join(f"{re.sub('[:,]', '', name)}: {digits}" for name, digits in hashes)


def read_lora_hashes(value: str) -> dict[str, str]:
    """Names and hashes out of the setting "Lora hashes"."""
    pairs = (item.partition(":") for item in value.split(","))
    return {name.strip(): digits.strip() for name, colon, digits in pairs if colon}


def _joined(lines: list[str]) -> str:
    """Lines as one text; like A1111's reader it starts with the first that is not empty."""
    return "\n".join(lines).lstrip("\n")
