"""Pictures of InvokeAI: JSON in the chunk `invokeai_metadata`. Names of its samplers that end in _k mean Karras."""

from __future__ import annotations

from typing import Any

from velatura.generation.carriers import Embedded
from velatura.generation.elsewhere.foreign import Foreign, lora_mark, sampler, settled, size, tree
from velatura.generation.infotext import Infotext

READ = frozenset(
    [
        "positive_prompt",
        "negative_prompt",
        "positive_style_prompt",
        "negative_style_prompt",
        "width",
        "height",
        "seed",
        "steps",
        "cfg_scale",
        "guidance",
        "scheduler",
        "model",
        "loras",
        "vae",
        "clip_skip",
        "generation_mode",
        "app_version",
        "rand_device",
        "canvas_v2_metadata",
    ]
)
IDLE: tuple[object, ...] = (None, "", 0, 0.0, False, [], {})
"""Values of a setting that does nothing."""


def read(told: Embedded) -> Foreign | None:
    """What `invokeai_metadata` says."""
    found = tree(told.chunks.get("invokeai_metadata"))
    if not isinstance(found, dict):
        return None
    lost = [key.replace("_", " ") for key, value in found.items() if key not in READ and value not in IDLE]
    mode = str(found.get("generation_mode", "txt2img"))
    lost += [f"it was painted by {mode}"] if not mode.endswith("txt2img") else []
    styles = (found.get(f"{side}_style_prompt") for side in ("positive", "negative"))
    prompts = (found.get(f"{side}_prompt") for side in ("positive", "negative"))
    lost += [
        f"the style prompt {style!r}" for style, text in zip(styles, prompts, strict=True) if style and style != text
    ]
    name = str(found.get("scheduler", ""))
    settings: dict[str, object] = {
        "Steps": found.get("steps"),
        "Sampler": sampler(name.removesuffix("_k"), lost),
        "Schedule type": "Karras" if name.endswith("_k") else None,
        "CFG scale": found.get("cfg_scale"),
        "Distilled CFG Scale": found.get("guidance"),
        "Seed": found.get("seed"),
        "Size": size(found.get("width"), found.get("height")),
        "Model": _name(found.get("model")),
        "VAE": _name(found.get("vae")),
        # it counts layers that are left out, A1111 the layer that is read
        "Clip skip": int(found["clip_skip"]) + 1 if found.get("clip_skip") else None,
        "RNG": "CPU" if found.get("rand_device") == "cpu" else None,
    }
    loras = "".join(f" {_lora(one)}" for one in found.get("loras") or [])
    negative = str(found.get("negative_prompt") or "")
    return Foreign(
        "InvokeAI",
        Infotext(f"{found.get('positive_prompt') or ''}{loras}", negative, settled(settings)),
        tuple(lost),
    )


def _name(model: object) -> str | None:
    """In versions before 4 it is `model_name`."""
    return str(model.get("name") or model.get("model_name")) if isinstance(model, dict) else None


def _lora(told: dict[str, Any]) -> str:
    return lora_mark(_name(told.get("model") or told.get("lora")) or "", float(told.get("weight", 1.0)))
