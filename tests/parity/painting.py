"""Painting: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Painting"

INTRO = """
Whole pictures of tiny bases of every family, from the same noise and noise levels, as latents in float32; and the
arithmetic around them.
"""

ROWS = (
    Row(
        "Text to image: SD 1.x, SDXL, FLUX.1, Z-Image",
        "diffusers 0.42",
        1e-4,
        "contracts/test_painting.py::test_from_noise_it_paints_what_diffusers_paints",
    ),
    Row(
        "Image to image, all families",
        "diffusers 0.42",
        1e-4,
        "contracts/test_painting.py::test_from_a_picture_it_paints_what_diffusers_paints",
        "a picture is encoded to the mean of its latents, around which A1111 and diffusers draw; as many steps are "
        "taken as in A1111, one more than in diffusers",
    ),
    Row(
        "Inpainting, all families",
        "diffusers 0.42",
        1e-4,
        "contracts/test_painting.py::test_a_part_of_a_picture_is_painted_as_diffusers_paints_it",
    ),
    Row(
        "Bases made for inpainting",
        "diffusers 0.42",
        1e-4,
        "contracts/test_inpainting_bases.py::test_an_inpainting_base_paints_what_diffusers_paints",
    ),
    Row(
        "ControlNets, all families",
        "diffusers 0.42",
        1e-4,
        "contracts/test_control.py::test_a_picture_is_the_one_that_diffusers_pipeline_paints",
    ),
    Row(
        "Sizes of a high-resolution fix",
        "A1111 1.10",
        0,
        "generation/test_upscale.py::test_sizes_are_a1111_s",
        "its upscalers of latents are all there, of pictures Lanczos and Nearest; without a word the denoising is 0.7",
    ),
    Row(
        "How a picture to begin with is made to fit",
        "A1111 1.10",
        0,
        "generation/test_start.py::test_ways_of_fitting_are_those_of_a1111",
        "but for what stands at the border of `fill`, where A1111 leaves a black row if a side is odd",
    ),
    Row(
        "Colour correction after image to image and inpainting, in levels of 255",
        "A1111 1.10",
        2,
        "generation/test_colours.py::test_colours_are_those_that_a1111_gives_back",
        "with `--colour-correction`; A1111 keeps it among its settings, off too. A twentieth of a level on average",
    ),
    Row(
        "A LoRA on the base",
        "diffusers 0.42",
        1e-4,
        "families/test_sd15.py::test_a_lora_trained_here_gives_diffusers_the_picture_it_gives_us",
        "added to the weights in float32, as in Forge and ComfyUI; A1111 adds in the weights' own precision, so on a "
        "base in fp16 a picture is near to A1111's and no more",
    ),
    Row(
        "Infotext",
        "A1111 1.10",
        0,
        "generation/test_infotext.py::test_infotext_is_written_as_a1111_writes_it",
        "written and read; the order of what stands in it is A1111's",
    ),
    Row(
        "EXIF of JPEG, WebP and AVIF",
        "A1111 1.10",
        0,
        "generation/test_carriers.py::test_exif_is_laid_out_as_a1111_lays_it_out",
    ),
)
