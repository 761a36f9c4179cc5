"""The filter language."""

from __future__ import annotations

import pytest

from velatura.dataset import filters
from velatura.errors import DatasetError


def holds(text: str, caption: str, **values: filters.Value) -> bool:
    return filters.parse(text)(lambda key: values.get(key, filters.of_caption(caption, key)))


SEEN = "mara, Long_Hair, (grey sky:1.2), jeanne_(alter), :3"


@pytest.mark.parametrize(
    "text",
    [
        "tag:mara", 'tag:"long hair"', "tag:long_hair", "TAG:x or tag:mara".lower(), 'tag:"grey sky"', "tag:gr*",
        "tag:jeanne_(alter)", 'tag:":3"', "tag::3", "not tag:hair", "caption:sky", "sky", '"Long_H"', "tags:5",
        "tags:>4", "tags>=5 and not tags>5", "width:<1024", "width < 1024",
        "(tag:no or tag:mara) and not (tag:a or tag:b)",
        "not not tag:mara", "name:port", "name~RAI", "author=person", "author!=wd14", "tokens:>75",
    ],
)  # fmt: skip
def test_filters_that_hold(text: str) -> None:
    assert holds(text, SEEN, width=800.0, name="portrait 1.png", author="person", tokens=76.0)
    assert not holds(f"not ({text})", SEEN, width=800.0, name="portrait 1.png", author="person", tokens=76.0)


def test_and_binds_closer_than_or_and_not_closer_than_and() -> None:
    assert holds("tag:a or tag:b and tag:c", "a") and not holds("(tag:a or tag:b) and tag:c", "a")
    assert not holds("not tag:a and tag:b", "a, b") and holds("not (tag:a and tag:b)", "a")


def test_a_backslash_takes_wildcards_and_quotes_as_they_are() -> None:
    assert holds(r'caption:"5\*"', "5* hotel") and not holds(r'caption:"5\*"', "50 hotels")
    assert holds(r'caption:"say \"hi\""', 'say "hi" to me')


def test_a_value_that_is_not_known_holds_for_no_term_but_unequal() -> None:
    assert not holds("width>0", "", width=None) and holds("width!=3", "", width=None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"), ("tag:a tag:b", "and, or or"), ("(tag:a", "a ) is missing"), ("tag:a and", "too early"),
        ('tag:"a', "quotation mark"), ("tga:x", "did you mean tag"), ("width:wide", "not a number"),
        ("width", "missing"), ("tag>3", "not a number"), ("and tag:a", "stands where"), (")", "stands where"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(text: str, told: str) -> None:
    with pytest.raises(DatasetError, match=told.replace(")", r"\)")):
        filters.parse(text)
