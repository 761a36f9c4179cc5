"""Commands that mend a finding may be pasted into a shell, whatever the pictures are called."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from velatura.dataset.findings import argument, place, quoted

NAMES = [
    *(
        "01.png",
        "10_mara/a b.png",
        "кошка.png",
        "it's.png",
        'a"b.png',
        "$(touch x).png",
        "`id`.png",
        "!!.png",
        "-x.png",
    ),
    *(
        "a;b.png",
        "a,b.png",
        "a&b.png",
        "a|b.png",
        "~a.png",
        "a\\b.png",
        "a\nb.png",
        "%PATH%.png",
        "#a.png",
        "*.png",
        "",
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_name_that_was_meant(name: str) -> None:
    read = shlex.split(argument([name]))

    assert [one.removeprefix("./") for one in read] == [name]
    assert not read[0].startswith("-")


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
def test_nothing_in_a_name_is_run_by_a_shell() -> None:
    told = subprocess.run(
        ["/bin/sh", "-c", "printf '%s\\0' " + " ".join(map(quoted, NAMES))], capture_output=True, check=True
    )
    assert told.stdout.decode().split("\0")[:-1] == NAMES


def test_plain_names_stand_without_quotes_and_others_in_double_ones_where_that_is_safe() -> None:
    assert argument(["01.png", "a b.png", "$x.png"]) == "01.png \"a b.png\" '$x.png'"
    assert argument([f"{index}.png" for index in range(8)]).endswith("5.png ...")


def test_folders_may_begin_in_the_user_s_own() -> None:
    assert place("~/my pictures/set") == '~/"my pictures/set"'
    assert place("my set") == '"my set"'
