"""Adapter files: looked into, made smaller, joined, converted, checked, baked into a base, handed to other programs.

Files in, files out, by linear algebra on the factors; torch is not imported. Which family a file is for is told by its
keys, and a base is read only where one is named.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from velatura import tensorfile
from velatura.errors import AdapterError, FileProblem
from velatura.files import disk_problems, make_folder

if TYPE_CHECKING:
    from velatura.adapters.algebra.checkpoint import Baked, Checkpoint, Extracted
    from velatura.adapters.algebra.inspect import Inspection
    from velatura.adapters.algebra.merge import How, Merged
    from velatura.adapters.algebra.overlap import Overlaps
    from velatura.adapters.algebra.resize import Report, Rule
    from velatura.adapters.algebra.scale import Scaled
    from velatura.adapters.algebra.sides import Names, Side
    from velatura.adapters.algebra.spectrum import Spectrum
    from velatura.adapters.algebra.store import Precision
    from velatura.adapters.deploy import Deployed
    from velatura.adapters.formats import Form
    from velatura.adapters.weights import AdapterFile, Change, Shape
    from velatura.adapters.writing import Draft
    from velatura.bases import Base

ROUND_TRIP = 1e-5
"""Relative difference of the changes up to which a round trip counts as the same, in fp32."""


def inspect_lora(path: Path, *, hashes: bool = False) -> Inspection:
    """What a file says of itself, from its header; with `hashes`, whether the hashes that it states are true.

    Raises:
        FileProblem: this is not a safetensors file, or it is damaged.
        AdapterError: it holds no adapter.
    """
    from velatura.adapters.algebra.inspect import inspect

    return inspect(path, hashes=hashes)


def lora_spectrum(path: Path) -> Spectrum:
    """What its weights say: norms, singular values, health, by layer and by block.

    Raises:
        FileProblem, AdapterError: as `inspect_lora`.
    """
    from velatura.adapters.algebra.spectrum import spectrum

    return spectrum(path)


def resize_lora(source: Path, out: Path, rule: Rule, *, precision: Precision | None = None) -> Report:
    """Write an adapter with smaller ranks; see `adapters.algebra.resize`."""
    from velatura.adapters.algebra.resize import resize

    return resize(source, _free(out), rule, precision=precision)


def scale_lora(source: Path, out: Path, blocks: Sequence[str]) -> Scaled:
    """Write an adapter with some of its blocks weakened, strengthened or removed; see `adapters.algebra.scale`."""
    from velatura.adapters.algebra.scale import scale

    return scale(source, _free(out), blocks)


def merge_loras(
    sources: Sequence[tuple[Path, float]],
    out: Path,
    how: How,
    *,
    precision: Precision | None = None,
) -> Merged:
    """Write one adapter that does what several do; see `adapters.algebra.merge`.

    Files that spell their layers differently are joined by the base's names and written as the family's files are here.

    Args:
        sources: files with their strengths.
        precision: None: that of all sources, or fp32 where they differ.
    """
    from velatura.adapters.algebra import merge

    paths = [path for path, _ in sources]
    _free(out)
    used, names = _sides(paths)
    every = dict.fromkeys(name for side in used for name in side.names)
    stems = {name: names.keys.written(name) if names else name for name in every}
    kept = precision or _common_precision(paths)
    return merge.merge(used, [strength for _, strength in sources], out, how, stems=stems, precision=kept)


def overlap_loras(first: Path, second: Path, *, base: str = "") -> Overlaps:
    """How far two adapters change the same things in the same way; see `adapters.algebra.overlap`.

    Args:
        base: whose layers they are for, where it is not of a published size.
    """
    from velatura import bases
    from velatura.adapters.algebra import overlap, sides

    used: Sequence[Side]
    if base:
        used = sides.named([first, second], _names_of(bases.locate(bases.find(base))))
    else:
        used, _ = _sides([first, second])
    return overlap.overlap(used[0], used[1])


def convert_lora(
    source: Path,
    out: Path,
    form: Form,
    *,
    base: str = "",
    precision: Precision | None = None,
    partial: bool = False,
) -> tuple[str, ...]:
    """Write an adapter under another program's names; a PEFT folder is read too.

    Args:
        base: a base whose layers it is for, where it is not of a published size.
        partial: leave out what attaches to no layer.

    Returns:
        The keys that were left out.

    Raises:
        AdapterError: its family is not known, a key attaches to nothing, or the form has no place for a change.
    """
    from velatura.adapters import formats, writing
    from velatura.adapters.algebra import store

    _free(out)
    names = _names_for(source, base)
    adapter = formats.read(source, keys=names.keys, layers=names.layers, partial=partial, lazily=True)
    told = {"to": form, "partial": partial or None}
    files = [source] if source.is_file() else []
    adapter = replace(adapter, metadata=store.descent(adapter.metadata, "convert", files, told))
    kept = precision or (_common_precision([source]) if source.is_file() else "F32")
    writing.write(out, adapter, keys=names.keys, precision=kept, form=form, layers=names.layers)
    return tuple(adapter.passed_over)


@dataclass(frozen=True)
class Verification:
    """Whether an adapter does what it should."""

    layers: int
    """Of the base that it changes."""
    share: float
    """Of its keys that attach."""
    strange: tuple[str, ...]
    """Those that do not."""
    differences: Mapping[str, float]
    """Form -> relative difference of the changes after a round trip through it, in fp32."""
    impossible: Mapping[str, str]
    """Form -> why it has no place for this adapter."""
    problems: tuple[str, ...]
    """What is wrong, in sentences."""


def verify_lora(path: Path, base: str) -> Verification:
    """Whether an adapter attaches to a base, and comes back the same from every form of file.

    Raises:
        ModelError, SettingsError: the base is not found, or not known.
        AdapterError: nothing of the adapter attaches, or it is damaged.
    """
    from velatura.adapters import formats, writing

    names = _names_for(path, base)
    tensors, metadata = formats.stored(path, names.keys)
    adapter = formats.from_tensors(
        tensors, metadata, keys=names.keys, layers=names.layers, where=path, partial=True, lazily=True
    )
    whole = len(tensors)
    differences: dict[str, float] = {}
    impossible: dict[str, str] = {}
    for form in formats.FORMS:
        try:
            draft = writing.draft(adapter, keys=names.keys, precision="F32", form=form, layers=names.layers)
        except AdapterError as error:
            impossible[form] = error.what
            continue
        differences[form] = _difference(adapter, draft, names)
    strange = tuple(adapter.passed_over)
    problems = [f"{len(strange)} of {whole} keys attach to nothing: {strange[0]}"] if strange else []
    problems += [
        f"through {form}'s form its changes differ by {difference:.1e}"
        for form, difference in differences.items()
        if not difference <= ROUND_TRIP
    ]
    if path.is_file():
        problems += inspect_lora(path, hashes=True).problems
    return Verification(
        len(adapter.layers), 1 - len(strange) / max(whole, 1), strange, differences, impossible, tuple(problems)
    )


def extract_lora(
    tuned: str,
    base: str,
    out: Path,
    *,
    rank: int = 32,
    conv_rank: int = 0,
    precision: Precision = "F16",
) -> Extracted:
    """Write an adapter of what a tuned checkpoint does beyond its base; see `adapters.algebra.checkpoint`.

    Raises:
        AdapterError: they are of different families, or do not differ.
    """
    from velatura import bases
    from velatura.adapters.algebra import checkpoint, store

    if rank < 1 or conv_rank < 0:
        raise AdapterError("a rank is 1 or more", fix="give --rank 32")
    two = [bases.locate(bases.find(name)) for name in (tuned, base)]
    if two[0].variant.family != two[1].variant.family:
        raise AdapterError(f"one checkpoint is of {two[0].variant.family}, the other of {two[1].variant.family}")
    names = _names_of(two[1])
    metadata = {
        "ss_base_model_version": two[1].variant.name,
        "ss_network_module": "networks.lora",
        "modelspec.architecture": f"{two[1].variant.architecture}/lora",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": out.stem,
    }
    sources = [one.source for one in two if one.source.is_file()]
    told = {"rank": rank, "conv_rank": conv_rank or None, "tuned": two[0].source.name, "base": two[1].source.name}
    return checkpoint.extract(
        _checkpoint(two[0], names),
        _checkpoint(two[1], names),
        _free(out),
        rank=rank,
        conv_rank=conv_rank,
        stem=names.keys.written,
        ends=names.keys.written_ends,
        precision=precision,
        metadata=store.descent(metadata, "extract", sources, told),
    )


def bake_loras(base: str, sources: Sequence[tuple[Path, float]], out: Path) -> list[Baked]:
    """Write a whole checkpoint with adapters in its weights, in its own layout and precision.

    Of a base in a folder, or in several files, a folder is written, in which files without changes are copies.

    Raises:
        AdapterError: an adapter does not fit the base, or the base's precision cannot be written.
    """
    from velatura import bases
    from velatura.adapters import formats
    from velatura.adapters.algebra import checkpoint, store

    found = bases.locate(bases.find(base))
    names = _names_of(found)
    adapters = [(formats.read(path, keys=names.keys, layers=names.layers), strength) for path, strength in sources]
    uses: dict[str, list[tuple[Change, float]]] = {}
    for adapter, strength in adapters:
        for name, change in adapter.layers.items():
            uses.setdefault(name, []).append((change, strength))
    there = _checkpoint(found, names)
    paths = [path for path, _ in sources]
    told = {"strengths": " ".join(f"{strength:g}" for _, strength in sources), "base": found.source.name}
    _free(out)
    done = []
    changed = {there.weights[name].path for name in uses if name in there.weights}
    if found.source.is_dir():
        targets = {path: out / path.relative_to(found.source) for path in changed}
        with disk_problems(out):
            shutil.copytree(
                found.source, out, ignore=lambda at, held: [one for one in held if Path(at) / one in changed]
            )
    else:
        targets = {path: out if path == found.source else out.with_name(f"{out.stem}-{path.name}") for path in changed}
    for path, target in targets.items():
        make_folder(target.parent)
        metadata = store.descent(there.headers[path].metadata, "bake", paths, told)
        done.append(checkpoint.bake(path, there, uses, target, metadata=metadata))
    return done


def deploy_lora(source: Path, to: str, *, name: str = "", copy: bool = False) -> Deployed:
    """Put an adapter into another program's folder, in the form that the program reads; see `adapters.deploy`."""
    from velatura.adapters import deploy
    from velatura.adapters.algebra.factors import open_file

    folder, program = deploy.folder_of(to)
    dotted = any("." in stem for stem in open_file(source).layers)
    if program in deploy.KOHYA_ONLY and dotted:

        def converted(path: Path) -> None:
            convert_lora(source, path, "kohya")

        return deploy.deploy(source, folder, name=name, converted=converted)
    return deploy.deploy(source, folder, name=name, copy=copy)


def _sides(paths: Sequence[Path]) -> tuple[Sequence[Side], Names | None]:
    """The adapters by their files' spelling, or by the base's names.

    By the base's where they spell alike layers differently, or a file does not tell the kernel of a convolution.
    """
    from velatura.adapters.algebra import sides

    names = _family_names(paths)
    if names is not None:
        found = sides.named(paths, names)
        if not sides.alike(found) or any(side.flattened(names.layers) for side in found):
            return found, names
    return sides.spelled(paths), None


def _family_names(paths: Sequence[Path]) -> Names | None:
    """The names of the family that all these files are for, at its published size, where every key of them attaches.

    Raises:
        AdapterError: they are for bases of different families.
    """
    from velatura.adapters.algebra.sides import Names
    from velatura.adapters.formats import attach
    from velatura.adapters.signatures import made_for
    from velatura.families import names

    headers = [tensorfile.read_header(path).entries for path in paths]
    meant_for = {family: path for header, path in zip(headers, paths, strict=True) if (family := made_for(header))}
    if len(meant_for) > 1:
        listed = ", ".join(f"{path.name} for {family}" for family, path in meant_for.items())
        raise AdapterError(f"these are for bases of different families: {listed}", fix="take those of one family")
    found = {names.told(header) for header in headers}
    family = found.pop()
    if found or family is None:
        return None
    meant = Names(names.keys(family), names.layers(family))
    if any(attach(header, keys=meant.keys, layers=meant.layers).strange for header in headers):
        return None
    return meant


def _names_for(path: Path, base: str) -> Names:
    """The names of a base's layers, or of those of the family that a file's keys tell."""
    from velatura import bases
    from velatura.adapters import formats, peft
    from velatura.adapters.algebra.sides import Names
    from velatura.families import names

    if base:
        return _names_of(bases.locate(bases.find(base)))
    if peft.is_folder(path):
        family = next(
            (one for one in bases.FAMILIES if names.told(formats.stored(path, names.keys(one))[0]) == one), None
        )
    else:
        family = names.told(tensorfile.read_header(path).entries)
    if family is None:
        raise AdapterError(
            "the family of bases that this adapter is for is not known", where=path, fix="name a base with --base"
        )
    return Names(names.keys(family), names.layers(family))


def _names_of(base: Base) -> Names:
    from velatura.adapters.algebra.sides import Names
    from velatura.families import names

    return Names(names.keys(base.variant.family), names.layers_of(base))


def _checkpoint(base: Base, names: Names) -> Checkpoint:
    from velatura.adapters.algebra.checkpoint import Checkpoint

    return Checkpoint(base.parts, keys=names.keys, layers=names.layers)


def _difference(adapter: AdapterFile, draft: Draft, names: Names) -> float:
    """The largest relative difference between an adapter's changes and those of a file of it, as it would be written.

    On a random weight where they depend on it.
    """
    from velatura.adapters.formats import attach, changes_of

    back = attach(draft.planned, keys=names.keys, layers=names.layers)
    owned = {name for owners in back.owners.values() for name, _ in owners}
    worst = 0.0 if adapter.layers.keys() <= owned and not back.strange else math.inf
    for stem, keys in back.stems.items():
        tensors = {key: draft.tensor(key) for key in keys.values()}
        for name, change in changes_of(back, stem, tensors, draft.metadata).items():
            if name in adapter.layers:
                worst = max(worst, _apart(adapter.layers[name], change, names.layers[name], name))
            elif change.needs_weight or change.delta().any():  # of a layer beside others in one that is fused
                worst = math.inf
    return worst


def _apart(one: Change, other: Change, shape: Shape, name: str) -> float:
    """The relative difference of two changes of a layer, of its weight or of its bias, whichever is larger."""
    import numpy as np

    from velatura import randomness
    from velatura.adapters.kinds import plain

    biases = [np.zeros(1) if change.bias_change is None else change.bias_change for change in (one, other)]
    of_bias = _relative(float(np.linalg.norm(biases[1] - biases[0])), float(np.linalg.norm(biases[0])))
    if (lora := plain(one)) is not None and (again := plain(other)) is not None:
        # |up @ down| squared is the sum of the elements of (up^T up) * (down down^T): never the product in full
        norms = []
        for halves in ([(lora, 1.0), (again, -1.0)], [(lora, 1.0)]):
            ups = [sign * half.scale * half.up.astype(np.float64).reshape(-1, half.rank) for half, sign in halves]
            up = np.concatenate(ups, axis=1)
            down = np.concatenate([half.down.astype(np.float64).reshape(half.rank, -1) for half, _ in halves])
            norms.append(math.sqrt(max(0.0, float(np.sum((up.T @ up) * (down @ down.T))))))
        return max(_relative(*norms), of_bias)
    weight = randomness.generator(0, "verify", name).standard_normal(shape, dtype=np.float32)
    weight *= np.float32(one.needs_weight or other.needs_weight)
    first, second = (change.applied(weight).astype(np.float64) - weight for change in (one, other))
    return max(_relative(float(np.linalg.norm(second - first)), float(np.linalg.norm(first))), of_bias)


def _relative(difference: float, norm: float) -> float:
    return difference / norm if norm else math.inf if difference else 0.0


def _common_precision(paths: Sequence[Path]) -> Precision:
    """The type of all factors, or fp32 where they differ."""
    found: Counter[str] = Counter()
    for path in paths:
        entries = tensorfile.read_header(path).entries.values()
        found.update(entry.dtype for entry in entries if len(entry.shape) > 1)
    kinds = set(found)
    return kinds.pop() if len(kinds) == 1 and kinds <= {"F16", "BF16", "F32"} else "F32"  # type: ignore[return-value]


def _free(out: Path) -> Path:
    """The path to write at; nothing that stands there is overwritten."""
    if out.exists():
        raise FileProblem("this is there already", where=out, fix="choose another name with -o")
    return out
