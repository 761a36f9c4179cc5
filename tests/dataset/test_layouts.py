"""Every layout is read, added to a plain one, and written again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.paintings import clouds
from velatura.dataset import authors, captioned, journal
from velatura.dataset.adding import add
from velatura.dataset.exporting import KINDS, export, left_out
from velatura.dataset.kohya import read_toml
from velatura.dataset.rights import Record, Rights, load
from velatura.dataset.scan import scan
from velatura.errors import DatasetError, FileProblem
from velatura.files import make_folder

CAPTIONS = {1: "a red boat", 2: "größer als 山", 3: None}
Told = dict[str, tuple[str, ...] | None]


def picture(path: Path, seed: int, caption: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    clouds(seed, (96, 64)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def told(folder: Path) -> Told:
    return {one.name: one.captions for one in scan(folder).pictures}


def plain(folder: Path) -> Path:
    for seed, caption in CAPTIONS.items():
        picture(folder / f"{seed:02d}.png", seed, caption)
    return folder


def folders(folder: Path) -> Path:
    for seed, caption in CAPTIONS.items():
        picture(folder / "images" / f"{seed:02d}.png", seed)
        if caption is not None:
            (folder / "captions").mkdir(exist_ok=True)
            (folder / "captions" / f"{seed:02d}.txt").write_text(caption, encoding="utf-8")
    (folder / "config.json").write_text("{}")
    return folder


def kohya(folder: Path) -> Path:
    for seed, caption in CAPTIONS.items():
        picture(folder / "10_mara woman" / f"{seed:02d}.png", seed, caption)
    picture(folder / "reg" / "1_woman" / "r.png", 9, "a woman")
    return folder


def imagefolder(folder: Path) -> Path:
    lines = []
    for seed, caption in CAPTIONS.items():
        picture(folder / "train" / f"{seed:02d}.png", seed)
        row = {"file_name": f"{seed:02d}.png"} | ({} if caption is None else {"text": caption})
        lines.append(json.dumps(row))
    (folder / "train" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def in_a_zip(folder: Path) -> Path:
    plain(folder / "set")
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for path in sorted((folder / "set").iterdir()):
            archive.write(path, f"mara/{path.name}")
        archive.writestr("__MACOSX/mara/._01.png", b"junk")
    return folder / "set.zip"


def toml(folder: Path) -> Path:
    for seed, caption in CAPTIONS.items():
        path = picture(folder / "pictures" / f"{seed:02d}.png", seed)
        if caption is not None:
            path.with_suffix(".caption").write_text(caption, encoding="utf-8")
            path.with_suffix(".txt").write_text("not this one", encoding="utf-8")
    text = '[general]\n[[datasets]]\n[[datasets.subsets]]\nimage_dir = "pictures"\nclass_tokens = "mara woman"\n'
    (folder / "set.toml").write_text(text)
    return folder / "set.toml"


@pytest.mark.parametrize("layout", [plain, folders, kohya, imagefolder, in_a_zip, toml])
def test_a_set_of_any_layout_is_added_with_its_captions(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    source = layout(tmp_path / "source")
    before = {path: path.read_bytes() for path in (tmp_path / "source").rglob("*") if path.is_file()}

    added = add([source], tmp_path / "set")

    class_words = ("mara woman",) if layout in (kohya, toml) else None
    assert told(tmp_path / "set") == {"01.png": ("a red boat",), "02.png": ("größer als 山",), "03.png": class_words}
    assert added.names == ("01.png", "02.png", "03.png")
    after = {path: path.read_bytes() for path in (tmp_path / "source").rglob("*") if path.is_file()}
    assert after == before
    if layout is kohya:
        assert added.regularisation == 1 and (tmp_path / "set" / "reg" / "r.png").exists()


@pytest.mark.parametrize("layout", [plain, folders, kohya, imagefolder])
def test_a_set_of_any_layout_is_read_where_it_lies(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = layout(tmp_path / "source")

    captions = [one.captions for one in scan(folder).pictures]

    assert captions == [("a red boat",), ("größer als 山",), ("mara woman",) if layout is kohya else None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_reads_as_it_was(kind: str, tmp_path: Path) -> None:
    source = scan(plain(tmp_path / "source"))
    target = tmp_path / ("out.zip" if kind == "civitai" else "out")

    assert export(source, target, kind, words="mara woman", repeats=4) == 3  # type: ignore[arg-type]

    add([target / "dataset.toml" if kind == "toml" else target], tmp_path / "again")
    again = scan(tmp_path / "again")
    assert [one.sha256 for one in again.pictures] == [one.sha256 for one in source.pictures]
    last = {"kohya": ("mara woman",), "toml": ("mara woman",)}.get(kind)
    assert [one.captions for one in again.pictures] == [("a red boat",), ("größer als 山",), last]


@pytest.mark.parametrize("kind", KINDS)
def test_rights_go_along_and_what_cannot_is_said(kind: str, tmp_path: Path) -> None:
    folder = plain(tmp_path / "source")
    Image.new("L", (96, 64), 128).save(make_folder(folder / "masks") / "01.png")
    picture(folder / "reg" / "r.png", 9)
    known = Record(Rights(author="Mara"), {"02.png": Rights(source="drawn"), "gone.png": Rights(source="lost")})
    (folder / "rights.toml").write_text(known.to_toml(), encoding="utf-8")
    source = scan(folder)
    target = tmp_path / ("out.zip" if kind == "civitai" else "out")

    export(source, target, kind, words="mara woman", repeats=4)  # type: ignore[arg-type]
    said = " ".join(left_out(source, kind))  # type: ignore[arg-type]

    assert ("class in reg/" in said) == (kind in ("civitai", "imagefolder"))
    assert ("masks of 1" in said) == ("rights" in said) == (kind == "civitai")
    if kind != "civitai":
        found, names = load(target), [one.name for one in scan(target).pictures]
        assert [found.of(name) for name in names] == [known.of(f"0{number}.png") for number in (1, 2, 3)]
        assert len(found.pictures) == 1
        brought = add([target / "dataset.toml" if kind == "toml" else target], tmp_path / "again")
        known_again, names = load(tmp_path / "again"), brought.names
        assert [known_again.of(name) for name in names] == [known.of(f"0{number}.png") for number in (1, 2, 3)]
        assert brought.regularisation == (kind != "imagefolder")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "civitai"])
def test_masks_come_back_from_whatever_was_exported(kind: str, tmp_path: Path) -> None:
    folder = plain(tmp_path / "source")
    Image.new("L", (96, 64), 128).save(make_folder(folder / "masks") / "01.png")
    target = tmp_path / "out"

    export(scan(folder), target, kind, words="mara woman")  # type: ignore[arg-type]
    add([target / "dataset.toml" if kind == "toml" else target], tmp_path / "again")

    greys = [one.mask and Image.open(one.mask).getpixel((9, 9)) for one in scan(tmp_path / "again").pictures]
    assert greys == ([128, 255, 255] if kind == "toml" else [128, None, None])
    if kind != "toml":
        assert [one.mask is not None for one in scan(target).pictures] == [True, False, False]


def test_pictures_of_the_class_are_exported_with_their_words(tmp_path: Path) -> None:
    source = scan(kohya(tmp_path / "source"))
    for kind in ("plain", "folders", "kohya", "toml"):
        export(source, tmp_path / kind, kind, words="mara woman")  # type: ignore[arg-type]

    for kind, inside in (("plain", "reg"), ("folders", "reg"), ("kohya", "reg/1_woman"), ("toml", "reg")):
        assert (tmp_path / kind / inside / "r.png").read_bytes() == (
            tmp_path / "source" / "reg" / "1_woman" / "r.png"
        ).read_bytes()
        assert (tmp_path / kind / inside / "r.txt").read_text() == "a woman\n"
    subsets = read_toml(tmp_path / "toml" / "dataset.toml")
    assert [(one.folder.name, one.regularisation, one.class_words, one.repeats) for one in subsets] == [
        ("images", False, "mara woman", 1),
        ("reg", True, "woman", 1),
    ]


def test_rights_that_are_noted_in_a_zip_come_along(tmp_path: Path) -> None:
    record = Record(Rights(author="Mara"), {"02.png": Rights(licence="CC0")})
    (plain(tmp_path / "set") / "rights.toml").write_text(record.to_toml(), encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").iterdir()):
            archive.write(path, f"mara/{path.name}")

    add([tmp_path / "set.zip"], tmp_path / "new")

    known = load(tmp_path / "new")
    assert known.of("01.png").author == "Mara" and known.of("02.png").licence == "CC0"
    add([tmp_path / "set" / "03.png"], tmp_path / "one")
    assert load(tmp_path / "one").of("03.png") == Rights(author="Mara")


def test_halves_of_characters_in_a_list_of_captions_do_not_stop_it(tmp_path: Path) -> None:
    clouds(1, (64, 48)).save(make_folder(tmp_path / "set") / "a.png")
    row = '{"file_name": "a.png", "text": "a \\ud83d boat"}\n{"file_name": "\\ud83d.png", "text": "b"}\n'
    (tmp_path / "set" / "metadata.jsonl").write_text(row)

    added = add([tmp_path / "set"], tmp_path / "plain")

    assert added.names == ("a.png",)
    assert scan(tmp_path / "plain").pictures[0].captions == ("a ? boat",)


def test_a_list_of_captions_takes_the_first_of_several_and_says_so(tmp_path: Path) -> None:
    for name, said in {"a": "one\ntwo\n", "b": "three\n", "c": None, "d": ""}.items():
        clouds(ord(name), (64, 48)).save(make_folder(tmp_path / "set") / f"{name}.png")
        if said is not None:
            (tmp_path / "set" / f"{name}.txt").write_text(said)
    found = scan(tmp_path / "set")

    export(found, tmp_path / "out", "imagefolder")

    assert [one.captions for one in scan(tmp_path / "out").pictures] == [("one",), ("three",), None, ("",)]
    assert left_out(found, "imagefolder") == [
        "all but the first captions of 1 picture are left out: this layout takes one"
    ]


def test_a_zip_for_civitai_is_the_same_every_time_and_says_nothing_of_this_machine(tmp_path: Path) -> None:
    source = scan(plain(tmp_path / "source"))
    for name in ("a.zip", "b.zip"):
        export(source, tmp_path / name, "civitai")

    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["01.png", "01.txt", "02.png", "02.txt", "03.png"]


def test_nothing_is_exported_over_something(tmp_path: Path) -> None:
    source = scan(plain(tmp_path / "source"))
    (tmp_path / "out").mkdir()

    with pytest.raises(FileProblem, match="something here already"):
        export(source, tmp_path / "out", "plain")
    with pytest.raises(DatasetError, match="named for trigger"):
        export(source, tmp_path / "new", "kohya")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("kind", ["folders", "kohya", "imagefolder"])
def test_pictures_are_not_added_where_they_would_hide_those_that_are_there(kind: str, tmp_path: Path) -> None:
    inside = {"folders": "images", "kohya": "10_mara", "imagefolder": "train"}[kind]
    (tmp_path / "set" / inside).mkdir(parents=True)
    clouds(1, (64, 48)).save(tmp_path / "set" / inside / "a.png")
    if kind == "imagefolder":
        (tmp_path / "set" / "metadata.jsonl").write_text('{"file_name": "train/a.png", "text": "a"}\n')
    clouds(2, (64, 48)).save(tmp_path / "b.png")

    with pytest.raises(DatasetError, match="together with others beside them they are not read"):
        add([tmp_path / "b.png"], tmp_path / "set")

    assert [one.path.name for one in scan(tmp_path / "set").pictures] == ["a.png"]
    assert len(add([tmp_path / "set", tmp_path / "b.png"], tmp_path / "new").names) == 2


def test_adding_twice_adds_nothing_and_gives_missing_captions(tmp_path: Path) -> None:
    plain(tmp_path / "source")
    add([tmp_path / "source"], tmp_path / "set")
    (tmp_path / "source" / "03.txt").write_text("now it has one")
    (tmp_path / "source" / "01.txt").write_text("another")

    again = add([tmp_path / "source"], tmp_path / "set")

    assert again.names == ()
    assert "is there already as 01.png" in str(again.problems[0])
    captions = told(tmp_path / "set")
    assert captions["01.png"] == ("a red boat",) and captions["03.png"] == ("now it has one",)


def test_of_copies_added_at_once_the_first_gets_the_caption_of_the_second(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, text in (("1.png", None), ("2.png", "a boat"), ("3.png", "a ship")):
        picture(source / name, 5, text)

    assert add([source], tmp_path / "set").names == ("1.png",)
    assert told(tmp_path / "set") == {"1.png": ("a boat",)}


def test_adding_can_be_undone(tmp_path: Path) -> None:
    plain(tmp_path / "source")
    (tmp_path / "set").mkdir()
    picture(tmp_path / "set" / "01.png", 7, "mine")

    add([tmp_path / "source"], tmp_path / "set")
    assert len(told(tmp_path / "set")) == 4
    journal.undo(tmp_path / "set")

    assert told(tmp_path / "set") == {"01.png": ("mine",)}


def test_single_pictures_and_patterns_are_sources_too(tmp_path: Path) -> None:
    plain(tmp_path / "source")

    assert add([tmp_path / "source" / "01.png"], tmp_path / "one").names == ("01.png",)
    assert add([str(tmp_path / "source" / "0[12].*")], tmp_path / "two").names == ("01.png", "02.png")
    assert told(tmp_path / "one") == {"01.png": ("a red boat",)}
    for wrong in (tmp_path / "nowhere", str(tmp_path / "x*.png"), tmp_path / "source" / "01.txt"):
        with pytest.raises(DatasetError):
            add([wrong], tmp_path / "three")
    assert not (tmp_path / "three").exists()


def test_captions_of_any_encoding_come_out_as_utf_8(tmp_path: Path) -> None:
    for place, encoding in enumerate(("utf-8", "utf-8-sig", "utf-16", "cp1252"), start=1):
        picture(tmp_path / "source" / f"{place}.png", place).with_suffix(".txt").write_bytes("größe".encode(encoding))

    added = add([tmp_path / "source"], tmp_path / "set")

    assert {(tmp_path / "set" / f"{place}.txt").read_bytes() for place in range(1, 5)} == {"größe".encode()}
    assert [problem.name for problem in added.problems] == ["4.txt"]


def test_masks_are_never_pictures_and_come_along(tmp_path: Path) -> None:
    plain(tmp_path / "source")
    clouds(4, (96, 64)).convert("L").save(tmp_path / "source" / "01-masklabel.png")
    (tmp_path / "source" / "masks").mkdir()
    clouds(5, (48, 32)).convert("L").save(tmp_path / "source" / "masks" / "02.png")

    found = scan(tmp_path / "source")
    assert [one.name for one in found.pictures if one.mask] == ["01.png", "02.png"] and len(found.pictures) == 3
    add([tmp_path / "source"], tmp_path / "set")

    again = scan(tmp_path / "set")
    assert [one.mask.name for one in again.pictures if one.mask] == ["01.png", "02.png"]
    assert again.problems == ()


def test_a_picture_whose_mask_does_not_fit_is_left_out(tmp_path: Path) -> None:
    plain(tmp_path / "source")
    (tmp_path / "source" / "masks").mkdir()
    clouds(5, (64, 96)).convert("L").save(tmp_path / "source" / "masks" / "02.png")

    found = scan(tmp_path / "source")

    assert [one.name for one in found.pictures] == ["01.png", "03.png"]
    assert "mask is 64 x 96 pixels and the picture 96 x 64" in str(found.problems[0])


def test_kohyas_repeats_are_kept_where_the_folders_lie_and_told_where_they_are_lost(tmp_path: Path) -> None:
    picture(tmp_path / "10_a" / "1.png", 1)
    picture(tmp_path / "20_b" / "1.png", 2)
    picture(tmp_path / "notes" / "1.png", 3)

    found = scan(tmp_path)

    assert [(one.name, one.captions) for one in found.pictures] == [("10_a/1.png", ("a",)), ("20_b/1.png", ("b",))]
    assert [one.repeats for one in found.pictures] == [10, 20]
    assert [problem.name for problem in found.problems] == ["notes/"]
    added = add([tmp_path], tmp_path / "set")
    assert "are to be repeated 10 or 20 times" in " ".join(map(str, added.problems))
    assert [one.repeats for one in scan(tmp_path / "set").pictures] == [1, 1]


def test_a_list_of_captions_never_names_a_file_outside(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png", 1)
    picture(tmp_path / "set" / "a.png", 2)
    rows = [
        {"file_name": name, "text": "x"} for name in ("../secret.png", "/etc/passwd", "C:\\x.png", "b.png", "a.png")
    ]
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\nnot json\n")

    found = scan(tmp_path / "set")

    assert told(tmp_path / "set") == {"a.png": ("x",)}
    assert len(found.problems) == 5 and "b.png, which is not there" in " ".join(map(str, found.problems))


def test_captions_that_come_with_pictures_are_imports_and_those_of_tools_stay_theirs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for seed, text in enumerate(("by hand", "by a tool", "by a tool, changed since")):
        clouds(seed, (32, 32)).save(source / f"{seed}.png")
        (source / f"{seed}.txt").write_text(text)
    noted = authors.Authors().with_note("1.png", ("by a tool",), by="wd14", settings={"general": 0.3})
    noted = noted.with_note("2.png", ("by a tool",), by="wd14", settings={})
    (source / authors.FILE).write_text(noted.to_json())

    add([source], tmp_path / "set")

    found, _ = captioned.read(tmp_path / "set")
    written = authors.load(tmp_path / "set")
    assert [written.of(one.name, one.captions) for one in found] == ["import", "wd14", "import"]
    assert [written.by_person(one.name, one.captions) for one in found] == [True, False, True]
    assert written.settings("1.png") == {"general": 0.3}
    (tmp_path / "set" / "0.txt").write_text("by hand again")
    assert written.of("0.png", ("by hand again",)) == "person"
