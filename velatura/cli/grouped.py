"""Commands with so many options that `--help` shows them in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class Grouped(TyperCommand):
    """A command whose options stand under the name of their `rich_help_panel`; rich itself would be slow to import."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group in the order in which its first option is declared."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if one.param_type_name == "argument" else "Options"
                groups.setdefault(getattr(one, "rich_help_panel", None) or kind, []).append(record)
        if "Options" in groups:
            groups["Options"] = groups.pop("Options")  # those of every command come last
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
