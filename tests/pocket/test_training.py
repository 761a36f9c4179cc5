"""The pocket base's own training: every kind through all stages, with small networks and a few scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from velatura import api, randomness
from velatura.errors import RunError
from velatura.events import Done
from velatura.family import Model, load_base, stack_prompts
from velatura.generation.generate import Painted, generate
from velatura.generation.reading import weighted
from velatura.generation.sampling import Job, Sampling
from velatura.pocket import decoder, denoiser, export, muon, restore, shards
from velatura.pocket.architecture import ARCHITECTURES, KINDS, Kind, Part
from velatura.pocket.decoder import autoencoder_weights
from velatura.pocket.latents import text_reader
from velatura.pocket.stages import Settings, denoiser_folder, newest_weights, take_step
from velatura.pocket.train import train
from velatura.recipe import ObjectiveSettings
from velatura.training.data import Batch
from velatura.training.losses import loss

TINY = Settings(
    workers=1, vae_shards=1, vae_crops=16, vae_batch=4, vae_crop=16, samples=24, batch=4, first_shards=1,
    samples_per_shard=12, average_every=1, keep_every=3600.0,
)  # fmt: skip

SMALLER: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4},
    "CLIPTextModel": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    "UNet2DConditionModel": {"block_out_channels": (8, 16, 16), "cross_attention_dim": 32, "norm_num_groups": 4},
    "Qwen3Model": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "head_dim": 10},
    "ZImageTransformer2DModel": {
        "dim": 48, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 32, "axes_dims": (8, 8, 8),
    },
}  # fmt: skip

FAMILIES = {
    "epsilon": ("sd15", "epsilon", "UNet2DConditionModel"),
    "v": ("sd15", "v", "UNet2DConditionModel"),
    "flow": ("z_image", "flow", "ZImageTransformer2DModel"),
}
"""Kind -> family, objective, class of the denoiser."""

CAPTIONS = ("a red boat at night, crescent moon", "two blue cars")

HALF = {"rtol": 1e-3, "atol": 1e-4}
"""What is lost where weights are written in fp16."""

every_kind = pytest.mark.parametrize("kind", KINDS)


def smaller(part: Part) -> Part:
    return replace(part, settings={**part.settings, **SMALLER[part.kind]})


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Small networks, and shards of three scenes."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SCENES", 3)
        patch.setattr(shards, "TEXTURES", 2)
        for kind in KINDS:
            made = ARCHITECTURES[kind]
            parts = {name: smaller(getattr(made, name)) for name in ("autoencoder", "text_encoder", "denoiser")}
            patch.setitem(ARCHITECTURES, kind, replace(made, **parts))  # type: ignore[misc, arg-type]
        yield


@pytest.fixture(scope="module")
def state(small: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained denoiser of every kind; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("state")
    for kind in KINDS:
        train(replace(TINY, kind=kind), folder)
    return folder


@pytest.fixture(scope="module")
def bases(state: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """Each kind, exported."""
    folders: dict[Kind, Path] = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp("bases") / kind
        export.export(state, folders[kind], version=1, commit="test", kind=kind)
    return folders


# --- training --------------------------------------------------------------------------------


def test_orthogonalised_updates_have_singular_values_near_one() -> None:
    matrix = torch.randn(24, 90, generator=torch.Generator().manual_seed(3))

    for turned in (matrix, matrix.T):
        values = torch.linalg.svdvals(muon.orthogonalise(turned))
        assert values.min() > 0.6
        assert values.max() < 1.3


@every_kind
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(kind: Kind, state: Path, tmp_path: Path) -> None:
    parts = copied(state, tmp_path / "parts", without=denoiser_folder(state, kind).name)
    train(replace(TINY, kind=kind, samples=8), parts)
    train(replace(TINY, kind=kind), parts)

    one, other = (newest_weights(denoiser_folder(folder, kind)) for folder in (state, parts))
    assert one.keys() == other.keys() == {"denoiser", "text_encoder", "averaged"}
    for name in ("denoiser", "text_encoder"):
        assert all(torch.equal(one[name][key], other[name][key]) for key in one[name]), name


def copied(state: Path, folder: Path, *, without: str) -> Path:
    shutil.copytree(state, folder)
    shutil.rmtree(folder / without)
    return folder


def test_a_training_from_before_there_were_kinds_goes_on(state: Path, tmp_path: Path) -> None:
    train(replace(TINY, samples=8), tmp_path)
    told = json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))
    assert told.pop("kind") == "epsilon"
    (tmp_path / "settings.json").write_text(json.dumps(told), encoding="utf-8")
    export.export(tmp_path, tmp_path / "base", version=1, commit="test")
    restore.restore(tmp_path / "base", tmp_path / "again")
    assert (tmp_path / "again" / "denoiser").exists()

    train(TINY, tmp_path)
    one, other = (newest_weights(folder / "denoiser")["denoiser"] for folder in (state, tmp_path))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_kinds_share_a_folders_autoencoder_and_latents_and_leave_each_other_alone(state: Path, tmp_path: Path) -> None:
    before = contents(state)
    folder = copied(state, tmp_path / "state", without="denoiser-v")
    train(replace(TINY, kind="v", vae_crops=32), folder)  # however many crops are asked for

    after = contents(folder)
    assert {path for path in after if after[path] != before.get(path)} == {"log.jsonl", "settings-v.json"}
    assert {path.split("/")[0] for path in before} >= {"denoiser", "denoiser-flow", "tokenizer-flow", "settings.json"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@every_kind
def test_what_is_trained_is_the_loss_that_the_family_has_too(kind: Kind, bases: dict[Kind, Path]) -> None:
    model = load_base(bases[kind])
    text_encoder, network = model.parts["text_encoder"], model.parts["denoiser"]
    tiny.redraw(text_encoder, 1, "text_encoder")
    tiny.redraw(network, 1, "denoiser")
    latents, noise = (randomness.normal((2, 16, 16, 16), 4, name) for name in ("latents", "noise"))
    level_B = np.array([0.5, 0.8])
    tokens = text_reader(bases[kind] / "tokenizer", kind)(list(CAPTIONS))

    @torch.no_grad()
    def ours(tokens: Tensor = tokens, level_B: np.ndarray = level_B, told: Kind = kind) -> float:
        own = denoiser.flow_loss if told == "flow" else denoiser.diffusion_loss
        return float(own(text_encoder, network, latents, noise, tokens, level_B, replace(TINY, kind=told)))

    theirs = family_loss(model, latents, noise, level_B)
    tolerance = 1e-5 * theirs
    assert abs(ours() - theirs) < tolerance
    assert abs(ours(tokens=tokens.flip(0)) - theirs) > 100 * tolerance
    assert abs(ours(level_B=0.9 * level_B) - theirs) > 100 * tolerance
    if kind != "flow":
        assert abs(ours(told="v" if kind == "epsilon" else "epsilon") - theirs) > 100 * tolerance


def family_loss(model: Model, latents: Tensor, noise: Tensor, level_B: np.ndarray) -> float:
    """As a LoRA's training has it."""
    texts = [model.read(weighted(caption)) for caption in CAPTIONS]
    told = model.conditioned(stack_prompts(texts, model.read(weighted(""))))
    sigma_B = model.objective.training_sigma(torch.from_numpy(level_B))
    min_snr = None if model.objective.kind == "flow" else TINY.min_snr
    with torch.no_grad():
        return float(loss(model, Batch(latents, noise, sigma_B, told), ObjectiveSettings(min_snr=min_snr)))


DECODER = replace(TINY, decoder_crops=12, samples=4, decoder_rate=1e-2)
"""A tiny training whose decoder goes on once the latents stand."""


def test_the_decoder_goes_on_while_the_latents_keep_their_meaning(state: Path, tmp_path: Path) -> None:
    folder = copied(state, tmp_path / "state", without="denoiser")
    train(DECODER, folder)

    before, after = autoencoder_weights(state), autoencoder_weights(folder)
    decodes = {key for key in before if key.startswith(("decoder.", "post_quant_conv."))}
    assert {key for key in before if not torch.equal(before[key], after[key])} == decodes

    export.export(folder, tmp_path / "base", version=1, commit="test")
    shipped = load_base(tmp_path / "base").parts["vae"].state_dict()
    torch.testing.assert_close({key: shipped[key] for key in decodes}, {key: after[key] for key in decodes}, **HALF)
    restore.restore(tmp_path / "base", tmp_path / "again")
    train(replace(DECODER, samples=8), tmp_path / "again")
    torch.testing.assert_close(autoencoder_weights(tmp_path / "again"), after, **HALF)


def test_a_decoder_that_was_stopped_goes_on_as_if_it_had_not_been(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copied(state, tmp_path / "whole", without="denoiser")
    train(DECODER, whole)
    stopped = copied(state, tmp_path / "stopped", without="denoiser")
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "take_step", ends_after(2))
        with pytest.raises(KeyboardInterrupt):
            train(replace(DECODER, keep_every=0.0), stopped)
    train(DECODER, stopped)

    one, other = autoencoder_weights(whole), autoencoder_weights(stopped)
    assert all(torch.equal(one[key], other[key]) for key in one)


def ends_after(steps: int) -> Callable[..., None]:
    taken = []

    def step(*given: Any, **more: Any) -> None:
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(1)
        take_step(*given, **more)

    return step


def test_the_spectrum_asks_how_much_there_is_and_not_where_it_lies() -> None:
    grain = 0.3 * randomness.normal((2, 3, 48, 48), 5, "grain")
    moved = grain.roll((5, 3), dims=(-2, -1))
    smooth = torch.nn.functional.avg_pool2d(grain, 3, stride=1, padding=1)
    turned = 0.3 * torch.sin(torch.arange(48.0) * 2).expand(2, 3, 48, 48)

    assert decoder.spectrum_loss(grain, grain) == 0
    assert decoder.spectrum_loss(smooth, grain) > 2 * decoder.spectrum_loss(moved, grain)
    assert decoder.spectrum_loss(turned.transpose(-1, -2), turned) > 0.5
    assert decoder.spectrum_loss(turned.roll(1, dims=-1), turned) < 0.05


# --- the base --------------------------------------------------------------------------------


@every_kind
def test_an_exported_base_is_recognised_and_says_what_made_it(kind: Kind, bases: dict[Kind, Path]) -> None:
    model = load_base(bases[kind])
    family, objective, made = FAMILIES[kind]

    assert (model.family.name, model.objective.kind, type(model.parts["denoiser"]).__name__) == (
        family,
        objective,
        made,
    )
    assert (model.resolution, model.latent_channels, model.guidance, model.notes) == (128, 16, "cfg", ())
    told = json.loads((bases[kind] / "velatura.json").read_text(encoding="utf-8"))
    assert (told["samples"], told["commit"], told["version"], told["settings"]["kind"]) == (24, "test", 1, kind)


@every_kind
def test_a_training_goes_on_from_an_exported_base(
    kind: Kind, state: Path, bases: dict[Kind, Path], tmp_path: Path
) -> None:
    restore.restore(bases[kind], tmp_path)

    averaged = newest_weights(denoiser_folder(state, kind))["averaged"]
    back = newest_weights(denoiser_folder(tmp_path, kind))
    for name in ("denoiser", "text_encoder"):
        torch.testing.assert_close(back[name], averaged[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(RunError, match="a training already"):
        restore.restore(bases[kind], tmp_path)

    train(replace(TINY, kind=kind, samples=28), tmp_path)
    assert json.loads((denoiser_folder(tmp_path, kind) / "newest.json").read_text())["seen"] == 28


@every_kind
def test_an_exported_base_paints_and_is_trained_on_and_the_run_judged(
    kind: Kind, bases: dict[Kind, Path], tmp_path: Path
) -> None:
    model = load_base(bases[kind])
    jobs = [Job(CAPTIONS[0], 1), Job(CAPTIONS[1], 1)]
    sampling = Sampling(128, 128, steps=2, sampler=model.defaults.sampler, scheduler=model.defaults.scheduler)
    one, other = (found.image for found in generate(model, jobs, sampling) if isinstance(found, Painted))
    assert one.size == (128, 128)
    assert np.asarray(one).tobytes() != np.asarray(other).tobytes()

    project = tiny.project(tmp_path / "project", bases[kind], "train.steps=2", "checkpoints.every=1")
    *_, done = api.train(project)
    assert isinstance(done, Done)
    (run,) = (project / "runs").iterdir()
    judged = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert judged


@every_kind
def test_diffusers_opens_an_exported_base_and_reads_prompts_as_it_was_trained_to(
    kind: Kind, bases: dict[Kind, Path]
) -> None:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(bases[kind]).to(torch.float32)
    assert type(pipeline).__name__ == ARCHITECTURES[kind].pipeline
    assert pipeline.scheduler.config.get("prediction_type", "epsilon") == ("v_prediction" if kind == "v" else "epsilon")
    model = load_base(bases[kind])
    for caption in CAPTIONS:
        with torch.no_grad():
            if kind == "flow":
                features, _ = pipeline.encode_prompt(caption, do_classifier_free_guidance=False)
            else:
                features, _ = pipeline.encode_prompt(caption, "cpu", 1, False)
        torch.testing.assert_close(features[0], model.read(weighted(caption)).tokens_BLD[0], rtol=1e-4, atol=1e-4)


def test_a_shard_is_a_function_of_its_number(tmp_path: Path) -> None:
    shards.draw(tmp_path / "one", 5)
    shards.draw(tmp_path / "other", 5)
    shards.draw(tmp_path / "other", 6)

    assert (shards.images(tmp_path / "one", 5) == shards.images(tmp_path / "other", 5)).all()
    assert shards.captions(tmp_path / "one", 5) != shards.captions(tmp_path / "other", 6)
