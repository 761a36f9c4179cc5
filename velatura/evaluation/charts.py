"""Curves and scatters as inline SVG, drawn to be read on a phone, in light and in dark.

Colours are the page's CSS variables. Nothing here is interactive but the browser's own tooltips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 14, 40


@dataclass(frozen=True)
class Series:
    """One line: values at optimizer steps."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    band: Sequence[tuple[float, float]] = ()
    """Interval of each value; may be empty."""
    faint: bool = False
    """A line that is context, not the subject."""


@dataclass(frozen=True)
class Curve:
    """A chart of lines over the steps of the run."""

    title: str
    series: Sequence[Series]
    unit: str = ""
    note: str = ""
    """One sentence on how to read it."""


@dataclass(frozen=True)
class Point:
    """One checkpoint in the scatter."""

    label: str
    x: float
    y: float
    interval: tuple[float, float] | None = None
    """Of y."""
    chosen: bool = False
    ruled_out: bool = False


def ticks(low: float, high: float, *, about: int = 5) -> list[float]:
    """Round numbers that cover a range, 1, 2 or 5 times a power of ten apart."""
    span = max(high - low, 1e-12)
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def thinned(series: Series, *, most: int = 400) -> Series:
    """A long noisy series as its running means, so that the page stays small and the line legible."""
    if len(series.values) <= most:
        return series
    size = math.ceil(len(series.values) / most)
    spans = [slice(start, start + size) for start in range(0, len(series.values), size)]
    steps = [sum(series.steps[span]) / len(series.steps[span]) for span in spans]
    values = [sum(series.values[span]) / len(series.values[span]) for span in spans]
    return Series(series.name, steps, values, faint=series.faint)


def line_chart(curve: Curve, *, chosen: int | None = None) -> str:
    """Lines over steps, with the chosen step marked; an empty string when there is nothing to draw."""
    lines = [thinned(_finite(series)) for series in curve.series]
    lines = [series for series in lines if series.values]
    if not lines:
        return ""
    steps = [step for series in lines for step in series.steps]
    values = [value for series in lines for value in series.values]
    values += [edge for series in lines for edges in series.band for edge in edges]
    axes = _Axes(ticks(min(steps), max(steps)), ticks(min(values), max(values)), keep_x=(min(steps), max(steps)))
    parts = [axes.drawn("step", curve.unit)]
    if chosen is not None and min(steps) <= chosen <= max(steps):
        x = axes.x(chosen)
        parts.append(f'<line class="chosen" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    if min(values) < 0 < max(values):
        parts.append(f'<line class="zero" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{axes.y(0):.1f}" y2="{axes.y(0):.1f}"/>')
    for index, series in enumerate(lines):
        parts.append(_line(series, axes, index % 4 + 1))
    return _svg(parts, curve.title)


def scatter(points: Sequence[Point], *, x_name: str, y_name: str, title: str) -> str:
    """Checkpoints as points joined in the order of their steps; both axes are shares."""
    if not points:
        return ""
    lowest = min([point.x for point in points] + [0.5])
    # An interval that runs off the sheet must not flatten the points themselves.
    edges = [min(max(edge, -0.5), 1.5) for point in points for edge in point.interval or (point.y,)]
    heights = [*edges, *(point.y for point in points), 0.0, 1.0]
    axes = _Axes(ticks(lowest, 1.0, about=4), ticks(min(heights), max(heights)), percent=True)
    path = " ".join(f"{axes.x(point.x):.1f},{axes.y(point.y):.1f}" for point in points)
    parts = [axes.drawn(x_name, y_name), f'<polyline class="path" points="{path}"/>']
    for point in points:
        x, y = axes.x(point.x), axes.y(point.y)
        if point.interval is not None:
            low, high = (axes.y(edge) for edge in point.interval)
            parts.append(f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    for point, place in zip(points, _label_places(points, axes), strict=True):
        x, y = axes.x(point.x), axes.y(point.y)
        kind = "chosen" if point.chosen else "out" if point.ruled_out else "in"
        says = escape(f"{point.label}: {y_name} {point.y:.2f}, {x_name} {point.x:.0%}")
        parts.append(
            f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{6.5 if point.chosen else 4.5}">'
            f"<title>{says}</title></circle>"
        )
        if place is not None:
            where = f'x="{place[0]:.1f}" y="{place[1]:.1f}" text-anchor="end"'
            parts.append(f'<text class="label {kind}" {where}>{escape(point.label)}</text>')
    return _svg(parts, title)


class _Axes:
    """Where numbers stand on the sheet."""

    def __init__(
        self,
        across: Sequence[float],
        up: Sequence[float],
        *,
        keep_x: tuple[float, float] | None = None,
        percent: bool = False,
    ) -> None:
        # A lone value may round to two equal ticks.
        up = list(up) if up[-1] > up[0] else [up[0] - 1, up[0] + 1]
        self.across, self.up, self.percent = across, up, percent
        left, right = keep_x if keep_x is not None else (across[0], across[-1])
        # One checkpoint alone stands in the middle.
        self.left, self.right = (left, right) if right > left else (left - 1, right + 1)

    def x(self, value: float) -> float:
        inside = WIDTH - LEFT - RIGHT - 12
        return LEFT + 6 + (value - self.left) / (self.right - self.left) * inside

    def y(self, value: float) -> float:
        low, high = self.up[0], self.up[-1]
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def drawn(self, x_name: str, y_name: str) -> str:
        parts = []
        for value in self.up:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
        for value in self.across:
            if self.left <= value <= self.right:
                label = f"{value:.0%}" if self.percent else _number(value)
                parts.append(
                    f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{label}</text>'
                )
        parts.append(
            f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{escape(x_name)} →</text>'
        )
        if y_name:
            parts.append(f'<text class="name" x="4" y="{HEIGHT - 5}">↑ {escape(y_name)}</text>')
        return "".join(parts)


def _label_places(points: Sequence[Point], axes: _Axes) -> list[tuple[float, float] | None]:
    """Where each label ends, left of its dot and moved up or down until it covers no other label; None
    where there is no room for it."""
    taken: list[tuple[float, float]] = []
    places: dict[int, tuple[float, float]] = {}
    # The chosen one first: its label must not give way.
    for index in sorted(range(len(points)), key=lambda index: not points[index].chosen):
        x, y = axes.x(points[index].x) - 9, axes.y(points[index].y) + 4
        for move in (0, 13, -13, 26, -26):
            if all(abs(x - other) > 30 or abs(y + move - height) > 12 for other, height in taken):
                places[index] = (x, y + move)
                taken.append(places[index])
                break
    return [places.get(index) for index in range(len(points))]


def _line(series: Series, axes: _Axes, colour: int) -> str:
    joined = list(zip(series.steps, series.values, strict=True))
    path = " ".join(f"{axes.x(step):.1f},{axes.y(value):.1f}" for step, value in joined)
    parts = []
    if series.band:
        over = [
            f"{axes.x(step):.1f},{axes.y(high):.1f}" for step, (_, high) in zip(series.steps, series.band, strict=True)
        ]
        under = [
            f"{axes.x(step):.1f},{axes.y(low):.1f}" for step, (low, _) in zip(series.steps, series.band, strict=True)
        ]
        parts.append(f'<polygon class="area c{colour}" points="{" ".join([*over, *reversed(under)])}"/>')
    parts.append(f'<polyline class="line c{colour}{" faint" if series.faint else ""}" points="{path}"/>')
    if len(joined) <= 30:
        for step, value in joined:
            says = escape(f"{series.name}, step {_number(step)}: {value:.4g}")
            parts.append(
                f'<circle class="mark c{colour}" cx="{axes.x(step):.1f}" cy="{axes.y(value):.1f}" r="3">'
                f"<title>{says}</title></circle>"
            )
    return "".join(parts)


def legend(curve: Curve) -> str:
    """Names of the lines, as HTML to stand under the chart."""
    if len(curve.series) < 2:
        return ""
    names = [
        f'<span class="key c{index % 4 + 1}">{escape(series.name)}</span>'
        for index, series in enumerate(series for series in curve.series if _finite(series).values)
    ]
    return f'<p class="legend">{"".join(names)}</p>'


def _finite(series: Series) -> Series:
    """The series without values that are not numbers."""
    kept = [index for index, value in enumerate(series.values) if math.isfinite(value)]
    if len(kept) == len(series.values):
        return series
    return Series(
        series.name,
        [series.steps[index] for index in kept],
        [series.values[index] for index in kept],
        [series.band[index] for index in kept] if series.band else (),
        series.faint,
    )


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
