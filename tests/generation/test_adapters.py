"""LoRAs in a prompt as they are painted with: blocks, steps, what fits in part, and words that come with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.tiny import base as base
from tests.tiny import model as model
from velatura import tensorfile
from velatura.adapters import writing
from velatura.adapters.kinds import Full
from velatura.adapters.layers import every_shape, shapes
from velatura.adapters.merge import Applied
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile, Lora
from velatura.errors import AdapterError
from velatura.family import Model
from velatura.generation.generate import Painted, generate
from velatura.generation.record import infotext_of, used_embeddings, used_loras
from velatura.generation.sampling import Job, Sampling
from velatura.training.samples import merged

SAMPLING = Sampling(64, 64, steps=4, cfg_scale=1.0)


@pytest.fixture
def project(model: Model, tmp_path: Path) -> Path:
    """With a LoRA called ink, on attention and text."""
    known = shapes(model.trainable_parts)
    changes = {}
    for place, name in enumerate(select(["attention", "text"], known)):
        stream = np.random.default_rng(place)
        out, inputs = known[name]
        down, up = (0.5 * stream.standard_normal(shape, dtype=np.float32) for shape in ((2, inputs), (out, 2)))
        changes[name] = Lora(down.astype(np.float32), up.astype(np.float32), 2.0)
    width = model.parts["text_encoder"].config.hidden_size
    words = {"kelp": {"clip_l": np.full((2, width), 0.3, np.float32)}}
    (tmp_path / "loras").mkdir()
    data = writing.to_bytes(AdapterFile(changes, {}, words), keys=model.family.keys, precision="F32")
    (tmp_path / "loras" / "ink.safetensors").write_bytes(data)
    return tmp_path


def painted(model: Model, prompt: str, project: Path) -> bytes:
    loras = used_loras(model, prompt, [], project)
    with merged(model, [lora.applied for lora in loras]) as adapters:
        events = generate(model, [Job(prompt, 3)], SAMPLING, adapters=adapters)
        (picture,) = [event.image for event in events if isinstance(event, Painted)]
    return picture.tobytes()


def test_steps_and_blocks_change_the_picture_and_their_ends_mean_all_and_nothing(model: Model, project: Path) -> None:
    plain = painted(model, "a boat", project)
    text_only = painted(model, "a boat <lora:ink:1:0>", project)
    whole = painted(model, "a boat <lora:ink>", project)
    assert len({plain, text_only, whole}) == 3

    assert painted(model, "a boat <lora:ink:1:step=1-99>", project) == whole
    assert painted(model, "a boat <lora:ink:1:start=5>", project) == text_only
    assert painted(model, "a boat <lora:ink:1:lbw=ALL>", project) == whole
    assert painted(model, "a boat <lora:ink:1:lbw=NONE>", project) == plain
    between = {
        painted(model, f"a boat <lora:ink:1:{told}>", project)
        for told in ("start=3", "stop=2", "lbw=OUTALL", "lbw=INALL")
    }
    assert len(between) == 4 and not between & {plain, whole, text_only}
    assert painted(model, "a boat", project) == plain


def clean_latents(
    model: Model, job: Job, sampling: Sampling, project: Path, monkeypatch: pytest.MonkeyPatch, *, apart: bool
) -> Tensor:
    """What one step of Euler comes to: the clean latents as guidance has them."""
    seen: list[Tensor] = []
    decode = type(model.family).decode_latents

    def watched(self: Any, model: Model, latents_BCHW: Tensor) -> Tensor:
        seen.append(latents_BCHW.clone())
        return decode(self, model, latents_BCHW)

    loras = used_loras(model, job.prompt, [], project)
    with monkeypatch.context() as watching, merged(model, [one.applied for one in loras], apart=apart) as adapters:
        watching.setattr(type(model.family), "decode_latents", watched)
        list(generate(model, [job], sampling, adapters=adapters))
    return seen[0]


def test_without_loras_on_its_negative_side_guidance_leads_away_from_the_base(
    model: Model, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a prompt as its own negative nothing but the LoRA is between the two sides."""
    one = Sampling(64, 64, steps=1, cfg_scale=1.0, sampler="Euler", scheduler="Uniform")
    bare, marked = "a boat", "a boat <lora:ink:0:1>"
    base = clean_latents(model, Job(bare, 3), one, project, monkeypatch, apart=False)
    whole = clean_latents(model, Job(marked, 3), one, project, monkeypatch, apart=False)
    for share in (0.0, 0.25):
        told = replace(one, cfg_scale=3.0, negative_strength=share)
        guided = clean_latents(model, Job(marked, 3, bare), told, project, monkeypatch, apart=True)
        if share == 0:
            tolerance = 1e-4 * max(1.0, float(whole.square().mean().sqrt()))
            assert (guided - (base + 3 * (whole - base))).abs().max() <= tolerance
            assert (guided - whole).abs().max() > 100 * tolerance
            most = guided
        else:
            assert (guided - whole).norm() < (most - whole).norm()


def test_sides_of_their_own_strength_are_refused_where_they_cannot_be(model: Model, project: Path) -> None:
    told = replace(SAMPLING, cfg_scale=3.0, negative_strength=0.5)
    (lora,) = used_loras(model, "<lora:ink>", [], project)
    with merged(model, [lora.applied]) as adapters, pytest.raises(AdapterError, match="beside the layers"):
        list(generate(model, [Job("a boat", 3)], told, adapters=adapters))
    name, shape = next((name, shape) for name, shape in every_shape(model.trainable_parts).items() if len(shape) == 1)
    norm = Applied({name: Full(np.ones(shape, np.float32))}, 1.0, 1.0)
    with pytest.raises(AdapterError, match="negative_strength"), merged(model, [norm], apart=True):
        pass


def test_the_record_says_blocks_and_steps(model: Model, project: Path) -> None:
    prompt = "a boat <lora:ink:0.5:lbw=OUTALL:start=2>"
    loras = used_loras(model, prompt, [], project)
    infotext, record = infotext_of(model, Job(prompt, 3), SAMPLING, loras, batch=1)
    assert "<lora:ink:0.5:lbw=OUTALL:start=2>" in infotext
    assert record["loras"][0]["blocks"] == "OUTALL" and record["loras"][0]["start"] == 2
    assert "on negative" not in infotext and record["adapters"] == "merged"

    told = replace(SAMPLING, cfg_scale=3.0, negative_strength=0.5)
    infotext, record = infotext_of(model, Job(prompt, 3), told, loras, batch=1)
    assert "LoRA strength on negative: 0.5" in infotext and record["adapters"] == "beside the layers"


def test_a_file_that_fits_in_part_is_taken_in_part_where_that_is_asked(model: Model, project: Path) -> None:
    path = project / "loras" / "ink.safetensors"
    tensors, _ = tensorfile.read(path)
    more = {key: tensorfile.RawTensor(one.dtype, one.shape, bytes(one.data)) for key, one in tensors.items()}
    more["lora_unet_nowhere.lora_down.weight"] = tensorfile.raw(np.ones((2, 2), np.float32))
    path.write_bytes(tensorfile.to_bytes(more))
    with pytest.raises(AdapterError, match="--partial"):
        used_loras(model, "<lora:ink>", [], project)
    (lora,) = used_loras(model, "<lora:ink>", [], project, partial=True)
    assert lora.passed_over == ("lora_unet_nowhere.lora_down.weight",)
    assert len(lora.applied.layers) > 10


def test_words_that_came_with_a_lora_mean_their_vectors(model: Model, project: Path) -> None:
    loras = used_loras(model, "a boat in kelp <lora:ink>", [], project)
    bundled = [one for lora in loras for one in lora.embeddings]
    named = used_embeddings(model, ["a boat in kelp"], project, bundled=bundled)
    assert [one.name for one in named.embeddings] == ["kelp"] and len(named.embeddings[0]) == 2
    assert used_embeddings(model, ["a boat"], project, bundled=bundled).embeddings == ()

    def first(embeddings: tuple) -> bytes:  # type: ignore[type-arg]
        jobs = [Job("a boat in kelp", 3)]
        (picture,) = [
            event.image
            for event in generate(model, jobs, SAMPLING, embeddings=embeddings)
            if isinstance(event, Painted)
        ]
        return picture.tobytes()

    assert first(named.embeddings) != first(())


def test_a_folder_that_peft_wrote_is_a_lora_by_its_name(model: Model, project: Path) -> None:
    """The same factors as a kohya file, under PEFT's names."""
    (ink,) = used_loras(model, "<lora:ink:0:1>", [], project)
    tensors = {}
    for name, change in ink.applied.layers.items():
        if isinstance(change, Lora) and name.startswith("denoiser."):
            stem = f"base_model.model.{name.removeprefix('denoiser.')}"
            tensors[f"{stem}.lora_A.weight"] = tensorfile.raw(change.down)
            tensors[f"{stem}.lora_B.weight"] = tensorfile.raw(change.up)
    folder = project / "loras" / "peft ink"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(tensorfile.to_bytes(tensors))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')

    (found,) = used_loras(model, "<lora:peft ink:0:1>", [], project)
    assert found.name == "peft ink" and len(found.hash) == 64 and found.hash != ink.hash
    assert painted(model, "a boat <lora:peft ink:0:1>", project) == painted(model, "a boat <lora:ink:0:1>", project)
    (given,) = used_loras(model, "", [f"{folder}:0.5"], project)
    assert given.applied.denoiser_strength == 0.5 and given.hash == found.hash
    assert painted(model, "a boat <lora:peft ink:0:1>", project) != painted(model, "a boat", project)
