"""Picture files that say how they were made, in every form of file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from tests.generation.test_infotext import SETTINGS, TEXT
from velatura.errors import FileProblem, SettingsError
from velatura.generation.carriers import FORMATS, Embedded, check_format, read, to_bytes, without_words
from velatura.generation.infotext import write


@pytest.mark.parametrize("prompt", ["a house", "水彩画の家 🎨", "café", "zero\0byte"])
def test_a_png_carries_infotext_and_record(tmp_path: Path, prompt: str) -> None:
    image = Image.effect_noise((12, 9), 50).convert("RGB")
    record = {"seed": 7, "strengths": {"ink": 0.8}, "note": "水 \0 \n", "none": None}
    path = tmp_path / "made.png"
    path.write_bytes(to_bytes(image, write(prompt, "blurry", SETTINGS), record))

    found = read(path)
    assert found.record == record
    assert found.infotext is not None
    assert found.infotext.prompt == prompt.replace("\0", "")
    with Image.open(path) as reopened:
        assert reopened.tobytes() == image.tobytes()
        assert reopened.info["parameters"] == found.text


def test_latin_text_is_a_plain_chunk_and_other_text_an_international_one() -> None:
    image = Image.new("RGB", (2, 2))
    assert b"tEXtparameters\0caf\xe9" in to_bytes(image, "café", {})
    assert "iTXtparameters\0\0\0\0\0水彩".encode() in to_bytes(image, "水彩", {})


def test_equal_pictures_make_equal_files() -> None:
    image = Image.new("RGB", (5, 5), "red")
    assert to_bytes(image, TEXT, {"a": 1}) == to_bytes(image, TEXT, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        to_bytes(image, TEXT, {"loss": float("nan")})


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
    assert read(tmp_path / "plain.png") == Embedded(None, None)
    assert read(tmp_path / "plain.png").infotext is None

    swarm = '{"sui_image_params": {"prompt": "a house"}}'
    (tmp_path / "swarm.png").write_bytes(to_bytes(Image.new("RGB", (4, 4)), swarm, {}))
    assert read(tmp_path / "swarm.png").text == swarm
    assert read(tmp_path / "swarm.png").infotext is None


def test_what_is_no_picture_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(FileProblem, match="not a picture"):
        read(tmp_path / "notes.png")
    with pytest.raises(FileProblem, match="cannot read"):
        read(tmp_path / "missing.png")


def test_a_file_that_is_cut_off_anywhere_gives_an_answer_or_one_sentence(tmp_path: Path) -> None:
    whole = to_bytes(Image.effect_noise((16, 16), 50), TEXT, {"a": 1})
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.png").write_bytes(whole[:length])
        try:
            assert read(tmp_path / "cut.png").text in (None, TEXT)
        except FileProblem:
            continue


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", ["a house", "水彩画の家 🎨", "café", "zero\0byte", "half \udce9 a character"])
def test_every_form_of_file_carries_infotext_and_record(tmp_path: Path, form: str, prompt: str) -> None:
    image = Image.effect_noise((32, 24), 50).convert("RGB")
    record = {"seed": 7, "note": "水 \n", "none": None}
    path = tmp_path / f"made.{form}"
    path.write_bytes(to_bytes(image, write(prompt, "blurry", SETTINGS), record, form=form))
    found = read(path)
    assert found.record == record
    assert found.infotext is not None
    assert found.infotext.prompt == prompt.replace("\0", "").replace("\udce9", "?")
    assert found.infotext.settings == {name: str(value) for name, value in SETTINGS.items()}
    with Image.open(path) as reopened:
        assert (reopened.format, reopened.size) == (FORMATS[form], (32, 24))
    assert to_bytes(image, TEXT, record, form=form) == to_bytes(image, TEXT, record, form=form)


def test_exif_is_laid_out_as_a1111_lays_it_out() -> None:
    """Big-endian TIFF, and UTF-16 with the big end first behind UNICODE, as piexif writes it and Civitai reads it."""
    for form in ("jpg", "webp"):
        data = to_bytes(Image.new("RGB", (8, 8)), "Steps: 1 ü", {}, form=form)
        assert b"MM\0*\0\0\0\x08" in data
        assert b"\x92\x86\0\x07" in data, "a comment of another type than UNDEFINED is lost on A1111"
        assert b"UNICODE\0" + "Steps: 1 ü".encode("utf-16-be") in data


def test_webp_of_quality_100_loses_nothing_and_less_quality_is_less_data(tmp_path: Path) -> None:
    image = Image.effect_noise((64, 64), 50).convert("RGB")
    (tmp_path / "a.webp").write_bytes(to_bytes(image, TEXT, {}, form="webp", quality=100))
    with Image.open(tmp_path / "a.webp") as reopened:
        assert reopened.convert("RGB").tobytes() == image.tobytes()
    for form in ("jpg", "webp", "avif"):
        assert len(to_bytes(image, form=form, quality=30)) < len(to_bytes(image, form=form, quality=95))


def test_more_than_jpeg_has_room_for_is_refused_and_fits_elsewhere(tmp_path: Path) -> None:
    image, long = Image.new("RGB", (8, 8)), "a house, " * 11_000
    with pytest.raises(FileProblem, match=r"JPEG has no room .* write png or webp"):
        to_bytes(image, long, {}, form="jpg")
    for form in ("png", "webp"):
        (tmp_path / f"long.{form}").write_bytes(to_bytes(image, long, {}, form=form))
        assert read(tmp_path / f"long.{form}").text == long.strip() or read(tmp_path / f"long.{form}").text == long


def test_what_is_no_form_of_file_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean webp"):
        check_format("wepb")
    with pytest.raises(SettingsError, match="choose from png, jpg"):
        check_format("xyz")
    with pytest.raises(SettingsError, match="use 1 to 100"):
        check_format("jpg", 0)


def test_what_comfyui_writes_into_webp_is_found(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = 'workflow:{"nodes": []}', 'prompt:{"3": {}}'
    Image.new("RGB", (8, 8)).save(tmp_path / "comfy.webp", exif=exif)
    assert read(tmp_path / "comfy.webp").chunks == {"workflow": '{"nodes": []}', "prompt": '{"3": {}}'}


def test_a_picture_without_its_words_has_the_same_pixels() -> None:
    image = Image.effect_noise((40, 24), 60).convert("RGB")
    told = to_bytes(image, "a boat\nSteps: 3", {"seed": 1})
    bare = without_words(told)
    assert b"a boat" in told and b"a boat" not in bare and b"velatura" not in bare
    with Image.open(io.BytesIO(bare)) as found:
        assert found.tobytes() == image.tobytes() and not found.text  # type: ignore[attr-defined]
