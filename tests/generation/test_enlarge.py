"""How large a picture becomes, by which steps, and models that make it larger."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.paintings import clouds
from velatura import tensorfile
from velatura.errors import MissingExtra, ModelError, SettingsError
from velatura.generation import enlarge, upscale, upscalers
from velatura.generation.enlarge import Enlarge, factors, target
from velatura.generation.upscalers import UpscaleModel

FACTORS = [[], [2], [3], [4], [3, 2], [3, 2], [4, 2], [4, 2], [3, 3]]
"""Ultimate SD upscale's for scales of 1 to 9 (its own code, 2322caa); of 10 it makes a two and a nought."""


def test_a_picture_is_enlarged_by_the_factors_of_ultimate_sd_upscale() -> None:
    assert [factors((100, 60), (100 * scale, 60)) for scale in range(1, 10)] == FACTORS
    assert factors((100, 60), (101, 60)) == [2]
    assert factors((100, 60), (50, 30)) == []
    assert all(np.prod(factors((10, 10), (10 * scale, 10))) >= scale for scale in range(1, 60))


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (Enlarge(), (200, 124)),
        (Enlarge(1.5), (150, 93)),
        (Enlarge(width=300), (300, 186)),
        (Enlarge(height=124), (200, 124)),
        (Enlarge(width=128, height=128), (128, 128)),
    ],
    ids=str,
)
def test_the_size_is_that_which_is_told_to_the_pixel(told: Enlarge, wanted: tuple[int, int]) -> None:
    assert target((100, 62), told) == wanted


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (Enlarge(redraw="lines"), "there is no order of tiles 'lines'; did you mean 'linear'"),  # type: ignore[arg-type]
        (Enlarge(seams="half"), "there is no way with seams 'half'"),  # type: ignore[arg-type]
        (Enlarge(redraw="none"), "neither tiles nor seams"),
        (Enlarge(denoising=2), "from 0 to 1"),
        (Enlarge(tile=(8, 8)), "64 pixels"),
        (Enlarge(padding=-3), "0 or more"),
    ],
)
def test_what_cannot_be_is_refused(told: Enlarge, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        enlarge.check(told)
    with pytest.raises(SettingsError, match="are too many"):
        target((4000, 4000), Enlarge(9))
    with pytest.raises(SettingsError, match="a scale or a size"):
        target((100, 100), Enlarge(0))


def smooth(scale: int) -> Callable[[Tensor], Tensor]:
    """A network that sees some pixels around each."""

    def run(pixels: Tensor) -> Tensor:
        return functional.interpolate(pixels, scale_factor=scale, mode="bicubic").clamp(0, 1)

    return run


def test_a_picture_in_tiles_is_the_picture_at_once_and_memory_is_a_tile_s() -> None:
    seen: list[tuple[int, ...]] = []

    def watched(pixels: Tensor) -> Tensor:
        seen.append(tuple(pixels.shape[2:]))
        return smooth(2)(pixels)

    image = Image.effect_noise((150, 70), 80).convert("RGB")
    at_once = UpscaleModel("whole", "", 2, smooth(2), tile=200)(image)
    tiled = UpscaleModel("tiles", "", 2, watched, tile=40, around=8)
    *steps, larger = tiled.steps(image)
    assert isinstance(larger, Image.Image)
    assert larger.size == (300, 140)
    assert np.abs(np.asarray(larger, int) - np.asarray(at_once, int)).max() <= 1
    assert steps == [(place, 8) for place in range(1, 9)]
    assert max(max(shape) for shape in seen) <= 56
    bare = UpscaleModel("tiles", "", 2, smooth(2), tile=40, around=0)(image)
    assert np.abs(np.asarray(bare, int) - np.asarray(at_once, int)).max() > 10


def test_a_model_that_enlarges_more_or_less_is_set_right_by_lanczos() -> None:
    image = clouds(2, (50, 30))
    asked: list[tuple[int, int]] = []

    def by(scale: int) -> upscale.Upscaler:
        def run(one: Image.Image) -> Image.Image:
            asked.append(one.size)
            return one.resize((one.width * scale, one.height * scale))

        return run

    assert upscale.scaled(image, 2, by(4)).size == (96, 56)
    assert upscale.scaled(image, 3, by(2)).size == (144, 88)
    assert asked == [(50, 30), (50, 30), (100, 60)]


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    """spandrel itself; of torchvision, which two of its architectures import that enlarge nothing, what they name.

    A torchvision for graphics cards cannot be imported beside a torch for processors, and the tests have that one.
    """
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    if importlib.util.find_spec("torchvision") is None:
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        for name in names:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        functional: Any = sys.modules[names[-1]]
        functional.InterpolationMode = functional.rotate = functional.normalize = None
    importlib.import_module("spandrel")


def esrgan() -> dict[str, Tensor]:
    """ESRGAN's keys, as in RRDB_ESRGAN_x4.pth, at a size of its own: 8 filters, 1 block, twice as large."""
    drawn = torch.Generator().manual_seed(3)
    shapes = {"model.0": (8, 3), "model.1.sub.1": (8, 8), "model.3": (8, 8), "model.6": (8, 8), "model.8": (3, 8)}
    for dense in (1, 2, 3):
        for place in range(1, 6):
            grown = 8 + 32 * (place - 1)
            shapes[f"model.1.sub.0.RDB{dense}.conv{place}.0"] = (32 if place < 5 else 8, grown)
    shapes["model.5"] = shapes.pop("model.6")
    shapes["model.7"] = shapes.pop("model.8")
    found = {}
    for name, (out, into) in shapes.items():
        found[f"{name}.weight"] = torch.randn(out, into, 3, 3, generator=drawn) / (3 * into**0.5)
        found[f"{name}.bias"] = torch.randn(out, generator=drawn) * 0.1
    return found


@pytest.mark.usefixtures("spandrel")
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_an_esrgan_is_read_through_spandrel_and_enlarges(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"2x-tiny.{ending}"
    if ending == "pth":
        torch.save(esrgan(), path)
    else:
        path.write_bytes(tensorfile.to_bytes({name: tensorfile.raw(one.numpy()) for name, one in esrgan().items()}))
    model = upscalers.load(path)
    assert (model.name, model.scale) == ("2x-tiny", 2)
    small = UpscaleModel(model.name, "", model.scale, model.run, tile=16, around=16)
    image = clouds(1, (40, 24))
    assert model(image).size == small(image).size == (80, 48)
    assert np.abs(np.asarray(model(image), int) - np.asarray(small(image), int)).max() <= 2


@pytest.mark.usefixtures("spandrel")
def test_what_is_no_upscale_model_is_refused_and_a_pickle_is_not_run(tmp_path: Path) -> None:
    for content in (tensorfile.to_bytes({"a": tensorfile.raw(np.ones(3, np.float32))}), b"no file of weights"):
        path = tmp_path / "a.safetensors"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="no upscale model that can be read"):
            upscalers.load(path)
    torch.save({"weights": Path("code")}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="no upscale model that can be read"):
        upscalers.load(tmp_path / "a.pth")


def test_without_spandrel_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(MissingExtra, match=r"read with spandrel; pip install 'velatura\[upscale\]'"):
        upscalers.load(tmp_path / "a.pth")


def test_a_torchvision_for_another_torch_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(upscalers.importlib, "import_module", broken)
    with pytest.raises(MissingExtra, match="torchvision::nms does not exist; install the torchvision that belongs"):
        upscalers.load(tmp_path / "a.pth")


def test_upscale_models_are_found_by_name(home: Path, tmp_path: Path) -> None:
    settings: Any = importlib.import_module("velatura.settings")
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "4x-sharp.pth"
    path.write_bytes(b"")
    (home / "config.toml").write_text(f"[folders]\nupscalers = ['{tmp_path / 'models'}']\n", encoding="utf-8")
    assert settings.find_upscaler("4x-sharp") == settings.find_upscaler("4x-sharp.pth") == path
    with pytest.raises(SettingsError, match="no upscaler is named 4x-shrap; did you mean 4x-sharp"):
        settings.find_upscaler("4x-shrap")
    with pytest.raises(SettingsError, match="did you mean Lanczos"):
        settings.find_upscaler("lanzcos")
