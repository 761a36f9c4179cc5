"""Captions written by a tool, and the template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from velatura.captioning.captioner import Answer, Asked
from velatura.captioning.template import Template
from velatura.captioning.writing import Captioning, Written, tried
from velatura.dataset import authors, editing, journal
from velatura.errors import DatasetError
from velatura.events import Progress


class Saying:
    """Says a picture's name, several captions of some, and nothing of `silent`."""

    name, batch = "saying", 2

    def __init__(self, word: str = "seen") -> None:
        self.settings = {"word": word}
        self.asked: list[str] = []

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        self.asked += [one.name for one in asked]
        word = self.settings["word"]
        return [
            Answer(why="it is blank") if "silent" in one.name else Answer((f"{word}\n{one.name}", "short"))
            for one in asked
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "silent", "own"):
        (tmp_path / f"{name}.png").write_bytes(b"a picture")
    (tmp_path / "own.txt").write_text("my own words")
    return tmp_path


def run(work: Captioning) -> Written:
    list(work)
    assert work.result is not None
    return work.result


def test_a_persons_words_stay_unless_asked_and_who_wrote_is_noted(folder: Path) -> None:
    done = run(Captioning(folder, Saying()))

    assert done == Written(("a.png", "b.png", "c.png"), ("own.png",), (("silent.png", "it is blank"),))
    assert (folder / "a.txt").read_text() == "seen a.png\nshort\n" and (
        folder / "own.txt"
    ).read_text() == "my own words"
    noted = authors.load(folder)
    assert noted.of("a.png", ("seen a.png", "short")) == "saying" and noted.settings("a.png") == {"word": "seen"}
    (folder / "b.txt").write_text("better")
    again = run(Captioning(folder, Saying("anew")))
    assert again.kept == ("b.png", "own.png") and (folder / "a.txt").read_text().startswith("anew")
    assert "own.png" in run(Captioning(folder, Saying(), replace_own=True)).written


def test_what_was_edited_in_bulk_is_a_persons_from_then_on(folder: Path) -> None:
    run(Captioning(folder, Saying()))
    editing.apply(folder, editing.Rewording(add=("x",)), editing.Selection(names=("a",)))

    assert "a.png" in run(Captioning(folder, Saying("anew"))).kept


def test_an_interruption_loses_nothing_and_the_same_goes_on(folder: Path) -> None:
    work = iter(Captioning(folder, Saying()))
    assert next(work) == Progress("captions", 0, 4) and next(work) == Progress("captions", 2, 4)
    work.close()  # type: ignore[attr-defined]

    assert (folder / "a.txt").exists() and not (folder / "c.txt").exists()
    with pytest.raises(DatasetError, match="interrupted"):
        run(Captioning(folder, Saying("another")))
    on = Saying()
    assert run(Captioning(folder, on)).written == ("a.png", "b.png", "c.png") and on.asked == ["c.png", "silent.png"]
    assert authors.load(folder).of("a.png", ("seen a.png", "short")) == "saying"
    journal.undo(folder)
    assert sorted(path.name for path in folder.glob("*.txt")) == ["own.txt"] and not (folder / authors.FILE).exists()


def test_one_picture_is_tried_with_several_and_nothing_is_written(folder: Path) -> None:
    answers = tried(folder, [Saying("one"), Template("portrait of {name}")], "own")

    assert [answer.captions[0] for answer in answers] == ["one\nown.png", "portrait of own"]
    assert not (folder / ".originals").exists()


@pytest.mark.parametrize(
    ("template", "name", "said", "wanted"),
    [
        ("portrait of a {woman|man|child}, {caption}", "1.png", "1girl, hat", "portrait of a woman, 1girl, hat"),
        ("portrait of a {woman|man|child}", "old_man.png", "", "portrait of a man"),
        ("portrait of a {woman|man|child}", "1.png", "a kid", "portrait of a child"),
        ("portrait, {woman|man|}, pencil", "1.png", "a tree", "portrait, pencil"),
        ("{name}, {caption}", "7.png", "", "7"),
    ],
)
def test_templates_take_what_a_caption_or_name_says(template: str, name: str, said: str, wanted: str) -> None:
    [answer] = Template(template).describe([Asked(name, Path(name), (said,) if said else ())])
    assert answer.captions == (wanted,)


def test_a_template_that_cannot_tell_says_so_and_a_wrong_one_is_refused() -> None:
    asked = [Asked("1.png", Path("1.png"), ("a man and a woman",)), Asked("2.png", Path("2.png"))]
    answers = Template("a {woman|man}").describe(asked)

    assert [answer.captions for answer in answers] == [(), ()]
    assert "woman and man" in answers[0].why and "none of woman, man" in answers[1].why
    for wrong in ("", "a {woman|man", "a {colour}"):
        with pytest.raises(DatasetError):
            Template(wrong)
