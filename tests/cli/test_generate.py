"""`velatura generate`: how texts are read, by the words of the command line or by the project's recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from velatura import api
from velatura.events import Done, Event

Velatura = Callable[..., Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[api.GenerateRequest]:
    """What the command asks of the API, which paints nothing."""
    requests: list[api.GenerateRequest] = []

    def generate(request: api.GenerateRequest) -> Iterator[Event]:
        requests.append(request)
        yield Done(0, {})

    monkeypatch.setattr(api, "generate", generate)
    return requests


def test_emphasis_and_clip_skip_are_handed_on(velatura: Velatura, asked: list[api.GenerateRequest]) -> None:
    velatura("generate", "a boat", "--emphasis", "comfy", "--clip-skip", 2)
    velatura("generate", "a boat")
    assert [(one.emphasis, one.clip_skip) for one in asked] == [("comfy", 2), ("a1111", None)]


def test_the_project_s_clip_skip_is_of_its_own_base_alone(
    velatura: Velatura, asked: list[api.GenerateRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    velatura("new", "ink")
    recipe = tmp_path / "ink" / "recipe.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace('clip_skip = "none"', "clip_skip = 2"), "utf-8")
    monkeypatch.chdir(tmp_path / "ink")
    for words in ((), ("--clip-skip", 1), ("--base", "pocket")):
        velatura("generate", "a boat", *words)
    assert [one.clip_skip for one in asked] == [2, 1, None]


def test_what_is_said_of_a_second_pass_is_handed_on(velatura: Velatura, asked: list[api.GenerateRequest]) -> None:
    velatura("generate", "a boat", "--hires", 1.5, "--hires-denoising", 0.4, "--hires-upscaler", "Lanczos")
    velatura("generate", "a boat", "--hires-to", "1024x0", "--hires-steps", 8, "--hires-prompt", "a ship")
    velatura("generate", "a boat")
    first, second, none = (one.hires for one in asked)
    assert first is not None and (first.scale, first.denoising, first.upscaler) == (1.5, 0.4, "Lanczos")
    assert second is not None and (second.width, second.height) == (1024, 0)
    assert (second.steps, second.prompt) == (8, "a ship")
    assert none is None


def test_what_is_said_of_a_picture_to_paint_from_is_handed_on(
    velatura: Velatura, asked: list[api.GenerateRequest]
) -> None:
    velatura("generate", "a boat", "--from", "sketch.png", "--denoising", 0.4, "--background", "#102030")
    velatura("generate", "a boat", "--from", "sketch.png", "--resize-mode", "crop", "--exact-steps")
    velatura("generate", "a boat", "--from", "sketch.png", "--colour-correction")
    assert [one.begin for one in asked] == [
        api.FromPicture(Path("sketch.png"), 0.4, background=(16, 32, 48)),
        api.FromPicture(Path("sketch.png"), resize_mode="crop", exact_steps=True),
        api.FromPicture(Path("sketch.png"), colour_correction=True),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hires-denoising", "0.4"], "--hires-denoising needs a second pass"),
        (["--hires", "2", "--hires-to", "64x64"], "leave one of them out"),
        (["--hires-to", "large"], "write it as 1024x1536"),
        (["--hires", "2", "--hires-upscaler", "Lanzcos"], "did you mean 'Lanczos'?"),
        (["--hires", "2", "--from", "sketch.png"], "leave --hires out"),
        (["--denoising", "0.4"], "--denoising needs a picture"),
        (["--from", "sketch.png", "--background", "blue"], "write it as #rrggbb"),
        (["--from", "sketch.png", "--resize-mode", "streach"], "did you mean stretch?"),
        (["--from", "missing.png"], "missing.png"),
        (["--from", "words.txt"], "words.txt"),
        (["--from", "sketch.png", "--denoising", "1.5"], "use a number from 0 to 1"),
        (["--sampler", "DPM++ 2N"], "did you mean 'DPM++ 2M'"),
        (["--scheduler", "Karas"], "did you mean 'Karras'"),
        (["--width", "100"], "multiples of 8 up to 8192 are; use 96"),
        (["--format", "gif"], "did you mean avif?"),
        (["--lora", "in"], "did you mean ink, my-ink or ink-two?"),
    ],
)
def test_what_cannot_be_painted_ends_in_one_sentence_that_names_the_way_out(
    velatura: Velatura, tmp_path: Path, home: Path, words: list[str], said: str
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "sketch.png")
    (tmp_path / "words.txt").write_text("no picture", encoding="utf-8")
    for name in ("ink", "ink-two", "my-ink"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    (home / "config.toml").write_text(f"[folders]\nloras = ['{tmp_path}']\n", encoding="utf-8")
    told = velatura("generate", "a boat", *words, "--steps", 1)
    assert told.code == 2 and said in told.err and "Traceback" not in told.err
    assert len([line for line in told.err.splitlines() if line.startswith("error")]) == 1
    assert not (tmp_path / "images").exists()


def test_read_shows_what_a_picture_says_of_itself_on_a_terminal_and_to_a_machine(
    velatura: Velatura, tmp_path: Path
) -> None:
    words = PngInfo()
    settings = "Steps: 9, Sampler: Euler, CFG scale: 4, Seed: 7, Size: 64x64"
    words.add_text("parameters", f"a boat <lora:ink:0.8>\nNegative prompt: blurred\n{settings}")
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png", pnginfo=words)
    told = velatura("read", "one.png")
    assert told.code == 0 and "prompt: a boat <lora:ink:0.8>" in told.out and "Euler" in told.out
    (line,) = velatura("read", "one.png", "--json").json
    assert line["negative_prompt"] == "blurred" and line["settings"]["Seed"] == "7"
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    told = velatura("read", "bare.png")
    assert told.code == 2 and "bare.png" in told.err


def test_the_options_are_shown_in_groups_with_those_of_every_command_last(velatura: Velatura) -> None:
    lines = velatura("generate", "--help").out.splitlines()
    titles = [line.rstrip(":") for line in lines if line and not line.startswith((" ", "Usage"))]
    assert titles[:3] == ["Arguments", "Prompt", "LoRAs"] and titles[-1] == "Options"
    assert len(titles) == len(set(titles)) > 8
    under = lines[lines.index("A second, larger pass:") : lines.index("From a picture:")]
    assert sum(line.startswith("  --hires") for line in under) == 10
