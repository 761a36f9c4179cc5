"""`velatura dataset tag` and `caption` as a user has them, with a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.captioning.fake_server import Fake, Reply, completion, serving, vllm_error
from tests.cli.conftest import Velatura
from tests.paintings import clouds
from velatura.captioning import chosen
from velatura.errors import SettingsError

KEY = "sk-secret-0123456789"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """Three pictures, the last one with a person's caption."""
    made = tmp_path / "set"
    made.mkdir()
    for seed in range(3):
        clouds(seed, (48, 32)).save(made / f"{seed}.png")
    (made / "2.txt").write_text("my own words")
    return made


def test_a_set_is_captioned_by_a_server_long_and_short(velatura: Velatura, fake: Fake, folder: Path) -> None:
    fake.replies = [lambda one: Reply(completion(f"caption, {one.body['messages'][0]['content'][0]['text']}"))]
    told = ("dataset", "caption", "set", "--endpoint", fake.url, "--prompt", "In full", "--prompt", "In short")

    done = velatura(*told)

    assert done.code == 0 and done.out == "2 captions written\n" and "leave this machine" not in done.err
    assert "kept, because a person wrote them: 2.png" in done.err
    assert (folder / "0.txt").read_text() == "caption, In full\ncaption, In short\n"
    assert (folder / "2.txt").read_text() == "my own words"
    velatura("dataset", "edit", "set", "--trigger", "mara")
    assert (folder / "0.txt").read_text() == "mara, caption, In full\nmara, caption, In short\n"
    assert velatura(*told, "--replace-own").out == "3 captions written\n"
    assert "captions by endpoint: model seeing" in velatura("dataset", "history", "set").out


def test_a_dry_run_writes_nothing_and_a_failure_is_named(velatura: Velatura, fake: Fake, folder: Path) -> None:
    fake.replies = [Reply(completion("a boat")), Reply(completion("I'm sorry, but I can't describe people."))]
    told = ("dataset", "caption", "set", "--endpoint", fake.url, "--where", "captions:0")

    shown = velatura(*told, "--dry-run")

    none = velatura("dataset", "caption", "set", "--template", "x", "--where", "captions:9", "--dry-run")
    assert none.code == 0 and none.out == "" and none.err == "no picture is meant by that\n"
    assert shown.code == 1 and shown.out.startswith("0.png\n  a boat\n1.png\n  none: the model refuses: I'm sorry")
    assert not (folder / "0.txt").exists()
    fake.replies = [Reply(completion("a boat")), Reply(completion(""))]
    done = velatura(*told)
    assert done.code == 1 and "1.png has no new caption: the answer is empty" in done.err
    assert (folder / "0.txt").read_text() == "a boat\n"


def test_a_server_that_is_gone_ends_in_one_sentence_and_the_same_command_goes_on(
    velatura: Velatura, fake: Fake, folder: Path
) -> None:
    told = ("dataset", "caption", "set", "--endpoint", fake.url)
    fake.replies = [Reply(completion("a boat")), vllm_error(404, "The model `seeing` does not exist.", "NotFoundError")]

    gone = velatura(*told)

    assert gone.code == 2 and gone.out == "" and gone.err.count("error:") == 1
    assert "no such model: The model `seeing` does not exist (127.0.0.1); name one with --model" in gone.err
    assert "1 caption written so far" in gone.err and (folder / "0.txt").read_text() == "a boat\n"
    fake.replies = [Reply(completion("a tree"))]
    assert velatura(*told, "--json").json[0]["written"] == ["0.png", "1.png"]


def test_captioners_are_shown_side_by_side(
    velatura: Velatura, fake: Fake, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "config.toml").write_text(
        f'[captioners.short]\nendpoint = "{fake.url}"\nprompt = "In short"\n'
        '[captioners.plain]\ntemplate = "ink drawing, {caption}"\n'
    )
    fake.replies = [lambda one: Reply(completion(f"a boat, {one.body['messages'][0]['content'][0]['text'].lower()}"))]
    told = ("dataset", "caption", "set", "--try", "short, plain", "2")

    monkeypatch.setenv("COLUMNS", "120")
    wide = velatura(*told, "--endpoint", fake.url, "--prompt", "At length")
    assert wide.code == 0
    assert wide.out.splitlines()[1].split() == ["these", "options", "short", "plain"]
    assert (
        "a boat, at length" in wide.out and "a boat, in short" in wide.out and "ink drawing, my own words" in wide.out
    )
    monkeypatch.setenv("COLUMNS", "50")
    narrow = velatura(*told).out
    assert narrow == "2.png\n  short:\n  a boat, in short\n  plain:\n  ink drawing, my own words\n"
    found = velatura(*told, "--json").json[0]
    assert found["captioners"]["plain"] == {"captions": ["ink drawing, my own words"], "why": ""}
    assert (folder / "2.txt").read_text() == "my own words" and not (folder / ".originals").exists()
    unnamed = velatura("dataset", "caption", "set", "--try", "short")
    assert unnamed.code == 2 and "which picture" in unnamed.err


def test_where_pictures_leave_the_machine_it_is_said_and_offline_forbids_it(velatura: Velatura, home: Path) -> None:
    away = velatura("dataset", "caption", "set", "--endpoint", "http://nowhere.invalid/v1", "--model", "x")
    assert away.code == 2 and "the pictures leave this machine: they are sent to nowhere.invalid" in away.err
    (home / "config.toml").write_text("offline = true\n")
    kept = velatura("dataset", "caption", "set", "--endpoint", "http://nowhere.invalid/v1", "--model", "x")
    assert kept.code == 2 and "nothing goes out" in kept.err


def test_the_key_comes_from_the_environment_or_the_settings(
    velatura: Velatura, fake: Fake, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("dataset", "caption", "set", "0", "--dry-run", "--endpoint", fake.url)
    monkeypatch.setenv("VELATURA_API_KEY", KEY)
    velatura(*told)
    monkeypatch.setenv("MINE", f"{KEY}9\n")
    velatura(*told, "--key-from", "MINE")
    (home / "config.toml").write_text(f'[captioners.c]\nendpoint = "{fake.url}"\nkey = "{KEY}-c"\n')
    velatura("dataset", "caption", "set", "0", "--dry-run", "--by", "c")

    keys = [one.headers["Authorization"].removeprefix("Bearer ") for one in fake.asked]
    assert keys == [KEY, f"{KEY}9", f"{KEY}-c"]
    missing = velatura(*told, "--key-from", "NOTHING_HERE")
    assert missing.code == 2 and "NOTHING_HERE has no key" in missing.err


def test_settings_of_a_captioner_are_its_own(velatura: Velatura, fake: Fake, home: Path) -> None:
    (home / "config.toml").write_text(
        '[captioners.slip]\nendpoint = "http://localhost:1"\nmodel = "x"\ntemprature = 1\n'
        f'[captioners.secret]\nendpoint = "{fake.url}"\nkey = {{ a = "{KEY}" }}\n'
        '[captioners.two]\ntemplate = "x"\ntagger = "y"\n'
    )
    refused = {
        ("--template", "x", "--temperature", "1"): "a captioner of the kind template has no temperature",
        ("--model", "x", "--timeout", "3"): "a captioner of the kind model has no timeout",
        ("--template", "x", "--endpoint", fake.url): "template and endpoint are two captioners",
        ("--template", "{tags}"): "{tags} is asked for, and no tagger named",
        ("--by", "slip"): "did you mean temperature?",
        ("--by", "slop"): "no captioner is named slop; did you mean slip?",
        ("--by", "two"): "template and tagger are two captioners",
        ("--by", "secret"): "captioners.secret in config.toml",
        ("--model", "nowhere/at all"): "no such model",
        (): "who is to caption is not said",
        ("--prompt", "x"): "who is to caption is not said",
    }
    for words, sentence in refused.items():
        answer = velatura("dataset", "caption", "set", *words)
        assert answer.code == 2 and sentence in answer.err and KEY not in answer.err, words


def test_a_tagger_may_be_given_to_a_captioner(velatura: Velatura, fake: Fake, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="taggers run with onnxruntime")
    pytest.importorskip("onnx", reason="the small model is made with onnx")
    from tests.captioning.test_wd14 import model

    model(tmp_path / "tagger")
    asked = ("dataset", "caption", "set", "--endpoint", fake.url, "--with-tags", "tagger", "--prompt", "Seen: {tags}.")
    assert velatura(*asked).code == 0
    words = [one.body["messages"][0]["content"][0]["text"] for one in fake.asked]
    assert all(one.startswith("Seen: jeanne (alter), ") for one in words)
    shown = velatura("dataset", "caption", "set", "--try", f"tagger,{fake.url}", "0", "--json").json[0]["captioners"]
    assert set(shown) == {"tagger", fake.url} and shown["tagger"]["captions"][0].startswith("jeanne (alter)")


def test_captioners_are_made_from_plain_settings_in_python(fake: Fake) -> None:
    made = chosen.captioner({"endpoint": fake.url, "prompt": ["a", "b"], "max_tokens": 5})
    assert made.settings["prompts"] == ("a", "b") and made.settings["max_tokens"] == 5
    with pytest.raises(SettingsError, match="max_tokens"):
        chosen.captioner({"endpoint": fake.url, "max_tokens": 0})
