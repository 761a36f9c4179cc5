"""Infotext: written and read by A1111's rules, and carried by picture files."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from velatura.errors import FileProblem
from velatura.generation import infotext
from velatura.generation.infotext import Infotext, parse, png_bytes, quote, read, unquote, write

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


@pytest.mark.parametrize("prompt", ["a house", "水彩画の家 🎨", "café", "zero\0byte"])
def test_a_png_carries_infotext_and_record(tmp_path: Path, prompt: str) -> None:
    image = Image.effect_noise((12, 9), 50).convert("RGB")
    record = {"seed": 7, "strengths": {"ink": 0.8}, "note": "水 \0 \n", "none": None}
    path = tmp_path / "made.png"
    path.write_bytes(png_bytes(image, write(prompt, "blurry", SETTINGS), record))

    found = read(path)
    assert found.record == record
    assert found.infotext is not None
    assert found.infotext.prompt == prompt.replace("\0", "")
    with Image.open(path) as reopened:
        assert reopened.tobytes() == image.tobytes()
        assert reopened.info["parameters"] == found.text


def test_latin_text_is_a_plain_chunk_and_other_text_an_international_one() -> None:
    image = Image.new("RGB", (2, 2))
    assert b"tEXtparameters\0caf\xe9" in png_bytes(image, "café", {})
    assert "iTXtparameters\0\0\0\0\0水彩".encode() in png_bytes(image, "水彩", {})


def test_equal_pictures_make_equal_files() -> None:
    image = Image.new("RGB", (5, 5), "red")
    assert png_bytes(image, TEXT, {"a": 1}) == png_bytes(image, TEXT, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        png_bytes(image, TEXT, {"loss": float("nan")})


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_infotext_is_read_from_exif_too(tmp_path: Path, encoding: str, kind: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + TEXT.encode(encoding)
    path = tmp_path / f"made.{kind}"
    Image.new("RGB", (16, 16)).save(path, exif=exif)
    assert read(path).text == TEXT


def test_pictures_that_say_nothing_or_something_else_are_no_error(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    assert read(tmp_path / "plain.png") == infotext.Embedded(None, None)
    assert read(tmp_path / "plain.png").infotext is None

    swarm = '{"sui_image_params": {"prompt": "a house"}}'
    (tmp_path / "swarm.png").write_bytes(png_bytes(Image.new("RGB", (4, 4)), swarm, {}))
    assert read(tmp_path / "swarm.png").text == swarm
    assert read(tmp_path / "swarm.png").infotext is None


def test_what_is_no_picture_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(FileProblem, match="not a picture"):
        read(tmp_path / "notes.png")
    with pytest.raises(FileProblem, match="cannot read"):
        read(tmp_path / "missing.png")


def test_a_file_that_is_cut_off_anywhere_gives_an_answer_or_one_sentence(tmp_path: Path) -> None:
    whole = png_bytes(Image.effect_noise((16, 16), 50), TEXT, {"a": 1})
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        try:
            assert read(tmp_path / "cut.png").text in (None, TEXT)
        except FileProblem:
            continue
