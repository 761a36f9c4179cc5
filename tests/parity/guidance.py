"""Guidance: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Guidance"

INTRO = """
How the answers to prompt and negative prompt become one.
"""

ROWS = (
    Row(
        "cfg_rescale",
        "diffusers 0.42",
        1e-6,
        "diffusion/test_guidance.py::test_rescaling_is_that_of_diffusers",
        "on what the network predicts; ComfyUI's RescaleCFG does it on v, which is the same for bases that predict v",
    ),
    Row(
        "skip_early_cfg, s_min_uncond, s_min_uncond_all",
        "A1111 1.10",
        0,
        "generation/test_guided.py::test_guidance_is_left_out_where_a1111_leaves_it_out",
        "counted by how often the denoiser is asked, as there",
    ),
    Row(
        "CFG++",
        "A1111 1.10",
        1e-10,
        "diffusion/test_samplers.py::test_latents_are_those_of_the_other_program",
        "the scale is divided by 12.5, as there",
    ),
    Row(
        "A negative prompt at cfg 1",
        "–",
        None,
        note="an error: A1111 and ComfyUI paint without it. With FLUX.1 a cfg above 1 is true guidance, beside the "
        "distilled one",
    ),
)
