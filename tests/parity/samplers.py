"""Samplers: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Samplers"

INTRO = """
One run of a known denoiser from the same start, noise levels and noise. k-diffusion is release 0.0.16, which A1111
1.10 uses; its four samplers that count timesteps are A1111's own. For flow (FLUX, Z-Image, SD3) A1111 has none:
there the forms are ComfyUI's.
"""

K_DIFFUSION = "k-diffusion 0.0.16"
A1111 = "A1111 1.10"
COMFYUI = "ComfyUI"
GOLDEN = "diffusion/test_samplers.py::test_latents_are_those_of_the_other_program"
FLOW = "diffusion/test_samplers.py::test_flow_latents_are_those_of_comfyui"

ROWS = (
    Row("Euler, Heun, DPM2", K_DIFFUSION, 1e-10, GOLDEN, "churn (s_churn, s_tmin, s_tmax, s_noise) included"),
    Row("Euler a, DPM2 a, DPM++ 2S a", K_DIFFUSION, 1e-10, GOLDEN, "eta and s_noise included"),
    Row("LMS, DPM++ 2M", K_DIFFUSION, 1e-10, GOLDEN),
    Row("DPM++ SDE, 2M SDE, 2M SDE Heun, 3M SDE", K_DIFFUSION, 1e-10, GOLDEN, "eta and s_noise included"),
    Row(
        "DPM fast, DPM adaptive",
        K_DIFFUSION,
        1e-8,
        GOLDEN,
        "DPM adaptive paints one picture at a time: in A1111 those of a batch shape each other's steps",
    ),
    Row(
        "Restart",
        A1111,
        1e-10,
        GOLDEN,
        "takes Karras levels of its own from 20 steps on, so another schedule is refused rather than ignored",
    ),
    Row(
        "DDIM, DDIM CFG++, PLMS",
        A1111,
        1e-10,
        GOLDEN,
        "with the schedule Automatic, which ends at timestep 1 as theirs does; with a named schedule they follow it "
        "down to 0, where A1111 ignores it",
    ),
    Row(
        "UniPC",
        A1111,
        5e-6,
        GOLDEN,
        "bh1 and bh2, orders 2 and 3; between rows of the table A1111 is linear in the logarithm of alpha, here it is "
        "the logarithm of sigma, as for all other samplers",
    ),
    Row(
        "LCM",
        A1111,
        1e-10,
        GOLDEN,
        "the denoiser is told the timestep of the noise level; A1111 tells it the nearest of fifty, up to 10 apart",
    ),
    Row(
        "Euler, Heun", "diffusers 0.42", 1e-4, "diffusion/test_samplers.py::test_euler_is_that_of_diffusers", "float32"
    ),
    Row(
        "DDIM",
        "diffusers 0.42",
        1e-4,
        "diffusion/test_samplers.py::test_ddim_is_that_of_diffusers_from_its_start_on",
        "float32, with the schedule DDIM",
    ),
    Row("Euler a, DPM2 a, DPM++ 2S a for flow", COMFYUI, 1e-10, FLOW),
    Row(
        "DPM++ SDE, 2M SDE, 2M SDE Heun, 3M SDE for flow",
        COMFYUI,
        1e-10,
        FLOW,
        "from a ten-thousandth below pure noise, as there; the start is that much weaker here too",
    ),
    Row("LCM for flow", COMFYUI, 1e-10, FLOW),
    Row(
        "DDIM, PLMS, DPM fast, DPM adaptive, Restart for flow",
        "–",
        None,
        note="refused by name: they are defined for epsilon and v only",
    ),
    Row(
        "DDIM, DDIM CFG++ and PLMS from a picture",
        A1111,
        None,
        note="another: A1111 tells the denoiser the timestep below that of the noise, here it is that of the noise",
    ),
    Row(
        "Options: SGM noise multiplier, always discard next-to-last sigma, old Karras range",
        A1111,
        None,
        note="not taken; of the last, sigma_min and sigma_max do the same",
    ),
)
