"""Captions edited in bulk."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from velatura.dataset import authors, captioned, editing, journal, statistics
from velatura.dataset.editing import Rewording, Selection
from velatura.dataset.prepared import prepare
from velatura.dataset.scan import scan
from velatura.dataset.wording import tag_key, tags_of
from velatura.errors import DatasetError, FileProblem

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("a, b", None, b"...")` makes 01.png, 02.png, ... with these captions; the pictures are never opened."""

    def written(*captions: str | bytes | None) -> Path:
        for number, caption in enumerate(captions, 1):
            (tmp_path / f"{number:02d}.png").write_bytes(b"a picture")
            if caption is not None:
                data = caption if isinstance(caption, bytes) else caption.encode()
                (tmp_path / f"{number:02d}.txt").write_bytes(data)
        return tmp_path

    return written


def texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8").rstrip("\n") for path in sorted(folder.glob("*.txt"))]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (editing.add(["x, y"]), "a, X", "a, X, y"),
        (editing.add(["x"], place="first"), "a", "x, a"),
        (editing.add(["x"], place="first", trigger="mara"), "mara, a", "mara, x, a"),
        (editing.add(["x"], place="b"), "a, b", "a, x, b"),
        (editing.add(["x"], place="b"), "a", "a, x"),
        (editing.add(["x"]), "", "x"),
        (editing.remove(["long hair, bl*"]), "a, Long_Hair, (blurry:1.2), blue, b", "a, b"),
        (editing.remove(["hair"]), "long hair", "long hair"),
        (editing.remove([r"\*_\*"]), "*_*, a_b", "a_b"),
        (editing.rename("gray sky", "grey sky"), "gray_sky, a", "grey sky, a"),
        (editing.rename("gray", "grey"), "gray, a, grey", "a, grey"),
        (editing.rename("a*", "b"), "aa, ab, c", "b, c"),
        (editing.replace("a.", "b"), "a. ax", "b ax"),
        (editing.replace(r"(\d)x", r"\1y", regex=True), "2x 3x", "2y 3y"),
        (editing.set_trigger("mara"), "a, Mara, b", "mara, a, b"),
        (editing.set_trigger("mara"), "MARA, b", "MARA, b"),
        (editing.set_trigger("mara"), "a woman mara in a park", "a woman mara in a park"),
        (editing.set_trigger("mara"), "in a park, on a bench, sits mara", "mara, in a park, on a bench, sits mara"),
        (editing.deduplicate(), "a, B, A, b , c", "a, B, c"),
        (editing.sort("alphabetic", keep_first=1), "mara, c, A, b", "mara, A, b, c"),
        (editing.sort(("c", "a")), "a, b, c", "c, a, b"),
    ],
)
def test_operations(operation: editing.Operation, before: str, after: str) -> None:
    assert operation(before) == after


def test_a_caption_in_which_nothing_changes_stays_as_it_was_byte_for_byte(write: Write) -> None:
    folder = write("a ,b,,c\r\n\r\nsecond , line", "blurry, a")
    before = (folder / "01.txt").read_bytes()

    done = editing.apply(folder, Rewording(remove=("blurry",), deduplicate=True))

    assert [one.file for one in done.changes] == ["02.txt"] and (folder / "01.txt").read_bytes() == before


def test_a_dry_run_says_what_is_then_done_and_changes_nothing(write: Write) -> None:
    folder = write("gray sky, b", None, "b")
    before = files(folder)

    planned = editing.plan(folder, Rewording(rename=(("gray sky", "grey sky"),), trigger="mara"))
    assert files(folder) == before
    assert [(one.before, one.after) for one in planned.changes] == [
        (("gray sky, b",), ("mara, grey sky, b",)),
        (None, ("mara",)),
        (("b",), ("mara, b",)),
    ]
    assert editing.apply(folder, Rewording(rename=(("gray sky", "grey sky"),), trigger="mara")) == planned
    assert texts(folder) == ["mara, grey sky, b", "mara", "mara, b"]


def test_undo_restores_every_byte_whatever_the_encoding_and_redo_makes_it_again(write: Write) -> None:
    folder = write("a\r\nb", "grün, ä".encode("cp1252"), "c".encode("utf-16"), b"\xef\xbb\xbfd", None)
    before = files(folder)

    editing.apply(folder, Rewording(add=("x",)), told="add x")
    after = files(folder)
    assert texts(folder) == ["a, x\nb, x", "grün, ä, x", "c, x", "d, x", "x"]
    assert journal.history(folder)[-1].told == "add x" and len(journal.history(folder)) == 1
    journal.undo(folder)
    assert files(folder) == before
    journal.redo(folder)
    assert files(folder) == after


def test_only_what_is_selected_is_edited_and_counts_are_of_the_selection(write: Write) -> None:
    folder = write("tree, sea", "sea", "tree, hat")

    editing.apply(folder, Rewording(add=("x",)), Selection(where="tag:tree and not tag:hat"))
    editing.apply(folder, Rewording(add=("y",)), Selection(names=("02",)))

    assert texts(folder) == ["tree, sea, x", "sea, y", "tree, hat"]
    with pytest.raises(DatasetError, match="there is no picture 09"):
        editing.apply(folder, Rewording(add=("y",)), Selection(names=("09",)))
    assert len(journal.history(folder)) == 2


def test_tags_are_sorted_by_how_often_they_stand_and_the_trigger_stays_first(write: Write) -> None:
    folder = write("rare, b, c", "mara, b, c", "c, d, e")

    editing.apply(folder, Rewording(trigger="mara", sort="frequency"))

    assert texts(folder) == ["mara, c, b, rare", "mara, c, b", "mara, c, d, e"]


def test_sentences_are_not_sorted(write: Write) -> None:
    folder = write("A woman walks through the old town, and it rains.", "A dog.")

    with pytest.raises(DatasetError, match="sentences"):
        editing.plan(folder, Rewording(sort="alphabetic"))


def test_of_near_synonyms_the_more_common_takes_the_place_of_the_rarer(write: Write) -> None:
    folder = write("gray, umbrella, a", "grey, umbrella, b", "grey, umbrellas, c")

    done = editing.apply(folder, Rewording(unify=True))

    assert dict(done.unified) == {"gray": "grey", "umbrellas": "umbrella"}
    assert texts(folder) == ["grey, umbrella, a", "grey, umbrella, b", "grey, umbrella, c"]


def test_words_of_sentences_are_unified_as_words(write: Write) -> None:
    folder = write("a lady and a ladybird", "a woman sits", "a woman stands")

    editing.apply(folder, Rewording(unify=True))

    assert texts(folder)[0] == "a woman and a ladybird"


def test_wrong_expressions_are_one_sentence(write: Write) -> None:
    folder = write("a")

    for old, new in (("(", "x"), ("a", r"\2"), ("", "x")):
        with pytest.raises(DatasetError):
            editing.apply(folder, Rewording(replace=((old, new),), regex=True))
    assert texts(folder) == ["a"] and journal.history(folder) == []


def test_odd_and_hostile_captions_are_told_and_left_alone(write: Write) -> None:
    many = ", ".join(f"tag {number}" for number in range(1000))
    folder = write(b"one\x00two", b"x" * 1_000_001, many, "שלום, مرحبا, :3, re:zero, ganyu_(genshin_impact)", "")
    before = files(folder)

    done = editing.apply(folder, Rewording(add=("x",)))

    assert [one.name for one in done.problems] == ["01.txt", "02.txt"]
    assert files(folder)["01.txt"] == before["01.txt"] and files(folder)["02.txt"] == before["02.txt"]
    assert files(folder)["03.txt"].decode() == f"{many}, x\n"
    assert files(folder)["04.txt"].decode() == "שלום, مرحبا, :3, re:zero, ganyu_(genshin_impact), x\n"
    assert files(folder)["05.txt"] == b"x\n"


def _edit(folder: Path, tag: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    while True:
        try:
            editing.apply(folder, Rewording(add=(tag,)))
            return
        except DatasetError as error:
            assert "another process" in error.what


def test_two_processes_that_edit_at_once_lose_nothing(write: Write) -> None:
    folder = write(*["a"] * 20)
    spawning = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    barrier = spawning.Barrier(2)
    both = [spawning.Process(target=_edit, args=(folder, tag, barrier)) for tag in ("x", "y")]
    for one in both:
        one.start()
    for one in both:
        one.join(60)

    assert all(set(tags_of(text)) == {"a", "x", "y"} for text in texts(folder))
    assert len(journal.history(folder)) == 2


def test_an_edit_for_which_the_disk_is_too_full_leaves_every_caption_as_it_was(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write("a", "b", "c")
    before = files(folder)
    real, calls = journal._link, []

    def failing(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(journal, "_link", failing)
    with pytest.raises(FileProblem, match="disk is full"):
        editing.apply(folder, Rewording(add=("x",)))

    assert files(folder) == before
    assert journal.history(folder)[-1].state == "undone"


def test_an_edit_killed_between_two_captions_is_taken_back_before_the_next(write: Write) -> None:
    folder = write("a", "b\r\nc", None)
    before = files(folder)
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from velatura.dataset import editing, journal
real, left = journal._link, [1]
def link(*arguments):
    if not left:
        os._exit(9)
    left.pop()
    real(*arguments)
journal._link = link
editing.apply(Path({str(folder)!r}), editing.Rewording(add=("x",)))
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert files(folder)["01.txt"] == b"a, x\n" and journal.history(folder)[0].state == "open"
    (folder / "03.txt").write_text("a person's", encoding="utf-8")

    with journal.edit(folder, "the next"):
        pass

    assert files(folder) == {**before, "03.txt": b"a person's"}


def test_what_is_written_over_an_edit_comes_back_with_redo_and_over_an_undo_with_the_next_undo(write: Write) -> None:
    folder = write("a", "b", None)
    before = files(folder)
    editing.apply(folder, Rewording(add=("x",)))
    (folder / "01.txt").write_bytes(b"by hand")
    (folder / "03.txt").write_bytes(b"by hand too")

    journal.undo(folder)
    assert files(folder) == before
    (folder / "02.txt").write_bytes(b"since then")
    journal.redo(folder)
    assert files(folder) == {**before, "01.txt": b"by hand", "02.txt": b"b, x\n", "03.txt": b"by hand too"}
    journal.undo(folder)
    assert files(folder) == {**before, "02.txt": b"since then"}


def test_tags_are_compared_without_case_underscores_weights_and_escapes() -> None:
    wanted = {
        "Long_Hair": "long hair", "((smile))": "smile", "(blue sky:1.2)": "blue sky", "[red]": "red",
        r"jeanne \(alter\)": "jeanne (alter)", "jeanne_(alter)": "jeanne (alter)", ":3": ":3", "^_^": "^_^",
        "(o)_(o)": "(o)_(o)", "re:zero": "re:zero", ":)": ":)", "1girl": "1girl", "": "",
    }  # fmt: skip
    assert {tag: tag_key(tag) for tag in wanted} == wanted
    assert tags_of("(red hat, blue scarf:1.3), x") == ["red hat", "blue scarf", "x"]


def test_what_a_tool_wrote_is_known_until_a_person_changes_it(write: Write) -> None:
    folder = write("a, b", "c", None, "")
    noted = authors.Authors().with_note("01.png", ("a, b",), by="wd14", settings={"general": 0.35})
    (folder / authors.FILE).write_text(noted.to_json(), encoding="utf-8")
    read = authors.load(folder)

    assert read.of("01.png", ("a, b",)) == "wd14" and read.of("01.png", ("a, b, c",)) == "person"
    assert read.of("02.png", ("c",)) == "person" and read.of("03.png", None) is None
    assert read.by_person("02.png", ("c",)) and not read.by_person("04.png", ("",))
    found = captioned.matching(captioned.read(folder)[0], "author=wd14", written=read)
    assert [one.name for one in found] == ["01.png"]
    (folder / authors.FILE).write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        authors.load(folder)


def test_statistics_count_tags_company_and_lengths(write: Write) -> None:
    folder = write("mara, sea, boat, x", "mara, sea, boat, y", "mara, tree, z", None)

    made = statistics.statistics(captioned.read(folder)[0], count=lambda text: 25 * text.count(","))

    assert (made.pictures, made.captioned, made.captions) == (4, 3, 3)
    assert made.frequencies["mara"] == 3 and made.frequencies["tree"] == 1
    assert [(set(one.tags), one.count, one.share) for one in made.together] == [({"sea", "boat"}, 2, 1.0)]
    assert made.lengths == {"up to 50": 1, "up to 75": 2} and made.longest == 75


def test_the_bucket_table_is_what_is_trained_and_unreadable_pictures_are_named(write: Write, tmp_path: Path) -> None:
    folder = write("a", "b", "c", None)
    for name, size in (("01", (100, 100)), ("02", (300, 200)), ("03", (302, 200))):
        Image.new("RGB", size).save(folder / f"{name}.png")
    (folder / "04.png").write_bytes(b"no picture")

    groups, problems = statistics.bucket_table(captioned.read(folder)[0], side=512)

    trained = prepare(scan(folder), area=(512, 512), step=64, minimum=256, maximum=1024)
    assert groups == sorted(Counter(one.bucket for one in trained).items()) and [number for _, number in groups] == [
        1,
        2,
    ]
    assert [one.name for one in problems] == ["04.png"]
