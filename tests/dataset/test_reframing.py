"""Resizing, cropping, mirroring, renaming: masks follow, originals are kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.paintings import clouds
from velatura.dataset import borders, journal, masking, masks, origin, pool, reframing
from velatura.dataset.framing import Target, frame
from velatura.dataset.images import open_image
from velatura.dataset.reframing import Options, reframe
from velatura.dataset.renaming import recode, rename
from velatura.dataset.saliency import focus_of
from velatura.dataset.scan import scan
from velatura.errors import DatasetError, FileProblem
from velatura.events import Done, Note


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "set"
    (made / "masks").mkdir(parents=True)
    for seed, size in enumerate([(200, 100), (90, 160), (64, 64)], start=1):
        clouds(seed, size).save(made / f"p{seed}.png")
        (made / f"p{seed}.txt").write_text(f"caption {seed}", encoding="utf-8")
    # the mask is the picture's own lightness, so that whether it follows can be seen
    clouds(1, (200, 100)).convert("L").save(made / "masks" / "p1.png")
    return made


def run(folder: Path, options: Options, **how: object) -> dict[str, object]:
    events = list(reframe(folder, options, told="test", **how))  # type: ignore[arg-type]
    assert isinstance(events[-1], Done)
    return events[-1].summary


def state(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and journal.FOLDER not in path.parts
    }


def mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {one.name: (one.width, one.height) for one in scan(folder).pictures}


def assert_the_mask_followed(folder: Path) -> None:
    picture = next(one for one in scan(folder).pictures if one.mask is not None)
    light = np.asarray(Image.open(picture.path).convert("L"), dtype=float)
    mask = np.asarray(Image.open(picture.mask), dtype=float)  # type: ignore[arg-type]
    assert mask.shape == light.shape
    assert np.abs(mask - light).mean() < 3
    assert np.abs(mask[:, ::-1] - light).mean() > 10


@pytest.mark.parametrize(
    ("size", "target", "box", "new"),
    [
        ((200, 100), Target(long_side=50), (0, 0, 200, 100), (50, 25)),
        ((200, 100), Target(cover=(50, 50)), (50, 0, 150, 100), (50, 50)),
        ((200, 100), Target(cover=(100, 25)), (0, 25, 200, 75), (100, 25)),
        ((200, 100), Target(long_side=400), (0, 0, 200, 100), (400, 200)),
        ((200, 100), Target(long_side=400, enlarge=False), (0, 0, 200, 100), (200, 100)),
        ((200, 100), Target(cover=(400, 400), enlarge=False), (50, 0, 150, 100), (100, 100)),
        ((200, 100), Target(box=(20, 10, 120, 60), long_side=50), (20, 10, 120, 60), (50, 25)),
    ],
)
def test_the_part_that_is_kept(
    size: tuple[int, int], target: Target, box: tuple[float, ...], new: tuple[int, int]
) -> None:
    found = frame(size, target)

    assert found.box == box and found.size == new


def test_a_crop_goes_to_its_focus_and_stays_inside() -> None:
    assert frame((200, 100), Target(cover=(50, 50)), focus=(190, 50)).box == (100, 0, 200, 100)
    assert frame((200, 100), Target(cover=(50, 50)), focus=(70, 50)).box == (20, 0, 120, 100)


def test_what_stands_out_is_kept_in_the_crop() -> None:
    picture = Image.new("RGB", (400, 100), (90, 120, 90))
    picture.paste((250, 40, 20), (320, 30, 360, 70))

    x, y = focus_of(picture, (100, 100))

    assert 300 <= x <= 370 and y == pytest.approx(50, abs=3)


@pytest.mark.parametrize(
    "target", [Target(long_side=80), Target(cover=(48, 64)), Target(box=(10, 5, 150, 90)), Target(mirror=True)]
)
def test_masks_follow_every_change_and_undo_brings_all_back(folder: Path, target: Target) -> None:
    before = state(folder)

    run(folder, Options(target))

    assert_the_mask_followed(folder)
    assert state(folder) != before
    journal.undo(folder)
    assert state(folder) == before


def test_resizing_again_changes_nothing(folder: Path) -> None:
    run(folder, Options(Target(long_side=80)))
    once = state(folder)

    assert run(folder, Options(Target(long_side=80)))["changed"] == 0
    assert state(folder) == once
    assert sizes(folder) == {"p1.png": (80, 40), "p2.png": (45, 80), "p3.png": (80, 80)}


def test_small_pictures_are_enlarged_by_a_model_first_and_large_ones_are_not(folder: Path) -> None:
    seen: list[tuple[int, int]] = []

    def four_times(image: Image.Image) -> Image.Image:
        seen.append(image.size)
        return image.resize((4 * image.width, 4 * image.height), Image.Resampling.NEAREST)

    before = open_image(folder / "p3.png")
    run(folder, Options(Target(long_side=128), enlarger=four_times), workers=4)

    assert seen == [(64, 64)]
    expected = before.resize((256, 256), Image.Resampling.NEAREST).resize((128, 128), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(open_image(folder / "p3.png")), np.asarray(expected))
    assert open_image(folder / "p1.png").size == (128, 64)


def test_enlarged_pictures_are_named(folder: Path) -> None:
    assert run(folder, Options(Target(long_side=128)))["enlarged"] == ["p3.png 2 times"]


def test_several_processes_make_what_one_makes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "FEW", 1)
    run(folder, Options(Target(long_side=80)))
    alone = state(folder)
    journal.undo(folder)

    run(folder, Options(Target(long_side=80)), workers=2)

    assert state(folder) == alone


def test_only_the_pictures_named_are_changed(folder: Path) -> None:
    run(folder, Options(Target(long_side=32)), names=["p2", "p3.png"])

    assert sizes(folder) == {"p1.png": (200, 100), "p2.png": (18, 32), "p3.png": (32, 32)}
    with pytest.raises(DatasetError, match="no picture p9"):
        run(folder, Options(Target(long_side=32)), names=["p9"])


def test_other_formats_become_png_and_the_caption_stays(folder: Path) -> None:
    clouds(5, (100, 60)).save(folder / "p4.tif")
    (folder / "p4.txt").write_text("four")
    clouds(6, (100, 60)).save(folder / "p5.bmp")
    clouds(7, (100, 60)).save(folder / "p5.png")
    before = state(folder)

    run(folder, Options(Target(long_side=80)))

    assert {"p4.png", "p5.png", "p5-bmp.png"} <= set(sizes(folder)) and not (folder / "p4.tif").exists()
    journal.undo(folder)
    assert state(folder) == before


def test_a_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path: Path) -> None:
    large = clouds(1, (2400, 1600))
    large.save(tmp_path / "a.jpg", quality=95)

    run(tmp_path, Options(Target(long_side=300), format="png"))

    wanted = np.asarray(large.resize((300, 200), Image.Resampling.LANCZOS), dtype=float)
    found = np.asarray(Image.open(tmp_path / "a.png"), dtype=float)
    assert np.sqrt(((found - wanted) ** 2).mean()) < 2


def test_transparency_becomes_the_mask_where_that_is_asked_for(tmp_path: Path) -> None:
    picture = clouds(1, (80, 60)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((80, 60)))
    picture.save(tmp_path / "a.png")

    run(tmp_path, Options(Target(long_side=40), alpha_as_mask=True))

    (one,) = scan(tmp_path).pictures
    assert one.mask is not None
    mask = masks.read(one.mask, (40, 30))
    assert mask.getpixel((20, 1)) < 15 and mask.getpixel((20, 28)) > 240
    assert mode(one.path) == "RGB"


def test_turned_cmyk_and_animated_pictures_come_out_as_they_are_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    exif[271] = "Camera"
    clouds(1, (80, 40)).save(tmp_path / "turned.jpg", exif=exif)
    clouds(2, (80, 40)).convert("CMYK").save(tmp_path / "print.jpg")
    frames = [clouds(seed, (80, 40)) for seed in (3, 4)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    clouds(5, (80, 40)).save(tmp_path / "sound.jpg")

    events = list(reframe(tmp_path, Options(strip=True), told="clean"))

    assert sizes(tmp_path)["turned.jpg"] == (40, 80)
    assert {mode(path) for path in tmp_path.glob("*.*") if path.is_file()} == {"RGB"}
    with Image.open(tmp_path / "turned.jpg") as turned:
        assert not turned.getexif()
    assert [event.text for event in events if isinstance(event, Note)] == [
        "moving.gif holds 2 frames; the first is taken"
    ]
    assert events[-1].summary["changed"] == 3  # type: ignore[union-attr]


def test_interrupted_it_goes_on_where_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(folder)
    events = reframe(folder, Options(Target(long_side=80)), told="resize")
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert journal.unfinished(folder) is not None
    assert "interrupted in an edit" in " ".join(map(str, scan(folder).problems))

    done: list[str] = []
    real = reframing.work
    monkeypatch.setattr(reframing, "work", lambda job: (done.append(job.entry.name), real(job))[1])
    again = list(reframe(folder, Options(Target(long_side=80)), told="resize"))

    assert done == ["p2.png", "p3.png"] and again[-1].summary["done before"] == 1  # type: ignore[union-attr]
    assert set(sizes(folder).values()) == {(80, 40), (45, 80), (80, 80)}
    journal.undo(folder)
    assert state(folder) == before


def test_a_broken_picture_is_named_and_the_rest_is_done(folder: Path) -> None:
    (folder / "p2.png").write_bytes((folder / "p2.png").read_bytes()[:2000])

    events = list(reframe(folder, Options(Target(long_side=32)), told="resize"))

    (note,) = [event.text for event in events if isinstance(event, Note)]
    assert note.startswith("p2.png stays as it is: ")
    assert events[-1].summary["changed"] == 2  # type: ignore[union-attr]


def test_a_disk_that_fills_up_half_way_is_no_fault_of_a_picture_and_all_is_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(folder)
    save, saved = reframing._save, list[Path]()

    def fills_up(image: Image.Image, path: Path, kind: str, quality: int) -> None:
        save(image, path, kind, quality)
        saved.append(path)
        if len(saved) == 3:
            raise FileProblem("the disk is full", where=path)

    monkeypatch.setattr(reframing, "_save", fills_up)
    with pytest.raises(FileProblem, match="the disk is full"):
        run(folder, Options(Target(cover=(48, 48))))

    assert state(folder) == before and journal.unfinished(folder) is None
    assert not saved[2].exists()


def test_pictures_are_numbered_with_their_captions_and_masks(folder: Path) -> None:
    before = state(folder)

    assert rename(folder) == {"p1.png": "01.png", "p2.png": "02.png", "p3.png": "03.png"}

    assert [(one.name, one.captions) for one in scan(folder).pictures] == [
        ("01.png", ("caption 1",)),
        ("02.png", ("caption 2",)),
        ("03.png", ("caption 3",)),
    ]
    assert_the_mask_followed(folder)
    journal.undo(folder)
    assert state(folder) == before


def test_what_gallery_dl_wrote_goes_with_its_picture(tmp_path: Path) -> None:
    for name, author in {"b": "Ann", "01": "Bo"}.items():
        clouds(ord(name[0]), (64, 48)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.png.json").write_text(json.dumps({"author": author}))
    (tmp_path / "c.json").write_text('{"author": "Cy"}')
    clouds(9, (64, 48)).save(tmp_path / "c.jpg")
    clouds(8, (64, 48)).save(tmp_path / "choice.png")
    (tmp_path / "choice.json").write_text('{"version": 1, "pictures": {"b.png": "keep"}}')
    whose = {path.read_bytes(): origin.read(path).author for path in pictures_in(tmp_path)}

    rename(tmp_path, prefix="x-")
    rename(tmp_path)

    assert {path.read_bytes(): origin.read(path).author for path in pictures_in(tmp_path)} == whose
    assert sorted(whose.values()) == ["", "Ann", "Bo", "Cy"]
    assert "keep" in (tmp_path / "choice.json").read_text()
    journal.undo(tmp_path)
    journal.undo(tmp_path)
    assert (tmp_path / "b.png.json").is_file() and (tmp_path / "c.json").is_file()


def pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))


def test_captions_are_recoded_and_that_can_be_undone(folder: Path) -> None:
    (folder / "p1.txt").write_bytes("größe".encode("utf-16"))
    before = state(folder)

    assert recode(folder) == ["p1.txt"]
    assert (folder / "p1.txt").read_bytes() == "größe".encode()
    journal.undo(folder)
    assert state(folder) == before


def test_bars_are_cut_away_and_plain_pictures_are_not(tmp_path: Path) -> None:
    framed = Image.new("RGB", (200, 160), (4, 4, 4))
    framed.paste(clouds(1, (200, 100)), (0, 30))
    framed.save(tmp_path / "bars.png")
    clouds(2, (200, 160)).save(tmp_path / "none.png")
    sky = Image.new("RGB", (200, 160), (200, 220, 250))
    sky.paste((90, 60, 40), (80, 100, 120, 160))
    sky.save(tmp_path / "sky.png")

    list(borders.crops(tmp_path))

    assert sizes(tmp_path) == {"bars.png": (200, 100), "none.png": (200, 160), "sky.png": (200, 160)}


def test_a_box_makes_a_mask_and_masks_can_be_removed(folder: Path) -> None:
    weights, without = masking.make(folder, masking.box((0.25, 0, 0.75, 1), outside=0), told="box")

    assert weights == {"p2.png": pytest.approx(0.5, abs=0.02), "p3.png": 0.5}
    assert without == {"p1.png": "has a mask already"}
    assert masking.remove(folder) == ["p1.png", "p2.png", "p3.png"]
    assert not any(one.mask for one in scan(folder).pictures)


def test_a_box_beyond_a_picture_or_of_less_than_a_pixel_masks_nothing(tmp_path: Path) -> None:
    clouds(1, (64, 48)).save(tmp_path / "small.png")
    clouds(2, (200, 150)).save(tmp_path / "large.png")
    clouds(3, (1, 1)).save(tmp_path / "dot.png")

    weights, without = masking.make(tmp_path, masking.box((100, 100, 150, 140)), told="box")
    assert set(weights) == {"large.png"}
    assert without["small.png"] == "is 64 x 48 pixels, of which the box holds none"

    weights, without = masking.make(tmp_path, masking.box((0, 0, 0.5, 0.5)), told="half", replace=True)
    assert set(weights) == {"small.png", "large.png"} and set(without) == {"dot.png"}


def test_a_subject_is_masked_by_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        """Stands in for onnxruntime's: it takes the left half for the subject."""

        def get_inputs(self) -> list[object]:
            return [type("Input", (), {"name": "image", "shape": [1, 3, 32, 48]})]

        def run(self, outputs: object, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert given["image"].shape == (1, 3, 32, 48) and abs(float(given["image"].mean())) < 3
            found = np.zeros((1, 1, 32, 48), np.float32)
            found[..., :24] = 0.9
            return [found]

    monkeypatch.setattr(masking, "_session", lambda model: Session())
    masking.make(folder, masking.subject(Path("u2net.onnx"), outside=51), told="subject", names=["p3"])

    mask = Image.open(folder / "masks" / "p3.png")
    assert mask.size == (64, 64) and mask.getpixel((5, 30)) == 255 and mask.getpixel((60, 30)) == 51


@pytest.mark.parametrize("shape", [(1, 2, 32, 48), (1, 32, 48), (3,), (1, 0, 0)])
def test_of_several_maps_the_first_counts_and_what_is_no_map_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    class Session:
        def get_inputs(self) -> list[object]:
            return [type("Input", (), {"name": "image", "shape": [1, 3, 32, 48]})]

        def run(self, outputs: object, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            found = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
            return [found]

    monkeypatch.setattr(masking, "_session", lambda model: Session())
    weights, without = masking.make(folder, masking.subject(Path("u2net.onnx")), told="subject", names=["p3"])

    assert set(weights) == ({"p3.png"} if len(shape) > 2 and 0 not in shape else set())
    assert set(without.values()) <= {"the model gives no map of the picture"}
