from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from velatura import settings
from velatura.errors import FileProblem, SettingsError


def configure(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text, encoding="utf-8")


def weights(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def diffusers_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "model_index.json").write_text("{}")
    return path


def test_without_a_file_there_are_no_folders_and_the_cache_is_the_systems(home: Path) -> None:
    assert settings.load() == settings.UserSettings(cache=home / "cache")


def test_folders_and_cache_are_read(home: Path) -> None:
    configure(
        home,
        'cache = "/big/cache"\noffline = true\n[folders]\nbases = ["/a", "/b"]\nloras = "/c"\n'
        'vaes = "/d"\ntext_encoders = ["/e"]\nembeddings = ["/f"]\n',
    )

    assert settings.load() == settings.UserSettings(
        bases=(Path("/a"), Path("/b")),
        loras=(Path("/c"),),
        vaes=(Path("/d"),),
        text_encoders=(Path("/e"),),
        embeddings=(Path("/f"),),
        cache=Path("/big/cache"),
        offline=True,
    )


def test_a_tilde_is_the_users_folder(home: Path) -> None:
    configure(home, '[folders]\nbases = ["~/models", "~nobody-of-that-name/models"]\n')

    assert settings.load().bases == (Path.home() / "models", Path("~nobody-of-that-name/models"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[folder]\n", "unknown setting folder.*did you mean folders?"),
        ("[folders]\nbase = []\n", "unknown setting base.*did you mean bases?"),
        ("folders = 5\n", "folders is a group of settings"),
        ("[folders]\nbases = [5]\n", "a folder is text in quotes, got 5"),
        ("cache = 5\n", "a folder is text in quotes, got 5"),
        ("[folders]\nvae = []\n", "unknown setting vae.*did you mean vaes?"),
        ('offline = "yes"\n', "offline is true or false, got 'yes'"),
        ("[folders\n", "not valid TOML"),
    ],
)
def test_wrong_settings_are_one_sentence(home: Path, text: str, sentence: str) -> None:
    configure(home, text)

    with pytest.raises(SettingsError, match=sentence) as caught:
        settings.load()

    assert caught.value.where == str(home / "config.toml")


def test_a_base_is_found_by_path_name_and_folder(home: Path, tmp_path: Path) -> None:
    single = weights(tmp_path / "bases" / "sub" / "Dream.v2.safetensors")
    folder = diffusers_folder(tmp_path / "bases" / "sd-v1.5")
    configure(home, f"[folders]\nbases = ['{tmp_path / 'bases'}']\n")

    assert settings.find_base(str(single)) == single
    assert settings.find_base("dream.v2") == single
    assert settings.find_base("Dream.v2.safetensors") == single
    assert settings.find_base("sd-v1.5") == folder
    assert settings.find_base("pocket") == settings.BUILT_IN_BASES["pocket"]


def test_a_base_may_lie_beside_the_recipe(tmp_path: Path) -> None:
    single = weights(tmp_path / "here.safetensors")

    assert settings.find_base("here.safetensors", beside=tmp_path) == single
    with pytest.raises(SettingsError):
        settings.find_base("here.safetensors")


def test_a_folder_named_runs_above_the_bases_does_not_hide_them(home: Path, tmp_path: Path) -> None:
    single = weights(tmp_path / "runs" / "bases" / "dream.safetensors")
    configure(home, f"[folders]\nbases = ['{tmp_path / 'runs' / 'bases'}']\n")

    assert settings.find_base("dream") == single


def test_what_lies_inside_a_base_s_folder_is_no_base_of_its_own(home: Path, tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "dream")
    weights(folder / "unet" / "diffusion_pytorch_model.safetensors")
    configure(home, f"[folders]\nbases = ['{tmp_path}']\n")

    assert settings.list_bases() == [folder]


def test_linked_folders_are_searched_and_a_circle_of_links_ends(home: Path, tmp_path: Path) -> None:
    weights(tmp_path / "elsewhere" / "dream.safetensors")
    (tmp_path / "bases").mkdir()
    try:
        (tmp_path / "bases" / "more").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "bases")
    except OSError:
        pytest.skip("this system makes no links")
    configure(home, f"[folders]\nbases = ['{tmp_path / 'bases'}']\n")

    assert settings.list_bases() == [tmp_path / "bases" / "more" / "dream.safetensors"]


@pytest.mark.parametrize("path", ["/models/of/ada/Dream v2 \N{ARTIST PALETTE}.safetensors", "D:\\models\\{}", "../{}"])
def test_a_path_of_another_machine_means_the_file_of_that_name_here(home: Path, tmp_path: Path, path: str) -> None:
    single = weights(tmp_path / "sub" / "Dream v2 \N{ARTIST PALETTE}.safetensors")
    configure(home, f"[folders]\nbases = ['{tmp_path}']\n")

    assert settings.find_base(path.format(single.name)) == single


def test_a_hash_decides_between_bases_of_one_name(home: Path, tmp_path: Path) -> None:
    weights(tmp_path / "a" / "dream.safetensors", b"one")
    second = weights(tmp_path / "b" / "dream.safetensors", b"two")
    configure(home, f"[folders]\nbases = ['{tmp_path}']\n")

    assert settings.find_base("dream", sha256=hashlib.sha256(b"two").hexdigest()) == second
    for digest in ("", hashlib.sha256(b"three").hexdigest()):
        with pytest.raises(SettingsError, match="2 files are named dream"):
            settings.find_base("dream", sha256=digest)


def test_a_part_is_found_in_its_own_folders_then_in_those_of_the_bases(home: Path, tmp_path: Path) -> None:
    base = weights(tmp_path / "bases" / "kl.safetensors")
    configure(home, f"[folders]\nbases = ['{tmp_path / 'bases'}']\nvaes = ['{tmp_path / 'vaes'}']\n")

    assert settings.find_part("kl", "vaes") == base
    own = weights(tmp_path / "vaes" / "kl.pt")
    assert settings.find_part("kl", "vaes") == own
    assert settings.find_part("kl", "text_encoders") == base
    assert settings.find_part(str(base), "vaes") == base
    with pytest.raises(SettingsError, match="no autoencoder is named k2; did you mean kl"):
        settings.find_part("k2", "vaes")


def test_the_name_of_a_fetched_base_is_that_of_its_repository(tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "models--ada--dream-v2" / "snapshots" / ("a" * 40))

    assert settings.base_name(folder) == "dream-v2"
    assert settings.base_name(diffusers_folder(tmp_path / "dream")) == "dream"


def test_an_unknown_base_names_the_nearest(home: Path, tmp_path: Path) -> None:
    weights(tmp_path / "dreamshaper.safetensors")
    configure(home, f"[folders]\nbases = ['{tmp_path}']\n")

    with pytest.raises(SettingsError, match="no base model is named dreamsharper; did you mean dreamshaper"):
        settings.find_base("dreamsharper")
    with pytest.raises(SettingsError, match="did you mean pocket"):
        settings.find_base("poket")
    with pytest.raises(SettingsError, match="velatura doctor"):
        settings.find_base("xyzzy")


def test_a_name_that_means_two_files_is_refused(home: Path, tmp_path: Path) -> None:
    for place in ("a", "b"):
        weights(tmp_path / place / "ink.safetensors")
    configure(home, f"[folders]\nloras = ['{tmp_path}']\n")

    with pytest.raises(SettingsError, match="2 files are named ink"):
        settings.find_lora("ink")


def test_of_a_lora_that_is_not_there_several_of_the_nearest_names_are_told(home: Path, tmp_path: Path) -> None:
    for name in ("Ink-wash-v2", "ink-wash-v3", "inkwell", "neon", "my-first-ink-wash"):
        weights(tmp_path / f"{name}.safetensors")
    configure(home, f"[folders]\nloras = ['{tmp_path}']\n")

    with pytest.raises(SettingsError, match=r"did you mean ink-wash-v3, Ink-wash-v2 or my-first-ink-wash\?"):
        settings.find_lora("ink-wash")
    with pytest.raises(SettingsError, match=r"did you mean neon\?"):
        settings.find_lora("neom")


def test_a_lora_of_the_project_comes_before_the_users_own(home: Path, tmp_path: Path) -> None:
    own = weights(tmp_path / "own" / "ink.safetensors")
    configure(home, f"[folders]\nloras = ['{tmp_path / 'own'}']\n")
    project = tmp_path / "project"

    assert settings.find_lora("ink", project=project) == own
    ours = weights(project / "ink.safetensors")
    assert settings.find_lora("ink", project=project) == ours
    shelf = weights(project / "loras" / "ink.safetensors")
    assert settings.find_lora("INK", project=project) == shelf


def test_checkpoints_inside_runs_are_no_loras_of_the_project(tmp_path: Path) -> None:
    weights(tmp_path / "runs" / "0001-ink" / "checkpoints" / "step-000100" / "adapter.safetensors")

    with pytest.raises(SettingsError, match="no LoRA is named adapter"):
        settings.find_lora("adapter", project=tmp_path)


def test_a_files_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights(tmp_path / "a.safetensors", b"one")
    first = settings.file_hash(path)
    assert first == hashlib.sha256(b"one").hexdigest()

    with monkeypatch.context() as patched:
        patched.setattr(settings, "sha256", lambda _: pytest.fail("was hashed again"))
        assert settings.file_hash(path) == first

    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert settings.file_hash(path) == hashlib.sha256(b"two").hexdigest()


def test_answers_are_kept_while_the_file_is_the_same(tmp_path: Path) -> None:
    one, two = weights(tmp_path / "1", b"a"), weights(tmp_path / "2", b"bb")
    asked: list[str] = []

    def ask(path: Path) -> list[int]:
        asked.append(path.name)
        return [path.stat().st_size]

    for _ in range(2):
        assert settings.remembered("sizes", [one, two], ask) == {one: [1], two: [2]}
    assert asked == ["1", "2"]
    one.write_bytes(b"ccc")
    assert settings.remembered("sizes", [one, two], ask)[one] == [3]
    assert asked == ["1", "2", "1"]


@pytest.mark.parametrize("damage", ["{", "[1, 2]", "\x00", "[" * 10_000])
def test_a_damaged_memory_of_hashes_is_an_empty_one(home: Path, tmp_path: Path, damage: str) -> None:
    weights(home / "cache" / "hashes.json", damage.encode())

    path = weights(tmp_path / "a.safetensors", b"one")

    assert settings.file_hash(path) == hashlib.sha256(b"one").hexdigest()


def test_a_cache_that_cannot_be_written_only_costs_time(home: Path, tmp_path: Path) -> None:
    (home / "cache").write_text("a file where the folder should be")

    path = weights(tmp_path / "a.safetensors", b"one")

    assert settings.file_hash(path) == hashlib.sha256(b"one").hexdigest()


def test_the_hash_of_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        settings.file_hash(tmp_path / "a.safetensors")


def test_a_lora_is_also_known_by_what_its_trainer_called_it(home: Path, tmp_path: Path) -> None:
    """As in A1111, whose prompts say `ss_output_name` where a file was renamed."""
    import numpy as np

    from velatura import tensorfile

    (home / "config.toml").write_text(f"[folders]\nloras = ['{tmp_path}']\n")
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    held = {"x": np.zeros(1, np.float32)}
    for name, called in (("renamed", "Ink v2"), ("other", "wash"), ("third", "wash"), ("ink", "wash")):
        data = tensorfile.to_bytes(held, {"ss_output_name": called})
        (tmp_path / f"{name}.safetensors").write_bytes(data)
    assert settings.find_lora("ink V2") == tmp_path / "renamed.safetensors"
    assert settings.find_lora("ink") == tmp_path / "ink.safetensors"
    with pytest.raises(SettingsError, match="3 files are named wash"):
        settings.find_lora("wash")
    with pytest.raises(SettingsError, match="did you mean renamed"):
        settings.find_lora("renaimed")
