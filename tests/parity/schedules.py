"""Schedules: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Schedules"

INTRO = """
Noise levels of Stable Diffusion's table. A1111 and ComfyUI compute them in float32, here it is float64, so what is
left is their rounding. sigma_min, sigma_max, rho and the beta distribution's shape are taken where A1111 takes them,
and refused where it ignores them.
"""

A1111 = "A1111 1.10"
COMFYUI = "ComfyUI"
GOLDEN = "diffusion/test_schedules.py::test_sigmas_are_those_of_the_other_program"

ROWS = (
    Row("Uniform, Normal, Karras, Exponential, Polyexponential, SGM Uniform", A1111, 2e-6, GOLDEN),
    Row("Simple, DDIM", A1111, 2e-6, GOLDEN, "DDIM visits more levels than steps where they do not divide 1000"),
    Row("Beta", A1111, 2e-6, GOLDEN, "over sigma; ComfyUI's is another"),
    Row("KL Optimal", A1111, 2e-6, GOLDEN, "ends at the lowest noise level of the table, not at 0"),
    Row(
        "Align Your Steps",
        A1111,
        2e-6,
        GOLDEN,
        "tables of Stable Diffusion 1.5 and SDXL; refused for bases that have none",
    ),
    Row("Align Your Steps GITS, 11 and 32, Turbo", "Forge (June 2025)", 2e-6, GOLDEN),
    Row("Beta ComfyUI, KL Optimal ComfyUI", COMFYUI, 2e-6, GOLDEN, "called beta and kl_optimal there"),
    Row(
        "Normal, SGM Uniform, Simple, DDIM",
        COMFYUI,
        2e-6,
        GOLDEN,
        "normal, sgm_uniform, simple and ddim_uniform there. For flow its normal and sgm_uniform shift the lowest "
        "level twice; its FLUX table has 10,000 rows, here 1,000, so Simple differs by up to 0.1 % where the steps "
        "do not divide 1000",
    ),
    Row(
        "Automatic",
        A1111,
        0,
        "diffusion/test_samplers.py::test_automatic_is_what_it_is_in_a1111",
        "the same schedule for every sampler; for flow it is Uniform, as flow pipelines have it",
    ),
    Row(
        "Uniform, Karras, Exponential, Simple",
        "diffusers 0.42",
        1e-4,
        "diffusion/test_schedules.py::test_sigmas_are_those_of_diffusers",
        "its Euler with linspace or trailing spacing; its DPM++ rounds timesteps",
    ),
)
