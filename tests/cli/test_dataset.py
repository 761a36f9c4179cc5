"""The dataset's commands, one after the other, as a user has them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.cli.conftest import Velatura
from tests.paintings import clouds
from velatura import cli


def test_every_step_of_the_workshop_has_its_command() -> None:
    import typer.main

    group = typer.main.get_command(cli.app).commands["dataset"]  # type: ignore[attr-defined]
    wanted = "add export check list pick keep reject undecide clean resize crop flip rename mask buckets split rights"
    wanted += " regularise"

    assert set(f"{wanted} undo redo history".split()) <= set(group.commands)


def paint(folder: Path, count: int = 8) -> None:
    folder.mkdir()
    for seed in range(count):
        clouds(seed, (120 + 10 * seed, 90)).save(folder / f"IMG_{seed}.png")
        (folder / f"IMG_{seed}.txt").write_text(f"sky {seed}")


def test_from_raw_to_trainable_and_back(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "raw")
    before = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}

    assert velatura("dataset", "add", "set", "raw").out == "8 pictures added to set\n"
    resized = velatura("dataset", "resize", "set", "--cover", "96x64", "--focus", "saliency")
    assert resized.code == 0 and "changed: 8" in resized.out
    assert "8 pictures renamed" in velatura("dataset", "rename", "set").out
    shown = velatura("dataset", "buckets", "set", "--side", "96", "--step", "16", "--sheet", "b.png")
    assert shown.code == 0 and "8 pictures" in shown.out and (tmp_path / "b.png").exists()
    told = velatura("dataset", "split", "set", "--json").json[0]
    assert len(told["held_out"]) == 2 and len(told["train"]) == 6
    history = velatura("dataset", "history", "set").out
    assert "rename 8 pictures" in history and "resize to 96 x 64 around the saliency" in history

    for _ in range(3):
        assert velatura("dataset", "undo", "set").code == 0
    assert [path.name for path in (tmp_path / "set").iterdir()] == [".originals"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()} == before
    assert velatura("dataset", "undo", "set").code == 2


def test_of_a_project_buckets_and_split_are_what_its_recipe_trains(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "raw")
    velatura("new", "project", "--base", "pocket", "--images", "raw")
    other = tmp_path / "project" / "other"
    paint(other)
    planned = velatura("plan", "project", "--json").json[0]
    told = velatura("dataset", "buckets", "project", "--json").json[0]
    held_out = velatura("dataset", "split", "project", "--json").json[0]["held_out"]

    assert {"x".join(map(str, one["size"])) for one in told["buckets"]} >= set(planned["buckets"])
    assert max(max(one["size"]) for one in told["buckets"]) < 256
    assert sorted(one["name"] for one in told["pictures"] if one["held_out"]) == sorted(held_out)
    trained = Counter(tuple(one["bucket"]) for one in told["pictures"] if not one["held_out"])
    short = {tuple(one["size"]): one["pictures"] for one in told["short_batches"]}
    assert short == {size: count % 4 for size, count in trained.items() if count % 4}
    assert velatura("dataset", "buckets", "project/dataset", "--json").json[0] == told
    for folder, size in (("project/other", 1024), ("project", 512)):
        asked = () if size == 1024 else ("--side", "512")
        sizes = velatura("dataset", "buckets", folder, *asked, "--json").json[0]["buckets"]
        assert max(max(one["size"]) for one in sizes) >= size
    others = velatura("dataset", "split", "project", "--seed", "5", "--share", "0.5", "--json").json[0]["held_out"]
    assert len(others) == 4


def test_pictures_are_picked_and_everything_after_follows(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "set")

    assert velatura("dataset", "reject", "set", "IMG_0", "IMG_1.png").code == 0
    listed = velatura("dataset", "list", "set", "--where", "status=reject", "--json").json[0]
    assert [one["name"] for one in listed["pictures"]] == ["IMG_0.png", "IMG_1.png"]
    proposal = velatura("dataset", "pick", "set", "--n", "3", "--json").json[0]
    assert len(proposal["names"]) == 3 and not set(proposal["names"]) & {"IMG_0.png", "IMG_1.png"}
    velatura("dataset", "pick", "set", "--n", "3", "--apply", "--sheet", "p.png")

    assert velatura("dataset", "export", "set", "out.zip", "--as", "civitai").out == "3 pictures written to out.zip\n"
    assert (tmp_path / "p.png").exists()
    velatura("dataset", "undo", "set")
    assert velatura("dataset", "export", "set", "all").out == "6 pictures written to all\n"


def test_mistakes_end_in_one_sentence(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "set", 2)
    for words in (
        ("resize", "set"),
        ("resize", "set", "--cover", "big"),
        ("resize", "set", "--long-side", "64", "--background", "white"),
        ("crop", "set"),
        ("crop", "set", "--box", "9,9,1,1"),
        ("mask", "set"),
        ("mask", "set", "--subject", "none.onnx"),
        ("reject", "set"),
        ("reject", "set", "nothing"),
        ("list", "set", "--where", "widht>3"),
        ("redo", "set"),
        ("export", "set", "set"),
        ("add", "set", "nowhere"),
    ):
        answer = velatura("dataset", *words)
        assert answer.code == 2, words
        assert len(answer.err.splitlines()) == 1 and answer.err.startswith("error: "), words


def test_rights_are_noted_and_gaps_exit_with_1(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "set", 2)

    assert velatura("dataset", "rights", "set", "--author", "me").code == 1
    done = velatura("dataset", "rights", "set", "--source", "drawn for this", "--licence", "CC0")

    assert done.code == 0 and "drawn for this" in done.out


def test_captions_are_edited_with_a_dry_run_and_taken_back(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "set", 3)

    shown = velatura("dataset", "edit", "set", "--add", "sea, boat", "--trigger", "mara", "--dry-run")
    assert "  - sky 0\n  + mara, sky 0, sea, boat\n" in shown.out and "would change: 3 of 3" in shown.out
    assert (tmp_path / "set" / "IMG_0.txt").read_text() == "sky 0"
    assert velatura("dataset", "edit", "set", "--where", 'caption:"sky 1"', "--rename", "sky 1", "dusk").code == 0
    assert (tmp_path / "set" / "IMG_1.txt").read_text() == "dusk\n"
    assert "rename sky 1 to dusk" in velatura("dataset", "history", "set").out
    assert velatura("dataset", "undo", "set").code == 0
    assert (tmp_path / "set" / "IMG_1.txt").read_text() == "sky 1"
    told = velatura("dataset", "stats", "set", "--where", "tokens:>1", "--json").json[0]
    assert told["frequencies"]["sky"] == 3 and len(told["names"]) == 3
    assert velatura("dataset", "edit", "set").code == 2
    wrong = velatura("dataset", "edit", "set", "--where", "tga:x", "--add", "y")
    assert wrong.code == 2 and "did you mean tag" in wrong.err


def test_pictures_are_captioned_from_a_template_and_a_persons_words_stay(velatura: Velatura, tmp_path: Path) -> None:
    paint(tmp_path / "set", 3)
    (tmp_path / "set" / "IMG_0.txt").unlink()
    told = ("dataset", "caption", "set", "--template", "ink drawing, {caption}")

    assert velatura(*told, "--dry-run", "IMG_1").out == "IMG_1.png\n  ink drawing, sky 1\n"
    done = velatura(*told)
    assert done.code == 0 and done.out == "1 caption written\n" and "kept" in done.err
    assert (tmp_path / "set" / "IMG_0.txt").read_text() == "ink drawing\n"
    assert velatura(*told, "--replace-own", "--json").json[0]["written"] == ["IMG_0.png", "IMG_1.png", "IMG_2.png"]
    wrong = velatura("dataset", "tag", "set", "--model", "nowhere")
    assert wrong.code == 2 and "no such tagger" in wrong.err
