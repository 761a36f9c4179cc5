"""What manifests say of a picture, in genuine files and in ones that no program would write."""

from __future__ import annotations

import pytest

from tests.dataset.c2pa import stores
from velatura.dataset.c2pa import telling
from velatura.dataset.c2pa.telling import Told

SAID = {
    "generated.jpg": (Told("generated", "Brushwork Large 4"),),
    "generated-v1.png": (Told("generated", "Old Painter 1.0"),),
    "photo.tif": (Told("camera", "Lumen L-7", has_place=True),),
    "photo-v1.jpg": (Told("camera", "Lumen L-1", "Ann Ström", has_place=True),),
    "licensed.webp": (
        Told(
            "drawn",
            "Drawing board 7.0",
            "Мария Ким, Atelier 9",
            "https://press.example/works/12",
            "https://creativecommons.org/licenses/by/4.0/",
        ),
    ),
    "reserved.avif": (Told("", "", "Bo Lind, Cy", "negative 12", "(c) 2026 Bo Lind", "no"),),
    "edited.jpg": (Told(author="Dee"), Told("generated", "Brushwork Large 4")),
    "collage.png": (Told("drawn", "Layers 9.1"), Told("generated", "Old Painter 1.0")),
    "developed.jpg": (Told(), Told("camera", "Lumen L-1", "Ann Ström", has_place=True)),
    "long.jpg": (Told("drawn", "Drawing board 7.0", "Eve"),),
}


@pytest.mark.parametrize("path", stores.PICTURES, ids=lambda path: path.name)
def test_genuine_manifests_say_what_was_put_into_them(path: telling.Path) -> None:
    assert telling.read(path) == SAID[path.name]


def test_a_picture_without_a_manifest_says_nothing(tmp_path: telling.Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xd9")

    assert telling.read(tmp_path / "a.jpg") == ()
    assert telling.read(tmp_path / "not there.jpg") == ()


def of(*manifests: bytes) -> tuple[Told, ...]:
    return telling.of_store(stores.store(*manifests))


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("trainedAlgorithmicMedia", "generated"),
        ("compositeWithTrainedAlgorithmicMedia", "generated"),
        ("algorithmicMedia", "generated"),
        ("digitalCapture", "camera"),
        ("computationalCapture", "camera"),
        ("negativeFilm", "camera"),
        ("digitalArt", "drawn"),
        ("digitalCreation", "drawn"),
        ("screenCapture", ""),
        ("print", ""),
        ("humanEdits", ""),
        ("trainedAlgorithmicMediaNot", ""),
    ],
)
def test_iptc_s_words_say_which_kind(word: str, kind: str) -> None:
    assert of(stores.manifest("one", stores.made(word)))[0].kind == kind
    assert telling.kind_of(f" {stores.KINDS}{word} ") == telling.kind_of(word) == kind


def test_the_last_manifest_is_the_active_one() -> None:
    one, two = stores.manifest("one", stores.made("digitalArt")), stores.manifest("two", stores.made("digitalCapture"))

    assert [told.kind for told in of(one, two)] == ["camera"]
    assert [told.kind for told in of(two, one)] == ["drawn"]


def test_what_was_only_looked_at_does_not_count_and_what_is_placed_only_if_generated() -> None:
    work = {"stds.schema-org.CreativeWork": {"author": "Ann"}}
    generated = stores.manifest("one", {**stores.made("trainedAlgorithmicMedia"), **work})
    photo = stores.manifest("one", {**stores.made("digitalCapture"), **work})

    def with_ingredient(other: bytes, relationship: str) -> list[tuple[str, str]]:
        active = stores.manifest("two", stores.ingredient("one", relationship))
        return [(told.kind, told.author) for told in of(other, active)]

    assert with_ingredient(generated, "parentOf") == [("", ""), ("generated", "Ann")]
    assert with_ingredient(generated, "componentOf") == [("", ""), ("generated", "")]
    assert with_ingredient(generated, "inputTo") == [("", "")]
    assert with_ingredient(photo, "parentOf") == [("", ""), ("camera", "Ann")]
    assert with_ingredient(photo, "componentOf") == [("", "")]


def test_ingredients_of_ingredients_count_and_circles_end() -> None:
    first = stores.manifest("a", {**stores.made("trainedAlgorithmicMedia"), **stores.ingredient("c")})
    second = stores.manifest("b", {**stores.ingredient("a"), **stores.ingredient("missing", number=1)})
    third = stores.manifest("c", stores.ingredient("b", "componentOf"))

    assert [told.kind for told in of(first, second, third)] == ["", "generated"]


def test_a_chain_of_ingredients_is_followed_so_far_and_no_farther() -> None:
    chain = [
        stores.manifest(str(index), {**stores.made("digitalArt"), **stores.ingredient(str(index - 1))})
        for index in range(telling.MOST_MANIFESTS + 20)
    ]
    assert len(of(*chain)) == telling.MOST_MANIFESTS


def test_programs_are_named_in_each_of_the_ways_there_are() -> None:
    def named(**more: object) -> str:
        return of(stores.manifest("one", stores.made("trainedAlgorithmicMedia", **more)))[0].made_with

    assert named(softwareAgent="Painter") == "Painter"
    assert named(softwareAgent={"name": "Painter", "version": "2"}) == "Painter 2"
    assert named() == "By hand 1.0"
    shared = {"c2pa.actions": {"softwareAgents": [{"name": "A"}, {"name": "B"}], "actions": []}}
    shared["c2pa.actions"]["actions"] = [{"digitalSourceType": "digitalArt", "softwareAgentIndex": 1}]
    assert of(stores.manifest("one", shared))[0].made_with == "B"


def test_a_generated_part_counts_more_than_what_the_picture_began_as() -> None:
    made = [{"digitalSourceType": stores.KINDS + kind} for kind in ("digitalCapture", "trainedAlgorithmicMedia")]

    assert of(stores.manifest("one", {"c2pa.actions": {"actions": made}}))[0].kind == "generated"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"use": "notAllowed"}, "no"),
        ({"use": "constrained", "constraint_info": "ask\nme"}, "on conditions: ask me"),
        ({"use": "constrained"}, "on conditions"),
        ({"use": "allowed"}, ""),
        ("notAllowed", ""),
    ],
)
def test_what_is_said_of_training_is_told(entry: object, said: str) -> None:
    for prefix in ("c2pa", "cawg"):
        told = {f"{prefix}.training-mining": {"entries": {f"{prefix}.ai_generative_training": entry}}}
        assert of(stores.manifest("one", told))[0].training == said
    other = {"c2pa.training-mining": {"entries": {"c2pa.data_mining": {"use": "notAllowed"}}}}
    assert of(stores.manifest("one", other))[0].training == ""


@pytest.mark.parametrize("odd", [0, "", "text", [], [[]], {}, {"actions": 1}, {"actions": [1]}, {1: {2: [3]}}])
def test_values_of_any_other_form_say_nothing(odd: object) -> None:
    names = ("c2pa.actions", "c2pa.ingredient", "stds.schema-org.CreativeWork", "c2pa.metadata", "c2pa.training-mining")
    keys = ("author", "license", "dc:creator", "actions", "relationship", "activeManifest", "entries", "softwareAgents")
    assert of(stores.manifest("one", dict.fromkeys(names, odd))) == (Told(),)
    told = of(stores.manifest("one", {name: dict.fromkeys(keys, odd) for name in names}))
    assert all((one.kind, one.made_with, one.training) == ("", "", "") for one in told)


def test_what_is_told_is_one_line_of_bounded_length() -> None:
    told = {"stds.schema-org.CreativeWork": {"author": [{"name": "a\n" * 500}, "Bo"], "license": {"@id": "x\ty"}}}
    found = of(stores.manifest("one", told))[0]

    assert len(found.author) == 300
    assert "\n" not in found.author
    assert found.licence == "x y"


@pytest.mark.parametrize(
    ("make", "model", "name"),
    [
        ("Canon", "Canon EOS 350D DIGITAL", "Canon EOS 350D DIGITAL"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("SONY", "ILCE-7M3", "SONY ILCE-7M3"),
        ("", "X100", "X100"),
        ("Lumen", "", "Lumen"),
        ("", "", ""),
    ],
)
def test_a_camera_s_maker_is_named_once(make: str, model: str, name: str) -> None:
    assert telling.camera_name(make, model) == name
