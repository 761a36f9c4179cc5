"""What a picture's file says about where it comes from: camera, program, author, licence, the page it was on.

Read are EXIF, XMP, the infotext of A1111 and what other painting programs leave in PNG files, C2PA manifests,
and the JSON that gallery-dl writes beside a download. What none of them says stays unknown, and what they say is told,
not vouched for: none of it is hard to forge, and the signatures of manifests are not checked.
"""

from __future__ import annotations

import html
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from velatura.dataset.c2pa import telling
from velatura.dataset.images import BROKEN, file_info
from velatura.errors import DatasetError

TRAINING = "training of generative models"
"""Of what `Origin.training` speaks: no such training, or such training on conditions."""

SIDECAR_BYTES = 4_000_000
_HEAD, _TAIL = 2 << 20, 1 << 20
"""Where XMP is looked for in files that Pillow finds none in: near the beginning and the end."""

_PAINTED_BY = {
    "parameters": "A1111 or its like",
    "prompt": "ComfyUI",
    "workflow": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "dream": "InvokeAI",
    "velatura": "Velatura",
}
"""Text chunks of PNG files that only painting programs write."""

_OF_THE_SET = ("authors.json", "choice.json", "config.json", "metadata.json")

_PROGRAMS = ("novelai", "stable diffusion", "midjourney", "dall-e", "firefly", "comfyui", "invokeai", "imagen", "flux")

_AUTHOR_KEYS = ("author", "artist", "tag_string_artist", "creator", "user", "uploader", "username")
_SOURCE_KEYS = ("post_url", "page_url", "permalink", "source", "url", "file_url", "category")
_LICENCE_KEYS = ("license", "licence", "rights", "copyright")
"""What the sites that gallery-dl knows call them; the first that is there is taken."""

_SOURCE_TYPE = re.compile(r"""\bDigitalSourceType\b(?:\s+rdf:resource)?[\s=>"']+(?:https?://[^"'<]*/)?(\w+)""")
"""IPTC's word in XMP for how a picture came about, as an attribute, an element or a link."""

_RESERVED = re.compile(r"\bDataMining\b[^<]*DMI-PROHIBITED")
"""The words of PLUS: all that begin so forbid training."""


@dataclass(frozen=True)
class Origin:
    """What is known; "" is unknown."""

    kind: str = ""
    """`camera`, `drawn`, `generated` or ""."""
    made_with: str = ""
    """The camera, or the program."""
    author: str = ""
    source: str = ""
    """A page or a site."""
    licence: str = ""
    training: str = ""
    """What it says against training generative models on it."""
    has_place: bool = False
    """It says where on Earth it was taken."""

    @property
    def made(self) -> str:
        """Kind and what it was made with, `camera: Maker Model 1`; "" where neither is known."""
        return f"{self.kind}: {self.made_with}" if self.made_with else self.kind


def read(path: Path) -> Origin:
    """The origin of a picture. A file that cannot be read says nothing."""
    sidecar = _sidecar(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on damaged EXIF: what is damaged says nothing
        try:
            info, exif = file_info(path)
        except DatasetError:
            return sidecar
        told = _from_exif(exif)
    signed = map(_from_manifest, telling.read(path))
    return _merged(sidecar, _from_text(info), told, *signed, _from_xmp(_xmp(info, path)))


def _merged(*origins: Origin) -> Origin:
    """Of each thing what the first says that says anything."""
    fields = {
        name: next((value for one in origins if (value := getattr(one, name))), "")
        for name in ("author", "source", "licence", "training")
    }
    kinds = [one for one in origins if one.kind]
    best = next((one for one in kinds if one.kind == "generated"), kinds[0] if kinds else Origin())
    return Origin(best.kind, best.made_with, **fields, has_place=any(one.has_place for one in origins))


def _from_text(info: Mapping[Any, Any]) -> Origin:
    program = next((told for key, told in _PAINTED_BY.items() if isinstance(info.get(key), str)), "")
    software = str(info.get("Software", ""))
    if not program and any(name in software.lower() for name in _PROGRAMS):
        program = software
    author, licence = (str(info.get(key, "")).strip() for key in ("Author", "Copyright"))
    return Origin("generated" if program else "", program, author=author, licence=licence)


def _from_exif(exif: Image.Exif) -> Origin:
    tags = ExifTags.Base
    try:
        camera = telling.camera_name(_text(exif.get(tags.Make)), _text(exif.get(tags.Model)))
        software = _text(exif.get(tags.Software))
        comment = exif.get_ifd(ExifTags.IFD.Exif).get(tags.UserComment, b"")
        place = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
        author, licence = _text(exif.get(tags.Artist)), _text(exif.get(tags.Copyright))
    except BROKEN:
        return Origin()
    raw = comment if isinstance(comment, bytes) else str(comment).encode()
    painted = b"Steps:" in raw.replace(b"\0", b"") or any(name in software.lower() for name in _PROGRAMS)
    kind = "generated" if painted else "camera" if camera else ""
    made_with = software or "A1111 or its like" if painted else camera
    return Origin(kind, made_with, author=author, licence=licence, has_place=place)


def _from_manifest(told: telling.Told) -> Origin:
    made_with = f"{told.made_with or 'not said with what'} (C2PA, signature not checked)" if told.kind else ""
    training = f"no {TRAINING}" if told.training == "no" else f"{TRAINING} {told.training}" if told.training else ""
    return Origin(told.kind, made_with, told.author, told.source, told.licence, training, has_place=told.has_place)


def _xmp(info: Mapping[Any, Any], path: Path) -> str:
    """The file's XMP packet; where Pillow finds none it is looked for by its name."""
    found = info.get("xmp") or info.get("XML:com.adobe.xmp")
    if isinstance(found, str):
        return found
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD)
            size = file.seek(0, 2)
            if size > _HEAD:
                file.seek(max(_HEAD, size - _TAIL))
                data += file.read(_TAIL)
    except OSError:
        return ""
    packet = re.search(rb"<x:xmpmeta.*?</x:xmpmeta>", data, flags=re.DOTALL)
    return packet[0].decode("utf-8", "replace") if packet else ""


def _from_xmp(xmp: str) -> Origin:
    found = _SOURCE_TYPE.search(xmp)
    kind = telling.kind_of(found[1]) if found else ""
    return Origin(
        kind,
        f"{found[1]} in its XMP" if found and kind else "",
        author=_listed(xmp, "dc:creator"),
        source=_listed(xmp, "dc:source") or _listed(xmp, "plus:LicensorURL"),
        licence=_listed(xmp, "xmpRights:UsageTerms") or _listed(xmp, "xmpRights:WebStatement"),
        training=f"no {TRAINING}" if _RESERVED.search(xmp) else "",
        has_place=bool(_listed(xmp, "exif:GPSLatitude")),
    )


def _listed(xmp: str, name: str) -> str:
    """The first value of a property, as an element, a list or an attribute."""
    element = re.search(rf"<{name}\b[^>]*>(.*?)</{name}>", xmp, flags=re.DOTALL)
    attribute = re.search(rf'\b{name}="([^"]*)"', xmp)
    inside = element[1] if element else attribute[1] if attribute else ""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", inside)).split())[:300]


def sidecars(path: Path) -> list[Path]:
    """The files NAME.png.json and NAME.json beside a picture, but for what a set itself keeps in such files."""
    beside = (path.with_name(f"{path.name}.json"), path.with_suffix(".json"))
    return [one for one in beside if one.name.lower() not in _OF_THE_SET and one.is_file()]


def _sidecar(path: Path) -> Origin:
    """What gallery-dl wrote beside a picture."""
    for beside in sidecars(path):
        try:
            if beside.stat().st_size > SIDECAR_BYTES:
                continue
            told = json.loads(beside.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(told, dict):
            author, source, licence = (_first(told, keys) for keys in (_AUTHOR_KEYS, _SOURCE_KEYS, _LICENCE_KEYS))
            return Origin(author=author, source=source, licence=licence)
    return Origin()


def _first(told: Mapping[str, Any], keys: Iterable[str]) -> str:
    for key in keys:
        value = told.get(key)
        if isinstance(value, dict):
            value = value.get("name") or value.get("username") or value.get("account")
        if isinstance(value, list):
            value = ", ".join(str(one) for one in value[:3])
        if isinstance(value, str) and value.strip():
            return value.strip()[:300]
    return ""


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip("\0 ").strip() if isinstance(value, str) else ""
