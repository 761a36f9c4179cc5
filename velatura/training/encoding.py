"""Pictures and captions made into what the denoiser takes, once; what was made in an earlier start is found again.

Pictures are read by threads ahead of the autoencoder, which takes them one at a time: what a picture's latents are does
not depend on its neighbours.

Shape suffixes: B batch, C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from velatura.dataset.images import Geometry as Origin
from velatura.dataset.pool import ahead
from velatura.dataset.prepared import Prepared, Window, load, load_mask, origin_of, windows
from velatura.events import Note, Progress
from velatura.family import Model, TextConditioning
from velatura.generation.reading import breakdown, check_text
from velatura.training.cache import Cache, key
from velatura.training.data import Cached, Sample, View
from velatura.version import __version__

Place = tuple[int, Window, bool]
"""A picture by its number, what is cut of it, and whether it is mirrored."""


def encode(
    model: Model,
    prepared: Sequence[Prepared],
    *,
    masked: str = "off",
    seed: int = 0,
    turned: bool = True,
    keep: bool = True,
    of_class: Callable[[str], str] | None = None,
) -> Iterator[Progress | Note | Cached]:
    """Encode pictures and captions; yields progress and notes, and last the cached dataset.

    Args:
        model: what encodes them.
        prepared: the pictures, those of the class last.
        masked: what weighs their parts, as `objective.masked_loss` says.
        seed: of what is drawn.
        turned: also mirrored and cut in several places, where their rules say so.
        keep: find what an earlier start has encoded, and keep what this one does.
        of_class: what each caption is also told as, where what the base says of its class is to stay.

    Raises:
        DatasetError: a picture cannot be read any more.
        ModelError: a picture's latents or a caption's features are no numbers.
    """
    cache = Cache(_encoder(model), keep=keep)
    cut = [windows(one, seed=seed) if turned else (None,) for one in prepared]
    places = [[(n, at, how) for at in cut[n] for how in _turned(one, turned)] for n, one in enumerate(prepared)]
    spoken = [one.wordings if turned else () for one in prepared]
    words = {caption: None for one, more in zip(prepared, spoken, strict=True) for caption in _all(one, more)}
    with torch.no_grad():
        latents = yield from _pictures(model, cache, prepared, places)
        others = {caption: of_class(caption) for caption in words} if of_class is not None else {}
        texts = yield from _captions(model, cache, list(dict.fromkeys([*words, "", *others.values()])))
    if cache.problem is not None:
        yield Note(f"what was encoded is not kept for another start: {cache.problem}")
    samples = []
    for one, own, wordings in zip(prepared, places, spoken, strict=True):
        views = tuple(_view(one, place, latents[place], masked) for place in own)
        if all(view.mask_HW is not None and not view.mask_HW.any() for view in views):
            yield Note(f"{one.picture.name}: its mask is black all over, so nothing is learnt from it")
        told = tuple(texts[caption] for caption in one.captions)
        samples.append(Sample(one, views, told, tuple(tuple(texts[caption] for caption in w) for w in wordings)))
    train = tuple(one for one in samples if not (one.prepared.held_out or one.prepared.of_class))
    regular = tuple(sample for sample in samples if sample.prepared.of_class)
    held_out = tuple(sample for sample in samples if sample.prepared.held_out)
    yield Cached(train, held_out, texts[""], regular, {caption: texts[other] for caption, other in others.items()})


@torch.no_grad()
def retold(model: Model, samples: Sequence[Sample]) -> list[Sample]:
    """The samples with their captions encoded anew, by text encoders that an adapter has changed."""
    captions = dict.fromkeys(caption for sample in samples for caption in sample.prepared.captions)
    known = {caption: _read(model, caption) for caption in captions}
    told = [tuple(known[caption] for caption in one.prepared.captions) for one in samples]
    return [replace(one, texts=texts, wordings=()) for one, texts in zip(samples, told, strict=True)]


def _encoder(model: Model) -> str:
    """A hash of what encodes, as far as it decides the last bits."""
    libraries = [version(name) for name in ("torch", "diffusers", "transformers", "pillow")]
    threads = torch.get_num_threads() if model.policy.device == "cpu" else 0
    return key(__version__, libraries, model.hash, model.policy.device, threads)


def _turned(one: Prepared, turned: bool) -> tuple[bool, ...]:
    """Straight, and where it is trained so also mirrored."""
    return (False, True) if turned and one.rules.flip and not one.held_out else (False,)


def _all(one: Prepared, wordings: Sequence[Sequence[str]]) -> Iterator[str]:
    """Every caption and wording of a picture."""
    yield from one.captions
    for spoken in wordings:
        yield from spoken


def _pictures(
    model: Model, cache: Cache, prepared: Sequence[Prepared], places: Sequence[Sequence[Place]]
) -> Generator[Progress | Note, None, dict[Place, Tensor]]:
    """Latents of every picture as it is cut and turned."""
    names = {place: _name(model, prepared[place[0]], *place[1:]) for own in places for place in own}
    missing = [[place for place in own if cache.get(names[place]) is None] for own in places]
    cuts = list(dict.fromkeys((number, window) for own in missing for number, window, _ in own))
    with closing(ahead(lambda cut: _pixels(prepared[cut[0]], cut[1]), cuts)) as decoded:
        for number, own in enumerate(missing):
            notes, pixels = len(model.notes), dict[Window, Tensor]()
            for place in own:
                _, window, mirror = place
                if window not in pixels:
                    pixels[window] = next(decoded)
                pixels_CHW = pixels[window].flip(-1) if mirror else pixels[window]
                latents_CHW = _latents(model, prepared[number], pixels_CHW)
                names[place] = _name(model, prepared[number], window, mirror)  # the autoencoder's precision may change
                cache.put(names[place], {"latents": latents_CHW})
            yield from map(Note, model.notes[notes:])
            yield Progress("encoding pictures", number + 1, len(prepared))
    cache.flush()
    return {place: cache.get_made(name)["latents"] for place, name in names.items()}


def _captions(
    model: Model, cache: Cache, captions: Sequence[str]
) -> Generator[Progress, None, dict[str, TextConditioning]]:
    """Every caption, encoded."""
    policy = model.policy
    cut = [key(one.tokenizer.to_str()) for one in model.tokenizers]
    encoder = (str(policy.dtype), str(policy.quantised), model.clip_skip, model.emphasis, cut)
    names = {caption: key("caption", caption, *encoder) for caption in captions}
    missing = [caption for caption, name in names.items() if cache.get(name) is None]
    for number, caption in enumerate(missing):
        told = _read(model, caption)
        held = {"tokens": told.tokens_BLD, "pooled": told.pooled_BD, "mask": told.mask_BL}
        cache.put(names[caption], {place: tensor for place, tensor in held.items() if tensor is not None})
        yield Progress("encoding captions", number + 1, len(missing))
    cache.flush()
    found = {caption: cache.get_made(name) for caption, name in names.items()}
    return {
        caption: TextConditioning(record["tokens"], record.get("pooled"), record.get("mask"))
        for caption, record in found.items()
    }


def _name(model: Model, one: Prepared, window: Window, mirror: bool) -> str:
    """What latents are known by: the picture's content, how it is cut and turned, and how they are made."""
    how = (str(model.policy.vae_dtype), model.policy.vae_tiling, model.latent_scale, model.latent_shift)
    return key("picture", one.picture.sha256, one.resized, one.bucket, window, mirror, *how)


def _pixels(one: Prepared, window: Window) -> Tensor:
    """A picture in [-1, 1], (3, H, W)."""
    image, _ = load(one, window)
    pixels_HWC = torch.from_numpy(np.array(image, dtype=np.float32))
    return pixels_HWC.permute(2, 0, 1) / 127.5 - 1


def _latents(model: Model, one: Prepared, pixels_CHW: Tensor) -> Tensor:
    found_CHW = model.family.encode_images(model, pixels_CHW[None])[0].cpu()
    if not bool(found_CHW.isfinite().all()):
        what = f"the latents of {one.picture.name}"
        raise breakdown(model, what, "memory.vae_precision", model.policy.vae_dtype)
    return found_CHW


def _view(one: Prepared, place: Place, latents_CHW: Tensor, masked: str) -> View:
    _, window, mirror = place
    mask_HW = latent_mask(one, masked, latents_CHW, window)
    origin = origin_of(one, window)
    if not mirror:
        return View(latents_CHW, origin, mask_HW)
    return View(latents_CHW, _mirrored(one, origin), None if mask_HW is None else mask_HW.flip(-1))


def latent_mask(one: Prepared, told: str, latents_CHW: Tensor, window: Window = None) -> Tensor | None:
    """The mask's mean over the pixels of each latent, (H, W); None where every part counts the same."""
    mask = load_mask(one, told, window)
    if mask is None:
        return None
    grey_HW = torch.from_numpy(np.array(mask, dtype=np.float32)) / 255
    return F.interpolate(grey_HW[None, None], size=latents_CHW.shape[-2:], mode="area")[0, 0]


def _mirrored(one: Prepared, origin: Origin) -> Origin:
    """The origin of the mirrored picture: what was cut off on the right is now on the left."""
    top, left = origin.crop_top_left
    return replace(origin, crop_top_left=(top, one.resized[0] - left - origin.target[1]))


def _read(model: Model, caption: str) -> TextConditioning:
    told = model.read(model.told(caption)).to("cpu")
    check_text(model, told)
    return told
