"""The oracle: a small network that says what a 128 px picture shows, and how often it is wrong itself.

    python benchmarks/oracle.py --train      draws its pictures, trains, states its own error
    python benchmarks/oracle.py              states the error of the oracle that is there

About a quarter of an hour of one CPU core; stopped and started again it goes on. It lies in the cache folder
(`velatura doctor` shows where).

For every kind of thing the network looks where in the picture that kind is most likely; what it sees there
says whether the kind is present and which colour it has, colours by one reading shared by all kinds.
Setting, time of day, wall and count are read off the whole picture. Generated pictures are softer and
noisier than drawn ones, so training pictures are blurred, noised and tinted a little.

Shape suffixes: B batch, C channels, H and W height and width, K kinds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from oracle_pictures import (
    HANDS,
    TEST_SEED,
    TRAINING_SEED,
    UNASKED,
    Answers,
    PictureSet,
    answers_of,
    picture_set,
    tells_colour,
)
from PIL import Image
from questions import COLOURS, HOURS, KINDS, OF_COLOUR, PLACES, QUESTIONS, Answer, Rate, percent, rates, table
from torch import Tensor, nn
from torch.nn import functional as F

from velatura import randomness, tensorfile
from velatura.errors import SettingsError, VelaturaError
from velatura.files import make_folder, write_bytes
from velatura.pocket.muon import optimizers
from velatura.pocket.renderings import EVERYDAY
from velatura.pocket.styles import STYLES
from velatura.settings import cache_folder

VERSION = "1"
"""Of the questions, the drawn pictures and the network: pictures and weights of another version are not reused,
and figures read by different versions cannot be compared."""
SEED = 1
SIDE = 128
TRAINING_PICTURES = 18_000
TEST_PICTURES = 3_500
STEPS = 1_100
BATCH = 64
RATE = 2e-3
KEEP_EVERY = 100
"""Steps between two checkpoints of the training."""


class Oracle(nn.Module):
    """Pictures (B, 3, 128, 128) in [-1, 1] -> scores of every answer to every question."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.fine = nn.Sequential(nn.PixelUnshuffle(4), _layer(48, 64), _layer(64, 96, stride=2), _Residual(96))
        self.coarse = nn.Sequential(_layer(96, 192, stride=2), _Residual(192))
        self.from_fine, self.from_coarse = nn.Conv2d(96, 128, 1), nn.Conv2d(192, 128, 1)
        self.places = nn.Conv2d(128, len(KINDS), 1)
        self.presence = nn.Linear(128, len(KINDS))
        nn.init.constant_(self.presence.bias, -3.0)  # few of all kinds are in any one picture
        self.kind_embedding = nn.Parameter(torch.zeros(len(KINDS), 128))
        self.local = nn.Linear(128, 128)
        self.colour = nn.Linear(128, len(COLOURS))
        self.whole = nn.Linear(2 * 192, 192)
        self.count = nn.Linear(192, 3)
        self.setting = nn.Linear(192, len(PLACES))
        self.hour = nn.Linear(192, len(HOURS))
        self.background = nn.Linear(192, len(COLOURS))

    def forward(self, pictures_BCHW: Tensor) -> dict[str, Tensor]:
        """Scores: "shown" (B, K) and "colours" (B, K, colours); "counts", "settings", "times", "backgrounds"."""
        fine = self.fine(pictures_BCHW)
        coarse = self.coarse(fine)
        both = F.relu(self.from_fine(fine) + F.interpolate(self.from_coarse(coarse), scale_factor=2))
        attention_BKP = self.places(both).flatten(2).softmax(dim=2)
        seen_BKC = attention_BKP @ both.flatten(2).transpose(1, 2)
        shown = (seen_BKC * self.presence.weight).sum(dim=2) + self.presence.bias
        colours = self.colour(F.relu(self.local(seen_BKC) + self.kind_embedding))
        whole = F.relu(self.whole(torch.cat([coarse.mean(dim=(2, 3)), coarse.amax(dim=(2, 3))], dim=1)))
        return {
            "shown": shown,
            "colours": colours,
            "counts": self.count(whole),
            "settings": self.setting(whole),
            "times": self.hour(whole),
            "backgrounds": self.background(whole),
        }


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = _layer(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.layer(x)
        return added


def _layer(before: int, after: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


# --- reading ---------------------------------------------------------------------------------


def load_oracle(folder: Path | None = None) -> Oracle:
    """The trained oracle.

    Raises:
        SettingsError: there is none, or it is of another version.
    """
    path = _weights(folder)
    fix = "run `python benchmarks/oracle.py --train`"
    if not path.exists():
        raise SettingsError("the oracle is not trained yet", where=path, fix=fix)
    tensors, metadata = tensorfile.read(path)
    if metadata.get("version") != VERSION or metadata.get("words") != _words():
        raise SettingsError("the oracle is of another version", where=path, fix=fix)
    oracle = Oracle()
    weights = {name: torch.from_numpy(tensorfile.as_float32(tensor).copy()) for name, tensor in tensors.items()}
    oracle.load_state_dict(weights, strict=False)
    return oracle.eval()


def own_error(folder: Path | None = None) -> dict[str, dict[str, float]]:
    """The error that the oracle stated after its training: hand or group of hands -> question -> share wrong."""
    found: dict[str, dict[str, float]] = json.loads(tensorfile.read_header(_weights(folder)).metadata["error"])
    return found


def oracle_folder() -> Path:
    """Where the oracle and its pictures lie, if nowhere else."""
    return cache_folder() / "oracle" / VERSION


def _weights(folder: Path | None) -> Path:
    trained = (folder or oracle_folder()) / "oracle.safetensors"
    return trained if folder is not None or trained.exists() else SHIPPED


def _words() -> str:
    """Everything that the oracle can answer, so that weights of another vocabulary are refused."""
    return "|".join((*KINDS, *PLACES, *HOURS, *COLOURS))


def read(oracle: Oracle, pictures: Sequence[Image.Image]) -> list[Answer]:
    """What pictures show; those of another size are resized."""
    fitted = [picture.convert("RGB") for picture in pictures]
    fitted = [p if p.size == (SIDE, SIDE) else p.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for p in fitted]
    arrays = [np.asarray(picture, np.uint8) for picture in fitted]
    batches = (np.stack(arrays[start : start + BATCH]) for start in range(0, len(arrays), BATCH))
    return [answer for batch in batches for answer in read_array(oracle, batch)]


@torch.inference_mode()
def read_array(oracle: Oracle, pictures: NDArray[np.uint8]) -> list[Answer]:
    """What a batch of pictures (n, 128, 128, 3) shows.

    A kind is seen where it is more likely there than not; the likeliest is always seen.
    """
    scores = oracle(_tensor(pictures))
    best = {name: score.argmax(dim=-1).tolist() for name, score in scores.items()}
    answers = []
    for row, shown in enumerate(scores["shown"] > 0):
        kinds = {KINDS[int(kind)] for kind in shown.nonzero()} | {KINDS[best["shown"][row]]}
        colours = {kind: COLOURS[best["colours"][row][column]] for column, kind in enumerate(KINDS)}
        answers.append(
            Answer(
                frozenset(kinds),
                colours,
                best["counts"][row] + 1,
                PLACES[best["settings"][row]],
                HOURS[best["times"][row]],
                COLOURS[best["backgrounds"][row]],
            )
        )
    return answers


def _tensor(pictures: NDArray[np.uint8]) -> Tensor:
    pixels = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)
    return pixels.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


# --- training --------------------------------------------------------------------------------


def train(folder: Path, pictures: PictureSet, answers: Answers, *, steps: int) -> Iterator[tuple[int, float]]:
    """Train from the last checkpoint on; yields the step and its loss, and writes weights at the end."""
    torch.manual_seed(SEED)
    oracle = Oracle().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steppers = optimizers([oracle], lr=RATE)
    state = folder / "training.pt"
    first = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        first = saved["step"]
        oracle.load_state_dict(saved["oracle"])
        for stepper, values in zip(steppers, saved["steppers"], strict=True):
            stepper.load_state_dict(values)
    for step in range(first, steps):
        chosen = _batch(len(pictures), step)
        scores = oracle(soften(_tensor(pictures.pick(chosen)), step))
        loss = _loss(scores, answers, chosen)
        rate = RATE * min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for stepper in steppers:
            stepper.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = rate
            stepper.step()
        yield step + 1, float(loss.detach())
        if (step + 1) % KEEP_EVERY == 0:
            kept = {"step": step + 1, "oracle": oracle.state_dict(), "steppers": [s.state_dict() for s in steppers]}
            beside = state.with_suffix(".part")
            torch.save(kept, beside)
            beside.replace(state)
    _write(folder, oracle, error={})


def _batch(count: int, step: int) -> NDArray[np.int64]:
    """Which pictures a step sees: every one once per round, in a fresh order."""
    per_round = count // BATCH
    order = randomness.generator(SEED, "oracle order", step // per_round).permutation(count)
    start = step % per_round * BATCH
    return np.asarray(order[start : start + BATCH], np.int64)


def soften(pictures_BCHW: Tensor, step: int) -> Tensor:
    """Pictures as a generator might paint them: moved, mirrored, blurred, tinted, noisy; each a little, by chance."""
    rng = randomness.generator(SEED, "oracle softening", step)
    count = len(pictures_BCHW)

    def per_picture(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, channels, 1, 1)).astype(np.float32))

    x = pictures_BCHW
    down, right = (int(n) for n in rng.integers(-6, 7, size=2))
    x = F.pad(x, (6, 6, 6, 6), mode="replicate")[:, :, 6 - down : 6 - down + SIDE, 6 - right : 6 - right + SIDE]
    if rng.random() < 0.5:
        x = x.flip(3)
    if rng.random() < 0.5:
        blurred = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    else:
        blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = x.lerp(blurred, per_picture(-0.5, 1.3).clamp(0, 1))
    x = (
        x * per_picture(0.92, 1.08) * per_picture(0.97, 1.03, 3)
        + per_picture(-0.05, 0.05)
        + per_picture(-0.02, 0.02, 3)
    )
    stream = torch.Generator().manual_seed(int(rng.integers(2**62)))
    fine = torch.randn((count, 1, SIDE, SIDE), generator=stream) * per_picture(-0.06, 0.06).clamp(min=0)
    blotches = torch.randn((count, 3, SIDE // 8, SIDE // 8), generator=stream) * per_picture(-0.1, 0.1).clamp(min=0)
    noise = F.interpolate(blotches, scale_factor=8, mode="bilinear") + fine
    return (x + noise).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def _loss(scores: dict[str, Tensor], answers: Answers, chosen: NDArray[np.int64]) -> Tensor:
    shown = torch.from_numpy(answers.shown[chosen]).float()
    loss = F.binary_cross_entropy_with_logits(scores["shown"], shown, reduction="sum") / len(chosen)
    for name in ("colours", "counts", "settings", "times", "backgrounds"):
        wanted = torch.from_numpy(getattr(answers, name)[chosen]).long().flatten()
        weight = 1.0 if name == "colours" else 0.5
        loss = loss + weight * F.cross_entropy(scores[name].flatten(0, -2), wanted, ignore_index=UNASKED)
    return loss


def _write(folder: Path, oracle: Oracle, *, error: dict[str, dict[str, float]]) -> None:
    tensors = {
        name: tensorfile.raw(value.detach().float().contiguous().numpy())
        for name, value in oracle.state_dict().items()
        if value.is_floating_point()
    }
    metadata = {"version": VERSION, "words": _words(), "error": json.dumps(error, sort_keys=True)}
    write_bytes(folder / "oracle.safetensors", tensorfile.to_bytes(tensors, metadata))


# --- the oracle's own error ------------------------------------------------------------------


def examine(oracle: Oracle, pictures: PictureSet) -> dict[str, dict[str, Rate]]:
    """Rates on drawn pictures: "everyday", "styles" (those that tell colours), then every hand by itself."""
    facts, hands = pictures.facts(), np.array(pictures.hands())
    answers = [answer for shard in pictures.shards for answer in _in_batches(oracle, shard)]
    coloured = [name for name, style in STYLES.items() if style.coloured]
    groups = {"everyday": tuple(EVERYDAY), "styles": tuple(coloured), **{hand: (hand,) for hand in HANDS}}
    found = {}
    for name, members in groups.items():
        among = np.flatnonzero(np.isin(hands, members))
        found[name] = rates([facts[n] for n in among], [answers[n] for n in among])
    return found


def _in_batches(oracle: Oracle, pictures: NDArray[np.uint8]) -> Iterator[Answer]:
    for start in range(0, len(pictures), BATCH):
        yield from read_array(oracle, pictures[start : start + BATCH])


def error_table(found: dict[str, dict[str, Rate]]) -> str:
    """Errors in percent, one row per hand; no colours where a hand has none."""
    rows = [["error, %", "pictures", *QUESTIONS]]
    for name, by_question in found.items():
        pictures = by_question["object"].asked + by_question["two objects"].asked
        told = {q: rate for q, rate in by_question.items() if tells_colour(name) or q not in OF_COLOUR}
        errors = (percent(1 - told[question].share) if question in told else "-" for question in QUESTIONS)
        rows.append([name, str(pictures), *errors])
    return table(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train, where it is not finished")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training (default {STEPS})")
    parser.add_argument("--pictures", type=int, default=TRAINING_PICTURES, help="to train on")
    parser.add_argument("--folder", type=Path, default=oracle_folder(), help="where everything is kept")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    folder = make_folder(given.folder)
    if given.train:
        pictures = picture_set(folder, TRAINING_SEED, given.pictures)
        answers = answers_of(pictures.facts(), pictures.hands())
        started, losses = time.process_time(), []
        for step, loss in train(folder, pictures, answers, steps=given.steps):
            losses.append(loss)
            if step % 50 == 0:
                mean = sum(losses[-50:]) / len(losses[-50:])
                print(f"step {step:5d}  loss {mean:.3f}  {time.process_time() - started:.0f} CPU seconds", flush=True)
    oracle = load_oracle(folder)
    found = examine(oracle, picture_set(folder, TEST_SEED, TEST_PICTURES))
    error = {name: {q: round(1 - r.share, 5) for q, r in by.items() if r.asked} for name, by in found.items()}
    _write(folder, oracle, error=error)
    print(error_table(found))


if __name__ == "__main__":
    try:
        main()
    except VelaturaError as error:
        sys.exit(str(error))
SHIPPED = Path(__file__).parent / "oracle.safetensors"
"""The trained oracle, fp16; one trained here is preferred."""
