"""The memory policy in use: planned with reasons, written down with a run, and the same in training and painting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from velatura import api, family, tensorfile
from velatura.api.memory import chosen
from velatura.bases import BaseFiles
from velatura.doctor import devices
from velatura.errors import ModelError, RecipeError, SettingsError, TrainingError
from velatura.events import Note
from velatura.family import MemoryPolicy, Model
from velatura.generation import carriers
from velatura.generation.contact import contact_sheet
from velatura.recipe import MemorySettings
from velatura.run import runs_of
from velatura.training.data import Batch, Batches
from velatura.weights import quantise, residence

TOLD = ("train.steps=2", "checkpoints.every=1", "adapter.targets=['attention']", "samples.prompts=['a red boat']")


def test_a_plan_says_where_the_base_will_live_and_why(base: Path, tmp_path: Path) -> None:
    plain = api.plan(tiny.project(tmp_path / "plain", base))
    assert plain.memory["device"] == "cpu"
    assert plain.memory["precision"] == plain.memory["vae_precision"] == "fp32"
    assert plain.reasons[0].startswith("device cpu: the base is small")
    asked = api.plan(tmp_path / "plain", overrides=["memory.precision=bf16", "memory.checkpointing=true"])
    assert asked.memory["precision"] == "bf16"
    assert "gradient checkpointing on: asked for" in asked.reasons
    pytest.importorskip("bitsandbytes")
    stored = ["memory.in_turn=true", "memory.quantised=int4", "memory.swapped_blocks=2"]
    saving = api.plan(tmp_path / "plain", overrides=stored)
    assert (saving.memory["in_turn"], saving.memory["quantised"], saving.memory["swapped_blocks"]) == (True, "int4", 2)
    assert "parts in turn on: asked for" in saving.reasons
    assert "weights stored in int4: asked for" in saving.reasons
    assert any("2 of the denoiser's 9 blocks wait in a file of the cache folder" in one for one in saving.reasons)


def test_the_program_s_own_base_is_plain(tmp_path: Path) -> None:
    files = BaseFiles(Path(api.__file__).parents[1] / "pocket" / "base")
    for task in ("train", "paint"):
        assert chosen(files, MemorySettings(), task=task).policy == MemoryPolicy()  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_one_sentence_before_anything_is_loaded(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [one for one in devices.devices() if one.kind == "cpu"]
    monkeypatch.setattr(devices, "devices", lambda: there)
    project = tiny.project(tmp_path, base, "memory.device=cuda")
    for call in (
        lambda: api.plan(project),
        lambda: list(api.train(project)),
        lambda: list(api.generate(api.GenerateRequest("a", base=str(base), memory=MemorySettings(device="mps")))),
    ):
        with pytest.raises(SettingsError, match=r"torch can use no (cuda|mps) device on this machine"):
            call()
    assert runs_of(project) == []


def test_a_run_in_bf16_writes_its_policy_down_and_goes_on_with_it_and_previews_what_is_painted(
    base: Path, tmp_path: Path
) -> None:
    project = tiny.project(tmp_path / "project", base, *TOLD, "memory.precision=bf16", "memory.checkpointing=true")
    list(api.train(project))
    (run,) = runs_of(project)
    assert run.recipe.memory.precision == "bf16"
    assert run.recipe.memory.vae_precision == "fp32"
    assert run.recipe.memory.device == "cpu"
    assert run.provenance["dtype"] == "bfloat16"
    assert any(isinstance(event, Note) and "is finished" in event.text for event in api.train(project))
    assert len(runs_of(project)) == 1

    last = run.checkpoints()[-1]
    request = api.GenerateRequest(
        "a red boat",
        base=str(base),
        loras=(str(last.adapter),),
        seed=run.recipe.samples.seed,
        steps=2,
        out=tmp_path / "own",
        memory=MemorySettings(precision="bf16"),
    )
    list(api.generate(request))
    (painted,) = (tmp_path / "own").glob("*.png")
    record: Any = carriers.read(painted).record
    assert (record["dtype"], record["adapters"]) == ("bfloat16", "beside the layers")
    with Image.open(painted) as ours, Image.open(run.path / "samples" / f"step-{last.step:06d}.png") as preview:
        assert np.array_equal(np.asarray(contact_sheet([ours], columns=1)), np.asarray(preview))


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("latents", "among the latents"),
        ("texts", "among the encoded captions"),
        ("forward", r"in what denoiser\.up_blocks\.0\.resnets\.0\.conv1 gives"),
        ("backward", r"in the gradient of denoiser\S+\.(up|down)"),
    ],
)
def test_what_is_no_number_stops_the_run_with_step_place_and_what_to_change(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str, says: str
) -> None:
    draw = Batches.of

    def spoil(model: Model, batch: Batch) -> None:
        layer: Any = model.parts["denoiser"].up_blocks[0].resnets[0].conv1
        if breaks == "latents":
            batch.clean_BCHW[:] = float("inf")
        elif breaks == "texts":
            batch.conditioning.text.tokens_BLD[:] = float("nan")
        elif breaks == "forward":
            layer.weight.data.fill_(float("inf"))
        else:
            layer.register_full_backward_hook(lambda _, given, __: (given[0] * float("nan"),))

    def spoilt(self: Batches, step: int) -> Iterator[Batch]:
        for batch in draw(self, step):
            if step >= 2:
                spoil(self.model, batch)
            yield batch

    monkeypatch.setattr(Batches, "of", spoilt)
    project = tiny.project(
        tmp_path, base, *TOLD, "train.steps=8", "samples.count=0", "dataset.hold_out=0", "memory.precision=bf16"
    )
    what = rf"at step 3: what is no number appears {says}, 3 times in a row; set memory.precision to"
    with pytest.raises(TrainingError, match=what):
        list(api.train(project))
    kept = list(project.rglob("adapter.safetensors"))
    assert sorted(path.parent.name for path in kept) == ["step-000001", "step-000002"]
    for path in kept:
        assert all(np.isfinite(tensorfile.as_float32(one)).all() for one in tensorfile.read(path)[0].values())


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_what_is_no_number_before_training_is_a_sentence_too(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    load = family.load_base

    def spoilt(*told: Any, **more: Any) -> Model:
        model = load(*told, **more)
        for parameter in model.parts[part].parameters():
            parameter.data.fill_(float("nan"))
        return model

    monkeypatch.setattr(family, "load_base", spoilt)
    says = {
        "vae": r"latents of \d\.png.*memory\.vae_precision",
        "text_encoder": r"text encoders say.*memory\.precision",
    }
    with pytest.raises(ModelError, match=says[part]):
        list(api.train(tiny.project(tmp_path, base, *TOLD)))


def test_parts_in_turn_train_to_the_same_file_and_paint_the_same_pictures(base: Path, tmp_path: Path) -> None:
    files, pictures = [], []
    for told in ("false", "true"):
        project = tiny.project(tmp_path / told, base, *TOLD, "memory.precision=bf16", f"memory.in_turn={told}")
        list(api.train(project))
        (run,) = runs_of(project)
        assert run.recipe.memory.in_turn == (told == "true")
        files.append(_weights(run.checkpoints()[-1].adapter))
        request = api.GenerateRequest(
            "a red boat",
            base=str(base),
            loras=(str(run.checkpoints()[-1].adapter),),
            seed=1,
            steps=2,
            out=tmp_path / told / "own",
            memory=MemorySettings(precision="bf16", in_turn=told == "true"),
        )
        list(api.generate(request))
        (painted,) = (tmp_path / told / "own").glob("*.png")
        with Image.open(painted) as image:
            pictures.append(np.asarray(image))
        pictures.append(np.asarray(Image.open(run.path / "samples" / "step-000002.png")))
    assert files[0] == files[1]
    assert np.array_equal(pictures[0], pictures[2])
    assert np.array_equal(pictures[1], pictures[3])


def _weights(path: Path) -> dict[str, bytes]:
    return {name: bytes(one.data) for name, one in tensorfile.read(path)[0].items()}


def test_text_encoders_that_are_trained_take_no_turns(base: Path, tmp_path: Path) -> None:
    told = (*TOLD, "adapter.targets=['text']", "memory.in_turn=true")
    with pytest.raises(RecipeError, match=r"memory\.in_turn.*set it to false"):
        list(api.train(tiny.project(tmp_path / "asked", base, *told)))


def test_a_run_on_a_quantised_and_swapped_base_ends_judged_and_paints_what_its_preview_showed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(residence, "planned", lambda network, kind: quantise.planned(network, kind, smallest=0))
    stored = ("memory.quantised=int8", "memory.swapped_blocks=3", "memory.in_turn=true")
    project = tiny.project(tmp_path / "project", base, *TOLD, *stored)
    list(api.train(project))
    (run,) = runs_of(project)
    assert run.finished
    assert (run.recipe.memory.quantised, run.recipe.memory.swapped_blocks) == ("int8", 3)
    last = run.checkpoints()[-1]
    request = api.GenerateRequest(
        "a red boat",
        base=str(base),
        loras=(str(last.adapter),),
        seed=run.recipe.samples.seed,
        steps=2,
        out=tmp_path / "own",
        memory=MemorySettings(quantised="int8", swapped_blocks=3, in_turn=True),
    )
    list(api.generate(request))
    (painted,) = (tmp_path / "own").glob("*.png")
    record: Any = carriers.read(painted).record
    assert (record["quantised"], record["adapters"]) == ("int8", "beside the layers")
    with Image.open(painted) as ours, Image.open(run.path / "samples" / f"step-{last.step:06d}.png") as preview:
        assert np.array_equal(np.asarray(contact_sheet([ours], columns=1)), np.asarray(preview))


def test_devices_end_with_the_processor_and_say_what_they_offer(model: Model) -> None:
    found = devices.devices()
    assert found[-1].kind == "cpu"
    assert all(one.free is None or one.total is None or one.free <= one.total for one in found)
    assert devices.processor_has_bf16() == found[-1].bf16
    assert (len(found) > 1) == (torch.cuda.is_available() or torch.backends.mps.is_available())
