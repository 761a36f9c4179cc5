"""Axes: settings of a generation by name, and the values that each takes along its axis.

What settings there are is told by the caller, so that whatever a generation learns to take is an axis the same day.
Four things are axes beyond them: words of the prompt (`prompt.replace`) and their order (`prompt.order`), LoRAs
(`lora.strength`) and the checkpoints of a run (`run.checkpoint`). Of several ControlNets the second's weight is
`control.2.weight`.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from velatura.errors import SettingsError, nearest
from velatura.sheets import values

MOST_ORDERED = 7
"""Words of which every order is gone through: 5040."""

Value = int | float | bool | str
Kind = Literal["whole", "number", "switch", "text", "choice", "size"]

REPLACE = "prompt.replace"
ORDER = "prompt.order"
CHECKPOINT = "run.checkpoint"
LORA = ("name", "strength", "text_strength", "blocks")
"""What changes of a LoRA: lora.strength, or lora.NAME.strength where there are several."""

ALIASES = {
    "cfg_scale": "cfg",
    "checkpoint": CHECKPOINT,
    "checkpoint_name": "base",
    "model": "base",
    "denoising": "begin.denoising",
    "denoising_strength": "begin.denoising",
    "negative_prompt": "negative",
    "prompt_order": ORDER,
    "prompt_s/r": REPLACE,
    "schedule": "scheduler",
    "schedule_type": "scheduler",
    "var._seed": "variation_seed",
    "var._strength": "variation_strength",
    "from": "begin.path",
    "lora.te": "lora.text_strength",
    "lora.te_strength": "lora.text_strength",
    "beta_schedule_alpha": "tuning.beta_alpha",
    "beta_schedule_beta": "tuning.beta_beta",
    "cfg_scale_hires": "hires.cfg_scale",
    "hires_checkpoint": "base",
    "hires_schedule_type": "hires.scheduler",
    "negative_guidance_minimum_sigma": "tuning.s_min_uncond",
    "rng_source": "tuning.rng",
    "schedule_max_sigma": "tuning.sigma_max",
    "schedule_min_sigma": "tuning.sigma_min",
    "schedule_rho": "tuning.rho",
    "sigma max": "tuning.s_tmax",
    "sigma min": "tuning.s_tmin",
    "sigma_churn": "tuning.s_churn",
    "sigma_noise": "tuning.s_noise",
    "style": "styles",
}
"""What other programs, and people in a hurry, call them. With a space, `sigma min` is A1111's, the end of churning;
with a line, `sigma_min` is the schedule's."""

MISSING = {
    "always_discard_next_to_last_sigma": "samplers that need it discard it by themselves, as in A1111",
    "aesthetic_score": "it is a setting of SDXL's refiner, which is not painted with",
    "cond._image_mask_weight": "it is a setting of inpainting bases",
    "extra_noise": "vary begin.denoising",
    "face_restore": "paint faces anew by velatura refine",
    "fp8_mode": "vary memory.quantised",
    "image_cfg_scale": "it is a setting of bases that edit by instruction",
    "initial_noise_multiplier": "vary begin.denoising",
    "refiner_checkpoint": "SDXL's refiner is not painted with",
    "refiner_switch_at": "SDXL's refiner is not painted with",
    "sgm_noise_multiplier": "a picture begins with the sampler's own noise, as in A1111 where nothing is changed",
    "token_merging_ratio": "tokens are never merged: it changes pictures for the sake of time",
    "token_merging_ratio_high_res": "tokens are never merged: it changes pictures for the sake of time",
}
"""Axes of other programs that there are not here, and why or what there is instead."""


@dataclass(frozen=True)
class Setting:
    """A setting of a generation that may stand on an axis."""

    name: str
    kind: Kind
    choices: tuple[str, ...] = ()
    """Of a choice."""
    optional: bool = False
    """`none` leaves it to the base."""


@dataclass(frozen=True)
class Axis:
    """A setting, and the values that it takes one after the other."""

    name: str
    values: tuple[Value | None, ...]
    """None: left to the base."""
    needle: str = ""
    """Of `prompt.replace`: what the values stand in the place of; the first value is the needle itself."""

    @property
    def title(self) -> str:
        """What to call the axis before a reader."""
        if self.name == REPLACE:
            return f"in the place of {self.needle}"
        if self.name == ORDER:
            return "order of words"
        parts = self.name.split(".")
        return (" ".join((*parts[1:-1], parts[-1])) if len(parts) > 1 else self.name).replace("_", " ")

    def label(self, value: Value | None) -> str:
        """What to call a value before a reader."""
        if self.name in (REPLACE, ORDER, "prompt"):
            return str(value)
        last = self.name.rpartition(".")[2].replace("_", " ")
        return f"{last} {shown(value)}"


def shown(value: Value | None) -> str:
    """A value as it is written."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def read(name: str, written: str | Sequence[Value], known: Mapping[str, Setting]) -> Axis:
    """An axis, from its name and what is written for it.

    `all` of `run.checkpoint` stays a word until the run is known.

    Args:
        name: of a setting, as in "cfg", "hires.denoising" or "lora.ink.strength".
        written: values between commas, or a list of them.
        known: the settings of a generation, by name.

    Raises:
        SettingsError: there is no such setting, or a value is none of it; the nearest right one is named.
    """
    setting = find(name, known)
    told = values.listed(written) if isinstance(written, str) else [shown(value) for value in written]
    if not told:
        raise SettingsError(f"the axis {setting.name} has no values", fix=f"write {setting.name}=VALUE,VALUE")
    found = tuple(orders(told) if setting.name == ORDER else _values(setting, told))
    doubled = next((value for place, value in enumerate(found) if value in found[:place] and value != -1), None)
    if doubled is not None:
        raise SettingsError(f"{shown(doubled)} stands twice", where=setting.name, fix="leave one out")
    return Axis(setting.name, found, str(found[0]) if setting.name == REPLACE else "")


def find(name: str, known: Mapping[str, Setting]) -> Setting:
    """The setting of a name.

    Raises:
        SettingsError: there is none; the nearest is named.
    """
    written = name.strip()
    plain = re.sub(r"[\s-]+", "_", written) if "." not in written or " " in written else written
    small = plain.lower()
    plain = ALIASES.get(written.lower(), ALIASES.get(small, small if small in _lasts(known) else plain))
    if plain in (REPLACE, ORDER, CHECKPOINT):
        return Setting(plain, "text")
    if plain.startswith("lora."):
        last = plain.rpartition(".")[2]
        last = {"te": "text_strength"}.get(last, last)
        if last in LORA:
            kind: Kind = "number" if last.endswith("strength") else "text"
            return Setting(f"{plain.rpartition('.')[0]}.{last}", kind)
        close = nearest(last, list(LORA)) or LORA[1]
        raise SettingsError(
            f"a LoRA has no {last!r} to change", fix=f"did you mean {plain.rpartition('.')[0]}.{close}?"
        )
    if numbered := re.fullmatch(r"(control\.\d+)\.(\w+)", plain):
        return replace(find(f"control.{numbered[2]}", known), name=plain)
    if plain in known:
        return known[plain]
    second = plain.lower().replace("hires_", "hires.", 1)
    if second in known:
        return known[second]
    if plain.lower() in MISSING:
        raise SettingsError(f"a picture has no setting {name!r}", fix=MISSING[plain.lower()])
    names = [*known, *ALIASES, REPLACE, ORDER, CHECKPOINT, *(f"lora.{what}" for what in LORA)]
    lasts = _lasts(names)
    if plain in lasts:
        return known.get(lasts[plain]) or find(lasts[plain], known)
    close_name = nearest(plain, names) or lasts.get(nearest(plain, list(lasts)) or "")
    fix = f"did you mean {close_name}?" if close_name else "docs/guide/comparing.md lists what may stand on an axis"
    raise SettingsError(f"a picture has no setting {name!r}", fix=fix)


def _lasts(names: Iterable[str]) -> dict[str, str]:
    """What stands behind the last point of each name -> the first such name."""
    return {one.rpartition(".")[2]: one for one in reversed([*names])}


def _values(setting: Setting, told: Sequence[str]) -> list[Value | None]:
    if setting.optional and "none" in told:
        return [None if value == "none" else _values(setting, [value])[0] for value in told]
    if setting.kind in ("whole", "number"):
        return [*values.numbers(told, whole=setting.kind == "whole", where=setting.name)]
    return [_value(setting, value) for value in told]


def _value(setting: Setting, value: str) -> Value:
    if setting.kind == "switch":
        if value.lower() not in ("true", "false"):
            raise SettingsError(f"{value!r} is neither true nor false", where=setting.name, fix="write true,false")
        return value.lower() == "true"
    if setting.kind == "choice":
        value = next((one for one in setting.choices if one.lower() == value.lower()), value)
    if setting.kind == "choice" and value not in setting.choices:
        close = nearest(value, list(setting.choices))
        fix = f"did you mean {close}?" if close else f"choose from {', '.join(setting.choices)}"
        raise SettingsError(f"{value!r} is not possible", where=setting.name, fix=fix)
    if setting.kind == "size":
        size(value, where=setting.name)
    return value


def size(value: str, *, where: str = "size") -> tuple[int, int]:
    """Width and height in pixels, from "512x768".

    Raises:
        SettingsError: it is no size.
    """
    told = re.fullmatch(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", value)
    if told is None:
        raise SettingsError(f"{value!r} is not a size", where=where, fix="write it as 512x768")
    return int(told[1]), int(told[2])


def replaced(text: str, needle: str, value: str) -> str:
    """A text with every needle replaced."""
    return text.replace(needle, value)


def orders(told: Sequence[str]) -> list[str]:
    """The orders of words that an axis of them goes through, each as it is written: words between commas.

    Args:
        told: words, of which every order is meant; or orders, each of the same words.

    Raises:
        SettingsError: they are too many, or one stands twice.
    """
    apart = [values.listed(one) for one in told]
    if len(apart[0]) > 1 and all(sorted(one) == sorted(apart[0]) for one in apart):
        return [_listing(one) for one in apart]
    if len(told) < 2 or len(set(told)) < len(told):
        raise SettingsError(
            "an order needs two words at least, each once", where=ORDER, fix=f"write {ORDER}=boat,sun,sea"
        )
    if len(told) > MOST_ORDERED:
        raise SettingsError(
            f"{len(told)} words have too many orders", where=ORDER, fix=f"name {MOST_ORDERED} words at most"
        )
    return [_listing(one) for one in itertools.permutations(told)]


def _listing(words: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(words)
    return out.getvalue().replace(",", ", ") if '"' not in out.getvalue() else out.getvalue()


def reordered(text: str, order: str) -> str:
    """A text in which words have changed places: where the first of them stood stands the first of the order.

    Raises:
        SettingsError: one does not occur.
    """
    words = values.listed(order)
    rest, parts = text, []
    for word in sorted(words, key=text.find):
        place = rest.find(word)
        if place < 0:
            raise SettingsError(
                f"{word!r} does not occur in the prompt, so it cannot change places",
                where=ORDER,
                fix="name words of the prompt that do not overlap",
            )
        parts.append(rest[:place])
        rest = rest[place + len(word) :]
    return "".join(itertools.chain.from_iterable(zip(parts, words, strict=True))) + rest


def checkpoints(told: Sequence[Value | None], steps: Sequence[int], run: Path) -> tuple[int, ...]:
    """The optimizer steps that `run.checkpoint` means.

    Args:
        told: `all`, or steps and ranges of them; a range means those checkpoints that there are in it.
        steps: of the run's checkpoints.
        run: its folder, for the message.

    Raises:
        SettingsError: there is no such checkpoint; the nearest is named.
    """
    if not steps:
        raise SettingsError("this run has no checkpoint yet", where=run.name, fix="train it first")
    found: list[int] = []
    for value in map(str, told):
        if value == "all":
            found += steps
            continue
        asked = values.numbers([value], whole=True, where=CHECKPOINT)
        there = [int(step) for step in asked if step in steps]
        if not there or (len(asked) == 1 and not there):
            close = min(steps, key=lambda step: abs(step - asked[0]))
            listed = ", ".join(map(str, steps))
            raise SettingsError(
                f"there is no checkpoint {value}", where=run.name, fix=f"did you mean {close}? There are {listed}"
            )
        found += there
    return tuple(dict.fromkeys(found))
