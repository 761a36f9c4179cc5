"""Who wrote each caption: a tool with its settings, a person, or whoever did before it was added to the dataset.

    authors.json   {"version": 1, "captions": {"01.png": {"by": "wd14", "settings": {...}, "sha256": "..."}}}

What a tool wrote is known by the hash of its text. A caption that was changed since, or that nothing is noted of, was
written by a person, and no tool writes over it unless asked; nor over what came with a picture from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velatura.errors import DatasetError
from velatura.files import disk_problems

FILE = "authors.json"

PERSON, IMPORT = "person", "import"


@dataclass(frozen=True)
class Authors:
    """What is noted of captions that tools wrote, by picture."""

    noted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, name: str, captions: Sequence[str] | None) -> str | None:
        """The tool that wrote a picture's captions, `person`, `import`, or None where there are none."""
        if captions is None:
            return None
        note = self.noted.get(name)
        return str(note["by"]) if note is not None and note["sha256"] == mark(captions) else PERSON

    def by_person(self, name: str, captions: Sequence[str] | None) -> bool:
        """Whether a tool has to leave the captions alone; empty ones are nobody's, imported ones may be a person's."""
        return self.of(name, captions) in (PERSON, IMPORT) and any(captions or ())

    def settings(self, name: str) -> Mapping[str, Any]:
        """What the tool that wrote a picture's captions had been told."""
        found: Mapping[str, Any] = self.noted.get(name, {}).get("settings", {})
        return found

    def with_note(self, name: str, captions: Sequence[str], *, by: str, settings: Mapping[str, Any]) -> Authors:
        """The notes after a tool wrote the captions of a picture."""
        return Authors({**self.noted, name: note(mark(captions), by=by, settings=settings)})

    def renamed(self, pairs: Mapping[str, str]) -> Authors:
        """The notes after pictures were renamed, old name -> new name."""
        return Authors({pairs.get(name, name): noted for name, noted in self.noted.items()})

    def to_json(self) -> str:
        """The file's text."""
        tree = {"version": 1, "captions": dict(sorted(self.noted.items()))}
        return json.dumps(tree, ensure_ascii=False, indent=1) + "\n"


def note(mark: str, *, by: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What is noted of captions with this mark that a tool wrote."""
    return {"by": by, "settings": dict(settings), "sha256": mark}


def load(folder: Path) -> Authors:
    """What is noted in a folder; nothing where there is no file.

    Raises:
        DatasetError: the file is damaged; what a person wrote could then not be told from the rest.
    """
    path = folder / FILE
    if not path.is_file():
        return Authors()
    with disk_problems(path):
        data = path.read_bytes()
    try:
        noted = {str(name): dict(one) for name, one in json.loads(data)["captions"].items()}
        if not all({"by", "sha256"} <= set(one) for one in noted.values()):
            raise ValueError
        return Authors(noted)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fix = "mend it, or take it away: all captions then count as written by a person"
        raise DatasetError("the file that says who wrote captions is damaged", where=path, fix=fix) from None


def mark(captions: Sequence[str]) -> str:
    """By what captions are known again: the hash of their lines."""
    return hashlib.sha256("\n".join(captions).encode("utf-8", "surrogatepass")).hexdigest()
