"""The loss and the noise of kohya's trainers.

Facts (`library/custom_train_functions.py`, `library/flux_train_utils.py`, musubi-tuner's `hv_train_network.py`):
nothing is weighted without being told. A flow is trained at sigmas of its shifted table (`sigma`), evenly
(`uniform`), or at the sigmoid of normal numbers: as they are, shifted by a number (`shift`), or by the picture's size
(`flux_shift`). sd-scripts' loss for FLUX.1 takes no notice of min-SNR, noise offset and limits of the noise levels.
"""

from __future__ import annotations

from velatura.foreign.reasons import ABSENT, each
from velatura.foreign.translation import OFF, Translation, flag, number, text, whole

FLOWS = ("flux1", "z_image")

IGNORED = "for a flow this trainer ignores it too"

NOT_OF_FLOWS = (
    "min_snr_gamma noise_offset noise_offset_random_strength adaptive_noise_scale multires_noise_iterations"
    " ip_noise_gamma ip_noise_gamma_random_strength debiased_estimation_loss scale_v_pred_loss_like_noise_pred"
    " v_pred_like_loss v_parameterization zero_terminal_snr min_timestep"
)


def translate(translation: Translation, family: str) -> None:
    """Carry over loss and noise."""
    loss(translation)
    if family in FLOWS:
        flow(translation, shift=3.0)
        translation.leave_told(each(IGNORED, NOT_OF_FLOWS))
        translation.leave_told({"max_timestep": IGNORED}, off=(*OFF, 1000, "1000"))
    else:
        translation.carry("min_snr_gamma", "objective.min_snr", number, 0.0)
        translation.carry("debiased_estimation_loss", "objective.debiased", flag)
        translation.carry("scale_v_pred_loss_like_noise_pred", "objective.v_as_noise", flag)
        translation.carry("v_pred_like_loss", "objective.v_like", number)
        noise(translation)
        levels(translation)
    translation.carry("prior_loss_weight", "dataset.prior_weight", number)
    translation.leave_told({"noise_offset_type": ABSENT}, off=(*OFF, "Original", "Multires"))


def noise(translation: Translation) -> None:
    """What is added to the noise of bases that predict noise or v."""
    if translation.take("v_parameterization", flag, False):
        translation.put("base.prediction", "v", "v_parameterization", True)
    translation.carry("zero_terminal_snr", "base.zero_terminal_snr", flag)
    translation.carry("noise_offset", "objective.noise_offset", number)
    translation.carry("noise_offset_random_strength", "objective.noise_offset_random", flag)
    translation.carry("adaptive_noise_scale", "objective.noise_offset_adaptive", number)
    iterations = translation.take("multires_noise_iterations", whole, 0)
    discount = translation.take("multires_noise_discount", number, 0.3)
    if iterations:
        translation.put("objective.multires_iterations", iterations, "multires_noise_iterations", iterations)
        translation.put("objective.multires_discount", discount, "multires_noise_discount", discount)
    translation.carry("ip_noise_gamma", "objective.input_perturbation", number)
    translation.carry("ip_noise_gamma_random_strength", "objective.input_perturbation_random", flag)


def levels(translation: Translation) -> None:
    """The least and the most noise that is trained on, in timesteps of a thousand."""
    for key, usual in (("max_timestep", 1000), ("min_timestep", 0)):
        level = translation.take(key, whole, usual)
        if level != usual:
            translation.put(f"objective.{key}", level, key, level)


def loss(translation: Translation) -> None:
    """What is made of the difference."""
    kind = translation.take("loss_type", text, "l2")
    if kind != "l2":
        translation.put("objective.loss", kind, "loss_type", kind)
    schedule = translation.take("huber_schedule", text, "snr")
    c = translation.take("huber_c", number, 0.1)
    scale = translation.take("huber_scale", number, 1.0)
    if kind in ("huber", "smooth_l1"):
        translation.put("objective.huber_schedule", schedule, "huber_schedule", schedule)
        translation.put("objective.huber_c", c, "huber_c", c)
        if scale != 1:
            translation.leave("huber_scale", scale, ABSENT)
    masked = translation.take("masked_loss", flag, False)
    if translation.take("alpha_mask", flag, False):
        translation.put("objective.masked_loss", "alpha", "alpha_mask", True)
    elif masked:
        translation.put("objective.masked_loss", "masks", "masked_loss", True)
    else:
        translation.put("objective.masked_loss", "off", "masked_loss", False, told=False)


def flow(translation: Translation, *, shift: float) -> None:
    """At which noise levels a flow is trained, and how each counts.

    Args:
        shift: of the table of sigmas, without being told.
    """
    told = translation.told("timestep_sampling")
    sampling = translation.take("timestep_sampling", text, "sigma")
    weighting = translation.take("weighting_scheme", text, "none")
    shift_told, shift = translation.told("discrete_flow_shift"), translation.take("discrete_flow_shift", number, shift)
    mean, spread = translation.take("logit_mean", number, 0.0), translation.take("logit_std", number, 1.0)
    mode = translation.take("mode_scale", number, 1.29)
    scale = translation.take("sigmoid_scale", number, 1.0)
    if weighting in ("sigma_sqrt", "cosmap"):
        translation.put("objective.flow_weighting", weighting, "weighting_scheme", weighting)
    if sampling == "sigma":
        density = weighting if weighting in ("logit_normal", "mode") else "uniform"
        key = "timestep_sampling" if density == "uniform" else "weighting_scheme"
        translation.put("objective.timesteps", density, key, sampling if density == "uniform" else weighting, told=told)
        if density == "logit_normal":
            translation.put("objective.logit_mean", mean, "logit_mean", mean)
            translation.put("objective.logit_std", spread, "logit_std", spread)
        elif density == "mode":
            translation.put("objective.mode_scale", mode, "mode_scale", mode)
        translation.put("objective.shift", shift, "discrete_flow_shift", shift, told=shift_told)
    elif sampling == "uniform":
        translation.put("objective.timesteps", "uniform", "timestep_sampling", sampling)
        translation.put("objective.shift", 1.0, "timestep_sampling", sampling)
    elif sampling in ("sigmoid", "shift", "flux_shift"):
        translation.put("objective.timesteps", "sigmoid", "timestep_sampling", sampling)
        translation.put("objective.sigmoid_scale", scale, "sigmoid_scale", scale, told=scale != 1)
        leaning = {"sigmoid": 1.0, "shift": shift, "flux_shift": "resolution"}[sampling]
        key = "discrete_flow_shift" if sampling == "shift" else "timestep_sampling"
        translation.put("objective.shift", leaning, key, shift if sampling == "shift" else sampling)
    elif sampling == "logsnr":
        translation.put("objective.timesteps", "style_friendly", "timestep_sampling", sampling)
        translation.put("objective.log_snr_mean", mean, "logit_mean", mean)
        translation.put("objective.log_snr_std", spread, "logit_std", spread)
        translation.put("objective.shift", 1.0, "timestep_sampling", sampling)
    else:
        translation.leave("timestep_sampling", sampling, "there is no such spread of noise levels here")
    translation.leave_told(
        {"model_prediction_type": "a flow is trained on its own prediction (raw)"}, off=(*OFF, "raw")
    )
    translation.leave_told({"guidance_scale": "a distilled base is told 1 while it is trained"}, off=(*OFF, 1, "1"))
