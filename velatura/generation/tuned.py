"""What rarer settings of painting are called in A1111's infotext, both ways."""

from __future__ import annotations

from collections.abc import Mapping

from velatura.recipe import TuningSettings

NAMES: Mapping[str, str] = {
    "eta": "Eta",
    "s_churn": "Sigma churn",
    "s_tmin": "Sigma tmin",
    "s_tmax": "Sigma tmax",
    "s_noise": "Sigma noise",
    "unipc_order": "UniPC order",
    "unipc_variant": "UniPC variant",
    "sigma_min": "Schedule min sigma",
    "sigma_max": "Schedule max sigma",
    "rho": "Schedule rho",
    "beta_alpha": "Beta schedule alpha",
    "beta_beta": "Beta schedule beta",
    "ensd": "ENSD",
    "seed_resize_from": "Seed resize from",
    "cfg_rescale": "CFG Rescale",
    "skip_early_cfg": "Skip Early CFG",
    "s_min_uncond": "NGMS",
    "s_min_uncond_all": "NGMS all steps",
}
"""A1111 has no CFG rescale of its own; the name is that of extensions for it."""

OF_DDIM = "Eta DDIM"
"""What eta is called with DDIM and its kin."""


def words(tuning: TuningSettings, sampler: str) -> dict[str, object]:
    """Settings that are not as they are by default, by A1111's names; and whose generator drew the noise.

    A1111 says nothing where that is the graphics card's.
    """
    told = tuning.model_dump(exclude_defaults=True)
    found = {NAMES[name]: _plain(value) for name, value in told.items() if name in NAMES}
    if "Eta" in found and sampler.startswith("DDIM"):
        found[OF_DDIM] = found.pop("Eta")
    return {**found, "RNG": None if tuning.rng == "gpu" else tuning.rng.upper()}


def overrides(settings: Mapping[str, str]) -> list[str]:
    """The same read back, as `recipe.with_tuning` takes it; a generator that is not named is the graphics card's."""
    named = {**{word: name for name, word in NAMES.items()}, OF_DDIM: "eta"}
    told = {named[word]: value for word, value in settings.items() if word in named}
    if "s_min_uncond_all" in told:
        told["s_min_uncond_all"] = told["s_min_uncond_all"].lower()
    told["rng"] = settings.get("RNG", "GPU").lower()
    return [f"{name}={value}" for name, value in told.items()]


def _plain(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value
