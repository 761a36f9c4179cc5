"""What a training costs, in time and memory: a small model of it, fitted to short measured probes. No torch.

A step's time is a sum over its micro-batches: something for each, for each picture, for each latent, something for
each pair of latents (attention), and the same for what the adapter's rank adds; gradient checkpointing makes the
denoiser's share longer by a factor, and text encoders that are trained add something for each text. Memory is what
rests, what the optimizer keeps, and what gradients need, which grows as the time does. All coefficients are at least
0. How far the model can be trusted is measured too: on probes that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]

AT_LEAST = 0.05
"""Share that an estimate is never surer than."""

FAR = 4.0
"""An estimate for more than this many times the largest probe is beyond what was measured."""

WIDE = 2.0
"""So is one for pictures of more than this many times the pixels of the largest."""

OPTIMIZER_BYTES: Mapping[str, int] = {"adamw8bit": 2, "adafactor": 1, "lion": 4, "prodigy": 16}
"""Bytes that an optimizer keeps for each trained number; the others two numbers in fp32, 8."""


@dataclass(frozen=True)
class Case:
    """What decides the cost of one micro-batch."""

    pixels: int
    """Of one picture."""
    batch: int
    weights: int
    """Trained numbers of the denoiser's layers."""
    text_weights: int = 0
    """The same of text encoders; 0: none is trained."""
    checkpointing: bool = False
    optimizer: str = "adamw"


@dataclass(frozen=True)
class Probe:
    """One case, measured."""

    case: Case
    wall: float
    """Seconds of one step."""
    cpu: float
    """Seconds that the process's threads computed in it."""
    peak: int | None
    """Bytes at most; None where that cannot be measured."""
    rest: int | None
    """Bytes before the first step."""
    forward: float = 0.0
    """Seconds of one prediction without gradients."""
    encode: float = 0.0
    """Seconds of one picture's way through the autoencoder."""
    decode: float = 0.0
    pace: float = 0.0
    """Seconds that the processor's yardstick took beside it (`meter.pace`); 0: another device computed."""

    @property
    def seconds(self) -> float:
        """Of computing where the processor computed; else by the clock."""
        return self.cpu if self.pace else self.wall


@dataclass(frozen=True)
class Cost:
    """An estimate."""

    seconds: float
    """By the clock, if the machine is as busy as when it was measured."""
    cpu: float
    bytes: int | None
    far: bool
    """Beyond what was measured."""


@dataclass(frozen=True)
class Calibration:
    """A model of one base on one device, and how far it is to be trusted."""

    reference: Case
    """The units: pixels, trained weights."""
    time: tuple[float, ...]
    memory: tuple[float, ...] | None
    rest: int | None
    """Bytes before the first step, without what is trained."""
    busy: float
    """Seconds by the clock for each second of computing."""
    forward: tuple[float, ...]
    encode: float
    """Seconds for each pixel."""
    decode: float
    error: float
    """The largest share by which the time of a probe was missed that it was not fitted to."""
    memory_error: float | None
    largest: float
    """Latents of the largest probe, in units of the reference."""
    widest: int
    """Pixels of the largest picture of a probe."""
    pace: float = 0.0
    """Seconds of the processor's yardstick that its seconds are told by; 0: another device computed."""
    on: str = ""
    """The day on which it was measured."""

    def cost(self, case: Case) -> Cost:
        """Seconds and bytes of a step of one micro-batch."""
        cpu = float(_time(self.time, _features(case, self.reference)))
        size = None
        if self.memory is not None and self.rest is not None:
            held = float(_memory(self.memory, _features(case, self.reference)))
            size = round(self.rest + _kept(case) + held)
        far = _area(case, self.reference) > FAR * self.largest or case.pixels > WIDE * self.widest
        return Cost(cpu * self.busy, cpu, size, far)

    def predicting(self, pixels: int, batch: int) -> float:
        """Seconds by the clock of one prediction without gradients."""
        area, quad = batch * pixels / self.reference.pixels, pixels / self.reference.pixels
        return float(np.dot(self.forward, (1.0, area, area * quad))) * self.busy

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Calibration:
        """As `to_dict` gives it."""
        told: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()}
        return Calibration(**{**told, "reference": Case(**tree["reference"])})


def fit(probes: Sequence[Probe], checks: Sequence[Probe], *, on: str = "") -> Calibration:
    """The model that misses the probes' shares least, and by how much it misses the checks.

    Seconds of computing are fitted where the processor computes, which other programs do not lengthen but by slowing it
    down; that is taken out by the yardstick beside each probe.

    Args:
        probes: what it is fitted to; the first is the reference.
        checks: what it is not fitted to.
        on: the day.
    """
    reference = probes[0].case
    pace = min(probe.pace for probe in probes)
    told = [_at(pace, probe) * probe.seconds for probe in probes]
    rows = [_features(probe.case, reference) for probe in probes]
    time = _fitted(_time, TIMES, rows, told)
    rests = [_rest(probe) for probe in probes]
    rest = round(min(one for one in rests if one is not None)) if None not in rests else None
    memory = None
    if rest is not None:
        held = [max(probe.peak or 0, 1) - rest - _kept(probe.case) for probe in probes]
        memory = _fitted(_memory, MEMORIES, rows, held)
    forwards = [probe for probe in probes if probe.forward and not probe.case.checkpointing]
    made = Calibration(
        reference,
        time,
        memory,
        rest,
        float(np.median([probe.wall / seconds for probe, seconds in zip(probes, told, strict=True)])),
        _line(
            [_plain(probe.case, reference) for probe in forwards],
            [_at(pace, probe) * probe.forward for probe in forwards],
        ),
        float(np.median([_at(pace, probe) * probe.encode / probe.case.pixels for probe in probes])),
        float(np.median([_at(pace, probe) * probe.decode / probe.case.pixels for probe in forwards])),
        0.0,
        None,
        max(_area(probe.case, reference) for probe in probes),
        max(probe.case.pixels for probe in probes),
        pace,
        on,
    )
    missed = [abs(made.cost(one.case).cpu / (_at(pace, one) * one.seconds) - 1) for one in checks]
    sizes = [abs((made.cost(one.case).bytes or 0) / one.peak - 1) for one in checks if one.peak and memory]
    error, memory_error = max([AT_LEAST, *missed]), max([AT_LEAST, *sizes]) if sizes else None
    return replace(made, error=error, memory_error=memory_error)


TIMES = 9
MEMORIES = 8


def _features(case: Case, reference: Case) -> Row:
    """1, latents, pairs of latents, rank, rank x latents, checkpointing, text, texts, pictures."""
    area, quad, rank = _area(case, reference), case.pixels / reference.pixels, case.weights / reference.weights
    text = float(case.text_weights > 0)
    again, batch = float(case.checkpointing), float(case.batch)
    return np.array([1.0, area, area * quad, rank, area * rank, again, text, text * batch, batch])


def _time(told: Sequence[float] | Row, row: Row) -> float:
    """Seconds of a step; the factor of checkpointing is the sixth number."""
    denoiser = float(np.dot(told[:5], row[:5])) + float(told[8]) * float(row[8])
    again = 1 + float(told[5]) * float(row[5])
    return denoiser * again + float(np.dot(told[6:8], row[6:8]))


def _memory(told: Sequence[float] | Row, row: Row) -> float:
    """Bytes for gradients; what checkpointing leaves of them is the sixth number."""
    grown = float(np.dot(told[1:5], row[1:5]))
    left = min(float(told[5]), 1.0) if row[5] else 1.0
    return float(told[0]) + grown * left + float(np.dot(told[6:8], row[6:8]))


def _fitted(model: Any, count: int, rows: Sequence[Row], told: Sequence[float]) -> tuple[float, ...]:
    """Coefficients, none below 0, with the smallest squares of missed shares."""
    from scipy.optimize import least_squares

    values = np.maximum(np.array(told, dtype=np.float64), 1e-12)
    scale = float(np.median(values))

    def missed(coefficients: Row) -> Row:
        return np.array([model(coefficients * units, row) for row in rows]) / values - 1

    units = np.array([scale] * 5 + [1.0] + [scale] * (count - 6))
    start = np.array([0.2] * 5 + [0.3] + [0.05] * (count - 6))
    found = least_squares(missed, start, bounds=(0, np.inf), max_nfev=2000).x * units
    return tuple(float(one) for one in found)


def _line(rows: Sequence[Row], told: Sequence[float]) -> tuple[float, ...]:
    from scipy.optimize import nnls

    if not rows:
        return (0.0, 0.0, 0.0)
    weights = 1 / np.maximum(np.array(told), 1e-12)
    found, _ = nnls(np.array(rows) * weights[:, None], np.array(told) * weights)
    return tuple(float(one) for one in found)


def _at(pace: float, probe: Probe) -> float:
    """What a probe's seconds are multiplied by, to be those of the pace."""
    return pace / probe.pace if probe.pace else 1.0


def _plain(case: Case, reference: Case) -> Row:
    return _features(case, reference)[:3]


def _area(case: Case, reference: Case) -> float:
    return case.batch * case.pixels / reference.pixels


def _kept(case: Case) -> int:
    """Bytes of what is trained, its gradients, and what the optimizer keeps of it."""
    return (case.weights + case.text_weights) * (8 + OPTIMIZER_BYTES.get(case.optimizer, 8))


def _rest(probe: Probe) -> float | None:
    """What rests without what is trained, which the probe has in its layers already."""
    return None if probe.rest is None else probe.rest - 4 * (probe.case.weights + probe.case.text_weights)
