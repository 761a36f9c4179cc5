"""Write `docs/reference/`: every command as its `--help` says it, every setting as its docstring says it.

python docs/write_reference.py          writes the pages
python docs/write_reference.py --check  exits with 1 where a page is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import typer

from velatura.brief import Brief
from velatura.cli import app
from velatura.recipe import Recipe
from velatura.schema import Settings

FOLDER = Path(__file__).parent / "reference"


def commands() -> str:
    """The page of commands."""
    root = typer.main.get_command(app)
    parts = ["# Commands\n\nWritten by `docs/write_reference.py` from the program's own help.\n"]
    parts += [f"## velatura {name}\n\n```\n{text}\n```\n" for name, text in _helps(root, "velatura")]
    return "\n".join(parts)


def _helps(command: Any, path: str) -> list[tuple[str, str]]:
    """Name and help of every command below a group."""
    found = []
    for name, child in command.commands.items():
        full = f"{path} {name}"
        context = click.Context(child, info_name=full, terminal_width=100, max_content_width=100)
        found.append((full.removeprefix("velatura "), child.get_help(context).strip()))
        if hasattr(child, "commands"):
            found += _helps(child, full)
    return found


def settings() -> str:
    """The page of settings."""
    parts = ["# Settings\n\nWritten by `docs/write_reference.py` from the fields' own docstrings.\n"]
    for title, kind in (("recipe.toml", Recipe), ("brief.toml", Brief)):
        parts.append(f"## {title}\n\n{(kind.__doc__ or '').strip()}\n")
        parts += _group(kind, "")
    return "\n".join(parts)


def _group(kind: type[Settings], prefix: str) -> list[str]:
    rows, below = [], []
    for name, field in kind.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            below += [
                f"### {prefix}{name}\n\n{(annotation.__doc__ or '').strip()}\n",
                *_group(annotation, f"{prefix}{name}."),
            ]
            continue
        default = "required" if field.is_required() else f"`{field.default!r}`"
        told = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{prefix}{name}` | {default} | {told} |")
    table = ["| setting | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"] if rows else []
    return table + below


def pages() -> dict[str, str]:
    """File name and text of every page."""
    return {"commands.md": commands(), "settings.md": settings()}


def main() -> int:
    """Write the pages, or check them."""
    stale = 0
    for name, text in pages().items():
        path = FOLDER / name
        if "--check" in sys.argv:
            stale |= not path.exists() or path.read_text(encoding="utf-8") != text
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
    return stale


if __name__ == "__main__":
    sys.exit(main())
