"""What adapters cost in training, beside peft's on the same block: CPU seconds, and bytes kept for gradients.

    python benchmarks/adapters.py [--width 640] [--tokens 256] [--rank 16] [--rounds 7]

A block of SD 1.5's UNet (self-attention, cross-attention, gated feed-forward) with an adapter on each of its ten linear
layers; a step is forward and backward, on one thread, in fp32. Both stand in one process and take turns. What autograd
keeps between the passes is counted, not estimated; the frozen block alone is the floor. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time

import torch
from torch import Tensor, nn

from velatura.adapters.lora import LayerSpec, inject
from velatura.adapters.trainable import LAYERS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    for name, value in (("width", 640), ("tokens", 256), ("rank", 16), ("rounds", 7)):
        options.add_argument(f"--{name}", type=int, default=value)
    told = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    from diffusers.models.attention import BasicTransformerBlock
    from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model

    base = BasicTransformerBlock(told.width, 8, told.width // 8, cross_attention_dim=768, activation_fn="geglu")
    base.requires_grad_(False)
    names = [name for name, layer in base.named_modules() if isinstance(layer, nn.Linear)]
    x = torch.randn(1, told.tokens, told.width, requires_grad=True)
    text = torch.randn(1, 77, 768)
    contenders: dict[str, nn.Module] = {"no adapter": base}
    for kind in (kind for kind in LAYERS if kind != "locon"):
        ours = copy.deepcopy(base)
        inject({"denoiser": ours}, [LayerSpec(f"denoiser.{name}", told.rank, 8.0, kind) for name in names], seed=1)
        contenders[f"{kind}, here"] = ours
    configurations = {
        "lora": LoraConfig(r=told.rank, lora_alpha=8, target_modules=names),
        "dora": LoraConfig(r=told.rank, lora_alpha=8, target_modules=names, use_dora=True),
        "loha": LoHaConfig(r=told.rank, alpha=8, target_modules=names),
        "lokr": LoKrConfig(r=told.rank, alpha=8, target_modules=names),
    }
    for kind, configuration in configurations.items():
        theirs = copy.deepcopy(base)
        inject_adapter_in_model(configuration, theirs)
        contenders[f"{kind}, peft"] = theirs

    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(told.rounds + 1):
        for name, network in contenders.items():
            spent = step(network, x, text)
            if turn:
                times[name].append(spent)
    floor = statistics.median(times["no adapter"])
    found = {
        name: {"seconds": statistics.median(times[name]), "kept_mb": kept(network, x, text) / 1e6}
        for name, network in contenders.items()
    }
    for name, one in found.items():
        print(f"{name:12} {one['seconds']:.4f} s ({one['seconds'] / floor:.2f}), {one['kept_mb']:.1f} MB kept")
    print(json.dumps({"floor": floor, "found": found}))


def step(network: nn.Module, x: Tensor, text: Tensor) -> float:
    """CPU seconds of a forward and a backward pass."""
    before = time.process_time()
    network(x, encoder_hidden_states=text).square().mean().backward()
    return time.process_time() - before


def kept(network: nn.Module, x: Tensor, text: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass, parameters aside."""
    own = {one.untyped_storage().data_ptr() for one in network.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = network(x, encoder_hidden_states=text).square().mean()
    total = sum(found.values())
    loss.backward()
    return total


if __name__ == "__main__":
    main()
