"""A brief: what a LoRA is for, how one will know that it is good, and whose pictures it is made from.

It is written for people and travels with the finished LoRA; training does not read it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from velatura import schema
from velatura.schema import Settings

FILE = "brief.toml"


class Rights(Settings):
    """Whose pictures these are, and what may be done with what is learned from them."""

    author: str = ""
    """Who made the pictures."""
    source: str = ""
    """Where they come from: "drawn for this", an archive, a collection."""
    consent: str = ""
    """For pictures of people, or by others: who agreed to what, and where that is written down."""
    licence: str = ""
    """Terms on which the LoRA is handed on."""


class Brief(Settings):
    """What the LoRA is for."""

    version: Literal[1] = 1
    """Version of this format."""
    name: str = Field(default="style", min_length=1)
    """Title of the work, as people call it."""
    kind: Literal["", "style", "character", "concept"] = ""
    """What is taught: a style, a character (or person), a concept; decides what captions should name."""
    objective: str = ""
    """One or two sentences: what should the LoRA do that the base cannot?"""
    success: list[str] = Field(default=[])
    """What must be true of its pictures for it to be good; each can be looked at and answered yes or no."""
    trigger: str = ""
    """Words that will call it up; the same as dataset.trigger in the recipe."""
    prompts: list[str] = Field(default=[])
    """Prompts to judge it by, for the work it is meant for rather than for the pictures it has seen."""
    rights: Rights = Rights()


def load(path: Path) -> Brief:
    """Read a brief, given by its file or its folder.

    Raises:
        FileProblem: the file is missing or cannot be read.
        RecipeError: it is not TOML, or holds a key or value that a brief has not.
    """
    if path.is_dir():
        path = path / FILE
    return schema.build(Brief, schema.read_tree(path, what="brief"), where=path)
