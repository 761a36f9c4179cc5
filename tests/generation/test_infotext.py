"""Infotext: written and read by A1111's rules."""

from __future__ import annotations

import pytest

from velatura.generation import infotext
from velatura.generation.infotext import Infotext, parse, quote, unquote, write

SETTINGS = {
    "Steps": 20,
    "Sampler": "DPM++ 2M",
    "Schedule type": "Karras",
    "CFG scale": 5,
    "Seed": 7,
    "Size": "128x128",
    "Model hash": "0123456789",
    "Model": "pocket",
    "Lora hashes": "ink: 00aa11bb22cc",
    "Version": "velatura 0.1",
}
TEXT = (
    "a red house <lora:ink:0.8>\n"
    "Negative prompt: blurry\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 7, Size: 128x128, "
    'Model hash: 0123456789, Model: pocket, Lora hashes: "ink: 00aa11bb22cc", Version: velatura 0.1'
)
# The example in A1111's own documentation of its reader.
A1111_TEXT = (
    "girl with an artist's beret, determined, blue eyes, ((eyeshadow)), (coquettish), detailed\n"
    "Negative prompt: ugly, fat, (((deformed))), [blurry], bad anatomy, (extra_limb)\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b"
)
NASTY = [
    "plain",
    "",
    "a, b: c",
    "two\nlines",
    'she said "hi"',
    '"quoted"',
    '"',
    "back\\slash",
    'back\\slash, and "quotes": both\\',
    "C:\\models\\ink.safetensors",
    " spaces around ",
    "水彩, влажная: акварель",
    "emoji 🎨",
    "True",
    "[1, 2]",
    "tab\there",
]


def test_infotext_is_written_as_a1111_writes_it() -> None:
    assert write("a red house <lora:ink:0.8>", "blurry", SETTINGS) == TEXT
    shuffled = dict(reversed(list(SETTINGS.items())))
    assert write("a red house <lora:ink:0.8>", "blurry", shuffled) == TEXT


def test_what_is_not_set_is_left_out() -> None:
    text = write("a house", "", {**SETTINGS, "VAE": None})
    assert "VAE" not in text
    assert "Negative prompt" not in text


def test_infotext_of_a1111_is_read() -> None:
    read_back = parse(A1111_TEXT)
    assert read_back.prompt.startswith("girl with an artist's beret")
    assert read_back.negative_prompt.endswith("(extra_limb)")
    assert read_back.settings == {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "965400086",
        "Size": "512x512",
        "Model hash": "45dee52b",
    }
    assert read_back.size == (512, 512)


@pytest.mark.parametrize("value", NASTY)
def test_every_value_comes_back_as_it_was(value: str) -> None:
    written = write("p", "n", {**SETTINGS, "Extra note": value})
    assert parse(written).settings == {**{k: str(v) for k, v in SETTINGS.items()}, "Extra note": value}
    assert unquote(quote(value)) == value


def test_only_values_that_need_it_are_quoted() -> None:
    assert quote("DPM++ 2M") == "DPM++ 2M"
    assert quote(7.5) == "7.5"
    assert quote("a, b") == '"a, b"'
    assert quote("水: 彩") == '"水: 彩"'


@pytest.mark.parametrize("prompt", ["", "one line", "two\nlines", "a: b, c: d, e: f", "BREAK\nhouse", "水彩 🎨"])
@pytest.mark.parametrize("negative", ["", "blurry", "two\nlines, more: 1"])
def test_prompts_come_back_as_they_were(prompt: str, negative: str) -> None:
    text = write(prompt, negative, SETTINGS)
    read_back = parse(text)
    assert (read_back.prompt, read_back.negative_prompt) == (prompt, negative)
    assert str(read_back) == text


def test_text_without_settings_is_all_prompt() -> None:
    assert parse("a house, at night: blue") == Infotext("a house, at night: blue")
    assert parse("").prompt == ""


def test_settings_no_reader_would_recognise_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot name a setting 'a:b'"):
        write("p", "", {**SETTINGS, "a:b": 1})
    with pytest.raises(ValueError, match="3 settings or none"):
        write("p", "", {"Steps": 1, "Seed": 2})
    assert write("p") == "p"


def test_lora_hashes_survive_names_with_colons_and_commas() -> None:
    value = infotext.lora_hashes([("ink: v1, final", "00aa11bb22cc"), ("moon", "ffee00112233")])
    assert value == "ink v1 final: 00aa11bb22cc, moon: ffee00112233"
    assert infotext.read_lora_hashes(value) == {"ink v1 final": "00aa11bb22cc", "moon": "ffee00112233"}
