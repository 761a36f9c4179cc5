"""What is written for an axis: values, quotes, and ranges that end where they say."""

from __future__ import annotations

import pytest

from velatura.errors import SettingsError
from velatura.sheets import values


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("0, 0.4,0.8", ["0", "0.4", "0.8"]),
        ('"a boat, red", a house', ["a boat, red", "a house"]),
        ('"say ""sea""",sky', ['say "sea"', "sky"]),
        ("one,,two,", ["one", "two"]),
        ("", []),
    ],
)
def test_commas_part_values_and_quotes_keep_them_together(written: str, found: list[str]) -> None:
    assert values.listed(written) == found


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-5 (+2)", [1, 3, 5]),
        ("10-5 (-3)", [10, 7]),
        ("5-1", [5, 4, 3, 2, 1]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),  # numpy.linspace made whole, as A1111 has it
        ("-2-1", [-2, -1, 0, 1]),
        ("7", [7]),
        ("3-3", [3]),
    ],
)
def test_ranges_of_whole_numbers_are_those_of_a1111(written: str, found: list[int]) -> None:
    assert values.numbers([written], whole=True, where="seed") == found


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("0-1 (+0.3)", [0, 0.3, 0.6, 0.9]),  # A1111 goes on to 1.2
        ("0-0.3 (+0.1)", [0, 0.1, 0.2, 0.3]),
        ("1-0 (-0.25)", [1, 0.75, 0.5, 0.25, 0]),
        ("0-1 [5]", [0, 0.25, 0.5, 0.75, 1]),
        ("-0.5-0.5 (+0.5)", [-0.5, 0, 0.5]),
        ("1-3", [1, 2, 3]),
        (".5", [0.5]),
        ("1e-3", [0.001]),
    ],
)
def test_ranges_of_decimals_never_pass_their_end(written: str, found: list[float]) -> None:
    assert values.numbers([written], whole=False, where="cfg") == found


@pytest.mark.parametrize("written", ["1-5 (-1)", "5-1 (+1)", "1-5 (+0)", "1.5", "a", "1-", "1-5 [x]", "0-1 (+0.3)"])
def test_what_is_no_whole_number_and_no_range_is_refused_with_the_axis_it_stands_on(written: str) -> None:
    with pytest.raises(SettingsError, match="seed"):
        values.numbers([written], whole=True, where="seed")


def test_a_slip_of_the_finger_is_not_a_million_cells() -> None:
    with pytest.raises(SettingsError, match="more than 10000 values"):
        values.numbers(["1-1000000000"], whole=True, where="seed")
