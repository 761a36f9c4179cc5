"""How much of a text each text encoder reads, where that is not all of it. No torch.

Stable Diffusion's and SDXL's read any length, chunk by chunk. What the encoders of other bases cannot read is cut off
at the end, as in their authors' own programs, and said: in a plan, a training and a painting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

SHOWN = 40
"""Letters of a text that a sentence shows."""


@dataclass(frozen=True)
class Reader:
    """A text encoder that reads so much and no more."""

    title: str
    """What a person calls it."""
    longest: int
    """Tokens of a text that it reads."""
    count: Callable[[str], int]
    """Tokens of a text."""
    further: str = ""
    """What of the rest."""


def unread(readers: Sequence[Reader], texts: Iterable[str], *, called: str) -> Iterator[str]:
    """A sentence for each reader that does not read all of some texts.

    Args:
        called: what one of the texts is: "caption", "prompt".
    """
    different = [*dict.fromkeys(texts)]
    for reader in readers:
        lengths = {text: reader.count(text) for text in different}
        longer = {text: length for text, length in lengths.items() if length > reader.longest}
        if not longer:
            continue
        worst = max(longer, key=lambda text: longer[text])
        many = f"{len(longer)} {called}s are" if len(longer) > 1 else f"a {called} is"
        further = f"; {reader.further}" if reader.further else ""
        yield (
            f"{many} longer than the {reader.longest} tokens that {reader.title} reads, and cut off there"
            f"{further}: “{worst[:SHOWN].strip()}…” has {longer[worst]}"
        )
