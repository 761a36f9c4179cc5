"""ControlNets and detectors: rows of the parity page."""

from __future__ import annotations

from tests.parity import Row

TITLE = "ControlNets and detectors"

INTRO = """
Latents of tiny bases with random weights; weights, start and end, and two at once included.
"""

ROWS = (
    Row(
        "ControlNets of SD 1.x, SDXL, FLUX.1 and Z-Image",
        "diffusers 0.42",
        1e-4,
        "contracts/test_control.py::test_a_picture_is_the_one_that_diffusers_pipeline_paints",
        "with guidance on FLUX.1 each side asks the ControlNet itself; diffusers gives the negative side what the "
        "prompt's got",
    ),
    Row(
        "Unions for SDXL and FLUX.1, XLabs', Z-Image's 2.0 and 2.1",
        "diffusers 0.42",
        1e-4,
        "contracts/test_control.py::test_other_kinds_of_networks_are_diffusers_too",
    ),
    Row(
        "start and end of a ControlNet",
        "diffusers 0.42",
        1e-4,
        "contracts/test_control.py::test_it_is_at_work_from_its_start_to_its_end",
        "with end 0.6 it is at work in 12 steps of 20; in A1111 in 13",
    ),
    Row(
        "mode: prompt, control",
        "sd-webui-controlnet",
        1e-4,
        "contracts/test_control.py::test_modes_are_a1111_s_arithmetic_and_for_unets_alone",
        "0.825 ^ (12 - i) of what layer i adds; there also forced in a second pass with canny, here only where asked",
    ),
    Row(
        "preprocess: scribble",
        "sd-webui-controlnet, scribble_xdog",
        0,
        "generation/test_preprocess.py::test_scribble_is_xdog_as_the_extension_has_it",
        "the darkest strokes have no holes, where there numbers beyond 255 begin again at 0",
    ),
    Row(
        "preprocess: canny, tile, invert",
        "OpenCV 4.14",
        0,
        "generation/test_preprocess.py::test_canny_is_opencv_s_on_the_colours",
        "made of the hint at the size that is painted, as with Pixel Perfect there",
    ),
    Row(
        "YOLO: overlap 0.7 of one class, 300 finds, grey 114",
        "ultralytics",
        None,
        note="the arithmetic that it documents, against numbers worked out by hand; pickled models are not opened",
    ),
)
