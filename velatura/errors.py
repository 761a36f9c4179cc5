"""Errors that a user can act on: what is wrong, where, and how to mend it.

    VelaturaError
    |-- SettingsError     the user's own settings, names that resolve to nothing
    |-- RecipeError       a recipe, a brief, an override
    |-- DatasetError      pictures, captions, dataset folders
    |-- ModelError        a base model that cannot be read, recognised or run
    |-- AdapterError      an adapter file, or one that does not fit its base
    |-- PromptError       a prompt that does not mean anything
    |-- RunError          a run folder: locked, damaged, finished, made by something else
    |-- TrainingError     training went wrong: a loss that is not a number
    |-- FileProblem       the disk: full, no permission, cut off
    `-- MissingExtra      an optional part that is not installed

The command line prints `what`, `where` and `fix` without a traceback and exits with `exit_code`;
the web app sends the same three fields.
"""

from __future__ import annotations


class VelaturaError(Exception):
    """An expected mistake, said in one sentence."""

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        """What is wrong, where, and how to mend it."""
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        """All three in one line."""
        text = self.what if self.where is None else f"{self.what} ({self.where})"
        return text if self.fix is None else f"{text}; {self.fix}"


class SettingsError(VelaturaError):
    """The user's own settings, or a name that resolves to nothing."""


class RecipeError(VelaturaError):
    """A recipe, a brief, or an override on the command line."""


class DatasetError(VelaturaError):
    """Pictures, captions or the folder that holds them."""


class ModelError(VelaturaError):
    """A base model that cannot be read, recognised or run."""


class AdapterError(VelaturaError):
    """An adapter file, or an adapter that does not fit its base."""


class PromptError(VelaturaError):
    """A prompt that has no meaning."""


class RunError(VelaturaError):
    """A run folder that is locked, damaged, or not what it is taken for."""


class TrainingError(VelaturaError):
    """Training that cannot go on."""


class FileProblem(VelaturaError):
    """The disk: full, read-only, or a file that is cut off."""


class MissingExtra(VelaturaError):
    """An optional part that is not installed."""


def counted(number: int, what: str) -> str:
    """How messages tell numbers of things: "1 picture", "2 pictures"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def nearest(name: str, known: list[str]) -> str | None:
    """The known name that a mistyped one most likely meant, or None."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return close[0] if close else None


def nearest_few(name: str, known: list[str], count: int = 3) -> list[str]:
    """The known names that a mistyped one may have meant, the nearest first; those too of which it is a part."""
    import difflib

    small = {one.lower(): one for one in reversed(known)}
    close = difflib.get_close_matches(name.lower(), list(small), n=count, cutoff=0.5)
    holding = [one for one in sorted(small, key=len) if len(name) > 1 and name.lower() in one]
    return [small[one] for one in [*dict.fromkeys((*close, *holding))][:count]]
