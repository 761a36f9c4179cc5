"""Lists of jobs: what lines mean, and that what was painted is not painted again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.generation.test_record import write_lora as write_lora
from tests.tiny import base as base
from tests.tiny import model as model
from velatura import api
from velatura.api.painting.sheets import read_list
from velatura.errors import PromptError, SettingsError
from velatura.events import Done, Note, Preview
from velatura.generation import carriers

LIST = """
# a comment
a red boat
--prompt "a house, at night" --negative_prompt "a cat" --steps 3 --seed 7 --n_iter 2
a boat
"""


@pytest.fixture
def request_(base: Path, tmp_path: Path) -> api.GenerateRequest:
    return api.GenerateRequest("", base=str(base), steps=2, cfg=3.0, width=64, height=64, out=tmp_path / "out")


def run(path: Path, request: api.GenerateRequest, *, stop_after: int | None = None) -> list[Any]:
    events = []
    stream = api.paint_list(path, request)
    for event in stream:
        events.append(event)
        if stop_after is not None and sum(isinstance(one, Preview) for one in events) == stop_after:
            stream.close()  # type: ignore[attr-defined]
            break
    return events


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".png")


def test_a_line_is_a_prompt_or_says_more_in_a1111_s_words(request_: api.GenerateRequest) -> None:
    found = read_list(LIST.splitlines(), request_, where="list.txt")
    assert [number for number, _ in found] == [3, 4, 5]
    assert [one.prompt for _, one in found] == ["a red boat", "a house, at night", "a boat"]
    told = found[1][1]
    assert (told.negative, told.steps, told.seed, told.count) == ("a cat", 3, 7, 2)
    assert found[0][1].steps == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--promt boat", "did you mean --prompt"),
        ('--prompt "a boat', "a quotation is not closed"),
        ("--prompt boat --seed", "--seed says nothing"),
        ("--prompt boat --seed seven", "'seven' is not a number"),
        ("--seed 7", "a job has no prompt"),
        ("--prompt boat house", "a job has no setting 'house'"),
        ("a boat <lora:nothing:1>", "nothing"),
    ],
)
def test_a_line_without_meaning_is_named_before_anything_is_painted(
    request_: api.GenerateRequest, tmp_path: Path, line: str, said: str
) -> None:
    (tmp_path / "list.txt").write_text(f"a boat\n{line}\n", encoding="utf-8")
    with pytest.raises((PromptError, SettingsError)) as refusal:
        run(tmp_path / "list.txt", request_)
    assert said in str(refusal.value)
    assert "list.txt, line 2" in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_list_that_is_cut_off_goes_on_where_it_was(request_: api.GenerateRequest, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(LIST, encoding="utf-8")
    run(path, request_, stop_after=2)
    first = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in names(tmp_path / "out")}
    assert len(first) == 2
    events = run(path, request_)
    assert next(event.text for event in events if isinstance(event, Note)) == (
        "2 of 4 pictures are there already, and are not painted again"
    )
    assert events[-1] == Done(4, {"folder": str(tmp_path / "out"), "painted": 2, "kept": 2})
    found = names(tmp_path / "out")
    assert len(found) == 4
    assert {"0004-7.png", "0004-8.png"} <= set(found)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first} == first
    *_, done = run(path, request_)
    assert (done.summary["painted"], done.summary["kept"]) == (0, 4)
    assert names(tmp_path / "out") == found


def test_a_list_in_pieces_paints_what_it_paints_at_once(request_: api.GenerateRequest, tmp_path: Path) -> None:
    from dataclasses import replace

    path = tmp_path / "list.txt"
    path.write_text(LIST, encoding="utf-8")
    whole = replace(request_, seed=3, out=tmp_path / "whole", batch=1)
    pieces = replace(whole, out=tmp_path / "pieces")
    run(path, whole)
    for _ in range(4):
        run(path, pieces, stop_after=1)
    assert names(tmp_path / "whole") == names(tmp_path / "pieces")
    for name in names(tmp_path / "whole"):
        with Image.open(tmp_path / "whole" / name) as one, Image.open(tmp_path / "pieces" / name) as other:
            assert one.tobytes() == other.tobytes()


def test_a_line_that_is_changed_is_painted_and_a_torn_file_too(request_: api.GenerateRequest, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a boat\na house\n", encoding="utf-8")
    run(path, request_)
    (one, other) = names(tmp_path / "out")
    path.write_text("a boat\na green house\n", encoding="utf-8")
    *_, done = run(path, request_)
    assert done.summary["painted"] == 1
    (tmp_path / "out" / one).write_bytes((tmp_path / "out" / one).read_bytes()[:50])
    *_, done = run(path, request_)
    assert (done.summary["painted"], done.summary["kept"]) == (1, 1)
    assert (tmp_path / "out" / one).stat().st_size == 50, "what is not ours is not overwritten"
    assert other in names(tmp_path / "out")


def test_jobs_with_loras_of_their_own_are_painted_each_with_its_own(
    request_: api.GenerateRequest, tmp_path: Path, write_lora: Any, home: Path
) -> None:
    write_lora(home / "ink.safetensors", 1)
    (home / "config.toml").write_text(f"[folders]\nloras = ['{home}']\n", encoding="utf-8")
    path = tmp_path / "list.txt"
    path.write_text("--prompt 'a boat' --seed 1\n--prompt 'a boat <lora:ink:0.8>' --seed 1\n", encoding="utf-8")
    run(path, request_)
    plain, inked = (carriers.read(tmp_path / "out" / name).record for name in names(tmp_path / "out"))
    assert plain is not None and inked is not None
    assert (plain["loras"], len(inked["loras"])) == ([], 1)  # type: ignore[arg-type]
    assert plain["pixels"] != inked["pixels"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has another signal")
def test_ctrl_c_ends_within_a_step_and_leaves_whole_pictures(base: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "velatura", "generate", "a boat", "--base", str(base), "-n", "500", "--batch", "1",
        "--steps", "4", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("picture:"):
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.strip().splitlines()[-1] == "stopped; the pictures painted so far are kept"
    assert 1 <= len(list((tmp_path / "out").iterdir())) < 500
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as image:
            image.load()
