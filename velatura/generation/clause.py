"""A name with settings behind it, between commas, as the command line has it: `canny, hint=pose.png, weight=0.8`.

What has a comma itself stands in quotes, as in `face, "prompt=an old man, smiling"`. No torch.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping

from velatura.errors import SettingsError, nearest


def split(text: str, known: Collection[str], *, short: Mapping[str, str], owner: str) -> tuple[str, dict[str, str]]:
    """The name, and each setting's value as it is written.

    Args:
        text: see above.
        known: settings.
        short: other words for them.
        owner: whose settings these are, for messages: "a ControlNet".

    Raises:
        SettingsError: an unknown setting, or one without a value or with two.
    """
    first, *rest = next(iter(csv.reader([text], skipinitialspace=True)), [""]) or [""]
    told: dict[str, str] = {}
    for one in rest:
        written, equals, value = (part.strip() for part in one.partition("="))
        name = written.lower().replace("-", "_")
        name = short.get(name, name)
        if name not in known:
            close = nearest(name, [*known, *short])
            raise SettingsError(
                f"{owner} has no setting {written!r}",
                where=text,
                fix=f"did you mean {close}?" if close else f"known are {', '.join(known)}",
            )
        if not equals or name in told:
            raise SettingsError(f"{name} of {owner} needs one value", where=text, fix=f"write {name}=VALUE once")
        told[name] = value
    return first.strip(), told


def number(name: str, value: str, *, owner: str, whole: bool = False) -> float:
    """A setting that is a number.

    Raises:
        SettingsError: it is none.
    """
    try:
        return int(value) if whole else float(value)
    except ValueError as error:
        kind, like = ("whole number", "8") if whole else ("number", "0.8")
        raise SettingsError(f"{name} of {owner} is a {kind}, got {value!r}", fix=f"write {name}={like}") from error
