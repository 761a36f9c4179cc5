"""What the stages of the pocket base's training share: settings, steps, workers, checkpoints, the log.

A state folder holds one autoencoder and its shards, and as many denoisers as there are kinds:

    shards/  autoencoder/  decoder/  log.jsonl
    denoiser/       tokenizer/        settings.json           epsilon
    denoiser-v/     tokenizer/        settings-v.json         v: the same words
    denoiser-flow/  tokenizer-flow/   settings-flow.json      flow
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from velatura.files import make_folder, write_text
from velatura.pocket.architecture import Kind, Part, build


@dataclass(frozen=True)
class Settings:
    """What a training of the pocket base is told; what published weights were told stands in their `velatura.json`."""

    kind: Kind = "epsilon"
    """What the denoiser predicts, and so which networks there are."""
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
    decoder_crops: int = 0
    """Crops that the decoder sees once the latents stand, all workers together; 0: it stays as it was."""
    decoder_rate: float = 1e-3
    decoder_spectrum: float = 0.4
    """Weight of the difference of spectra, in decades."""
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
    """Gamma of the min-SNR weight of epsilon and v; flow has none."""
    ema: float = 0.999
    anneal: int = 0
    """Pictures at the end over which the rate falls to nothing; 0 keeps it flat, to go on later."""


def denoiser_folder(state: Path, kind: Kind) -> Path:
    """Where the checkpoints of a kind's denoiser and text encoder lie."""
    return state / ("denoiser" if kind == "epsilon" else f"denoiser-{kind}")


def tokenizer_folder(state: Path, kind: Kind) -> Path:
    """Where a kind's tokenizer lies."""
    return state / ("tokenizer-flow" if kind == "flow" else "tokenizer")


def settings_file(state: Path, kind: Kind) -> Path:
    """Where it stands what the training of a kind was told last."""
    return state / ("settings.json" if kind == "epsilon" else f"settings-{kind}.json")


# --- steps -----------------------------------------------------------------------------------


def seeded(part: Part, seed: int) -> Any:
    """The part's network, its initial weights drawn by the seed: the same at every start, in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(part)
    for name, weight in network.named_parameters():
        if name.endswith("pad_token"):  # older diffusers leaves them as the memory was
            nn.init.zeros_(weight)
    return network.train()


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


# --- workers ---------------------------------------------------------------------------------


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


def barrier(settings: Settings) -> None:
    """Wait for all workers."""
    if settings.workers > 1:
        dist.barrier()


# --- checkpoints -----------------------------------------------------------------------------


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
    save(state / f"optimizer-{step:07d}-{rank}.pt", [stepper.state_dict() for stepper in steppers])
    if rank == 0:
        weights: dict[str, Any] = {name: module.state_dict() for name, module in modules.items()}
        save(state / f"weights-{step:07d}.pt", {**weights, "averaged": averaged or {}})
    barrier(settings)
    if rank == 0:
        write_text(state / "newest.json", json.dumps({"step": step, "seen": seen}))
        for old in [*state.glob("weights-*.pt"), *state.glob("optimizer-*.pt")]:
            if f"-{step:07d}" not in old.name:
                old.unlink()


def resume(
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


def save(path: Path, value: Any) -> None:
    """Write a file of torch's, whole or not at all."""
    beside = path.with_suffix(".part")
    torch.save(value, beside)
    beside.replace(path)


# --- the log ---------------------------------------------------------------------------------


def log(rank: int, folder: Path, stage: str, step: int, samples: int, values: dict[str, float]) -> None:
    """Append one line to `log.jsonl` and print it."""
    if rank == 0:
        line = json.dumps({"stage": stage, "step": step, "samples": samples, "time": round(time.time(), 1)} | values)
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, flush=True)
