"""The small detector of drawn faces: its training, on scenes that the program draws, and how well it finds them.

    python -m velatura.pocket.detector --out FILE [--pictures 3000] [--steps 1600] [--seed 1] [--commit HASH]

Pictures are portraits, and scenes of every kind with up to four people of any size put before them, in the everyday
hands and in the styles. Positive are the places in the middle of a face; what they say of it is judged by the overlap
with the true box. Figures are of pictures that were drawn with other seeds, and stand in the file's header.

Shape suffixes: B batch, C channels, H and W height and width.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from velatura import tensorfile
from velatura.detection import scene as detector
from velatura.detection.boxes import overlap
from velatura.files import write_bytes
from velatura.pocket.arrange import IRIS
from velatura.pocket.compose import compose
from velatura.pocket.palette import COLOURS, HAIR, SKIN, jitter
from velatura.pocket.portraits import Person, portrait
from velatura.pocket.renderings import EVERYDAY
from velatura.pocket.scene import Scene
from velatura.pocket.styles import STYLES

FACES = {"woman": (-0.20, -0.26, 0.20, 0.26), "man": (-0.215, -0.26, 0.215, 0.28), "child": (-0.28, -0.24, 0.28, 0.30)}
"""Where a face lies in a portrait of size 1, from its middle."""

HELD_OUT = 1_000_000
"""Seeds of pictures from here on are not trained on."""

MEASURED = 120
"""Pictures that the figures are of."""

EVERY_DAY = 0.7
"""Share of pictures in an everyday hand."""

MIDDLE = 0.25
"""Share of a face's sides, from its middle, in which places count as on it."""


@dataclass(frozen=True)
class Drawn:
    """A picture, and where its faces are: left, top, right, bottom, in pixels, (N, 4)."""

    image: Image.Image
    faces: NDArray[np.float32]


def drawn(seed: int, *, side: int = detector.SIDE) -> Drawn:
    """One picture of a seed, its faces at least 12 pixels wide and with their middles in it."""
    rng = np.random.default_rng([seed, 71])
    scene, people = _scene(seed, rng)
    hands = EVERYDAY if rng.random() < EVERY_DAY else {name: style.paint for name, style in STYLES.items()}
    image = hands[str(rng.choice(sorted(hands)))](scene, size=side).convert("RGB")
    boxes = [box for box in (_box(*one) for one in people) if 0 < box[0] + box[2] < 2 and 0 < box[1] + box[3] < 2]
    faces = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, 1) * side
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        faces = np.stack([side - faces[:, 2], faces[:, 1], side - faces[:, 0], faces[:, 3]], axis=1)
    if rng.random() < 0.4:  # as soft as what a base paints
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.6))))
    return Drawn(image, faces)


def _scene(seed: int, rng: np.random.Generator) -> tuple[Scene, list[tuple[str, float, float, float]]]:
    """A scene, and kind, place and size of the people in it, nobody's face behind another's."""
    kind = rng.random()
    if kind < 0.15:
        return compose(seed, kind=str(rng.choice(["outdoor", "table"]))), []  # type: ignore[arg-type]
    behind = compose(seed, kind="outdoor" if kind < 0.7 else "table")
    shapes = list(behind.shapes) if kind < 0.85 else []  # a plain wall, as a portrait has it
    if kind >= 0.85:
        wall = jitter(COLOURS[str(rng.choice(list(COLOURS)))], rng, 6)
        behind = replace(behind, sky=(wall, wall), night=False)
    people: list[tuple[str, float, float, float]] = []
    for _ in range(1 if kind >= 0.85 else int(rng.integers(1, 5))):
        size = float(rng.uniform(0.9, 1.15) if kind >= 0.9 else np.exp(rng.uniform(np.log(0.22), np.log(1.1))))
        x, y = float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.15, 0.85))
        if size > 0.8:
            x, y = 0.5 + (x - 0.5) * 0.3, 0.46 + (y - 0.5) * 0.2
        if all(abs(x - other[1]) > 0.42 * (size + other[3]) for other in people):
            people.append((str(rng.choice(["woman", "man", "child"])), x, y, size))
    for who, x, y, size in people:
        shapes += portrait(_person(who, rng), x=x, y=y, size=size, mirrored=bool(rng.random() < 0.5))
    return replace(behind, shapes=shapes), people


def _person(kind: str, rng: np.random.Generator) -> Person:
    hair = HAIR[str(rng.choice(list(HAIR)))]
    skin = SKIN[int(rng.integers(len(SKIN)))]
    shirt = COLOURS[str(rng.choice(list(COLOURS)))]
    glasses, beard, pigtails = rng.random(3) < (0.25, 0.35, 0.45)
    return Person(
        kind,
        jitter(hair, rng),
        jitter(skin, rng, 4),
        jitter(shirt, rng),
        IRIS[int(rng.integers(len(IRIS)))],
        glasses=bool(glasses),
        beard=bool(beard) and kind == "man",
        pigtails=bool(pigtails),
    )


def _box(kind: str, x: float, y: float, size: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = FACES[kind]
    return x + size * left, y + size * top, x + size * right, y + size * bottom


class Network(nn.Sequential):
    """The detector as torch trains it; `detection.scene.forward` is the same in numpy."""

    def __init__(self) -> None:
        """Weights that keep the size of what passes through; at first nothing is a face."""
        super().__init__(*(nn.Conv2d(taken, given, 3, stride, 1) for taken, given, stride in detector.LAYERS))
        layers: list[Any] = list(self)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, detector.SLOPE)
            nn.init.zeros_(layer.bias)
        layers[-1].weight.data *= 0.05
        layers[-1].bias.data[0] = -4.0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """A logit and four logarithms of distances for each place."""
        for place, layer in enumerate(self):
            x_BCHW = layer(functional.leaky_relu(x_BCHW, detector.SLOPE) if place else x_BCHW)
        return x_BCHW


def targets(faces: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For every place whether it is in the middle of a face, and that face's box: (H, W), (H, W, 4).

    Places between the middle and the border of a face are -1: whatever they say is right.
    """
    count = detector.SIDE // detector.STRIDE
    middles = (np.arange(count) + 0.5) * detector.STRIDE
    there, boxes = np.zeros((count, count), np.float32), np.zeros((count, count, 4), np.float32)
    for left, top, right, bottom in faces[np.argsort(-(faces[:, 2] - faces[:, 0]))]:
        x, y = (left + right) / 2, (top + bottom) / 2
        across, down = np.abs(middles - x)[None, :], np.abs(middles - y)[:, None]
        inside = (across < (right - left) / 2) & (down < (bottom - top) / 2)
        near = (across < MIDDLE * (right - left)) & (down < MIDDLE * (bottom - top))
        near[min(int(y // detector.STRIDE), count - 1), min(int(x // detector.STRIDE), count - 1)] = True
        there[inside & (there == 0)] = -1
        there[near] = 1
        boxes[near] = (left, top, right, bottom)
    return there, boxes


def loss(said_BCHW: Tensor, there_BHW: Tensor, boxes_BHW4: Tensor) -> Tensor:
    """How wrong the answers are: focal for where, one minus the generalised overlap for how far.

    Sources: Lin et al. 2017, arXiv:1708.02002; Rezatofighi et al. 2019, arXiv:1902.09630.
    """
    logit, known, on = said_BCHW[:, 0], there_BHW >= 0, there_BHW == 1
    right = torch.where(on, logit.sigmoid(), 1 - logit.sigmoid())
    focal = -((1 - right) ** 2) * right.clamp(min=1e-6).log() * torch.where(on, 0.75, 0.25)
    count = on.sum().clamp(min=1)
    middle = (torch.arange(said_BCHW.shape[-1]) + 0.5) * detector.STRIDE
    reach = said_BCHW[:, 1:5].clamp(-6, 3).exp() * detector.UNIT
    x, y = middle[None, None, :], middle[None, :, None]
    told = torch.stack([x - reach[:, 0], y - reach[:, 1], x + reach[:, 2], y + reach[:, 3]], dim=-1)[on]
    return focal[known].sum() / count + (1 - _generalised(told, boxes_BHW4[on])).sum() / count


def _generalised(one: Tensor, other: Tensor) -> Tensor:
    inner = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp(min=0).prod(1)
    areas = (one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - inner
    hull = (torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])).prod(1)
    return inner / areas.clamp(min=1e-6) - (hull - areas) / hull.clamp(min=1e-6)


def train(pictures: Sequence[Drawn], *, steps: int, seed: int, batch: int = 32) -> Network:
    """A detector of these pictures; colours are shuffled and shifted while it learns."""
    torch.manual_seed(seed)
    network = Network()
    images = np.stack([np.asarray(one.image) for one in pictures])
    wanted = [targets(one.faces) for one in pictures]
    there = torch.from_numpy(np.stack([one for one, _ in wanted]))
    boxes = torch.from_numpy(np.stack([one for _, one in wanted]))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng([seed, 72])
    for step in range(steps):
        chosen = rng.integers(len(pictures), size=batch)
        pixels = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2) / 127.5 - 1
        shift = torch.from_numpy(rng.normal(0, 0.12, (batch, 3, 1, 1)).astype(np.float32))
        scale = torch.from_numpy(rng.uniform(0.75, 1.2, (batch, 1, 1, 1)).astype(np.float32))
        noise = torch.from_numpy(rng.normal(0, 0.04, pixels.shape).astype(np.float32))
        error = loss(network(pixels * scale + shift + noise), there[chosen], boxes[chosen])
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        rate.step()
        if step % 100 == 0:
            print(f"step {step}: {error.item():.3f}", flush=True)
    return network.eval()


def to_bytes(network: Network, told: dict[str, Any]) -> bytes:
    """The detector's file, in fp16."""
    tensors = {
        name: tensorfile.raw(tensor.detach().numpy().astype(np.float16))
        for name, tensor in network.state_dict().items()
    }
    metadata = {"format": "pt", "velatura.detector": json.dumps(told, sort_keys=True, separators=(",", ":"))}
    return tensorfile.to_bytes(tensors, metadata)


def measured(
    pictures: Sequence[Drawn], confidence: float = 0.3, layers: detector.Layers | None = None
) -> dict[str, float]:
    """Precision, recall and mean overlap of what a detector finds; found is what overlaps by half.

    Args:
        pictures: none of those that it was trained on.
        confidence: of the finds that count.
        layers: its weights; none: those that come with the program.
    """
    found = faces = right = 0
    shares: list[float] = []
    for one in pictures:
        told = detector.detect(one.image, confidence, layers)
        found, faces, left = found + len(told), faces + len(one.faces), one.faces
        for find in told:
            shared = overlap(np.array(find.box, np.float32), left) if len(left) else np.zeros(0, np.float32)
            if len(shared) and shared.max() >= 0.5:
                right += 1
                shares.append(float(shared.max()))
                left = np.delete(left, int(shared.argmax()), axis=0)
    return {
        "pictures": len(pictures),
        "faces": faces,
        "precision": round(right / max(1, found), 4),
        "recall": round(right / max(1, faces), 4),
        "overlap": round(float(np.mean(shares)) if shares else 0.0, 4),
    }


def main() -> None:
    """Train it and write it, with its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=detector.WEIGHTS)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--commit", default="")
    given = parser.parse_args()
    first = given.seed * 100_000
    network = train([drawn(first + number) for number in range(given.pictures)], steps=given.steps, seed=given.seed)
    told = {"seed": given.seed, "pictures": given.pictures, "steps": given.steps, "commit": given.commit}
    write_bytes(given.out, to_bytes(network, told))
    figures = measured([drawn(HELD_OUT + number) for number in range(MEASURED)], layers=detector.weights(given.out))
    write_bytes(given.out, to_bytes(network, {**told, "held_out": figures}))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
