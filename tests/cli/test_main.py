from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import velatura as package
from velatura.cli import _asked_for, app, crash
from velatura.errors import RecipeError
from velatura.events import Event, Note

Velatura = Callable[..., Any]

ROOT = Path(package.__file__).parents[1]


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, by the words that call it."""
    command = command or typer.main.get_command(app)
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))
    if path and not getattr(command, "commands", {}):
        yield path, command


COMMANDS = dict(commands())


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, which has imported nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        timeout=60,
        check=False,
    )


def test_every_step_of_the_loop_has_its_command() -> None:
    wanted = ["demo", "new", "plan", "train", "evaluate", "generate", "compare", "read", "bases", "doctor"]
    wanted += ["hint", "detect"]

    groups = ("dataset", "lora", "recipe", "refine", "runs")
    assert sorted(" ".join(path) for path in COMMANDS if path[0] not in groups) == sorted(wanted)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_explains_its_options(velatura: Velatura, path: tuple[str, ...]) -> None:
    answer = velatura(*path, "--help")

    assert answer.code == 0
    assert "--json" in answer.out or path == ("recipe", "schema"), "which is JSON in any case"
    for parameter in COMMANDS[path].params:
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in answer.out
        if parameter.name != "help":
            assert parameter.help, f"{' '.join(path)}: {parameter.name}"


def test_the_first_page_of_help_shows_every_command_with_a_whole_sentence(velatura: Velatura) -> None:
    answer = velatura("--help")

    listed = answer.out.split("Commands:")[1].strip().splitlines()
    assert len(listed) == 17
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_no_words_at_all_show_the_help(velatura: Velatura) -> None:
    answer = velatura()

    assert "Commands:" in answer.out + answer.err


def test_the_version_is_told(velatura: Velatura) -> None:
    assert velatura("--version").out == f"velatura {package.__version__}\n"


@pytest.mark.parametrize("words", [("trian",), ("datset", "check"), ("dataset", "chekc")])
def test_a_mistyped_command_is_named_with_the_one_that_was_meant(velatura: Velatura, words: tuple[str, ...]) -> None:
    answer = velatura(*words)

    assert answer.code == 2
    assert "Did you mean" in answer.err and answer.out == ""


@pytest.mark.parametrize("words", [("train", "--nwe"), ("generate", "x", "--steps", "few"), ("evaluate",)])
def test_wrong_usage_exits_with_2_and_without_traceback(velatura: Velatura, words: tuple[str, ...]) -> None:
    answer = velatura(*words)

    assert answer.code == 2
    assert "Traceback" not in answer.err and "Error: " in answer.err


HEAVY = "('torch', 'numpy', 'PIL', 'rich', 'pydantic', 'transformers', 'diffusers', 'scipy')"


def test_help_imports_nothing_heavy() -> None:
    code = (
        f"import sys; from velatura.cli import main; main(['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )

    answer = python(code)

    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr


def test_what_needs_no_torch_does_not_import_it(tmp_path: Path, pictures: Path) -> None:
    """Commands that people wait for, and the layers that the server of the web page is made of.

    `plan` is not among them: which devices there are, torch alone knows.
    """
    code = """
import importlib, os, pkgutil, sys
import velatura.cli, velatura.dataset, velatura.doctor
from velatura.cli import main
for package in (velatura.cli, velatura.dataset, velatura.doctor):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in "api bases brief files inventory project recipe run schema settings tensorfile".split():
    importlib.import_module(f"velatura.{name}")
os.chdir(sys.argv[1])
assert main(["new", "ink", "--images", sys.argv[2]]) == 0
assert main(["runs", "ink"]) == 0
assert main(["dataset", "check", "ink/dataset"]) in (0, 1)
assert main(["bases"]) == main(["doctor", "--base", "pocket"]) == 0
print("torch" in sys.modules or "transformers" in sys.modules or "diffusers" in sys.modules)
"""
    answer = python(code, tmp_path, pictures)

    assert answer.stdout.splitlines()[-1:] == ["False"], answer.stderr


def test_python_m_velatura_is_the_same_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "velatura", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert answer.stdout == f"velatura {package.__version__}\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437"])
def test_a_console_that_cannot_show_a_letter_shows_its_number(tmp_path: Path, pictures: Path, encoding: str) -> None:
    code = "import sys; from velatura.cli import main; sys.exit(main(sys.argv[1:]))"

    answer = python(code, "dataset", "check", pictures, "--json", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert answer.returncode in (0, 1), answer.stderr
    (pictures / "\N{ARTIST PALETTE}.png").write_text("no picture")
    answer = python(code, "dataset", "check", pictures, PYTHONIOENCODING=encoding, PYTHONUTF8="0")

    assert answer.returncode == 1
    assert "\\U0001f3a8.png is left out" in answer.stdout


# Errors


def failing(error: BaseException) -> Any:
    """Work that begins well and then fails."""

    def work(*_: object, **__: object) -> Iterator[Event]:
        yield Note("it begins")
        raise error

    return work


def test_an_expected_error_is_one_sentence(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RecipeError("unknown setting\ntrain.stpes", where="a\x1b[31m.toml", fix="did you mean train.steps?")
    monkeypatch.setattr("velatura.api.train", failing(error))

    answer = velatura("train")

    assert answer.code == 2 and answer.out == ""
    last = answer.err.splitlines()[-1]
    assert last == "error: unknown setting train.stpes (a\N{REPLACEMENT CHARACTER}[31m.toml); did you mean train.steps?"


def test_machines_are_told_the_parts_of_an_error(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("velatura.api.train", failing(RecipeError("what", where="where", fix="fix")))

    answer = velatura("train", "--json")

    assert answer.code == 2
    assert answer.json == [
        {"event": "note", "text": "it begins"},
        {"error": {"kind": "RecipeError", "what": "what", "where": "where", "fix": "fix"}},
    ]


def test_an_unexpected_error_is_one_sentence_and_a_file_without_anything_private(
    velatura: Velatura, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ottilie")
    monkeypatch.setattr("socket.gethostname", lambda: "castle")
    secret = f"{tmp_path}/diary.png of ottilie at castle"
    monkeypatch.setattr("velatura.api.train", failing(KeyError(secret)))

    answer = velatura("train")

    assert answer.code == 2 and answer.out == ""
    (written,) = (home / "cache" / "errors").iterdir()
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: something went wrong that should not: KeyError; please report it with ")
    assert last.endswith(f"{written.name}, which holds nothing private")
    text = written.read_text(encoding="utf-8")
    assert "Traceback" in text and "in work" in text and "/diary.png of <user> at <computer>" in text
    for private in (str(tmp_path), str(Path.home()), str(ROOT), "ottilie", "castle"):
        assert private not in text


def test_a_traceback_that_cannot_be_written_stops_nothing(
    velatura: Velatura, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "cache").write_text("a file in the place of the folder")
    (home / "config.toml").write_text("[broken")
    monkeypatch.setattr("velatura.api.train", failing(ZeroDivisionError()))

    answer = velatura("train")

    assert answer.code == 2
    assert (
        answer.err.splitlines()[-1]
        == "error: something went wrong that should not: ZeroDivisionError; please report it"
    )


class OutOfMemoryError(RuntimeError):
    """Bears the name of torch's own."""


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory")], ids=["host", "device"])
def test_a_full_memory_is_said_to_be_one(velatura: Velatura, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("velatura.api.train", failing(error))

    answer = velatura("train")

    assert answer.code == 2 and "error: the memory is full; take a smaller batch" in answer.err


def test_a_refusal_of_the_disk_is_one_sentence_wherever_it_happens() -> None:
    error = FileNotFoundError(2, "No such file or directory", "a.png")

    assert str(crash.explain(error)) == "there is no such file or folder (a.png); check the path"


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def work(*_: object, **__: object) -> Iterator[Event]:
        try:
            yield Note("it begins")
            raise KeyboardInterrupt
        finally:
            ended.append(True)

    monkeypatch.setattr("velatura.api.train", work)

    answer = velatura("train", "my ink", "--set", "train.steps=5", "--new")

    assert answer.code == 130 and ended == [True]
    again = "velatura train 'my ink' --set=train.steps=5"
    assert answer.err.splitlines()[-1] == f"stopped; `{again}` goes on from the last checkpoint"
    assert "Traceback" not in answer.err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_during_any_command_exits_with_130() -> None:
    code = """
import os, signal, sys
from velatura import cli
from velatura.cli import runs
import velatura.run
velatura.run.runs_of = lambda project: os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started deaf to it
sys.exit(cli.main(["runs"]))
"""
    answer = python(code)

    assert answer.returncode == 128 + signal.SIGINT
    assert answer.stderr.splitlines() == ["stopped"]


def test_only_the_command_that_is_asked_for_is_made() -> None:
    names = [str(one.callback.__name__) for one in app.registered_commands if one.callback]
    names += [str(one.typer_instance.info.name) for one in app.registered_groups if one.typer_instance]
    assert len(names) > 10
    for name in names:
        narrow = _asked_for([name, "--help"])
        assert len(narrow.registered_commands) + len(narrow.registered_groups) == 1
        assert narrow.registered_callback is app.registered_callback
    for told in ([], ["--help"], ["--version"], ["nothing"]):
        assert _asked_for(told) is app
