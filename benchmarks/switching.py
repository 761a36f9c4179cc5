"""How long it takes to change LoRAs on a UNet of SD 1.5's size: diffusers with peft, and merging from the mapped file.

    python benchmarks/switching.py [--rank 16] [--rounds 3]

Both in one process, on the same layers and the same LoRAs: the 192 layers of SD 1.5's UNet that kohya's trainer
adapts, at their sizes; the UNet's others are touched by neither. What is measured is a change of LoRAs in use: peft
fuses them and takes them out again (what diffusers' fuse_lora and unfuse_lora do with each layer), which leaves the
weights a little off; with `reload` it then copies them from the file, which brings them back as they were. Here the
weights are made anew from the base's file, in fp32 or, as most files of SD 1.5 are, in fp16. The base is random, since
only its size counts; it is written to a temporary file and mapped. What nobody can do without stands beside it: the
same weights copied from the file once, zeros written into them, and the LoRAs' products alone. Reloading alone brings
the exact base back too, so fusing and reloading is the least that an exact change costs with peft.

CPU seconds on one thread, median of the rounds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from velatura.adapters.merge import Applied, merge
from velatura.adapters.targets import select
from velatura.adapters.weights import Lora
from velatura.families.names import layers


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rank", type=int, default=16)
    options.add_argument("--rounds", type=int, default=3)
    told = options.parse_args()
    torch.set_num_threads(1)

    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as folder:
        unet = network()
        files = {}
        for name, precision in (("fp32", torch.float32), ("fp16", torch.float16)):
            path = Path(folder) / f"{name}.safetensors"
            save_file({key: one.to(precision) for key, one in unet.state_dict().items()}, path)
            files[name] = {f"denoiser.{key}": tensor for key, tensor in load_file(path).items()}
        pristine = files["fp32"]
        loras = [drawn(told.rank, seed) for seed in range(3)]
        found: dict[str, dict[str, float]] = {"1": {}, "3": {}}
        for count, one in found.items():
            for name, held in files.items():
                one[f"velatura, file in {name}"] = middle(
                    told.rounds, lambda held=held, count=count: ours_round(unet, held, loras[: int(count)])
                )
            one["product alone"] = middle(told.rounds, lambda count=count: seconds(products(unet, loras[: int(count)])))
        merge({"denoiser": unet}, pristine, [Applied(loras[0], 0.5, 0.5)])
        merge({"denoiser": unet}, pristine, [])
        exact = all(torch.equal(one, pristine[f"denoiser.{name}"]) for name, one in unet.state_dict().items())
        zeros = middle(told.rounds, lambda: seconds(lambda: zero(unet)))
        copied = middle(told.rounds, lambda: seconds(lambda: copy(unet, pristine)))
        add_to_peft(unet, loras)
        drift = 0.0
        for count, one in found.items():
            rounds = [peft_round(unet, int(count)) for _ in range(told.rounds)]
            one["peft"] = statistics.median(map(sum, rounds))
            one["peft, fused and reloaded"] = statistics.median(fused for fused, _ in rounds) + copied
            drift = max(drift, peft_drift(unet, pristine))
            one |= {"copy": copied, "zeros": zeros}
            one["peft, then reload"] = one["peft"] + copied
    for count, one in found.items():
        print(f"{count} LoRAs: " + ", ".join(f"{name} {spent:.2f} s" for name, spent in one.items()))
        for name in files:
            own = one[f"velatura, file in {name}"]
            one[f"times, {name}"] = one["peft"] / own
            one[f"times as exact, {name}"] = one["peft, then reload"] / own
            print(
                f"  from {name}: {one['peft'] / own:.1f} times as fast as fuse and unfuse, "
                f"{one['peft, then reload'] / own:.1f} as the same with an exact base, "
                f"{one['peft, fused and reloaded'] / own:.1f} as fuse and reload; "
                f"{one['peft'] / copied:.1f} would be a copy alone, {one['peft'] / zeros:.1f} zeros"
            )
    print(f"afterwards the base is exact here: {exact}; with peft its weights are off by up to {drift:.1e}")
    print(json.dumps({"loras": found, "exact": exact, "peft_drift": drift, "rank": told.rank}))


def middle(rounds: int, work: Callable[[], float]) -> float:
    """The median of some rounds."""
    return statistics.median(work() for _ in range(rounds))


def adapted() -> dict[str, tuple[int, ...]]:
    """The layers that kohya's trainer adapts by default, by names without dots: 192."""
    known = layers("sd15")
    names = [name for name in select(["attention+mlp"], known) if len(known[name]) > 1]
    assert len(names) == 192
    return {name.removeprefix("denoiser.").replace(".", "_"): known[name] for name in names}


def network() -> torch.nn.Module:
    """These layers and no others."""
    made = torch.nn.ModuleDict()
    for place, (name, (out, inputs, *kernel)) in enumerate(adapted().items()):
        with torch.device("meta"):
            layer = torch.nn.Conv2d(inputs, out, 1) if kernel else torch.nn.Linear(inputs, out)
        layer = layer.to_empty(device="cpu").requires_grad_(False)
        for parameter in layer.parameters():
            parameter.uniform_(-0.05, 0.05, generator=torch.Generator().manual_seed(place))
        made[name] = layer
    return made


def drawn(rank: int, seed: int) -> dict[str, Lora]:
    """A LoRA on these layers."""
    stream = np.random.default_rng(seed)
    changes = {}
    for name, (out, inputs, *kernel) in adapted().items():
        down = 0.02 * stream.standard_normal((rank, inputs, *kernel), dtype=np.float32)
        up = 0.02 * stream.standard_normal((out, rank, *kernel), dtype=np.float32)
        changes[f"denoiser.{name}"] = Lora(down.astype(np.float32), up.astype(np.float32), float(rank))
    return changes


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def ours_round(unet: torch.nn.Module, pristine: dict[str, torch.Tensor], loras: list[dict[str, Lora]]) -> float:
    """From these LoRAs to the same at other strengths, as a switch to another set costs."""
    parts = {"denoiser": unet}
    merge(parts, pristine, [Applied(lora, 0.5, 0.5) for lora in loras])
    spent = seconds(lambda: merge(parts, pristine, [Applied(lora, 0.8, 0.8) for lora in loras]))
    merge(parts, pristine, [])
    return spent


def copy(unet: torch.nn.Module, pristine: dict[str, torch.Tensor]) -> None:
    """The layers as they lie in the file, once."""
    for name, own in unet.state_dict().items():
        own.copy_(pristine[f"denoiser.{name}"])


def zero(unet: torch.nn.Module) -> None:
    """Nothing but written to."""
    for own in unet.state_dict().values():
        own.zero_()


def products(unet: torch.nn.Module, loras: list[dict[str, Lora]]) -> Callable[[], None]:
    """What the LoRAs add, worked out into the layers' own memory: nothing is read but the factors."""
    work = []
    for name in loras[0]:
        into = unet.get_submodule(name.removeprefix("denoiser.")).weight.data.flatten(1)
        up = torch.cat([torch.from_numpy(lora[name].up).flatten(1) for lora in loras], dim=1)
        down = torch.cat([torch.from_numpy(lora[name].down).flatten(1) for lora in loras])
        work.append((up, down, into))

    def every() -> None:
        for up, down, into in work:
            torch.mm(up, down, out=into)

    return every


def add_to_peft(unet: torch.nn.Module, loras: list[dict[str, Lora]]) -> None:
    """The same LoRAs, loaded and at rest."""
    from peft import LoraConfig, inject_adapter_in_model

    for place, lora in enumerate(loras):
        names = [name.removeprefix("denoiser.") for name in lora]
        rank = next(iter(lora.values())).rank
        inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=names), unet, adapter_name=f"lora{place}"
        )
        with torch.no_grad():
            for name, one in lora.items():
                module = unet.get_submodule(name.removeprefix("denoiser."))
                module.lora_A[f"lora{place}"].weight.copy_(torch.from_numpy(one.down))
                module.lora_B[f"lora{place}"].weight.copy_(torch.from_numpy(one.up))


def peft_round(unet: torch.nn.Module, count: int) -> tuple[float, float]:
    """What diffusers' fuse_lora and unfuse_lora do with each layer, for so many adapters: seconds of either."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = [f"lora{place}" for place in range(count)]
    tuned = [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]

    def fuse() -> None:
        for module in tuned:
            module.set_adapter(names)
            module.merge(safe_merge=False, adapter_names=names)

    def unfuse() -> None:
        for module in tuned:
            module.unmerge()

    return seconds(fuse), seconds(unfuse)


def peft_drift(unet: torch.nn.Module, pristine: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight from the base's, after all has been taken out again."""
    state = {name.replace(".base_layer", ""): one for name, one in unet.state_dict().items()}
    return max(
        float((state[name.removeprefix("denoiser.")] - one).abs().max())
        for name, one in pristine.items()
        if name.removeprefix("denoiser.") in state
    )


if __name__ == "__main__":
    main()
