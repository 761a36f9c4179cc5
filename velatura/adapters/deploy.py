"""Adapters handed to other programs: into their folder of LoRAs, as a hard link or a copy, remembered and undone.

Nothing that is there already is overwritten, and what is taken back is only what was put there and has not been
changed since. What was put where is remembered in `deployed.json` beside the user's settings.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from velatura import settings
from velatura.errors import AdapterError, SettingsError
from velatura.files import disk_problems, make_folder, sha256, write_text
from velatura.neighbours.programs import neighbours

PROGRAMS = {"comfyui": "ComfyUI", "a1111": "A1111", "forge": "Forge", "reforge": "reForge"}
"""What the user says -> what `neighbours` calls it."""

KOHYA_ONLY = frozenset({"A1111", "Forge", "reForge"})
"""Programs that want kohya's names; ComfyUI reads the names of all."""

FORBIDDEN = '<>:"/\\|?*'
"""In names, on one system or another."""

DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)
"""What Windows takes for a device, whatever the ending."""

Way = Literal["link", "copy", "converted"]


@dataclass(frozen=True)
class Deployed:
    """A file that was put into another program's folder."""

    source: str
    target: str
    sha256: str
    """Of the target when it was put there."""
    way: Way
    """A hard link takes no room, and both names stay when one is deleted."""

    @property
    def state(self) -> str:
        """ "there", "gone", or "changed since"."""
        target = Path(self.target)
        if not target.is_file():
            return "gone"
        return "there" if sha256(target) == self.sha256 else "changed since"


def folder_of(to: str) -> tuple[Path, str | None]:
    """The folder that a program's name or a path means, and the program where it is known.

    Raises:
        SettingsError: there is no such folder, or the program is nowhere or in several places.
    """
    program = PROGRAMS.get(to.lower())
    if program is None:
        path = Path(to).expanduser()
        if not path.is_dir():
            raise SettingsError(
                f"{to} is neither a folder nor a program that is known", fix=f"known are {', '.join(PROGRAMS)}"
            )
        near = (
            one.program
            for one in neighbours()
            if path.resolve() in {at.resolve() for at in one.folders.get("loras", ())}
        )
        return path, next(near, None)
    found = [one.folders["loras"][0] for one in neighbours() if one.program == program and one.folders.get("loras")]
    if len(found) != 1:
        listed = (
            f"{program} is in {len(found)} places: {', '.join(map(str, found))}"
            if found
            else f"{program} was not found"
        )
        raise SettingsError(listed, fix="give its folder of LoRAs instead, as in --to FOLDER")
    return found[0], program


def deploy(
    source: Path, folder: Path, *, name: str = "", copy: bool = False, converted: Callable[[Path], None] | None = None
) -> Deployed:
    """Put an adapter into a folder.

    Args:
        name: of the file there, without ending; empty: as it is called here.
        copy: a copy even where a link would do.
        converted: writes it in another form at a path, where it cannot be taken as it is.

    Raises:
        AdapterError: another file stands there, or the name is none.
        FileProblem: the disk refuses.
    """
    stem = name or source.stem
    device = stem.partition(".")[0].lower() in DEVICES
    if device or not stem.strip(". ") or any(letter in FORBIDDEN or ord(letter) < 32 for letter in stem):
        raise AdapterError(f"{stem!r} is no name for a file", fix="choose another with --name")
    target = folder / f"{stem}.safetensors"
    beside = folder / f".{os.getpid()}-deploy.part"
    with disk_problems(target):
        try:
            way: Way = "converted"
            if converted is not None:
                converted(beside)
            if target.exists():
                return _there(target, source if converted is None else beside)
            if converted is None:
                way = "link" if not copy and _linked(source, target) else "copy"
            if way == "copy":
                shutil.copyfile(source, beside)
            if way != "link":
                _placed(beside, target)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()
    done = Deployed(str(source.absolute()), str(target.absolute()), sha256(target), way)
    _remember([*remembered(), done])
    return done


def _there(target: Path, content: Path) -> Deployed:
    """What stands at the target, where it is this content and was put there before."""
    known = next((one for one in remembered() if Path(one.target) == target.absolute()), None)
    if known is None or known.state != "there" or sha256(content) != known.sha256:
        raise AdapterError("another file stands there already", where=target, fix="choose another name with --name")
    return known


def _linked(source: Path, target: Path) -> bool:
    """Whether a hard link was made; other disks and some systems have none."""
    try:
        target.hardlink_to(source.resolve())
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def _placed(beside: Path, target: Path) -> None:
    """Give the file its name, unless another has taken it meanwhile."""
    try:
        target.hardlink_to(beside)
    except FileExistsError:
        raise AdapterError("another file stands there already", where=target, fix="choose another name") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES):
            raise
        if target.exists():
            raise AdapterError("another file stands there already", where=target, fix="choose another name") from error
        beside.replace(target)


def undo(what: str) -> list[Deployed]:
    """Take back what was put somewhere; files that were changed since are left, and forgotten only when gone.

    Args:
        what: a target's path or its name; where none is called so, its source's.

    Raises:
        AdapterError: nothing of that name was put anywhere, or all of it was changed since.
    """
    known = remembered()
    meant = [one for one in known if _means(what, one.target)] or [one for one in known if _means(what, one.source)]
    if not meant:
        names = ", ".join(sorted({Path(one.target).stem for one in known})) or "nothing"
        raise AdapterError(f"{what} was not put anywhere", fix=f"put there was: {names}")
    states = {one: one.state for one in meant}
    if changed := [one for one in meant if states[one] == "changed since"]:
        raise AdapterError(
            "this file was changed since it was put there, and is left",
            where=changed[0].target,
            fix="delete it yourself",
        )
    for one in meant:
        if states[one] == "there":
            with disk_problems(Path(one.target)):
                Path(one.target).unlink()
    _remember([one for one in known if one not in meant])
    return meant


def _means(what: str, path: str) -> bool:
    return Path(what).absolute() == Path(path) or what in (Path(path).name, Path(path).stem)


def remembered() -> list[Deployed]:
    """What was put where."""
    try:
        listed = json.loads(_memory().read_bytes())
        return [Deployed(**one) for one in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            "the list of files given to other programs is damaged", where=_memory(), fix="move it away"
        ) from error


def _memory() -> Path:
    return settings.home() / "deployed.json"


def _remember(all_of_it: Iterable[Deployed]) -> None:
    make_folder(_memory().parent)
    write_text(_memory(), json.dumps([asdict(one) for one in all_of_it], indent=1))
