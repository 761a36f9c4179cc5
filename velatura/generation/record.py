"""How a picture was made, written so that it can be made again, here or in A1111.

Two forms in each file: A1111's infotext, and our own record with everything bit-identity depends on.
Names and hashes only: no path, user or host name.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from velatura import settings as user
from velatura.adapters import formats
from velatura.adapters.blocks import factors
from velatura.adapters.layers import every_shape
from velatura.adapters.merge import Applied
from velatura.adapters.weights import AdapterFile
from velatura.bases import BaseFiles
from velatura.errors import PromptError
from velatura.family import Model
from velatura.files import sha256
from velatura.generation import control, infotext, prompt, tuned
from velatura.generation.carriers import read
from velatura.generation.hints import Shown
from velatura.generation.hires import Hires
from velatura.generation.parts import Inpaint
from velatura.generation.prompt.template import Template
from velatura.generation.reading import weighted
from velatura.generation.sampling import Job, Sampling
from velatura.text import clip
from velatura.text.embeddings import Found, find
from velatura.text.weighted import Embedding
from velatura.version import __version__

EMPHASIS: Mapping[str, str | None] = {"a1111": None, "a1111-nonorm": "No norm", "comfy": "comfy"}
"""As A1111 writes it, where there are brackets and the mode is not its default; it has no name for ComfyUI's."""


_LORA_FILE = re.compile(r"[^<>{}|:,]*[/\\]([^<>{}|:,/\\]+)\.safetensors")


@dataclass(frozen=True)
class UsedLora:
    """An adapter in use, and what to call it."""

    name: str
    hash: str
    """sha256 of its tensors, hex; its first 12 digits are A1111's hash of a LoRA."""
    applied: Applied
    asked: str | None = None
    """What the prompt calls it; None where it was given beside the prompt."""
    blocks: str = ""
    """Weights of blocks, as the prompt has them."""
    embeddings: tuple[Embedding, ...] = ()
    """Textual inversions that came with it."""
    passed_over: tuple[str, ...] = ()
    """Keys of its file that fit no layer of the base."""


@dataclass(frozen=True)
class Begun:
    """The picture that painting began with."""

    name: str
    """Of its file."""
    sha256: str
    """Of its file, hex."""
    denoising: float
    resize_mode: str
    exact_steps: bool
    background: tuple[int, int, int]
    """What shows through where it is transparent."""
    inpaint: Inpaint | None = None
    """The part that was painted anew, its mask as bytes; none: all of it."""
    parent: Mapping[str, Any] = field(default_factory=dict)
    """What it says of itself: `parent_of`."""
    colour_correction: bool = False
    """What was painted was brought back to its colours."""


def parent_of(path: Path) -> dict[str, Any]:
    """What is to be said of the picture that another was made from: its name and hash, and its own words.

    Its own record holds that of its parent, and so on to the picture that was painted from noise.

    Raises:
        FileProblem: it is no picture.
    """
    told = read(path)
    words: dict[str, Any] = {}
    if told.record is not None:
        words["record"] = told.record
    elif told.infotext is not None and told.infotext.settings:
        words["infotext"] = told.text
    return {"name": path.name, "sha256": sha256(path), **words}


def _begun(told: Begun) -> dict[str, Any]:
    """As the record has it: a mask as base64 of a PNG file."""
    inpaint = told.inpaint
    found = {one.name: getattr(told, one.name) for one in fields(told) if one.name not in ("inpaint", "parent")}
    if inpaint is not None:
        mask = base64.b64encode(inpaint.mask).decode() if isinstance(inpaint.mask, bytes) else None
        found["inpaint"] = {**asdict(inpaint), "mask": mask}
    return found


def used_loras(
    model: Model,
    text: str,
    given: Sequence[str],
    project: Path | None,
    *,
    partial: bool = False,
    known: dict[Path, tuple[AdapterFile, str]] | None = None,
) -> list[UsedLora]:
    """The adapters that a prompt names and those given beside it, in that order.

    Args:
        given: "FILE" or "NAME", with ":strength" behind it where it is not 1.
        partial: what of a file fits no layer of the base is passed over, not an error.
        known: files that were read before, with their hashes; what is read is added.

    Raises:
        SettingsError: a name resolves to nothing or to several files.
        AdapterError: one does not fit the base.
        PromptError: a strength is not a number, or the weights of blocks are not the base's.
    """
    named = prompt.parse(text).loras
    asked = [*named, *(prompt.LoraUse(name, strength, strength) for name, strength in map(prompt.given_lora, given))]
    found = []
    known = {} if known is None else known
    keys, layers = model.family.keys, cache(lambda: every_shape(model.trainable_parts))
    for place, use in enumerate(asked):
        path = user.find_lora(use.name, project=project)
        if path not in known:
            adapter = formats.read(path, keys=keys, layers=layers(), partial=partial)
            known[path] = adapter, formats.tensors_hash(path)
        adapter, digest = known[path]
        blocks = factors(use.blocks, keys=keys, layers=list(layers())) if use.blocks else {}
        applied = Applied(
            adapter.layers, use.denoiser_strength, use.text_strength, blocks, path.stem, use.start, use.stop
        )
        called = use.name if place < len(named) else None
        found.append(
            UsedLora(called_after(path), digest, applied, called, use.blocks, words_of(adapter), adapter.passed_over)
        )
    return found


def called_after(path: Path) -> str:
    """What to call the adapter of a file; that of a checkpoint after its run and step, not `adapter` like all of them.

    runs/0001-ink/checkpoints/step-000400/adapter.safetensors is `0001-ink-000400`.
    """
    step = path.parent.name.removeprefix("step-")
    if path.stem == "adapter" and path.parent.parent.name == "checkpoints" and step.isdecimal():
        return f"{path.parent.parent.parent.name}-{step}"
    return path.stem


def words_of(adapter: AdapterFile) -> tuple[Embedding, ...]:
    """Textual inversions that came with an adapter; named as they are in its file."""
    found = []
    for word, held in adapter.embeddings.items():
        vectors = {array.shape[-1]: array for array in held.values()}
        digest = hashlib.sha256(b"".join(vectors[width].tobytes() for width in sorted(vectors))).hexdigest()
        found.append(Embedding(word, vectors, digest))
    return tuple(found)


def used_embeddings(
    model: Model, texts: Sequence[str], project: Path | None, *, bundled: Sequence[Embedding] = ()
) -> Found:
    """The textual-inversion embeddings that prompts name, out of the project's `embeddings/` and the user's folders.

    Args:
        bundled: those that came with adapters; they come before files of the same name.

    Raises:
        SettingsError, ModelError: see `text.embeddings.find`.
        PromptError: one is named outright, and the base takes none.
    """
    widths = [int(one.config.hidden_size) for one in clip.encoders(model.parts, model.tokenizers)]
    if not widths:
        if told := next((text for text in texts if "embedding:" in text), None):
            raise PromptError("embeddings are for bases whose text encoders are CLIP", where=told, fix="leave it out")
        return Found()
    folders = (*((project / "embeddings",) if project else ()), *user.load().folders("embeddings"))
    fitting = tuple(one for one in bundled if set(one.vectors) == set(widths))
    named = tuple(one for one in fitting if any(one.name.lower() in text.lower() for text in texts))
    bare = list(texts)
    for one in named:
        bare = [re.sub(rf"(?i)\b{re.escape(one.name)}\b", " ", text) for text in bare]
    found = find([weighted(text) for text in bare], model.tokenizers[0], widths, folders)
    return Found((*named, *found.embeddings), found.passed_over)


def infotext_of(
    model: Model,
    job: Job,
    sampling: Sampling,
    loras: Sequence[UsedLora],
    *,
    batch: int,
    embeddings: Sequence[Embedding] = (),
    begun: Begun | None = None,
    hires: Hires | None = None,
    together: Sequence[Job] = (),
    files: BaseFiles | None = None,
    words: Mapping[str, object] | None = None,
    also: Sequence[UsedLora] = (),
) -> tuple[str, dict[str, Any]]:
    """A picture's infotext and record.

    Args:
        together: the jobs of its batch, itself among them; where it was painted alone they may be left out.
        files: of the base; what was named beside its first file is told.
        words: further settings of the infotext, by A1111's names.
        also: adapters that stand in other prompts than the job's; the infotext tells their hashes.
    """
    names = {lora.asked: lora.name for lora in loras if lora.asked is not None}
    named = prompt.rename_loras(job.prompt, names)
    if hires is not None and hires.prompt is not None:
        hires = replace(hires, prompt=prompt.rename_loras(hires.prompt, names))
    vae = files.vae if files is not None else None
    beside = [lora for lora in loras if lora.asked is None]
    told = named + "".join(f" <lora:{lora.name}:{lora.applied.denoiser_strength:g}>" for lora in beside)
    bracketed = any(mark in told + job.negative_prompt for mark in "([")
    apart = bool(loras) and sampling.apart
    settings = {
        "Steps": sampling.steps,
        "Sampler": sampling.sampler,
        "Schedule type": sampling.scheduler,
        "CFG scale": f"{sampling.cfg_scale:g}",
        "Distilled CFG Scale": f"{sampling.guidance:g}" if model.guidance == "distilled" else None,
        "LoRA strength on negative": f"{sampling.negative_strength:g}" if apart else None,
        "Seed": job.seed,
        "Size": f"{sampling.width}x{sampling.height}",
        "Model hash": model.hash[:10],
        "Model": model.name,
        "VAE hash": user.file_hash(vae)[:10] if vae else None,
        "VAE": vae.name if vae else None,
        "Variation seed": job.variation if job.variation_strength else None,
        "Variation seed strength": f"{job.variation_strength:g}" if job.variation_strength else None,
        "Denoising strength": f"{begun.denoising:g}" if begun else None,
        **(begun.inpaint.words if begun and begun.inpaint else {}),
        "Color correction": True if begun and begun.colour_correction else None,
        **(_second_pass(named, job.negative_prompt, sampling, hires) if hires else {}),
        **{f"ControlNet {place}": _unit(one) for place, one in enumerate(sampling.controls)},
        "Clip skip": model.clip_skip if model.clip_skip != 1 else None,
        **tuned.words(sampling.tuning, sampling.sampler),
        **(words or {}),
        "Lora hashes": infotext.lora_hashes({lora.name: lora.hash[:12] for lora in (*loras, *also)}.items()) or None,
        "TI hashes": infotext.lora_hashes((one.name, one.hash[:12]) for one in embeddings) or None,
        "Emphasis": EMPHASIS[model.emphasis] if bracketed else None,
        "Version": f"velatura {__version__}",
    }
    record = {
        "prompt": named,
        "negative_prompt": job.negative_prompt,
        **({"template": _template(job.template)} if job.template else {}),
        "seed": job.seed,
        "steps": sampling.steps,
        "cfg_scale": sampling.cfg_scale,
        "guidance": sampling.guidance if model.guidance == "distilled" else None,
        "negative_strength": sampling.negative_strength,
        "sampler": sampling.sampler,
        "scheduler": sampling.scheduler,
        "tuning": sampling.tuning.model_dump(exclude_defaults=True),
        "variation": {"seed": job.variation, "strength": job.variation_strength} if job.variation_strength else None,
        "width": sampling.width,
        "height": sampling.height,
        "begun": _begun(begun) if begun else None,
        **({"parent": dict(begun.parent)} if begun and begun.parent else {}),
        "hires": asdict(hires) if hires else None,
        **({"controls": [_control(one) for one in sampling.controls]} if sampling.controls else {}),
        "clip_skip": model.clip_skip,
        "emphasis": model.emphasis,
        "base": {
            "name": model.name,
            "family": model.variant.family,
            "sha256": model.hash,
            "vae": vae.name if vae else "",
            "text_encoders": [path.name for path in files.text_encoders] if files else [],
        },
        "loras": [
            {
                "name": lora.name,
                "sha256_tensors": lora.hash,
                "strength": lora.applied.denoiser_strength,
                "text_strength": lora.applied.text_strength,
                **({"blocks": lora.blocks} if lora.blocks else {}),
                **{which: step for which in ("start", "stop") if (step := getattr(lora.applied, which)) is not None},
            }
            for lora in loras
        ],
        "embeddings": [{"name": one.name, "sha256": one.hash} for one in embeddings],
        "adapters": "merged" if model.policy.merges and not apart else "beside the layers",
        "batch": batch,
        "together": _together(job, together, names),
        "device": model.policy.device,
        "dtype": str(model.policy.dtype).removeprefix("torch."),
        "vae_dtype": str(model.policy.vae_dtype).removeprefix("torch."),
        "vae_tiling": model.policy.vae_tiling,
        "quantised": model.policy.quantised,
        "in_turn": model.policy.in_turn,
        "swapped_blocks": model.policy.swapped_blocks,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "velatura": __version__,
        "torch": torch.__version__,
    }
    return infotext.write(told, job.negative_prompt, settings), record


def _template(template: Template) -> dict[str, object]:
    """What the prompts were chosen from; files of LoRAs by their names, also those that were not chosen."""

    def told(text: str) -> str:
        return _LORA_FILE.sub(r"\1", text)

    return {
        "prompt": told(template.prompt),
        "negative_prompt": told(template.negative_prompt),
        "styles": [style.name for style in template.styles],
    }


def _unit(one: Shown) -> str:
    """A ControlNet in the words of A1111's extension."""
    with one.net.files.lies.files[0].open("rb") as file:
        file.seek(0x100000)
        digits = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    return control.infotext(one.use, one.net.name, digits)


def _control(one: Shown) -> dict[str, Any]:
    """A ControlNet and its hint, by names and hashes."""
    told = {**asdict(one.use), "hint": {"name": one.use.hint.name, "sha256": one.sha256}}
    del told["file"]
    return {"name": one.net.name, "sha256": one.net.hash, **told}


def _second_pass(words: str, negative: str, sampling: Sampling, hires: Hires) -> dict[str, object]:
    """A high-resolution fix in A1111's and Forge's words; what is that of the first pass is left out."""

    def other(value: object, first: object) -> object:
        return None if value in (None, first) else value

    sided = bool(hires.width or hires.height)
    cfg_scale = other(hires.cfg_scale, sampling.cfg_scale)
    return {
        "Denoising strength": f"{hires.denoising:g}",
        "Hires prompt": other(hires.prompt, words),
        "Hires negative prompt": other(hires.negative_prompt, negative),
        "Hires CFG Scale": None if cfg_scale is None else f"{cfg_scale:g}",
        "Hires schedule type": other(hires.scheduler, sampling.scheduler),
        "Hires upscale": None if sided else f"{hires.scale:g}",
        "Hires resize": f"{hires.width}x{hires.height}" if sided else None,
        "Hires steps": hires.steps or None,
        "Hires upscaler": hires.upscaler,
        "Hires sampler": other(hires.sampler, sampling.sampler),
    }


def _together(job: Job, jobs: Sequence[Job], names: Mapping[str, str]) -> dict[str, Any]:
    """The batch that a picture was painted in, and its place there: the last bits depend on how many there are."""
    jobs = jobs or [job]
    told: dict[str, Any] = {"place": list(jobs).index(job), "seeds": [one.seed for one in jobs]}
    if any((one.prompt, one.negative_prompt) != (job.prompt, job.negative_prompt) for one in jobs):
        told["prompts"] = [prompt.rename_loras(one.prompt, names) for one in jobs]
        told["negative_prompts"] = [one.negative_prompt for one in jobs]
    if any(one.variation_strength for one in jobs):
        told["variations"] = [(one.variation, one.variation_strength) for one in jobs]
    return told
