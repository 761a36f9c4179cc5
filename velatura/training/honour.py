"""Which settings of the objective a base can honour. What it cannot is refused, never passed over."""

from __future__ import annotations

from velatura.diffusion.objective import Objective
from velatura.errors import RecipeError
from velatura.recipe import BaseSettings, ObjectiveSettings

NEEDED = {
    "debiased": ("epsilon", "v"),
    "v_like": ("epsilon",),
    "v_as_noise": ("v",),
    "flow_weighting": ("flow",),
    "shift": ("flow",),
}
"""Setting -> the kinds of objective that can honour it."""

KINDS = {"epsilon": "predicts noise", "v": "predicts v", "flow": "is a flow"}


def check(told: ObjectiveSettings, objective: Objective) -> None:
    """Refuse settings that this objective cannot honour.

    Raises:
        RecipeError: there is one.
    """
    usual = ObjectiveSettings()
    for name, kinds in NEEDED.items():
        if getattr(told, name) != getattr(usual, name) and objective.kind not in kinds:
            raise _refused(name, kinds, objective)
    if told.loss in ("huber", "smooth_l1") and told.huber_schedule == "snr" and objective.kind == "flow":
        raise _refused("huber_schedule = snr", ("epsilon", "v"), objective, "use exponential or constant")
    if told.timesteps == "style_friendly" and objective.kind != "flow":
        raise _refused("timesteps = style_friendly", ("flow",), objective)
    if told.timesteps == "style_friendly" and told.shift is not None:
        what = "style_friendly says which noise levels are drawn, so a shift has no effect"
        raise RecipeError(what, where="objective.shift", fix="leave one of them out")


def as_told(objective: Objective, base: BaseSettings) -> Objective:
    """The base's objective with what the recipe says of it.

    Raises:
        RecipeError: a flow is to predict noise or v, or noise is to be predicted where nothing else is left.
    """
    if base.prediction is None and base.zero_terminal_snr is None:
        return objective
    if objective.kind == "flow":
        name = "prediction" if base.prediction is not None else "zero_terminal_snr"
        raise RecipeError("this base is a flow; it has no other prediction", where=f"base.{name}", fix="leave it out")
    found = objective.changed(base.prediction, zero_terminal_snr=base.zero_terminal_snr)
    if base.zero_terminal_snr and found.kind == "epsilon":
        what = "at zero terminal SNR there is nothing to learn from predicting noise"
        raise RecipeError(what, where="base.zero_terminal_snr", fix='set base.prediction = "v", or leave it out')
    return found


def _refused(name: str, kinds: tuple[str, ...], objective: Objective, fix: str = "leave it out") -> RecipeError:
    need = " or ".join(KINDS[kind] for kind in kinds)
    what = f"objective.{name} is for a base that {need}; this one {KINDS[objective.kind]}"
    return RecipeError(what, fix=fix)
