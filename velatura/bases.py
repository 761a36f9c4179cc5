"""Which family a base model belongs to, its size, and where its parts lie: from settings and headers, without torch.

A base is a diffusers folder (also one in the Hugging Face cache), one checkpoint file, a file with files for the parts
that it lacks, or a folder whose `base.toml` names them; parts that are not named are looked for in the user's folders.
A family is one package of `velatura.families`, with the same file names in each. Of these, `recognise`
(`recognise(source)`) and `configuration` (`PARTS`, `read(base).resolution`) answer here, and `model` (`FAMILY`) is
what `velatura.family` loads.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from velatura import schema, settings
from velatura.errors import ModelError, SettingsError, nearest
from velatura.events import Progress
from velatura.weights import fetching, hub, parts, search
from velatura.weights.containers import read_header
from velatura.weights.parts import PartFiles, PartKind
from velatura.weights.source import BaseFolder

FAMILIES = {
    "sd15": "velatura.families.sd15",
    "sdxl": "velatura.families.sdxl",
    "flux1": "velatura.families.flux1",
    "z_image": "velatura.families.z_image",
}
"""Name of a family -> its package."""


DESCRIBED = {"model": '"FILE"', "vae": '"FILE"', "text_encoders": '["FILE", "FILE"]'}
"""What a `base.toml` may say, and how."""


@dataclass(frozen=True)
class Variant:
    """What a base was recognised as."""

    family: str
    name: str
    """The variant as `ss_base_model_version` names it: "sd_v1"..."""
    architecture: str
    """As modelspec names it: "stable-diffusion-v1"..."""


@dataclass(frozen=True)
class BaseFiles:
    """A base as the user names it."""

    model: Path
    """A diffusers folder, or a checkpoint file that holds at least the denoiser."""
    vae: Path | None = None
    """A file whose autoencoder is used instead."""
    text_encoders: tuple[Path, ...] = ()
    """Files whose text encoders are used instead, in any order."""

    @property
    def others(self) -> tuple[Path, ...]:
        """The files beside the first."""
        return (*((self.vae,) if self.vae else ()), *self.text_encoders)


@dataclass(frozen=True)
class Base:
    """A base whose every part has been found."""

    variant: Variant
    files: BaseFiles
    parts: Mapping[str, PartFiles]
    notes: tuple[str, ...] = ()
    """What the user should know of where they were found."""

    @property
    def source(self) -> Path:
        """What errors name."""
        return self.files.model


def find(
    model: str,
    *,
    vae: str = "",
    text_encoders: Sequence[str] = (),
    beside: Path | None = None,
    sha256: str = "",
    fetch: bool = True,
) -> BaseFiles:
    """The files that names, paths or an id on Hugging Face mean; what the id names is fetched where it is not there.

    Args:
        beside: folder against which relative paths are also tried (a recipe's).
        sha256: what the base must be, as `base_hash` says; empty: not checked.
        fetch: whether an id that is not in the cache is fetched.

    Raises:
        SettingsError: nothing, or more than one file, has such a name.
        ModelError: the base that was found is another one, or it cannot be fetched.
    """
    if hub.is_id(model) and settings.base_at(model, beside=beside) is None:
        found = fetching.find(model, fetch=fetch)
    else:
        found = settings.find_base(model, beside=beside, sha256=sha256)
    files = described(found)
    if vae:
        files = replace(files, vae=settings.find_part(vae, "vaes", beside=beside))
    if text_encoders:
        told = tuple(settings.find_part(one, "text_encoders", beside=beside) for one in text_encoders)
        files = replace(files, text_encoders=told)
    if sha256 and (other := base_hash(locate(files))) != sha256:
        raise ModelError(
            f"this is not the base that is asked for: its sha256 begins with {other[:10]}, not with {sha256[:10]}",
            where=found,
            fix="name the right one in base.model, or take base.sha256 out of the recipe",
        )
    return files


def fetched(model: str, *, beside: Path | None = None) -> Iterator[Progress]:
    """Fetch the base that an id on Hugging Face means, where it is not in the cache; yields how far it is.

    Raises:
        ModelError: there is no such base, or it may not be fetched.
        FileProblem: the disk is full.
    """
    if hub.is_id(model) and settings.base_at(model, beside=beside) is None and hub.whole(model) is None:
        yield from fetching.fetched(model)


def described(path: Path) -> BaseFiles:
    """The files of the base at this place: itself, or what the `base.toml` there says.

    That file names `model`, and where they are files of their own `vae` and `text_encoders`; relative paths
    count from its folder.

    Raises:
        RecipeError: `base.toml` is no TOML.
        SettingsError: it says something else, or names files that are not there.
    """
    place = path if path.is_file() else path / settings.BASE_FILE
    if place.name != settings.BASE_FILE or (path / settings.INDEX).exists() or not place.exists():
        return BaseFiles(path)
    told = schema.read_tree(place, what="description of the base")
    for key, kind in (*((key, None) for key in told), ("model", str), ("vae", str), ("text_encoders", list)):
        if kind is None and key not in DESCRIBED:
            close = nearest(key, list(DESCRIBED))
            raise SettingsError(
                f"unknown setting {key}", where=place, fix=f"did you mean {close}?" if close else "remove it"
            )
        if kind is not None and not isinstance(told.get(key, kind()), kind):
            raise SettingsError(f"{key} is not as it should be", where=place, fix=f"write {key} = {DESCRIBED[key]}")
    model = settings.base_at(told.get("model", ""), beside=place.parent) if told.get("model") else None
    if model is None or model.is_dir():
        raise SettingsError("model must name the file with the denoiser", where=place, fix="mend its path")
    vae, texts = told.get("vae", ""), told.get("text_encoders", [])
    return BaseFiles(
        model,
        settings.find_part(vae, "vaes", beside=place.parent) if vae else None,
        tuple(settings.find_part(str(one), "text_encoders", beside=place.parent) for one in texts),
    )


def recognise(files: BaseFiles) -> Variant:
    """What a base is; the first family that knows it decides.

    Raises:
        ModelError: none does, or it is a relative that its family cannot use.
        FileProblem: a file is cut off or damaged.
    """
    found = recognised(files)
    if found is not None:
        return found
    raise ModelError(
        "this is not a base model that is known here",
        where=files.model,
        fix=f"known families are {', '.join(FAMILIES)}; a LoRA is given with --lora",
    )


def recognised(files: BaseFiles) -> Variant | None:
    """As `recognise`; None where no family knows it.

    Raises:
        ModelError, FileProblem: as `recognise`.
    """
    for package in FAMILIES.values():
        found: Variant | None = importlib.import_module(f"{package}.recognise").recognise(files.model)
        if found is not None:
            return found
    return None


def kinds(family: str) -> tuple[PartKind, ...]:
    """The parts of a family's bases."""
    found: tuple[PartKind, ...] = importlib.import_module(f"{FAMILIES[family]}.configuration").PARTS
    return found


def locate(files: BaseFiles) -> Base:
    """Recognise a base and find each of its parts.

    A part that a file lacks is taken from the only file in the user's folders that holds it; a note says so.

    Raises:
        ModelError: no family knows it, or a part is nowhere, or in several files of the user's folders.
        FileProblem: a file is cut off or damaged.
    """
    variant = recognise(files)
    wanted = kinds(variant.family)
    found = present(files, variant.family)
    notes = []
    for kind in wanted:
        if kind.name in found:
            continue
        if files.model.is_dir():
            BaseFolder(files.model).files(kind.folder)  # says what is missing
        found[kind.name] = _searched(kind, files, variant.family)
        notes.append(f"the {kind.title} is taken from {found[kind.name].files[0].name}, found in your folders")
    return Base(variant, files, {kind.name: found[kind.name] for kind in wanted}, tuple(notes))


def present(files: BaseFiles, family: str) -> dict[str, PartFiles]:
    """The parts that the named files hold.

    Raises:
        ModelError: a file that was named beside the base holds none.
        FileProblem: a file is cut off or damaged.
    """
    wanted = parts.by_name(kinds(family))
    if files.model.is_dir():
        folder = BaseFolder(files.model)
        found = {name: PartFiles(lies) for name, kind in wanted.items() if (lies := folder.held(kind.folder))}
    else:
        found = _in_file(files.model, wanted)
    for path in files.others:
        given = {name: place for name, place in _in_file(path, wanted).items() if name != search.DENOISER}
        if not given:
            raise ModelError(f"this file holds no part of a base of {family}", where=path)
        found |= given
    return found


def _in_file(path: Path, wanted: Mapping[str, PartKind]) -> dict[str, PartFiles]:
    held = parts.held_by(read_header(path), wanted.values())
    return {name: PartFiles((path,), prefix, layout) for name, (prefix, layout) in held.items()}


def _searched(kind: PartKind, files: BaseFiles, family: str) -> PartFiles:
    """The part in the only file of the user's folders that holds it; never one that might be another family's."""
    found = candidates(kind, family) if kind.option else []
    if len(found) == 1 and not kind.ambiguous:
        return found[0]
    if found:
        names = ", ".join(sorted(str(place.files[0]) for place in found))
        which = f"{len(found)} files in your folders do"
        if kind.ambiguous:
            which = "another family's looks the same as those in your folders"
        raise ModelError(
            f"this checkpoint holds no {kind.title}, and {which}: {names}",
            where=files.model,
            fix=f"name the right one with {kind.option}",
        )
    fix = f"give one with {kind.option}" if kind.option else "use one that has all its parts"
    raise ModelError(f"this checkpoint holds no {kind.title}", where=files.model, fix=fix)


def candidates(kind: PartKind, family: str) -> list[PartFiles]:
    """Where a part lies in the user's folders of autoencoders, of text encoders and of bases."""
    user = settings.load()
    places = (*user.folders("vaes"), *user.folders("text_encoders"), *user.folders("bases"))
    return search.part_files(places, {name: kinds(name) for name in FAMILIES}, family=family, part=kind.name)


def resolution(files: BaseFiles) -> int:
    """Side of the square that a base was made for, in pixels.

    Raises:
        ModelError: no family knows it, a part is nowhere, or its settings are damaged.
    """
    base = locate(files)
    side: int = importlib.import_module(f"{FAMILIES[base.variant.family]}.configuration").read(base).resolution
    return side


def base_hash(base: Base) -> str:
    """sha256 of a base that is one file; else over the hashes of its parts' files, in the order of the parts."""
    files = [path for part in base.parts.values() for path in part.files]
    if set(files) == {base.source}:
        return settings.file_hash(base.source)
    digests = [settings.file_hash(path) for path in dict.fromkeys(files)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
