"""What the manifests of a picture say: how it was made and with what, whose it is, on which terms.

The active manifest tells of the picture as it is, and those of the pictures it was made from (its parents) of what
it does not say itself. Of pictures that were only placed in it, it counts that they were generated: what is generated
stays so, however it was edited.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from velatura.dataset.c2pa.boxes import Manifest, last_part, listed, manifest, manifests
from velatura.dataset.c2pa.embedded import store_of

MOST_MANIFESTS = 64

KINDS = {
    **dict.fromkeys(("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"), "generated"),
    **dict.fromkeys(("trainedAlgorithmicData", "compositeSynthetic", "algorithmicMedia"), "generated"),
    **dict.fromkeys(("digitalCapture", "computationalCapture", "compositeCapture"), "camera"),
    **dict.fromkeys(("negativeFilm", "positiveFilm"), "camera"),
    **dict.fromkeys(("digitalCreation", "digitalArt"), "drawn"),
}
"""IPTC's words for how a picture came about (digital source types) that say one of ours; those of prints, screens and
edits do not. The last part of http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture."""

_METADATA = ("c2pa.metadata", "cawg.metadata", "stds.exif", "stds.iptc", "stds.iptc.photo-metadata")
_GENERATIVE = ("cawg.ai_generative_training", "c2pa.ai_generative_training")


@dataclass(frozen=True)
class Told:
    """What one manifest says; "" is nothing."""

    kind: str = ""
    """`camera`, `drawn` or `generated`."""
    made_with: str = ""
    author: str = ""
    source: str = ""
    licence: str = ""
    training: str = ""
    """What it says of training generative models on the picture: `no`, or `on conditions` with what they are."""
    has_place: bool = False


def read(path: Path) -> tuple[Told, ...]:
    """What a picture's manifests say, the active one first; nothing where there are none, or they are broken."""
    store = store_of(path)
    return () if store is None else of_store(store)


def of_store(store: bytes) -> tuple[Told, ...]:
    """The same of a manifest store."""
    try:
        return tuple(_all_told(manifests(store)))
    except ValueError:
        return ()


def kind_of(source_type: object) -> str:
    """Which of our kinds a digital source type says, "" for none."""
    return KINDS.get(source_type.strip().rpartition("/")[2], "") if isinstance(source_type, str) else ""


def camera_name(make: str, model: str) -> str:
    """Maker and model, the maker once: a Canon calls itself `Canon EOS 350D` already, a Nikon `NIKON D90`."""
    named = bool(make) and model.casefold().startswith(make.split()[0].casefold())
    return model if named else f"{make} {model}".strip()


def _all_told(found: Mapping[str, memoryview]) -> Iterator[Told]:
    waiting = [(label, True) for label in list(found)[-1:]]
    seen: set[str] = set()
    while waiting and len(seen) < MOST_MANIFESTS:
        label, whole = waiting.pop(0)
        if label in seen or label not in found:
            continue
        seen.add(label)
        read = manifest(found[label])
        told = _told(read)
        if whole:
            yield told
        elif told.kind == "generated":
            yield Told(told.kind, told.made_with)
        for ingredient in read.assertions("c2pa.ingredient"):
            other = last_part(ingredient.get("activeManifest") or ingredient.get("c2pa_manifest"))
            if ingredient.get("relationship") == "parentOf":
                waiting.insert(0, (other, whole))
            elif ingredient.get("relationship") == "componentOf":
                waiting.append((other, False))


def _told(read: Manifest) -> Told:
    kind, agent = _made(read)
    works = list(read.assertions("stds.schema-org.CreativeWork"))
    about = [_without_prefixes(one) for one in read.assertions(*_METADATA)]
    camera = camera_name(_first(about, "make"), _first(about, "model"))
    kind = kind or ("camera" if camera else "")
    program = camera if kind == "camera" and camera else agent or _generator(read.claim)
    return Told(
        kind,
        program if kind else "",
        author=_first(works, "author", "creator") or _first(about, "creator", "artist"),
        source=_first(works, "url", "publisher") or _first(about, "source"),
        licence=_first(works, "license", "usageInfo", "copyrightNotice", "copyrightHolder")
        or _first(about, "license", "usageterms", "webstatement", "rights", "copyright"),
        training=_training(read),
        has_place=bool(_first(about, "gpslatitude")),
    )


def _made(read: Manifest) -> tuple[str, str]:
    """The kind and the program that its actions tell of: the first that generated anything, else the first at all."""
    found = []
    for assertion in read.assertions("c2pa.actions"):
        agents = listed(assertion.get("softwareAgents"))
        for action in (*listed(assertion.get("actions")), *listed(assertion.get("templates"))):
            if isinstance(action, dict) and (kind := kind_of(action.get("digitalSourceType"))):
                index = action.get("softwareAgentIndex")
                shared = agents[index] if isinstance(index, int) and 0 <= index < len(agents) else None
                found.append((kind, _program(action.get("softwareAgent") or shared)))
    return next((one for one in found if one[0] == "generated"), found[0] if found else ("", ""))


def _generator(claim: Mapping[str, object]) -> str:
    """The program that made the claim; older claims tell it as browsers do, `Name_of_it/1.0 library/2.3`."""
    named = next((text for one in listed(claim.get("claim_generator_info")) if (text := _program(one))), "")
    plain = claim.get("claim_generator")
    old = plain.split()[:1] if isinstance(plain, str) else []
    return named or _short(" ".join(old).replace("/", " ").replace("_", " "))


def _program(told: object) -> str:
    """A program's name and version, told as text or as a table."""
    if isinstance(told, dict):
        return _short(" ".join(one for key in ("name", "version") if isinstance(one := told.get(key), str)))
    return _short(told) if isinstance(told, str) else ""


def _training(read: Manifest) -> str:
    for assertion in read.assertions("cawg.training-mining", "c2pa.training-mining"):
        entries = assertion.get("entries")
        for key in _GENERATIVE:
            entry = entries.get(key) if isinstance(entries, dict) else None
            use = entry.get("use") if isinstance(entry, dict) else None
            if use == "notAllowed":
                return "no"
            if use == "constrained":
                terms = _text(entry.get("constraint_info")) if isinstance(entry, dict) else ""
                return f"on conditions{f': {terms}' if terms else ''}"
    return ""


def _without_prefixes(told: Mapping[str, object]) -> dict[str, object]:
    """JSON-LD with names as they are without their namespaces, which may be abbreviated in any way."""
    plain: dict[str, object] = {}
    for key, value in told.items():
        plain.setdefault(key.rpartition(":")[2].rpartition("/")[2].lower(), value)
    return plain


def _first(tables: list[Mapping[str, object]] | list[dict[str, object]], *keys: str) -> str:
    return next((text for one in tables for key in keys if (text := _text(one.get(key)))), "")


def _text(value: object, depth: int = 0) -> str:
    """Text as schema.org and JSON-LD tell it: plain, in a list, with a language, or as a thing with a name."""
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, list):
        return _short(", ".join(text for one in value[:3] if (text := _text(one, depth + 1))))
    if isinstance(value, dict) and depth < 3:
        keys = ("name", "@value", "x-default", "@list", "url", "@id")
        return next((text for key in keys if (text := _text(value.get(key), depth + 1))), "")
    return ""


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
