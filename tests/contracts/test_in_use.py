"""What every family must hold in use: trained, stopped and gone on with, painted with what the preview showed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import sources, tiny
from velatura import api, tensorfile
from velatura.bases import FAMILIES, BaseFiles, recognise
from velatura.events import Checkpoint, Note, Preview, Progress
from velatura.generation.contact import contact_sheet
from velatura.run import runs_of

PROMPT = "a red boat at night"
TOLD = (
    "train.steps=2",
    "checkpoints.every=1",
    "validation.strata=2",
    "adapter.targets=['attention']",
    f"samples.prompts=['{PROMPT}']",
)


@pytest.fixture(scope="module", params=list(FAMILIES))
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written: Path = tiny.BASES[request.param](tmp_path_factory.mktemp(request.param))
    return written


def trained(folder: Path, base: Path, *, stopped: bool) -> Path:
    """A project trained to its end; where it is stopped, right after its first checkpoint, and gone on with."""
    project = tiny.project(folder, base, *TOLD, pictures=5)
    if stopped:
        for event in (events := api.train(project)):
            if isinstance(event, Checkpoint):
                break
        events.close()  # type: ignore[attr-defined]
        assert len(runs_of(project)[0].checkpoints()) == 1
    list(api.train(project))
    return project


def test_what_a_base_does_not_read_of_a_text_is_said_wherever_texts_are_told(base: Path, tmp_path: Path) -> None:
    long = "a red boat on the sea, " * 200
    project = tiny.project(tmp_path, base, "train.steps=2", f"samples.prompts=['{long}']", pictures=5)
    (project / "dataset" / "0.txt").write_text(long, encoding="utf-8")

    def said(notes: Iterable[str]) -> list[str]:
        return [note for note in notes if "cut off there" in note]

    trained = []
    for event in (events := api.train(project)):
        trained += [event.text] if isinstance(event, Note) else []
        if isinstance(event, Progress) and event.stage == "encoding pictures":
            break
    events.close()  # type: ignore[attr-defined]
    painted = []
    request = api.GenerateRequest("a boat", negative=long, base=str(base), steps=1, cfg=2.0, out=tmp_path / "out")
    for event in (events := api.generate(request)):
        painted += [event.text] if isinstance(event, Note) else []
        if isinstance(event, Progress) and event.stage == "painting":
            break
    events.close()  # type: ignore[attr-defined]
    readers = {"sd15": [], "sdxl": [], "flux1": ["T5", "CLIP"], "z_image": ["Qwen3"]}[recognise(BaseFiles(base)).family]
    for notes, texts in ((trained, ["caption", "prompt"]), (api.plan(project).notes, ["caption", "prompt"])):
        assert [note.split(" ")[1] for note in said(notes)] == [text for text in texts for _ in readers]
    assert len(said(painted)) == len(readers)
    for reader, note in zip(readers, said(painted), strict=True):
        assert f"that {reader} reads" in note


def test_a_training_that_was_stopped_ends_in_the_same_file_and_paints_what_its_preview_showed(
    base: Path, tmp_path: Path
) -> None:
    whole = trained(tmp_path / "whole", base, stopped=False)
    gone_on = trained(tmp_path / "gone on", base, stopped=True)

    (one,), (other,) = ((project / "loras").glob("*.safetensors") for project in (whole, gone_on))
    assert one.read_bytes() == other.read_bytes()
    assert any(np.abs(tensorfile.as_float32(tensor)).max() > 0 for tensor in tensorfile.read(one)[0].values())

    check_preview(whole, base, tmp_path / "own")


def check_preview(project: Path, base: Path, out: Path) -> None:
    """What the last preview shows is what the file gives."""
    (run,) = runs_of(project)
    last = run.checkpoints()[-1]
    request = api.GenerateRequest(
        PROMPT, base=str(base), loras=(str(last.adapter),), seed=run.recipe.samples.seed, steps=2, out=out
    )
    list(api.generate(request))
    (painted,) = out.glob("*.png")
    with Image.open(painted) as ours, Image.open(run.path / "samples" / f"step-{last.step:06d}.png") as preview:
        assert np.array_equal(np.asarray(contact_sheet([ours], columns=1)), np.asarray(preview))


def test_a_base_that_is_one_file_is_trained_and_painted_like_its_folder(base: Path, tmp_path: Path) -> None:
    single = sources.as_one_file(recognise(BaseFiles(base)).family, base, tmp_path).model
    learnt = []
    for name, source in (("folder", base), ("file", single)):
        project = tiny.project(tmp_path / name, source, *TOLD, pictures=5)
        for event in (events := api.train(project)):
            if isinstance(event, Preview):
                break
        events.close()  # type: ignore[attr-defined]
        tensors, _ = tensorfile.read(runs_of(project)[0].checkpoints()[-1].adapter)
        learnt.append({name: tensorfile.as_float32(tensor) for name, tensor in tensors.items()})
    assert learnt[0].keys() == learnt[1].keys()
    assert all(np.array_equal(learnt[0][name], learnt[1][name]) for name in learnt[0])
    assert any(np.abs(tensor).max() > 0 for tensor in learnt[0].values())
    check_preview(tmp_path / "file", single, tmp_path / "own")
