"""The pocket base's training pictures: drawn in shards, each a function of its number.

A shard holds `SCENES` scenes in two everyday renderings each, with captions. Textures are drawn
beside them for the autoencoder alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from velatura import randomness
from velatura.files import make_folder, write_bytes, write_text
from velatura.pocket.architecture import RESOLUTION
from velatura.pocket.compose import compose
from velatura.pocket.renderings import EVERYDAY, rendering_words
from velatura.pocket.textures import texture

SCENES = 1000
"""Scenes of one shard."""
RENDERINGS = 2
"""Hands in which each scene is painted."""
TEXTURES = 500
"""Textures beside one shard, for the autoencoder."""
SEED = 20_000_000
"""Scenes of training count from here; demos, tests and the oracle use seeds below."""


def draw(folder: Path, shard: int) -> None:
    """Draw one shard: `images-0000.npy`, (n, side, side, 3) uint8, and `captions-0000.json`; no-op where it stands."""
    captions_path = folder / f"captions-{shard:04d}.json"
    if captions_path.exists():
        return
    pictures, captions = [], []
    for index in range(SCENES):
        seed = SEED + shard * SCENES + index
        scene = compose(seed, unseen=False)
        rng = randomness.generator(seed, "renderings")
        for name in rng.permutation(sorted(EVERYDAY))[:RENDERINGS]:
            pictures.append(np.asarray(EVERYDAY[str(name)](scene, size=RESOLUTION), np.uint8))
            words = rendering_words(str(name), rng) if rng.random() < 0.5 else ""
            captions.append(f"{scene.caption}, {words}" if words else scene.caption)
    _write_array(folder / f"images-{shard:04d}.npy", np.stack(pictures))
    write_text(captions_path, json.dumps(captions, indent=0))


def draw_textures(folder: Path, shard: int) -> None:
    """Draw `textures-0000.npy`; no-op where it stands."""
    path = folder / f"textures-{shard:04d}.npy"
    if not path.exists():
        seeds = range(SEED + shard * TEXTURES, SEED + (shard + 1) * TEXTURES)
        _write_array(path, np.stack([np.asarray(texture(seed, size=RESOLUTION), np.uint8) for seed in seeds]))


def images(folder: Path, shard: int) -> NDArray[np.uint8]:
    """The shard's pictures, mapped from disk."""
    loaded: NDArray[np.uint8] = np.load(folder / f"images-{shard:04d}.npy", mmap_mode="r")
    return loaded


def textures(folder: Path, shard: int) -> NDArray[np.uint8]:
    """The shard's textures, mapped from disk."""
    loaded: NDArray[np.uint8] = np.load(folder / f"textures-{shard:04d}.npy", mmap_mode="r")
    return loaded


def of_autoencoder(folder: Path, count: int) -> list[NDArray[np.uint8]]:
    """What the autoencoder sees of the first shards: pictures, and textures."""
    return [read(folder, shard) for read in (images, textures) for shard in range(count)]


def latents(folder: Path, shard: int) -> Path:
    """Where the shard's pictures lie once they are encoded."""
    return folder / f"latents-{shard:04d}.pt"


def captions(folder: Path, shard: int) -> list[str]:
    """The shard's captions, in the order of its pictures."""
    text = (folder / f"captions-{shard:04d}.json").read_text(encoding="utf-8")
    return [str(caption) for caption in json.loads(text)]


def _write_array(path: Path, array: NDArray[np.uint8]) -> None:
    import io

    make_folder(path.parent)
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_bytes(path, buffer.getvalue())
