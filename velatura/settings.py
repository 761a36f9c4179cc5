"""The user's own settings: where bases and LoRAs lie, and what a name means.

    ~/.config/velatura/config.toml     (the platform's folder; VELATURA_HOME moves it)

    [folders]
    bases = ["/models/checkpoints"]
    loras = ["/models/loras"]

A base's name means a built-in base, else a file or folder in these. A LoRA's name means a file of the
project, else one in these.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from velatura.errors import FileProblem, SettingsError, nearest
from velatura.files import disk_problems, make_folder, sha256, write_text

BUILT_IN_BASES = {"pocket": Path(__file__).parent / "pocket" / "base"}
"""Bases that come with the program."""

WEIGHT_ENDINGS = (".safetensors",)


@dataclass(frozen=True)
class UserSettings:
    """What `config.toml` says."""

    bases: tuple[Path, ...] = ()
    loras: tuple[Path, ...] = ()
    cache: Path = Path()


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
    for name in [*tree, *(key for key in folders if key not in ("bases", "loras"))]:
        close = nearest(name, ["folders", "cache", "bases", "loras"])
        raise SettingsError(
            f"unknown setting {name}", where=path, fix=f"did you mean {close}?" if close else "remove it"
        )
    return UserSettings(_folders("bases", folders, path), _folders("loras", folders, path), _folder(cache, path))


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


def find_base(name: str, *, beside: Path | None = None) -> Path:
    """The file or folder that a base's name or path means.

    Args:
        name: a path, or a name to look up.
        beside: folder against which a relative path is also tried (a recipe's).

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    for candidate in (_expanded(name), *([beside / name] if beside else [])):
        if (candidate.is_dir() and (candidate / "model_index.json").exists()) or candidate.is_file():
            return candidate
    if name in BUILT_IN_BASES:
        return BUILT_IN_BASES[name]
    found = _by_name(name, load().bases, folders=True)
    if len(found) == 1:
        return found[0]
    known = sorted({*BUILT_IN_BASES, *(path.stem for path in _all(load().bases, folders=True))})
    raise _unresolved("base model", name, found, known)


def base_name(source: Path) -> str:
    """What the base at this place is called: its built-in name, else that of its folder or file."""
    for name, place in BUILT_IN_BASES.items():
        if place == source:
            return name
    return source.stem if source.is_file() else source.resolve().name


def find_lora(name: str, *, project: Path | None = None) -> Path:
    """The file that a LoRA's name or path means: a path, the project's `loras/` and other folders, then the user's.

    Runs are not searched: every checkpoint in them bears the same name.

    Raises:
        SettingsError: nothing, or more than one file, has that name.
    """
    direct = _expanded(name)
    if direct.is_file():
        return direct
    if project is not None:
        local = _by_name(name, (project / "loras", project), folders=False)
        if local:
            return local[0]
    found = _by_name(name, load().loras, folders=False)
    if len(found) == 1:
        return found[0]
    places = (*((project,) if project else ()), *load().loras)
    raise _unresolved("LoRA", name, found, sorted({path.stem for path in _all(places, folders=False)}))


def _by_name(name: str, places: tuple[Path, ...], *, folders: bool) -> list[Path]:
    wanted = name.lower()
    return [path for path in _all(places, folders=folders) if wanted in (path.stem.lower(), path.name.lower())]


def _all(places: tuple[Path, ...], *, folders: bool) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = [path for path in sorted(place.rglob("*")) if not _passed_over(path.relative_to(place))]
            found += [path for path in inside if path.suffix.lower() in WEIGHT_ENDINGS and path.is_file()]
            if folders:
                found += [path.parent for path in inside if path.name == "model_index.json"]
    return found


def _passed_over(path: Path) -> bool:
    return any(part in ("runs", ".venv") for part in path.parts)


def _unresolved(kind: str, name: str, found: list[Path], known: list[str]) -> SettingsError:
    if found:
        listed = ", ".join(str(path) for path in found[:5])
        return SettingsError(
            f"{len(found)} files are named {name}", where=listed, fix="give the path of the one you mean"
        )
    close = nearest(name, known)
    fix = (
        f"did you mean {close}?"
        if close
        else "give a path, or add its folder to config.toml (`velatura doctor` shows where)"
    )
    return SettingsError(f"no {kind} is named {name}", fix=fix)


def file_hash(path: Path) -> str:
    """sha256 of a file, remembered by path, size and time of change, since bases are gigabytes."""
    with disk_problems(path):
        stat = path.stat()
    mark = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    memory = load().cache / "hashes.json"
    known = _remembered(memory)
    if mark not in known:
        known[mark] = sha256(path)
        with contextlib.suppress(FileProblem):  # a cache that cannot be written is only slower
            make_folder(memory.parent)
            write_text(memory, json.dumps(known, indent=0))
    return known[mark]


def _remembered(memory: Path) -> dict[str, str]:
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}  # a damaged cache is an empty one
    return known if isinstance(known, dict) else {}
