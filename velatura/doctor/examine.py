"""Everything that is looked at, in the order a person reads it: program, machine, disk, packages, folders, base."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from velatura import settings, tensorfile
from velatura.doctor import machine, packages
from velatura.doctor.devices import processor_has_bf16
from velatura.errors import SettingsError, VelaturaError
from velatura.neighbours import programs
from velatura.version import __version__

GIGABYTE = 1024**3

LEAST_MEMORY = 2 * GIGABYTE
"""What the demo needs."""

LEAST_DISK = 1 * GIGABYTE
"""A few runs on the pocket base with their checkpoints."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    says: str
    state: Literal["good", "note", "wrong"] = "good"
    """A note is worth knowing; wrong is what keeps Velatura from working."""
    fix: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; a look that fails is itself a finding."""
    looks = (_program, _processor, _memory, _disk, _core, _torch, _extras, _folders, _neighbours, _pocket)
    return [finding for look in looks for finding in look()]


def _program() -> Iterator[Finding]:
    yield Finding("Velatura", __version__)
    old = sys.version_info < (3, 11)
    fix = "install Python 3.11 or newer" if old else None
    yield Finding("Python", platform.python_version(), "wrong" if old else "good", fix)
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")


def _processor() -> Iterator[Finding]:
    count = machine.threads()
    yield Finding("processor threads", str(count))


def _memory() -> Iterator[Finding]:
    found = machine.memory()
    if found is None:
        yield Finding("memory", "the system does not say", "note")
        return
    total, free = found
    says = f"{free / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB free"
    if free < LEAST_MEMORY:
        yield Finding("memory", says, "note", "close other programs; even the demo needs 2 GB")
    else:
        yield Finding("memory", says)


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    says = f"{free / GIGABYTE:.1f} GB free here"
    if free < LEAST_DISK:
        yield Finding("disk", says, "wrong", "free some space, or work on another disk")
    else:
        yield Finding("disk", says)


def _core() -> Iterator[Finding]:
    needed = packages.core()
    if not needed:
        yield Finding("packages", "not installed as a package, so versions are not known", "note", "pip install -e .")
    for one in needed:
        if one.good:
            yield Finding(one.name, str(one.found))
        else:
            says = "missing" if one.found is None else f"{one.found}, but {one.asked} is needed"
            yield Finding(one.name, says, "wrong", f'pip install "{one.name}{one.asked}"')


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        says = f"torch cannot be loaded: {type(error).__name__}"
        yield Finding("device", says, "wrong", "install it again, as pytorch.org says for your system")
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield Finding("device", f"CUDA {facts.name}, {facts.total_memory / GIGABYTE:.0f} GB, {bf16}")
    if torch.backends.mps.is_available():
        yield Finding("device", "MPS (Apple)")
    bf16 = "bf16 units" if processor_has_bf16() else "no bf16 units known"
    yield Finding("device", f"CPU, {torch.backends.cpu.get_cpu_capability()}, {bf16}")


def _extras() -> Iterator[Finding]:
    for extra, needed in packages.extras().items():
        missing = [one.name for one in needed if not one.good]
        if missing:
            fix = f'pip install "velatura[{extra}]"'
            yield Finding(f"extra {extra}", f"not installed: {', '.join(missing)}", "note", fix)
        elif needed:
            yield Finding(f"extra {extra}", ", ".join(f"{one.name} {one.found}" for one in needed))


def _folders() -> Iterator[Finding]:
    yield Finding("settings", tilde(settings.home() / "config.toml"))
    try:
        user = settings.load()
    except VelaturaError as error:
        yield Finding("settings", error.what, "wrong", error.fix)
        return
    yield Finding("cache", tilde(user.cache))
    if user.offline:
        yield Finding("network", "nothing is fetched, as your settings say")
    for kind, title in programs.TITLES.items():
        for folder in user.named(kind):
            if folder.exists():
                yield Finding(f"folder of {title}", tilde(folder))
            else:
                fix = "mend it in your settings, or connect the disk it is on"
                yield Finding(f"folder of {title}", f"{tilde(folder)} is not there", "note", fix)


def _neighbours() -> Iterator[Finding]:
    try:
        user = settings.load()
    except SettingsError:
        user = settings.UserSettings()
    for found in programs.neighbours():
        if found.problem:
            yield Finding(found.program, found.problem, "note", "without it only its own folders are known")
        if found.folders:
            used = "used by their names" if user.neighbours else "not used, as your settings say"
            yield Finding(found.program, f"{found.says} in {tilde(found.at)}, {used}")
    if hub := _hugging_face():
        yield Finding("Hugging Face", f"{hub[1]} models in {tilde(hub[0])}; `velatura bases` lists those of use")


def _hugging_face() -> tuple[Path, int] | None:
    """The cache of Hugging Face's library and how many models are in it; None where there is none."""
    cache = settings.hub_cache()
    try:
        return cache, sum(path.name.startswith("models--") for path in islice(cache.iterdir(), programs.COUNT_UP_TO))
    except OSError:
        return None


def _pocket() -> Iterator[Finding]:
    """The base that comes with the program: every file of weights is as long as its header says."""
    folder = settings.BUILT_IN_BASES["pocket"]
    fix = "install Velatura again"
    if not (folder / "model_index.json").exists():
        yield Finding("pocket base", "missing", "wrong", fix)
        return
    weights = sorted(folder.rglob("*.safetensors"))
    try:
        for path in weights:
            tensorfile.read_header(path)
    except VelaturaError as error:
        yield Finding("pocket base", f"damaged: {error.what}", "wrong", fix)
        return
    size = sum(path.stat().st_size for path in weights) / 1024**2
    yield Finding("pocket base", f"{size:.0f} MB in {len(weights)} files", *(() if weights else ("wrong", fix)))


def tilde(path: Path) -> str:
    """The path with the user's folder, which may bear their name, as ~."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) and path != home else str(path)
