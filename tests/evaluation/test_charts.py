"""Charts: every number on the sheet, nothing that breaks the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from velatura.evaluation.charts import Curve, Point, Series, legend, line_chart, scatter, thinned, ticks


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.031, 0.012), (40, 320), (3, 3), (0, 1e-7), (-5e4, 9e6)])
def test_ticks_are_few_round_numbers_that_cover_the_range(low: float, high: float) -> None:
    found = ticks(low, high)

    assert found[0] <= low and found[-1] >= high
    assert 1 <= len(found) <= 8


def test_a_line_chart_is_sound_xml_and_stays_on_the_sheet() -> None:
    curve = Curve(
        "Loss <of> & so on",
        (Series('a "name"', (40, 80, 120), (-1, 2, 0.5), ((-2, 0), (1, 3), (0, 1))), Series("b", (40,), (0.1,))),
        "%",
    )

    root = ElementTree.fromstring(line_chart(curve, chosen=80))

    numbers = [float(part) for shape in root.iter() for part in re.findall(r"[-\d.]+", shape.get("points", ""))]
    assert numbers and min(numbers) >= 0 and max(numbers) <= 400
    assert sum("chosen" in (shape.get("class") or "") for shape in root.iter()) == 1


def test_values_that_are_not_numbers_are_left_out() -> None:
    broken = Series("loss", (1, 2, 3), (0.5, float("nan"), 0.4))

    assert "nan" not in line_chart(Curve("Loss", (broken,)))
    assert line_chart(Curve("Loss", (Series("loss", (1,), (float("inf"),)),))) == ""


def test_a_single_checkpoint_can_be_drawn() -> None:
    assert "<circle" in line_chart(Curve("Loss", (Series("loss", (40,), (0.5,)),)))
    assert "<circle" in scatter([Point("40", 1.0, 0.8)], x_name="x", y_name="y", title="t")


def test_an_interval_that_runs_off_does_not_flatten_the_points() -> None:
    points = [Point("40", 0.9, 0.2, (-9, 90)), Point("80", 0.9, 0.8, (-9, 90))]

    low, high = re.findall(r'cy="([\d.]+)"', scatter(points, x_name="x", y_name="y", title="t"))

    assert float(low) - float(high) > 40


def test_a_long_series_keeps_its_mean_and_loses_its_length() -> None:
    values = [float(index % 7) for index in range(5000)]

    short = thinned(Series("loss", range(5000), values))

    assert len(short.values) <= 400
    assert sum(short.values) / len(short.values) == pytest.approx(3, abs=0.05)


def test_a_legend_names_lines_only_where_there_are_several() -> None:
    one, two = Series("a<b", (1,), (1,)), Series("c", (1,), (2,))

    assert legend(Curve("t", (one,))) == ""
    assert "a&lt;b" in legend(Curve("t", (one, two)))
