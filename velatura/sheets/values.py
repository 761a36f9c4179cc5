"""What is written for an axis, as a list: values between commas, and ranges in A1111's notation.

    0, 0.4, 0.8         as they are; "a, b" in quotes is one value, and "" inside it a quote
    1-5                 1 2 3 4 5
    1-10 (+3)           1 4 7 10; also downwards, 10-1 (-3)
    1-10 [5]            5 values from 1 to 10, whole numbers rounded down
    0-1 (+0.3)          0 0.3 0.6 0.9: never beyond the end (A1111 goes one step too far, to 1.2)

Decimals are counted as decimals, so that 0.1 three times is 0.3.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal

from velatura.errors import SettingsError

LONGEST = 10_000
"""Values of one axis at most: a slip of the finger is not a year's work."""

_NUMBER = r"[+-]?\s*(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*(?:\(\s*({_NUMBER})\s*\)|\[\s*(\d+)\s*\])?\s*")


def listed(text: str) -> list[str]:
    """What stands between commas; parts in double quotes may hold commas and line ends."""
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [value.strip() for row in rows for value in row if value.strip()]


def numbers(written: Sequence[str], *, whole: bool, where: str) -> list[int | float]:
    """Numbers, with ranges spelt out.

    Args:
        written: values and ranges.
        whole: whole numbers only.
        where: the axis, for the message.

    Raises:
        SettingsError: one is no number and no range, or a range has no end.
    """
    found: list[Decimal] = []
    for value in written:
        found += _numbers(value, whole=whole, where=where)
        if len(found) > LONGEST:
            raise SettingsError(f"{value} is more than {LONGEST} values", where=where, fix="use a longer step")
    return [int(value) if whole else float(value) for value in found]


def _numbers(value: str, *, whole: bool, where: str) -> list[Decimal]:
    if re.fullmatch(_NUMBER, value) or re.fullmatch(rf"{_NUMBER}[eE][+-]?\d+", value):
        return [_checked(_decimal(value), value, whole=whole, where=where)]
    told = _RANGE.fullmatch(value)
    if told is None:
        kind = "a whole number" if whole else "a number"
        raise SettingsError(
            f"{value!r} is not {kind} and not a range", where=where, fix="write 1, 2 or 1-5 or 0-1 (+0.2)"
        )
    first, last = _decimal(told[1]), _decimal(told[2])
    for end in (first, last):
        _checked(end, value, whole=whole, where=where)
    if told[4] is not None:
        return _spread(first, last, int(told[4]), whole=whole)
    step = _decimal(told[3]) if told[3] is not None else Decimal(1 if last >= first else -1)
    _checked(step, value, whole=whole, where=where)
    if not step or ((step > 0) != (last >= first) and first != last):
        raise SettingsError(
            f"{value!r} never comes to its end", where=where, fix=f"write {told[1]}-{told[2]} (+1) upwards"
        )
    count = min(int((last - first) / step), LONGEST)
    return [first + place * step for place in range(count + 1)]


def _spread(first: Decimal, last: Decimal, count: int, *, whole: bool) -> list[Decimal]:
    if count < 2:
        return [first][:count]
    between = [first + (last - first) * place / (count - 1) for place in range(count)]
    return (
        [value.to_integral_value(ROUND_FLOOR) for value in between] if whole else [round(value, 6) for value in between]
    )


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(" ", ""))


def _checked(value: Decimal, written: str, *, whole: bool, where: str) -> Decimal:
    if whole and value != value.to_integral_value():
        raise SettingsError(f"{written!r} is not a whole number", where=where, fix="leave out what is behind the point")
    return value
