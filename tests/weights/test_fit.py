"""What makes weights fit: as little as is enough, in the order of what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.weights.test_policy import CARD, CPU, FLUX, GB, MAC, OLD_CARD, PLAIN_CPU, POCKET, SDXL
from velatura.doctor.devices import Device
from velatura.errors import MissingExtra
from velatura.recipe import MemorySettings
from velatura.weights.fit import CONTROLNETS, PRESENT, ROOM
from velatura.weights.policy import BaseFacts, Choice, choose

BIG = replace(FLUX, blocks=lambda: (340_000_000,) * 19 + (141_000_000,) * 38)


def card(gigabytes: int) -> Device:
    return replace(CARD, total=gigabytes * GB, free=gigabytes * GB)


def chosen(*devices: Device, base: BaseFacts = BIG, quantiser: bool = True, **told: Any) -> Choice:
    return choose(devices, base, MemorySettings(**told), task="paint", quantiser=quantiser)


def facts(choice: Choice) -> tuple[bool, str | None, bool]:
    policy = choice.policy
    return policy.in_turn, policy.quantised, policy.swapped_blocks > 0


@pytest.mark.parametrize(
    ("gigabytes", "expected"),
    [
        (80, (False, None, False)),
        (40, (True, None, False)),
        (24, (False, "int8", False)),
        (20, (True, "int8", False)),
        (12, (True, "int8", True)),
        (8, (True, "int8", True)),
    ],
)
def test_a_card_s_memory_decides_how_flux_is_held(gigabytes: int, expected: tuple[bool, str | None, bool]) -> None:
    choice = chosen(card(gigabytes), CPU)
    assert facts(choice) == expected
    assert all("would fill" in reason for reason in choice.reasons[3:] if "tiles" not in reason)
    assert not choice.warnings


def test_no_more_blocks_wait_than_have_no_room() -> None:
    for gigabytes in (8, 10, 12, 14):
        count = chosen(card(gigabytes), CPU).policy.swapped_blocks
        blocks: Sequence[int] = BIG.blocks()
        item = 8.25 / 8
        denoiser = item * BIG.parameters["denoiser"] + 2 * BIG.parameters["vae"]

        def left(waiting: int) -> float:
            return denoiser - item * (sum(blocks[-waiting:]) - PRESENT * max(blocks))  # noqa: B023

        assert left(count) <= ROOM * gigabytes * GB < left(count - 1)


def test_without_the_package_blocks_wait_in_the_base_s_own_type_and_the_reason_says_so() -> None:
    choice = chosen(card(24), CPU, quantiser=False)
    assert facts(choice) == (True, None, True)
    assert any("velatura[quantise]" in reason for reason in choice.reasons)
    with pytest.raises(MissingExtra, match=r"velatura\[quantise\]"):
        chosen(card(24), CPU, quantiser=False, quantised="int8")


def test_where_the_machine_s_memory_is_the_device_s_parts_take_turns_and_nothing_else_is_chosen() -> None:
    for devices in ((PLAIN_CPU,), (CPU,), (MAC, CPU)):
        assert facts(chosen(*devices)) == (True, None, False)
        assert facts(chosen(*devices, base=SDXL)) == (False, None, False)


def test_small_bases_and_cards_with_room_are_left_alone() -> None:
    assert facts(chosen(card(1), CPU, base=POCKET)) == (False, None, False)
    assert facts(chosen(OLD_CARD, CPU, base=SDXL)) == (True, None, False)
    assert facts(chosen(CARD, CPU, base=SDXL)) == (False, None, False)
    assert facts(chosen(replace(CARD, total=None), CPU)) == (False, None, False)


def test_what_is_asked_for_is_done_and_said() -> None:
    choice = chosen(card(80), CPU, in_turn=True, quantised="int4", swapped_blocks=99)
    assert facts(choice) == (True, "int4", True)
    assert choice.policy.swapped_blocks == 57
    assert sum("asked for" in reason for reason in choice.reasons) == 3
    assert "57 of the denoiser's 57 blocks wait in the machine's memory: asked for" in choice.reasons
    on_cpu = chosen(CPU, swapped_blocks=2)
    assert any("2 of the denoiser's 57 blocks wait in a file" in reason for reason in on_cpu.reasons)


def test_what_is_asked_to_stay_stays() -> None:
    asked = chosen(card(12), CPU, in_turn=False, quantised="off", swapped_blocks=0)
    assert facts(asked) == (False, None, False)
    assert not asked.warnings[0].startswith("close")
    assert "33.7 GB at a time, in bf16, and 12.0 GB are free" in asked.warnings[0]
    assert facts(chosen(card(24), CPU, in_turn=False)) == (False, "int8", False)


def test_only_what_is_on_the_device_at_a_time_counts() -> None:
    (warning,) = chosen(replace(card(24), free=1 * GB), CPU).warnings
    assert "17.5 GB at a time" in warning
    (warning,) = chosen(replace(card(12), free=1 * GB), CPU).warnings
    held = float(warning.split(" come to ")[1].split(" GB")[0])
    assert 8 < held <= 9.01


def test_convolutions_are_not_quantised_and_count_in_full() -> None:
    def held(share: float) -> float:
        base = replace(SDXL, packable=lambda kind: share)
        (warning,) = chosen(replace(card(24), free=1), CPU, base=base, quantised="int8", in_turn=False).warnings
        return float(warning.split(" come to ")[1].split(" GB")[0])

    assert held(0.5) - held(1.0) == pytest.approx(0.5 * 2.57 * (2 - 8.25 / 8), abs=0.11)
    assert held(0.0) == 7.1


def test_controlnets_are_always_there_and_count_in_full() -> None:
    """XLabs' and InstantX' for FLUX.1 are 0.7 and 3.3 thousand million numbers; they are not quantised."""
    beside = replace(BIG, parameters={**BIG.parameters, CONTROLNETS: 3_300_000_000})
    assert facts(chosen(card(40), CPU)) == (True, None, False)
    assert facts(chosen(card(40), CPU, base=beside)) == (False, "int8", False)
    assert facts(chosen(card(20), CPU)) == (True, "int8", False)
    assert facts(chosen(card(20), CPU, base=beside)) == (True, "int8", True)
    for told in ({"in_turn": True}, {"in_turn": True, "swapped_blocks": 20}, {"in_turn": False}):
        warned = [chosen(replace(card(100), free=1), CPU, base=base, **told).warnings[0] for base in (BIG, beside)]
        without, with_it = (float(one.split("come to ")[1].split()[0]) for one in warned)
        assert with_it - without == pytest.approx(6.6, abs=0.11), told
