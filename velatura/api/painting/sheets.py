"""Many pictures from a list, a job on each line; what was painted before the work was cut off is not painted again.

    a red boat <lora:ink:0.8>
    --prompt "a house at night" --negative_prompt "blurry" --steps 30 --seed 7

A line is a prompt, or says more in the words of A1111's "Prompts from file". Empty lines and those that begin with #
are passed over. A picture's file says which job it is of, by a hash of all that is told; so the same command again
finds what is there, and a changed line is a new job. Seeds that are drawn are kept in the folder, in `jobs.json`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from velatura import settings
from velatura.api.painting.paint import Finished, check, drawn_unless, free_name, made_ready, opened, painted
from velatura.api.painting.request import GenerateRequest
from velatura.api.painting.wanted import Together, wanted
from velatura.errors import PromptError, VelaturaError, nearest
from velatura.events import Done, Event, Note, Preview, Progress
from velatura.files import disk_problems, make_folder, write_bytes, write_text
from velatura.generation import prompt as grammar
from velatura.generation.carriers import read

WORDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "prompt": ("prompt", str),
    "negative_prompt": ("negative", str),
    "seed": ("seed", int),
    "subseed": ("variation_seed", int),
    "subseed_strength": ("variation_strength", float),
    "sampler_name": ("sampler", str),
    "scheduler": ("scheduler", str),
    "steps": ("steps", int),
    "cfg_scale": ("cfg", float),
    "width": ("width", int),
    "height": ("height", int),
    "n_iter": ("count", int),
}
"""A1111's word -> the request's, and what its value is."""

ASIDE = ("prompt", "negative", "seed", "variation_seed", "variation_strength", "count")
"""What pictures of one batch may differ in."""

UNSAID = ("out", "project", "preview", "preview_every", "remarks", "original", "threads", "memory", "batch", "count")
"""What the hash of a job leaves out: the picture does not depend on it, but for its last bits."""

KEPT = "jobs.json"


@dataclass(frozen=True)
class Entry:
    """One picture of a list."""

    line: int
    request: GenerateRequest
    """With its own seed."""
    key: str

    @property
    def stem(self) -> str:
        """The name of its file, without the ending."""
        return f"{self.line:04d}-{self.request.variation_seed or self.request.seed}"


def paint_list(path: Path, request: GenerateRequest) -> Iterator[Event]:
    """Paint the jobs of a list into a folder, but for those that are there.

    Args:
        path: the list.
        request: what holds for every job where its line does not say otherwise; its `out` is the folder.

    Raises:
        PromptError: a line has no meaning; nothing was painted.
        VelaturaError: as `painting.generate`.
    """
    with disk_problems(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    requests = read_list(lines, request, where=path.name)
    folder = make_folder(request.out or (request.project or Path.cwd()) / "images" / path.stem)
    entries = settled(requests, folder)
    there = {entry.key for entry in entries if is_there(folder, entry)}
    waiting = [entry for entry in entries if entry.key not in there]
    if there:
        yield Note(f"{len(there)} of {len(entries)} pictures are there already, and are not painted again")
    if waiting:
        yield from _paint(waiting, folder, done=len(there), total=len(entries))
    yield Done(len(entries), {"folder": str(folder), "painted": len(waiting), "kept": len(there)})


def read_list(lines: Sequence[str], request: GenerateRequest, *, where: str) -> list[tuple[int, GenerateRequest]]:
    """The jobs of a list with the numbers of their lines, checked as far as can be before a base is loaded.

    Raises:
        PromptError: a line has no meaning.
        SettingsError: a line names a LoRA that is not there.
    """
    found = []
    for number, text in enumerate(lines, start=1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        try:
            told = _switches(line) if line.startswith("--") else {"prompt": line}
            one = replace(request, **told)
            check(one)
            for use in grammar.extract_loras(one.prompt)[1]:
                settings.find_lora(use.name, project=one.project)
        except VelaturaError as error:
            raise type(error)(error.what, where=f"{where}, line {number}", fix=error.fix) from None
        found.append((number, one))
    if not found:
        raise PromptError("the list holds no jobs", where=where, fix="write a prompt on each line")
    return found


def _switches(line: str) -> dict[str, Any]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise PromptError(f"a quotation is not closed: {error}", fix='write it as --prompt "a red boat"') from None
    told: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        name = word.removeprefix("--")
        if not word.startswith("--") or name not in WORDS:
            close = nearest(name, list(WORDS))
            fix = f"did you mean --{close}?" if close else f"known are --{', --'.join(WORDS)}"
            raise PromptError(f"a job has no setting {word!r}", fix=fix)
        if not words:
            raise PromptError(f"{word} says nothing", fix=f"write a value behind it, as in {word} 7")
        field, kind = WORDS[name]
        value = words.pop(0)
        try:
            told[field] = kind(value)
        except ValueError:
            raise PromptError(f"{value!r} is not a number", fix=f"write it as in {word} 7") from None
    if "prompt" not in told:
        raise PromptError("a job has no prompt", fix='write it as --prompt "a red boat"')
    return told


def settled(requests: Sequence[tuple[int, GenerateRequest]], folder: Path) -> list[Entry]:
    """One entry for each picture, each with its seed; those that are drawn are drawn once and kept.

    Raises:
        FileProblem: the folder cannot be written.
    """
    kept: dict[str, int] = {}
    if (folder / KEPT).is_file():
        with disk_problems(folder / KEPT):
            told = json.loads((folder / KEPT).read_text(encoding="utf-8"))
        kept = told if isinstance(told, dict) else {}
    entries, seeds = [], {}
    for number, request in requests:
        own = f"{number}:{_digest(request)}"
        if request.seed is None:
            seeds[own] = kept.get(own, drawn_unless(None))
        seed = request.seed if request.seed is not None else seeds[own]
        for place in range(request.count):
            if request.variation_strength:
                one = replace(request, seed=seed, variation_seed=(request.variation_seed or 0) + place, count=1)
            else:
                one = replace(request, seed=seed + place, count=1)
            entries.append(Entry(number, one, f"{number}:{_digest(one)}"))
    write_text(folder / KEPT, json.dumps(seeds, indent=1))
    return entries


def _digest(request: GenerateRequest) -> str:
    told = {name: value for name, value in asdict(replace(request, original=None)).items() if name not in UNSAID}
    told["tuning"] = request.tuning.model_dump()
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def is_there(folder: Path, entry: Entry) -> bool:
    """Whether a whole picture of the entry is in the folder."""
    return any(_is_of(path, entry) for path in sorted(folder.glob(f"{entry.stem}*.{entry.request.form}")))


def _is_of(path: Path, entry: Entry) -> bool:
    try:
        record = read(path).record
    except VelaturaError:
        return False
    return record is not None and record.get("job") == entry.key


def _paint(entries: Sequence[Entry], folder: Path, *, done: int, total: int) -> Iterator[Event]:
    """Jobs that differ in prompts and seeds alone are painted together."""
    model, files = yield from opened(*(entry.request for entry in entries))
    noted = set[str]()
    for _, alike in groupby(entries, key=_alike):
        together = list(alike)
        first = together[0].request
        ready = yield from made_ready(model, files, first, _groups(together))
        for event in painted(ready, more={place: {"job": entry.key} for place, entry in enumerate(together)}):
            if isinstance(event, Finished):
                done += 1
                name = free_name(folder, together[event.place].stem, first.form)
                write_bytes(folder / name, event.data)
                yield Preview(done, str(folder / name))
                yield Progress("pictures", done, total)
            elif not isinstance(event, Note) or event.text not in noted:
                noted |= {event.text} if isinstance(event, Note) else set()
                yield event


def _groups(entries: Sequence[Entry]) -> list[Together]:
    """The entries' pictures, those with the same LoRAs and the same second pass together."""
    found: dict[object, list[tuple[int, Together]]] = {}
    for place, entry in enumerate(entries):
        (one,) = wanted(entry.request, entry.request.seed or 0, entry.request.variation_seed or 0)
        found.setdefault((grammar.extract_loras(one.prompt)[1], one.hires), []).append((place, one))
    return [
        Together([one.jobs[0] for _, one in members], [place for place, _ in members], members[0][1].hires)
        for members in found.values()
    ]


def _alike(entry: Entry) -> str:
    """What all pictures have in common that are made ready together."""
    usual = GenerateRequest("")
    return _digest(replace(entry.request, **{name: getattr(usual, name) for name in ASIDE}))
