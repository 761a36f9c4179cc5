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
        ("dilate erode", 4),
        ("x offset", 3),
        ("mask merge invert", "Merge and Invert"),
        ("mask blur", "4"),
        ("denoising strength", "0.4"),
    ]
    assert Detail(boxes=((1, 2, 3, 4),)).words("a face", "") == {}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Detail(), "it is not said what is to be found"),
        (Detail("a", picking=Picking(order="leftmost")), "there is no order of finds 'leftmost'"),  # type: ignore[arg-type]
        (Detail("a", picking=Picking(merge="merged")), "did you mean 'merge'"),  # type: ignore[arg-type]
        (Detail("a", denoising=1.5), "the denoising of finds is a share"),
        (Detail("a", padding=-1), "0 or more"),
    ],
)
def test_what_cannot_be_is_refused(told: Detail, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        detail.check(told)
