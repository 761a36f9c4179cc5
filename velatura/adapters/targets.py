"""Which layers to adapt: presets of name patterns, and their expansion to the layers of a model.

A pattern is matched against whole layer names; `*` stands for anything, dots included:
"denoiser.*.attn2.to_*", "text_encoder.*.q_proj".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from velatura.errors import RecipeError, nearest

TRANSFORMER = ("denoiser.*.attentions.*",)
"""Attention, feed-forward and both projections of every transformer: what kohya's trainer calls Transformer2DModel."""

PRESETS: Mapping[str, tuple[str, ...]] = {
    "attention": ("denoiser.*.attn1.to_*", "denoiser.*.attn2.to_*"),
    "attention+mlp": TRANSFORMER,
    "all": (*TRANSFORMER, "denoiser.*.resnets.*", "denoiser.*.downsamplers.*", "denoiser.*.upsamplers.*"),
    "text": ("text_encoder.*.self_attn.*", "text_encoder.*.mlp.*"),
}
"""The presets of a UNet of diffusers' kind with a CLIP text encoder."""

DEFAULT = ("attention+mlp",)


def select(
    targets: Sequence[str], names: Iterable[str], *, presets: Mapping[str, tuple[str, ...]] = PRESETS
) -> list[str]:
    """The layers that presets and patterns mean together, in the model's order.

    Args:
        targets: names of presets, or patterns; a pattern holds a dot.
        names: the layers that can be adapted, as `layers.find` or a file's header give them.
        presets: the family's own.

    Raises:
        RecipeError: there is no such preset, or nothing is called like this.
    """
    known = list(names)
    chosen: set[str] = set()
    for target in targets:
        patterns = presets.get(target, (target,))
        if target not in presets and "." not in target:
            close = nearest(target, list(presets))
            raise RecipeError(
                f"there is no target {target!r}",
                where="targets",
                fix=f"did you mean {close!r}?" if close else f"choose from {', '.join(presets)}, or write a pattern",
            )
        matched = {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if not matched:
            example = nearest(target, known) or next(iter(known), "nothing")
            raise RecipeError(
                f"no layer of this base is called like {target!r}",
                where="targets",
                fix=f"the nearest is {example}",
            )
        chosen |= matched
    return [name for name in known if name in chosen]
