"""The pocket base's own training, at the smallest size that goes through every stage."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from velatura.family import load_base
from velatura.pocket import export, muon, restore, shards, tokenizer, train
from velatura.text import clip_tokens

TINY = train.Settings(
    workers=1, vae_shards=1, vae_crops=16, vae_batch=4, vae_crop=16, samples=24, batch=4, first_shards=1,
    samples_per_shard=12, average_every=1, keep_every=0.0,
)  # fmt: skip


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SCENES", 3)
    monkeypatch.setattr(shards, "TEXTURES", 2)


def trained(folder: Path, settings: train.Settings) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / "tokenizer").exists():
        shards.draw(folder / "shards", 0)
        tokenizer.learn(shards.captions(folder / "shards", 0), folder / "tokenizer")
    (folder / "settings.json").write_text(json.dumps({"batch": settings.batch, **vars(settings)}))
    train._work(0, settings, str(folder), "")
    return folder


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    matrix = torch.randn(24, 90, generator=torch.Generator().manual_seed(3))

    for turned in (matrix, matrix.T):
        values = torch.linalg.svdvals(muon.orthogonalise(turned))
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_words_of_the_captions_are_one_token_each(tmp_path: Path) -> None:
    tokenizer.learn(["a red boat at night, crescent moon"] * 2, tmp_path)
    known = clip_tokens.load(tmp_path)

    assert known.count("A red boat at night") == 5
    assert known.count("crescent moon") == 2
    assert known.count("zzyzx 日本") > 5


def test_learning_the_same_captions_twice_gives_the_same_files(tmp_path: Path) -> None:
    told = ["a red boat at night, crescent moon", "two blue cars in the snow"]
    for name in ("one", "other"):
        tokenizer.learn(told, tmp_path / name)

    for name in ("vocab.json", "merges.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


@pytest.mark.usefixtures("few_scenes")
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", TINY)
    parts = trained(tmp_path / "parts", replace(TINY, vae_crops=16, samples=8))
    trained(parts, TINY)

    for stage in ("autoencoder", "denoiser"):
        one, other = (train.newest_weights(folder / stage) for folder in (whole, parts))
        assert one.keys() == other.keys()
        for name in one.keys() - {"averaged"}:
            assert all(torch.equal(one[name][key], other[name][key]) for key in one[name]), (stage, name)


@pytest.mark.usefixtures("few_scenes")
def test_an_exported_base_loads_and_can_be_trained_on(tmp_path: Path) -> None:
    state, base = trained(tmp_path / "state", TINY), tmp_path / "base"
    export.export(state, base, version=1, commit="test")

    model = load_base(base)
    assert (model.resolution, model.latent_channels) == (128, 16)
    told = json.loads((base / "velatura.json").read_text())
    assert (told["samples"], told["commit"], told["version"]) == (24, "test", 1)

    restore.restore(base, tmp_path / "again")
    averaged = train.newest_weights(state / "denoiser")["averaged"]["denoiser"]
    back = train.newest_weights(tmp_path / "again" / "denoiser")["denoiser"]
    torch.testing.assert_close(back, averaged, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("few_scenes")
def test_a_shard_is_a_function_of_its_number(tmp_path: Path) -> None:
    shards.draw(tmp_path / "one", 5)
    shards.draw(tmp_path / "other", 5)
    shards.draw(tmp_path / "other", 6)

    assert (shards.images(tmp_path / "one", 5) == shards.images(tmp_path / "other", 5)).all()
    assert shards.captions(tmp_path / "one", 5) != shards.captions(tmp_path / "other", 6)
