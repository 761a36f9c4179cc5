"""What is wrong with the pictures of a set: each finding with why it matters and what mends it.

Nothing is rejected, and nothing is changed. What captions say is checked in `wording`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from velatura.dataset import alike, provenance, rights, wording
from velatura.dataset.findings import Finding, argument, sorted_findings
from velatura.dataset.images import open_image
from velatura.dataset.survey import Survey, Surveyed
from velatura.dataset.wording import Told
from velatura.errors import VelaturaError, counted

SOFT = 0.42
"""Sharpness below which even the sharpest part has lost its finest detail; see `Measures.sharpness`."""
MOVED = 0.35
"""Sharpness along one direction as a share of that along the other, below which something moved."""
NOISY = 4.5
"""Standard deviation of noise in the smoothest parts, in greys of 255."""
BLOCKY = 1.0
BLOCKY_SIDE = 2048
"""Blocks of larger pictures vanish when they are scaled down for training."""
LOW_QUALITY = 40
FEWEST = 5
FEW = {"style": 15, "character": 12, "concept": 8, "": 10}
"""Pictures below which a set of each kind is small."""
_MAY_BE_STYLE = ("soft", "noise", "blocks", "text")
FLAT = 0.03
"""Contrast below which a picture shows nothing."""
VARIED = 0.25
"""Diversity of colours or composition below which a set is of one kind."""


@dataclass(frozen=True)
class Wanted:
    """What the set is for, as far as it is known."""

    side: int | None = None
    """Side of a square of the training area, in pixels."""
    kind: str = ""
    """`style`, `character`, `concept` or ""."""
    told: Told = Told()  # noqa: RUF009 - frozen
    face_model: Path | None = None
    person_model: Path | None = None
    look_for_faces: bool = False
    folder: str = "DIR"
    """The dataset as commands name it."""


def check(found: Survey, wanted: Wanted, *, record: rights.Record | None = None) -> list[Finding]:
    """Everything that is wrong with a set, errors first.

    Args:
        found: from `survey`.
        wanted: what the set is for.
        record: its rights; None reads them from the dataset's folder.
    """
    record = rights.load(found.dataset.folder) if record is None else record
    findings = [
        *_files(found, wanted),
        *_each(found, wanted),
        *_copies(found, wanted),
        *_set(found, wanted),
        *(_faces(found, wanted) if wanted.look_for_faces or wanted.face_model else ()),
        *wording.check(found.dataset.pictures, wanted.told, kind=wanted.kind, folder=wanted.folder),
        *provenance.check(found, record, kind=wanted.kind, folder=wanted.folder),
    ]
    return sorted_findings(findings)


def _files(found: Survey, wanted: Wanted) -> list[Finding]:
    """What the scan met: files that cannot be read, captions without pictures."""
    findings = []
    for problem in found.dataset.problems:
        if "is the same file as" in problem.what:
            continue  # told with the duplicates
        lost = problem.left_out
        why = "the picture is not trained on" if lost else "what is trained may not be what you think"
        guessed = "is not UTF-8" in problem.what
        fix = f"velatura dataset clean {wanted.folder}" if guessed else "mend or remove the file"
        kind = "unreadable" if lost else "encoding" if guessed else "file"
        findings.append(Finding(kind, "error" if lost else "warning", (problem.name,), problem.what, why, fix))
    return findings


def _each(found: Survey, wanted: Wanted) -> list[Finding]:
    """What is wrong with single pictures."""
    folder = wanted.folder
    tests: list[tuple[str, Callable[[Surveyed], bool], str, str, str]] = [
        (
            "soft",
            lambda one: one.measures.sharpness is not None and one.measures.sharpness < SOFT and not _moved(one),
            "soft even where they are sharpest, or enlarged",
            "softness is learnt as part of the look",
            "find the originals, train at a smaller resolution, or velatura dataset reject {folder} {names}",
        ),
        (
            "moved",
            _moved,
            "blurred by movement",
            "smeared edges are learnt as part of the look",
            "velatura dataset reject {folder} {names}",
        ),
        (
            "noise",
            lambda one: one.measures.noise > NOISY and one.measures.detail > 0.9,
            "noisy",
            "noise is the first thing that training copies",
            "denoise them, or velatura dataset reject {folder} {names}",
        ),
        (
            "blocks",
            _blocky,
            "marked by JPEG compression",
            "the blocks of 8 pixels are learnt as texture",
            "find the originals, or velatura dataset reject {folder} {names}",
        ),
        (
            "borders",
            lambda one: max(one.measures.borders) > 0,
            "framed by bars of one colour",
            "bars are learnt as part of the composition",
            "velatura dataset crop {folder} {names} --borders",
        ),
        (
            "text",
            lambda one: one.measures.text is not None,
            "likely signed, watermarked or written on",
            "writing comes back as scribbles in every picture that is painted",
            "look at them, then velatura dataset crop {folder} NAME --box L,T,R,B, or mask it: "
            "velatura dataset mask {folder} NAME --box L,T,R,B",
        ),
        (
            "flat",
            lambda one: one.measures.contrast < FLAT,
            "nearly of one colour",
            "they teach nothing",
            "velatura dataset reject {folder} {names}",
        ),
        (
            "frames",
            lambda one: one.file.frames > 1,
            "animated or of several pages; the first picture is used",
            "the others are not seen",
            "velatura dataset clean {folder} {names}",
        ),
    ]
    findings = []
    for kind, test, what, why, fix in tests:
        names = tuple(one.picture.name for one in found.pictures if test(one))
        if names:
            mends = fix.format(folder=folder, names=argument(names))
            # what a third of a style's pictures have is most likely part of the style
            usual = (
                wanted.kind in ("style", "") and kind in _MAY_BE_STYLE and len(names) >= max(4, len(found.pictures) / 3)
            )
            findings.append(Finding(kind, "note" if usual else "warning", names, what, why, mends))
    findings += _small(found, wanted)
    return findings


def _moved(one: Surveyed) -> bool:
    """Blurred in one direction, and soft for it."""
    direction, sharp = one.measures.direction, one.measures.sharpness
    return direction is not None and sharp is not None and direction < MOVED and sharp < 3 * SOFT


def _blocky(one: Surveyed) -> bool:
    if max(one.picture.width, one.picture.height) > BLOCKY_SIDE:
        return False
    seen = one.measures.blocks is not None and one.measures.blocks > BLOCKY
    told = one.file.jpeg_quality is not None and one.file.jpeg_quality < LOW_QUALITY
    return told or (seen and one.measures.detail > 0.02)


def _small(found: Survey, wanted: Wanted) -> list[Finding]:
    if wanted.side is None:
        return []
    area = wanted.side**2
    names = tuple(one.picture.name for one in found.pictures if one.picture.width * one.picture.height < 0.8 * area)
    if not names:
        return []
    what = f"smaller than {wanted.side} x {wanted.side} pixels"
    why = "they are enlarged for training, and teach softness"
    fix = (
        f"find larger ones, set dataset.resolution lower, or velatura dataset reject {wanted.folder} {argument(names)}"
    )
    return [Finding("small", "warning", names, what, why, fix)]


def _copies(found: Survey, wanted: Wanted) -> list[Finding]:
    """Equal files, near-duplicates, crops: one finding for each group."""
    measures = [one.measures for one in found.pictures]
    names = [one.picture.name for one in found.pictures]
    findings = []
    by_hash: dict[str, list[int]] = {}
    for index, one in enumerate(found.pictures):
        by_hash.setdefault(one.picture.sha256, []).append(index)
    same = [group for group in by_hash.values() if len(group) > 1]
    near = [list(group) for group in alike.near_duplicates(measures)]
    why = "what is shown twice is learnt twice as hard, and the rest less"
    for kind, groups in (("same file", same), ("duplicates", near)):
        for group in groups:
            if kind == "duplicates" and len({found.pictures[index].picture.sha256 for index in group}) == 1:
                continue
            best = max(group, key=lambda index: _worth(found.pictures[index]))
            others = [names[index] for index in group if index != best]
            what = "the same file" if kind == "same file" else "nearly the same picture"
            fix = f"velatura dataset reject {wanted.folder} {argument(others)}"
            findings.append(Finding(kind, "warning", tuple(names[index] for index in group), what, why, fix))
    if len(names) > alike.CROP_MOST:
        what = f"crops of one another are looked for among {alike.CROP_MOST} pictures at most, and not here"
        fix = f"velatura dataset pick {wanted.folder} --n {alike.CROP_MOST} --apply, and check again"
        findings.append(Finding("crops unknown", "note", (), what, why, fix))
    for part, wholes in _cut_out(found, near).items():
        what = f"cut out of {' and of '.join(names[whole] for whole in wholes)}"
        fix = f"velatura dataset reject {wanted.folder} {argument([names[part]])}, unless it is meant"
        findings.append(Finding("crop", "warning", (names[part],), what, why, fix))
    return findings


def _cut_out(found: Survey, near: Sequence[Sequence[int]]) -> dict[int, list[int]]:
    """Part -> what it was cut out of; of several that are nearly the same picture the best stands for all.

    Of two that could each be cut out of the other, the better one is the whole: who rejects all parts loses neither.
    """
    group_of = {index: group for group in near for index in group}

    def rank(index: int) -> tuple[tuple[bool, float, int, bool], int]:
        return _worth(found.pictures[index]), -index

    pairs = alike.crops([one.picture for one in found.pictures], [one.measures for one in found.pictures], known=near)
    parts: dict[int, list[int]] = {}
    for part, whole in pairs:
        if (whole, part) in pairs and rank(part) > rank(whole):
            continue
        best = max(group_of.get(whole, [whole]), key=lambda index: _worth(found.pictures[index]))
        if best not in (listed := parts.setdefault(part, [])):
            listed.append(best)
    return parts


def _worth(one: Surveyed) -> tuple[bool, float, int, bool]:
    """By what the best of several copies is told: sound, sharp, large, captioned. An enlarged one is large and soft."""
    sharp = min(one.measures.sharpness or 0.0, SOFT)
    return faults(one) == 0, sharp, one.picture.width * one.picture.height, one.picture.captions is not None


def faults(one: Surveyed) -> int:
    """How many faults of its own a picture has, softness aside."""
    found = (one.measures.noise > NOISY, _blocky(one), _moved(one), one.measures.text is not None)
    return sum(found) + (max(one.measures.borders) > 0)


def _set(found: Survey, wanted: Wanted) -> list[Finding]:
    """What concerns the set as a whole."""
    measures = [one.measures for one in found.pictures]
    count, kind = len(measures), wanted.kind
    findings = []
    if count < FEW[kind]:
        few = count < FEWEST
        are = "is" if count == 1 else "are"
        what = f"{counted(count, 'picture')} {are} {'very ' if few else ''}few" + (f" for a {kind}" if kind else "")
        why = "what few pictures have in common by chance is learnt as if it were meant"
        fix = f"velatura dataset add {wanted.folder} MORE; {FEW[kind]} to {3 * FEW[kind]} varied ones do better"
        findings.append(Finding("few", "warning" if few else "note", (), what, why, fix))
    varied = alike.diversity(measures)
    alike_in = [
        name for name, value in (("colours", varied.palette), ("composition", varied.composition)) if value < VARIED
    ]
    told = f"colours {varied.palette:.2f}, composition {varied.composition:.2f}, texture {varied.texture:.2f}"
    if count >= FEWEST and alike_in and not (kind == "style" and alike_in == ["colours"]):
        what = f"the pictures are much alike in {' and '.join(alike_in)} ({told}; 0 is all alike, 1 all unlike)"
        why = "what all pictures share is learnt with the subject and cannot be prompted away"
        fix = f"velatura dataset add {wanted.folder} unlike ones, or name in the captions what they share"
        findings.append(Finding("alike", "warning", (), what, why, fix))
    elif count > 1:
        what = f"variety, 0 all alike to 1 all unlike: {told}"
        findings.append(Finding("variety", "note", (), what, "shows what a set teaches beside its subject", ""))
    if kind in ("style", ""):
        outliers = alike.style_outliers(measures)
        names = tuple(found.pictures[index].picture.name for index, _ in outliers)
        if names:
            what = "unlike the others in colour and texture"
            why = "a style set of two styles teaches neither" if kind else "in a style set they would blur the style"
            fix = f"look at them; velatura dataset reject {wanted.folder} {argument(names)}"
            findings.append(Finding("style", "warning" if kind else "note", names, what, why, fix))
    return findings


def _faces(found: Survey, wanted: Wanted) -> list[Finding]:
    """For pictures of a person: no face, several, too small, another person's."""
    from velatura.dataset import faces

    problems: dict[str, list[str]] = {"no face": [], "several faces": [], "small face": []}
    people: dict[str, object] = {}
    for one in found.pictures:
        try:
            image = open_image(one.picture.path, at_least=faces.SIDE)
            boxes = faces.find_faces(image, model=wanted.face_model)
        except VelaturaError as error:
            return [Finding("faces", "note", (), f"faces were not looked for: {error.what}", "", error.fix or "")]
        if not boxes:
            problems["no face"].append(one.picture.name)
            continue
        largest = boxes[0]
        others = [box for box in boxes[1:] if (box[2] - box[0]) > 0.4 * (largest[2] - largest[0])]
        if others:
            problems["several faces"].append(one.picture.name)
        if (largest[2] - largest[0]) / image.width * (wanted.side or 1024) < 48:
            problems["small face"].append(one.picture.name)
        if wanted.face_model is not None and wanted.person_model is not None:
            people[one.picture.name] = faces.identity(image, detector=wanted.face_model, recogniser=wanted.person_model)
    told = {
        "no face": ("show no face that was found", "they teach clothes and places, not the person", "warning"),
        "several faces": ("show several people", "the trigger is learnt for all of them", "warning"),
        "small face": ("show a face of few pixels", "a face below about 48 pixels is not learnt", "warning"),
    }
    findings = [
        Finding(
            kind,
            "warning" if wanted.kind == "character" else "note",
            tuple(names),
            told[kind][0],
            told[kind][1],
            f"look at them; velatura dataset reject {wanted.folder} {argument(names)}, or crop to one face: "
            f"velatura dataset resize {wanted.folder} NAME --square 1024 --focus face",
        )
        for kind, names in problems.items()
        if names
    ]
    return findings + _strangers(people, wanted)


def _strangers(people: Mapping[str, object], wanted: Wanted) -> list[Finding]:
    import numpy as np

    from velatura.dataset.faces import SAME_PERSON

    known = {name: np.asarray(numbers) for name, numbers in people.items() if numbers is not None}
    if len(known) < 3:
        return []
    vectors = np.stack(list(known.values()))
    likeness = np.median(vectors @ vectors.T - 2 * np.eye(len(known)), axis=1)
    names = tuple(name for name, value in zip(known, likeness, strict=True) if value < SAME_PERSON)
    if not names or len(names) > len(known) / 2:
        return []
    what, why = "show another person than most", "the trigger is learnt for both"
    fix = f"look at them; velatura dataset reject {wanted.folder} {argument(names)}"
    return [Finding("another person", "warning", names, what, why, fix)]


def of_split(train: Sequence[str], held_out: Sequence[str], groups: Iterable[Sequence[str]]) -> list[Finding]:
    """Pictures that are nearly the same, and on both sides of a split: what is held out has then been trained on."""
    findings = []
    for group in groups:
        seen = [name for name in group if name in train]
        judged = [name for name in group if name in held_out]
        if seen and judged:
            what = "nearly the same, and both trained on and held out"
            why = "the loss on what is held out then praises a copy"
            fix = f"velatura dataset reject DIR {argument(judged)}"
            findings.append(Finding("split", "error", tuple(group), what, why, fix))
    return findings
