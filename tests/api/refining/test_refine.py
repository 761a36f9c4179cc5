"""Pictures refined: what is recalled, what stays, what the result says, and how it is made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.generation.test_record import write_lora as write_lora
from tests.paintings import clouds
from tests.tiny import base as base
from tests.tiny import model as model
from velatura import api
from velatura.api.refining import refine as refining
from velatura.api.refining.recalling import recalled
from velatura.errors import SettingsError
from velatura.events import Done, Note, Progress
from velatura.files import sha256
from velatura.generation import carriers
from velatura.generation.detail import Detail
from velatura.generation.enlarge import Enlarge
from velatura.generation.finds import Find, Picking
from velatura.generation.parts import Inpaint
from velatura.generation.sampling import Sampling
from velatura.recipe import TuningSettings

Paint = Callable[..., Path]
BOX = (20.0, 10.0, 50.0, 40.0)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, base: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny base is found by name."""
    monkeypatch.chdir(tmp_path)
    (home / "config.toml").write_text(f"[folders]\nbases = ['{base.parent}']\nloras = ['{home}']\n", encoding="utf-8")


@pytest.fixture
def paint(base: Path, tmp_path: Path) -> Paint:
    def run(prompt: str = "a boat", **told: Any) -> Path:
        request = api.GenerateRequest(
            prompt, **{"base": base.name, "seed": 1, "steps": 3, "cfg": 3.0, "out": tmp_path / "images", **told}
        )
        *_, done = api.generate(request)
        assert isinstance(done, Done)
        return tmp_path / "images" / done.summary["files"][0]

    return run


def refined(*pictures: Path, work: Any, **told: Any) -> tuple[list[Path], list[str]]:
    """The results, and the notes."""
    *events, done = api.refine(api.RefineRequest(pictures, work, **told))
    assert isinstance(done, Done)
    names = done.summary["files"]
    return [(told.get("out") or pictures[0].parent) / name for name in names], [
        event.text for event in events if isinstance(event, Note)
    ]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


def test_a_part_is_painted_anew_and_the_rest_stays(paint: Paint) -> None:
    picture = paint()
    before = picture.read_bytes()
    (whole, second), _ = refined(picture, work=Inpaint(boxes=(BOX,), blur=0), changes=api.Changes({"count": 2}))
    ((masked,), _) = refined(picture, work=Inpaint(boxes=(BOX,), blur=0, area="only masked", padding=4))
    assert picture.read_bytes() == before
    assert [path.name for path in (whole, second, masked)] == ["1-inpaint.png", "1-inpaint-2.png", "1-inpaint-3.png"]
    inside = np.zeros((64, 64), bool)
    inside[10:40, 20:50] = True
    for result in (whole, second, masked):
        changed = (pixels(result) != pixels(picture)).any(axis=2)
        assert not changed[~inside].any()
        assert changed[inside].mean() > 0.9
    assert (pixels(whole) != pixels(second)).any()
    assert (pixels(whole) != pixels(masked)).any()


def test_colours_of_a_part_are_brought_back_and_again_and_of_finds_that_is_refused(paint: Paint) -> None:
    picture = paint()
    work = Inpaint(boxes=(BOX,), blur=0, fill="fill")
    ((plain,), _) = refined(picture, work=work)
    ((corrected,), _) = refined(picture, work=work, colour_correction=True)
    apart = np.abs(pixels(corrected) - pixels(plain))
    assert apart[10:40, 20:50].max() > 8 and apart[:9].max() == apart[41:].max() == 0
    notes = [event.text for event in api.refine_again(corrected) if isinstance(event, Note)]
    assert any("bit for bit" in note for note in notes)
    with pytest.raises(SettingsError, match="for painting a part anew"):
        refined(picture, work=Detail(boxes=(BOX,)), colour_correction=True)


def test_the_result_says_what_it_was_made_from_back_to_the_first(paint: Paint) -> None:
    picture = paint("a (red:1.2) boat", negative="a cat")
    ((part,), _) = refined(picture, work=Inpaint(boxes=(BOX,)))
    ((again,), _) = refined(part, work=Inpaint(boxes=(BOX,), area="only masked", fill="latent noise"), denoising=0.6)
    record: Any = carriers.read(again).record
    assert (record["parent"]["name"], record["parent"]["sha256"]) == (part.name, sha256(part))
    first = record["parent"]["record"]["parent"]
    assert (first["name"], first["sha256"]) == (picture.name, sha256(picture))
    assert first["record"] == carriers.read(picture).record
    assert (record["prompt"], record["negative_prompt"], record["seed"]) == ("a (red:1.2) boat", "a cat", 1)
    told = carriers.read(again).infotext
    assert told is not None
    wanted = {
        "Denoising strength": "0.6",
        "Mask blur": "4",
        "Inpaint area": "Only masked",
        "Masked area padding": "32",
        "Masked content": "latent noise",
    }
    assert {name: told.settings[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "work",
    [
        Inpaint(boxes=(BOX,)),
        Inpaint(Path("mask.png"), boxes=(BOX,), invert=True, soft=True, fill="fill"),
        Inpaint(Path("mask.png"), area="only masked", padding=8, fill="latent nothing"),
    ],
    ids=["box", "soft", "masked"],
)
def test_a_refined_picture_is_made_again_bit_for_bit_also_without_its_mask(paint: Paint, work: Inpaint) -> None:
    picture = paint(width=72, height=64)
    Image.radial_gradient("L").resize((72, 64)).save("mask.png")
    ((result,), _) = refined(picture, work=work, denoising=0.7)
    Path("mask.png").unlink()
    *events, _ = api.generate(api.again(result))
    assert f"this is {result.name} again, bit for bit" in [one.text for one in events if isinstance(one, Note)]
    picture.rename("elsewhere.png")
    with pytest.raises(SettingsError, match=r"is not here: .*name its file with --from"):
        api.again(result)
    assert api.again(result, changes=api.Changes(begin={"path": Path("elsewhere.png")})).original is not None


def test_what_a_picture_says_is_recalled_and_what_is_told_changes_it(
    paint: Paint, home: Path, write_lora: Callable[[Path, int], Path], base: Path
) -> None:
    write_lora(home / "ink.safetensors", 1)
    write_lora(home / "wash.safetensors", 2)
    picture = paint(
        "a boat <lora:ink:0.5>", loras=("wash:0.7",), sampler="Euler a", tuning=TuningSettings(eta=0.5), width=72
    )
    told = recalled(picture)
    assert (told.prompt, told.loras) == ("a boat <lora:ink:0.5>", ("wash:0.7",))
    assert (told.base, told.seed, told.steps, told.cfg, told.sampler) == (base.name, 1, 3, 3.0, "Euler a")
    assert told.tuning.eta == 0.5
    assert (told.width, told.begin, told.original) == (None, None, None)
    (home / "ink.safetensors").unlink()
    with pytest.raises(SettingsError, match=r"the LoRA ink .* is not here"):
        recalled(picture)
    other = recalled(picture, changes=api.Changes({"prompt": "a house", "seed": 5}, tuning=["eta=0.2"]))
    assert (other.prompt, other.loras, other.seed, other.tuning.eta) == ("a house", ("wash:0.7",), 5, 0.2)
    assert recalled(picture, changes=api.Changes({"prompt": "a house", "loras": ()})).loras == ()


def test_a_picture_that_says_nothing_needs_a_base_and_a_prompt(tmp_path: Path, base: Path) -> None:
    picture = tmp_path / "plain.png"
    clouds(1, (70, 90)).save(picture)
    with pytest.raises(SettingsError, match=r"does not say how it was made .*; say it with --base and --prompt"):
        refined(picture, work=Inpaint(boxes=(BOX,)))
    with pytest.raises(SettingsError, match=r"say it with --base$"):
        refined(picture, work=Inpaint(boxes=(BOX,)), changes=api.Changes({"prompt": "a boat"}))
    said = {"prompt": "a boat", "base": str(base), "steps": 2}
    ((result,), _) = refined(picture, work=Inpaint(boxes=(BOX,), blur=0), changes=api.Changes(said))
    assert pixels(result).shape == (90, 70, 3)
    assert (pixels(result)[50:] == pixels(picture)[50:]).all()
    record: Any = carriers.read(result).record
    assert set(record["parent"]) == {"name", "sha256"}


def test_a_picture_of_a1111_is_recalled_by_its_words(paint: Paint, tmp_path: Path, base: Path) -> None:
    picture = tmp_path / "theirs.png"
    words = (
        f"a boat\nSteps: 4, Sampler: Euler, CFG scale: 2, Seed: 9, Size: 64x64, Model: {base.name}, Version: v1.10.1"
    )
    chunks = PngInfo()
    chunks.add_text("parameters", words)
    clouds(1, (64, 64)).save(picture, pnginfo=chunks)
    told = recalled(picture)
    assert (told.prompt, told.steps, told.sampler, told.seed) == ("a boat", 4, "Euler", 9)
    ((result,), notes) = refined(picture, work=Inpaint(boxes=(BOX,)))
    record: Any = carriers.read(result).record
    assert record["parent"]["infotext"] == words
    assert any("A1111 painted this" in note for note in notes)


def test_nothing_is_painted_where_one_of_several_cannot_be(paint: Paint, tmp_path: Path) -> None:
    picture, plain = paint(), tmp_path / "plain.png"
    clouds(1, (64, 64)).save(plain)
    with pytest.raises(SettingsError, match="does not say how it was made"):
        refined(picture, plain, work=Inpaint(boxes=(BOX,)))
    assert list(picture.parent.iterdir()) == [picture]


def test_the_part_is_painted_in_the_size_that_is_told(paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    from velatura.generation import generate as module

    sizes: list[tuple[int, int]] = []
    passes = module.passes_of

    def watched(model: Any, jobs: Any, sampling: Sampling, **told: Any) -> Any:
        sizes.append((sampling.width, sampling.height))
        return passes(model, jobs, sampling, **told)

    picture = paint(width=96, height=64)
    monkeypatch.setattr(module, "passes_of", watched)
    masked = Inpaint(boxes=(BOX,), area="only masked")
    for work, told in ((masked, {}), (masked, {"width": 128, "height": 128}), (Inpaint(boxes=(BOX,)), {})):
        refined(picture, work=work, changes=api.Changes(told))
    assert sizes == [(80, 56), (128, 128), (96, 64)]


def refined_again(picture: Path, **told: Any) -> list[str]:
    return [event.text for event in api.refine_again(picture, **told) if isinstance(event, Note)]


def test_finds_are_painted_one_after_another_each_with_its_prompt_its_seed_and_its_loras(
    paint: Paint, home: Path, write_lora: Callable[[Path, int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from velatura.api.refining import detailing
    from velatura.generation.record import UsedLora

    write_lora(home / "ink.safetensors", 1)
    picture = paint("a crowd", negative="a cat", width=96, height=64)
    finds = [Find((60, 10, 80, 30)), Find((10, 30, 30, 50)), Find((40, 5, 50, 15), 0.1), Find((2, 2, 20, 20))]
    told: list[tuple[str, str, int, list[str]]] = []
    painted = detailing.painted

    def watched(ready: Any) -> Any:
        (_, loras), job = ready.groups[0], ready.groups[0][0].jobs[0]
        assert all(isinstance(one, UsedLora) for one in loras)
        told.append((job.prompt, job.negative_prompt, job.seed, [one.name for one in loras]))
        return painted(ready)

    monkeypatch.setattr(detailing, "painted", watched)
    monkeypatch.setattr(refining, "detectors_of", lambda _: [lambda image: finds])
    work = Detail(
        "scene", picking=Picking(order="left to right", grow=0), prompt="a face <lora:ink:0.5>[SEP][SKIP][SEP]", blur=0
    )
    ((result,), _) = refined(picture, work=work)
    assert told == [("a face <lora:ink:0.5>", "a cat", 1, ["ink"]), ("a crowd", "a cat", 3, [])]
    changed = (pixels(result) != pixels(picture)).any(axis=2)
    seen = np.zeros((64, 96), bool)
    seen[2:21, 2:21] = seen[10:31, 60:81] = True
    assert not changed[~seen].any()
    assert changed[2:21, 2:21].mean() > 0.9
    assert changed[10:31, 60:81].mean() > 0.9
    record: Any = carriers.read(result).record
    (told_of,) = record["refined"]["passes"]
    assert [one["box"][0] for one in told_of["finds"]] == [2, 10, 60]
    assert told_of["prompt"] == "a face <lora:ink:0.5>[SEP][SKIP][SEP]a crowd"
    assert record["loras"] == []
    text = carriers.read(result).infotext
    assert text is not None
    assert text.settings["ADetailer model"] == "scene"
    assert text.settings["Lora hashes"].startswith("ink: ")
    (home / "ink.safetensors").rename(home / "other.safetensors")
    assert refined_again(result)[-1] == f"this is {result.name} again, bit for bit"
    with pytest.raises(SettingsError, match="make it again with velatura refine again"):
        api.again(result)


def test_a_picture_in_which_nothing_is_found_stays_as_it_is(paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = paint()
    monkeypatch.setattr(refining, "detectors_of", lambda _: [lambda image: [Find((1, 1, 9, 9), 0.2)]])
    results, notes = refined(picture, work=Detail("scene"))
    assert results == []
    assert notes == ["nothing was found in 1.png, and it stays as it is"]
    assert list(picture.parent.iterdir()) == [picture]


def test_several_things_are_looked_for_one_after_the_other_each_with_settings_of_its_own(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds begin anew for each; the second sees what the first left; where one finds nothing the others go on."""
    from velatura.api.refining import detailing

    picture = paint("a crowd", width=96, height=64)
    told: list[tuple[str, int, int, float, str, tuple[int, int]]] = []
    painted, seen = detailing.painted, list[np.ndarray]()

    def watched(ready: Any) -> Any:
        how, job = ready.sampling, ready.groups[0][0].jobs[0]
        told.append((job.prompt, job.seed, how.steps, how.cfg_scale, how.sampler, (how.width, how.height)))
        return painted(ready)

    def detector(*finds: Find) -> Any:
        return lambda image: (seen.append(np.asarray(image, int)), finds)[1]

    finds = Find((60, 10, 80, 30)), Find((10, 30, 30, 50)), Find((40, 5, 80, 20))
    monkeypatch.setattr(detailing, "painted", watched)
    monkeypatch.setattr(
        refining, "detectors_of", lambda _: [detector(*finds[:2]), detector(), detector(finds[2], finds[0])]
    )
    last = Detail("hand.onnx", steps=2, cfg=1.5, sampler="Euler a", match=True, picking=Picking(grow=0), falloff=2)
    work = Detail("face.onnx", prompt="a {red|green|blue|black|white} face", then=(Detail("nose.onnx"), last))
    ((result,), notes) = refined(picture, work=work)
    faces = [one[0] for one in told[:2]]
    assert all("{" not in one and one.endswith(" face") for one in faces)
    assert [one[1:] for one in told[:2]] == [(seed, 3, 3.0, "DPM++ 2M", (80, 56)) for seed in (1, 2)]
    assert told[2:] == [
        ("a crowd", 1, 2, 1.5, "Euler a", (80, 32)),
        ("a crowd", 2, 2, 1.5, "Euler a", (80, 80)),
    ]
    assert notes == [f"nose.onnx found nothing in {picture.name}"]
    assert (seen[0] == pixels(picture)).all()
    assert (seen[1] == seen[2]).all()
    assert (seen[1] != seen[0]).any()
    record: Any = carriers.read(result).record
    passes = record["refined"]["passes"]
    assert [(one["detector"], len(one["finds"])) for one in passes] == [
        ("face.onnx", 2), ("nose.onnx", 0), ("hand.onnx", 2),
    ]  # fmt: skip
    assert passes[0]["prompt"] == "[SEP]".join(faces)
    text = carriers.read(result).infotext
    assert text is not None
    assert text.settings["ADetailer model 3rd"] == "hand.onnx"
    assert text.settings["ADetailer steps 3rd"] == "2"
    monkeypatch.setattr(refining, "detectors_of", lambda _: [None] * 3)
    assert refined_again(result)[-1] == f"this is {result.name} again, bit for bit"


def test_a_prompt_of_any_detector_that_cannot_be_painted_ends_it_before_anything_is(
    paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = paint()
    monkeypatch.setattr(refining, "detectors_of", lambda _: [lambda image: [Find((1, 1, 9, 9))]] * 2)
    work = Detail("face.onnx", then=(Detail("hand.onnx", prompt="a hand <lora:nowhere:1>"),))
    with pytest.raises(SettingsError, match="no LoRA is named nowhere"):
        refined(picture, work=work)
    with pytest.raises(SettingsError, match="own proportions in a size that is told"):
        refined(picture, work=Detail("face.onnx", match=True), changes=api.Changes({"width": 64}))
    assert list(picture.parent.iterdir()) == [picture]


def test_finds_are_painted_in_adetailers_sizes_where_they_keep_their_proportions() -> None:
    """Its own code (36189cb) for a size and a box, in multiples of 8; within a tenth the size stays as it was."""
    from types import SimpleNamespace

    from velatura.api.refining import detailing

    model: Any = SimpleNamespace(resolution=512, latent_factor=8, side_step=1)
    for size, box, wanted in (
        ((512, 512), (100, 50), (512, 256)),
        ((512, 512), (50, 100), (256, 512)),
        ((512, 768), (70, 100), (512, 768)),
        ((512, 768), (50, 100), (384, 768)),
        ((128, 128), (30, 31), (128, 128)),
        ((640, 512), (99, 33), (640, 216)),
    ):
        request = api.GenerateRequest("a face", width=size[0], height=size[1])
        desk: Any = SimpleNamespace(model=model, request=request)
        shape = Image.new("L", (200, 200))
        shape.paste(255, (0, 0, *box))
        image = Image.new("RGB", (200, 200))
        assert detailing._size(desk, image, Detail("a", match=True), shape) == wanted
        assert detailing._size(desk, image, Detail("a"), shape) == size


LARGE = Enlarge(2.25, tile=(64, 64), padding=8, seams="half tiles", denoising=0.5)


def test_a_larger_picture_says_so_and_is_made_again_bit_for_bit(paint: Paint, tmp_path: Path) -> None:
    picture = paint(width=72, height=64)
    ((result,), _) = refined(picture, work=LARGE)
    with Image.open(result) as image:
        assert image.size == (162, 144)
        lanczos = Image.open(picture).convert("RGB").resize(image.size, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(image, int) - np.asarray(lanczos, int)).mean() > 1
    assert sorted(one.name for one in picture.parent.iterdir()) == ["1-upscale.png", "1.png"]
    text = carriers.read(result).infotext
    assert text is not None
    wanted = {"upscaler": "Lanczos", "tile_width": "64", "tile_height": "64", "mask_blur": "8", "padding": "8"}
    assert {name: text.settings[f"Ultimate SD upscale {name}"] for name in wanted} == wanted
    assert refined_again(result)[-1] == f"this is {result.name} again, bit for bit"
    picture.rename(tmp_path / "elsewhere.png")
    with pytest.raises(SettingsError, match=r"the picture 1\.png that this one was refined from is not here"):
        refined_again(result)
    there = refined_again(result, parent=tmp_path / "elsewhere.png", out=tmp_path / "there")
    assert there[-1] == f"this is {result.name} again, bit for bit"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_an_upscale_that_was_cut_off_goes_on_and_ends_as_if_it_never_was(
    paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Killed at any write, or stopped between two tiles."""
    from velatura.api.refining import upscaling

    picture = paint(width=72, height=64)
    whole = tmp_path / "whole"
    ((expected,), _) = refined(picture, work=LARGE, out=whole)
    tiles: list[int] = []
    tile = upscaling._tile

    def watched(*told: Any) -> Any:
        tiles.append(told[5])
        return tile(*told)

    monkeypatch.setattr(upscaling, "_tile", watched)
    write, written = upscaling.write_bytes, list[Path]()

    def failing(path: Path, data: bytes) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        write(path, data)
        written.append(path)

    out = tmp_path / "out"
    if killed:
        monkeypatch.setattr(upscaling, "write_bytes", failing)
        with pytest.raises(KeyboardInterrupt):
            refined(picture, work=LARGE, out=out)
        monkeypatch.setattr(upscaling, "write_bytes", write)
    else:
        events = api.refine(api.RefineRequest((picture,), LARGE, out=out))
        for event in events:
            if isinstance(event, Progress) and "tiles" in event.stage and event.done > event.total // 4:
                break
        events.close()  # type: ignore[attr-defined]
    assert not list(out.glob("*.png"))
    begun = max(tiles)
    tiles.clear()
    ((result,), notes) = refined(picture, work=LARGE, out=out)
    assert tiles[0] == begun > 0
    assert any("are painted already" in note for note in notes)
    assert result.read_bytes() == expected.read_bytes()
    assert [one.name for one in out.iterdir()] == ["1-upscale.png"]
    tiles.clear()
    (again, notes) = refined(picture, work=LARGE, out=out)
    assert again == [result]
    assert tiles == []
    assert "1-upscale.png is there already, and is not made again" in notes


def test_an_upscaler_of_a_model_is_asked_as_often_as_needed(
    paint: Paint, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from velatura.generation import upscalers

    asked: list[tuple[int, int]] = []

    def larger(pixels_BCHW: Any) -> Any:
        asked.append(tuple(pixels_BCHW.shape[2:]))
        return pixels_BCHW.repeat_interleave(2, 2).repeat_interleave(2, 3)

    monkeypatch.setattr(upscalers, "load", lambda path, device: upscalers.UpscaleModel(path.stem, "", 2, larger))
    path = tmp_path / "2x-sharp.pth"
    path.write_bytes(b"weights")
    picture = paint()
    work = Enlarge(3, upscaler=str(path), tile=(192, 192), denoising=0.3)
    ((result,), _) = refined(picture, work=work)
    assert asked == [(64, 64), (128, 128)]
    with Image.open(result) as image:
        assert image.size == (192, 192)
    record: Any = carriers.read(result).record
    assert record["refined"]["upscaler"] == "2x-sharp"
    assert str(tmp_path) not in str(record)
    with pytest.raises(SettingsError, match="no upscaler is named 2x-sharp"):
        refined_again(result)
