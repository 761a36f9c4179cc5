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
from velatura.api.recalling import recalled
from velatura.errors import SettingsError
from velatura.events import Done, Note
from velatura.files import sha256
from velatura.generation import carriers
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
