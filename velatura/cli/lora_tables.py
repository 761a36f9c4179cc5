"""What `velatura lora` shows to people of what it found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from velatura.cli import output
from velatura.errors import FileProblem

if TYPE_CHECKING:
    from velatura.adapters.algebra.inspect import Inspection
    from velatura.adapters.algebra.overlap import Overlaps
    from velatura.adapters.algebra.spectrum import Spectrum
    from velatura.api.interference import Interference

SHOWN = 8
"""Entries of a list that are shown; machines get all."""


def inspected(found: Inspection) -> list[str]:
    """What a file says of itself, line by line."""
    lines = [
        f"{found.file}: {megabytes(found.size)}, {found.parameters:,} parameters, {_counts(found.precisions)}",
        f"for: {found.family or 'a family that is not known'}",
        f"kind: {_counts(found.kinds, 'layers')}",
        f"rank: {_counts({str(rank): count for rank, count in found.ranks.items()}, 'layers')}",
        f"alpha / rank: {_counts(found.scales, 'layers')}",
        f"blocks: {' '.join(found.blocks)}",
    ]
    if found.trigger:
        lines.append(f"trigger: {found.trigger}")
    if found.tags:
        lines.append("tags: " + ", ".join(f"{tag} ({count})" for tag, count in list(found.tags.items())[: 2 * SHOWN]))
    lines += [f"{name}: {value}" for name, value in found.settings.items()]
    lines += [f"made by: {step}" for step in found.lineage]
    lines += [f"{name}: {value}" for name, value in found.true_hashes.items()]
    if not found.true_hashes and found.hashes:
        lines.append("hashes: stated, not checked (--hashes)")
    return lines + [f"problem: {problem}" for problem in found.problems]


def spectrum(found: Spectrum) -> None:
    """What its weights say: a row for each block, and the layers that are not well."""
    rows = [
        (block.block, block.layers, f"{block.norm:.4g}", f"{block.share:.1%}", block.rank, f"{block.rank_90:.1f}")
        for block in found.blocks
    ]
    output.say(output.table(("block", "layers", "norm", "share", "rank", "for 90 %"), rows))
    named: dict[str, list[str]] = {}
    for layer in found.unwell:
        named.setdefault(layer.health, []).append(layer.stem)
    for health, stems in named.items():
        output.say(f"{health}: {len(stems)} layers, as {stems[0]}")
    if unmeasured := [layer for layer in found.layers if layer.health == "not measured"]:
        kinds = ", ".join(sorted({layer.kind for layer in unmeasured}))
        output.say(f"not measured: {len(unmeasured)} layers, whose change depends on the base's weight ({kinds})")


def overlap(found: Overlaps, first: Path, second: Path) -> None:
    """How two go together: a row for each block, and a verdict."""
    rows = [
        (
            one.block,
            one.layers,
            f"{one.cosine:+.3f}",
            f"{one.input:.2f}",
            f"{one.output:.2f}",
            f"{one.chance:.2f}",
            one.verdict,
        )
        for one in (*found.blocks, found.whole)
    ]
    output.say(output.table(("block", "layers", "cosine", "input", "output", "chance", "by weights"), rows))
    if any(found.alone):
        output.say(f"layers of one alone: {found.alone[0]} of {first.name}, {found.alone[1]} of {second.name}")
    output.say(f"norm of {second.name}: {found.whole.ratio:.2f} times that of {first.name}")
    strengths = " and ".join(f"{strength:.2f}" for strength in found.suggested)
    output.say(f"together: {found.whole.verdict}; as strong as two that are unrelated at {strengths}")


def interference(found: Interference, first: Path, second: Path) -> None:
    """How two act together on a base."""
    output.say(
        f"on the base: {found.interference:.0%} of their effects do not add up; what each does has a cosine of "
        f"{found.cosine:+.2f}, and {second.name} does {found.dominance:.2f} times as much as {first.name}"
    )


def draw(found: Spectrum, path: Path, file: Path) -> None:
    """Write the picture of a spectrum.

    Raises:
        FileProblem: a file stands there.
    """
    from velatura.adapters.algebra import picture
    from velatura.files import write_bytes

    if path.exists():
        raise FileProblem("a file stands there already", where=path, fix="choose another name for the picture")
    write_bytes(path, picture.png(found, title=file.name))


def _counts(counted: Mapping[str, int], of: str = "") -> str:
    """ "16", or "16 (180 layers), 8 (12 layers)" where there are several."""
    if len(counted) < 2:
        return next(iter(counted), "none")
    shown = [f"{name} ({count}{f' {of}' if of else ''})" for name, count in list(counted.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(counted) - SHOWN} more" if len(counted) > SHOWN else "")


def span(numbers: list[int]) -> str:
    """ "8", or "4 to 16, 9.5 on average"."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}, {sum(numbers) / len(numbers):.1f} on average"


def megabytes(size: int) -> str:
    """ "12.3 MB"."""
    return f"{size / 1e6:.1f} MB"


def listed(title: str, entries: tuple[str, ...]) -> None:
    """A title and the first few entries; nothing where there are none."""
    if entries:
        more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
        output.say(f"{title}: {', '.join(entries[:SHOWN])}{more}")


def _two(value: float) -> str:
    return f"{value:.2f}"
