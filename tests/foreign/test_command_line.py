"""Command lines as people keep them: in shell scripts, batch files, PowerShell, and pasted texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from velatura.errors import RecipeError
from velatura.foreign.command_line import read

HERE = Path("train.sh")

SHELL = """#!/bin/bash
# the second try, --learning_rate 9
DATA="/data/my pictures"
export RATE=1e-4
accelerate launch --num_cpu_threads_per_process=2 sd-scripts/sdxl_train_network.py \\
  --train_data_dir "$DATA" --learning_rate ${RATE} \\
  --optimizer_args "weight_decay=0.1" "betas=0.9,0.99" \\
  --gradient_checkpointing --text_encoder_lr 5e-5 1e-5 2>&1 | tee log.txt
"""

BATCH = """@echo off
rem --learning_rate 9
set DATA=C:\\my pictures
accelerate launch .\\train_network.py ^
 --train_data_dir "%DATA%" ^
 --noise_offset=-0.1 --cache_latents
"""


def test_a_shell_script_says_what_it_runs() -> None:
    found = read(SHELL, where=HERE)

    assert found.script == "sdxl_train_network"
    assert found.launcher == {"num_cpu_threads_per_process": "2"}
    assert found.told == {
        "train_data_dir": "/data/my pictures",
        "learning_rate": "1e-4",
        "optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"],
        "gradient_checkpointing": True,
        "text_encoder_lr": ["5e-5", "1e-5"],
    }


def test_a_batch_file_says_the_same_with_its_own_signs() -> None:
    found = read(BATCH.replace("\n", "\r\n").replace("\r\n", "\n"), where=HERE)

    assert found.script == "train_network"
    assert found.told == {"train_data_dir": "C:\\my pictures", "noise_offset": "-0.1", "cache_latents": True}


def test_a_module_behind_m_is_a_script_too() -> None:
    found = read("python -m musubi_tuner.zimage_train_network --dit a.safetensors", where=HERE)

    assert (found.script, found.told) == ("zimage_train_network", {"dit": "a.safetensors"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("echo hello", "this text holds no command that trains"),
        ("python train_network.py", "this text holds no command that trains"),
        ("python a_train.py --x 1\npython b_train.py --x 1", "holds 2 commands that train: a_train, b_train"),
        ("python train_network.py --output_name 'my", "a quote does not end in the line"),
    ],
)
def test_what_is_no_command_is_said_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        read(text, where=HERE)
