"""From a folder of odd pictures to a judged LoRA and new pictures, on a tiny base with random weights."""

from __future__ import annotations

import getpass
import json
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from velatura import api, demo, settings
from velatura import run as runs
from velatura.adapters import formats
from velatura.adapters.layers import shapes
from velatura.errors import RunError
from velatura.evaluation import choose, results
from velatura.evaluation.choose import Choice
from velatura.evaluation.results import Results
from velatura.events import Checkpoint, Done, Event, Metric, Note, Preview, Progress
from velatura.family import Model
from velatura.recipe import build, to_toml

SETTINGS = (*tiny.SETTINGS, "name=odd one", "dataset.trigger=my hand", "train.steps=6", "samples.sampling_steps=3")


def odd_pictures(folder: Path) -> None:
    """Six: rotated by its camera, see-through, an emoji and a foreign name, grey, wide; two without captions."""
    tiny.picture(folder / "plain.png", (64, 64), 0)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    tiny.picture(folder / "camera.JPG", (96, 64), 1, exif=sideways, quality=90)
    tiny.picture(folder / "🦊 fox.png", (70, 66), 2)
    with Image.open(folder / "🦊 fox.png") as image:
        seen = image.convert("RGBA")
    seen.putalpha(Image.linear_gradient("L").resize(seen.size))
    seen.save(folder / "🦊 fox.png")
    tiny.picture(folder / "ночь.png", (64, 80), 3)
    with Image.open(folder / "ночь.png") as image:
        image.convert("L").save(folder / "ночь.png")
    tiny.picture(folder / "wide.webp", (160, 64), 4)
    tiny.picture(folder / "none.png", (64, 64), 5)
    captions = {
        "plain": "a red boat",
        "camera": "a (blue) boat\r\nthe same, otherwise told",
        "🦊 fox": "ein Fuchs 🦊, <lora:x:1>",
        "wide": "",
    }
    for name, caption in captions.items():
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    (folder / "notes.docx").write_bytes(b"not a picture")


def project_of(tmp_path: Path, base: Path, pictures: int | None = None) -> Path:
    project = tmp_path / "project"
    if pictures is None:
        odd_pictures(project / "dataset")
    else:
        for number in range(pictures):
            tiny.picture(project / "dataset" / f"{number}.png", (64, 64), number)
            (project / "dataset" / f"{number}.txt").write_text(f"boat {number}", encoding="utf-8")
    recipe = build({"base": {"model": str(base)}}, SETTINGS)
    (project / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    return project


def judged(project: Path) -> tuple[runs.Run, Results, dict[str, Any]]:
    (run,) = runs.runs_of(project)
    assert run.finished
    found = results.from_json((run.path / "evaluation.json").read_bytes())
    return run, found, runs.read_json(run.path / "result.json")


def private(tmp_path: Path) -> Iterator[str]:
    yield from (str(tmp_path), tmp_path.as_posix(), str(Path.home()))
    yield from (word for word in (platform.node(), getpass.getuser()) if len(word) > 4)


def check_page(page: str, tmp_path: Path) -> None:
    """One file that shows everything by itself and tells nothing of the machine."""
    assert page.lstrip().lower().startswith("<!doctype html>")
    asked = re.findall(r"""(?:src|href|srcset|action|poster|data)\s*=\s*["']([^"']*)""", page)
    assert [address for address in asked if not address.startswith(("data:", "#"))] == []
    assert re.findall(r"""url\(\s*["']?(?!data:|#)""", page) == []
    assert "@import" not in page
    assert "<script src" not in page
    assert page.count("data:image/") > 5
    for word in private(tmp_path):
        assert word not in page, word


def test_odd_pictures_become_a_judged_lora_and_new_pictures(base: Path, model: Model, tmp_path: Path) -> None:
    project = project_of(tmp_path, base)
    before = {path: path.read_bytes() for path in (project / "dataset").iterdir()}
    events: list[Event] = list(api.train(project))

    kinds = {type(event) for event in events}
    assert kinds >= {Progress, Metric, Checkpoint, Preview, Note, Done}
    notes = " ".join(event.text for event in events if isinstance(event, Note))
    assert "2 of 6 pictures have no caption" in notes
    assert "held out" in notes
    assert {path: path.read_bytes() for path in (project / "dataset").iterdir()} == before

    run, found, result = judged(project)
    lines = [json.loads(line) for line in (run.path / "dataset.jsonl").read_text(encoding="utf-8").splitlines()]
    told = {line["name"]: line for line in lines}
    assert set(told) == {"plain.png", "camera.JPG", "🦊 fox.png", "ночь.png", "wide.webp", "none.png"}
    assert told["camera.JPG"]["bucket"][0] < told["camera.JPG"]["bucket"][1], "upright, as the camera meant it"
    assert told["camera.JPG"]["captions"] == ["my hand, a (blue) boat", "my hand, the same, otherwise told"]
    assert told["none.png"]["captions"] == ["my hand"]
    assert sum(line["split"] == "held out" for line in lines) == 2

    assert [checkpoint.step for checkpoint in found.checkpoints] == [3, 6]
    assert found.not_measured == {}
    for checkpoint in found.checkpoints:
        assert checkpoint.held_out is not None
        assert checkpoint.style is not None
        assert all((run.path / sample.path).exists() for sample in checkpoint.samples)
    check_page((run.path / "report.html").read_text(encoding="utf-8"), tmp_path)

    lora = project / result["lora"]
    assert lora.name == "odd one.safetensors"
    adapter = formats.read(lora, keys=model.family.keys, layers=shapes(model.trainable_parts))
    assert adapter.layers
    assert adapter.metadata["ss_output_name"] == "odd one"
    for word in private(tmp_path):
        assert word.encode() not in lora.read_bytes(), word

    request = api.GenerateRequest(
        "my hand, a boat <lora:odd one:1>", base=str(base), seed=3, steps=3, count=2, project=project
    )
    *_, done = api.generate(request)
    assert isinstance(done, Done)
    assert len(done.summary["files"]) == 3


def test_what_a_run_writes_is_a_function_of_recipe_pictures_and_base(base: Path, tmp_path: Path) -> None:
    first = project_of(tmp_path / "one", base)
    second = project_of(tmp_path / "two", base)
    written = []
    for project in (first, second):
        list(api.train(project, overrides=["train.steps=2", "checkpoints.every=2"]))
        run, _, result = judged(project)
        patterns = (
            "checkpoints/*/*.safetensors",
            "samples/**/*.png",
            "evaluation.json",
            "report.html",
            "dataset.jsonl",
        )
        files = {
            path.relative_to(run.path): path.read_bytes() for pattern in patterns for path in run.path.glob(pattern)
        }
        written.append((files, (project / result["lora"]).read_bytes()))
    (files, lora), (others, other_lora) = written
    assert lora == other_lora
    assert sorted(files) == sorted(others)
    assert [name for name in files if files[name] != others[name]] == []


@pytest.mark.parametrize("pictures", [1, 4])
def test_with_few_pictures_nothing_is_held_out_and_that_is_said(base: Path, tmp_path: Path, pictures: int) -> None:
    project = project_of(tmp_path, base, pictures)
    events = list(api.train(project))
    assert any(isinstance(event, Note) and "not measured" in event.text for event in events)
    run, found, result = judged(project)
    assert "held_out" in found.not_measured
    for checkpoint in found.checkpoints:
        assert checkpoint.held_out is None
        assert checkpoint.reliance is None
        assert set(checkpoint.not_measured) >= {"held_out", "reliance"}
        assert (checkpoint.style is None) == (pictures == 1)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    check_page(page, tmp_path)
    assert "not measured" in page.lower()
    assert (project / result["lora"]).exists()


def test_a_run_can_be_judged_again(base: Path, tmp_path: Path) -> None:
    project = project_of(tmp_path, base)
    list(api.train(project, overrides=["train.steps=2"]))
    run, found, _ = judged(project)
    page = (run.path / "report.html").read_bytes()
    (run.path / "report.html").unlink()
    (run.path / "result.json").unlink()
    *_, done = api.evaluate(run.path)
    assert isinstance(done, Done)
    assert judged(project)[1] == found
    assert (run.path / "report.html").read_bytes() == page
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(RunError, match="no checkpoint"):
        list(api.evaluate(run.path))


def test_a_run_is_not_judged_again_on_other_pictures(base: Path, tmp_path: Path) -> None:
    """Those held out now may have been trained on then."""
    project = project_of(tmp_path, base)
    list(api.train(project, overrides=["train.steps=1"]))
    run, _, _ = judged(project)
    before = (run.path / "evaluation.json").read_bytes()
    tiny.picture(project / "dataset" / "one more.png", (64, 64), 99)
    with pytest.raises(RunError, match="changed"):
        list(api.evaluate(run.path))
    assert (run.path / "evaluation.json").read_bytes() == before


def test_refit_trains_on_all_pictures_for_longer_and_hands_that_over(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_one(found: Results) -> Choice:
        return Choice(step=found.checkpoints[0].step, reasons=("Told so by the test.",))

    monkeypatch.setattr(choose, "choose", first_one)
    project = project_of(tmp_path, base)
    *_, done = api.train(project, refit=True)
    assert isinstance(done, Done)
    first, second = runs.runs_of(project)
    assert first.recipe.train.steps == 6
    assert second.recipe.train.steps == api.refit_steps(3, 4, 6) == 4
    lines = [json.loads(line) for line in (second.path / "dataset.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["split"] for line in lines} == {"train"}
    assert second.provenance["refit_of"] == first.path.name
    handed = (project / done.summary["lora"]).read_bytes()
    assert handed == second.checkpoints()[-1].adapter.read_bytes()

    again = list(api.train(project, refit=True))
    assert isinstance(again[-1], Done)
    assert not any(isinstance(event, Checkpoint) for event in again)
    assert len(runs.runs_of(project)) == 2


def test_without_a_recommendation_there_is_nothing_to_refit(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "choose", lambda results: Choice(step=None, reasons=("None is good.",)))
    project = project_of(tmp_path, base)
    told = ["train.steps=1"]
    first = list(api.train(project, overrides=told, refit=True))
    assert any(isinstance(event, Note) and "recommended" in event.text for event in first)
    *_, done = api.train(project, overrides=told, refit=True)
    assert isinstance(done, Done)
    assert len(runs.runs_of(project)) == 1


def test_a_plan_says_before_what_training_does(base: Path, tmp_path: Path) -> None:
    project = project_of(tmp_path, base)
    planned = api.plan(project)
    assert (planned.steps, planned.batch, planned.pictures, planned.held_out) == (6, 2, 4, 2)
    assert planned.checkpoints == 2
    list(api.train(project))
    run, _, _ = judged(project)
    lines = [json.loads(line) for line in (run.path / "dataset.jsonl").read_text(encoding="utf-8").splitlines()]
    buckets = {"x".join(map(str, line["bucket"])) for line in lines if line["split"] == "train"}
    assert set(planned.buckets) == buckets
    header = runs.read_json(run.path / "result.json")
    assert header["run"] == run.path.name


def test_the_demo_runs_from_nothing_to_a_report(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.BUILT_IN_BASES, "pocket", base)
    monkeypatch.setattr(demo, "PICTURES", 6)
    quick = {
        **demo.SETTINGS,
        "train": {"steps": 2, "batch": 2, "threads": 1},
        "checkpoints": {"every": 2},
        "samples": {"count": 1, "sampling_steps": 2},
    }
    monkeypatch.setattr(demo, "SETTINGS", quick)
    folder = tmp_path / "demo"
    *_, done = demo.run(folder)
    assert isinstance(done, Done)
    check_page((folder / "report.html").read_text(encoding="utf-8"), tmp_path)
    assert Path(done.summary["lora"]).exists()
    pictures = sorted(path.name for path in (folder / "images").glob("*.png"))
    assert len(pictures) == len(demo.PROMPTS) + len(demo.STRENGTHS)
    with (
        Image.open(folder / "images" / "strength-0.png") as plain,
        Image.open(folder / "images" / "strength-1.2.png") as full,
    ):
        assert plain.info["parameters"] != full.info["parameters"]
        assert np.asarray(plain).shape == (64, 64, 3)
    trained = [event for event in demo.run(folder) if isinstance(event, Checkpoint)]
    assert trained == [], "started again it goes on where it was: everything is trained"
