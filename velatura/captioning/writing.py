"""Captions of a whole dataset by a captioner: a person's own words stay, an interruption loses nothing.

The work is one resumable edit of the dataset: each caption is written as it comes, and undo takes all of them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from velatura.captioning.captioner import Answer, Asked, Captioner
from velatura.dataset import authors, captioned, journal
from velatura.dataset.captioned import Captioned
from velatura.dataset.journal import Edit
from velatura.errors import DatasetError
from velatura.events import Event, Progress


@dataclass(frozen=True)
class Written:
    """What came of it."""

    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Pictures whose captions a person wrote."""
    failed: tuple[tuple[str, str], ...] = ()
    """Pictures that have no new caption, and why."""


class Captioning:
    """Captioning as an iterator of events; `result` is there when it has ended."""

    def __init__(
        self, folder: Path, captioner: Captioner, *, names: Sequence[str] = (), replace_own: bool = False
    ) -> None:
        """Nothing happens before this is iterated.

        Args:
            folder: the dataset.
            captioner: who describes the pictures.
            names: of pictures, with or without ending; every chosen one where none is named.
            replace_own: also write over what a person wrote.
        """
        self.folder, self.captioner, self.names, self.replace_own = folder, captioner, names, replace_own
        self.result: Written | None = None

    def __iter__(self) -> Iterator[Event]:
        """Ask about each picture and write the answer.

        Raises:
            DatasetError: another edit was interrupted, or is being made.
        """
        # With its settings, so that an interrupted edit is only gone on with by the same captioner.
        settings = ", ".join(f"{key} {value}" for key, value in self.captioner.settings.items() if value)
        told = f"captions by {self.captioner.name}: {settings}"
        with journal.edit(self.folder, told, resumable=True) as changes:
            found, problems = captioned.read(self.folder, self.names)
            written = authors.load(self.folder)
            settled = [one for one in found if one.name in changes.settled]
            open_ones = [one for one in found if one.name not in changes.settled]
            kept = [one for one in open_ones if not self.replace_own and written.by_person(one.name, one.captions)]
            wanted = [one for one in open_ones if one not in kept]
            result = Written(
                kept=tuple(one.name for one in kept), failed=tuple((one.name, one.what) for one in problems)
            )
            # An interrupted edit wrote these captions, but may not have come to note it.
            notes = {one.name: (one.captions or ()) for one in settled}
            try:
                for start in range(0, len(wanted), self.captioner.batch):
                    yield Progress("captions", start, len(wanted))
                    batch = wanted[start : start + self.captioner.batch]
                    result = self._take(changes, batch, result, notes)
            finally:
                self._note(changes, written, notes)
            self.result = replace(result, written=(*(one.name for one in settled), *result.written))
            yield Progress("captions", len(wanted), len(wanted))

    def _take(
        self, changes: Edit, batch: Sequence[Captioned], result: Written, notes: dict[str, tuple[str, ...]]
    ) -> Written:
        answers = self.captioner.describe([Asked(one.name, one.picture, one.captions or ()) for one in batch])
        for one, answer in zip(batch, answers, strict=True):
            captions = _lines(answer)
            if not captions:
                result = replace(result, failed=(*result.failed, (one.name, answer.why or "the answer is empty")))
                continue
            changes.write_text(one.file, "\n".join(captions) + "\n")
            changes.settle(one.name, one.name)
            notes[one.name] = captions
            result = replace(result, written=(*result.written, one.name))
        return result

    def _note(self, changes: Edit, written: authors.Authors, notes: dict[str, tuple[str, ...]]) -> None:
        if not notes:
            return
        by, settings = self.captioner.name, self.captioner.settings
        noted = {name: authors.note(captions, by=by, settings=settings) for name, captions in notes.items()}
        changes.write_text(authors.FILE, authors.Authors({**written.noted, **noted}).to_json())


def tried(folder: Path, captioners: Sequence[Captioner], name: str) -> list[Answer]:
    """What several captioners say of one picture; nothing is written.

    Raises:
        DatasetError: there is no such picture.
    """
    found, _ = captioned.read(folder, [name])
    if not found:
        raise DatasetError(f"there is no picture {name}", where=folder, fix="check the name")
    asked = Asked(found[0].name, found[0].picture, found[0].captions or ())
    return [one.describe([asked])[0] for one in captioners]


def _lines(answer: Answer) -> tuple[str, ...]:
    """Captions, each without breaks: a line of a file is a caption."""
    return tuple(line for text in answer.captions if (line := " ".join(text.replace("\0", " ").split())))
