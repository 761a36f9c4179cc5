"""Captions of a whole dataset by a captioner: a person's own words stay, an interruption loses nothing.

The work is one resumable edit of the dataset: each caption is written as it comes, and undo takes all of them back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from velatura.captioning.appended import Appended
from velatura.captioning.captioner import Answer, Asked, Captioner
from velatura.dataset import authors, captioned, journal
from velatura.dataset.captioned import Captioned
from velatura.dataset.captions import MAX_BYTES, read_captions
from velatura.dataset.editing import Selection, select
from velatura.dataset.journal import Edit
from velatura.errors import DatasetError, ModelError, SettingsError
from velatura.events import Event, Progress

TOLD = 40
"""Letters of a setting that the history shows."""

MANY = 64
"""Captions of a batch above which they are not synced one by one: so many at once cost nothing to make again."""

_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Written:
    """What came of it."""

    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Pictures whose captions a person wrote."""
    failed: tuple[tuple[str, str], ...] = ()
    """Pictures that have no new caption, and why."""


class Captioning:
    """Captioning as an iterator of events; `result` says how far it came."""

    def __init__(
        self,
        folder: Path,
        captioner: Captioner,
        selection: Selection | None = None,
        *,
        replace_own: bool = False,
        append: bool = False,
    ) -> None:
        """Nothing happens before this is iterated.

        Args:
            folder: the dataset.
            captioner: who describes the pictures.
            selection: which pictures; every chosen one where none is given.
            replace_own: also write over what a person wrote.
            append: write behind what is there, whoever wrote it; a person's caption stays a person's.

        Raises:
            SettingsError: both.
        """
        if replace_own and append:
            raise SettingsError("captions are either replaced or added to", fix="leave out one of the two")
        self.folder, self.replace_own, self.append = folder, replace_own, append
        self.captioner = Appended(captioner) if append else captioner
        self.selection = selection or Selection()
        self.result = Written()

    def __iter__(self) -> Iterator[Event]:
        """Ask about each picture and write the answer.

        Raises:
            DatasetError: no such folder, no picture in it; or another edit was interrupted, or is being made.
            ModelError: the captioner is gone; what it said is kept, and the same goes on from there.
        """
        told = f"captions by {self.captioner.name}{_told(self.captioner.settings)}"
        with journal.edit(self.folder, told, resumable=True, pausing=(ModelError,)) as changes:
            found, problems = captioned.read(self.folder, self.selection.names)
            done = changes.settled
            open_ones = [one for one in found if one.name not in done]
            open_ones = select(self.folder, open_ones, self.selection)
            written = authors.load(self.folder)
            kept, wanted = list[Captioned](), list[Captioned]()
            for one in open_ones:
                own = written.by_person(one.name, one.captions)
                (kept if own and not self.replace_own and not self.append else wanted).append(one)
            added_to = frozenset(
                one.name for one in wanted if self.append and written.by_person(one.name, one.captions)
            )
            self.result = Written(
                written=tuple(done),
                kept=tuple(one.name for one in kept),
                failed=tuple((one.name, one.what) for one in problems),
            )
            # An interrupted edit wrote these captions, but may not have come to note it.
            notes = dict(changes.marks)
            try:
                for start in range(0, len(wanted), self.captioner.batch):
                    yield Progress("captions", len(done) + start, len(done) + len(wanted))
                    self._take(changes, wanted[start : start + self.captioner.batch], notes, added_to)
            finally:
                self._note(changes, written, notes)
            yield Progress("captions", len(done) + len(wanted), len(done) + len(wanted))

    def _take(self, changes: Edit, batch: Sequence[Captioned], notes: dict[str, str], added_to: frozenset[str]) -> None:
        """Ask about some pictures, and write the answers; a person's words that were added to stay a person's."""
        answers = self.captioner.describe([asked_of(one) for one in batch])
        files, written = dict[str, bytes](), list[str]()
        for one, answer in zip(batch, answers, strict=True):
            captions, why = lines(answer)
            if not captions:
                self.result = replace(self.result, failed=(*self.result.failed, (one.name, why)))
                continue
            if not self.replace_own and self._changed_since(one):
                self.result = replace(self.result, kept=(*self.result.kept, one.name))
                continue
            files[one.file] = ("\n".join(captions) + "\n").encode()
            if one.name not in added_to:
                notes[one.name] = authors.mark(captions)
            written.append(one.name)
        if len(files) > MANY:
            changes.write_all(files)
        else:
            for file, data in files.items():
                changes.write(file, data)
        for name in written:
            changes.settle(name, name, mark=notes.get(name, ""))
        if 0 < len(files) <= MANY:
            changes.sync(files)
        self.result = replace(self.result, written=(*self.result.written, *written))

    def _changed_since(self, one: Captioned) -> bool:
        """Whether somebody wrote the caption while the captioner was at work, which may be for hours."""
        path = self.folder / one.file
        try:
            return path.is_file() and read_captions(path).captions not in (one.captions, ("",))
        except DatasetError:
            return True

    def _note(self, changes: Edit, written: authors.Authors, notes: Mapping[str, str]) -> None:
        if not notes:
            return
        by, settings = self.captioner.name, self.captioner.settings
        noted = {name: authors.note(mark, by=by, settings=settings) for name, mark in notes.items()}
        changes.write_text(authors.FILE, authors.Authors({**written.noted, **noted}).to_json())


def tried(
    folder: Path, captioners: Sequence[Captioner], selection: Selection | None = None
) -> Iterator[tuple[str, list[Answer]]]:
    """What captioners say of pictures, as it comes: name, and an answer of each captioner. Nothing is written.

    Raises:
        DatasetError: there is no such picture.
    """
    selection = selection or Selection()
    found, _ = captioned.read(folder, selection.names)
    found = select(folder, found, selection)
    step = max((one.batch for one in captioners), default=1)
    for start in range(0, len(found), step):
        batch = found[start : start + step]
        asked = [asked_of(one) for one in batch]
        said = [_in_batches(one, asked) for one in captioners]
        yield from ((one.name, list(answers)) for one, *answers in zip(batch, *said, strict=True))


def asked_of(one: Captioned) -> Asked:
    """The question about a picture."""
    return Asked(one.name, one.picture, one.captions or ())


def lines(answer: Answer) -> tuple[tuple[str, ...], str]:
    """Captions as they are written, each without breaks, since a line of a file is a caption; or why there is none."""
    texts = (text.encode("utf-8", "ignore").decode() for text in answer.captions)
    captions = tuple(line for text in texts if (line := " ".join(_CONTROLS.sub(" ", text).split())))
    if sum(map(len, captions)) > MAX_BYTES // 4:
        return (), "it is too long for a caption"
    return captions, "" if captions else answer.why or "the answer is empty"


def _in_batches(captioner: Captioner, asked: Sequence[Asked]) -> list[Answer]:
    starts = range(0, len(asked), captioner.batch)
    return [answer for start in starts for answer in captioner.describe(asked[start : start + captioner.batch])]


def _told(settings: Mapping[str, object]) -> str:
    """Settings as the history shows them. An interrupted edit is only gone on with by the same captioner, so what is
    too long to be shown stands there as its hash."""
    plain = {key: " | ".join(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    shown = [f"{key} {value}" for key, value in plain.items() if value]
    long = [text for text in shown if len(text) > TOLD]
    parts = [text if text not in long else f"{text[: TOLD - 3]}..." for text in shown]
    if long:
        parts.append(f"({hashlib.sha256(''.join(long).encode('utf-8', 'replace')).hexdigest()[:6]})")
    return f": {', '.join(parts)}" if parts else ""
