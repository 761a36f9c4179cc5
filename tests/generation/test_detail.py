"""Which prompt each find has: cases from ADetailer's own code (36189cb); what it writes of its settings."""

from __future__ import annotations

import pytest

from velatura.errors import SettingsError
from velatura.generation import detail
from velatura.generation.detail import Detail, prompt_at, prompts, skipped
from velatura.generation.finds import Picking

OWN = "a crowd <lora:ink:1>"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", [OWN]),
        ("a face", ["a face"]),
        ("a man [SEP] a woman\n[SEP]  a child", ["a man", "a woman", "a child"]),
        ("[SEP]a woman", [OWN, "a woman"]),
        ("a man[SEP]", ["a man", OWN]),
        ("[PROMPT], a face", [f"{OWN}, a face"]),
        ("[SKIP][SEP]a woman", ["[SKIP]", "a woman"]),
    ],
)
def test_a_prompt_holds_one_for_each_find(text: str, wanted: list[str]) -> None:
    assert prompts(text, OWN) == wanted


def test_the_last_prompt_holds_for_all_finds_that_follow_and_skip_leaves_one_out() -> None:
    told = prompts("a man[SEP] [SKIP] ", OWN)
    assert [prompt_at(told, place) for place in range(3)] == ["a man", "[SKIP] ", "[SKIP] "]
    assert [skipped(one) for one in (*told, " [SKIP]\n", "no [SKIP]")] == [False, True, True, False]


def test_settings_are_told_in_adetailers_words_and_order() -> None:
    usual = {
        "ADetailer model": "face.onnx",
        "ADetailer confidence": "0.3",
        "ADetailer dilate erode": 4,
        "ADetailer mask blur": "4",
        "ADetailer denoising strength": "0.4",
        "ADetailer inpaint only masked": True,
        "ADetailer inpaint padding": 32,
    }
    told = Detail("face.onnx").words("", "")
    assert {name: value for name, value in told.items() if value is not None} == usual
    picking = Picking(0.5, ("face",), 0.1, 0.9, 2, "confidence", merge="merge and invert", right=3)
    told = Detail("face.onnx", picking=picking, only_masked=False).words("a face", "blurry")
    said = [(name.removeprefix("ADetailer "), value) for name, value in told.items() if value is not None]
    assert said == [
        ("model", "face.onnx"),
        ("model classes", "face"),
        ("prompt", "a face"),
        ("negative prompt", "blurry"),
        ("confidence", "0.5"),
        ("method to decide top k masks", "Confidence"),
        ("mask only top k", 2),
        ("mask min ratio", "0.1"),
        ("mask max ratio", "0.9"),
        ("x offset", 3),
        ("dilate erode", 4),
        ("mask merge invert", "Merge and Invert"),
        ("mask blur", "4"),
        ("denoising strength", "0.4"),
    ]
    assert Detail(boxes=((1, 2, 3, 4),)).words("a face", "") == {}
    told = Detail("hand.onnx", width=512, height=768, steps=28, cfg=7, sampler="Euler a").words("", "", 1)
    said = [(name, value) for name, value in told.items() if value is not None]
    assert said[0] == ("ADetailer model 2nd", "hand.onnx")
    assert said[-9:] == [
        ("ADetailer use inpaint width height 2nd", True),
        ("ADetailer inpaint width 2nd", 512),
        ("ADetailer inpaint height 2nd", 768),
        ("ADetailer use separate steps 2nd", True),
        ("ADetailer steps 2nd", 28),
        ("ADetailer use separate CFG scale 2nd", True),
        ("ADetailer CFG scale 2nd", "7"),
        ("ADetailer use separate sampler 2nd", True),
        ("ADetailer sampler 2nd", "Euler a"),
    ]


def test_what_is_told_of_one_detector_stands_behind_it_and_the_rest_is_as_told_for_all() -> None:
    usual = Detail(prompt="a face", denoising=0.5, picking=Picking(grow=8))
    told = detail.read('hand.onnx, "prompt=a hand, five fingers", keep=2, least-area=0.01, whole=yes, cfg=3', usual)
    assert told == Detail(
        "hand.onnx",
        picking=Picking(grow=8, count=2, least_area=0.01),
        prompt="a hand, five fingers",
        denoising=0.5,
        only_masked=False,
        cfg=3.0,
    )
    assert detail.read('face, "label=face, head", match=yes', usual).picking.labels == ("face", "head")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("face, promt=a", "a find has no setting 'promt' .*did you mean prompt"),
        ("face, keep=1.5", "keep of a find is a whole number, got '1.5'"),
        ("face, denoising=much", "denoising of a find is a number"),
        ("face, whole=1", "whole of a find is yes or no, got '1'"),
        ("face, keep=1, keep=2", "keep of a find needs one value"),
        (", keep=1", "it is not said what is to be found"),
    ],
)
def test_words_behind_a_detector_that_mean_nothing_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        detail.read(text, Detail())


def test_larger_finds_are_painted_anew_by_less_as_with_adetailers_dynamic_denoising() -> None:
    """Its own code for (power, denoising, share of the picture)."""
    for falloff, denoising, area, wanted in ((0, 0.4, 0.25, 0.4), (1, 0.4, 0.25, 0.3), (3, 0.5, 0.1875, 0.26818848)):
        assert Detail("a", denoising=denoising, falloff=falloff).share(area) == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Detail(), "it is not said what is to be found"),
        (Detail("a", picking=Picking(order="leftmost")), "there is no order of finds 'leftmost'"),  # type: ignore[arg-type]
        (Detail("a", picking=Picking(merge="merged")), "did you mean 'merge'"),  # type: ignore[arg-type]
        (Detail("a", denoising=1.5), "the denoising of finds is a share"),
        (Detail("a", padding=-1), "0 or more"),
        (Detail("a", falloff=float("nan")), "0 or more"),
        (Detail("a", cfg=0.5), "1 or more"),
        (Detail("a", match=True, width=512), "own proportions in a size that is told"),
        (Detail("a", then=(Detail("b", denoising=2),)), "the denoising of finds is a share"),
    ],
)
def test_what_cannot_be_is_refused(told: Detail, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        detail.check(told)
