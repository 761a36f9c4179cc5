"""CBOR is read as RFC 8949 says, and nothing that it claims is believed before it is there."""

from __future__ import annotations

import math

import pytest

from velatura.dataset.c2pa.cbor import DEEPEST, decode


@pytest.mark.parametrize(
    ("hexadecimal", "meant"),
    [  # from appendix A of the RFC
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1bffffffffffffffff", 18446744073709551615),
        ("3903e7", -1000),
        ("3bffffffffffffffff", -18446744073709551616),
        ("f93c00", 1.0),
        ("f90001", 5.960464477539063e-8),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f97c00", math.inf),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("f7", None),
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("4401020304", b"\1\2\3\4"),
        ("6449455446", "IETF"),
        ("62c3bc", "ü"),
        ("64f0908591", "\U00010151"),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a201020304", {1: 2, 3: 4}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\1\2\3\4\5"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9fff", []),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("bf6346756ef563416d7421ff", {"Fun": True, "Amt": -2}),
    ],
)
def test_the_examples_of_the_rfc_mean_what_it_says(hexadecimal: str, meant: object) -> None:
    found = decode(bytes.fromhex(hexadecimal))

    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    "hexadecimal",
    [
        "",  # nothing
        "18",  # a number cut off
        "5bffffffffffffffff",  # as many bytes as no memory holds
        "9bffffffffffffffff00",  # as many items
        "bbffffffffffffffff0000",
        "bf6161ff",  # a key without a value
        "ff",  # an end without a beginning
        "8201ff",  # an end in a list of two
        "7f4101ff",  # bytes as a piece of text
        "a1800080",  # a list as a key
        "61ff",  # not UTF-8
        "1c",  # a length that is not defined
        "9f" * 100_000,
        "81" * (DEEPEST + 2) + "00",
        "c1" * 100_000,
    ],
)
def test_what_is_cut_off_too_deep_or_no_cbor_is_an_error(hexadecimal: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(bytes.fromhex(hexadecimal))


def test_lists_may_be_as_deep_as_is_allowed() -> None:
    found = decode(bytes.fromhex("81" * DEEPEST + "00"))
    for _ in range(DEEPEST):
        assert isinstance(found, list)
        found = found[0]
    assert found == 0
