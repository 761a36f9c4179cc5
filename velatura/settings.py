"""The user's own settings: where bases, their parts and LoRAs lie, and what a name means.

    ~/.config/velatura/config.toml     (the platform's folder; VELATURA_HOME moves it)

    offline = false                    # true: nothing is ever fetched
    cache_limit = 20                   # gigabytes of encoded pictures and captions that are kept; 0: none
    neighbours = true                  # false: what A1111, Forge, ComfyUI and others have is not used
    [folders]
    bases = ["/models/checkpoints"]
    loras = ["/models/loras"]
    vaes = ["/models/vae"]
    text_encoders = ["/models/text_encoders"]
    embeddings = ["/models/embeddings"]
    controlnets = ["/models/controlnet"]
    detectors = ["/models/detectors"]  # YOLO, as ONNX files
    upscalers = ["/models/ESRGAN"]
    wildcards = ["/prompts/wildcards"]
    styles = ["/prompts/styles.csv"]   # a file, or a folder of them
    [captioners.seeing]                # settings of captioners, each under a name of its own; see captioning/chosen.py
    endpoint = "http://localhost:8080/v1"

A base's name means a built-in base, else a file or folder in these, else one in the folders of other programs
(`neighbours`). A LoRA's name means a file of the project, else one in these. Other folders are not searched; only the
Hugging Face cache is known besides.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from velatura.errors import FileProblem, SettingsError, nearest, nearest_few
from velatura.files import disk_problems, make_folder, sha256, write_text
from velatura.neighbours import programs

BUILT_IN_BASES = {"pocket": Path(__file__).parent / "pocket" / "base"}
"""Bases that come with the program."""

WEIGHT_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".gguf")
"""Of files that may hold a base or a part of one."""

LORA_ENDINGS = (".safetensors",)

DETECTOR_ENDINGS = (".onnx", ".pt", ".pth")
"""Pickled ones are found too, so that it can be said how they are made usable."""

PEFT_SETTINGS = "adapter_config.json"
"""The file by which a folder is known as an adapter that PEFT wrote."""

PEFT_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2")
"""Folders in such a folder, each with the adapter of one part."""

FOLDERS = (
    *("bases", "loras", "vaes", "text_encoders", "embeddings", "controlnets", "detectors", "upscalers"),
    *("wildcards", "styles"),
)
"""What `[folders]` may name."""

INDEX = "model_index.json"
"""The file by which a folder is known as a base in diffusers' form."""

NETWORK_SETTINGS = "config.json"
"""The file by which a folder is known as one network in diffusers' form."""

BASE_FILE = "base.toml"
"""Names the files of a base that lies in several, in a folder of its own."""

BASE_MARKS = (INDEX, BASE_FILE)
"""Files by which a folder is known as one base."""


@dataclass(frozen=True)
class UserSettings:
    """What `config.toml` says."""

    bases: tuple[Path, ...] = ()
    loras: tuple[Path, ...] = ()
    vaes: tuple[Path, ...] = ()
    text_encoders: tuple[Path, ...] = ()
    embeddings: tuple[Path, ...] = ()
    controlnets: tuple[Path, ...] = ()
    detectors: tuple[Path, ...] = ()
    upscalers: tuple[Path, ...] = ()
    wildcards: tuple[Path, ...] = ()
    styles: tuple[Path, ...] = ()
    """Files, or folders of them."""
    cache: Path = Path()
    """Where things that can be made again are kept."""
    cache_limit: float = 20.0
    """Gigabytes that encoded pictures and captions may take of it; 0: they are not kept."""
    offline: bool = False
    """Nothing is ever fetched."""
    neighbours: bool = True
    """Folders of other programs are used too."""
    captioners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    """Settings of captioners by their names; there may be keys of servers among them."""

    def named(self, kind: str) -> tuple[Path, ...]:
        """The folders of one kind of `FOLDERS` that the user names."""
        found: tuple[Path, ...] = getattr(self, kind)
        return found

    def found(self, kind: str) -> tuple[Path, ...]:
        """Those of other programs that the user does not name."""
        named = self.named(kind)
        return tuple(at for at in programs.folders(kind) if at not in named) if self.neighbours else ()

    def folders(self, kind: str) -> tuple[Path, ...]:
        """Both, those that the user names first."""
        return (*self.named(kind), *self.found(kind))


def home() -> Path:
    """The folder of the user's settings."""
    if given := os.environ.get("VELATURA_HOME"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", Path.home() / "AppData" / "Roaming")) / "velatura"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "velatura"
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "velatura"


def cache_folder() -> Path:
    """Where things that can be made again are kept."""
    if given := os.environ.get("VELATURA_HOME"):
        return Path(given) / "cache"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "velatura" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "velatura"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "velatura"


def hub_cache() -> Path:
    """Where Hugging Face's library keeps what was fetched, by any program."""
    if given := os.environ.get("HF_HUB_CACHE", os.environ.get("HUGGINGFACE_HUB_CACHE")):
        return _expanded(given)
    above = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return _expanded(os.environ.get("HF_HOME", f"{above}/huggingface")) / "hub"


def load() -> UserSettings:
    """Read the user's settings; a missing file means the defaults.

    Raises:
        SettingsError: the file is not TOML, or holds a key that is not known.
    """
    path = home() / "config.toml"
    if not path.exists():
        return UserSettings(cache=cache_folder())
    with disk_problems(path):
        data = path.read_bytes()
    try:
        tree = tomllib.loads(data.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"your settings are not valid TOML: {error}", where=path, fix="mend the line named"
        ) from error
    folders = tree.pop("folders", {})
    if not isinstance(folders, dict):
        raise SettingsError("folders is a group of settings, not a value", where=path, fix="write [folders] above it")
    cache = tree.pop("cache", str(cache_folder()))
    limit = tree.pop("cache_limit", UserSettings.cache_limit)
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit < float("inf"):
        raise SettingsError(f"cache_limit is a number of gigabytes, got {limit!r}", where=path, fix="write one, as 20")
    offline, used = tree.pop("offline", False), tree.pop("neighbours", True)
    for name, told in (("offline", offline), ("neighbours", used)):
        if not isinstance(told, bool):
            raise SettingsError(f"{name} is true or false, got {told!r}", where=path, fix=f"write {name} = true")
    captioners = tree.pop("captioners", {})
    if not isinstance(captioners, dict) or not all(isinstance(one, dict) for one in captioners.values()):
        what, fix = "captioners are groups of settings with names", "write [captioners.NAME] above each"
        raise SettingsError(what, where=path, fix=fix)
    for name in [*tree, *(key for key in folders if key not in FOLDERS)]:
        close = nearest(name, ["folders", *(one.name for one in fields(UserSettings))])
        raise SettingsError(
            f"unknown setting {name}", where=path, fix=f"did you mean {close}?" if close else "remove it"
        )
    named = {kind: _folders(kind, folders, path) for kind in FOLDERS}
    place = _folder(cache, path)
    return UserSettings(
        **named, cache=place, cache_limit=limit, offline=offline, neighbours=used, captioners=captioners
    )


def _folders(key: str, given: dict[str, object], where: Path) -> tuple[Path, ...]:
    listed = given.get(key, [])
    return tuple(_folder(entry, where) for entry in (listed if isinstance(listed, list) else [listed]))


def _folder(given: object, where: Path) -> Path:
    if not isinstance(given, str):
        raise SettingsError(f"a folder is text in quotes, got {given!r}", where=where, fix="put quotes around it")
    return _expanded(given)


def _expanded(name: str) -> Path:
    """The path with ~ and ~user filled in; as it stands where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def base_at(name: str, *, beside: Path | None = None) -> Path | None:
    """The file or folder at a base's path, or the built-in base of this name; None where there is neither."""
    for candidate in (_expanded(name), *([beside / name] if beside else [])):
        if candidate.is_file() or any((candidate / name).is_file() for name in (INDEX, BASE_FILE)):
            return candidate
    return BUILT_IN_BASES.get(name)


def find_base(name: str, *, beside: Path | None = None, sha256: str = "") -> Path:
    """The file or folder that a base's name or path means.

    Args:
        name: a path, or a name to look up. A path of another machine means the file of the same name here.
        beside: folder against which a relative path is also tried (a recipe's).
        sha256: decides between files of one name.

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    if direct := base_at(name, beside=beside):
        return direct
    found = _nearest(_last(name), "bases", list_bases)
    if len(found) > 1 and sha256:
        found = [path for path in found if path.is_file() and file_hash(path) == sha256] or found
    if len(found) == 1:
        return found[0]
    known = sorted({*BUILT_IN_BASES, *(path.stem for path in list_bases())})
    raise _unresolved("base model", name, found, known)


def find_part(name: str, kind: Literal["vaes", "text_encoders"], *, beside: Path | None = None) -> Path:
    """The file that the name or path of an autoencoder or a text encoder means: in its own folders, then the bases'.

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    if direct := base_at(name, beside=beside):
        return direct
    found = _nearest(_last(name), kind, list_weights) or _nearest(_last(name), "bases", list_weights)
    if len(found) == 1:
        return found[0]
    title = {"vaes": "autoencoder", "text_encoders": "text encoder"}[kind]
    raise _unresolved(title, name, found, sorted({path.stem for path in list_weights(load().folders(kind))}))


def find_upscaler(name: str) -> Path:
    """The file that the name or path of an upscale model means.

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    if Path(name).is_file():
        return Path(name)
    found = _nearest(_last(name), "upscalers", list_weights)
    if len(found) == 1:
        return found[0]
    known = {"Lanczos", "Nearest", "None", *(path.stem for path in list_weights(load().folders("upscalers")))}
    raise _unresolved("upscaler", name, found, sorted(known))


def base_name(source: Path) -> str:
    """What the base at this place is called: its built-in name, else that of its folder, file or repository."""
    for name, place in BUILT_IN_BASES.items():
        if place == source:
            return name
    if source.is_file():
        return source.stem
    folder = source.resolve()
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.rpartition("--")[2]
    return folder.name


def find_lora(name: str, *, project: Path | None = None) -> Path:
    """The file that a LoRA's name or path means: a path, the project's `loras/` and other folders, then the user's.

    Where no file has the name, it may be the one that a file's trainer gave it (`ss_output_name`), as in A1111.
    Runs are not searched: every checkpoint in them bears the same name.

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    direct = _expanded(name)
    if direct.is_file() or any((direct / sub / PEFT_SETTINGS).is_file() for sub in ("", *PEFT_PARTS)):
        return direct
    if project is not None:
        local = _by_name(name, list_loras((project / "loras", project)))
        if local:
            return local[0]
    found = _nearest(name, "loras", list_loras)
    places = (*((project,) if project else ()), *load().folders("loras"))
    if not found:
        every = [path for path in list_loras(places) if path.is_file()]
        found = [
            path for path, called in remembered("lora-names", every, _trained_name).items() if called == name.lower()
        ]
    if len(found) == 1:
        return found[0]
    raise _unresolved("LoRA", name, found, sorted({path.stem for path in list_loras(places)}))


def find_controlnet(name: str, *, project: Path | None = None) -> Path:
    """The file or folder that a ControlNet's name or path means: a path, the project's `controlnets/`, the user's.

    Raises:
        SettingsError: nothing, or more than one, has that name.
    """
    direct = _expanded(name)
    if direct.is_file() or (direct / NETWORK_SETTINGS).is_file():
        return direct
    if project is not None and (local := _by_name(name, list_networks((project / "controlnets",)))):
        return local[0]
    found = _nearest(_last(name), "controlnets", list_networks)
    if len(found) == 1:
        return found[0]
    known = sorted({path.stem for path in list_networks(load().folders("controlnets"))})
    raise _unresolved("ControlNet", name, found, known)


def list_networks(places: Iterable[Path]) -> list[Path]:
    """Files of weights in these folders, and folders of one network in diffusers' form."""
    return [path for place in places for path in _walk(place, WEIGHT_ENDINGS, (NETWORK_SETTINGS,))]


def find_detector(name: str) -> Path:
    """The file that a detector's name or path means: a path, else one in the folders of detectors, ONNX before others.

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    direct = _expanded(name)
    if direct.is_file():
        return direct
    found = detectors_named(name)
    found = [path for path in found if path.suffix.lower() == ".onnx"] or found
    if len(found) == 1:
        return found[0]
    known = sorted({path.stem for path in list_weights(load().folders("detectors"), DETECTOR_ENDINGS)})
    raise _unresolved("detector", name, found, known)


def detectors_named(name: str) -> list[Path]:
    """The files of this name in the folders of detectors."""
    return _nearest(_last(name), "detectors", lambda places: list_weights(places, DETECTOR_ENDINGS))


def _trained_name(path: Path) -> str:
    """What a LoRA's trainer called it, in small letters; nothing where its file does not say or cannot be read."""
    from velatura.tensorfile import read_header

    try:
        return read_header(path).metadata.get("ss_output_name", "").lower()
    except FileProblem:
        return ""


def list_bases(places: Iterable[Path] | None = None) -> list[Path]:
    """Files and folders in folders of bases that may be one; what lies inside a base's folder is not.

    Args:
        places: the folders; None: the user's and those of other programs.
    """
    told = load().folders("bases") if places is None else places
    return [path for place in told for path in _walk(place, WEIGHT_ENDINGS)]


def list_weights(places: Iterable[Path], endings: tuple[str, ...] = WEIGHT_ENDINGS) -> list[Path]:
    """Files of weights in these folders."""
    return [path for place in places for path in _walk(place, endings) if path.name != INDEX and not path.is_dir()]


def list_loras(places: Iterable[Path]) -> list[Path]:
    """Files of adapters in these folders, and folders that PEFT wrote."""
    found = (path for place in places for path in _walk(place, LORA_ENDINGS, (*BASE_MARKS, PEFT_SETTINGS)))
    return [path for path in found if not path.is_dir() or (path / PEFT_SETTINGS).is_file()]


def _walk(place: Path, endings: tuple[str, ...], marks: tuple[str, ...] = BASE_MARKS) -> Iterator[Path]:
    """Files with these endings, and folders with a mark as one; a folder that links lead to twice comes once."""
    seen: set[Path] = set()
    for at, below, names in os.walk(place, followlinks=True):
        folder = Path(at)
        if folder.resolve() in seen:
            below.clear()
            continue
        seen.add(folder.resolve())
        if any(mark in names for mark in marks):
            below.clear()
            yield folder
            continue
        below[:] = sorted(name for name in below if name not in ("runs", ".venv"))
        yield from (folder / name for name in sorted(names) if name.lower().endswith(endings))


def _nearest(name: str, kind: str, listed: Callable[[Iterable[Path]], list[Path]]) -> list[Path]:
    """Those of this name in the folders that the user names, else in those of other programs; a linked one once."""
    user = load()
    found = _by_name(name, listed(user.named(kind))) or _by_name(name, listed(user.found(kind)))
    return list({path.resolve(): path for path in reversed(found)}.values())[::-1]


def _by_name(name: str, files: Iterable[Path]) -> list[Path]:
    wanted = name.lower()
    return [path for path in files if wanted in (path.stem.lower(), path.name.lower())]


def _last(name: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(name).name or name


def _unresolved(kind: str, name: str, found: list[Path], known: list[str]) -> SettingsError:
    if found:
        listed = ", ".join(str(path) for path in found[:5])
        return SettingsError(
            f"{len(found)} files are named {_last(name)}", where=listed, fix="give the path of the one you mean"
        )
    last = _last(name)
    ending = next((ending for ending in WEIGHT_ENDINGS if last.lower().endswith(ending)), "")
    close = nearest_few(last[: len(last) - len(ending)], known)
    fix = (
        f"did you mean {', '.join(close[:-1])}{' or ' if len(close) > 1 else ''}{close[-1]}?"
        if close
        else "give a path, or add its folder to config.toml (`velatura doctor` shows where)"
    )
    return SettingsError(f"no {kind} is named {name}", fix=fix)


def file_hash(path: Path) -> str:
    """sha256 of a file, remembered by path, size and time of change, since bases are gigabytes."""
    return str(remembered("hashes", [path], sha256)[path])


def remembered(memory: str, paths: Iterable[Path], ask: Callable[[Path], Any]) -> dict[Path, Any]:
    """What a question about each of some files is answered; answers are kept while path, size and time of change are.

    Args:
        memory: name of the file in the cache folder that keeps them.
        ask: gives the answer, in plain values; what it raises ends this.
    """
    place = load().cache / f"{memory}.json"
    known = _recalled(place)
    before = len(known)
    answers = {}
    for path in paths:
        with disk_problems(path):
            stat = path.stat()
        mark = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if mark not in known:
            known[mark] = ask(path)
        answers[path] = known[mark]
    if len(known) > before:
        keep(memory, known)
    return answers


def keep(memory: str, known: Mapping[str, Any]) -> None:
    """Put plain values by name into the cache folder's `MEMORY.json`; one that cannot be written is only slower."""
    place = load().cache / f"{memory}.json"
    with contextlib.suppress(FileProblem):
        make_folder(place.parent)
        write_text(place, json.dumps(known, indent=0))


def recall(memory: str) -> dict[str, Any]:
    """What was kept under this name; nothing where there is nothing, or it is damaged."""
    return _recalled(load().cache / f"{memory}.json")


def _recalled(place: Path) -> dict[str, Any]:
    try:
        known = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # a damaged cache is an empty one
    return known if isinstance(known, dict) else {}
