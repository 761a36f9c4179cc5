"""What files say of where they come from: of several sources, each in its own words, and forgery is possible in all."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.dataset.c2pa import stores
from tests.paintings import clouds
from velatura.dataset import origin
from velatura.dataset.origin import Origin

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def packet(inside: str) -> str:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description {inside}</rdf:RDF></x:xmpmeta>'


def of_xmp(folder: Path, inside: str) -> Origin:
    clouds(1, (64, 48)).save(folder / "a.jpg", xmp=packet(inside).encode())
    return origin.read(folder / "a.jpg")


def test_a_manifest_is_named_as_what_it_is() -> None:
    assert origin.read(stores.GOLDEN / "generated.jpg") == Origin(
        "generated", "Brushwork Large 4 (C2PA, signature not checked)"
    )


def test_an_edited_picture_keeps_what_it_was_made_from_and_whose_it_is_now() -> None:
    edited = origin.read(stores.GOLDEN / "edited.jpg")
    developed = origin.read(stores.GOLDEN / "developed.jpg")

    assert (edited.made, edited.author) == ("generated: Brushwork Large 4 (C2PA, signature not checked)", "Dee")
    assert (developed.made, developed.author) == ("camera: Lumen L-1 (C2PA, signature not checked)", "Ann Ström")
    assert developed.has_place
    assert origin.read(stores.GOLDEN / "collage.png").kind == "generated"


def test_a_manifest_that_says_it_is_generated_outweighs_a_camera_in_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[315] = "Maker", "Ann"
    clouds(1, (64, 48)).save(tmp_path / "a.png", exif=exif)
    plain = (tmp_path / "a.png").read_bytes()
    signed = (stores.GOLDEN / "generated-v1.png").read_bytes()
    at = signed.index(b"caBX") - 4
    length = int.from_bytes(signed[at : at + 4], "big")
    (tmp_path / "a.png").write_bytes(plain[:33] + signed[at : at + 12 + length] + plain[33:])

    found = origin.read(tmp_path / "a.png")

    assert (found.kind, found.made_with) == ("generated", "Old Painter 1.0 (C2PA, signature not checked)")
    assert found.author == "Ann"


@pytest.mark.parametrize(
    "inside",
    [
        'Iptc4xmpExt:DigitalSourceType="{}"></rdf:Description>',
        "><Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType></rdf:Description>",
        '><Iptc4xmpExt:DigitalSourceType rdf:resource="{}"/></rdf:Description>',
    ],
)
@pytest.mark.parametrize("before", [IPTC, ""])
def test_iptc_s_word_in_xmp_is_read_and_named_as_that(tmp_path: Path, inside: str, before: str) -> None:
    generated = of_xmp(tmp_path, inside.format(f"{before}trainedAlgorithmicMedia"))
    photograph = of_xmp(tmp_path, inside.format(f"{before}digitalCapture"))

    assert generated.made == "generated: trainedAlgorithmicMedia in its XMP"
    assert photograph.made == "camera: digitalCapture in its XMP"
    assert of_xmp(tmp_path, inside.format(f"{before}print")) == Origin()


def test_the_word_outside_of_its_property_says_nothing(tmp_path: Path) -> None:
    assert of_xmp(tmp_path, "><dc:description>no trainedAlgorithmicMedia here</dc:description>").kind == ""
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"trainedAlgorithmicMedia")
    assert origin.read(tmp_path / "a.jpg").kind == ""


def test_xmp_tells_author_terms_place_and_what_it_reserves(tmp_path: Path) -> None:
    found = of_xmp(
        tmp_path,
        'exif:GPSLatitude="48,8.5N" plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-GENAIMLTRAINING">'
        "<dc:creator><rdf:Seq><rdf:li>M&#252;ller &amp; Sons</rdf:li></rdf:Seq></dc:creator>"
        "<xmpRights:UsageTerms><rdf:Alt><rdf:li>CC0</rdf:li></rdf:Alt></xmpRights:UsageTerms></rdf:Description>",
    )
    assert found == Origin(
        author="Müller & Sons", licence="CC0", training="no training of generative models", has_place=True
    )
    assert of_xmp(tmp_path, 'plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-ALLOWED"/>') == Origin()


def test_xmp_is_read_where_it_is_compressed_and_where_pillow_does_not_look(tmp_path: Path) -> None:
    told = packet(f'Iptc4xmpExt:DigitalSourceType="{IPTC}digitalArt"/>')
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", told, zip=True)
    clouds(1, (64, 48)).save(tmp_path / "compressed.png", pnginfo=text)
    clouds(1, (64, 48)).save(tmp_path / "behind.jpg")
    (tmp_path / "behind.jpg").write_bytes((tmp_path / "behind.jpg").read_bytes() + told.encode())

    assert b"digitalArt" not in (tmp_path / "compressed.png").read_bytes()
    for name in ("compressed.png", "behind.jpg"):
        assert origin.read(tmp_path / name).made == "drawn: digitalArt in its XMP"


def test_a_sidecar_speaks_before_the_file(tmp_path: Path) -> None:
    shutil.copy(stores.GOLDEN / "licensed.webp", tmp_path / "a.webp")
    (tmp_path / "a.webp.json").write_text(json.dumps({"author": {"name": "Bo"}, "license": "CC BY 4.0"}))

    found = origin.read(tmp_path / "a.webp")

    assert (found.author, found.licence, found.source) == ("Bo", "CC BY 4.0", "https://press.example/works/12")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_damaged_exif_says_nothing_and_stops_nothing(tmp_path: Path, form: str) -> None:
    exif = Image.Exif()
    exif[271], exif[272], exif[315] = "Maker", "Model 1", "Ann"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0hello"
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 1.0)
    Image.new("RGB", (16, 16)).save(tmp_path / "a", form, exif=exif)
    whole, chance, heard = (tmp_path / "a").read_bytes(), random.Random(form), set[str]()
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 10)):
            at = chance.randrange(min(len(damaged), 400))
            damaged[at] = chance.choice((0, 1, 4, 8, 12, 0xFF, chance.randrange(256)))
        (tmp_path / "a").write_bytes(damaged)
        heard.add(origin.read(tmp_path / "a").made)

    assert len(heard) > 1  # the damage reaches what is read
