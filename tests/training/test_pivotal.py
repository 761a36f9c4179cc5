"""A word that is learnt beside the LoRA: where it begins, what it learns, that it is gone on with, and its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.tiny import at
from velatura.adapters import formats
from velatura.adapters.layers import shapes
from velatura.adapters.lora import inject
from velatura.api import train as train_project
from velatura.api.inputs import read_pictures
from velatura.errors import RecipeError
from velatura.events import Event
from velatura.family import Model, load_base
from velatura.generation.record import words_of
from velatura.recipe import Recipe, build, load
from velatura.run import Run
from velatura.text import clip
from velatura.text.embeddings import read
from velatura.text.weighted import plain
from velatura.training.adapter import specs
from velatura.training.data import Batches, Cached
from velatura.training.encoding import encode, retold
from velatura.training.facts import adapter_writer
from velatura.training.loop import train
from velatura.training.losses import loss
from velatura.training.pivotal import LearnedWord

MakeProject = Callable[..., Path]

WORD = ("word.tokens=2", "word.init=boat", "word.learning_rate=1e-2", "dataset.trigger=red", "train.steps=4")


class Trainer:
    """One run, with a word."""

    def __init__(self, project: Path, model: Model) -> None:
        self.model, self.recipe = model, load(project)
        self.pictures = read_pictures(self.recipe, project, model)
        *_, cached = encode(model, self.pictures.prepared)
        assert isinstance(cached, Cached)
        self.cached, self.run = cached, Run(project / "run")
        self.word: LearnedWord | None = None

    def events(self, recipe: Recipe | None = None) -> Iterator[Event]:
        recipe, self.word = recipe or self.recipe, LearnedWord(self.model, recipe or self.recipe)
        write = adapter_writer(recipe, self.pictures, self.model, per_epoch=3, word=self.word)
        layers = specs(recipe, self.model)
        with self.model.knowing([self.word.embedding]), inject(self.model.trainable_parts, layers, seed=1) as injected:
            yield from train(self.model, injected, self.cached, recipe, self.run, adapter_bytes=write, word=self.word)

    def vectors(self) -> torch.Tensor:
        assert self.word is not None
        return torch.cat([one.detach().flatten() for one in self.word.parameters.values()])

    def checkpoint(self, step: int) -> bytes:
        path = self.run.path / "checkpoints" / f"step-{step:06d}" / "state.safetensors"
        return path.read_bytes()


@pytest.fixture
def trainer(make_project: MakeProject, model: Model) -> Callable[..., Trainer]:
    return lambda *settings: Trainer(make_project(*WORD, *settings), model)


def test_a_word_begins_as_the_words_told_repeated_to_its_tokens(model: Model) -> None:
    recipe = build({}, [*WORD[:2], "dataset.trigger=red", "word.tokens=3", "word.init=boat red"])
    (begun,) = LearnedWord(model, recipe).parameters.values()
    rows = clip.body(model.parts["text_encoder"]).embeddings.token_embedding.weight
    tokens = model.tokenizers[0].encode("boat red")
    assert torch.equal(begun, rows[torch.tensor([tokens[place % len(tokens)] for place in range(3)])])


def test_its_gradient_is_that_of_vectors_in_the_text_encoder_s_own_table(trainer: Callable[..., Trainer]) -> None:
    """The oracle is the text encoder with rows of its own table trained, as textual inversion is written elsewhere."""
    made = trainer("word.tokens=1", "dataset.caption_dropout=0")
    model, word = made.model, LearnedWord(made.model, made.recipe)
    with model.knowing([word.embedding]):
        batch = at(Batches(model, made.cached, made.recipe, encode_texts=True), 0)
        loss(model, batch).backward()
    (found,) = (one.grad for one in word.parameters.values())
    captions = [sample.prepared.captions[0] for sample in made.cached.train]
    assert all("red" in caption for caption in captions), "the trigger is in front where it was not"
    table = clip.body(model.parts["text_encoder"]).embeddings.token_embedding
    before, (red,) = table.weight.detach().clone(), model.tokenizers[0].encode("red")
    table.weight.data[red] = word.embedding.vectors[table.weight.shape[1]][0].detach()  # type: ignore[attr-defined]
    table.weight.requires_grad_(True)
    try:
        batch = at(Batches(model, made.cached, made.recipe, encode_texts=True), 0)
        loss(model, batch).backward()
        assert table.weight.grad is not None and found is not None
        expected = table.weight.grad[red]
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    finally:
        table.weight.requires_grad_(False)
        table.weight.grad = None
        table.weight.data.copy_(before)


def test_it_is_trained_at_its_own_rate_and_goes_on_exactly(
    trainer: Callable[..., Trainer], make_project: MakeProject
) -> None:
    whole = trainer("checkpoints.every=2", "train.ema=0.5")
    begun = torch.cat([one.detach().flatten() for one in LearnedWord(whole.model, whole.recipe).parameters.values()])
    list(whole.events())
    moved = (whole.vectors() - begun).abs().max()
    assert 1e-3 < float(moved) <= 4 * 1e-2 * 1.01, "four steps of AdamW"
    expected = whole.checkpoint(4), whole.vectors()
    for step in (4,):
        for path in (whole.run.path / "checkpoints" / f"step-{step:06d}").iterdir():
            path.unlink()
        (whole.run.path / "checkpoints" / f"step-{step:06d}").rmdir()
    list(whole.events())
    assert torch.equal(whole.vectors(), expected[1]) and whole.checkpoint(4) == expected[0]


def test_no_decay_pulls_at_a_word_and_a_rate_of_its_own_is_on_the_recipe_s_course(
    trainer: Callable[..., Trainer],
) -> None:
    from velatura.training.loop import beginning
    from velatura.training.optimizers import set_rates

    made = trainer("train.weight_decay=0.3", "train.schedule=linear")
    word = LearnedWord(made.model, made.recipe)
    with inject(made.model.trainable_parts, specs(made.recipe, made.model), seed=1) as injected:
        optimizer = beginning(made.model, injected, made.recipe, word).optimizer
    set_rates(optimizer, made.recipe.train, 2)
    (group,) = (one for one in optimizer.param_groups if one["names"] == ["text_encoder.word"])
    assert group["weight_decay"] == 0 and group["lr"] == pytest.approx(1e-2 * 0.5)
    assert optimizer.param_groups[0]["weight_decay"] == 0.3


def test_it_goes_with_the_lora_and_means_its_vectors_wherever_that_is_read(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    list(made.events())
    adapter = formats.read(
        made.run.checkpoints()[-1].adapter,
        keys=made.model.family.keys,
        layers=shapes(made.model.trainable_parts),
    )
    (word,) = words_of(adapter)
    assert word.name == "red" and list(adapter.embeddings["red"]) == ["string_to_param.*"]
    held = np.concatenate([one.reshape(-1) for one in word.vectors.values()])
    np.testing.assert_allclose(held, made.vectors().numpy(), atol=2e-3)
    sample = next(one for one in made.cached.train if "red" in one.prepared.captions[0])
    with made.model.knowing([word]):
        (told,) = retold(made.model, [sample])
    assert not torch.allclose(told.texts[0].tokens_BLD, sample.texts[0].tokens_BLD, atol=1e-3)
    (again,) = retold(made.model, [sample])
    assert torch.equal(again.texts[0].tokens_BLD, sample.texts[0].tokens_BLD), "without it a word like any other"


def test_a_project_with_a_word_is_trained_judged_and_leaves_it_beside_its_lora(make_project: MakeProject) -> None:
    project = make_project(*WORD, "train.steps=2", "checkpoints.every=2", "samples.prompts=['a red boat']")
    list(train_project(project))
    assert len(list((project / "loras").glob("*.safetensors"))) == 1
    (beside,) = (project / "runs").glob("*/embedding/*.safetensors")
    assert beside.name == "red.safetensors" and len(read(beside)) == 2


def test_two_text_encoders_learn_two_sets_of_vectors(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = load_base(tiny.BASES["sdxl"](tmp_path))
    recipe = build({}, [*WORD])
    word = LearnedWord(model, recipe)
    assert list(word.parameters) == ["text_encoder.word", "text_encoder_2.word"]
    assert list(word.bundled()["red"]) == ["clip_l", "clip_g"]
    with model.knowing([word.embedding]):
        told = model.family.encode_prompts(model, [model.told("a red boat")])
    told.tokens_BLD.square().sum().backward()
    assert all(one.grad is not None and float(one.grad.abs().max()) > 0 for one in word.parameters.values())
    bare = model.family.encode_prompts(model, [plain("a red boat")])
    assert not torch.allclose(told.tokens_BLD, bare.tokens_BLD, atol=1e-3)


def test_a_base_that_reads_by_more_than_clip_learns_no_word(model: Model) -> None:
    other = replace(model, tokenizers=(object(),))
    with pytest.raises(RecipeError, match="where CLIP alone reads"):
        LearnedWord(other, build({}, [*WORD]))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("word.tokens=1", "word.init=boat"), "dataset.trigger"),
        (("word.tokens=1", "dataset.trigger=red"), "word.init"),
        (("word.tokens=1", "word.init=boat", "dataset.trigger=a.b"), "dataset.trigger"),
        (("word.tokens=1", "word.init=a", "dataset.trigger=b", "train.optimizer=prodigy", "train.learning_rate=1"),
         "prodigy"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_word_is_refused(settings: tuple[str, ...], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        build({}, settings)
