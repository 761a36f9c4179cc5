"""`velatura dataset check`: what is wrong with a set, why it matters, what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from velatura.cli import output, progress
from velatura.cli.dataset.shared import FOUND_PROBLEMS, Folder, Workers, dataset_in, some, tell_numbers
from velatura.cli.options import Json
from velatura.errors import counted

if TYPE_CHECKING:
    from velatura.dataset.findings import Finding
    from velatura.dataset.survey import Survey


def check(
    folder: Folder,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a contact sheet with every finding: .png or .html.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=64, help="Side of the training area in pixels; by default the project's.")
    ] = None,
    trigger: Annotated[str | None, typer.Option(help="Trigger word; by default the project's.")] = None,
    kind: Annotated[str | None, typer.Option(help="style, character or concept; by default the brief's.")] = None,
    faces: Annotated[bool, typer.Option("--faces", help="Look for faces, with OpenCV.")] = False,
    face_model: Annotated[Path | None, typer.Option(help="YuNet's ONNX file, which finds more faces.")] = None,
    person_model: Annotated[Path | None, typer.Option(help="SFace's ONNX file, which tells people apart.")] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Report what is wrong with pictures and captions, why it matters, and what mends it.

    Every file is read, and nothing is changed or rejected. Exits with 1 where there is an error or a warning.
    """
    from velatura.api.datasets import check_dataset

    events = check_dataset(
        folder,
        shown=output.shown(folder),
        side=side,
        trigger=trigger,
        kind=kind,
        faces=faces,
        face_model=face_model,
        person_model=person_model,
        workers=workers,
    )
    progress.follow(events, as_json=False, interrupted="stopped; what was read is kept, run it again to go on")
    assert events.result is not None
    found, findings = events.result
    if sheet is not None:
        _write_sheet(sheet, found, findings, dataset_in(folder))
    if as_json:
        output.emit(_as_dict(found, findings))
    else:
        for line in _sentences(found, findings):
            output.say(line)
        if sheet is not None:
            output.say(f"contact sheet: {output.shown(sheet)}")
    if any(one.level != "note" for one in findings):
        raise typer.Exit(FOUND_PROBLEMS)


def _sentences(found: Survey, findings: Sequence[Finding]) -> list[str]:
    pictures = found.dataset.pictures
    small = min(pictures, key=lambda picture: picture.width * picture.height)
    large = max(pictures, key=lambda picture: picture.width * picture.height)
    sizes = " to ".join(dict.fromkeys(f"{one.width} x {one.height}" for one in (small, large)))
    captioned = sum(picture.captions is not None for picture in pictures)
    lines = [f"pictures: {len(pictures)}, {sizes} pixels", f"with a caption: {captioned or 'none'}"]
    if found.dataset.left_aside:
        lines.append(f"set aside: {len(found.dataset.left_aside)}")
    for one in findings:
        whole = len(one.names) >= len(pictures) > 1
        lines.append(f"{one.level}: {one.told('all pictures' if whole else some(one.names))}")
        if one.why:
            lines.append(f"    why: {one.why}")
        if one.fix:
            lines.append(f"    fix: {one.fix}")
    return lines if any(one.level != "note" for one in findings) else [*lines, "no problems found"]


def _write_sheet(path: Path, found: Survey, findings: Sequence[Finding], folder: Path) -> None:
    import io

    from velatura.dataset import sheet
    from velatura.files import write_bytes, write_text

    pictures = sheet.with_lost(found.dataset)
    count = sum(one.level != "note" for one in findings)
    name = folder.absolute().parent.name if folder.name == "dataset" else folder.absolute().name
    told = counted(count, "finding") if count else "no findings"
    title = f"{name}: {counted(len(found.dataset.pictures), 'picture')}, {told}"
    if path.suffix.lower() in (".html", ".htm"):
        write_text(path, sheet.html_sheet(pictures, findings, title=title))
        return
    marks = sheet.marks(findings, len(found.dataset.pictures))
    boxes = {one.picture.name: [one.measures.text] for one in found.pictures if one.measures.text is not None}
    buffer = io.BytesIO()
    sheet.png_sheet(pictures, marks, title=title, boxes=boxes).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
    tell_numbers(pictures)


def _as_dict(found: Survey, findings: Sequence[Finding]) -> dict[str, object]:
    from velatura.dataset.alike import near_duplicates
    from velatura.dataset.fingerprint import fingerprint

    names = [one.picture.name for one in found.pictures]
    alike = near_duplicates([one.measures for one in found.pictures])
    return {
        "pictures": [
            {
                "name": one.picture.name,
                "width": one.picture.width,
                "height": one.picture.height,
                "captions": one.picture.captions,
                "mask": one.picture.mask is not None,
                "sharpness": one.measures.sharpness,
                "noise": one.measures.noise,
                "brightness": one.measures.brightness,
                "contrast": one.measures.contrast,
                "saturation": one.measures.saturation,
                "origin": one.file.origin,
            }
            for one in found.pictures
        ],
        "left_aside": found.dataset.left_aside,
        "problems": [{"name": one.name, "what": one.what, "left_out": one.left_out} for one in found.dataset.problems],
        "findings": [one.to_dict() for one in findings],
        "nearly_the_same": [[names[index] for index in group] for group in alike],
        "fingerprint": fingerprint(found.dataset),
    }
