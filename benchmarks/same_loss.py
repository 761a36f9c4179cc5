"""The losses of the first steps of a training here, beside those of peft with the same start, pictures and noise.

    python benchmarks/same_loss.py [--steps 20] [--rate 1e-3] [--quantised half] [--folder DIR]

What `training.py` trains (Stable Diffusion 1.5 of random weights, 256 px, rank 16 beside 192 layers, AdamW, fp32, one
thread), first by the training loop's own parts and in its faster ways, then by peft's layers in diffusers' network,
torch's AdamW, its clipping, and the noising of DDPM written out. Equal losses say that the same work is done, if
training changes them: so the rate is ten times that of `training.py`, and the losses of the base alone on the same
batches stand beside.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training import RANK, prepare, project

from velatura.adapters.lora import inject
from velatura.api.inputs import read_objective, read_pictures
from velatura.family import Model, load_base
from velatura.recipe import Recipe, load
from velatura.training import optimizers
from velatura.training.adapter import specs
from velatura.training.data import Batch, Batches, Cached
from velatura.training.descent import Descent
from velatura.training.encoding import encode
from velatura.training.loop import beginning, error
from velatura.training.pace import Faster, freed_memory_kept
from velatura.weights.policy import MemoryPolicy

ADAPTED = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
"""What peft is told; 192 layers."""


TOLERANCE = 1e-5
"""Of a loss's size."""


def ours(
    model: Model, cached: Cached, recipe: Recipe, steps: int
) -> tuple[dict[str, Tensor], list[float], list[float]]:
    """The adapter as it begins, the losses, and those of the base alone."""
    batches, found, untrained = Batches(model, cached, recipe), list[float](), list[float]()
    with inject(model.trainable_parts, specs(recipe, model), seed=recipe.train.seed) as injected:
        begun = {name: one.detach().clone() for name, one in injected.named().items()}
        state = beginning(model, injected, recipe)
        descend = Descent(functools.partial(error, model, injected, recipe), state.gradients)
        faster = Faster(model, compiled=False)
        for step in range(steps):
            optimizers.set_rates(state.optimizer, recipe.train, step)
            with faster:
                found.append(float(descend(batches.of(step)).errors[0]))
            state.gradients.finish(clip=recipe.train.clip)
            state.optimizer.step()
            with torch.no_grad(), injected.silent():
                untrained.append(float(error(model, injected, recipe, next(batches.of(step)))))
            print(f"step {step + 1}: {found[-1]:.7f}, of the base alone {untrained[-1]:.7f}", flush=True)
    return begun, found, untrained


def with_peft(
    folder: Path, begun: dict[str, Tensor], batches: list[Batch], rows: list[Tensor], recipe: Recipe
) -> list[float]:
    """The losses of peft's layers, begun alike.

    Args:
        folder: diffusers' network.
        rows: of each batch the steps of DDPM.
    """
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, get_peft_model

    network: Any = UNet2DConditionModel.from_pretrained(folder).requires_grad_(False)
    beside: Any = get_peft_model(network, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=ADAPTED))
    trained = {name: one for name, one in beside.named_parameters() if one.requires_grad}
    assert len(trained) == len(begun) == 2 * 192
    for name, one in trained.items():
        own = name.removeprefix("base_model.model.").removesuffix(".default.weight")
        one.data.copy_(begun["denoiser." + own.replace(".lora_A", ".down").replace(".lora_B", ".up")])
    optimizer = torch.optim.AdamW(
        trained.values(), lr=recipe.train.learning_rate, weight_decay=recipe.train.weight_decay
    )
    kept_T = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    found = []
    for batch, row_B in zip(batches, rows, strict=True):
        kept_B111 = kept_T[row_B].view(-1, 1, 1, 1)
        noisy_BCHW = (kept_B111.sqrt() * batch.clean_BCHW + (1 - kept_B111).sqrt() * batch.noise_BCHW).float()
        predicted_BCHW = beside(noisy_BCHW, row_B, batch.conditioning.text.tokens_BLD).sample
        loss = torch.nn.functional.mse_loss(predicted_BCHW, batch.noise_BCHW)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), recipe.train.clip)
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
        print(f"step {len(found)}: with peft {found[-1]:.7f}", flush=True)
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--quantised", choices=["half", "large"], help="what of the base rests in 16 bits here")
    parser.add_argument("--folder", type=Path, help="where base and pictures are kept; none: a folder for a while")
    told = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, freed_memory_kept():
        folder = (told.folder or Path(scratch)).resolve()
        prepare(folder)
        place = project(folder, (f"train.learning_rate={told.rate}",), 1)
        recipe = load(place)
        policy = MemoryPolicy(in_turn=True, quantised=told.quantised)
        model = load_base(folder / "sd15.safetensors", policy=policy)
        read_objective(model, recipe)
        pictures = read_pictures(recipe, place, model)
        (cached,) = (one for one in encode(model, pictures.prepared) if isinstance(one, Cached))
        begun, found, untrained = ours(model, cached, recipe, told.steps)
        drawn = [next(Batches(model, cached, recipe).of(step)) for step in range(told.steps)]
        rows = [model.objective.timestep(batch.sigma_B).round().long() for batch in drawn]
        model.parts.clear()
        expected = with_peft(folder / "diffusers" / "unet", begun, drawn, rows, recipe)
    apart = [abs(own - theirs) / theirs for own, theirs in zip(found, expected, strict=True)]
    moved = [abs(own - base) / base for own, base in zip(found, untrained, strict=True)]
    print(f"the losses of {told.steps} steps differ by {max(apart):.1e} of their size at most (bar {TOLERANCE:.0e})")
    print(f"training changes them by {moved[-1]:.1e} at the last step, {max(moved):.1e} at most")
    print(f"that is {max(moved) / TOLERANCE:.0f} times the bar (100 are needed for this to say anything)")


if __name__ == "__main__":
    main()
