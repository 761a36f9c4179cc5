"""Adapters on text encoders: trained with gradients like peft's, gone on with exactly, and seen by all that judges.

That being killed changes nothing either is in test_kill.py.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.tiny import at
from velatura import api, randomness, tensorfile
from velatura import run as runs
from velatura.adapters import formats
from velatura.adapters.layers import shapes
from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.merge import Applied
from velatura.api import png
from velatura.api.inputs import read_pictures, read_texts
from velatura.api.training.train import resolved
from velatura.errors import RecipeError, SettingsError, TrainingError
from velatura.evaluation.protocol import evaluate
from velatura.evaluation.results import Results
from velatura.events import Preview
from velatura.family import Model, load_base
from velatura.generation.contact import contact_sheet
from velatura.generation.sampling import Job, Sampling
from velatura.recipe import ObjectiveSettings, Recipe, load
from velatura.run import Run
from velatura.text import clip_tokens
from velatura.text.weighted import plain
from velatura.training.adapter import of_text, specs
from velatura.training.data import Batches, Cached
from velatura.training.encoding import encode, retold
from velatura.training.facts import adapter_writer
from velatura.training.loop import train
from velatura.training.losses import loss
from velatura.training.samples import merged, paint, read_adapter
from velatura.training.validation import cells

MakeProject = Callable[..., Path]

BOTH = "adapter.targets=['attention', 'text']"
TEXT = "adapter.targets=['text']"


class Trainer:
    """One run: everything that the loop is given."""

    def __init__(self, project: Path, model: Model) -> None:
        self.model = model
        self.recipe: Recipe = resolved(load(project), model, 1)
        self.pictures = read_pictures(self.recipe, project, model)
        *_, cached = encode(model, self.pictures.prepared)
        assert isinstance(cached, Cached)
        self.cached = cached
        self.run: Run = runs.create(project, self.recipe, provenance={}, dataset_lines=[])

    def train(self, *, stop: int | None = None) -> dict[str, bytes]:
        """Train, or go on; the files of all checkpoints."""
        write = adapter_writer(self.recipe, self.pictures, self.model, per_epoch=3)
        layers = specs(self.recipe, self.model)
        with inject(self.model.trainable_parts, layers, seed=self.recipe.train.seed) as injected:
            events = train(self.model, injected, self.cached, self.recipe, self.run, adapter_bytes=write)
            for event in itertools.islice(events, stop):
                self.run.append(event)
            events.close()  # type: ignore[attr-defined]
        found = self.run.path.glob("checkpoints/*/*.safetensors")
        return {path.relative_to(self.run.path).as_posix(): path.read_bytes() for path in found}

    def anew(self) -> None:
        project = self.run.path.parent.parent
        self.run = runs.create(project, self.recipe, provenance={}, dataset_lines=[])

    def last(self) -> Any:
        path = self.run.checkpoints()[-1].adapter
        return formats.read(path, keys=self.model.family.keys, layers=shapes(self.model.trainable_parts))


@pytest.fixture
def trainer(make_project: MakeProject, model: Model) -> Callable[..., Trainer]:
    return lambda *settings, **told: Trainer(make_project(*settings, **told), model)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def drawn(model: Model, pattern: str) -> dict[str, Any]:
    """Weights for layers whose names hold the pattern; nothing zero in them, alpha unlike the rank."""
    made = [LayerSpec(name, 3, 2.0) for name in shapes(model.trainable_parts) if pattern in name and of_text(name)]
    with inject(model.trainable_parts, made, seed=0) as injected:
        with torch.no_grad():
            for name, parameter in injected.named().items():
                parameter.copy_(0.3 * randomness.normal(tuple(parameter.shape), 4, name))
        return injected.weights()


# --- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [None, 2])
def test_gradients_are_peft_s_on_the_same_encoder(make_project: MakeProject, base: Path, skip: int | None) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = load_base(base)
    read_texts(model, clip_skip=skip)
    recipe = resolved(load(make_project(TEXT)), model, 1)
    *_, cached = encode(model, read_pictures(recipe, make_project(), model).prepared)
    assert isinstance(cached, Cached)
    batches = Batches(model, cached, recipe, encode_texts=True)
    layers = drawn(model, ".layers.0.")
    theirs = copy.deepcopy(model.parts["text_encoder"])

    with inject(model.trainable_parts, [LayerSpec(name, 3, 2.0) for name in layers], seed=0) as injected:
        injected.load(layers)
        loss(model, at(batches, 0), ObjectiveSettings(min_snr=5.0)).backward()  # type: ignore[no-untyped-call]
        ours = {name: parameter.grad for name, parameter in injected.named().items()}

    flat = not hasattr(theirs, "text_model")
    paths = {name: name.removeprefix("text_encoder.text_model." if flat else "text_encoder.") for name in layers}
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=2, target_modules=list(paths.values())), theirs)
    halves = {name: theirs.get_submodule(path) for name, path in paths.items()}
    with torch.no_grad():
        for name, weights in layers.items():
            halves[name].lora_A["default"].weight.copy_(torch.from_numpy(weights.down))
            halves[name].lora_B["default"].weight.copy_(torch.from_numpy(weights.up))
    model.parts["text_encoder"] = theirs
    loss(model, at(batches, 0), ObjectiveSettings(min_snr=5.0)).backward()  # type: ignore[no-untyped-call]
    assert len(ours) == 12
    for name in layers:
        for half, matrix in (("down", halves[name].lora_A), ("up", halves[name].lora_B)):
            expected = matrix["default"].weight.grad
            found = ours[f"{name}.{half}"]
            assert found is not None
            assert float(expected.abs().max()) > 1e-4, "there is something to compare"
            assert float((found - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize("name", ["sdxl", "flux1"])
def test_other_families_read_what_is_trained_of_their_text_encoders(name: str, tmp_path: Path) -> None:
    model = load_base(tiny.BASES[name](tmp_path))
    layers = drawn(model, ".layers.0.")
    assert layers
    with inject(model.trainable_parts, [LayerSpec(layer, 3, 2.0) for layer in layers], seed=0) as injected:
        injected.load(layers)
        told = model.family.encode_prompts(model, [plain("a red boat"), plain("")])
        (told.tokens_BLD.square().sum() + (0 if told.pooled_BD is None else told.pooled_BD.square().sum())).backward()
        for parameter, weight in injected.named().items():
            assert weight.grad is not None and float(weight.grad.abs().max()) > 0, parameter


def test_clip_skip_is_refused_where_clip_alone_does_not_tell_the_prompt(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="text encoders are CLIP"):
        read_texts(load_base(tiny.BASES["flux1"](tmp_path)), clip_skip=2)


def test_captions_encoded_in_the_step_are_those_encoded_before(trainer: Callable[..., Trainer], model: Model) -> None:
    trained = trainer("dataset.caption_dropout=0.4", "train.batch=3")
    before = Batches(model, trained.cached, trained.recipe)
    live = Batches(model, trained.cached, trained.recipe, encode_texts=True)
    for step in range(6):
        one, other = at(before, step), at(live, step)
        assert torch.equal(one.clean_BCHW, other.clean_BCHW)
        assert torch.equal(one.noise_BCHW, other.noise_BCHW)
        assert distance(one.conditioning.text.tokens_BLD, other.conditioning.text.tokens_BLD) < 1e-5


def test_the_base_is_frozen_and_untouched(trainer: Callable[..., Trainer], model: Model) -> None:
    before = {name: tensor.clone() for name, tensor in model.parts["text_encoder"].state_dict().items()}
    trainer(BOTH, "train.steps=3").train()
    after = model.parts["text_encoder"].state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    for part in model.parts.values():
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in part.parameters())


def test_a_caption_is_cut_into_tokens_once(
    trainer: Callable[..., Trainer], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = trainer(TEXT)
    cut: list[str] = []
    chunks = clip_tokens.chunks
    for tokenizer in model.tokenizers:
        vars(tokenizer).pop("chunked", None)  # what it remembers of other tests
    monkeypatch.setattr(clip_tokens, "chunks", lambda text, tokenizer: cut.append(str(text)) or chunks(text, tokenizer))
    trained.train()
    assert len(cut) == len(set(cut)) > 1


# --- what is trained, and how fast -----------------------------------------------------------


def moved(trained: Trainer, step: int = 1) -> dict[bool, float]:
    """How far the first step took the `up` of denoiser (False) and text encoder (True): AdamW's rate."""
    path = trained.run.path / f"checkpoints/step-{step:06d}/state.safetensors"
    found: dict[bool, float] = {}
    for name, tensor in tensorfile.read(path)[0].items():
        if name.startswith("weight/") and name.endswith(".up"):
            text = of_text(name.removeprefix("weight/"))
            found[text] = max(found.get(text, 0.0), float(np.abs(tensorfile.as_float32(tensor)).max()))
    return found


def test_text_encoders_are_trained_at_their_own_rate_or_at_the_same(trainer: Callable[..., Trainer]) -> None:
    told = ("train.steps=1", "train.learning_rate=1e-2", BOTH)
    own = trainer(*told, "train.text_learning_rate=1e-3")
    own.train()
    assert moved(own) == {False: pytest.approx(1e-2, rel=1e-3), True: pytest.approx(1e-3, rel=1e-3)}
    assert own.last().metadata["ss_text_encoder_lr"] == "0.001"
    assert own.last().metadata["ss_unet_lr"] == "0.01"
    same = trainer(*told)
    same.train()
    assert moved(same) == {False: pytest.approx(1e-2, rel=1e-3), True: pytest.approx(1e-2, rel=1e-3)}
    assert same.last().metadata["ss_text_encoder_lr"] == "0.01"


def test_without_text_layers_nothing_of_a_text_encoder_is_in_the_file(trainer: Callable[..., Trainer]) -> None:
    trained = trainer("train.steps=1")
    trained.train()
    assert not any(of_text(name) for name in trained.last().layers)
    assert trained.last().metadata["ss_text_encoder_lr"] == "None"
    assert trained.last().metadata["ss_clip_skip"] == "None"


def test_text_encoders_alone_can_be_trained_and_the_error_falls(trainer: Callable[..., Trainer], model: Model) -> None:
    trained = trainer(TEXT, "train.steps=40", "checkpoints.every=40", "train.learning_rate=3e-2", pictures=1)
    trained.train()
    layers = trained.last().layers
    assert layers
    assert all(of_text(name) and np.abs(weights.up).max() > 0 for name, weights in layers.items())
    before = cells(model, trained.cached.train, strata=4).mean()
    with merged(model, [Applied(layers, 1.0, 1.0)]):
        assert cells(model, retold(model, trained.cached.train), strata=4).mean() < 0.98 * before


def test_layers_behind_the_one_that_clip_skip_reads_stay_as_they_are(
    trainer: Callable[..., Trainer], model: Model
) -> None:
    read_texts(model, clip_skip=2)
    try:
        trained = trainer(TEXT, "base.clip_skip=2", "train.steps=4", "checkpoints.every=2")
        complete = trained.train()
        for name, weights in trained.last().layers.items():
            assert (np.abs(weights.up).max() > 0) == (".layers.0." in name)
        assert trained.last().metadata["ss_clip_skip"] == "2"
        trained.anew()
        trained.train(stop=4)
        assert trained.train() == complete
        unread = trainer("adapter.targets=['text_encoder.*.layers.1.*']", "base.clip_skip=2")
        with pytest.raises(TrainingError, match="changes nothing"):
            unread.train()
        assert unread.run.checkpoints() == []
    finally:
        read_texts(model)


def test_a_rate_for_text_encoders_needs_one_that_is_trained(make_project: MakeProject, model: Model) -> None:
    with pytest.raises(RecipeError, match="no text encoder is trained"):
        specs(load(make_project("train.text_learning_rate=1e-4")), model)


@pytest.mark.parametrize("skip", [0, 3])
def test_a_clip_skip_that_the_encoder_has_no_layer_for_is_refused(model: Model, skip: int) -> None:
    with pytest.raises(SettingsError, match="has 2 layers"):
        read_texts(model, clip_skip=skip)
    assert model.clip_skip is None


# --- going on --------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [[4], [1, 6, 3]])
def test_stopping_anywhere_and_going_on_is_the_uninterrupted_run(
    trainer: Callable[..., Trainer], stops: list[int]
) -> None:
    trained = trainer(BOTH, "train.text_learning_rate=3e-3", "train.warmup=2", "train.steps=8")
    complete = trained.train()
    trained.anew()
    for count in stops:
        trained.train(stop=count)
    assert trained.train() == complete


# --- what sees the trained text encoder ------------------------------------------------------


def test_a_sample_is_what_the_file_gives_a_fresh_base(make_project: MakeProject, base: Path) -> None:
    project = make_project(
        BOTH, "base.clip_skip=2", "train.steps=3", "train.learning_rate=0.05", "samples.prompts=['a (boat:1.3)']"
    )
    events = api.train(project)
    next(event for event in events if isinstance(event, Preview))
    events.close()  # type: ignore[attr-defined]
    (run,) = runs.runs_of(project)
    fresh = load_base(base)
    read_texts(fresh, clip_skip=2)
    layers = read_adapter(fresh, run.checkpoints()[-1].adapter).layers

    def sheet(text_strength: float) -> bytes:
        with merged(fresh, [Applied(layers, 1.0, text_strength)]):
            return png(contact_sheet(paint(fresh, [Job("a (boat:1.3)", 7)], Sampling(64, 64, 2)), columns=1))

    shown = (run.path / "samples" / "step-000003.png").read_bytes()
    assert sheet(1.0) == shown
    assert sheet(0.0) != shown


def test_captions_are_encoded_anew_by_changed_encoders_alone(trainer: Callable[..., Trainer], model: Model) -> None:
    samples = trainer().cached.train
    with torch.no_grad(), merged(model, [Applied(drawn(model, ".q_proj"), 1.0, 1.0)]):
        for one, sample in zip(retold(model, samples), samples, strict=True):
            direct = model.family.encode_prompts(model, [plain(sample.prepared.captions[0])]).tokens_BLD
            assert torch.equal(one.texts[0].tokens_BLD, direct)
            assert distance(one.texts[0].tokens_BLD, sample.texts[0].tokens_BLD) > 1e-2
            assert one.latents_CHW is sample.latents_CHW
    for one, sample in zip(retold(model, samples), samples, strict=True):
        assert torch.equal(one.texts[0].tokens_BLD, sample.texts[0].tokens_BLD)


def test_the_held_out_loss_is_that_of_the_trained_text_encoder(trainer: Callable[..., Trainer], model: Model) -> None:
    trained = trainer(TEXT, "train.steps=3", "train.learning_rate=0.1", "samples.sampling_steps=1")
    trained.train()
    *_, found = evaluate(model, trained.recipe, trained.pictures, trained.cached, trained.run)
    assert isinstance(found, Results)
    (judged,) = found.checkpoints
    strata = trained.recipe.validation.strata
    reference = cells(model, trained.cached.held_out, strata=strata)
    with merged(model, [Applied(trained.last().layers, 1.0, 1.0)]):
        mine = cells(model, retold(model, trained.cached.held_out), strata=strata)
    assert judged.held_out is not None
    assert judged.held_out.per_image == pytest.approx(np.log(mine / reference).mean(axis=1).tolist())
    assert max(map(abs, judged.held_out.per_image)) > 1e-4
