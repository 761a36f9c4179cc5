"""The page: one file, safe whatever the captions say, private, and right about what it advises."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from velatura.evaluation.charts import Curve, Series
from velatura.evaluation.choose import Choice, choose
from velatura.evaluation.copies import CopyCheck
from velatura.evaluation.heldout import HeldOutLoss
from velatura.evaluation.metrics.pixels import Picture
from velatura.evaluation.report import report_page, verdict
from velatura.evaluation.results import BaseResult, CheckpointResult, Results, Sample
from velatura.evaluation.separability import Separability
from velatura.evaluation.style import StyleScore

NASTY = '<script>alert("x")</script> & \'"><img src="http://evil.example/a.png">'


def png(image: Picture, **extra: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **extra)
    return buffer.getvalue()


class Page(HTMLParser):
    """Counts tags, and fails on one that is closed in the wrong place."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data


@pytest.fixture(name="run")
def _run() -> Results:
    def checkpoint(step: int, style: float, loss: float) -> CheckpointResult:
        return CheckpointResult(
            step=step,
            path=f"checkpoints/step-{step:06}",
            held_out=HeldOutLoss(loss, 0.001, (loss - 0.002, loss + 0.002), {"detail": loss}, (loss,) * 5),
            training=HeldOutLoss(loss - 0.01, 0.001, None, {}, (loss - 0.01,) * 5),
            style=StyleScore({"palette": style}, style, (style - 0.1, style + 0.1), (style,) * 4, 4),
            separability=Separability(0.9, 1, 0.5, 0.8, None, (0.9,), (1.0,), ((2, 0), (1, 1)), ("red", NASTY)),
            copies=CopyCheck(1, 12, (0.01, 0.3), 0, 0.0),
            samples=(
                Sample(f"samples/{step}-0.png", NASTY, 0, "dataset/0.png", 0.97, step == 80),
                Sample(f"samples/{step}-1.png", "a boat", 1, "dataset/1.png", 0.4),
            ),
        )

    return Results(
        base=BaseResult("pocket", (Sample("samples/b-0.png", NASTY, 0), Sample("samples/b-1.png", "a boat", 1))),
        checkpoints=(checkpoint(40, 0.4, -0.02), checkpoint(80, 0.9, -0.03), checkpoint(120, 0.9, -0.029)),
        held_out=(Sample("dataset/9.png", "a boat"), Sample("dataset/8.png", "a hill")),
        training_count=16,
        settings={"rank": "8", NASTY: NASTY},
        not_measured={"Leak": "No trigger word."},
    )


@pytest.fixture(name="pictures")
def _pictures(run: Results, draw: Callable[..., Picture]) -> dict[str, bytes]:
    samples = [*run.base.samples, *run.held_out, *(one for check in run.checkpoints for one in check.samples)]
    paths = {sample.path for sample in samples} | {sample.nearest for sample in samples if sample.nearest}
    return {path: png(draw(index)) for index, path in enumerate(sorted(paths))}


@pytest.fixture(name="page")
def _page(run: Results, pictures: dict[str, bytes]) -> str:
    shown = next(iter(pictures.values()))
    return report_page(
        run,
        choose(run),
        pictures=pictures,
        title=NASTY,
        curves=[Curve(NASTY, [Series(NASTY, range(120), [1 / (step + 1) for step in range(120)])], NASTY, NASTY)],
        portfolio=[(NASTY, shown)],
        strengths=[("0.4", shown)],
        pairs=[(NASTY, shown, shown)],
        next_steps=[(NASTY, NASTY)],
    )


def test_the_verdict_stands_first_and_in_words(page: str, run: Results) -> None:
    words = Page(page).words

    assert verdict(run, choose(run)) == "Use step 80."
    assert words.index("Use step 80.") < words.index("Checks") < words.index("How it was made")


def test_nothing_is_asked_of_any_network_and_nothing_runs(page: str) -> None:
    tags = Page(page).tags

    assert {tag for tag, _ in tags}.isdisjoint({"script", "iframe", "object", "form", "a"})
    for tag, attributes in tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), tag
            if name in ("src", "href"):
                assert value is not None and value.startswith("data:")
    assert "default-src 'none'" in page
    assert re.findall(r"url\(|@import", page) == []


def test_what_a_user_wrote_is_shown_as_he_wrote_it(page: str) -> None:
    assert "<script" not in page and '<img src="http' not in page
    assert Page(page).words.count('<script>alert("x")</script>') >= 8


def test_metadata_of_pictures_does_not_go_along(run: Results, pictures: dict[str, bytes]) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "/home/ada/secret")
    path = run.base.samples[0].path
    named = png(np.asarray(Image.open(io.BytesIO(pictures[path]))), pnginfo=info)

    page = report_page(run, choose(run), pictures={**pictures, path: named}, title="t")

    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", page)]
    assert len(embedded) > 10
    assert b"secret" in named and not any(b"secret" in data for data in embedded)


def test_large_pictures_are_made_small(run: Results, pictures: dict[str, bytes], draw: Callable[..., Picture]) -> None:
    large = png(np.asarray(Image.fromarray(draw(1)).resize((500, 300))))
    page = report_page(run, choose(run), pictures={path: large for path in pictures}, title="t")

    widths = [int(attributes["width"] or 0) for tag, attributes in Page(page).tags if tag == "img"]
    assert widths and max(widths) == 256


def test_a_picture_that_is_missing_or_broken_is_said_to_be(run: Results, pictures: dict[str, bytes]) -> None:
    missing, broken = run.base.samples[0].path, run.base.samples[1].path
    kept = {path: data for path, data in pictures.items() if path != missing} | {broken: b"no picture"}

    words = Page(report_page(run, choose(run), pictures=kept, title="t")).words

    assert "picture missing" in words and "picture cannot be read" in words


def test_a_suspected_copy_stands_beside_its_original_and_once(page: str) -> None:
    words = Page(page).words

    assert words.count("suspected copy") == 1
    assert "step 80, copy?" in words


def test_real_pictures_stand_in_the_row_of_their_caption_or_below(page: str) -> None:
    words = Page(page).words

    assert words.count("real, held out") == 1
    assert "a hill" in words


def test_a_run_without_advice_says_so_and_still_shows_everything(run: Results, pictures: dict[str, bytes]) -> None:
    choice = Choice(None, ("No checkpoint can be recommended.", "Step 40: nothing was learnt."))

    words = Page(report_page(run, choice, pictures=pictures, title="t")).words

    assert "No checkpoint to recommend." in words and "Step 40: nothing was learnt." in words
    assert "Use step" not in words and "Samples" in words


def test_without_held_out_pictures_the_advice_is_only_to_try(run: Results, pictures: dict[str, bytes]) -> None:
    blind = replace(
        run,
        checkpoints=tuple(replace(one, held_out=None, training=None) for one in run.checkpoints),
        held_out=(),
        not_measured={"Held-out loss": "Only 4 pictures, so none was held out."},
    )

    words = Page(report_page(blind, choose(blind), pictures=pictures, title="t")).words

    assert "Try step 80 first." in words
    assert "Held-out loss: not measured. Only 4 pictures, so none was held out." in words


def test_results_with_nothing_in_them_make_a_page() -> None:
    nothing = Results(BaseResult("pocket"), ())

    assert "No checkpoint to recommend." in Page(report_page(nothing, choose(nothing), pictures={}, title="t")).words


def test_equal_results_make_equal_pages(run: Results, pictures: dict[str, bytes]) -> None:
    first, second = (report_page(run, choose(run), pictures=pictures, title="t") for _ in range(2))

    assert first == second
