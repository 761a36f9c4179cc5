"""Differential output preservation: what the base says of the class is to stay what the adapter says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.tiny import at
from velatura.adapters.lora import Injected, inject
from velatura.api.inputs import read_pictures
from velatura.dataset.captions import with_class
from velatura.errors import RecipeError
from velatura.family import Model
from velatura.recipe import Recipe, build, load
from velatura.text.weighted import plain
from velatura.training.adapter import specs
from velatura.training.data import Batches, Cached
from velatura.training.encoding import encode
from velatura.training.loop import error
from velatura.training.losses import loss, preservation

MakeProject = Callable[..., Path]

TOLD = ("dataset.trigger=sks", "objective.preserve=ship", "dataset.caption_dropout=0", "objective.preserve_weight=0.7")


class Case:
    """A recipe that preserves, and its first batch."""

    def __init__(self, project: Path, model: Model) -> None:
        self.model, self.recipe = model, load(project)
        pictures = read_pictures(self.recipe, project, model)
        *_, cached = encode(model, pictures.prepared, of_class=lambda told: with_class(told, "sks", "ship"))
        assert isinstance(cached, Cached)
        self.cached = cached
        self.batch = at(Batches(model, cached, self.recipe), 0)

    @contextmanager
    def adapter(self, size: float = 0.1) -> Iterator[Injected]:
        with inject(self.model.trainable_parts, specs(self.recipe, self.model), seed=1) as injected:
            with torch.no_grad():
                for name, one in injected.named().items():
                    if name.endswith("up"):
                        one.normal_(0, size, generator=torch.Generator().manual_seed(len(name)))
            yield injected


@pytest.fixture
def case(make_project: MakeProject, model: Model) -> Case:
    return Case(make_project(*TOLD), model)


def test_the_formula(case: Case) -> None:
    """weight x mean((adapter(x, class) - base(x, class))^2), on the noisy pictures that the loss itself sees."""
    model, batch = case.model, case.batch
    told = [one for one in case.cached.preserved.values()]
    assert told
    noisy = model.objective.add_noise(batch.clean_BCHW, batch.noise_BCHW, batch.sigma_B)
    assert batch.preserved is not None
    base = model.family.predict(model, noisy, batch.sigma_B, batch.preserved)
    with case.adapter() as injected:
        said = model.family.predict(model, noisy, batch.sigma_B, batch.preserved)
        found = preservation(model, injected, batch, case.recipe.objective)
        whole = error(model, injected, case.recipe, batch)
        bare = loss(model, batch, case.recipe.objective)
    expected = 0.7 * (said - base).square().mean()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(whole, bare + expected, rtol=1e-5, atol=0)
    assert float(expected.detach()) > 1e-3 * float(bare.detach()), "it counts"


def test_the_class_takes_the_trigger_s_place_in_what_is_told(case: Case) -> None:
    for sample in case.cached.train:
        caption = sample.prepared.captions[0]
        assert caption.startswith("sks")
        expected = case.model.read(plain(caption.replace("sks", "ship")))
        assert torch.equal(case.cached.preserved[caption].tokens_BLD, expected.tokens_BLD)


def test_an_adapter_that_changes_nothing_yet_loses_nothing_and_the_base_is_a_constant(case: Case) -> None:
    with case.adapter(0.0) as injected:
        assert float(preservation(case.model, injected, case.batch, case.recipe.objective).detach()) == 0
    with case.adapter() as injected:
        preservation(case.model, injected, case.batch, case.recipe.objective).backward()
        assert injected.strength == 1
        assert all(one.grad is not None for one in injected.parameters())


def test_it_changes_what_is_learnt(case: Case) -> None:
    def gradient(recipe: Recipe) -> torch.Tensor:
        batch = at(Batches(case.model, case.cached, recipe), 0)
        with case.adapter() as injected:
            error(case.model, injected, recipe, batch).backward()
            return torch.cat([one.grad.flatten() for one in injected.parameters() if one.grad is not None])

    plainly = case.recipe.model_copy(
        update={"objective": case.recipe.objective.model_copy(update={"preserve": "", "preserve_weight": 1.0})}
    )
    with_it, without = gradient(case.recipe), gradient(plainly)
    assert float((with_it - without).norm() / without.norm()) > 0.01


def test_a_text_encoder_in_training_tells_its_own_of_the_class(make_project: MakeProject, model: Model) -> None:
    case = Case(make_project(*TOLD, "adapter.targets=['attention','text']"), model)
    with case.adapter():
        batch = at(Batches(model, case.cached, case.recipe, encode_texts=True), 0)
    assert batch.preserved is not None and batch.preserving is not None
    assert not torch.allclose(batch.preserved.text.tokens_BLD, batch.preserving.text.tokens_BLD, atol=1e-3)
    assert batch.preserving.text.tokens_BLD.requires_grad and not batch.preserved.text.tokens_BLD.requires_grad


def test_without_a_trigger_there_is_no_place_for_the_class() -> None:
    with pytest.raises(RecipeError, match=r"dataset\.trigger"):
        build({}, ["objective.preserve=ship"])
    with pytest.raises(RecipeError, match="preserve_weight has no effect"):
        build({}, ["objective.preserve_weight=2.0"])
