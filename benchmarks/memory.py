"""What each way of saving memory costs at true size, beside diffusers' own ways in the same run.

A base of random weights at its published size is written once in its authors' single-file layout, for Velatura, and
once as folders of diffusers, for diffusers. Every way has a process of its own, which loads all parts, encodes a text,
takes two sampling steps without guidance at 256 px, and two training steps with a LoRA of rank 16 beside the
attention's layers where that way can train. Printed as a table: the largest anonymous memory (RssAnon and RssShmem)
while loading, sampling and training, the interpreter's own included, seconds to load, and of the second step.

diffusers' offloading by hooks of accelerate and its 8- and 4-bit loading ask for a graphics card, and are left out
where there is none; its group offloading to disk and its layerwise casting to fp8 compute on the processor too.
Linux only.

    python benchmarks/memory.py [sd15 | sdxl] [--size 256] [--threads 1] [--folder DIR] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from process import peak
from random_bases import PREFIXES, settings, write, write_folder

STEPS = 2
RANK = 16

OURS: dict[str, tuple[str, ...]] = {
    "fp32": ("precision=fp32",),
    "fp32, checkpointing": ("precision=fp32", "checkpointing=true"),
    "bf16, checkpointing": ("precision=bf16", "vae_precision=bf16", "checkpointing=true"),
    "bf16, checkpointing, parts in turn": (
        "precision=bf16",
        "vae_precision=bf16",
        "checkpointing=true",
        "in_turn=true",
    ),
    "int8": ("precision=fp32", "quantised=int8", "checkpointing=true", "in_turn=true"),
    "int4": ("precision=fp32", "quantised=int4", "checkpointing=true", "in_turn=true"),
    "fp8": ("precision=fp32", "quantised=fp8", "checkpointing=true", "in_turn=true"),
    "fp32, all blocks swapped": ("precision=fp32", "swapped_blocks=99", "checkpointing=true", "in_turn=true"),
    "int8, all blocks swapped": (
        "precision=fp32",
        "quantised=int8",
        "swapped_blocks=99",
        "checkpointing=true",
        "in_turn=true",
    ),
}
"""Velatura's ways; the rest is as suits."""

THEIRS = ("fp32", "bf16, checkpointing", "fp8 cast to bf16", "fp32, groups on disk")
"""diffusers' ways."""


def ours(base: Path, name: str, size: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and bytes of one of Velatura's ways."""
    import torch

    from velatura.adapters import targets
    from velatura.adapters.layers import shapes
    from velatura.adapters.lora import LayerSpec, inject
    from velatura.api.memory import chosen
    from velatura.bases import BaseFiles
    from velatura.family import load_base
    from velatura.recipe import MemorySettings, with_memory
    from velatura.text.weighted import plain

    seconds: dict[str, float] = {}
    bytes_of: dict[str, float] = {}
    policy = chosen(BaseFiles(base), with_memory(MemorySettings(), ("device=cpu", *OURS[name])), task="train").policy
    with peak(bytes_of, "load"):
        start = time.perf_counter()
        model = load_base(base, policy=policy)
        with torch.no_grad():
            told = model.conditioned(model.read(plain("a red boat on the sea")))
        if model.turns is not None:
            model.turns.need("denoiser")
        seconds["load"] = time.perf_counter() - start
    noisy_BCHW, sigma_B = torch.randn(1, 4, size // 8, size // 8), torch.ones(1, dtype=torch.float64)

    def predict() -> Any:
        return model.family.predict(model, noisy_BCHW, sigma_B, told)

    with peak(bytes_of, "sample"), torch.no_grad():
        seconds["sample"] = last(predict)
    layers = targets.select(["attention"], shapes(model.trainable_parts), presets=model.family.targets)
    with (
        peak(bytes_of, "train"),
        inject(model.trainable_parts, [LayerSpec(one, RANK, float(RANK)) for one in layers], seed=0) as beside,
    ):
        seconds["train"] = last(learning(predict, beside.parameters()))
    return seconds, bytes_of


def theirs(folder: Path, family: str, name: str, size: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and bytes of one of diffusers' ways, all parts loaded."""
    import importlib

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    seconds: dict[str, float] = {}
    bytes_of: dict[str, float] = {}
    dtype = torch.bfloat16 if "bf16" in name else torch.float32
    classes = importlib.import_module(f"velatura.families.{family}.configuration").CLASSES
    transformers = importlib.import_module("transformers")
    with peak(bytes_of, "load"):
        start = time.perf_counter()
        unet: Any = UNet2DConditionModel.from_pretrained(folder / "denoiser", torch_dtype=dtype)
        held = [AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype)]
        texts = [part for part in PREFIXES[family] if part.startswith("text_encoder")]
        held += [getattr(transformers, classes[part]).from_pretrained(folder / part, dtype=dtype) for part in texts]
        if name.startswith("fp8"):
            unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
        if "groups" in name:
            here = torch.device("cpu")
            unet.enable_group_offload(
                onload_device=here,
                offload_device=here,
                offload_type="block_level",
                num_blocks_per_group=1,
                offload_to_disk_path=str(folder / "offloaded"),
            )
        with torch.no_grad():
            read = [one(torch.zeros(1, 77, dtype=torch.long), output_hidden_states=True) for one in held[1:]]
        tokens = torch.cat([one.hidden_states[-2] for one in read], dim=-1).to(dtype)
        added = {"text_embeds": read[-1][0], "time_ids": torch.zeros(1, 6, dtype=dtype)} if family == "sdxl" else None
        seconds["load"] = time.perf_counter() - start
    noisy_BCHW = torch.randn(1, 4, size // 8, size // 8, dtype=dtype)

    def predict() -> Any:
        return unet(noisy_BCHW, torch.ones(1), tokens, added_cond_kwargs=added, return_dict=False)[0].float()

    unet.requires_grad_(False)
    with peak(bytes_of, "sample"), torch.no_grad():
        seconds["sample"] = last(predict)
    if "groups" in name or name.startswith("fp8"):
        return seconds, bytes_of
    from peft import LoraConfig

    if "checkpointing" in name:
        unet.enable_gradient_checkpointing()
    unet.train()
    with peak(bytes_of, "train"):
        unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
        trained = [one for one in unet.parameters() if one.requires_grad]
        for one in trained:
            one.data = one.data.float()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            seconds["train"] = last(learning(predict, trained))
    return seconds, bytes_of


def last(step: Callable[[], Any]) -> float:
    """Seconds of the last of the steps."""
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
    return time.perf_counter() - start


def learning(predict: Callable[[], Any], parameters: Any) -> Callable[[], None]:
    """A training step."""
    import torch

    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def step() -> None:
        predict().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def row(who: str, name: str, found: dict[str, dict[str, float]]) -> str:
    """A line of the table."""
    seconds, sizes = found["seconds"], found["bytes"]
    memory = [f"{sizes[one] / 1e9:.2f}" if one in sizes else "-" for one in ("load", "sample", "train")]
    times = [f"{seconds[one]:.1f}" if one in seconds else "-" for one in ("load", "sample", "train")]
    return f"| {who} | {name} | {' | '.join(memory)} | {' | '.join(times)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", choices=["sd15", "sdxl"], default="sd15")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the files go for a while; none: the system's own choice")
    parser.add_argument("--only", nargs="+", help="names of ways; none: all")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        import torch

        torch.set_num_threads(given.threads)
        who, name, where = given.child
        base = Path(where)
        made = ours(base, name, given.size) if who == "velatura" else theirs(base, given.family, name, given.size)
        print(json.dumps({"seconds": made[0], "bytes": made[1]}))
        return 0
    print("| | | memory at most, GB: load | sample | train | seconds: load | sampling step | training step |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        single = write(Path(folder) / f"random {given.family}.safetensors", given.family)
        for part in settings(given.family):
            write_folder(Path(folder) / "diffusers" / part, given.family, part)
        ways = [("velatura", name, single) for name in OURS]
        ways += [("diffusers", name, Path(folder) / "diffusers") for name in THEIRS]
        for who, name, where in ways:
            if given.only and name not in given.only:
                continue
            command = [sys.executable, __file__, given.family, "--size", str(given.size)]
            command += ["--threads", str(given.threads), "--child", who, name, str(where)]
            own = {**os.environ, "VELATURA_HOME": str(Path(folder) / "home")}
            done = subprocess.run(command, check=False, capture_output=True, text=True, env=own)
            if done.returncode:
                print(f"| {who} | {name} | failed: {done.stderr.strip().splitlines()[-1]} |", flush=True)
            else:
                print(row(who, name, json.loads(done.stdout.splitlines()[-1])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
