"""Any folder a person may have: what is readable is read, and everything else is said in a sentence."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.paintings import clouds
from velatura.dataset import authors, borders, captioned, masking, rights
from velatura.dataset.adding import add
from velatura.dataset.layout import natural_key
from velatura.dataset.reframing import Options, reframe
from velatura.dataset.renaming import rename
from velatura.dataset.scan import Dataset, scan
from velatura.errors import DatasetError

Paint = Callable[..., Path]


def names(dataset: Dataset) -> list[str]:
    return [picture.name for picture in dataset.pictures]


def problem(dataset: Dataset, name: str) -> str:
    found = [problem.what for problem in dataset.problems if problem.name == name]
    assert len(found) == 1, dataset.problems
    return found[0]


def test_pictures_come_with_their_captions_sizes_and_hashes(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1, size=(96, 64), caption="a red boat\nboat at sea")
    paint("02.jpg", 2, size=(64, 96))
    paint("03.webp", 3, caption="")

    dataset = scan(tmp_path)

    assert dataset.folder == tmp_path
    assert dataset.problems == ()
    assert [picture.captions for picture in dataset.pictures] == [("a red boat", "boat at sea"), None, ("",)]
    assert [(picture.width, picture.height) for picture in dataset.pictures][:2] == [(96, 64), (64, 96)]
    assert len({picture.sha256 for picture in dataset.pictures}) == 3


def test_names_are_in_the_order_a_person_counts(paint: Paint, tmp_path: Path) -> None:
    for number, name in enumerate(["10.png", "2.png", "1.png", "b2.png", "B10.png", "a.png"]):
        paint(name, number)

    assert names(scan(tmp_path)) == ["1.png", "2.png", "10.png", "a.png", "b2.png", "B10.png"]


def test_sorting_never_stumbles_over_odd_names() -> None:
    odd = ["", "1", "a", "1a", "a1", "²", "٣.png", "-1", "01", "１.png", "9" * 200]

    assert sorted(sorted(odd, key=natural_key), key=natural_key) == sorted(reversed(odd), key=natural_key)


def test_emoji_spaces_and_other_scripts_are_names_like_any_other(paint: Paint, tmp_path: Path) -> None:
    for number, name in enumerate(
        ["🎨 my cat.png", "港の夜.jpg", "лодка (2).png", "قارب.webp", "50% off #1 & more.png"]
    ):
        paint(name, number, caption=f"caption {number}")

    dataset = scan(tmp_path)

    assert dataset.problems == ()
    assert len(names(dataset)) == 5
    assert all(picture.captions for picture in dataset.pictures)


def test_a_name_is_the_same_however_its_accents_are_stored(paint: Paint, tmp_path: Path) -> None:
    paint(unicodedata.normalize("NFD", "café.png"))
    (tmp_path / unicodedata.normalize("NFC", "café.txt")).write_text("a cup")

    dataset = scan(tmp_path)

    assert names(dataset) == [unicodedata.normalize("NFC", "café.png")]
    assert dataset.pictures[0].captions == ("a cup",)
    assert dataset.pictures[0].path.exists()


def test_endings_count_without_regard_to_case(paint: Paint, tmp_path: Path) -> None:
    paint("01.png").rename(tmp_path / "01.PNG")
    (tmp_path / "01.TXT").write_text("a boat")

    assert scan(tmp_path).pictures[0].captions == ("a boat",)


def test_hidden_files_and_kept_originals_are_not_looked_at(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    paint(".originals/01.png", 2)
    (tmp_path / "._01.png").write_bytes(b"resource fork")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")

    dataset = scan(tmp_path)

    assert names(dataset) == ["01.png"]
    assert dataset.problems == ()


@pytest.mark.parametrize("captions", ["captions", "Captions", "images"])
def test_pictures_and_captions_may_lie_in_folders_of_their_own(paint: Paint, tmp_path: Path, captions: str) -> None:
    paint("images/01.png", 1)
    (tmp_path / captions).mkdir(exist_ok=True)
    (tmp_path / captions / "01.txt").write_text("a boat")
    (tmp_path / "README.txt").write_text("about this set")

    dataset = scan(tmp_path)

    assert [(picture.name, picture.captions) for picture in dataset.pictures] == [("01.png", ("a boat",))]
    assert dataset.problems == ()


def test_pictures_in_further_folders_are_reported(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    paint("10_mara woman/02.png", 2)
    paint("images/03.png", 3)
    (tmp_path / "notes").mkdir()

    dataset = scan(tmp_path)

    assert names(dataset) == ["01.png"]
    assert "not read" in problem(dataset, "10_mara woman/")
    assert "not read" in problem(dataset, "images/")
    assert len(dataset.problems) == 2


def test_dot_caption_is_read_and_dot_txt_goes_first(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1, caption="from txt")
    (tmp_path / "01.caption").write_text("from caption")
    paint("02.png", 2)
    (tmp_path / "02.caption").write_text("from caption")

    dataset = scan(tmp_path)

    assert [picture.captions for picture in dataset.pictures] == [("from txt",), ("from caption",)]
    assert "01.txt" in problem(dataset, "01.caption")


def test_two_pictures_with_one_caption_are_reported(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1, caption="a boat")
    paint("01.jpg", 2)

    dataset = scan(tmp_path)

    assert [picture.captions for picture in dataset.pictures] == [("a boat",), ("a boat",)]
    assert "share one caption, 01.txt" in problem(dataset, "01.jpg and 01.png")


def test_a_caption_without_a_picture_is_reported(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    (tmp_path / "o1.txt").write_text("a boat")

    assert problem(scan(tmp_path), "o1.txt") == "is a caption without a picture"


def test_a_guessed_encoding_is_reported(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    (tmp_path / "01.txt").write_bytes("café".encode("cp1252"))

    dataset = scan(tmp_path)

    assert dataset.pictures[0].captions == ("café",)
    assert "UTF-8" in problem(dataset, "01.txt")


def test_a_picture_whose_caption_cannot_be_read_is_left_out(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    paint("02.png", 2)
    (tmp_path / "02.txt").write_bytes(bytes(range(32)))

    dataset = scan(tmp_path)

    assert names(dataset) == ["01.png"]
    assert "left out: 02.txt: the caption is not text" in problem(dataset, "02.png")


def test_broken_files_are_problems_and_the_rest_is_read(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    cut = paint("02.jpg", 2, size=(256, 256))
    cut.write_bytes(cut.read_bytes()[:1500])
    (tmp_path / "03.png").write_bytes(b"")
    (tmp_path / "04.png").write_text("not a picture")
    (tmp_path / "05.psd").write_bytes(b"8BPS")

    dataset = scan(tmp_path)

    assert names(dataset) == ["01.png"]
    assert "cut off" in problem(dataset, "02.jpg")
    assert "empty" in problem(dataset, "03.png")
    assert "text" in problem(dataset, "04.png")
    assert "export it as PNG" in problem(dataset, "05.psd")
    assert all(problem.left_out for problem in dataset.problems)


def test_a_shallow_look_reads_headers_only(paint: Paint, tmp_path: Path) -> None:
    cut = paint("02.jpg", 2, size=(256, 256))
    cut.write_bytes(cut.read_bytes()[:1500])

    assert scan(tmp_path, deep=False).pictures[0].width == 256
    with pytest.raises(DatasetError, match="cut off"):
        scan(tmp_path)


def test_the_size_is_that_of_the_upright_picture(paint: Paint, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 8
    paint("01.jpg", 1, size=(96, 64), exif=tags)

    picture = scan(tmp_path).pictures[0]

    assert (picture.width, picture.height) == (64, 96)


def test_the_same_file_twice_is_reported(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    paint("02.png", 1)

    assert problem(scan(tmp_path), "02.png") == "is the same file as 01.png"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_out_of_the_folder_is_not_followed(paint: Paint, tmp_path: Path) -> None:
    secret = paint("elsewhere/secret.png", 1)
    (tmp_path / "elsewhere" / "secret.txt").write_text("private")
    paint("set/01.png", 2)
    folder = tmp_path / "set"
    (folder / "02.png").symlink_to(secret)
    (folder / "01.txt").symlink_to(tmp_path / "elsewhere" / "secret.txt")
    (folder / "03.png").symlink_to(folder / "01.png")
    (folder / "04.png").symlink_to(folder / "gone.png")
    (folder / "05.png").symlink_to(folder / "05.png")

    dataset = scan(folder)

    assert names(dataset) == ["01.png", "03.png"]
    assert dataset.pictures[0].captions is None
    assert "link out of the folder" in problem(dataset, "02.png")
    assert "link out of the folder" in problem(dataset, "01.txt")
    assert "leads nowhere" in problem(dataset, "04.png")
    assert "leads nowhere" in problem(dataset, "05.png")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_linked_images_folder_elsewhere_is_not_followed_and_a_linked_dataset_is(paint: Paint, tmp_path: Path) -> None:
    paint("elsewhere/01.png", 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "shortcut").symlink_to(tmp_path / "elsewhere")

    assert names(scan(tmp_path / "shortcut")) == ["01.png"]
    with pytest.raises(DatasetError, match="link out of the folder"):
        scan(tmp_path / "set")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_text_is_reported(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    path = paint("02.png", 2)
    os.rename(os.fsencode(path), os.fsencode(tmp_path) + b"/caf\xe9.png")  # noqa: PTH104

    dataset = scan(tmp_path)

    assert names(dataset) == ["01.png"]
    assert "rename it" in problem(dataset, "caf\N{REPLACEMENT CHARACTER}.png")
    str(dataset.problems[0]).encode()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(paint: Paint, tmp_path: Path) -> None:
    paint("01.png", 1)
    os.mkfifo(tmp_path / "02.png")

    assert names(scan(tmp_path)) == ["01.png"]


def test_missing_empty_and_mistaken_folders_each_say_what_to_do(paint: Paint, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds no pictures.*put PNG"):
        scan(tmp_path)
    with pytest.raises(DatasetError, match="a file, not a folder"):
        scan(paint("inner/a.png"))
    with pytest.raises(DatasetError, match="inner/ is a folder of its own"):
        scan(tmp_path)


def test_a_project_is_not_taken_for_its_dataset(paint: Paint, tmp_path: Path) -> None:
    paint("dataset/01.png", 1)
    paint("images/painted.png", 2)
    (tmp_path / "recipe.toml").write_text("")

    with pytest.raises(DatasetError, match="a project") as caught:
        scan(tmp_path)
    assert str(tmp_path / "dataset") in str(caught.value.fix)


def test_a_folder_of_broken_files_names_some_of_them(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"")

    with pytest.raises(DatasetError, match=r"no picture that can be read: 0\.png is left out.*empty.*\.\.\."):
        scan(tmp_path)


def test_a_closed_folder_is_said_to_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)

    with pytest.raises(DatasetError, match="Permission denied"):
        scan(tmp_path)


@pytest.mark.parametrize(
    "work",
    [
        lambda folder: list(reframe(folder, Options(), told="x")),
        lambda folder: list(borders.crops(folder)),
        rename,
        lambda folder: masking.make(folder, masking.alpha(), told="x"),
        captioned.read,
        scan,
    ],
    ids=["resize", "crop", "rename", "mask", "captions", "scan"],
)
def test_nothing_is_done_to_a_folder_without_pictures_and_it_is_said_why(
    tmp_path: Path, work: Callable[[Path], object]
) -> None:
    with pytest.raises(DatasetError, match="the folder holds no pictures"):
        work(tmp_path)

    (tmp_path / "inner").mkdir()
    clouds(1, (64, 48)).save(tmp_path / "inner" / "a.png")
    with pytest.raises(DatasetError, match="inner/ is a folder of its own; the pictures in it are not read"):
        work(tmp_path)
    assert not (tmp_path / ".originals").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.csv", "file_name,text\na.png," + "x" * 200_000),
        ("metadata.jsonl", "[" * 100_000),
        ("rights.toml", "a = " + "[" * 100_000),
        ("choice.json", "[" * 100_000),
        ("authors.json", "[" * 100_000),
        ("a.png.json", "[" * 100_000),
        ("a.json", '{"author": ' + "[" * 100_000),
    ],
)
def test_files_beside_the_pictures_that_are_nested_or_long_beyond_reason_are_one_sentence(
    tmp_path: Path, name: str, text: str
) -> None:
    clouds(1, (64, 48)).save(tmp_path / "a.png")
    (tmp_path / name).write_text(text)

    with contextlib.suppress(DatasetError):
        assert add([tmp_path], tmp_path / "set").names == ("a.png",)
    with contextlib.suppress(DatasetError):
        scan(tmp_path)
    with contextlib.suppress(DatasetError):
        rights.load(tmp_path)
    with contextlib.suppress(DatasetError):
        authors.load(tmp_path)
