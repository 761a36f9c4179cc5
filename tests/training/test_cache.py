"""What was encoded is found again, exactly, and nothing that is stale, damaged or another's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import tiny
from velatura import api, tensorfile
from velatura.api.inputs import read_pictures
from velatura.dataset import duplicates, images
from velatura.events import Note, Progress
from velatura.family import Model
from velatura.recipe import load
from velatura.training import encoding
from velatura.training.cache import Cache, key
from velatura.training.data import Cached
from velatura.training.encoding import encode

MakeProject = Callable[..., Path]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many pictures and captions are encoded, and pictures read."""
    counts = {"_latents": 0, "_read": 0, "_pixels": 0}

    def counting(name: str) -> Callable[..., Any]:
        real = getattr(encoding, name)

        def call(*told: Any) -> Any:
            counts[name] += 1
            return real(*told)

        return call

    for name in counts:
        monkeypatch.setattr(encoding, name, counting(name))
    return counts


def encoded(project: Path, model: Model) -> Cached:
    *_, cached = encode(model, read_pictures(load(project), project, model).prepared, seed=1)
    assert isinstance(cached, Cached)
    return cached


def same(one: Cached, other: Cached) -> bool:
    def tensors(cached: Cached) -> list[torch.Tensor]:
        every = (*cached.train, *cached.held_out)
        texts = [text for sample in every for text in (*sample.texts, *(t for w in sample.wordings for t in w))]
        views = [view.latents_CHW for sample in every for view in sample.views]
        return [*views, *(text.tokens_BLD for text in texts), cached.empty.tokens_BLD]

    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors(one), tensors(other), strict=True))


def shards(home: Path) -> list[Path]:
    return sorted((home / "cache" / "encoded").rglob("*.safetensors"))


TOLD = ("dataset.flip=true", "dataset.shuffle=true", "dataset.variants=3", "dataset.crops=2")


def test_a_second_start_encodes_nothing_and_has_the_same_bits(
    make_project: MakeProject, model: Model, counted: dict[str, int], home: Path
) -> None:
    project = make_project(*TOLD)
    cold = encoded(project, model)
    made = dict(counted)
    assert min(made.values()) > 5
    warm = encoded(project, model)
    assert counted == made, "nothing is read, nothing encoded"
    assert same(cold, warm)
    assert len(shards(home)) == 2, "one of pictures, one of captions"


def test_a_training_is_the_same_without_a_cache_with_a_cold_and_with_a_warm_one(
    make_project: MakeProject, home: Path
) -> None:
    project = make_project(*TOLD, "train.steps=3")
    adapters = []
    for limit in ("0", "20", "20"):
        (home / "config.toml").write_text(f"cache_limit = {limit}", encoding="utf-8")
        list(api.train(project, new=True))
        assert bool(shards(home)) == (limit != "0")
        newest = sorted(project.glob("runs/*/checkpoints/step-000003/adapter.safetensors"))[-1]
        adapters.append(newest.read_bytes())
    assert adapters[0] == adapters[1] == adapters[2]


def test_only_what_has_changed_is_encoded_again(
    make_project: MakeProject, model: Model, counted: dict[str, int]
) -> None:
    project = make_project()
    encoded(project, model)
    before = dict(counted)
    (project / "dataset" / "0.txt").write_text("another caption", encoding="utf-8")
    changed = encoded(project, model)
    assert counted == {**before, "_read": before["_read"] + 1}
    told = next(one for one in changed.train + changed.held_out if one.prepared.captions == ("another caption",))
    with torch.no_grad():
        fresh = encoding._read(model, "another caption")
    assert torch.equal(told.texts[0].tokens_BLD, fresh.tokens_BLD), "an edited caption is not trained stale"

    stamp = (project / "dataset" / "1.png").stat()
    tiny.picture(project / "dataset" / "1.png", (96, 48), 4711)
    os.utime(project / "dataset" / "1.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    before = dict(counted)
    encoded(project, model)
    assert counted == {**before, "_latents": before["_latents"] + 1, "_pixels": before["_pixels"] + 1}


def test_pictures_that_were_decoded_once_are_not_again(
    make_project: MakeProject, model: Model, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = images.open_image

    def opening(path: Path, **more: Any) -> Any:
        opened.append(path.name)
        return real(path, **more)

    for module in (images, duplicates):
        monkeypatch.setattr(module, "open_image", opening)
    project = make_project(pictures=5)
    first = read_pictures(load(project), project, model)
    assert len(opened) == 10
    again = read_pictures(load(project), project, model)
    assert len(opened) == 10 and again == first
    tiny.picture(project / "dataset" / "1.png", (96, 48), 4711)
    read_pictures(load(project), project, model)
    assert opened[10:] == ["1.png"] * 2
    (home / "cache" / "pictures.json").write_text('{"a": 1}')
    assert read_pictures(load(project), project, model).prepared[0].picture.sha256
    assert len(opened) == 22


def test_another_cut_size_or_reading_is_another_record(
    make_project: MakeProject, model: Model, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(pictures=2)
    encoded(project, model)
    before = dict(counted)
    path = project / "recipe.toml"
    path.write_text(path.read_text().replace('resolution = "none"', "resolution = 96", 1))
    encoded(project, model)
    assert counted == {**before, "_latents": before["_latents"] + 2, "_pixels": before["_pixels"] + 2}
    before = dict(counted)
    monkeypatch.setattr(model, "clip_skip", 2)
    encoded(project, model)
    assert counted["_read"] == before["_read"] + 3, "two captions and the empty one"
    before = dict(counted)
    monkeypatch.setattr(model, "hash", "another base")
    encoded(project, model)
    assert (counted["_latents"], counted["_read"]) == (before["_latents"] + 2, before["_read"] + 3)


@pytest.mark.parametrize("damage", ["a bit", "the end", "the header", "everything"])
def test_a_damaged_shard_is_noticed_and_made_again(
    make_project: MakeProject, model: Model, counted: dict[str, int], home: Path, damage: str
) -> None:
    project = make_project(pictures=3)
    whole = encoded(project, model)
    made = dict(counted)
    for path in shards(home):
        data = bytearray(path.read_bytes())
        if damage == "a bit":
            data[-5] ^= 1
        elif damage == "the end":
            del data[-9:]
        elif damage == "the header":
            data[20] ^= 255
        else:
            data[:] = b""
        beside = path.with_suffix(".new")  # the file that is mapped is not touched
        beside.write_bytes(bytes(data))
        beside.replace(path)
    assert same(encoded(project, model), whole)
    again = dict(counted)
    once = damage == "a bit"  # what else is in its shard is whole, and kept
    assert again["_latents"] == made["_latents"] + (1 if once else made["_latents"])
    assert again["_read"] == made["_read"] + (1 if once else made["_read"])
    assert same(encoded(project, model), whole)
    assert counted == again
    assert not list((home / "cache").rglob("*.part"))


def test_tensors_keep_every_bit_in_the_least_room(home: Path) -> None:
    record = {
        "latents": torch.tensor([1.0, -0.0, 3.1415927, float("inf"), 1e-42]),
        "tokens": torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).bfloat16().float(),
        "pooled": torch.tensor([0.1], dtype=torch.float16),
        "mask": torch.tensor([[True, False]]),
    }
    one = Cache("encoder")
    one.put("a", record)
    one.flush()
    back = Cache("encoder").get("a")
    assert back is not None and set(back) == set(record)
    for name, tensor in record.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert torch.equal(back[name].view(torch.uint8), tensor.view(torch.uint8)), name
    (path,) = shards(home)
    kept = {name: entry.dtype for name, entry in tensorfile.read_header(path).entries.items()}
    assert kept == {"a/latents": "F32", "a/tokens": "BF16", "a/pooled": "F16", "a/mask": "BOOL"}


def test_two_starts_at_once_each_keep_what_they_made(home: Path) -> None:
    one, other = Cache("encoder"), Cache("encoder")
    one.put("a", {"latents": torch.ones(3)})
    one.put("b", {"latents": torch.zeros(3)})
    other.put("b", {"latents": torch.zeros(3)})
    other.put("c", {"latents": torch.full((3,), 2.0)})
    one.flush()
    other.flush()
    third = Cache("encoder")
    for name, value in (("a", 1.0), ("b", 0.0), ("c", 2.0)):
        found = third.get(name)
        assert found is not None and found["latents"].tolist() == [value] * 3
    assert Cache("another encoder").get("a") is None
    assert third.get("d") is None


def test_the_shards_longest_out_of_use_go_where_there_is_too_much(home: Path) -> None:
    (home / "config.toml").write_text("cache_limit = 0.000009", encoding="utf-8")  # 9 kB
    for number, name in enumerate(("old", "used", "newer")):
        made = Cache(f"encoder {number}")
        made.put(name, {"latents": torch.rand(500)})
        made.flush()
        for path in shards(home):
            if number == len(shards(home)) - 1:
                os.utime(path, (1e9 + number, 1e9 + number))
    for path in (home / "cache" / "encoded").rglob("*.safetensors"):
        stamp = 1e9 + int(b"newer" in path.read_bytes()) + 2 * int(b"used" in path.read_bytes())
        os.utime(path, (stamp, stamp))
    assert Cache("encoder 1").get("used") is not None
    another = Cache("encoder 3")
    another.put("last", {"latents": torch.rand(1000)})
    another.flush()
    assert Cache("encoder 0").get("old") is None
    assert Cache("encoder 3").get("last") is not None
    assert Cache("encoder 1").get("used") is not None, "what was used last is kept"


def test_a_cache_that_cannot_be_written_is_said_and_the_training_goes_on(
    make_project: MakeProject, model: Model, home: Path
) -> None:
    project = make_project(pictures=2)
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / "encoded").write_text("in the way")
    events = list(encode(model, read_pictures(load(project), project, model).prepared))
    assert isinstance(events[-1], Cached)
    assert any(isinstance(one, Note) and "is not kept for another start" in one.text for one in events)


def test_what_is_encoded_is_shown(make_project: MakeProject, model: Model) -> None:
    project = make_project(pictures=2)
    prepared = read_pictures(load(project), project, model).prepared
    cold = [one for one in encode(model, prepared) if isinstance(one, Progress)]
    warm = [one for one in encode(model, prepared) if isinstance(one, Progress)]
    assert [one.stage for one in cold] == ["encoding pictures"] * 2 + ["encoding captions"] * 3
    assert [one.stage for one in warm] == ["encoding pictures"] * 2


def test_a_key_names_all_it_is_made_of() -> None:
    assert key("caption", "a", None) != key("caption", "a", "None") != key("captiona", None)


def test_captions_are_encoded_anew_by_another_tokenizer(
    make_project: MakeProject, model: Model, counted: dict[str, int]
) -> None:
    project = make_project()
    encoded(project, model)
    made = dict(counted)
    (known,) = model.tokenizers
    told = json.loads(known.tokenizer.to_str())
    told["model"]["merges"].pop()  # texts are cut into other tokens
    other = type(known.tokenizer).from_str(json.dumps(told))
    encoded(project, replace(model, tokenizers=(replace(known, tokenizer=other),)))
    assert counted["_read"] == 2 * made["_read"] and counted["_latents"] == made["_latents"]
