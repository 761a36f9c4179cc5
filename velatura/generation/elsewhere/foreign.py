"""What a picture of another program says of itself, and how names of samplers and schedules are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from velatura.generation.infotext import Infotext

SAMPLERS: Mapping[str, str] = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_2s": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_sde_gpu": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_gpu": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpmpp_3m_sde_gpu": "DPM++ 3M SDE",
    "dpmpp_3m": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "plms": "PLMS",
    "pndm": "PLMS",
    "uni_pc": "UniPC",
    "unipc": "UniPC",
    "lcm": "LCM",
}
"""ComfyUI's, SwarmUI's, InvokeAI's and NovelAI's name -> A1111's."""

SCHEDULES: Mapping[str, str] = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta ComfyUI",
    "kl_optimal": "KL Optimal ComfyUI",
    "align_your_steps": "Align Your Steps",
}


@dataclass(frozen=True)
class Foreign:
    """A picture's own words, as far as they go."""

    program: str
    infotext: Infotext
    """In A1111's words."""
    lost: tuple[str, ...] = ()
    """What it says that has no meaning here, in sentences."""


def tree(text: str | None) -> Any:
    """The JSON of a text; None where it is none. Python's reader takes the NaN that ComfyUI writes."""
    try:
        return json.loads(text or "")
    except ValueError:
        return None


def sampler(name: object, lost: list[str]) -> str | None:
    """A1111's name of a sampler."""
    return _called(name, SAMPLERS, "sampler", lost)


def schedule(name: object, lost: list[str]) -> str | None:
    """A1111's name of a schedule."""
    return _called(name, SCHEDULES, "schedule", lost)


def lora_mark(name: str, strength: float, text_strength: float | None = None) -> str:
    """A LoRA as it stands in a prompt."""
    both = text_strength is not None and text_strength != strength
    return f"<lora:{name}:{text_strength:g}:{strength:g}>" if both else f"<lora:{name}:{strength:g}>"


def stem(path: object) -> str:
    """The name of a file, without folders of either kind and without its ending."""
    name = str(path).replace("\\", "/").rsplit("/", 1)[-1]
    base, dot, ending = name.rpartition(".")
    return base if dot and ending.lower() in ("safetensors", "ckpt", "pt", "pth", "gguf", "sft") else name


def size(width: object, height: object) -> str | None:
    """As A1111 writes a size."""
    return f"{width}x{height}" if width and height else None


def settled(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings that are told, as text."""
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in settings.items()
        if value is not None
    }


def _called(name: object, names: Mapping[str, str], what: str, lost: list[str]) -> str | None:
    if not isinstance(name, str) or not name:
        return None
    found = names.get(name.lower().removeprefix("k_"))
    if found is None:
        lost.append(f"the {what} {name}")
    return found
