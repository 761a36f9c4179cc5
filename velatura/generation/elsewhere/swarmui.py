"""Pictures of SwarmUI: JSON in the place where A1111 writes its infotext.

In its prompts a LoRA's two strengths stand the other way round, denoiser first, as in `<lora:name:0.8:0.5>`.
"""

from __future__ import annotations

import re
from typing import Any

from velatura.generation.carriers import Embedded
from velatura.generation.elsewhere.foreign import (
    Foreign,
    lora_mark,
    sampler,
    schedule,
    settled,
    size,
    stem,
    tree,
)
from velatura.generation.infotext import Infotext

READ = frozenset(
    [
        "prompt",
        "negativeprompt",
        "model",
        "seed",
        "steps",
        "cfgscale",
        "fluxguidancescale",
        "sampler",
        "comfyuisampler",
        "scheduler",
        "comfyuischeduler",
        "width",
        "height",
        "loras",
        "loraweights",
        "loratencweights",
        "clipstopatlayer",
        "vae",
        "aspectratio",
        "images",
        "swarm_version",
        "batchsize",
        "automaticvae",
    ]
)
_MARK = re.compile(r"<lora:([^:>]+):([-+.\d]+)(?::([-+.\d]+))?>")


def read(told: Embedded) -> Foreign | None:
    """What `sui_image_params` says."""
    found = tree(told.text) if told.text else None
    params = found.get("sui_image_params") if isinstance(found, dict) else None
    if not isinstance(params, dict):
        return None
    lost = [f"{key} {value}" for key, value in params.items() if key not in READ and value not in (None, "", False)]
    skip = params.get("clipstopatlayer")
    settings = {
        "Steps": params.get("steps"),
        "Sampler": sampler(params.get("comfyuisampler") or params.get("sampler"), lost),
        "Schedule type": schedule(params.get("comfyuischeduler") or params.get("scheduler"), lost),
        "CFG scale": params.get("cfgscale"),
        "Distilled CFG Scale": params.get("fluxguidancescale"),
        "Seed": params.get("seed"),
        "Size": size(params.get("width"), params.get("height")),
        "Model": stem(params["model"]) if params.get("model") else None,
        "VAE": stem(params["vae"]) if params.get("vae") not in (None, "", "Automatic", "None") else None,
        "Clip skip": -int(skip) if skip not in (None, "") else None,
    }
    prompt = _MARK.sub(_turned, str(params.get("prompt", ""))) + _beside(params)
    return Foreign("SwarmUI", Infotext(prompt, str(params.get("negativeprompt", "")), settled(settings)), tuple(lost))


def _turned(mark: re.Match[str]) -> str:
    name, denoiser, text = mark.groups()
    return lora_mark(stem(name), float(denoiser), None if text is None else float(text))


def _beside(params: dict[str, Any]) -> str:
    """LoRAs that are chosen beside the prompt."""
    names, weights, texts = (_list(params.get(key)) for key in ("loras", "loraweights", "loratencweights"))
    marks = (
        lora_mark(
            stem(name),
            float(weights[place]) if place < len(weights) else 1.0,
            float(texts[place]) if place < len(texts) else None,
        )
        for place, name in enumerate(names)
    )
    return "".join(f" {mark}" for mark in marks)


def _list(value: object) -> list[str]:
    """A list, or as older versions wrote it, text with commas."""
    if isinstance(value, list):
        return [str(one) for one in value]
    return [one.strip() for one in str(value).split(",")] if value else []
