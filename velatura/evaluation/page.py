"""The shell of a self-contained page: its pictures as data, its words made safe.

A page asks nothing of any network: its content policy forbids it, and there is no script.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

from PIL import Image, UnidentifiedImageError

from velatura.evaluation.stylesheet import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def whole(title: str, body: str) -> str:
    """The page around a body that is already HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, body: str, *, lead: str = "") -> str:
    """A part of the page; nothing at all when its body is empty. The body is HTML, the rest is text."""
    if not body:
        return ""
    said = f'<p class="lead">{escape(lead)}</p>' if lead else ""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{said}{body}\n</section>\n"


def picture(data: bytes | None, caption: str, *, side: int = 256) -> str:
    """An `img` that carries its own data, or a note that the picture is missing.

    The picture is encoded anew, at most `side` pixels wide or high: no metadata of the file goes along.
    """
    if data is None:
        return '<div class="missing">picture missing</div>'
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return '<div class="missing">picture cannot be read</div>'
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # A fresh picture: pixels alone.
    clean = Image.frombytes("RGB", image.size, image.tobytes())
    clean.save(buffer, "WEBP", quality=90, method=4)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img src="data:image/webp;base64,{encoded}" width="{image.width}" height="{image.height}" '
        f'loading="lazy" alt="{escape(caption)}">'
    )


def figure(data: bytes | None, caption: str, *, side: int = 256, label: str | None = None, kind: str = "") -> str:
    """A picture with words under it: the label where given, else the caption."""
    said = caption if label is None else label
    words = f"<figcaption>{escape(said)}</figcaption>" if said else ""
    css = f' class="{escape(kind)}"' if kind else ""
    return f"<figure{css}>{picture(data, caption, side=side)}{words}</figure>"


def definitions(entries: Mapping[str, str]) -> str:
    """Names and values, both text."""
    if not entries:
        return ""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in entries.items())
    return f"<dl>{rows}</dl>"
