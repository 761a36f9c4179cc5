"""Manifests, claims and assertions are those that c2pa-python finds in the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.dataset.c2pa import stores
from velatura.dataset.c2pa import boxes
from velatura.dataset.c2pa.embedded import store_of


@pytest.mark.parametrize("path", stores.PICTURES, ids=lambda path: path.name)
def test_what_c2pa_python_reads_is_what_is_read(path: Path) -> None:
    store = store_of(path)
    assert store is not None
    expected = stores.READER[path.name]
    found = boxes.manifests(store)

    assert list(found)[-1] == expected["active_manifest"]
    assert set(found) == set(expected["manifests"])
    for label, content in found.items():
        told: dict[str, Any] = expected["manifests"][label]
        one = boxes.manifest(content)
        generator = one.claim["claim_generator_info"]
        assert (generator if isinstance(generator, list) else [generator]) == told["claim_generator_info"]
        assert one.claim.get("claim_generator") == told.get("claim_generator")
        for assertion in told["assertions"]:
            if assertion["label"].startswith("c2pa.hash"):  # it shows bytes in base64
                continue
            name = assertion["label"].removesuffix(".v2")
            if name == "c2pa.actions" and told.get("ingredients"):
                continue
            read = [dict(more) for more in one.assertions(name)]
            for more in read:
                more.pop("abstract", None)
            assert read == [assertion["data"]]
        ingredients = [boxes.last_part(more.get("activeManifest")) for more in one.assertions("c2pa.ingredient")]
        assert ingredients == [more["active_manifest"] for more in told.get("ingredients", ())]


def test_only_assertions_that_the_claim_lists_count() -> None:
    written = {"c2pa.actions": {"a": 1}, "c2pa.actions.v2__3": {"a": 2}, "c2pa.actionsx": {"a": 3}}
    content = boxes.manifests(stores.store(stores.manifest("one", written, listed=["c2pa.actions.v2__3", "other"])))

    assert list(boxes.manifest(content["one"]).assertions("c2pa.actions")) == [{"a": 2}]


def test_of_two_manifests_of_one_name_the_later_counts_and_is_the_last() -> None:
    one, other = stores.manifest("one", {"a": {"b": 1}}), stores.manifest("one", {"a": {"b": 2}})
    found = boxes.manifests(stores.store(one, stores.manifest("two", {}), other))

    assert list(found) == ["two", "one"]
    assert list(boxes.manifest(found["one"]).assertions("a")) == [{"b": 2}]


def test_an_assertion_that_is_broken_or_too_long_is_left_out() -> None:
    links = [{"url": "self#jumbf=c2pa.assertions/" + name} for name in ("a", "b", "c")]
    claim = stores.superbox("c2pa.claim", stores.box(b"cbor", stores.cbor({"assertions": links})))
    kept = stores.superbox("a", stores.box(b"json", b'{"x": 1}'))
    deep = stores.superbox("b", stores.box(b"json", b"[" * 100_000))
    long = stores.superbox("c", stores.box(b"json", b'{"x": 1}' + b" " * boxes.LONGEST))
    stored = stores.superbox("c2pa.assertions", kept, deep, long)
    found = boxes.manifest(boxes.manifests(stores.store(stores.superbox("one", stored, claim)))["one"])

    assert list(found.assertions("a", "b", "c")) == [{"x": 1}]


@pytest.mark.parametrize(
    "store",
    [
        b"\0\0\0\x09jumb",  # longer than what is there
        b"\0\0\0\x01jumb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\4jumb",  # shorter than its own head
        stores.box(b"jumb", stores.box(b"free", b"")),  # without a description
        stores.superbox("c2pa", stores.box(b"free", b"") * (boxes.MOST_BOXES + 1)),
    ],
)
def test_boxes_that_do_not_fit_are_an_error(store: bytes) -> None:
    with pytest.raises(ValueError, match="box"):
        boxes.manifests(store)


def test_lengths_of_eight_bytes_and_to_the_end_are_understood() -> None:
    plain = stores.store(stores.manifest("one", {"a": {"b": 1}}))
    wide = b"\0\0\0\1jumb" + (len(plain) + 8).to_bytes(8, "big") + plain[8:]
    for store in (wide, b"\0\0\0\0" + plain[4:]):
        assert list(boxes.manifest(boxes.manifests(store)["one"]).assertions("a")) == [{"b": 1}]
