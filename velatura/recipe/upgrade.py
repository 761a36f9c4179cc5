"""Recipes of earlier versions of the format, read as the present one.

A recipe without a version is of the first, so that what was written by hand keeps its meaning.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

NEWEST: Literal[2] = 2

MOVED = {
    "train.min_snr": "objective.min_snr",
    "train.masked_loss": "objective.masked_loss",
    "train.caption_dropout": "dataset.caption_dropout",
    "train.prior_weight": "dataset.prior_weight",
}
"""Where version 1 had what has another place since version 2."""


def upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with everything where version 2 has it; one that is of another version stays as it is."""
    if tree.get("version", 1) != 1:
        return tree
    tree = copy.deepcopy(tree)
    tree["version"] = NEWEST
    for old, new in MOVED.items():
        group, _, name = old.partition(".")
        there = tree.get(group)
        target, _, called = new.partition(".")
        place = tree.get(target, {})
        if isinstance(there, dict) and name in there and isinstance(place, dict) and called not in place:
            tree[target] = {**place, called: there.pop(name)}
    return tree
