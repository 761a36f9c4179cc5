"""What a check finds on pictures and captions, and what it leaves alone."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from tests.paintings import clouds
from velatura import lettering
from velatura.dataset import alike, rights, survey, wording
from velatura.dataset.checks import Wanted, check
from velatura.dataset.findings import Finding
from velatura.dataset.measures import measure, writing
from velatura.dataset.scan import Picture
from velatura.dataset.sheet import html_sheet, label, marks, numbered, png_sheet, with_lost, words
from velatura.dataset.survey import Surveying
from velatura.dataset.wording import Told
from velatura.randomness import generator

SIZE = (480, 360)


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with sharp edges, smooth parts and texture, as a camera or a pen makes it."""
    stream = generator(seed, "scene")
    picture = Image.new("RGB", (size[0] * 2, size[1] * 2))
    draw = ImageDraw.Draw(picture)
    top, bottom = (tuple(int(part) for part in stream.integers(60, 200, 3)) for _ in range(2))
    for row in range(picture.height):
        share = row / picture.height
        draw.line(
            (0, row, picture.width, row), tuple(int(a + (b - a) * share) for a, b in zip(top, bottom, strict=True))
        )
    for _ in range(60):
        x, y = (int(stream.integers(side)) for side in picture.size)
        side = int(stream.integers(10, 160))
        colour = tuple(int(part) for part in stream.integers(0, 256, 3))
        kind = draw.ellipse if stream.random() < 0.5 else draw.rectangle
        kind((x, y, x + side, y + int(side * (0.4 + stream.random()))), colour)
    return picture.resize(size, Image.Resampling.LANCZOS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "set"
    made.mkdir()
    for seed in range(1, 11):
        scene(seed).save(made / f"s{seed:02d}.png")
        (made / f"s{seed:02d}.txt").write_text(f"inkhand, a heap of boxes number {seed}", encoding="utf-8")
    (made / rights.FILE).write_text('[all]\nauthor = "me"\nsource = "drawn for this"\nlicence = "CC0"\n')
    return made


def found(folder: Path, **wanted: object) -> list[Finding]:
    return check(survey.survey(folder), Wanted(**wanted))  # type: ignore[arg-type]


def kinds(findings: list[Finding]) -> dict[str, tuple[str, ...]]:
    """Kind -> names, without what every set is told."""
    return {one.kind: one.names for one in findings if one.kind != "variety"}


def test_nothing_is_found_on_a_sound_set(folder: Path) -> None:
    told = Told("inkhand", len, 1000)

    assert kinds(found(folder, side=256, kind="style", told=told)) == {"few": ()}


def enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize((SIZE[0] // 3, SIZE[1] // 3), Image.Resampling.LANCZOS).resize(SIZE, Image.Resampling.BICUBIC)


def shaken(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture, dtype=float)
    return Image.fromarray((sum(np.roll(pixels, shift, 1) for shift in range(15)) / 15).astype(np.uint8))


def noisy(picture: Image.Image) -> Image.Image:
    pixels = np.asarray(picture, dtype=float)
    return Image.fromarray((pixels + generator(0, "noise").normal(0, 20, pixels.shape)).clip(0, 255).astype(np.uint8))


def barred(picture: Image.Image) -> Image.Image:
    framed = Image.new("RGB", SIZE, (3, 3, 3))
    framed.paste(picture.resize((SIZE[0], SIZE[1] - 100)), (0, 50))
    return framed


def written(picture: Image.Image) -> Image.Image:
    calm = picture.filter(ImageFilter.GaussianBlur(9)).resize((960, 720))
    calm.paste(picture, (0, 0))
    ImageDraw.Draw(calm).text((560, 660), "Some Photographer", "white", ImageFont.load_default(34))
    return calm


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [(enlarged, "soft"), (shaken, "moved"), (noisy, "noise"), (barred, "borders"), (written, "text")],
)
def test_a_spoilt_picture_is_found_and_no_other(
    folder: Path, spoil: Callable[[Image.Image], Image.Image], kind: str
) -> None:
    spoil(scene(77)).save(folder / "spoilt.png")
    (folder / "spoilt.txt").write_text("inkhand, spoilt")

    assert kinds(found(folder)).get(kind) == ("spoilt.png",)


@pytest.mark.parametrize("ink", ["white", "black"])
@pytest.mark.parametrize("height", [28, 40, 60])
def test_a_signature_on_a_photograph_is_found_where_it_stands(ink: str, height: int) -> None:
    stream = generator(1, "grain")
    photograph = clouds(2, (1600, 1200)).filter(ImageFilter.GaussianBlur(3))
    grain = stream.normal(0, 4, (1200, 1600, 1))
    photograph = Image.fromarray((np.asarray(photograph) + grain).clip(0, 255).astype(np.uint8))
    assert writing(photograph) is None

    left, top = 1600 - 6 * height - 30, 1200 - height - 30
    ImageDraw.Draw(photograph).text((left, top), "Jane Doe", ink, ImageFont.load_default(height))

    found = writing(photograph)
    assert found is not None
    assert found[0] * 1600 >= left - 40 and found[1] * 1200 >= top - 40


def fence(draw: ImageDraw.ImageDraw, row: int) -> None:
    """Pickets before a meadow: strokes in a line, but no ground of theirs."""
    for x in range(300, 700, 16):
        draw.rectangle((x, row, x + 9, row + 24), (90, 60, 40))
        draw.rectangle((x + 10, row, x + 15, row + 24), (240, 230, 220))


def test_strokes_in_a_line_that_stand_on_no_ground_are_no_writing() -> None:
    drawing = Image.new("RGB", (1024, 768), (150, 190, 220))
    fence(ImageDraw.Draw(drawing), 500)

    assert writing(drawing) is None


def test_blocks_of_jpeg_are_found_even_in_a_png(folder: Path) -> None:
    scene(77).save(folder / "low.jpg", quality=8)
    with Image.open(folder / "low.jpg") as low:
        low.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(folder / "kept.png")

    assert set(kinds(found(folder))["blocks"]) == {"low.jpg", "kept.png"}


def test_what_is_out_of_focus_on_purpose_is_no_fault() -> None:
    picture = scene(3).filter(ImageFilter.GaussianBlur(2))
    picture.paste(scene(4).crop((100, 100, 260, 220)), (150, 120))

    assert measure(picture, native=True).sharpness > 0.5  # type: ignore[operator]
    assert measure(scene(3).filter(ImageFilter.GaussianBlur(2)), native=True).sharpness < 0.42  # type: ignore[operator]


@pytest.mark.parametrize("share", [0.38, 0.43, 0.5, 0.61, 0.69, 0.76, 0.84, 0.91])
def test_a_part_of_any_size_is_found(tmp_path: Path, share: float) -> None:
    missed = []
    for seed in range(6):
        whole, other = scene(seed, (640, 480)), scene(seed + 50, (640, 480))
        width, height = int(640 * share), int(480 * share)
        left, top = int((640 - width) * seed / 5), int((480 - height) * (5 - seed) / 5)
        part = whole.crop((left, top, left + width, top + height)).resize((640, 480))
        small = [
            np.asarray(one.convert("L").resize((72, 54), Image.Resampling.BOX), np.float32)
            for one in (part, whole, other)
        ]
        missed += [] if alike._is_part(small[0], small[1]) else [seed]
        assert not alike._is_part(small[0], small[2])
    assert not missed


def test_a_part_with_bars_around_it_is_found(folder: Path) -> None:
    part = scene(5).crop((60, 40, 380, 290)).resize((480, 375))
    framed = Image.new("RGB", (480, 495), (3, 3, 3))
    framed.paste(part, (0, 60))
    framed.save(folder / "screenshot.png")

    assert [one.names for one in found(folder) if one.kind == "crop"] == [("screenshot.png",)]


def test_copies_are_grouped_and_the_best_is_kept(folder: Path) -> None:
    (folder / "same.png").write_bytes((folder / "s01.png").read_bytes())
    ImageOps.mirror(scene(2)).resize((320, 240)).save(folder / "mirrored.jpg", quality=85)

    findings = [one for one in found(folder) if one.kind in ("same file", "duplicates")]

    assert {(one.kind, frozenset(one.names)) for one in findings} == {
        ("same file", frozenset({"s01.png", "same.png"})),
        ("duplicates", frozenset({"s02.png", "mirrored.jpg"})),
    }
    assert {one.fix.split()[-1] for one in findings} == {"same.png", "mirrored.jpg"}
    assert all(one.why for one in findings)


def test_variety_is_the_mean_of_all_pairs_without_a_table_of_them(folder: Path) -> None:
    measures = [one.measures for one in survey.survey(folder).pictures]
    layout = np.array([one.layout for one in measures])
    unlike = ~np.eye(len(measures), dtype=bool)
    overlap = alike.palette_overlap(alike.palettes(measures))[unlike].mean()
    agreement = (layout @ layout.T / layout.shape[1])[unlike].mean()

    found = alike.diversity(measures)
    assert (found.palette, found.composition) == (round(1 - overlap, 3), round(min(1, 1 - agreement), 3))
    tracemalloc.start()
    alike.diversity(measures * (3000 // len(measures)))
    assert tracemalloc.get_traced_memory()[1] < 30e6  # one table of 3000 by 3000 would be 36 MB
    tracemalloc.stop()


def test_of_a_soft_picture_and_its_enlarged_copy_the_copy_is_to_go(folder: Path) -> None:
    soft = scene(5).filter(ImageFilter.GaussianBlur(2))
    soft.save(folder / "s05.png")
    soft.resize((960, 720), Image.Resampling.BICUBIC).save(folder / "web.png")

    [copies] = [one for one in found(folder) if one.kind == "duplicates"]
    assert set(copies.names) == {"s05.png", "web.png"} and copies.fix.endswith("web.png")


def test_that_crops_are_not_looked_for_among_very_many_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "CROP_MOST", 3)
    [said] = [one for one in found(folder) if one.kind.startswith("crop")]
    assert said.level == "note" and "3 pictures at most" in said.what and "pick" in said.fix


def test_a_part_of_another_picture_is_found(folder: Path) -> None:
    scene(5).crop((60, 40, 380, 290)).save(folder / "part.png")

    crops = [one for one in found(folder) if one.kind == "crop"]

    assert [(one.names, one.what) for one in crops] == [(("part.png",), "cut out of s05.png")]


def test_of_copies_the_best_stands_for_what_a_part_was_cut_out_of(folder: Path) -> None:
    scene(5).crop((60, 40, 380, 290)).save(folder / "part.png")
    scene(5).resize((320, 240)).save(folder / "s05 small.png")
    scene(5).save(folder / "s05 worse.jpg", quality=30)

    crops = [one for one in found(folder) if one.kind == "crop"]
    assert [(one.names, one.what) for one in crops] == [(("part.png",), "cut out of s05.png")]


def test_of_two_that_could_be_cut_out_of_each_other_one_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "crops", lambda pictures, measures, known: [(1, 2), (2, 1)])

    crops = [one for one in found(folder) if one.kind == "crop"]
    assert len(crops) == 1, "who rejects what is told keeps one of them"


def test_small_pictures_are_found_against_the_training_area(folder: Path) -> None:
    assert "small" not in kinds(found(folder, side=256))
    assert len(kinds(found(folder, side=1024))["small"]) == 10


def test_a_picture_of_another_style_stands_out(folder: Path) -> None:
    plain = Image.new("RGB", SIZE, (240, 238, 230))
    ImageDraw.Draw(plain).line([(40, 300), (200, 60), (300, 280), (440, 80)], (30, 30, 30), 3)
    plain.save(folder / "pencil.png")

    assert kinds(found(folder, kind="style"))["style"] == ("pencil.png",)
    assert "style" not in kinds(found(folder, kind="character"))


def test_pictures_all_alike_are_told_and_measured() -> None:
    alike_set = [measure(scene(1).resize((300 + 10 * n, 240)), native=True) for n in range(6)]
    unlike = [measure(scene(seed), native=True) for seed in range(6)]

    assert alike.diversity(alike_set).composition < 0.1 < 0.5 < alike.diversity(unlike).composition
    assert alike.diversity(alike_set).palette < 0.1 < alike.diversity(unlike).palette


def test_files_that_cannot_be_read_are_errors(folder: Path) -> None:
    (folder / "cut.png").write_bytes((folder / "s01.png").read_bytes()[:3000])

    first = found(folder)[0]

    assert (first.kind, first.level, first.names) == ("unreadable", "error", ("cut.png",))


def test_what_was_read_is_kept_and_only_what_changed_is_read_again(folder: Path, tmp_path: Path) -> None:
    def read(monkey: list[str]) -> survey.Survey:
        work = Surveying(folder, cache=tmp_path / "cache")
        events = list(work)
        monkey.append(str(events[0]))
        assert work.result is not None
        return work.result

    steps: list[str] = []
    first = read(steps)
    (folder / "s01.txt").write_text("another caption")
    scene(99).save(folder / "s02.png")
    second = read(steps)

    assert "done=0, total=10" in steps[0] and "done=9, total=10" in steps[1]
    assert first.pictures[2:] == second.pictures[2:]
    assert second.pictures[0].picture.captions == ("another caption",)
    assert second.pictures[1].measures != first.pictures[1].measures


def test_an_interrupted_survey_goes_on(folder: Path, tmp_path: Path) -> None:
    events = iter(Surveying(folder, cache=tmp_path / "cache"))
    for _ in range(5):
        next(events)
    events.close()  # type: ignore[attr-defined]

    assert "done=4" in str(next(iter(Surveying(folder, cache=tmp_path / "cache"))))


def test_sheets_show_every_picture(folder: Path) -> None:
    scene(77).save(folder / "<b>.png")
    known = survey.survey(folder)
    findings = check(known, Wanted())
    pictures = known.dataset.pictures

    page = html_sheet(pictures, findings, title="<set>")
    assert page.count("<figure>") == 11 and "&lt;b&gt;.png" in page and "<b>.png" not in page
    marked = png_sheet(pictures, {"s01.png": [("error", "soft")]}, title="t", columns=4)
    plain = png_sheet(pictures, {}, title="t", columns=4)
    assert marked.width == plain.width and marked.height > plain.height


def test_names_in_letters_that_no_typeface_has_stand_on_sheets_as_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lettering, "FILES", ())
    (folder / "s02.png").rename(folder / "s02 кошка.png")
    shown = survey.survey(folder).dataset.pictures

    assert numbered(shown) == {"s02 кошка.png": 2}
    assert label("s02 кошка.png", numbered(shown)) == "2. s02 кошка.png"
    assert label("s03.png", numbered(shown)) == "s03.png"
    assert png_sheet(shown, {}, title="été").size[0] > 0


def test_a_mark_stands_once_on_a_picture_and_groups_of_one_kind_are_told_apart(folder: Path) -> None:
    scene(1).save(folder / "again.png")
    scene(2).save(folder / "twice.jpg", quality=90)
    (folder / "cut off.png").write_bytes((folder / "s03.png").read_bytes()[:3000])
    known = survey.survey(folder)
    findings = check(known, Wanted())

    marked = marks(findings, len(known.pictures))
    told = {name: [word for _, word in listed] for name, listed in marked.items()}
    assert (told["again.png"], told["s01.png"]) == (["same file", "no caption"], ["same file"])
    assert all("duplicates" in told[name] for name in ("twice.jpg", "s02.png"))
    same = [Finding("duplicates", "warning", names, "", "", "") for names in (("1", "2"), ("3", "4"), ("1", "1"))]
    assert words(same) == ["duplicates 1", "duplicates 2", "duplicates 3"]
    assert marks(same, 9)["1"] == [("warning", "duplicates 1"), ("warning", "duplicates 3")]
    assert told["cut off.png"] == ["unreadable"]
    assert [one.name for one in with_lost(known.dataset)][-1] == "cut off.png"
    assert html_sheet(with_lost(known.dataset), findings, title="set").count("<i>cannot be read</i>") == 1


# captions


def pictures(*captions: str | None) -> list[Picture]:
    told = [None if text is None else (text,) for text in captions]
    return [Picture(f"{place:02d}.png", Path(), "", 1, 1, text) for place, text in enumerate(told, start=1)]


def said(*captions: str | None, kind: str = "", **told: object) -> dict[str, Finding]:
    return {one.kind: one for one in wording.check(pictures(*captions), Told(**told), kind=kind)}  # type: ignore[arg-type]


def test_missing_and_empty_captions_are_told_apart() -> None:
    told = said("a boat", None, "", trigger="inkhand")

    assert told["no caption"].names == ("02.png",)
    assert told["empty caption"].names == ("03.png",)
    assert "trigger alone, inkhand" in said(None, None, trigger="inkhand")["no caption"].why


def test_the_trigger_stands_in_all_captions_or_none_and_first() -> None:
    told = said("inkhand, a boat", "a house", "a red house in the far hills, inkhand", trigger="inkhand")

    assert told["trigger missing"].names == ("02.png",) and told["trigger late"].names == ("03.png",)
    assert said("a boat", "a house", trigger="inkhand") == {}
    assert said("a photo of inkhand", trigger="inkhand") == {}
    assert said("tree, inkhand, sea", "inkhand, sea", trigger="inkhand")["trigger late"].names == ("01.png",)


def test_a_trigger_that_means_something_is_told() -> None:
    def count(text: str) -> int:
        return 1 if text in ("dragon", "red") else 3

    assert "trigger common" in said("a", "b", trigger="red woman", count_tokens=count, token_limit=75)
    assert "trigger known" in said("a", "b", trigger="dragon", count_tokens=count, token_limit=75)
    assert said("a", "b", trigger="ohwxil", count_tokens=count, token_limit=75) == {}


def test_captions_over_the_limit_are_counted_with_the_trigger() -> None:
    told = said("one two three", "one", trigger="t", count_tokens=lambda text: len(text.split()), token_limit=3)

    assert told["long caption"].names == ("01.png",) and "has 4" in told["long caption"].what


def test_one_thing_under_two_names_is_told() -> None:
    told = said("a grey woman outside", "a gray lady", "a gray lady outdoors", "a watercolour sheet", "watercolor")

    assert "wording" in told
    words = pictures("a grey woman", "a gray lady", "a gray lady", "umbrellas", "an umbrella", "umbrella")
    wordings = [one.what for one in wording.check(words, Told()) if one.kind == "wording"]
    assert sorted(wordings) == [
        "grey (1) and gray (2) mean the same",
        "umbrella (2) and umbrellas (1) differ in spelling alone",
        "woman (1) and lady (2) mean the same",
    ]


def test_tags_on_all_pictures_and_leftovers_are_told() -> None:
    sets = [f"inkhand, 1girl, masterpiece, thing{place}, other{place}" for place in range(6)]

    told = said(*sets, trigger="inkhand", kind="character")

    assert "1girl" in told["on all"].what and "inkhand" not in told["on all"].what
    assert "masterpiece" in told["leftovers"].what


def test_words_that_the_trigger_should_take_in_depend_on_the_kind() -> None:
    texts = ("watercolor, a boat, sea", "watercolor, a house, hill", "watercolor, a cat, wall")

    assert "watercolor" in said(*texts, kind="style")["named"].what
    assert "named" not in said(*texts, kind="character")


def test_findings_are_plain_values(folder: Path) -> None:
    for one in found(folder):
        assert json.loads(json.dumps(one.to_dict()))["kind"] == one.kind
