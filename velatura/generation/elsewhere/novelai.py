"""Pictures of NovelAI: `Software` says so, `Comment` holds JSON. Its bases are not to be had, its words are."""

from __future__ import annotations

from velatura.generation.carriers import Embedded
from velatura.generation.elsewhere.foreign import Foreign, sampler, schedule, settled, size, tree
from velatura.generation.infotext import Infotext

READ = frozenset(
    [
        "prompt",
        "uc",
        "steps",
        "scale",
        "seed",
        "sampler",
        "noise_schedule",
        "width",
        "height",
        "request_type",
        "n_samples",
        "v4_prompt",
        "v4_negative_prompt",
        "version",
        "signed_hash",
        "uncond_scale",
        "controlnet_strength",
        "params_version",
        "add_original_image",
    ]
)
IDLE: tuple[object, ...] = (None, "", 0, 0.0, False, [], {})
"""Values of a setting that does nothing."""


def read(told: Embedded) -> Foreign | None:
    """What `Comment` says; `{word}` and `[word]`, by which it emphasises, are told as lost."""
    if told.chunks.get("Software") != "NovelAI":
        return None
    found = tree(told.chunks.get("Comment"))
    if not isinstance(found, dict):
        return None
    prompt = str(found.get("prompt") or told.chunks.get("Description", ""))
    negative = str(found.get("uc") or "")
    lost = [key.replace("_", " ") for key, value in found.items() if key not in READ and value not in IDLE]
    lost += ["braces in the prompt, its way of emphasis"] if "{" in prompt + negative else []
    captions = (found.get("v4_prompt") or {}).get("caption") or {}
    lost += ["prompts of single characters"] if captions.get("char_captions") else []
    settings = {
        "Steps": found.get("steps"),
        "Sampler": sampler(found.get("sampler"), lost),
        "Schedule type": schedule(found.get("noise_schedule"), lost),
        "CFG scale": found.get("scale"),
        "Seed": found.get("seed"),
        "Size": size(found.get("width"), found.get("height")),
        "Model": told.chunks.get("Source"),
    }
    return Foreign("NovelAI", Infotext(prompt, negative, settled(settings)), tuple(lost))
