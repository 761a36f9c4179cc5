"""What a processor gains by convolving in the fastest way for each map, beside torch's own in the same process.

    python benchmarks/convolving.py [--size 256 512] [--threads 1]

The networks are diffusers', of Stable Diffusion 1.5's size and random weights, in fp32: the autoencoder both ways, the
UNet as painting calls it with guidance (two rows) and as training does (one row, forward and back to its input), first
as diffusers runs them, then with `FastConvolutions`, in turn. Seconds are the processor's, the best of three; memory is
the most of a run that no file stands behind; `off` is the root mean square of the difference over that of the result.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from process import peak
from random_bases import settings
from torch import Tensor, nn

from velatura.families.sd15.configuration import CLASSES
from velatura.weights.convolutions import FastConvolutions
from velatura.weights.networks import build

ROUNDS = 3


def drawn(part: str) -> Any:
    """A network of random weights, as torch draws them."""
    torch.manual_seed(0)
    network = build(CLASSES[part], settings("sd15")[part], Path()).to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm):
            module.reset_parameters()
    return network.requires_grad_(False).eval()


def tasks(network: Any, part: str, side: int) -> dict[str, Callable[[bool], Tensor]]:
    """What is done with a network, by name; told whether values are to lie with their channels last."""
    small = side // 8

    def told(*shape: int, last: bool = False) -> Tensor:
        made = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return made.to(memory_format=torch.channels_last) if last else made

    if part == "vae":
        return {
            "autoencoder, encoding": lambda last: network.encode(told(1, 3, side, side, last=last)).latent_dist.mode(),
            "autoencoder, decoding": lambda last: network.decode(told(1, 4, small, small, last=last)).sample,
        }

    def predicted(rows: int, x: Tensor) -> Tensor:
        made: Tensor = network(x, torch.full((rows,), 500), told(rows, 77, 768)).sample
        return made

    def learnt(_: bool) -> Tensor:
        with torch.enable_grad():
            x = told(1, 4, small, small).requires_grad_()
            (gradient,) = torch.autograd.grad(predicted(1, x).square().mean(), x)
        return gradient

    return {
        "UNet, with guidance": lambda _: predicted(2, told(2, 4, small, small)),
        "UNet, forward and back": learnt,
    }


def measured(
    work: Callable[[bool], Tensor], way: AbstractContextManager[None], last: bool
) -> tuple[float, float, Tensor]:
    """Seconds of the processor, memory, and what comes out."""
    held: dict[str, float] = {}
    with way, peak(held, "most"):
        started = time.process_time()
        made = work(last)
        spent = time.process_time() - started
    return spent, held["most"], made


@torch.no_grad()
def compared(network: nn.Module, work: Callable[[bool], Tensor]) -> str:
    """The cells of a row."""
    rounds = [
        (measured(work, nullcontext(), last=False), measured(work, FastConvolutions(network), last=True))
        for _ in range(ROUNDS)
    ]
    plain, fast = (min(one[way][0] for one in rounds) for way in (0, 1))
    memory = (max(one[way][1] for one in rounds) / 1e9 for way in (0, 1))
    (_, _, expected), (_, _, found) = rounds[0]
    off = float((found - expected).norm() / expected.norm())
    held = " | ".join(f"{one:.2f}" for one in memory)
    return f"{plain:.2f} | {fast:.2f} | **{plain / fast:.2f}** | {held} | {off:.1e}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", type=int, default=[256, 512], help="pixels of a side")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| | torch's, CPU s | fast, CPU s | times as fast | memory, GB | fast | off |\n| --- |" + " --- |" * 6)
    for part in ("vae", "denoiser"):
        network = drawn(part)
        for side in options.size:
            for name, work in tasks(network, part, side).items():
                print(f"| {name}, {side} px | {compared(network, work)} |", flush=True)


if __name__ == "__main__":
    main()
