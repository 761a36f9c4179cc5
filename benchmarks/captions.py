"""How fast ten thousand captions are edited in bulk, against a plain read and write of the same files in the same run.

    .venv/bin/python benchmarks/captions.py

Writes captions of thirty tags (and as many sentences) beside stand-ins for pictures into a temporary folder, and times
every operation: its dry run and the edit itself, with the reading of the folder, the filter and the journal. Each is
taken back again. Seconds are the processor's, since a machine may be shared; those of the clock stand beside them. The
limit is two seconds for a dry run and its edit together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from velatura.api.datasets import clip_tokens
from velatura.dataset import captioned, editing, journal
from velatura.dataset.editing import Rewording, Selection
from velatura.dataset.statistics import statistics
from velatura.files import write_text
from velatura.settings import cache_folder

LIMIT = 2.0

OPERATIONS: dict[str, tuple[Rewording, str]] = {
    "add": (Rewording(add=("pencil drawing",), place="first"), ""),
    "remove, a wildcard": (Rewording(remove=("tag 1*",)), ""),
    "rename": (Rewording(rename=(("tag 3", "another thing"),)), ""),
    "replace": (Rewording(replace=(("tag", "word"),)), ""),
    "replace, a regular expression": (Rewording(replace=((r"tag (\d)", r"\1 tag"),), regex=True), ""),
    "trigger": (Rewording(trigger="mara"), ""),
    "sort by frequency": (Rewording(sort="frequency", keep_first=1), ""),
    "sort alphabetically": (Rewording(sort="alphabetic"), ""),
    "deduplicate": (Rewording(deduplicate=True), ""),
    "unify": (Rewording(unify=True), ""),
    "all at once": (
        Rewording(
            replace=(("grey", "gray"),),
            rename=(("tag 3", "another thing"),),
            remove=("tag 1*",),
            add=("pencil drawing",),
            trigger="mara",
            deduplicate=True,
            sort="frequency",
        ),
        "",
    ),
    "add, where a filter holds": (
        Rewording(add=("x",)),
        'tag:"tag 7" and not caption:hat and (letters:>40 or tags:>20)',
    ),
    "add, where tokens are counted": (Rewording(add=("x",)), "tokens:>75"),
}


def write_set(folder: Path, count: int, *, sentences: bool) -> None:
    """The captions, and files that are taken for pictures."""
    draw = random.Random(0)
    words = [f"tag {number}" for number in range(400)] + ["gray sky", "grey sky", "long_hair", "smile", "smiling"]
    for number in range(count):
        picked = draw.choices(words, weights=[1 / (1 + place) for place in range(len(words))], k=30)
        text = f"a drawing of a {' and a '.join(picked[:12])}." if sentences else ", ".join(picked)
        (folder / f"{number:05d}.png").write_bytes(b"")
        (folder / f"{number:05d}.txt").write_text(f"{text}\n", encoding="utf-8")


@dataclass(frozen=True)
class Seconds:
    """Of the processor, and of the clock."""

    processor: float = 0.0
    clock: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        """Both, one after the other."""
        return Seconds(self.processor + other.processor, self.clock + other.clock)


def timed(work: Callable[[], object]) -> Seconds:
    """Seconds that the work takes."""
    processor, clock = time.process_time(), time.perf_counter()
    work()
    return Seconds(time.process_time() - processor, time.perf_counter() - clock)


def plain(folder: Path) -> None:
    """What any program would have to do: read every caption, and write it beside and over the old one."""
    for entry in list(os.scandir(folder)):
        if entry.name.endswith(".txt"):
            with open(entry.path, "rb") as file:  # noqa: PTH123
                data = file.read()
            with open(f"{entry.path}.part", "wb") as file:  # noqa: PTH123
                file.write(data)
            os.replace(f"{entry.path}.part", entry.path)  # noqa: PTH105


def measured(folder: Path, wanted: Rewording, where: str) -> tuple[Seconds, Seconds, Seconds, int]:
    """Seconds of the dry run, of the edit and of its undoing, and captions changed."""
    selection = Selection(where=where, count_tokens=clip_tokens() if "tokens" in where else None)
    changed: list[int] = []
    if hasattr(os, "sync"):
        os.sync()  # the first sync of an edit would otherwise wait for the undo before it
    dry = timed(lambda: changed.append(len(editing.plan(folder, wanted, selection).changes)))
    done = timed(lambda: editing.apply(folder, wanted, selection))
    back = timed(lambda: journal.undo(folder)) if changed[0] else Seconds()
    # What the edit kept stays: for seconds after files are deleted, ext4 makes new ones three times as slowly.
    return dry, done, back, changed[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the set is written; a temporary folder")
    parser.add_argument("--out", type=Path, default=cache_folder() / "benchmarks")
    told = parser.parse_args()

    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=told.folder) as made:
        for sentences in (False, True):
            folder = Path(made) / ("sentences" if sentences else "tags")
            folder.mkdir()
            write_set(folder, told.captions, sentences=sentences)
            base = min((timed(lambda: plain(folder)) for _ in range(3)), key=lambda one: one.processor)  # noqa: B023
            print(f"{told.captions} captions, {folder.name}; plain read and write: {base.processor:.2f} s", flush=True)
            print(
                f"{'edit':34s} {'dry run':>8s} {'edit':>8s} {'both':>8s} {'clock':>8s} {'undo':>8s}  changed  of plain"
            )
            for name, (wanted, where) in OPERATIONS.items():
                if sentences and wanted.sort:
                    continue  # sentences are not sorted
                dry, done, back, changed = measured(folder, wanted, where)
                both = dry + done
                numbers = (dry.processor, done.processor, both.processor, both.clock, back.processor)
                print(
                    f"{name:34s} {' '.join(f'{number:8.2f}' for number in numbers)}  {changed:7d}"
                    f" {both.processor / base.processor:8.1f}{'' if both.processor < LIMIT else '  over the limit'}",
                    flush=True,
                )
                figures[f"{folder.name}: {name}"] = {
                    "dry": dry.processor, "edit": done.processor, "undo": back.processor, "plain": base.processor,
                    "clock": both.clock,
                }  # fmt: skip
            found = captioned.read(folder)[0]
            counted = timed(lambda: statistics(found, count=clip_tokens()))  # noqa: B023
            print(f"statistics, tokens counted: {counted.processor:.2f} s")
    told.out.mkdir(parents=True, exist_ok=True)
    write_text(told.out / "captions.json", json.dumps(figures, indent=1))
    return int(any(one["dry"] + one["edit"] >= LIMIT for one in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
