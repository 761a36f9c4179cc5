"""A picture painted again from what it says of itself: the same bits, or with something changed, or what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.generation.test_record import write_lora as write_lora
from tests.paintings import clouds
from tests.tiny import base as base
from tests.tiny import model as model
from velatura import api
from velatura.errors import SettingsError, VelaturaError
from velatura.events import Done, Note
from velatura.files import sha256
from velatura.generation import carriers, infotext
from velatura.generation.hires import Hires
from velatura.recipe import TuningSettings
from velatura.tensorfile import tensor_hash

WriteLora = Callable[[Path, int], Path]
Paint = Callable[..., list[Path]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures painted again go to where one is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def home_bases(base: Path, home: Path) -> Path:
    """The tiny base among the user's own, so that it is found by name."""
    (home / "config.toml").write_text(f"[folders]\nbases = ['{base.parent}']\nloras = ['{home}']\n", encoding="utf-8")
    return home


@pytest.fixture
def paint(base: Path, home_bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paint:
    monkeypatch.chdir(tmp_path)  # where pictures go that are told no folder

    def run(prompt: str = "a boat", **told: Any) -> list[Path]:
        request = api.GenerateRequest(
            prompt, **{"base": base.name, "seed": 1, "steps": 3, "cfg": 3.0, "out": tmp_path / "images", **told}
        )
        return files(request)[0]

    return run


def files(request: api.GenerateRequest) -> tuple[list[Path], list[str]]:
    """The pictures, and the notes."""
    *events, done = api.generate(request)
    assert isinstance(done, Done)
    notes = [event.text for event in events if isinstance(event, Note)]
    return [Path(done.summary["folder"]) / name for name in done.summary["files"]], notes


def same(picture: Path, **told: Any) -> bool:
    """Whether it is painted again bit for bit, and says so."""
    request = api.again(picture, **told)
    (again,), notes = files(replace(request, out=picture.parent / "again"))
    with Image.open(picture) as first, Image.open(again) as second:
        equal = first.convert("RGB").tobytes() == second.convert("RGB").tobytes()
    assert equal == (f"this is {picture.name} again, bit for bit" in notes), notes
    return equal


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"negative": "a cat", "sampler": "Euler a", "scheduler": "Karras", "clip_skip": 2, "emphasis": "comfy"},
        {"width": 96, "height": 72, "hires": Hires(1.5, steps=2, denoising=0.5, prompt="a house", cfg_scale=1.0)},
        {"form": "webp", "quality": 100},
        {"sampler": "DPM++ SDE", "tuning": TuningSettings(eta=0.5, rng="nv", cfg_rescale=0.3)},
    ],
    ids=str,
)
def test_a_picture_is_painted_again_bit_for_bit(paint: Paint, told: dict[str, Any]) -> None:
    (picture,) = paint("a (red:1.2) boat", **told)
    assert same(picture)


def test_a_picture_of_a_batch_is_painted_beside_those_it_was_painted_beside(paint: Paint) -> None:
    pictures = paint("a boat", count=5, batch=3, seed=7)
    for picture, beside, place in ((pictures[1], [7, 8, 9], 1), (pictures[4], [10, 11], 1)):
        request = api.again(picture)
        assert request.original is not None
        assert [seed for seed, *_ in request.original.together] == beside
        assert (request.original.place, request.batch) == (place, len(beside))
        assert same(picture)


def test_variations_are_painted_again_too(paint: Paint) -> None:
    *pictures, _ = paint(count=2, variation_seed=5, variation_strength=0.4)
    assert len(pictures) == 2
    assert all(same(picture) for picture in pictures)


def test_it_is_painted_with_as_many_threads_as_it_was(paint: Paint) -> None:
    (picture,) = paint()
    torch.set_num_threads(2)
    assert same(picture)
    assert torch.get_num_threads() == 1


def test_loras_are_found_by_their_hash_wherever_and_however_they_are_called(
    paint: Paint, write_lora: WriteLora, home_bases: Path, tmp_path: Path
) -> None:
    ink = write_lora(tmp_path / "here" / "ink.safetensors", 0)
    moon = write_lora(home_bases / "moon.safetensors", 1)
    (picture,) = paint(f"a boat <lora:{ink}:0.7:0.4> at night", loras=(f"{moon}:0.3",))
    (plain,) = paint("a boat at night")
    assert picture.read_bytes() != plain.read_bytes()

    ink.unlink()
    with pytest.raises(SettingsError, match="the LoRA ink that this picture was painted with is not here"):
        api.again(picture)
    write_lora(home_bases / "ink.safetensors", 2)
    with pytest.raises(SettingsError, match="the LoRA ink that this picture was painted with is not here"):
        api.again(picture)
    write_lora(home_bases / "pen.safetensors", 0)
    request = api.again(picture)
    assert request.prompt.endswith("pen.safetensors:0.7:0.4> at night")
    assert request.loras == ("moon:0.3",)
    assert same(picture)


def test_the_base_is_known_by_its_hash(paint: Paint, base: Path, home: Path, tmp_path: Path) -> None:
    (picture,) = paint()
    shutil.copytree(base, tmp_path / "elsewhere" / "another-name")
    (home / "config.toml").write_text(f"[folders]\nbases = ['{tmp_path / 'elsewhere'}']\n", encoding="utf-8")
    assert api.again(picture).base == str(tmp_path / "elsewhere" / "another-name")
    assert same(picture)
    (home / "config.toml").unlink()
    with pytest.raises(SettingsError, match=r"the base .* that this picture was painted with is not here"):
        api.again(picture)
    assert api.again(picture, changes=api.Changes({"base": "pocket"})).base == "pocket"


def test_the_picture_that_it_was_painted_from_is_found_beside_it_or_named(paint: Paint, tmp_path: Path) -> None:
    start = tmp_path / "images" / "start.png"
    start.parent.mkdir()
    clouds(1, (96, 64)).save(start)
    (picture,) = paint(begin=api.FromPicture(start, 0.6, "crop", background=(0, 0, 0)))
    assert same(picture)
    moved = start.rename(tmp_path / "moved.png")
    with pytest.raises(SettingsError, match=r"the picture start\.png .* is not here: .*; name its file with --from"):
        api.again(picture)
    named = api.Changes(begin={"path": moved})
    assert same(picture, changes=named)
    assert api.again(picture, changes=named).begin == api.FromPicture(moved, 0.6, "crop", background=(0, 0, 0))
    other = tmp_path / "other.png"
    clouds(2, (96, 64)).save(other)
    request = api.again(picture, changes=api.Changes(begin={"path": other, "denoising": 0.3}))
    assert (request.original, request.begin) == (None, api.FromPicture(other, 0.3, "crop", background=(0, 0, 0)))


def test_colours_that_were_brought_back_are_brought_back_again(paint: Paint, tmp_path: Path) -> None:
    start = tmp_path / "images" / "start.png"
    start.parent.mkdir()
    clouds(1, (96, 64)).save(start)
    (plain,) = paint(begin=api.FromPicture(start, 0.6))
    (picture,) = paint(begin=api.FromPicture(start, 0.6, colour_correction=True))
    hue = [np.asarray(Image.open(one).convert("LAB"), np.uint8).astype(int)[..., 1:] for one in (plain, picture, start)]
    before, after, wanted = (np.where(one > 127, one - 256, one).mean((0, 1)) for one in hue)
    assert np.abs(after - wanted).max() < np.abs(before - wanted).max() / 2
    assert same(picture)
    told = carriers.read(picture)
    assert told.infotext is not None
    assert told.infotext.settings["Color correction"] == "True"
    assert told.record is not None
    assert told.record["begun"]["colour_correction"] is True
    assert "Color correction" not in (carriers.read(plain).text or "")
    assert api.again(picture, changes=api.Changes(begin={"colour_correction": False})).original is None


def test_what_is_changed_is_changed_and_the_rest_stays(paint: Paint) -> None:
    (picture,) = paint("a boat", negative="a cat", hires=Hires(2.0, denoising=0.5))
    before = api.again(picture)
    for changes, fields in (
        (api.Changes({"seed": 8}), {"seed": 8}),
        (api.Changes({"prompt": "a house", "steps": 4}), {"prompt": "a house", "steps": 4, "as_is": False}),
        (api.Changes(hires={"denoising": 0.4}), {"hires": Hires(2.0, denoising=0.4)}),
    ):
        request = api.again(picture, changes=changes)
        assert request == replace(before, original=None, **{"batch": 4, **fields})
    (other,), notes = files(api.again(picture, changes=api.Changes({"seed": 8})))
    assert notes == []
    assert carriers.read(other).record != carriers.read(picture).record
    assert api.again(picture, changes=api.Changes({"form": "jpg"})).original == before.original


def test_where_bits_may_differ_it_is_said_why_and_how_much(paint: Paint, tmp_path: Path) -> None:
    (picture,) = paint()
    told = carriers.read(picture)
    assert told.record is not None
    with Image.open(picture) as image:
        off = np.asarray(image).copy()
    off[0, 0, 0] ^= 1
    changed = Image.fromarray(off)
    from velatura.api.painting.repeating import pixels_hash

    record = {**told.record, "torch": "1.0", "pixels": pixels_hash(changed)}
    picture.write_bytes(carriers.to_bytes(changed, told.text or "", record))
    _, notes = files(api.again(picture))
    (sentence,) = notes
    assert sentence.startswith("this is 1.png again, but for 0.0")
    assert "by 1 of 255 at most: it was painted with torch 1.0, and this is" in sentence
    picture.with_suffix(".jpg").write_bytes(carriers.to_bytes(changed, told.text or "", record, form="jpg"))
    _, notes = files(api.again(picture.with_suffix(".jpg")))
    assert "cannot be said of a file that lost something" in notes[0]


def test_what_it_was_painted_on_and_is_not_here_is_said(paint: Paint) -> None:
    (picture,) = paint()
    told = carriers.read(picture)
    assert told.record is not None
    with Image.open(picture) as image:
        picture.write_bytes(carriers.to_bytes(image, told.text or "", {**told.record, "device": "mars"}))
    request = api.again(picture)
    assert request.original is not None
    assert request.original.doubts[0] == "it was painted on mars, which is not here"
    assert request.memory.device is None


def test_a_picture_that_says_nothing_is_one_sentence(tmp_path: Path) -> None:
    clouds(1, (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(SettingsError, match="does not say how it was made"):
        api.again(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(VelaturaError):
        api.again(tmp_path / "broken.png")


def test_the_hash_of_a_start_is_its_file_s(paint: Paint, tmp_path: Path) -> None:
    start = tmp_path / "start.png"
    clouds(1, (96, 64)).save(start)
    (picture,) = paint(begin=api.FromPicture(start))
    record: Any = carriers.read(picture).record
    assert record["begun"]["sha256"] == sha256(start)
    assert str(tmp_path).encode() not in picture.read_bytes()


# --- pictures of other programs -----------------------------------------------------------------


def a1111(path: Path, prompt: str, **more: object) -> Path:
    settings = {
        "Steps": 3, "Sampler": "Euler a", "CFG scale": 3.0, "Seed": 5, "Size": "64x64", "Model": "tiny", **more,
    }  # fmt: skip
    path.write_bytes(carriers.to_bytes(Image.new("RGB", (8, 8)), infotext.write(prompt, "a cat", settings), {}))
    return path


@pytest.fixture
def picture(tmp_path: Path, home_bases: Path, base: Path, home: Path) -> Path:
    shutil.copytree(base, home / "bases" / "tiny")
    (home / "config.toml").write_text(f"[folders]\nbases = ['{home / 'bases'}']\nloras = ['{home}']\n", "utf-8")
    return tmp_path / "a1111.png"


def test_a_picture_of_a1111_is_painted_as_far_as_it_goes(picture: Path, tmp_path: Path) -> None:
    a1111(
        picture,
        "a boat",
        **{"Clip skip": 2, "Denoising strength": 0.5, "Hires upscale": 2, "ADetailer model": "x", "Eta": 0.5},
    )
    request = api.again(picture)
    assert (request.prompt, request.negative, request.seed, request.steps, request.cfg) == ("a boat", "a cat", 5, 3, 3)
    assert (request.sampler, request.scheduler, request.clip_skip) == ("Euler a", "Automatic", 2)
    assert (request.width, request.height, request.hires) == (64, 64, Hires(2.0, denoising=0.5))
    assert request.tuning == TuningSettings(rng="nv", eta=0.5)
    assert request.remarks == (
        "A1111 painted this; what it says is followed, but for noise that a graphics card drew, which is computed"
        " as an NVIDIA card's; ADetailer model: x",
    )
    (made,), notes = files(replace(request, out=tmp_path / "out"))
    assert notes[0] == request.remarks[0]
    with Image.open(made) as image:
        assert image.size == (128, 128)
    assert api.again(picture, changes=api.Changes({"seed": 9}, hires={"scale": 1.5})).hires == Hires(1.5, denoising=0.5)


def test_its_loras_are_found_by_their_hashes(picture: Path, write_lora: WriteLora, home: Path) -> None:
    ink = write_lora(home / "renamed.safetensors", 3)
    digits = tensor_hash(ink.read_bytes())[:12]
    a1111(picture, "a boat <lora:ink:0.5>", **{"Lora hashes": f"ink: {digits}"})
    assert api.again(picture).prompt == f"a boat <lora:{ink}:0.5>"
    write_lora(home / "ink.safetensors", 4)
    assert api.again(picture).prompt == f"a boat <lora:{ink}:0.5>", "of two, the one with the hash"
    ink.unlink()
    assert api.again(picture).prompt == "a boat <lora:ink:0.5>"
    assert (
        "ink.safetensors is called as the picture's, but is another: its hash is not" in api.again(picture).remarks[1]
    )
    a1111(picture, "a boat <lora:unknown:0.5>")
    with pytest.raises(SettingsError, match="unknown"):
        api.again(picture)


def test_what_its_painting_needs_and_is_not_here_is_one_sentence(picture: Path, tmp_path: Path) -> None:
    a1111(picture, "a boat", **{"Model": "dreamshaper", "Model hash": "0123456789"})
    with pytest.raises(SettingsError, match=r"the base dreamshaper \(its hash is 0123456789\) .* is not here"):
        api.again(picture)
    assert api.again(picture, changes=api.Changes({"base": "pocket"})).base == "pocket"
    a1111(picture, "a boat", **{"Denoising strength": 0.4})
    with pytest.raises(SettingsError, match="painted from another, which is not in its file"):
        api.again(picture)
    start = tmp_path / "start.png"
    clouds(1, (64, 64)).save(start)
    assert api.again(picture, changes=api.Changes(begin={"path": start})).begin == api.FromPicture(start, 0.4)
