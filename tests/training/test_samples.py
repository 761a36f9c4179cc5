"""Sample pictures: what they show, and that it is what the saved file gives anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from velatura import api, randomness, tensorfile
from velatura.adapters.layers import shapes
from velatura.adapters.lora import inject
from velatura.adapters.merge import Applied
from velatura.adapters.weights import Lora
from velatura.api import png
from velatura.api.inputs import read_pictures
from velatura.errors import SettingsError
from velatura.events import Note, Preview
from velatura.family import Model, load_base
from velatura.generation.contact import contact_sheet
from velatura.generation.generate import Painted, generate
from velatura.generation.record import used_loras
from velatura.generation.sampling import Job, Sampling
from velatura.recipe import load
from velatura.run import runs_of
from velatura.training.adapter import specs
from velatura.training.samples import embeddings, jobs, merged, paint, sampling

MakeProject = Callable[..., Path]


def told(project: Path, model: Model) -> list[Job]:
    recipe = load(project)
    return jobs(recipe, read_pictures(recipe, project, model))


def test_a_sample_made_during_training_is_what_the_file_gives_a_fresh_base(
    make_project: MakeProject, base: Path
) -> None:
    project = make_project("train.steps=4", "checkpoints.every=4", "train.learning_rate=0.05", "samples.count=2")
    events = api.train(project)
    for event in events:
        if isinstance(event, Preview):
            break
    events.close()  # type: ignore[attr-defined]
    (run,) = runs_of(project)
    shown = (run.path / "samples" / "step-000004.png").read_bytes()

    fresh = load_base(base)
    lora = used_loras(fresh, "", [str(run.checkpoints()[-1].adapter)], None)[0]

    def sheet(*applied: Applied) -> bytes:
        with merged(fresh, applied):
            images = [
                event.image
                for event in generate(fresh, told(project, fresh), Sampling(64, 64, 2, 5.0), batch=4)
                if isinstance(event, Painted)
            ]
        return png(contact_sheet(images, columns=2))

    assert sheet(lora.applied) == shown
    assert sheet() != shown


@pytest.fixture
def drawn(make_project: MakeProject, model: Model) -> dict[str, Lora]:
    recipe = load(make_project())
    with inject(model.trainable_parts, specs(recipe, model), seed=0) as injected:
        with torch.no_grad():
            for parameter in injected.parameters():
                parameter.add_(0.2)
        return injected.weights()


def test_the_adapter_in_training_is_silent_while_its_file_paints_and_back_afterwards(
    make_project: MakeProject, model: Model, drawn: dict[str, Lora]
) -> None:
    job, how = [Job("a boat", 1)], Sampling(64, 64, 2, sampler="Euler")
    uses = [Applied(drawn, 1.0, 1.0)]
    with merged(model, uses):
        reference = np.asarray(paint(model, job, how)[0])
    (plain,) = paint(model, job, how)
    assert not np.array_equal(reference, np.asarray(plain))
    with inject(model.trainable_parts, specs(load(make_project()), model), seed=0) as injected:
        injected.load(drawn)
        with merged(model, uses, injected):
            assert injected.strength == 0
            assert np.array_equal(np.asarray(paint(model, job, how)[0]), reference)
        assert injected.strength == 1
        with pytest.raises(KeyboardInterrupt), merged(model, uses, injected):
            raise KeyboardInterrupt
        assert injected.strength == 1
    assert np.array_equal(np.asarray(paint(model, job, how)[0]), np.asarray(plain))
    assert set(drawn) <= set(shapes(model.trainable_parts))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (("samples.prompts=['x', 'y (z:1.2)']", "samples.count=3"), [("x", 7), ("y (z:1.2)", 8), ("x", 9)]),
        (("samples.prompts=['x', 'y']", "samples.count=1"), [("x", 7)]),
        (("samples.count=0",), []),
    ],
)
def test_the_recipe_s_prompts_are_painted_each_with_a_seed_of_its_own(
    make_project: MakeProject, model: Model, settings: tuple[str, ...], expected: list[Any]
) -> None:
    assert [(job.prompt, job.seed) for job in told(make_project(*settings), model)] == expected


def test_without_prompts_captions_are_painted_held_out_ones_first(make_project: MakeProject, model: Model) -> None:
    project = make_project("samples.count=7", pictures=7)
    pictures = read_pictures(load(project), project, model)
    captions = [one.captions[0] for one in (*pictures.held_out, *pictures.train)]
    assert [job.prompt for job in told(project, model)] == captions
    assert len(pictures.held_out) == 2


def test_captions_are_painted_as_the_words_they_are(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=1)
    (project / "dataset" / "0.txt").write_text("a (boat:1.5)", encoding="utf-8")
    assert [job.prompt for job in told(project, model)] == [r"a \(boat:1.5\)"]


def test_pictures_without_captions_are_painted_by_the_trigger_alone(make_project: MakeProject, model: Model) -> None:
    project = make_project("dataset.trigger=my hand", pictures=2)
    for path in (project / "dataset").glob("*.txt"):
        path.unlink()
    assert [job.prompt for job in told(project, model)] == ["my hand"]


def test_samples_have_the_size_that_is_trained(make_project: MakeProject, model: Model) -> None:
    for resolution, side in (("none", 64), ("96", 96), ("80", 80), ("100", 96)):
        how = sampling(load(make_project(f"dataset.resolution={resolution}")), model)
        assert (how.width, how.height) == (side, side)


def test_painting_keeps_the_order_of_the_jobs(model: Model) -> None:
    what = [Job("a boat", seed) for seed in (3, 1, 2)]
    how = Sampling(64, 64, 1)
    together = [np.asarray(image, np.float32) for image in paint(model, what, how)]
    for job, image in zip(what, together, strict=True):
        (alone,) = paint(model, [job], how)
        assert isinstance(alone, Image.Image)
        assert np.abs(np.asarray(alone, np.float32) - image).max() <= 1


def test_an_embedding_that_a_sample_prompt_names_is_found_as_in_painting(
    make_project: MakeProject, base: Path, tmp_path: Path
) -> None:
    project = make_project("train.steps=2", "checkpoints.every=2", "samples.prompts=['a seaboat at night']")
    width = int(load_base(base).parts["text_encoder"].config.hidden_size)
    vectors = randomness.normal((2, width), 0, "vectors").numpy() * 3
    path = project / "embeddings" / "Seaboat.safetensors"
    path.parent.mkdir()
    path.write_bytes(tensorfile.to_bytes({"emb_params": vectors}))
    list(api.train(project))
    (run,) = runs_of(project)
    asked = {"base": str(base), "loras": (str(run.checkpoints()[-1].adapter),), "seed": run.recipe.samples.seed}
    shown = Image.open(run.path / "samples" / "step-000002.png")

    def sheet(place: Path) -> Any:
        list(api.generate(api.GenerateRequest("a seaboat at night", steps=2, project=place, out=tmp_path, **asked)))
        (painted,) = tmp_path.glob("*.png")
        with Image.open(painted) as image:
            whole = np.asarray(contact_sheet([image], columns=1))
        painted.unlink()
        return whole

    assert np.array_equal(sheet(project), np.asarray(shown))
    assert not np.array_equal(sheet(tmp_path), np.asarray(shown)), "elsewhere the name is a word"

    path.write_bytes(tensorfile.to_bytes({"emb_params": vectors[:, 1:]}))
    told = (event.text for event in api.train(project, new=True) if isinstance(event, Note))
    assert next(note for note in told if note.startswith("Seaboat.safetensors is read as words"))
    recipe = load(project, ["samples.prompts=['embedding:seaboot']"])
    with pytest.raises(SettingsError, match="no embedding is named seaboot"):
        embeddings(load_base(base), recipe, read_pictures(recipe, project, load_base(base)), project)
