"""Files that hold parts of bases and no denoiser, known by their headers, in the folders that the user has named.

What a file holds is remembered by its path, size and time of change, so that a folder of hundreds is looked through
once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from velatura import settings
from velatura.errors import VelaturaError
from velatura.weights import parts
from velatura.weights.containers import read_header
from velatura.weights.parts import PartFiles, PartKind

DENOISER = "denoiser"

Kinds = Mapping[str, Sequence[PartKind]]
"""Family -> the parts of its bases."""


def part_files(places: Iterable[Path], kinds: Kinds, *, family: str, part: str) -> list[PartFiles]:
    """Where a part lies in files that hold no base's denoiser; one file under several names counts once.

    A file that cannot be read is passed over: it is no candidate.
    """

    def ask(path: Path) -> Any:
        try:
            header = read_header(path)
        except VelaturaError:
            return None
        return {name: parts.held_by(header, wanted) for name, wanted in kinds.items()}

    files = {path.resolve(): path for path in settings.list_weights(places)}
    answers = settings.remembered(f"parts-{_mark(kinds)}", files.values(), ask)
    found = []
    for path, held in answers.items():
        if not held or any(DENOISER in ours for ours in held.values()) or part not in held.get(family, {}):
            continue
        prefix, layout = held[family][part]
        found.append(PartFiles((path,), prefix, layout))
    return found


def _mark(kinds: Kinds) -> str:
    """Stands for the signs that files were asked about: other signs, other answers."""
    return hashlib.sha256(repr(sorted(kinds.items())).encode()).hexdigest()[:12]
