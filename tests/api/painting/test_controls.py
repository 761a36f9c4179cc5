"""Painting with ControlNets, from the command to the file: its record, painted again, and on a sheet's axes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import tiny_control
from tests.paintings import clouds
from tests.tiny import base as base
from velatura import api
from velatura.api.comparing import varying
from velatura.api.painting.repeating import pixels_hash
from velatura.api.refining import refine as refining
from velatura.errors import ModelError, SettingsError
from velatura.events import Done, Event, Note
from velatura.files import sha256
from velatura.generation import carriers, control, hints, infotext
from velatura.generation.control import ControlUse
from velatura.generation.detail import Detail
from velatura.generation.enlarge import Enlarge
from velatura.generation.finds import Picking
from velatura.generation.parts import Inpaint
from velatura.sheets import axes, plan


@pytest.fixture
def net(home: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ControlNet among the user's own, beside the tiny base; pictures go to where one is."""
    folder = tiny_control.written(tmp_path / "nets" / "edges", tiny_control.network("sd15"))
    told = f"[folders]\nbases = ['{base.parent}']\ncontrolnets = ['{folder.parent}']\n"
    (home / "config.toml").write_text(told, encoding="utf-8")
    clouds(3, (90, 50)).save(tmp_path / "hint.png")
    monkeypatch.chdir(tmp_path)
    return folder


def request(base: Path, *controls: ControlUse, **told: Any) -> api.GenerateRequest:
    given = {"seed": 1, "steps": 3, "cfg": 3.0, "out": Path("images"), "base": base.name, **told}
    return api.GenerateRequest("a boat", controls=controls, **given)


def painted(told: api.GenerateRequest) -> tuple[Path, list[Event]]:
    *events, done = api.generate(told)
    assert isinstance(done, Done)
    return Path(str(done.summary["folder"])) / str(done.summary["files"][0]), events  # type: ignore[index]


def pixels(path: Path) -> str:
    with Image.open(path) as image:
        return pixels_hash(image)


def test_a_picture_says_which_controlnet_saw_what_and_by_whose_words(net: Path, base: Path, tmp_path: Path) -> None:
    use = control.read(f"edges, hint={tmp_path / 'hint.png'}, weight=0.8, end=0.7, preprocess=invert")
    path, _ = painted(request(base, use))
    said = carriers.read(path)
    assert said.record is not None and said.text is not None
    (one,) = said.record["controls"]  # type: ignore[attr-defined]
    weights = net / "diffusion_pytorch_model.safetensors"
    assert (one["name"], one["sha256"]) == ("edges", sha256(weights))
    assert one["hint"] == {"name": "hint.png", "sha256": sha256(tmp_path / "hint.png")}
    assert (one["weight"], one["end"], one["preprocessor"]) == (0.8, 0.7, "invert")
    assert str(tmp_path) not in json.dumps(said.record) + said.text
    unit = infotext.parse(said.text).settings["ControlNet 0"]
    assert "Module: invert, Model: edges [" in unit
    assert "Weight: 0.8, Resize Mode: Crop and Resize" in unit
    plain, _ = painted(request(base))
    assert pixels(plain) != pixels(path)
    assert "controls" not in (carriers.read(plain).record or {})


def test_it_is_painted_again_bit_for_bit_and_hint_and_controlnet_are_known_by_their_hashes(
    net: Path, base: Path, tmp_path: Path
) -> None:
    path, _ = painted(request(base, ControlUse("edges", Path("hint.png"), 0.8)))
    again = api.again(path)
    assert again.controls == (ControlUse(str(net), tmp_path / "hint.png", 0.8),)
    _, events = painted(again)
    assert any(isinstance(event, Note) and "again, bit for bit" in event.text for event in events)
    other = api.again(path, changes=api.Changes({"controls": (ControlUse("edges", Path("hint.png"), 0.3),)}))
    assert other.original is None
    assert other.controls[0].weight == 0.3
    clouds(4, (90, 50)).save(tmp_path / "hint.png")
    with pytest.raises(SettingsError, match=r"the picture hint\.png that a ControlNet saw is not here"):
        api.again(path)
    clouds(3, (90, 50)).save(tmp_path / "hint.png")
    shutil.move(net, tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="the ControlNet edges that this picture was painted with is not here"):
        api.again(path)


def test_weight_start_and_end_are_axes_and_cells_of_one_hint_share_its_network(
    net: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = varying.known()
    told = [axes.read(name, values, known) for name, values in (("control.weight", "0,1"), ("control.end", "0.5,1"))]
    fixed = {"steps": 4, "cfg": 3.0, "seed": 1}
    sheet = plan.Sheet(tuple(told), "a boat", settings=fixed, controls=("edges, hint=hint.png",))
    (tmp_path / "sheet.toml").write_text(plan.to_toml(sheet), encoding="utf-8")
    assert plan.load(tmp_path / "sheet.toml", known) == sheet
    loads: list[object] = []
    from velatura.families.sd15 import model as sd15

    monkeypatch.setattr(sd15, "load_for_unet", lambda *given, load=sd15.load_for_unet: loads.append(1) or load(*given))
    *_, done = api.compare(api.CompareRequest(sheet, request(base), tmp_path / "sheet"))
    assert isinstance(done, Done)
    cells = json.loads((tmp_path / "sheet" / "cells.json").read_text(encoding="utf-8"))["cells"]
    hashes = {tuple(cell["place"]): pixels(tmp_path / "sheet" / cell["file"]) for cell in cells}
    assert len(loads) == 1
    assert hashes[0, 0] == hashes[0, 1]  # no weight, whatever the end
    assert len(set(hashes.values())) == 3


def test_axes_that_mean_no_controlnet_or_several_say_so(tmp_path: Path) -> None:
    use = ControlUse("edges", Path("a.png"))
    one, two = api.GenerateRequest("a boat", controls=(use,)), api.GenerateRequest("a boat", controls=(use, use))
    assert varying.changed(two, "control.2.weight", 0.5).controls[1].weight == 0.5
    assert varying.changed(one, "control.hint", "b.png").controls[0].hint == Path("b.png")
    assert axes.find("control.2.weight", varying.known()).kind == "number"
    for told, axis, says in (
        (api.GenerateRequest("a boat"), "control.weight", "needs a ControlNet"),
        (two, "control.weight", "may mean 2 ControlNets"),
        (two, "control.3.weight", "not there"),
    ):
        with pytest.raises(SettingsError, match=says):
            varying.changed(told, axis, 0.5)
    with pytest.raises(SettingsError, match="not possible"):
        varying.changed(one, "control.weight", -1.0)


def test_a_controlnet_of_another_family_and_a_kind_that_is_not_asked_for_are_one_sentence(
    net: Path, base: Path, tmp_path: Path
) -> None:
    tiny_control.written(net.parent / "large", tiny_control.network("sdxl"))
    with pytest.raises(ModelError, match="this ControlNet is for sdxl"):
        painted(request(base, ControlUse("large", Path("hint.png"))))
    with pytest.raises(SettingsError, match="is not told the kind of its hint"):
        painted(request(base, ControlUse("edges", Path("hint.png"), kind="canny")))


def test_every_controlnet_counts_once_where_memory_is_shared_out(
    net: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its hints and weights; it is read off their headers before the base is loaded."""
    from velatura.weights import policy
    from velatura.weights.fit import CONTROLNETS

    other = tiny_control.written(net.parent / "pose", tiny_control.network("sd15", seed=5))
    weights = sum(one.numel() for one in tiny_control.network("sd15").parameters())
    seen: list[int] = []
    choose = policy.choose

    def watched(devices: Any, facts: Any, *told: Any, **more: Any) -> Any:
        seen.append(facts.parameters.get(CONTROLNETS, 0))
        return choose(devices, facts, *told, **more)

    monkeypatch.setattr(policy, "choose", watched)
    one = ControlUse("edges", Path("hint.png"))
    for uses in (
        (),
        (one,),
        (one, ControlUse("edges", Path("hint.png"), 0.5), ControlUse(other.name, Path("hint.png"))),
    ):
        painted(request(base, *uses, steps=1))
    assert seen == [0, weights, 2 * weights]


def test_for_a_part_of_a_picture_it_sees_that_part_of_the_hint(
    net: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is first brought to the picture's own size."""
    clouds(5, (128, 64)).save(tmp_path / "picture.png")
    clouds(6, (256, 128)).save(tmp_path / "hint.png")
    seen: list[Image.Image] = []
    monkeypatch.setattr(hints.preprocess, "hint", lambda image, *_: seen.append(image) or image)
    part = Inpaint(boxes=((80, 16, 112, 48),), area="only masked", padding=0, blur=0)
    begin = api.FromPicture(Path("picture.png"), 0.5, inpaint=part)
    painted(request(base, ControlUse("edges", Path("hint.png")), begin=begin, width=64, height=64))
    expected = clouds(6, (256, 128)).resize((128, 64), Image.Resampling.LANCZOS).crop((80, 16, 112, 48))
    assert seen[0].tobytes() == expected.resize((64, 64), Image.Resampling.LANCZOS).tobytes()


def test_refined_pictures_are_painted_with_what_the_hint_says_of_each_part_and_made_again(
    net: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is the picture itself where none is told; each tile sees its own place in it, and what is around."""
    path, _ = painted(request(base, width=64, height=64))
    seen: list[Image.Image] = []
    monkeypatch.setattr(hints.preprocess, "hint", lambda image, *_: seen.append(image) or image)
    use = control.read("edges, weight=0.7", hint=refining.ITSELF)
    work = Enlarge(2.0, tile=(64, 64), padding=0, blur=0)
    told = refining.RefineRequest((path,), work, changes=api.Changes({"controls": (use,)}), out=tmp_path / "larger")
    *_, done = refining.refine(told)
    assert isinstance(done, Done)
    made = tmp_path / "larger" / str(done.summary["files"][0])  # type: ignore[index]
    assert len(seen) == 4
    assert len({one.tobytes() for one in seen}) == 4
    with Image.open(path) as image:
        whole = image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    assert seen[0].tobytes() == whole.crop((0, 0, 65, 65)).resize(seen[0].size, Image.Resampling.LANCZOS).tobytes()
    (one,) = (carriers.read(made).record or {})["controls"]  # type: ignore[misc]
    assert one["hint"] == {"name": path.name, "sha256": sha256(path)}
    *events, _ = refining.refine_again(made, parent=path)
    assert any(isinstance(event, Note) and "again, bit for bit" in event.text for event in events)


def test_finds_are_painted_with_what_the_hint_says_of_each_and_made_again(
    net: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is the picture as it was, also for a find that lies in one painted before."""
    path, _ = painted(request(base, width=64, height=64))
    seen: list[Image.Image] = []
    monkeypatch.setattr(hints.preprocess, "hint", lambda image, *_: seen.append(image) or image)
    use = control.read("edges, weight=0.9", hint=refining.ITSELF)
    work = Detail(boxes=((4, 4, 28, 28), (32, 32, 60, 60)), padding=0, blur=0, picking=Picking(grow=0))

    def refined(out: str, *controls: ControlUse) -> Path:
        told = refining.RefineRequest((path,), work, changes=api.Changes({"controls": controls}), out=tmp_path / out)
        *_, done = refining.refine(told)
        assert isinstance(done, Done)
        return tmp_path / out / str(done.summary["files"][0])  # type: ignore[index]

    made = refined("with", use)
    with Image.open(path) as image:
        whole = image.convert("RGB")
    parts = [whole.crop(box).resize((64, 64), Image.Resampling.LANCZOS) for box in ((4, 4, 28, 28), (32, 32, 60, 60))]
    assert [one.tobytes() for one in seen] == [one.tobytes() for one in parts]
    assert pixels(made) != pixels(refined("without"))
    (one,) = (carriers.read(made).record or {})["controls"]  # type: ignore[misc]
    assert one["hint"] == {"name": path.name, "sha256": sha256(path)}
    *events, _ = refining.refine_again(made, parent=path)
    assert any(isinstance(event, Note) and "again, bit for bit" in event.text for event in events)
