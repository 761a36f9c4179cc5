"""Which base a name means, where its parts lie, and what happens where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import sparse
from velatura import bases, settings
from velatura.bases import BaseFiles
from velatura.errors import FileProblem, ModelError, SettingsError, VelaturaError
from velatura.weights import search

WITHOUT_VAE = {
    **{f"model.diffusion_model.{name}": told for name, told in sparse.FLUX.items()},
    **{f"text_encoders.clip_l.transformer.{name}": told for name, told in sparse.CLIP_L.items()},
    **{f"text_encoders.t5xxl.transformer.{name}": told for name, told in sparse.T5.items()},
}
"""FLUX.1-dev in one file, but for its autoencoder."""


def configure(home: Path, **folders: Path) -> None:
    lines = [f"{kind} = ['{folder}']" for kind, folder in folders.items()]
    (home / "config.toml").write_text("\n".join(["[folders]", *lines]), encoding="utf-8")


@pytest.fixture
def lacking(tmp_path: Path) -> Path:
    """A checkpoint without its autoencoder."""
    return sparse.write(tmp_path / "bases" / "dream.safetensors", WITHOUT_VAE)


@pytest.fixture
def vaes(home: Path, tmp_path: Path) -> Path:
    """A folder of autoencoders that the user has named."""
    configure(home, vaes=tmp_path / "vaes", bases=tmp_path / "bases")
    return tmp_path / "vaes"


def test_a_part_that_no_given_file_holds_is_found_by_its_header(lacking: Path, vaes: Path) -> None:
    sparse.write(vaes / "kl.safetensors", sparse.vae(4))  # Stable Diffusion's, which does not fit
    sparse.write(vaes / "clip_l.safetensors", sparse.CLIP_L)
    right = sparse.write(vaes / "a folder" / "ae \N{ARTIST PALETTE}.safetensors", sparse.vae(16))

    base = bases.locate(BaseFiles(lacking))

    assert base.parts["vae"].files == (right,)
    assert base.notes == (f"the autoencoder (VAE) is taken from {right.name}, found in your folders",)


def test_a_file_that_is_named_comes_before_what_could_be_found(lacking: Path, vaes: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        sparse.write(vaes / f"{name}.safetensors", sparse.vae(16))
    own = sparse.write(tmp_path / "own.safetensors", sparse.vae(16))

    base = bases.locate(BaseFiles(lacking, vae=own))

    assert (base.parts["vae"].files, base.notes) == ((own,), ())


def test_several_files_with_the_part_are_named_and_none_is_taken(lacking: Path, vaes: Path) -> None:
    both = [sparse.write(vaes / place / "kl.safetensors", sparse.vae(16)) for place in ("a", "b")]

    with pytest.raises(ModelError, match=r"holds no autoencoder.*2 files in your folders do") as problem:
        bases.locate(BaseFiles(lacking))

    assert all(str(path) in problem.value.what for path in both)
    assert problem.value.fix == "name the right one with --vae FILE"


def test_a_whole_checkpoint_is_no_source_of_parts_and_other_folders_are_not_searched(
    lacking: Path, vaes: Path, tmp_path: Path
) -> None:
    whole = {**WITHOUT_VAE, **{f"vae.{name}": told for name, told in sparse.vae(16).items()}}
    sparse.write(tmp_path / "bases" / "whole.safetensors", whole)
    sparse.write(tmp_path / "elsewhere" / "kl.safetensors", sparse.vae(16))

    with pytest.raises(ModelError, match="this checkpoint holds no autoencoder") as problem:
        bases.locate(BaseFiles(lacking))

    assert problem.value.fix == "give one with --vae FILE"


def test_one_file_under_two_names_is_one_candidate(lacking: Path, vaes: Path) -> None:
    path = sparse.write(vaes / "kl.safetensors", sparse.vae(16))
    try:
        (vaes / "the same.safetensors").symlink_to(path)
    except OSError:
        pytest.skip("this system makes no links")

    assert bases.locate(BaseFiles(lacking)).parts["vae"].files[0].resolve() == path


def test_an_autoencoder_that_looks_like_another_family_s_is_named_and_not_taken(vaes: Path, tmp_path: Path) -> None:
    """Those of Stable Diffusion 1.5 and SDXL differ in their scale alone, which no header tells."""
    file = sparse.write(tmp_path / "dream.safetensors", sparse.without(sparse.SD15, "first_stage_model."))
    found = sparse.write(vaes / "kl.safetensors", sparse.vae(4))

    with pytest.raises(ModelError, match=r"holds no autoencoder.*and another family's looks the same") as problem:
        bases.locate(BaseFiles(file))

    assert str(found) in problem.value.what
    assert problem.value.fix == "name the right one with --vae FILE"
    assert bases.locate(BaseFiles(file, vae=found)).parts["vae"].files == (found,)


def test_a_denoiser_alone_is_completed_from_three_files(home: Path, tmp_path: Path) -> None:
    configure(home, text_encoders=tmp_path / "text encoders", vaes=tmp_path / "vae")
    path = sparse.write(tmp_path / "flux1-dev.safetensors", sparse.FLUX)
    sparse.write(tmp_path / "text encoders" / "clip_l.safetensors", sparse.CLIP_L)
    sparse.write(tmp_path / "text encoders" / "t5xxl_fp8.safetensors", sparse.T5)
    sparse.write(tmp_path / "vae" / "ae.safetensors", sparse.vae(16))

    base = bases.locate(BaseFiles(path))

    found = {name: part.files[0].name for name, part in base.parts.items()}
    assert found == {
        "denoiser": "flux1-dev.safetensors",
        "text_encoder": "clip_l.safetensors",
        "text_encoder_2": "t5xxl_fp8.safetensors",
        "vae": "ae.safetensors",
    }
    assert len(base.notes) == 3


def test_damaged_files_in_the_folders_are_no_candidates(lacking: Path, vaes: Path) -> None:
    vaes.mkdir()
    for number, data in enumerate((b"", b"\xff" * 64, (64).to_bytes(8, "little") + b"{" * 64)):
        (vaes / f"{number}.safetensors").write_bytes(data)
    (vaes / "notes.txt").write_text("no weights")
    right = sparse.write(vaes / "kl.safetensors", sparse.vae(16))

    assert bases.locate(BaseFiles(lacking)).parts["vae"].files == (right,)


def test_headers_of_the_folders_are_read_once(lacking: Path, vaes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse.write(vaes / "kl.safetensors", sparse.vae(16))
    bases.locate(BaseFiles(lacking))
    monkeypatch.setattr(search, "read_header", lambda _: pytest.fail("was read again"))
    bases.locate(BaseFiles(lacking))


def test_a_folder_without_a_part_says_which(tmp_path: Path, home: Path, vaes: Path) -> None:
    folder = _folder(tmp_path / "folder")
    sparse.write(vaes / "kl.safetensors", sparse.vae(4))
    for path in (folder / "vae").iterdir():
        path.unlink()

    with pytest.raises(ModelError, match="no weights for its vae"):
        bases.locate(BaseFiles(folder))


def _folder(path: Path) -> Path:
    """A base in diffusers' form, without weights that mean anything."""
    index = {name: ["diffusers", "X"] for name in ("unet", "vae", "tokenizer")}
    path.mkdir(parents=True)
    (path / "model_index.json").write_text(
        json.dumps({**index, "text_encoder": ["transformers", "CLIPTextModel"]}), encoding="utf-8"
    )
    for part in ("unet", "vae", "text_encoder"):
        sparse.write(path / part / "model.safetensors", {"a": ("F16", (2,))})
    return path


@pytest.mark.parametrize(
    "name", ["../../outside.safetensors", "/etc/passwd", "sub/dir/x.safetensors", "..\\x", ".", ""]
)
def test_a_list_of_shards_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    sparse.write(tmp_path / "outside.safetensors", {"a": ("F16", (2,))})
    folder = _folder(tmp_path / "a" / "folder")
    (folder / "unet" / "model.safetensors").unlink()
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}), encoding="utf-8")

    try:
        files = bases.locate(BaseFiles(folder)).parts["denoiser"].files
    except VelaturaError:
        return
    assert all(path.parent == folder / "unet" for path in files)


LIES: dict[str, Callable[[bytes], bytes]] = {
    "longer than the file": lambda data: (1 << 40).to_bytes(8, "little") + data[8:],
    "a tensor behind the end": lambda data: data[:-1],
    "a shape that is not its size": lambda data: data.replace(b"[320, 768]", b"[320, 769]"),
    "a negative length": lambda data: data.replace(b"[320, 768]", b"[-32, 768]"),
    "not JSON": lambda data: data.replace(b"{", b"[", 1),
    "offsets the wrong way round": lambda data: data.replace(b'"data_offsets": [0, ', b'"data_offsets": [9, ', 1),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_in_one_sentence(tmp_path: Path, lie: str) -> None:
    path = sparse.write(tmp_path / "dream.safetensors", sparse.SD15)
    data = path.read_bytes()
    changed = LIES[lie](data)
    assert changed != data
    path.write_bytes(changed)

    with pytest.raises(FileProblem):
        bases.locate(BaseFiles(path))


def test_a_base_that_is_not_the_one_of_the_hash_is_refused(home: Path, tmp_path: Path) -> None:
    path = sparse.write(tmp_path / "bases" / "dream.safetensors", sparse.SD15)
    configure(home, bases=tmp_path / "bases")
    right = settings.file_hash(path)

    assert bases.find("dream", sha256=right).model == path
    assert bases.find("/on/another/machine/dream.safetensors", sha256=right).model == path
    for name in ("dream", str(path), "/on/another/machine/dream.safetensors"):
        with pytest.raises(
            ModelError, match=rf"not the base that is asked for.* begins with {right[:10]}, not with 000"
        ):
            bases.find(name, sha256="0" * 64)


def test_a_base_that_is_nowhere_is_never_another_one(home: Path, tmp_path: Path) -> None:
    sparse.write(tmp_path / "bases" / "dream-v2.safetensors", sparse.SD15)
    configure(home, bases=tmp_path / "bases")

    with pytest.raises(SettingsError, match=r"no base model is named /gone/dream\.safetensors; did you mean dream-v2"):
        bases.find("/gone/dream.safetensors")


def test_the_hash_of_a_folder_counts_every_part(tmp_path: Path) -> None:
    folder = bases.find("pocket")
    whole = bases.base_hash(bases.locate(folder))

    assert bases.find("pocket", sha256=whole) == folder
    with pytest.raises(ModelError, match="not the base"):
        bases.find("pocket", sha256=settings.file_hash(next(folder.model.rglob("*.safetensors"))))


def test_a_folder_describes_a_base_of_several_files(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bases" / "my flux"
    configure(home, bases=tmp_path / "bases")
    sparse.write(folder / "flux1-dev.safetensors", sparse.FLUX)
    sparse.write(folder / "parts" / "ae.safetensors", sparse.vae(16))
    clip = sparse.write(folder / "clip.safetensors", sparse.CLIP_L)
    t5 = sparse.write(tmp_path / "t5.safetensors", sparse.T5)
    (folder / "base.toml").write_text(
        "model = 'flux1-dev.safetensors'\nvae = 'parts/ae.safetensors'\n"
        f"text_encoders = ['clip.safetensors', '{t5}']\n",
        encoding="utf-8",
    )

    expected = BaseFiles(folder / "flux1-dev.safetensors", folder / "parts" / "ae.safetensors", (clip, t5))
    for name in ("my flux", str(folder), str(folder / "base.toml")):
        assert bases.find(name) == expected, name
    assert bases.find("my flux", vae=str(t5)).vae == t5
    assert bases.locate(expected).variant.family == "flux1"
    assert settings.list_bases() == [folder]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("modell = 'a'", "unknown setting modell .*did you mean model"),
        ("vae = 'ae.safetensors'", "model must name the file with the denoiser"),
        ("model = 'not there.safetensors'", "model must name the file with the denoiser"),
        ("model = 3", "model is not as it should be"),
        ("text_encoders = 'clip'", "text_encoders is not as it should be"),
        ("model = [", "is not valid TOML"),
    ],
)
def test_a_description_that_makes_no_sense_is_one_sentence(
    home: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "base.toml").write_text(text, encoding="utf-8")

    with pytest.raises(VelaturaError, match=sentence):
        bases.find(str(tmp_path))
