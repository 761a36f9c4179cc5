"""Train the pocket base from nothing: tokenizer, autoencoder, then text encoder and denoiser together.

    python -m velatura.pocket.train --state FOLDER [--workers 2] [--samples 500000]

Every stage is resumable: started again on the same folder it goes on from its last checkpoint.
Workers are processes with one thread each that average their weights every few steps; on two CPU
cores that is faster than two threads. On a GPU use one worker.

Recipe. Autoencoder: L1 and squares on pixels, L1 on their gradients and on a low-passed picture, a light KL, and
an auxiliary target that ties three latents to the mean colour and fades out (without it the first
thousand steps are lost); squared error beside L1, which alone would rather drop a thin line than
draw it half right. Denoiser: epsilon on SD's schedule, min-SNR 5, a tenth of the captions
dropped, strange words in some, stratified timesteps, Muon with AdamW, flat rate, an exponential average of the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.nn import functional as F

from velatura import randomness
from velatura.files import make_folder, write_text
from velatura.pocket import shards, tokenizer
from velatura.pocket.architecture import (
    LATENT_CHANNELS,
    LATENT_SIDE,
    SCHEDULER,
    TOKENS,
    build_autoencoder,
    build_denoiser,
    build_text_encoder,
)
from velatura.pocket.captions import with_strange_words
from velatura.pocket.muon import optimizers


@dataclass(frozen=True)
class Settings:
    """What a training of the pocket base is told; what published weights were told stands in their `velatura.json`."""

    seed: int = 1
    workers: int = 2
    device: str = "cpu"
    average_every: int = 8
    """Steps between two averagings of the workers' weights."""
    keep_every: float = 240.0
    """Seconds between two checkpoints."""
    vae_shards: int = 4
    """Shards of pictures, and of textures, that the autoencoder sees."""
    vae_crops: int = 200_000
    """Crops that the autoencoder sees, all workers together."""
    vae_crop: int = 48
    """Side of a crop, in pixels."""
    vae_batch: int = 16
    vae_rate: float = 2e-3
    vae_kl: float = 2e-4
    """Weight of the KL term, per latent element."""
    samples: int = 500_000
    """Pictures that the denoiser sees, all workers together."""
    batch: int = 40
    """Per worker."""
    rate: float = 1.5e-3
    warmup: int = 100
    first_shards: int = 4
    samples_per_shard: int = 15_000
    """A further shard of each worker joins each time every one of them has seen this many pictures."""
    caption_dropout: float = 0.1
    min_snr: float = 5.0
    ema: float = 0.999
    anneal: int = 0
    """Pictures at the end over which the rate falls to nothing; 0 keeps it flat, to go on later."""


def main() -> None:
    """Run every stage that is not finished."""
    settings, folder = _arguments()
    make_folder(folder)
    if not (folder / "tokenizer" / "vocab.json").exists():
        shards.draw(folder / "shards", 0)
        tokenizer.learn(shards.captions(folder / "shards", 0), folder / "tokenizer")
    write_text(folder / "settings.json", json.dumps(asdict(settings), indent=2))
    # glibc hands every large tensor back to the system and asks for it again; keeping it is 5 % faster
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "4000000000")
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", "8000000000")
    if settings.workers == 1:
        _work(0, settings, str(folder), "")
    else:
        meeting = (folder / f"meeting-{os.getpid()}").resolve()
        try:
            multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
                _work, args=(settings, str(folder), meeting.as_uri()), nprocs=settings.workers
            )
        finally:
            meeting.unlink(missing_ok=True)


def _arguments() -> tuple[Settings, Path]:
    parser = argparse.ArgumentParser(
        prog="velatura.pocket.train", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--state", type=Path, required=True, help="folder for data and checkpoints")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    given = vars(parser.parse_args())
    folder = given.pop("state")
    return Settings(**given), folder


def _work(rank: int, settings: Settings, state: str, meeting: str) -> None:
    folder = Path(state)
    if settings.device == "cpu":
        torch.set_num_threads(1)
    if settings.workers > 1:
        dist.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=settings.workers, timeout=timedelta(hours=2)
        )
    for shard in range(rank, settings.vae_shards, settings.workers):
        shards.draw(folder / "shards", shard)
        shards.draw_textures(folder / "shards", shard)
    _barrier(settings)
    train_autoencoder(rank, settings, folder)
    train_denoiser(rank, settings, folder)
    if settings.workers > 1:
        dist.destroy_process_group()


# --- autoencoder -----------------------------------------------------------------------------


def train_autoencoder(rank: int, settings: Settings, folder: Path) -> None:
    """Train the autoencoder on crops of pictures and textures, from its last checkpoint on."""
    model = seeded(build_autoencoder(), settings.seed).to(settings.device)
    steppers = optimizers([model], lr=settings.vae_rate)
    state = folder / "autoencoder"
    step, seen = restore(state, rank, {"model": model}, steppers, None)
    per_step = settings.vae_batch * settings.workers
    if seen >= settings.vae_crops:
        return
    pictures = [shards.images(folder / "shards", shard) for shard in range(settings.vae_shards)]
    pictures += [shards.textures(folder / "shards", shard) for shard in range(settings.vae_shards)]
    kept = time.monotonic()
    while seen < settings.vae_crops:
        crops = _crops(pictures, settings, step, rank).to(settings.device)
        share = seen / settings.vae_crops
        rate = settings.vae_rate * min(1.0, (step + 1) / 50) * (1.0 if share < 0.5 else 2 * (1 - share) + 0.02)
        losses = autoencoder_losses(
            model, crops, tie=max(0.0, 1 - share / 0.5), seed=settings.seed, step=step, rank=rank
        )
        parts = [losses[name] for name in ("l1", "square", "gradient", "low", "tie")]
        loss = sum(parts, settings.vae_kl * losses["kl"])
        take_step(steppers, loss, rate=rate, clip=[model])
        step, seen = step + 1, seen + per_step
        last = seen >= settings.vae_crops
        if step % settings.average_every == 0 or last:
            average(settings, [model])
            log(rank, folder, "autoencoder", step, seen, {k: float(v.detach()) for k, v in losses.items()})
            if agreed(settings, time.monotonic() - kept > settings.keep_every) or last:
                keep(state, rank, step, seen, {"model": model}, steppers, None, settings)
                kept = time.monotonic()


def autoencoder_losses(
    model: Any, crops_BCHW: Tensor, *, tie: float, seed: int, step: int, rank: int
) -> dict[str, Tensor]:
    """The terms of the autoencoder's loss on pictures in [-1, 1]."""
    posterior = model.encode(crops_BCHW).latent_dist
    noise = randomness.normal(tuple(posterior.mean.shape), seed, "posterior", step, rank).to(crops_BCHW.device)
    latents = posterior.mean + posterior.std * noise
    rebuilt = model.decode(latents).sample
    difference = rebuilt - crops_BCHW
    gradient = (difference[..., 1:] - difference[..., :-1]).abs().mean()
    gradient = gradient + (difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    colour = F.avg_pool2d(crops_BCHW, 8)
    return {
        "l1": difference.abs().mean(),
        "square": 4 * difference.square().mean(),
        "gradient": gradient,
        "low": F.avg_pool2d(difference, 4).abs().mean(),
        "kl": kl,
        "tie": tie * (posterior.mean[:, :3] - 2 * colour).abs().mean(),
    }


def _crops(pictures: list[Any], settings: Settings, step: int, rank: int) -> Tensor:
    rng = randomness.generator(settings.seed, "crops", step, rank)
    side, crops = settings.vae_crop, []
    for _ in range(settings.vae_batch):
        source = pictures[rng.integers(len(pictures))]
        picture = source[rng.integers(len(source))]
        top, left = rng.integers(0, picture.shape[0] - side + 1, size=2)
        crop = picture[top : top + side, left : left + side]
        crops.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1


# --- denoiser --------------------------------------------------------------------------------


def train_denoiser(rank: int, settings: Settings, folder: Path) -> None:
    """Train text encoder and denoiser on latents, from the last checkpoint on."""
    text_encoder = seeded(build_text_encoder(), settings.seed).to(settings.device)
    denoiser = seeded(build_denoiser(), settings.seed + 1).to(settings.device, memory_format=torch.channels_last)
    trained: dict[str, nn.Module] = {"text_encoder": text_encoder, "denoiser": denoiser}
    averaged = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in trained.items()}
    steppers = optimizers(trained.values(), lr=settings.rate)
    state = folder / "denoiser"
    step, seen = restore(state, rank, trained, steppers, averaged)
    per_step = settings.batch * settings.workers
    data = Latents(rank, settings, folder)
    alphas = cumulative_alphas().to(settings.device)
    kept = time.monotonic()
    while seen < settings.samples:
        latents, tokens = data.batch(step, seen)
        loss = denoiser_loss(text_encoder, denoiser, latents, tokens, alphas, settings, step, rank)
        rate = settings.rate * min(1.0, (step + 1) / settings.warmup)
        if settings.anneal:
            rate *= min(1.0, (settings.samples - seen) / settings.anneal)
        take_step(steppers, loss, rate=rate, clip=list(trained.values()))
        step, seen = step + 1, seen + per_step
        last = seen >= settings.samples
        if step % settings.average_every == 0 or last:
            average(settings, list(trained.values()))
            # a tenth of the way so far, until the full horizon is reached
            decay = min(settings.ema, 1 - 1 / (10 + step / 10)) ** settings.average_every
            for name, module in trained.items():
                for key, value in module.state_dict().items():
                    if value.is_floating_point():
                        averaged[name][key].lerp_(value, 1 - decay)
            log(rank, folder, "denoiser", step, seen, {"loss": float(loss.detach()), "shards": data.count})
            if agreed(settings, time.monotonic() - kept > settings.keep_every) or last:
                keep(state, rank, step, seen, trained, steppers, averaged, settings)
                kept = time.monotonic()


def denoiser_loss(
    text_encoder: Any,
    denoiser: Any,
    latents_BCHW: Tensor,
    tokens_BL: Tensor,
    alphas: Tensor,
    settings: Settings,
    step: int,
    rank: int,
) -> Tensor:
    """Min-SNR weighted epsilon loss of one batch; timesteps are stratified over all workers' samples.

    Source: Hang et al. 2023, arXiv:2303.09556.
    """
    count = len(latents_BCHW)
    rng = randomness.generator(settings.seed, "timesteps", step)
    total = count * settings.workers
    strata = (rng.permutation(total) + rng.random(total)) / total * len(alphas)
    timesteps = torch.from_numpy(strata[rank * count : (rank + 1) * count].astype(np.int64)).to(latents_BCHW.device)
    noise = randomness.normal(tuple(latents_BCHW.shape), settings.seed, "noise", step, rank).to(latents_BCHW.device)
    alpha = alphas[timesteps].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * latents_BCHW + (1 - alpha).sqrt() * noise
    encoded = text_encoder(tokens_BL).last_hidden_state
    predicted = denoiser(noisy, timesteps, encoded).sample
    error = (predicted - noise).square().mean(dim=(1, 2, 3))
    snr = alphas[timesteps] / (1 - alphas[timesteps])
    weighted: Tensor = (error * snr.clamp(max=settings.min_snr) / snr).mean()
    return weighted


def cumulative_alphas() -> Tensor:
    """Stable Diffusion's cumulative alphas, fp32 of the fp64 product, shape (1000,)."""
    start, end, count = SCHEDULER["beta_start"], SCHEDULER["beta_end"], SCHEDULER["num_train_timesteps"]
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float()


class Latents:
    """Latents and captions of the shards in use; a worker draws and encodes every n-th shard and all read all."""

    def __init__(self, rank: int, settings: Settings, folder: Path) -> None:
        """Nothing is drawn or encoded yet."""
        self.rank, self.settings, self.folder = rank, settings, folder
        self.count = 0
        self.latents = torch.empty(0, LATENT_CHANNELS, LATENT_SIDE, LATENT_SIDE, dtype=torch.float16)
        self.tokens = torch.empty(0, TOKENS, dtype=torch.int16)
        self.encode_text = load_tokenizer(folder / "tokenizer")
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
        _barrier(settings)
        parts = [torch.load(folder / f"latents-{n:04d}.pt", weights_only=True) for n in range(self.count, wanted)]
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
    first = torch.load(folder / "shards" / "latents-0000.pt", weights_only=True).float()
    return round(1 / float(first.std()), 5)


@torch.no_grad()
def encode_shard(folder: Path, shard: int, settings: Settings) -> None:
    """Posterior means of a shard's pictures, fp16, into `latents-0000.pt`; the pictures themselves go."""
    path = folder / "shards" / f"latents-{shard:04d}.pt"
    if path.exists():
        return
    model = build_autoencoder()
    model.load_state_dict(newest_weights(folder / "autoencoder")["model"])
    model = model.to(settings.device).eval()
    pictures = shards.images(folder / "shards", shard)
    means = []
    for start in range(0, len(pictures), 20):
        batch = torch.from_numpy(np.array(pictures[start : start + 20])).permute(0, 3, 1, 2).float() / 127.5 - 1
        means.append(model.encode(batch.to(settings.device)).latent_dist.mean.half().cpu())
    _save(path, torch.cat(means))
    if shard >= settings.vae_shards:
        (folder / "shards" / f"images-{shard:04d}.npy").unlink()


def load_tokenizer(folder: Path) -> Any:
    """A function from captions to token numbers (n, TOKENS)."""
    from transformers import CLIPTokenizer

    known = CLIPTokenizer.from_pretrained(folder)

    def encode(texts: list[str]) -> Tensor:
        padded = known(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
        tokens: Tensor = padded.input_ids
        return tokens

    return encode


# --- what both stages share ------------------------------------------------------------------


def seeded(model: Any, seed: int) -> Any:
    """The model with its initial weights drawn by name: the same at every start, in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config) if hasattr(model.config, "to_dict") else type(model).from_config(model.config)
    return fresh.train()


def take_step(steppers: list[torch.optim.Optimizer], loss: Tensor, *, rate: float, clip: list[nn.Module]) -> None:
    """Backward, clip to norm 1, step all optimizers at the rate."""
    for stepper in steppers:
        stepper.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for module in clip:
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for stepper in steppers:
        for group in stepper.param_groups:
            group["lr"] = rate
        stepper.step()


@torch.no_grad()
def average(settings: Settings, modules: list[nn.Module]) -> None:
    """Replace every worker's weights by their mean."""
    if settings.workers == 1:
        return
    weights = [weight for module in modules for weight in module.parameters()]
    flat = torch.cat([weight.detach().flatten() for weight in weights])
    dist.all_reduce(flat)
    flat /= settings.workers
    offset = 0
    for weight in weights:
        weight.copy_(flat[offset : offset + weight.numel()].view_as(weight))
        offset += weight.numel()


def agreed(settings: Settings, wish: bool) -> bool:
    """Whether the first worker wishes it: the clock of one decides for all."""
    if settings.workers == 1:
        return wish
    vote = torch.tensor([float(wish)])
    dist.broadcast(vote, src=0)
    return bool(vote.item())


def _barrier(settings: Settings) -> None:
    if settings.workers > 1:
        dist.barrier()


def keep(
    state: Path,
    rank: int,
    step: int,
    seen: int,
    modules: dict[str, nn.Module],
    steppers: list[torch.optim.Optimizer],
    averaged: dict[str, dict[str, Tensor]] | None,
    settings: Settings,
) -> None:
    """Write a checkpoint: each worker its optimizers, the first also the weights; the last line makes it whole."""
    make_folder(state)
    _save(state / f"optimizer-{step:07d}-{rank}.pt", [stepper.state_dict() for stepper in steppers])
    if rank == 0:
        weights: dict[str, Any] = {name: module.state_dict() for name, module in modules.items()}
        _save(state / f"weights-{step:07d}.pt", {**weights, "averaged": averaged or {}})
    _barrier(settings)
    if rank == 0:
        write_text(state / "newest.json", json.dumps({"step": step, "seen": seen}))
        for old in [*state.glob("weights-*.pt"), *state.glob("optimizer-*.pt")]:
            if f"-{step:07d}" not in old.name:
                old.unlink()


def restore(
    state: Path,
    rank: int,
    modules: dict[str, nn.Module],
    steppers: list[torch.optim.Optimizer],
    averaged: dict[str, dict[str, Tensor]] | None,
) -> tuple[int, int]:
    """Load the newest checkpoint, where there is one; the step to go on from, and the pictures seen before it.

    A training that goes on with another number of workers starts its optimizers afresh.
    """
    if not (state / "newest.json").exists():
        return 0, 0
    newest = json.loads((state / "newest.json").read_text())
    weights = newest_weights(state)
    for name, module in modules.items():
        module.load_state_dict(weights[name])
    if averaged is not None:
        averaged.update(weights["averaged"])
    path = state / f"optimizer-{newest['step']:07d}-{rank}.pt"
    if path.exists():
        for stepper, saved in zip(steppers, torch.load(path, weights_only=True), strict=True):
            stepper.load_state_dict(saved)
    return int(newest["step"]), int(newest["seen"])


def newest_weights(state: Path) -> dict[str, Any]:
    """The weights of a stage's newest checkpoint."""
    step = json.loads((state / "newest.json").read_text())["step"]
    loaded: dict[str, Any] = torch.load(state / f"weights-{step:07d}.pt", weights_only=True)
    return loaded


def _save(path: Path, value: Any) -> None:
    beside = path.with_suffix(".part")
    torch.save(value, beside)
    beside.replace(path)


def log(rank: int, folder: Path, stage: str, step: int, samples: int, values: dict[str, float]) -> None:
    """Append one line to `log.jsonl` and print it."""
    if rank == 0:
        line = json.dumps({"stage": stage, "step": step, "samples": samples, "time": round(time.time(), 1)} | values)
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of `log.jsonl`."""
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    main()
