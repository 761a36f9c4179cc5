"""Contact sheets: many pictures as one, in rows and columns that say what they show."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from velatura.lettering import Font, shown, typeface

PAPER = (247, 244, 238)
INK = (38, 36, 33)
GAP = 8
"""Pixels between pictures and around the sheet."""
LABEL_LINES = 3
"""Longer labels end in an ellipsis."""


def contact_sheet(
    images: Sequence[Image.Image],
    *,
    columns: int,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    title: str | None = None,
) -> Image.Image:
    """Lay pictures out row by row, at their own size.

    Args:
        images: from left to right, then down; a last row may be short. Smaller ones are centred.
        columns: pictures in a row.
        row_labels: one for each row, to the left of it.
        column_labels: one for each column, above it.
        title: one line over everything, shortened if it must be.

    Returns:
        An RGB picture. Labels wrap to the size of a cell; they are set in Pillow's own typeface, or in one at hand that
        has their letters.

    Raises:
        ValueError: no pictures, no columns, or labels that do not match the rows and columns.
    """
    if not images or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns, got {len(images)} and {columns}")
    rows = -(-len(images) // columns)
    for labels, count, what in ((row_labels, rows, "rows"), (column_labels, columns, "columns")):
        if labels is not None and len(labels) != count:
            raise ValueError(f"{len(labels)} labels for {count} {what}")

    cell_width = max(image.width for image in images)
    cell_height = max(image.height for image in images)
    font = typeface("".join((*(row_labels or ()), *(column_labels or ()))), label_size(cell_width))
    title_font = typeface(title or "", label_size(cell_width) * 5 // 4)
    lefts = [wrapped(shown(label, font), font, cell_width) for label in row_labels or ()]
    tops = [wrapped(shown(label, font), font, cell_width) for label in column_labels or ()]
    left = _margin(max((_extent(text, font)[0] for text in lefts), default=0))
    row_height = max([cell_height, *(_extent(text, font)[1] for text in lefts)])

    width = left + columns * (cell_width + GAP) + GAP
    heading = wrapped(shown(title, title_font), title_font, width - 2 * GAP, lines=1) if title else ""
    head = _margin(_extent(heading, title_font)[1])
    top = head + _margin(max((_extent(text, font)[1] for text in tops), default=0))
    sheet = Image.new("RGB", (width, top + rows * (row_height + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)

    draw.multiline_text((GAP, GAP), heading, INK, title_font)
    for column, text in enumerate(tops):
        centre = left + GAP + column * (cell_width + GAP) + cell_width / 2
        draw.multiline_text((centre, top), text, INK, font, anchor="md", align="center")
    for row, text in enumerate(lefts):
        middle = top + GAP + row * (row_height + GAP) + row_height / 2
        draw.multiline_text((left, middle), text, INK, font, anchor="rm", align="right")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        x = left + GAP + column * (cell_width + GAP) + (cell_width - image.width) // 2
        y = top + GAP + row * (row_height + GAP) + (row_height - image.height) // 2
        opaque = image.convert("RGBA")
        sheet.paste(opaque, (x, y), opaque)
    return sheet


def label_size(cell_width: int) -> int:
    """Type that can be read beside pictures of this width, in pixels."""
    return min(max(cell_width // 14, 12), 48)


def wrapped(text: str, font: Font, width: int, *, lines: int = LABEL_LINES) -> str:
    """Text in lines that fit a width, ending in an ellipsis where there would be too many."""
    done: list[str] = []
    words = text.split()
    while words and len(done) < lines:
        last = len(done) == lines - 1
        count = _fitting(words, font, width)
        if last and count < len(words):
            return "\n".join([*done, _shortened(" ".join(words), font, width)])
        line = " ".join(words[:count])
        # a single word may still be too long for its line
        done.append(line if font.getlength(line) <= width else _shortened(line, font, width))
        words = words[count:]
    return "\n".join(done)


def _fitting(words: list[str], font: Font, width: int) -> int:
    """How many of the words go on one line; at least one."""
    count = 1
    while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
        count += 1
    return count


def _shortened(text: str, font: Font, width: int) -> str:
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..."


def _extent(text: str, font: Font) -> tuple[int, int]:
    if not text:
        return 0, 0
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    return round(box[2]), round(box[3])


def _margin(extent: int) -> int:
    """Room for a label, and the gap before it; none for none."""
    return extent + GAP if extent else 0
