"""What the record of a detailed picture says of the work, and the work that it comes to again."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from velatura.generation import prompt as grammar
from velatura.generation.detail import Detail
from velatura.generation.finds import Find, Picking

SETTINGS = (
    "detector",
    "denoising",
    "exact_steps",
    "blur",
    "only_masked",
    "padding",
    "falloff",
    "match",
    "width",
    "height",
    "steps",
    "cfg",
    "sampler",
    "scheduler",
)
"""What the record has as the work has it."""


def written(told: Detail, finds: Sequence[Find], said: Sequence[str]) -> dict[str, Any]:
    """What the record says of what was looked for at once.

    Args:
        told: what was looked for, and how it was painted.
        finds: what was found.
        said: the prompts of all finds, and what they keep away from.
    """
    return {
        **{name: getattr(told, name) for name in SETTINGS},
        "picking": asdict(told.picking),
        "finds": [_find(one) for one in finds],
        "prompt": said[0],
        "negative": said[1],
    }


def _find(find: Find) -> dict[str, Any]:
    from velatura.generation.inpaint import mask_bytes

    shape = {} if find.mask is None else {"mask": base64.b64encode(mask_bytes(find.mask.convert("L"))).decode()}
    return {"box": list(find.box), "confidence": find.confidence, "label": find.label, **shape}


def as_recorded(told: Mapping[str, Any], names: Mapping[str, str]) -> Detail:
    """What a record says of the work, with LoRAs named as they are found here.

    Args:
        told: the record's "refined".
        names: LoRA as the record calls it -> as it is found.
    """
    first, *others = (_as_recorded(one, names) for one in told.get("passes", [told]))
    return replace(first, then=tuple(others))


def _as_recorded(told: Mapping[str, Any], names: Mapping[str, str]) -> Detail:
    from PIL import Image

    finds = tuple(
        Find(
            tuple(one["box"]),
            one["confidence"],
            one["label"],
            Image.open(io.BytesIO(base64.b64decode(one["mask"]))).convert("L") if "mask" in one else None,
        )
        for one in told["finds"]
    )
    picking = {**told["picking"], "labels": tuple(told["picking"]["labels"])}
    return Detail(
        picking=Picking(**picking),
        prompt=grammar.rename_loras(told["prompt"], names),
        negative=told["negative"],
        finds=finds,
        **{name: told[name] for name in SETTINGS if name in told},
    )
