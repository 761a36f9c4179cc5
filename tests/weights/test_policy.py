"""Which policy suits which base on which machine: decided from facts alone, each choice with its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from velatura import tensorfile
from velatura.doctor.devices import Device
from velatura.errors import SettingsError
from velatura.recipe import MemorySettings
from velatura.weights.parts import PartFiles
from velatura.weights.policy import BaseFacts, MemoryPolicy, choose, counted, precision, written

GB = 10**9
PLAIN_CPU = Device("cpu", "the processor", 32 * GB, 20 * GB, bf16=False)
CPU = replace(PLAIN_CPU, bf16=True)
CARD = Device("cuda", "RTX", 24 * GB, 23 * GB, bf16=True)
OLD_CARD = Device("cuda", "GTX", 8 * GB, 7 * GB, bf16=False)
MAC = Device("mps", "Apple's graphics", 32 * GB, 20 * GB, bf16=True)
POCKET = BaseFacts({"denoiser": 3_000_000, "text_encoder": 1_000_000, "vae": 1_000_000})
SDXL = BaseFacts({"denoiser": 2_570_000_000, "text_encoder": 820_000_000, "vae": 84_000_000}, vae_overflows=True)
FLUX = BaseFacts({"denoiser": 11_900_000_000, "text_encoder": 4_880_000_000, "vae": 84_000_000}, fp16_overflows=True)
NOTHING = MemorySettings()


def policy(*devices: Device, base: BaseFacts = SDXL, task: Any = "train", **told: Any) -> MemoryPolicy:
    return choose(devices, base, MemorySettings(**told), task=task).policy


@pytest.mark.parametrize("devices", [(PLAIN_CPU,), (CPU,), (CARD, CPU), (MAC, CPU)])
def test_a_small_base_is_plain_on_every_machine(devices: tuple[Device, ...]) -> None:
    assert policy(*devices, base=POCKET) == MemoryPolicy()


@pytest.mark.parametrize(
    ("devices", "base", "expected"),
    [
        ((PLAIN_CPU,), SDXL, ("cpu", "fp32", "fp32")),
        ((CPU,), SDXL, ("cpu", "bf16", "fp32")),
        ((CARD, CPU), SDXL, ("cuda", "bf16", "fp32")),
        ((CARD, CPU), FLUX, ("cuda", "bf16", "bf16")),
        ((OLD_CARD, CPU), SDXL, ("cuda", "fp16", "fp32")),
        ((OLD_CARD, CPU), replace(SDXL, vae_overflows=False), ("cuda", "fp16", "fp16")),
        ((OLD_CARD, CPU), FLUX, ("cuda", "fp32", "fp32")),
        ((MAC, CPU), SDXL, ("mps", "bf16", "fp32")),
        ((replace(MAC, bf16=False), CPU), SDXL, ("mps", "fp32", "fp32")),
    ],
)
def test_device_and_precisions_follow_from_machine_and_base(
    devices: tuple[Device, ...], base: BaseFacts, expected: tuple[str, str, str]
) -> None:
    chosen = policy(*devices, base=base)
    assert (chosen.device, precision(chosen.dtype), precision(chosen.vae_dtype)) == expected


def test_what_saves_memory_is_on_where_weights_leave_little_room() -> None:
    roomy, card, full = policy(replace(CARD, total=80 * GB), CPU), policy(CARD, CPU), policy(OLD_CARD, CPU)
    assert [one.checkpointing for one in (roomy, card, full)] == [False, True, True]
    assert [one.vae_tiling for one in (roomy, card, full)] == [False, False, True]
    assert not policy(CARD, CPU, task="paint").checkpointing
    assert policy(replace(CARD, total=None), CPU).checkpointing is False


def test_the_choice_does_not_depend_on_what_happens_to_be_free() -> None:
    full = replace(CARD, free=0)
    assert policy(full, CPU) == policy(CARD, CPU)
    assert choose([CARD, CPU], SDXL, NOTHING, task="train").warnings == ()
    (warning,) = choose([full, CPU], SDXL, NOTHING, task="train").warnings
    assert "7.1 GB at a time, in bf16" in warning
    assert "0.0 GB are free" in warning


def test_every_choice_is_overridden_by_what_the_user_asks_for() -> None:
    asked: dict[str, Any] = {
        "device": "cpu",
        "precision": "fp16",
        "vae_precision": "bf16",
        "vae_tiling": True,
        "checkpointing": False,
        "in_turn": True,
        "quantised": "int4",
        "swapped_blocks": 1,
    }
    choice = choose([OLD_CARD, CPU], replace(SDXL, blocks=lambda: (1, 1)), MemorySettings(**asked), task="train")
    assert written(choice.policy) == MemorySettings(**asked)
    assert sum("asked for" in reason for reason in choice.reasons) == len(asked)


def test_a_policy_that_is_written_down_is_chosen_again() -> None:
    for devices in ([CARD, CPU], [OLD_CARD, CPU], [CPU]):
        for base in (SDXL, replace(FLUX, blocks=lambda: (10, 10, 10))):
            first = choose(devices, base, NOTHING, task="train").policy
            assert choose(devices, base, written(first), task="train").policy == first


@pytest.mark.parametrize(
    ("devices", "told", "says"),
    [
        ([CPU], {"device": "cuda"}, "no cuda device.*memory.device.*use cpu"),
        ([CARD, CPU], {"device": "mps"}, "no mps device.*use cuda or cpu"),
        ([replace(MAC, bf16=False), CPU], {"precision": "bf16"}, "macOS 14"),
        ([CPU], {"swapped_blocks": 3}, "memory.swapped_blocks no blocks are known"),
    ],
)
def test_what_a_device_cannot_do_is_one_sentence(devices: list[Device], told: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        choose(devices, SDXL, MemorySettings(**told), task="train")
    sentence = f"{caught.value.where} {caught.value}"
    for piece in says.split(".*"):
        assert piece in sentence


def test_what_is_unwise_is_warned_of_and_done() -> None:
    half = choose([CARD, CPU], FLUX, MemorySettings(precision="fp16"), task="paint")
    assert half.policy.dtype == torch.float16
    assert any("fp16 cannot hold" in warning for warning in half.warnings)
    slow = choose([PLAIN_CPU], POCKET, MemorySettings(precision="bf16"), task="paint")
    assert any("does not compute in bf16" in warning for warning in slow.warnings)
    black = choose([CARD, CPU], SDXL, MemorySettings(vae_precision="fp16"), task="paint")
    assert any("overflows in fp16" in warning for warning in black.warnings)


def test_adapters_are_merged_only_into_weights_that_are_there_and_hold_the_sum() -> None:
    assert MemoryPolicy().merges
    assert MemoryPolicy(dtype=torch.float16).merges
    stored: list[dict[str, Any]] = [{"quantised": "int8"}, {"swapped_blocks": 1}, {"in_turn": True}]
    for told in ({"dtype": torch.bfloat16}, *stored):
        assert not MemoryPolicy(**told).merges


def test_weights_are_counted_from_headers_each_part_by_its_prefix(tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    tensors = {
        "a.one": np.zeros((3, 4), np.float16),
        "a.two": np.zeros(5, np.float32),
        "b.one": np.zeros(7, np.float32),
    }
    path.write_bytes(tensorfile.to_bytes(tensors))
    assert counted({"a": PartFiles((path,), "a."), "b": PartFiles((path,), "b.")}) == {"a": 17, "b": 7}
    assert BaseFacts({"denoiser": 10, "vae": 1}).size("bf16") == 24


def test_fast_keeps_what_gradients_need_and_lean_computes_it_twice() -> None:
    tight = replace(CARD, total=12 * GB)
    assert policy(tight, CPU).checkpointing and not policy(tight, CPU, prefer="fast").checkpointing
    assert not policy(CARD, CPU, in_turn=False).in_turn and policy(CARD, CPU, prefer="fast").in_turn
    lean = policy(replace(CARD, total=80 * GB), CPU, prefer="lean")
    assert lean.checkpointing and lean.in_turn and lean.dtype == torch.bfloat16


def test_lean_rests_weights_in_16_bits_on_a_processor_that_does_not_compute_in_them() -> None:
    assert (policy(PLAIN_CPU, prefer="lean").dtype, policy(PLAIN_CPU, prefer="lean").quantised) == (
        torch.float32,
        "half",
    )
    assert (policy(CPU, prefer="lean").dtype, policy(CPU, prefer="lean").quantised) == (torch.bfloat16, None)
    assert policy(PLAIN_CPU, prefer="fast").quantised == "large", "which costs hardly any time"
    assert policy(PLAIN_CPU, prefer="fast", precision="bf16").quantised is None
    assert policy(CPU, prefer="fast").quantised is None


def test_what_is_asked_for_goes_before_what_is_preferred_and_painting_prefers_nothing() -> None:
    told = policy(PLAIN_CPU, prefer="lean", checkpointing=False, in_turn=False, quantised="off", precision="bf16")
    assert not told.checkpointing and not told.in_turn and told.quantised is None and told.dtype == torch.bfloat16
    assert policy(CARD, CPU, task="paint", prefer="lean") == policy(CARD, CPU, task="paint")


def test_16_bits_rest_only_where_more_are_computed_in() -> None:
    with pytest.raises(SettingsError, match="what this precision has anyway"):
        policy(CPU, quantised="half")
    held = choose([PLAIN_CPU], SDXL, MemorySettings(quantised="half"), task="train", quantiser=False)
    assert held.policy.quantised == "half", "it needs no package"


def test_fp8_needs_no_package_and_is_refused_where_there_are_no_such_numbers() -> None:
    held = choose([CARD, CPU], SDXL, MemorySettings(quantised="fp8"), task="paint", quantiser=False)
    assert held.policy.quantised == "fp8" and any("fp8: asked for" in one for one in held.reasons)
    with pytest.raises(SettingsError, match="Apple's graphics"):
        choose([replace(CPU, kind="mps"), CPU], SDXL, MemorySettings(quantised="fp8"), task="paint", quantiser=True)
