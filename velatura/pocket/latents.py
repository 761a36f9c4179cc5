"""What the pocket base's denoiser is trained on: latents and captions of the shards, encoded once.

Shape suffixes: B batch, C channels, H and W height and width, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from velatura import randomness
from velatura.pocket import shards
from velatura.pocket.architecture import ARCHITECTURES, LATENT_CHANNELS, LATENT_SIDE, TOKENS, VOCABULARY, Kind, build
from velatura.pocket.captions import with_strange_words
from velatura.pocket.stages import Settings, barrier, newest_weights, save, tokenizer_folder
from velatura.text import qwen_tokens

Encode = Callable[[list[str]], Tensor]
"""From captions to token numbers, (n, TOKENS)."""

BEYOND = -1
"""Stands behind the end of a caption that is not filled up with tokens."""


class Latents:
    """Latents and captions of the shards in use; a worker draws and encodes every n-th shard and all read all."""

    def __init__(self, rank: int, settings: Settings, folder: Path) -> None:
        """Nothing is drawn or encoded yet."""
        self.rank, self.settings, self.folder = rank, settings, folder
        self.count = 0
        self.latents = torch.empty(0, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, dtype=torch.float16)
        self.tokens = torch.empty(0, TOKENS, dtype=torch.int16)
        self.encode_text = text_reader(tokenizer_folder(folder, settings.kind), settings.kind)
        self.scale = 1.0

    def batch(self, step: int, seen: int) -> tuple[Tensor, Tensor]:
        """Latents (B, C, H, W) scaled to unit variance, tokens (B, L); captions dropped at their rate.

        `seen` is the number of pictures before this step: it says how many shards have joined.
        """
        settings = self.settings
        # one for each worker at a time, so that they draw and encode side by side
        rounds = seen // (settings.samples_per_shard * settings.workers)
        wanted = settings.first_shards + rounds * settings.workers
        if wanted > self.count:
            self._grow(wanted)
        rng = randomness.generator(settings.seed, "batch", step, self.rank)
        chosen = torch.from_numpy(rng.integers(0, len(self.latents), size=settings.batch))
        tokens = self.tokens[chosen].long()
        dropped = torch.from_numpy(rng.random(settings.batch) < settings.caption_dropout)
        tokens[dropped] = self.encode_text([""])[0]
        latents = self.latents[chosen].float() * self.scale
        return latents.to(settings.device), tokens.to(settings.device)

    def _grow(self, wanted: int) -> None:
        settings, folder = self.settings, self.folder / "shards"
        for shard in range(self.count, wanted):
            if shard % settings.workers == self.rank:
                shards.draw(folder, shard)
                encode_shard(self.folder, shard, settings)
        barrier(settings)
        parts = [torch.load(shards.latents(folder, n), weights_only=True) for n in range(self.count, wanted)]
        self.latents = torch.cat([self.latents, *parts])
        texts = [
            with_strange_words(caption, randomness.generator(settings.seed, "strange words", n, place))
            for n in range(self.count, wanted)
            for place, caption in enumerate(shards.captions(folder, n))
        ]
        self.tokens = torch.cat([self.tokens, self.encode_text(texts).to(torch.int16)])
        self.count = wanted
        self.scale = scaling_factor(self.folder)


def scaling_factor(folder: Path) -> float:
    """One over the spread of the first shard's latents, as Stable Diffusion's 0.18215."""
    first = torch.load(shards.latents(folder / "shards", 0), weights_only=True).float()
    return round(1 / float(first.std()), 5)


@torch.no_grad()
def encode_shard(folder: Path, shard: int, settings: Settings) -> None:
    """Posterior means of a shard's pictures, fp16, into `latents-0000.pt`; the pictures themselves go."""
    path = shards.latents(folder / "shards", shard)
    if path.exists():
        return
    model = build(ARCHITECTURES[settings.kind].autoencoder)
    model.load_state_dict(newest_weights(folder / "autoencoder")["model"])
    model = model.to(settings.device).eval()
    pictures = shards.images(folder / "shards", shard)
    means = []
    for start in range(0, len(pictures), 20):
        batch = torch.from_numpy(np.array(pictures[start : start + 20])).permute(0, 3, 1, 2).float() / 127.5 - 1
        means.append(model.encode(batch.to(settings.device)).latent_dist.mean.half().cpu())
    save(path, torch.cat(means))
    if shard >= settings.vae_shards:
        (folder / "shards" / f"images-{shard:04d}.npy").unlink()


def text_reader(folder: Path, kind: Kind) -> Encode:
    """How captions are cut into tokens: CLIP's chunk, filled up; for flow a question, `BEYOND` behind its end."""
    if kind == "flow":
        qwen = qwen_tokens.load(folder, vocabulary=VOCABULARY)

        def asked(texts: list[str]) -> Tensor:
            cut = [qwen.asked(text, TOKENS) for text in texts]
            return torch.tensor([one + [BEYOND] * (TOKENS - len(one)) for one in cut])

        return asked
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer.from_pretrained(folder)

    def chunked(texts: list[str]) -> Tensor:
        padded = clip(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        tokens: Tensor = padded.input_ids
        return tokens

    return chunked
