"""The page on LoRA files says what the code does: each key of its tables is read, each kind is there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from velatura.adapters import formats, metadata
from velatura.adapters.endings import ENDINGS, split
from velatura.adapters.trainable import LAYERS
from velatura.families.names import keys, layers
from velatura.tensorfile import raw

PAGE = (Path(__file__).parents[2] / "docs" / "lora-files.md").read_text("utf-8")
NAMED = re.findall(r"^\| (\w+) \| ([^|]+) \| `([^`]+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("family", "program", "key"), NAMED)
def test_a_key_of_the_table_belongs_to_a_layer(family: str, program: str, key: str) -> None:
    attached = formats.attach({key: None}, keys=keys(family), layers=layers(family))
    assert not attached.strange and len(attached.stems) == 1
    if "(written)" in program:
        (owners,) = attached.owners.values()
        assert [keys(family).written(name) for name, _ in owners] == [split(key)[0]]


def test_the_table_has_every_family_and_the_programs_that_are_asked_for() -> None:
    told = " ".join(program for _, program, _ in NAMED)
    assert {family for family, _, _ in NAMED} == {"sd15", "sdxl", "flux1", "z_image"}
    for program in ("kohya", "musubi", "ai-toolkit", "OneTrainer", "diffusers", "PEFT folder", "LyCORIS", "XLabs"):
        assert program in told
    assert len(NAMED) > 25


def test_every_ending_that_is_read_is_told_of_and_the_other_way_round() -> None:
    table = PAGE[PAGE.index("| kind | keys |") : PAGE.index("- **Alpha.**")]
    told = set(re.findall(r"`([A-Za-z0-9_]+)`", table))
    known = {end for ending in ENDINGS for end in ending.removesuffix(".weight").split(".")} | set(ENDINGS.values())
    assert told - set(LAYERS) - {"_a", "_b"} <= known
    kinds = {"hada_w1_a", "lokr_w1", "lokr_t2", "diff", "w_norm", "on_input", "ia3_l", "oft_blocks", "lora_mid"}
    assert kinds <= told


def test_the_kinds_that_are_trained_are_the_table_s() -> None:
    table = PAGE[PAGE.index("| kind | keys |") : PAGE.index("- **Alpha.**")]
    rows = [line.split("|")[-2].strip() for line in table.splitlines()[2:] if line.startswith("|")]
    assert {row.strip("`") for row in rows if row} == set(LAYERS)


def test_the_forms_and_hashes_are_the_table_s() -> None:
    forms = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert set(formats.FORMS) <= set(forms)
    told = set(re.findall(r"^\| `([\w.]+)` \| [^|]+ \|$", PAGE, re.MULTILINE))
    assert told == set(metadata.hashes({"x": raw(np.ones(3, np.float32))}, {}))
