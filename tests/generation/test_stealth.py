"""Words hidden in pixels: found in each of their four forms, and never a crash."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from PIL import Image

from velatura.generation.elsewhere import read_picture
from velatura.generation.elsewhere.stealth import hidden

WORDS = "a lake at dusk\nSteps: 9, Sampler: Euler, CFG scale: 4, Seed: 7, Size: 96x64"


def hiding(text: str, signature: str, *, damage: int = 0) -> Image.Image:
    """A picture with a text in its pixels, bit by bit as the format says."""
    data = text.encode()
    data = gzip.compress(data) if signature.endswith("comp") else data
    data = signature.encode() + (len(data) * 8 + damage).to_bytes(4, "big") + data
    bits = [byte >> place & 1 for byte in data for place in range(7, -1, -1)]
    alpha = "png" in signature
    image = Image.effect_noise((96, 64), 40).convert("RGBA" if alpha else "RGB")
    places = [(x, y) for x in range(96) for y in range(64)]
    for number, place in enumerate(places):
        told = list(image.getpixel(place))  # type: ignore[arg-type]
        for channel in (3,) if alpha else (0, 1, 2):
            at = number if alpha else 3 * number + channel
            if at < len(bits):
                told[channel] = told[channel] & ~1 | bits[at]
        image.putpixel(place, tuple(told))
    return image


@pytest.mark.parametrize("signature", ["stealth_pnginfo", "stealth_pngcomp", "stealth_rgbinfo", "stealth_rgbcomp"])
def test_infotext_in_pixels_is_read_where_the_chunks_are_gone(signature: str, tmp_path: Path) -> None:
    hiding(WORDS, signature).save(tmp_path / "one.png")
    found = read_picture(tmp_path / "one.png")
    assert found is not None and found.infotext.prompt == "a lake at dusk"
    assert found.infotext.settings["Seed"] == "7"


def test_what_novelai_hides_is_what_its_chunks_say(tmp_path: Path) -> None:
    comment = {"prompt": "a lake", "uc": "blurry", "steps": 28, "scale": 5.0, "seed": 3, "sampler": "k_euler_ancestral"}
    told = {"Software": "NovelAI", "Description": "a lake", "Comment": json.dumps(comment)}
    hiding(json.dumps(told), "stealth_pngcomp").save(tmp_path / "one.png")
    found = read_picture(tmp_path / "one.png")
    assert found is not None and found.program == "NovelAI" and found.infotext.negative_prompt == "blurry"


def test_pictures_without_hidden_words_and_damaged_ones_say_nothing() -> None:
    assert hidden(Image.effect_noise((96, 64), 40).convert("RGBA")) is None
    assert hidden(Image.new("RGBA", (2, 2))) is None and hidden(Image.new("L", (96, 64))) is None
    assert hidden(hiding(WORDS, "stealth_pngcomp", damage=10**9)) is None
    assert hidden(hiding(WORDS, "stealth_pngcomp", damage=-64)) is None
