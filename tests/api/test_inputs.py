"""The base of a recipe: named by path and hash, never silently another, and what is odd about it is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from velatura import api, bases, recipe, tensorfile
from velatura import run as runs
from velatura.api.inputs import base_of
from velatura.bases import BaseFiles
from velatura.errors import ModelError, SettingsError
from velatura.events import Note


def notes(events: object) -> list[str]:
    return [event.text for event in events if isinstance(event, Note)]  # type: ignore[attr-defined]


def with_surplus(base: Path, folder: Path) -> Path:
    """A copy of a base with a key that nothing has a use for."""
    shutil.copytree(base, folder)
    (path,) = (folder / "unet").glob("*.safetensors")
    tensors, metadata = tensorfile.read(path)
    kept = {name: tensorfile.RawTensor(one.dtype, one.shape, bytes(one.data)) for name, one in tensors.items()}
    kept["surplus.weight"] = tensorfile.raw(np.zeros(2, np.float32))
    path.write_bytes(tensorfile.to_bytes(kept, metadata))
    return folder


def test_a_run_writes_down_its_base_s_hash_and_goes_on_only_with_that_base(base: Path, tmp_path: Path) -> None:
    own = shutil.copytree(base, tmp_path / "base")
    project = tiny.project(tmp_path / "project", own, "train.steps=2", "checkpoints.every=2")
    list(api.train(project))
    (run,) = runs.runs_of(project)
    digest = bases.base_hash(bases.locate(BaseFiles(own)))
    assert run.recipe.base.sha256 == run.provenance["base_hash"] == digest

    (path,) = (own / "vae").glob("*.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for again in (api.train(run.path), api.evaluate(run.path)):
        with pytest.raises(ModelError, match="not the base that is asked for"):
            list(again)


def test_a_recipe_from_another_machine_finds_its_base_by_name_and_hash(base: Path, home: Path, tmp_path: Path) -> None:
    here = shutil.copytree(base, tmp_path / "models" / "my base \N{ARTIST PALETTE}")
    (home / "config.toml").write_text(f"[folders]\nbases = ['{tmp_path / 'models'}']\n", encoding="utf-8")
    digest = bases.base_hash(bases.locate(BaseFiles(here)))

    def told(model: str, sha256: str) -> recipe.Recipe:
        return recipe.build({"base": {"model": model, "sha256": sha256}})

    there = f"D:\\models\\{here.name}"
    assert base_of(told(there, digest), tmp_path).model == here
    assert base_of(told(there, ""), tmp_path).model == here
    with pytest.raises(ModelError, match="not the base that is asked for"):
        base_of(told(there, "0" * 64), tmp_path)
    with pytest.raises(SettingsError, match="no base model is named"):
        base_of(told("D:\\models\\another", digest), tmp_path)


def test_keys_without_a_use_are_noted_and_refused_where_the_user_is_strict(base: Path, tmp_path: Path) -> None:
    odd = with_surplus(base, tmp_path / "odd")
    request = api.GenerateRequest("a boat", base=str(odd), steps=1, width=64, height=64, out=tmp_path, seed=1)
    (note,) = notes(api.generate(request))
    assert note == "the files of the denoiser hold what its network has no place for: surplus.weight"

    strict = api.GenerateRequest("a boat", base=str(odd), strict=True, out=tmp_path)
    with pytest.raises(ModelError, match=r"surplus\.weight"):
        list(api.generate(strict))
    project = tiny.project(tmp_path / "project", odd, "base.strict=true")
    with pytest.raises(ModelError, match=r"surplus\.weight"):
        list(api.train(project))


def test_painting_checks_the_recipe_s_hash_too(base: Path, tmp_path: Path) -> None:
    request = api.GenerateRequest("a boat", base=str(base), base_sha256="0" * 64, out=tmp_path)
    with pytest.raises(ModelError, match="not the base that is asked for"):
        list(api.generate(request))
