"""Parts, finds and tiles of pictures painted anew."""

from __future__ import annotations

from tests.parity import Row

TITLE = "Refining"

INTRO = """
Inpainting as in A1111, details as in ADetailer, tiles as in Ultimate SD upscale. Pictures are compared in levels of
255: A1111 blurs masks in integers and lays the original over with premultiplied colours.
"""

ROWS = (
    Row(
        "what painting a part begins with: fills, padding, proportions",
        "A1111 1.10.1",
        4,
        "generation/test_inpaint.py::test_a_part_is_taken_out_and_put_back_as_a1111_does_it",
        "levels of 255; the whole picture keeps its size, where A1111 brings it to the size that is painted in",
    ),
    Row(
        "how the result goes back, with soft edges",
        "A1111 1.10.1",
        3,
        "generation/test_inpaint.py::test_a_part_is_taken_out_and_put_back_as_a1111_does_it",
        "levels of 255",
    ),
    Row(
        "inpainting bases of Stable Diffusion 1.5 and SDXL, FLUX.1 Fill",
        "diffusers 0.42",
        1e-4,
        "contracts/test_inpainting_bases.py::test_an_inpainting_base_paints_what_diffusers_paints",
        "latents; what the mask keeps is held in place besides, as in A1111",
    ),
    Row(
        "prompts of finds: [SEP], [SKIP], [PROMPT]",
        "ADetailer 36189cb",
        0,
        "generation/test_detail.py::test_a_prompt_holds_one_for_each_find",
    ),
    Row(
        "which finds are painted, in which order",
        "ADetailer 36189cb",
        0,
        "generation/test_finds.py::test_what_is_painted_and_in_which_order",
    ),
    Row(
        "sizes of finds in their own proportions (free)",
        "ADetailer 36189cb",
        0,
        "api/refining/test_refine.py::test_finds_are_painted_in_adetailers_sizes_where_they_keep_their_proportions",
        "of the box around the mask, where ADetailer takes the find's",
    ),
    Row(
        "dynamic denoising of finds",
        "ADetailer 36189cb",
        1e-7,
        "generation/test_detail.py::test_larger_finds_are_painted_anew_by_less_as_with_adetailers_dynamic_denoising",
        "of the box around the mask, where ADetailer takes the find's",
    ),
    Row(
        "tiles and seams, their masks and order",
        "Ultimate SD upscale 2322caa",
        0,
        "generation/test_tiles.py::test_pieces_are_those_of_ultimate_sd_upscale_in_its_order",
        "the size is the one told, where Ultimate SD upscale rounds it up to multiples of 64",
    ),
    Row(
        "steps of enlarging before tiles",
        "Ultimate SD upscale 2322caa",
        0,
        "generation/test_enlarge.py::test_a_picture_is_enlarged_by_the_factors_of_ultimate_sd_upscale",
        "up to nine times",
    ),
)
