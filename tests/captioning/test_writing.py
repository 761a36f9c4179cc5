"""Captions written by a tool, and the template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from velatura.captioning.appended import joined
from velatura.captioning.captioner import Answer, Asked
from velatura.captioning.tagged import Tagged
from velatura.captioning.template import Template
from velatura.captioning.writing import Captioning, Written, lines, tried
from velatura.dataset import authors, editing, journal
from velatura.dataset.editing import Selection
from velatura.errors import DatasetError, ModelError, SettingsError
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


def test_words_that_a_person_writes_while_the_captioner_is_at_work_stay(folder: Path) -> None:
    work = iter(Captioning(folder, Saying()))
    next(work)
    (folder / "c.txt").write_text("meanwhile, mine")
    list(work)

    assert (folder / "c.txt").read_text() == "meanwhile, mine"


def test_words_that_a_person_writes_before_an_interrupted_run_goes_on_stay_a_persons(folder: Path) -> None:
    work = iter(Captioning(folder, Saying()))
    assert next(work) == Progress("captions", 0, 4) and next(work) == Progress("captions", 2, 4)
    work.close()  # type: ignore[attr-defined]
    (folder / "a.txt").write_text("mine now")

    run(Captioning(folder, Saying()))

    assert (folder / "a.txt").read_text() == "mine now"
    assert authors.load(folder).of("a.png", ("mine now",)) == "person"
    assert "a.png" in run(Captioning(folder, Saying("anew"))).kept


class Leaving(Saying):
    """A captioner that is gone after the first pictures."""

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        if self.asked:
            raise ModelError("the server is gone")
        return super().describe(asked)


def test_what_a_captioner_said_before_it_was_gone_is_kept_and_the_rest_comes_later(folder: Path) -> None:
    work = Captioning(folder, Leaving())
    with pytest.raises(ModelError):
        list(work)

    assert work.result.written == ("a.png", "b.png") and (folder / "a.txt").exists()
    assert authors.load(folder).of("a.png", ("seen a.png", "short")) == "saying"
    on = Saying()
    run(Captioning(folder, on))
    assert on.asked == ["c.png", "silent.png"]


def test_a_captioner_that_is_gone_at_once_leaves_no_trace(folder: Path) -> None:
    gone = Leaving()
    gone.asked.append("before")
    with pytest.raises(ModelError):
        list(Captioning(folder, gone))

    assert not (folder / ".originals").exists()
    run(Captioning(folder, Saying("another")))


def test_a_folder_that_is_not_there_is_not_made_and_an_empty_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such folder"):
        run(Captioning(tmp_path / "nowhere", Saying()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="the folder holds no pictures"):
        run(Captioning(tmp_path / "empty", Saying()))

    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_only_what_a_filter_finds_is_captioned(folder: Path) -> None:
    run(Captioning(folder, Saying()))

    again = run(Captioning(folder, Saying("anew"), Selection(where="author:saying and name:a")))

    assert again.written == ("a.png",) and (folder / "b.txt").read_text().startswith("seen")


def test_what_is_no_text_never_comes_into_a_file(folder: Path) -> None:
    assert lines(Answer(("a\0b\x1b[31m red\r\nand \ud800 more",))) == (("a b [31m red and more",), "")
    assert lines(Answer(("x" * 600_000,))) == ((), "it is too long for a caption")
    assert lines(Answer((" \n",))) == ((), "the answer is empty")


def test_a_captioner_may_be_given_a_taggers_tags(folder: Path) -> None:
    tagger = Saying("1girl, long hair")
    made = Tagged(Template("portrait of a {woman|man}, {tags}"), tagger)

    assert run(Captioning(folder, made, Selection(("a",)))).written == ("a.png",)
    assert (folder / "a.txt").read_text() == "portrait of a woman, 1girl, long hair a.png, short\n"
    assert made.settings["tagger"] == "saying" and made.settings["tagger_word"] == "1girl, long hair"


def test_one_picture_is_tried_with_several_and_nothing_is_written(folder: Path) -> None:
    [(name, answers)] = tried(folder, [Saying("one"), Template("portrait of {name}")], Selection(("own",)))

    assert name == "own.png" and [answer.captions[0] for answer in answers] == ["one\nown.png", "portrait of own"]
    assert not (folder / ".originals").exists()


@pytest.mark.parametrize(
    ("template", "name", "said", "wanted"),
    [
        ("portrait of a {woman|man|child}, {caption}", "1.png", "1girl, hat", "portrait of a woman, 1girl, hat"),
        ("portrait of a {woman|man|child}", "old_man.png", "", "portrait of a man"),
        ("portrait of a {woman|man|child}", "1.png", "a kid", "portrait of a child"),
        ("portrait, {woman|man|}, pencil", "1.png", "a tree", "portrait, pencil"),
        ("{name}, {caption}", "7.png", "", "7"),
        ("{caption}, said of: {caption}", "7.png", "a hat", "a hat, said of: a hat"),
    ],
)
def test_templates_take_what_a_caption_or_name_says(template: str, name: str, said: str, wanted: str) -> None:
    [answer] = Template(template).describe([Asked(name, Path(name), (said,) if said else ())])
    assert answer.captions == (wanted,)


@pytest.mark.parametrize(
    ("template", "said", "wanted"),
    [
        (
            "portrait of a {woman|man}, {caption}, pencil",
            "a woman with a hat",
            "portrait of a woman, a woman with a hat, pencil",
        ),
        ("pencil, {caption}", "pencil", "pencil"),
        ("{caption}, pencil", "hat", "hat, pencil"),
        ("{caption}", "a hat", "a hat"),
        ("a {woman|man|}, {caption}", "a tree", "a, a tree"),
        ("abc, {caption}, bcd", "abcd", "abc, abcd, bcd"),
        ("ab{caption}bc", "abc", "ababcbc"),
    ],
)
def test_a_template_around_a_caption_is_put_there_once_however_often_it_is_used(
    template: str, said: str, wanted: str
) -> None:
    made = Template(template)
    [once] = made.describe([Asked("1.png", Path("1.png"), (said,))])
    [twice] = made.describe([Asked("1.png", Path("1.png"), once.captions)])

    assert once.captions == twice.captions == (wanted,)


def test_a_template_around_several_captions_is_put_around_each() -> None:
    [answer] = Template("pencil, {caption}").describe([Asked("1.png", Path("1.png"), ("a woman by the sea", "woman"))])
    assert answer.captions == ("pencil, a woman by the sea", "pencil, woman")


@pytest.mark.parametrize(
    ("there", "more", "wanted"),
    [
        ("A woman by the sea.", "1girl, sea", "A woman by the sea. 1girl, sea"),
        ("mara, Long_Hair", "1girl, (long hair:1.1), sea", "mara, Long_Hair, 1girl, sea"),
        ("1girl, sea", "A woman, smiling, looks at the sea.", "1girl, sea, A woman, smiling, looks at the sea."),
        ("mara, A woman looks at the sea.", "A woman looks at the sea.", "mara, A woman looks at the sea."),
        ("1girl, sea", "sea, 1girl", "1girl, sea"),
    ],
)
def test_what_is_appended_stands_behind_what_is_there_and_only_once(there: str, more: str, wanted: str) -> None:
    assert joined(there, more) == wanted
    assert joined(wanted, more) == wanted


def test_a_captioner_may_add_to_what_is_there_and_a_persons_caption_stays_a_persons(folder: Path) -> None:
    (folder / "a.txt").write_text("a long one\na short one\n")
    once = Captioning(folder, Template("seen"), Selection(("a", "b", "own")), append=True)

    assert run(once).written == ("a.png", "b.png", "own.png") and once.result.kept == ()
    assert (folder / "a.txt").read_text() == "a long one, seen\na short one, seen\n"
    assert (folder / "b.txt").read_text() == "seen\n" and (folder / "own.txt").read_text() == "my own words, seen\n"
    noted = authors.load(folder)
    assert noted.of("own.png", ("my own words, seen",)) == "person" and noted.of("b.png", ("seen",)) == "template"
    assert run(Captioning(folder, Template("other"))).kept == ("a.png", "own.png")
    journal.undo(folder)
    journal.undo(folder)
    assert (folder / "own.txt").read_text() == "my own words" and not (folder / "b.txt").exists()


def test_several_captions_are_not_put_behind_one_nor_added_and_replaced_at_once(folder: Path) -> None:
    done = run(Captioning(folder, Saying(), Selection(("own",)), append=True))

    assert done.failed == (("own.png", "2 captions cannot be put behind one; ask one prompt"),)
    with pytest.raises(SettingsError, match="replaced or added to"):
        Captioning(folder, Saying(), replace_own=True, append=True)


def test_a_template_that_cannot_tell_says_so_and_a_wrong_one_is_refused() -> None:
    asked = [Asked("1.png", Path("1.png"), ("a man and a woman",)), Asked("2.png", Path("2.png"))]
    answers = Template("a {woman|man}").describe(asked)

    assert [answer.captions for answer in answers] == [(), ()]
    assert "woman and man" in answers[0].why and "none of woman, man" in answers[1].why
    for wrong in ("", "a {woman|man", "a {colour}"):
        with pytest.raises(DatasetError):
            Template(wrong)
