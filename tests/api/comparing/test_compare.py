"""A sheet from its axes to its folder: each cell with a record of its own, gone on with after a kill, and reused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.generation.test_record import write_lora as write_lora
from tests.tiny import base as base
from tests.tiny import model as model
from velatura import api, tensorfile
from velatura.api.comparing import compare as comparing
from velatura.api.comparing import varying
from velatura.errors import RunError, SettingsError, VelaturaError
from velatura.events import Done, Note, Preview
from velatura.generation import carriers
from velatura.sheets import axes, plan

WriteLora = Callable[[Path, int], Path]
KNOWN = varying.known()


@pytest.fixture
def project(tmp_path: Path, write_lora: WriteLora) -> Path:
    """With a LoRA, and a run of two checkpoints."""
    write_lora(tmp_path / "loras" / "ink.safetensors", 0)
    run = tmp_path / "runs" / "0001-wash"
    for step in (10, 20):
        folder = run / "checkpoints" / f"step-{step:06d}"
        write_lora(folder / "adapter.safetensors", step)
        (folder / "manifest.json").write_text(json.dumps({"step": step, "sha256": {}}), encoding="utf-8")
    (run / "provenance.json").write_text("{}", encoding="utf-8")
    return tmp_path


def asked(project: Path, base: Path, *told: str, prompt: str = "a red boat", **more: Any) -> api.CompareRequest:
    named = [axes.read(*one.split("=", 1), KNOWN) for one in told]
    sheet = plan.Sheet(tuple(named), prompt, settings={"steps": 2, "cfg": 3.0, "sampler": "Euler", "seed": 1} | more)
    request = api.GenerateRequest(prompt, base=str(base), project=project, batch=8)
    return api.CompareRequest(sheet, request, project / "sheets" / "0001")


def compared(told: api.CompareRequest) -> tuple[Done, list[str], int]:
    """How it ended, the notes, and how many pictures were painted."""
    *events, done = api.compare(told)
    assert isinstance(done, Done)
    notes = [event.text for event in events if isinstance(event, Note)]
    return done, notes, sum(isinstance(event, Preview) for event in events)


def cells(folder: Path) -> dict[tuple[int, ...], Path]:
    told = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
    return {tuple(cell["place"]): folder / cell["file"] for cell in told["cells"]}


def pixels_of(path: Path) -> NDArray[np.int16]:
    with Image.open(path) as image:
        return np.asarray(image, np.int16)


def test_each_cell_carries_its_own_record_and_strength_0_is_the_base(project: Path, base: Path) -> None:
    told = asked(project, base, "lora.strength=0,1", "run.checkpoint=all")
    done, _, painted = compared(told)
    assert done.summary["cells"] == painted == 4
    found = cells(told.folder)
    for (x, y), path in found.items():
        said = carriers.read(path)
        assert said.record is not None and said.text is not None
        (lora,) = said.record["loras"]  # type: ignore[attr-defined]
        name, strength = f"0001-wash-{(10, 20)[y]:06d}", (0, 1)[x]
        assert (lora["name"], lora["strength"]) == (name, strength)
        assert f"<lora:{name}:{strength}>" in said.text.splitlines()[0]
        assert said.record["sheet"] == {"strength": str(strength), "checkpoint": str((10, 20)[y])}
    pixels = {place: pixels_of(path) for place, path in found.items()}
    assert np.array_equal(pixels[0, 0], pixels[0, 1])
    assert not np.array_equal(pixels[1, 0], pixels[1, 1]) and not np.array_equal(pixels[0, 0], pixels[1, 0])


def test_a_cell_is_what_velatura_generate_paints_of_its_request(project: Path, base: Path) -> None:
    told = asked(
        project, base, "lora.strength=0.3,0.9", "prompt.replace=boat,house", prompt="a red boat <lora:ink:0.5>"
    )
    compared(told)
    sheet, files = comparing.settled(told)
    for cell in plan.cells(sheet.axes):
        request = replace(comparing.request_of(told, sheet, cell, files), out=project / "alone")
        *_, done = api.generate(request)
        assert isinstance(done, Done)
        alone = pixels_of(project / "alone" / done.summary["files"][0])
        painted = pixels_of(cells(told.folder)[cell.place])
        assert np.abs(alone - painted).max() <= 1


def test_a_cell_is_painted_again_from_its_own_record(project: Path, base: Path, home: Path) -> None:
    (home / "config.toml").write_text(f"[folders]\nbases = ['{base.parent}']\n", encoding="utf-8")
    told = asked(project, base, "lora.strength=0.5,1", "run.checkpoint=20", "cfg=2,4")
    compared(told)
    for place in ((0, 0, 0), (1, 0, 1)):
        cell = cells(told.folder)[place]
        request = replace(api.again(cell, project=project), out=project / "again")
        *_, done = api.generate(request)
        assert isinstance(done, Done)
        again = pixels_of(project / "again" / done.summary["files"][0])
        assert np.abs(again - pixels_of(cell)).max() <= 1


def test_a_sheet_that_was_stopped_goes_on_with_the_next_cell_and_further_values_reuse_what_is_there(
    project: Path, base: Path
) -> None:
    told = asked(project, base, "seed=1-4", **{"cfg": 2.0})
    told = replace(told, request=replace(told.request, batch=1), sheet=replace(told.sheet, settings={"steps": 2}))
    events = api.compare(told)
    next(event for event in events if isinstance(event, Preview) and event.step == 2)
    events.close()  # type: ignore[attr-defined]
    there = {path.name: path.stat().st_mtime_ns for path in (told.folder / "cells").iterdir()}
    assert len(there) == 2

    again = plan.load(told.folder / "sheet.toml", KNOWN)
    _, notes, painted = compared(replace(told, sheet=again))
    assert painted == 2 and "2 of 4 cells were there already" in notes
    wider = replace(again, axes=(axes.read("seed", "3-6", KNOWN), axes.read("steps", "2,3", KNOWN)), settings={})
    _, _, painted = compared(replace(told, sheet=wider))
    assert painted == 6
    assert there.items() <= {path.name: path.stat().st_mtime_ns for path in (told.folder / "cells").iterdir()}.items()


def test_another_file_under_the_same_name_is_another_cell(project: Path, base: Path, write_lora: WriteLora) -> None:
    told = asked(project, base, "lora.strength=1,0.5", prompt="a boat <lora:ink>")
    assert compared(told)[2] == 2
    write_lora(project / "loras" / "ink.safetensors", 5)
    assert compared(told)[2] == 2


def test_what_is_drawn_is_drawn_once_for_all_cells_and_written_down(project: Path, base: Path) -> None:
    told = asked(project, base, "cfg=2,3", seed=1)
    settings = {name: value for name, value in told.sheet.settings.items() if name != "seed"}
    told = replace(told, sheet=replace(told.sheet, settings=settings))
    compared(told)
    drawn = plan.load(told.folder / "sheet.toml", KNOWN).settings["seed"]
    assert {carriers.read(path).record["seed"] for path in cells(told.folder).values()} == {drawn}  # type: ignore[index]
    sheet, _ = comparing.settled(asked(project, base, "seed=-1,-1,5"))
    first, second, third = sheet.axes[0].values
    assert first != second and third == 5 and -1 not in sheet.axes[0].values


def test_settings_of_a_second_pass_stand_on_axes_and_there_may_be_none(project: Path, base: Path) -> None:
    with pytest.raises(SettingsError, match=r"hires.\w+ needs a second pass"):
        compared(asked(project, base, "hires.denoising=0.4,0.8"))
    told = asked(project, base, "hires.denoising=0.4,0.8", "hires.scale=none,1.5", "size=64x64,32x64")
    _, _, painted = compared(told)
    sizes = {}
    for place, path in cells(told.folder).items():
        with Image.open(path) as image:
            sizes[place] = image.size
    assert {sizes[x, 0, 0] for x in (0, 1)} == {(64, 64)} and sizes[0, 0, 1] == (32, 64)
    assert {sizes[x, 1, 0] for x in (0, 1)} == {(96, 96)} and sizes[0, 1, 1] == (48, 96)
    first, second = (cells(told.folder)[x, 0, 0] for x in (0, 1))
    assert first == second and painted == 8, "without a second pass there is nothing for its denoising to change"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "a sheet needs an axis"),
        (["run.checkpoint=10,15"], "did you mean 10"),
        (["sampler=Euler,Oiler"], "Euler"),
        (["prompt.replace=dog,cat"], "does not occur"),
        (["lora.strength=0,1"], "needs a LoRA"),
        (["lora.name=ink,inc"], "needs a LoRA"),
        (["width=64,65"], "multiples of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_painted(
    project: Path, base: Path, told: list[str], said: str
) -> None:
    request = asked(project, base, *told)
    with pytest.raises(VelaturaError, match=said):
        compared(request)
    assert not list(request.folder.glob("cells/*"))


def test_checkpoints_need_a_run(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RunError, match="name its folder with --run"):
        compared(asked(tmp_path, base, "run.checkpoint=all"))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bases that were loaded."""
    found: list[str] = []
    real = comparing.opened

    def opened(*requests: api.GenerateRequest) -> Any:
        found.append(Path(requests[0].base).name)
        return real(*requests)

    monkeypatch.setattr(comparing, "opened", opened)
    return found


def test_what_is_whole_answers_without_its_base_and_without_laying_out_again(
    project: Path, base: Path, loaded: list[str]
) -> None:
    told = asked(project, base, "lora.strength=0,1", prompt="a boat <lora:ink>")
    compared(told)
    assert len(loaded) == 1
    page = (told.folder / "sheet.html").stat().st_mtime_ns
    done, notes, painted = compared(told)
    assert painted == 0 and len(loaded) == 1 and notes == ["2 of 2 cells were there already"]
    assert done.summary["pictures"] == ["sheet.png"]
    assert (told.folder / "sheet.html").stat().st_mtime_ns == page

    said = {"favourites": ["x"], "notes": {}}
    (told.folder / "notes.json").write_text(json.dumps(said), encoding="utf-8")
    compared(told)
    assert len(loaded) == 1 and (told.folder / "sheet.html").stat().st_mtime_ns != page


def test_bases_are_loaded_for_cells_that_are_not_there_alone(
    project: Path, base: Path, loaded: list[str], tmp_path: Path
) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    compared(asked(project, base, f"base={base},{other}"))
    assert loaded == [base.name, other.name]
    del loaded[:]
    found = json.loads((project / "sheets" / "0001" / "cells.json").read_text(encoding="utf-8"))["cells"]
    (project / "sheets" / "0001" / found[1]["file"]).unlink()
    assert compared(asked(project, base, f"base={base},{other}"))[2] == 1
    assert loaded == [other.name]


@pytest.mark.parametrize("changed", ["lora", "wildcard", "embedding", "picture"])
def test_a_cell_is_not_taken_for_there_where_a_file_that_it_is_made_of_has_changed(
    project: Path, base: Path, loaded: list[str], write_lora: WriteLora, changed: str
) -> None:
    start = project / "start.png"
    Image.new("RGB", (64, 64), (200, 30, 30)).save(start)
    (project / "wildcards").mkdir()
    (project / "wildcards" / "what.txt").write_text("boat\n", encoding="utf-8")
    embedding = project / "embeddings" / "gloss.safetensors"
    embedding.parent.mkdir()
    embed(embedding, 0.1)
    told = asked(project, base, "cfg=2", prompt="a __what__ <lora:ink> of gloss", **{"begin.path": str(start)})
    compared(told)
    compared(told)
    assert len(loaded) == 1
    if changed == "lora":
        write_lora(project / "loras" / "ink.safetensors", 5)
    elif changed == "wildcard":
        (project / "wildcards" / "what.txt").write_text("ship\n", encoding="utf-8")
    elif changed == "embedding":
        embed(embedding, 0.2)
    else:
        Image.new("RGB", (64, 64), (30, 30, 200)).save(start)
    assert compared(told)[2] == 1 and len(loaded) == 2


def embed(path: Path, value: float) -> None:
    path.write_bytes(tensorfile.to_bytes({"emb_params": np.full((1, 24), value, np.float32)}))


def test_two_processes_do_not_paint_one_sheet(project: Path, base: Path) -> None:
    told = asked(project, base, "seed=1,2", **{"steps": 1})
    first = api.compare(replace(told, sheet=replace(told.sheet, settings={"steps": 1})))
    next(event for event in first if isinstance(event, Preview))
    with pytest.raises(RunError, match="another process is painting this sheet"):
        compared(told)
    first.close()  # type: ignore[attr-defined]
    assert compared(replace(told, sheet=replace(told.sheet, settings={"steps": 1})))[0].summary["cells"] == 2
