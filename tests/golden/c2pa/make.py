"""How the pictures here were made: each is signed by c2pa-python, which also says what it reads in them.

    pip install c2pa-python==0.38.1 cryptography pillow
    python make.py

The certificates are made anew each time and trusted by nobody. `reader.json` is what `c2pa.Reader` makes of every
manifest of every picture, but for what concerns signatures.
"""

import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

HERE = Path(__file__).parent
KINDS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
METADATA = {
    "@context": {
        "dc": "http://purl.org/dc/elements/1.1/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "tiff": "http://ns.adobe.com/tiff/1.0/",
        "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    }
}


def signer() -> c2pa.Signer:
    """ES256, with a certificate under a root of our own."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(name: str, public: ec.EllipticCurvePublicKey, *, root: bool) -> x509.Certificate:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nobody")
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
            .public_key(public)
            .serial_number(1 if root else 2)
            .not_valid_before(datetime.datetime(2025, 1, 1))
            .not_valid_after(datetime.datetime(2075, 1, 1))
            .add_extension(x509.BasicConstraints(root, None), critical=True)
            .add_extension(
                x509.KeyUsage(not root, key_cert_sign=root, crl_sign=root, decipher_only=False, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        )
        if not root:
            made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        return made.sign(root_key, hashes.SHA256())

    chain = certificate("signer", key.public_key(), root=False), certificate("root", root_key.public_key(), root=True)
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return c2pa.Signer.from_info(c2pa.C2paSignerInfo(alg=b"es256", sign_cert=pem, private_key=private, ta_url=None))


def created(kind: str, **more: object) -> dict[str, Any]:
    """The assertion that a picture was made in one of IPTC's ways."""
    action = {"action": "c2pa.created", "digitalSourceType": KINDS + kind, **more}
    return {"label": "c2pa.actions", "data": {"actions": [action]}}


def edited(action: str, *before: Any) -> dict[str, Any]:
    """The assertion that a picture began with its ingredient, or holds it."""
    taken = {"action": action, "parameters": {"ingredientIds": ["one"]}}
    actions = [*(one for told in before for one in told["data"]["actions"]), taken]
    return {"label": "c2pa.actions", "data": {"actions": [*actions, {"action": "c2pa.color_adjustments"}]}}


def work(**told: object) -> dict[str, Any]:
    """The assertion of schema.org."""
    data = {"@context": "http://schema.org/", "@type": "CreativeWork", **told}
    return {"label": "stds.schema-org.CreativeWork", "data": data, "kind": "Json"}


def manifest(program: str, *assertions: dict[str, Any], **more: object) -> dict[str, Any]:
    """What the builder is told."""
    name, _, version = program.rpartition(" ")
    return {"claim_generator_info": [{"name": name, "version": version}], "assertions": list(assertions), **more}


PICTURES = {
    "generated.jpg": manifest(
        "Painting service 2.1",
        created("trainedAlgorithmicMedia", softwareAgent={"name": "Brushwork Large", "version": "4"}),
    ),
    "generated-v1.png": manifest(
        "Old_Painter 1.0",
        created("compositeWithTrainedAlgorithmicMedia", softwareAgent="Old Painter 1.0"),
        claim_version=1,
        claim_generator="Old_Painter/1.0",
    ),
    "photo.tif": manifest(
        "Camera firmware 3.02",
        created("digitalCapture"),
        {
            "label": "c2pa.metadata",
            "data": {
                **METADATA,
                "tiff:Make": "Lumen",
                "tiff:Model": "L-7",
                "exif:GPSLatitude": "48,8.5N",
                "exif:GPSLongitude": "11,34.5E",
            },
            "kind": "Json",
        },
    ),
    "photo-v1.jpg": manifest(
        "Camera 1.0",
        {
            "label": "stds.exif",
            "data": {**METADATA, "exif:Make": "Lumen", "exif:Model": "L-1", "exif:GPSLatitude": "48,8.5N"},
            "kind": "Json",
        },
        work(author=[{"@type": "Person", "name": "Ann Ström"}]),
        claim_version=1,
        claim_generator="Camera/1.0",
    ),
    "licensed.webp": manifest(
        "Drawing board 7.0",
        created("digitalCreation"),
        work(
            author=[{"@type": "Person", "name": "Мария Ким"}, {"@type": "Organization", "name": "Atelier 9"}],
            license="https://creativecommons.org/licenses/by/4.0/",
            publisher={"@type": "Organization", "name": "Example Press", "url": "https://press.example/"},
            url="https://press.example/works/12",
        ),
        claim_version=1,
    ),
    "reserved.avif": manifest(
        "Darkroom 11.3",
        created("screenCapture"),
        {
            "label": "cawg.metadata",
            "data": {
                **METADATA,
                "dc:creator": ["Bo Lind", "Cy"],
                "dc:rights": {"x-default": "(c) 2026 Bo Lind"},
                "dc:source": "negative 12",
            },
            "kind": "Json",
        },
        {
            "label": "cawg.training-mining",
            "data": {
                "entries": {
                    "cawg.ai_generative_training": {"use": "notAllowed"},
                    "cawg.data_mining": {"use": "allowed"},
                }
            },
        },
    ),
    "edited.jpg": manifest(
        "Retouching 5.5",
        edited("c2pa.opened"),
        {"label": "cawg.metadata", "data": {**METADATA, "dc:creator": ["Dee"]}, "kind": "Json"},
    ),
    "collage.png": manifest("Layers 9.1", edited("c2pa.placed", created("digitalCreation"))),
    "developed.jpg": manifest("Darkroom 11.3", edited("c2pa.opened")),
    "long.jpg": manifest(
        "Drawing board 7.0",
        created("digitalArt"),
        work(abstract="a line, " * 9000, author=[{"@type": "Person", "name": "Eve"}]),
        claim_version=1,
    ),
}

INGREDIENTS = {
    "edited.jpg": ("generated.jpg", "parentOf"),
    "collage.png": ("generated-v1.png", "componentOf"),
    "developed.jpg": ("photo-v1.jpg", "parentOf"),
}


def main() -> None:
    """Make every picture, then read them all."""
    key = signer()
    context = c2pa.Context(c2pa.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}}))
    read = {}
    for index, (name, told) in enumerate(PICTURES.items()):
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / name
            Image.radial_gradient("L").rotate(36 * index).resize((32, 24)).convert("RGB").save(plain)
            (HERE / name).unlink(missing_ok=True)
            builder = c2pa.Builder({**told, "title": name, "format": "image/" + plain.suffix[1:]}, context)
            if name in INGREDIENTS:
                other, relationship = INGREDIENTS[name]
                with (HERE / other).open("rb") as stream:
                    said = {"title": other, "relationship": relationship, "label": "one"}
                    builder.add_ingredient(said, "image/" + Path(other).suffix[1:].replace("jpg", "jpeg"), stream)
            builder.sign_file(plain, HERE / name, key)
        told = json.loads(c2pa.Reader(HERE / name).json())
        for one in told["manifests"].values():
            for assertion in one["assertions"]:
                assertion["data"].pop("abstract", None)
            for ingredient in one.get("ingredients", ()):
                ingredient.pop("validation_results", None)
            one.pop("signature_info", None)
        read[name] = {"active_manifest": told["active_manifest"], "manifests": told["manifests"]}
    (HERE / "reader.json").write_text(json.dumps(read, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
