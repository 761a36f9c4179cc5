"""Bases on Hugging Face: found in the cache, else fetched, and every way in which that fails is one sentence."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from velatura import bases
from velatura.errors import FileProblem, ModelError, VelaturaError
from velatura.weights import fetching, hub

ID = "ada/dream-v2"

COMMIT = "0123456789abcdef" * 2 + "01234567"

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}

WHOLE = {
    "model_index.json": json.dumps(INDEX),
    "unet/config.json": "{}",
    "unet/diffusion_pytorch_model.safetensors": "weights",
    "vae/config.json": "{}",
    "vae/diffusion_pytorch_model.fp16.safetensors": "weights",
    "text_encoder/config.json": "{}",
    "text_encoder/model.safetensors": "weights",
    "tokenizer/vocab.json": "{}",
    "tokenizer/merges.txt": "",
    "scheduler/scheduler_config.json": "{}",
}

CLUTTER = (
    "README.md",
    "dream-v2.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/model.onnx",
    "unet/nested/config.json",
    "text_encoder/pytorch_model.bin",
    "text_encoder/flax_model.msgpack",
    "text_encoder/model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "v1.ckpt",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("the network was asked")

    for name in ("HfApi", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, refuse)


def snapshot(cache: Path, files: dict[str, str], identifier: str = ID, commit: str = COMMIT) -> Path:
    """What a fetch leaves behind."""
    repository = cache / f"models--{identifier.replace('/', '--')}"
    for name, text in files.items():
        path = repository / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    return repository / "snapshots" / commit


def site(
    monkeypatch: pytest.MonkeyPatch, cache: Path, files: dict[str, str], raising: Exception | None = None
) -> list[str]:
    """A site that has these files; what was fetched of them."""
    import huggingface_hub

    fetched: list[str] = []

    def info(_: str, *, files_metadata: bool) -> Any:
        if raising is not None:
            raise raising
        sizes = {name: len(text) if files_metadata else None for name, text in files.items()}
        listed = {**dict.fromkeys(CLUTTER, 1), **sizes}
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=name, size=size, lfs=None) for name, size in listed.items()]
        )

    def one(_: str, name: str, *, revision: str = COMMIT, cache_dir: Path) -> str:
        assert cache_dir == cache and revision == COMMIT
        fetched.append(name)
        return str(snapshot(cache, {name: files[name]}) / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(model_info=info))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", one)
    return fetched


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (ID, True),
        ("stabilityai/stable-diffusion-xl-base-1.0", True),
        ("pocket", False),
        ("models/dream.safetensors", False),
        ("a/b/c", False),
        ("../dream", False),
        ("~/dream", False),
        ("/dream", False),
        ("C:\\models\\dream", False),
        ("ada/dream v2", False),
        ("ada/\N{ARTIST PALETTE}", False),
    ],
)
def test_an_id_is_two_names_with_a_slash(name: str, known: bool) -> None:
    assert hub.is_id(name) is known


def test_a_base_that_is_whole_in_the_cache_is_taken_without_asking_anybody(cache: Path) -> None:
    folder = snapshot(cache, WHOLE)
    assert bases.find(ID).model == folder
    assert hub.all_cached() == {ID: folder}


def test_a_folder_that_is_named_like_an_id_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ada" / "dream-v2"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}", encoding="utf-8")
    assert bases.find(ID).model == Path(ID)


def test_of_a_repository_only_what_is_needed_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = site(monkeypatch, cache, WHOLE)
    folder = fetching.find(ID)
    assert folder == cache / "models--ada--dream-v2" / "snapshots" / COMMIT
    assert sorted(set(fetched)) == sorted(WHOLE)
    assert fetching.find(ID) == folder
    assert len(fetched) == len(WHOLE) + 1, "the list of parts is asked for first"


def test_a_fetch_that_was_cut_short_goes_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(cache, {name: text for name, text in WHOLE.items() if not name.startswith("unet/")})
    fetched = site(monkeypatch, cache, WHOLE)
    fetching.find(ID)
    assert any(name.startswith("unet/") for name in fetched)


def test_shards_are_fetched_with_their_list_and_half_precision_only_where_there_is_no_other() -> None:
    plain = [
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    ]
    half = [name.replace("model-", "model.fp16-") for name in plain]
    older = [name.replace(".safetensors", ".fp16.safetensors") for name in plain]
    lists = [
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    ]
    everything = [*plain, *half, *older, *lists]

    assert hub.needed(everything, ["unet"]) == [lists[0], *plain]
    assert hub.needed([*half, *older, lists[1]], ["unet"]) == [lists[1], *half, *older]
    assert hub.needed(["unet/diffusion_pytorch_model.bin"], ["unet"]) == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "config.toml"])
def test_nothing_is_fetched_where_that_is_switched_off(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "config.toml":
        (home / name).write_text("offline = true\n", encoding="utf-8")
    else:
        monkeypatch.setenv(name, "1")
    with pytest.raises(ModelError, match="neither a file here nor in the cache, and fetching is switched off"):
        bases.find(ID)


def refusal(kind: str) -> Exception:
    """One of the library's errors; how it is made differs from version to version."""
    from huggingface_hub import errors

    found: type[Exception] = getattr(errors, kind)
    return found.__new__(found)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (lambda: refusal("GatedRepoError"), "only given to who has agreed.*hf auth login"),
        (lambda: refusal("RepositoryNotFoundError"), "neither a file here nor a model on Hugging Face"),
        (lambda: ConnectionError("Name or service not known\nand more"), "failed: Name or service not known.*connect"),
        (lambda: RuntimeError(""), "fetching ada/dream-v2 failed: RuntimeError"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], sentence: str
) -> None:
    site(monkeypatch, cache, WHOLE, raising=error())
    with pytest.raises(ModelError, match=sentence) as problem:
        fetching.find(ID)
    assert "\n" not in str(problem.value)


def test_a_full_disk_is_the_disk_s_fault(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site(monkeypatch, cache, WHOLE, raising=OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(FileProblem, match="the disk is full"):
        fetching.find(ID)


def test_a_repository_without_a_base_or_without_safetensors_says_so(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(monkeypatch, cache, {})
    with pytest.raises(ModelError, match="not a base in diffusers' form"):
        fetching.find(ID)
    site(monkeypatch, cache, {name: text for name, text in WHOLE.items() if not name.startswith("vae/diff")})
    with pytest.raises(ModelError, match="no weights as safetensors for its vae"):
        fetching.find(ID)


@pytest.mark.parametrize("text", ["{", "[]", '"unet"', "null"])
def test_a_damaged_list_of_parts_is_one_sentence(cache: Path, text: str) -> None:
    snapshot(cache, {**WHOLE, "model_index.json": text})
    with pytest.raises(VelaturaError, match=r"model_index.json is damaged"):
        fetching.find(ID)


@pytest.mark.parametrize("part", ["../../../outside", "..", "un\\\\et", "/etc"])
def test_a_list_of_parts_does_not_lead_out_of_its_folder(cache: Path, part: str) -> None:
    folder = snapshot(cache, {**WHOLE, "model_index.json": json.dumps({**INDEX, part: ["diffusers", "Model"]})})
    assert fetching.find(ID) == folder


@pytest.mark.parametrize("commit", ["../../../elsewhere", "main", ""])
def test_a_cache_that_points_elsewhere_is_not_followed(cache: Path, commit: str) -> None:
    snapshot(cache, WHOLE)
    (cache / "models--ada--dream-v2" / "refs" / "main").write_text(commit, encoding="utf-8")
    assert hub.cached(ID) == cache / "models--ada--dream-v2" / "snapshots" / COMMIT
