"""The memory policy in use: planned with reasons, written down with a run, and the same in training and painting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from velatura import api
from velatura.api.memory import chosen
from velatura.bases import BaseFiles
from velatura.doctor import devices
from velatura.errors import SettingsError, TrainingError
from velatura.events import Note
from velatura.family import MemoryPolicy, Model
from velatura.generation import infotext
from velatura.generation.contact import contact_sheet
from velatura.recipe import MemorySettings
from velatura.run import runs_of
from velatura.training.data import Batches

TOLD = ("train.steps=2", "checkpoints.every=1", "adapter.targets=['attention']", "samples.prompts=['a red boat']")


def test_a_plan_says_where_the_base_will_live_and_why(base: Path, tmp_path: Path) -> None:
    plain = api.plan(tiny.project(tmp_path / "plain", base))
    assert plain.memory["device"] == "cpu"
    assert plain.memory["precision"] == plain.memory["vae_precision"] == "fp32"
    assert plain.reasons[0].startswith("device cpu: the base is small")
    asked = api.plan(tmp_path / "plain", overrides=["memory.precision=bf16", "memory.checkpointing=true"])
    assert asked.memory["precision"] == "bf16"
    assert "gradient checkpointing on: asked for" in asked.reasons


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
    record: Any = infotext.read(painted).record
    assert (record["dtype"], record["adapters"]) == ("bfloat16", "beside the layers")
    with Image.open(painted) as ours, Image.open(run.path / "samples" / f"step-{last.step:06d}.png") as preview:
        assert np.array_equal(np.asarray(contact_sheet([ours], columns=1)), np.asarray(preview))


def test_a_loss_that_is_no_number_names_step_layer_and_precision(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Batches.at

    def spoilt(self: Batches, step: int) -> Any:
        batch = draw(self, step)
        batch.clean_BCHW[:] = float("inf")
        return batch

    monkeypatch.setattr(Batches, "at", spoilt)
    project = tiny.project(tmp_path, base, *TOLD, "memory.precision=bf16")
    says = r"not a number by step 1, nor is the gradient of denoiser\S+\.(up|down); set memory.precision to fp32"
    with pytest.raises(TrainingError, match=says):
        list(api.train(project))
    assert not list(project.rglob("adapter.safetensors"))


def test_devices_end_with_the_processor_and_say_what_they_offer(model: Model) -> None:
    found = devices.devices()
    assert found[-1].kind == "cpu"
    assert all(one.free is None or one.total is None or one.free <= one.total for one in found)
    assert devices.processor_has_bf16() == found[-1].bf16
    assert (len(found) > 1) == (torch.cuda.is_available() or torch.backends.mps.is_available())
