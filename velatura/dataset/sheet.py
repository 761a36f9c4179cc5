"""Contact sheets of a dataset: every picture with what was found on it, as one PNG or as a page."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageOps

from velatura.dataset.findings import Finding
from velatura.dataset.images import open_image
from velatura.dataset.scan import Dataset, Picture
from velatura.errors import DatasetError
from velatura.lettering import Font, direction, lacks, shown, typeface

PAPER, INK, FAINT = (247, 244, 238), (38, 36, 33), (122, 116, 108)
MARKS = {"error": (176, 44, 22), "warning": (196, 122, 16), "note": (70, 104, 140)}
CELL = 208
GAP = 14
LINE = 18
MOST_MARKS = 4

Box = tuple[float, float, float, float]
Mark = tuple[str, str]
"""A level, and the words."""


def marks(findings: Sequence[Finding], pictures: int) -> dict[str, list[Mark]]:
    """Picture -> what was found on it, each once; what all of them have is no mark of any, unless it is an error."""
    found: dict[str, list[Mark]] = defaultdict(list)
    for one, word in zip(findings, words(findings), strict=True):
        if len(one.names) < max(2, pictures) or one.level == "error":
            for name in dict.fromkeys(one.names):
                found[name].append((one.level, word))
    return found


def words(findings: Sequence[Finding]) -> list[str]:
    """What marks each finding: its kind, and which one it is where there are several groups of one kind."""
    groups = Counter(one.kind for one in findings if len(one.names) > 1)
    seen: Counter[str] = Counter()
    told = []
    for one in findings:
        seen[one.kind] += 1
        told.append(f"{one.kind} {seen[one.kind]}" if groups[one.kind] > 1 else one.kind)
    return told


def with_lost(found: Dataset) -> list[Picture]:
    """The pictures of a set, and behind them the files that could not be read, of no size."""
    lost = dict.fromkeys(one.name for one in found.problems if one.left_out and (found.folder / one.name).is_file())
    return [*found.pictures, *(Picture(name, found.folder / name, "", 0, 0, None) for name in lost)]


def png_sheet(
    pictures: Sequence[Picture],
    marks: Mapping[str, Sequence[Mark]],
    *,
    title: str,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    columns: int = 6,
) -> Image.Image:
    """Pictures in rows with their names, and below each its marks.

    A name that no typeface at hand has the letters of stands behind its place on the sheet: see `numbered`.

    Args:
        pictures: what is shown.
        marks: picture's name -> (level, words) of each mark; a picture without any is framed in nothing.
        title: one line over everything.
        boxes: picture's name -> parts to draw a frame around, as shares of its sides.
        columns: pictures in a row.
    """
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    most = [
        max(min(MOST_MARKS, len(marks.get(one.name, ()))) for one in pictures[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    heights = [CELL + LINE * (1 + lines) + GAP for lines in most]
    width = GAP + columns * (CELL + GAP)
    sheet = Image.new("RGB", (width, 52 + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    write(draw, (GAP, 16), title, INK, size=18, width=width - 2 * GAP)
    numbers = numbered(pictures)
    y = 52
    for row in range(rows):
        for column, picture in enumerate(pictures[row * columns : (row + 1) * columns]):
            x = GAP + column * (CELL + GAP)
            told = list(marks.get(picture.name, ()))
            _cell(sheet, draw, picture, (x, y), told, (boxes or {}).get(picture.name, ()))
            write(draw, (x, y + CELL + 3), label(picture.name, numbers), INK, size=14, width=CELL)
            for line, (level, words) in enumerate(told[:MOST_MARKS], start=1):
                rest = len(told) - MOST_MARKS
                text = f"{words} +{rest} more" if line == MOST_MARKS and rest > 0 else words
                write(draw, (x, y + CELL + 3 + line * LINE), text, MARKS[level], size=13, width=CELL)
        y += heights[row]
    return sheet


def html_sheet(pictures: Sequence[Picture], findings: Sequence[Finding], *, title: str) -> str:
    """A page that stands by itself: what was found, why it matters, what mends it, and every picture with its marks."""
    found = marks(findings, sum(one.width > 0 for one in pictures))
    rows = []
    for one, word in zip(findings, words(findings), strict=True):
        names = ", ".join(one.names[:12]) + (f" and {len(one.names) - 12} more" if len(one.names) > 12 else "")
        rows.append(
            f'<li class="{one.level}"><em class="{one.level}">{html.escape(word)}</em> <b>{html.escape(one.what)}</b> '
            f"<span>{html.escape(names)}</span>"
            f"<p>{html.escape(one.why)}</p>" + (f"<code>{html.escape(one.fix)}</code>" if one.fix else "") + "</li>"
        )
    tiles = []
    for picture in pictures:
        told = "".join(f'<em class="{level}">{html.escape(word)}</em> ' for level, word in found.get(picture.name, ()))
        caption = html.escape(" / ".join(picture.captions or ())[:200])
        data = _data(picture)
        shown = f'<img loading="lazy" alt="" src="{data}">' if data else "<i>cannot be read</i>"
        size = f"<small>{picture.width} x {picture.height}</small>" if picture.width else ""
        tiles.append(
            f"<figure>{shown}<figcaption>{html.escape(picture.name)}{size}<p>{told}</p><q>{caption}</q></figcaption>"
            "</figure>"
        )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<ul>{''.join(rows) or '<li>nothing was found</li>'}</ul><main>{''.join(tiles)}</main></html>\n"
    )


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;background:#f7f4ee;color:#262421;margin:2rem auto;max-width:76rem;"
    "padding:0 1rem}h1{font-size:1.4rem}ul{list-style:none;padding:0}li{border-left:4px solid #46688c;margin:.7rem 0;"
    "padding:.1rem .8rem}li.error{border-color:#b02c16}li.warning{border-color:#c47a10}li span{color:#6d675f}"
    "li p{margin:.1rem 0}code{font-size:.85rem;background:#ebe6dc;padding:.1rem .3rem;overflow-wrap:anywhere}"
    "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:1rem}figure{margin:0}"
    "img,i{display:block;width:100%;height:11rem;object-fit:contain;background:#ebe6dc;color:#6d675f}"
    "figcaption{overflow-wrap:anywhere}figcaption p{margin:0}"
    "small,q{display:block;color:#6d675f;font-size:.8rem}em{font-style:normal;font-size:.75rem;color:#fff;"
    "background:#46688c;border-radius:3px;padding:0 .35rem;white-space:nowrap}em.error{background:#b02c16}"
    "em.warning{background:#c47a10}q{quotes:none}"
)


def _cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Picture,
    place: tuple[int, int],
    told: Sequence[tuple[str, str]],
    boxes: Sequence[Box],
) -> None:
    x, y = place
    draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), (236, 231, 221))
    shown = _thumbnail(picture)
    if shown is None:
        write(draw, (x + 8, y + 8), "cannot be read", FAINT, size=13, width=CELL)
    else:
        left, top = x + (CELL - shown.width) // 2, y + (CELL - shown.height) // 2
        sheet.paste(shown, (left, top))
        for one in boxes:
            corners = [left + one[0] * shown.width, top + one[1] * shown.height]
            corners += [left + one[2] * shown.width, top + one[3] * shown.height]
            draw.rectangle(corners, outline=(255, 255, 255), width=4)
            draw.rectangle(corners, outline=MARKS["error"], width=2)
    levels = [level for level in ("error", "warning") if any(mark[0] == level for mark in told)]
    if levels:
        draw.rectangle((x - 3, y - 3, x + CELL + 2, y + CELL + 2), outline=MARKS[levels[0]], width=3)


def _thumbnail(picture: Picture) -> Image.Image | None:
    try:
        image = open_image(picture.path, at_least=CELL)
    except DatasetError:
        return None
    return ImageOps.contain(image, (CELL, CELL), Image.Resampling.LANCZOS)


def _data(picture: Picture) -> str:
    shown = _thumbnail(picture)
    if shown is None:
        return ""
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def fitting(text: str, font: Font, width: int) -> str:
    """A text that the typeface can show, shortened to a width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def numbered(pictures: Sequence[Picture]) -> dict[str, int]:
    """Names that a sheet cannot show, as no typeface at hand has all of their letters -> the picture's place on it."""
    return {
        one.name: place
        for place, one in enumerate(pictures, start=1)
        if not one.name.isascii() and lacks(one.name, typeface(one.name, 14))
    }


def label(name: str, numbers: Mapping[str, int]) -> str:
    """What stands for a name on a sheet."""
    return f"{numbers[name]}. {name}" if name in numbers else name


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    *,
    size: int,
    width: int,
) -> None:
    """One line of text, in a typeface that has its letters, shortened to a width in pixels."""
    font = typeface(text, size)
    draw.text(place, fitting(shown(text, font), font, width), colour, font, direction=direction(font))
