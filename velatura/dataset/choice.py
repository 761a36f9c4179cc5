"""Which pictures of a folder are taken: kept, rejected or undecided, in a file beside them.

    choice.json    {"version": 1, "only_kept": false, "pictures": {"07.png": "reject"}}

A folder is judged in place, and nothing is moved. Rejected pictures are left out of everything that follows;
where `only_kept` is set, as a pick does, undecided ones are left out too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from velatura.errors import DatasetError
from velatura.files import disk_problems

FILE = "choice.json"

Status = Literal["keep", "reject", "undecided"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Choice:
    """What has been decided; pictures that are not named are undecided."""

    decided: Mapping[str, Status] = field(default_factory=dict)
    only_kept: bool = False

    def status(self, name: str) -> Status:
        """What has been decided on a picture."""
        return self.decided.get(name, "undecided")

    def chosen(self, name: str) -> bool:
        """Whether a picture is part of the set."""
        status = self.status(name)
        return status == "keep" or (status == "undecided" and not self.only_kept)

    def with_status(self, names: Iterable[str], status: Status) -> Choice:
        """The choice with some pictures decided anew."""
        decided = dict(self.decided)
        for name in names:
            if status == "undecided":
                decided.pop(name, None)
            else:
                decided[name] = status
        return Choice(decided, self.only_kept)

    def renamed(self, pairs: Mapping[str, str]) -> Choice:
        """The choice after pictures were renamed, old name -> new name."""
        return Choice({pairs.get(name, name): status for name, status in self.decided.items()}, self.only_kept)

    def to_json(self) -> str:
        """The file's text."""
        tree = {"version": 1, "only_kept": self.only_kept, "pictures": dict(sorted(self.decided.items()))}
        return json.dumps(tree, ensure_ascii=False, indent=1) + "\n"


def load(folder: Path) -> Choice:
    """The choice made in a folder; nothing is decided where there is no file.

    Raises:
        DatasetError: the file is damaged; no picture is then taken or left out by guess.
    """
    path = folder / FILE
    if not path.is_file():
        return Choice()
    with disk_problems(path):
        data = path.read_bytes()
    try:
        tree = json.loads(data)
        decided = {str(name): status for name, status in tree["pictures"].items()}
        if set(decided.values()) - set(STATUSES):
            raise ValueError
        return Choice(decided, bool(tree.get("only_kept", False)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        fix = "mend it, or take it away to decide anew"
        raise DatasetError("the file that says which pictures are kept is damaged", where=path, fix=fix) from None
