"""Commands from the words to what they leave behind. Training and painting themselves are tested elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageOps

from tests.paintings import clouds
from velatura import api, bases, recipe, settings
from velatura import run as runs
from velatura.api.training.planning import BucketPlan, Estimate
from velatura.brief import load as load_brief
from velatura.events import Checkpoint, Done, Event, Note, Progress

Velatura = Callable[..., Any]


# velatura new


def test_new_makes_a_project_and_says_what_to_do_next(velatura: Velatura, tmp_path: Path, pictures: Path) -> None:
    answer = velatura("new", "ink", "--images", pictures, "--trigger", "inkstyle")

    assert answer.code == 0
    assert "ink is ready with 3 pictures" in answer.out and "`velatura train ink`" in answer.out
    made = recipe.load(tmp_path / "ink")
    assert (made.name, made.base.model, made.dataset.trigger) == ("ink", "pocket", "inkstyle")
    assert load_brief(tmp_path / "ink").trigger == "inkstyle"
    assert "# Optimizer steps, not micro-batches." in (tmp_path / "ink" / "recipe.toml").read_text()


def test_new_tells_machines_the_same(velatura: Velatura, pictures: Path) -> None:
    (pictures / "bad.png").write_text("no picture")

    (told,) = velatura("new", "ink", "--images", pictures, "--json").json

    assert told["folder"] == "ink" and told["pictures"] == 3
    assert [problem["name"] for problem in told["problems"]] == ["b.caption", "bad.png"]


def test_a_base_given_by_its_path_is_found_from_the_project_too(velatura: Velatura, tmp_path: Path) -> None:
    shutil.copytree(settings.BUILT_IN_BASES["pocket"], tmp_path / "dream")

    assert velatura("new", "deep/ink", "--base", "dream").code == 0

    made = recipe.load(tmp_path / "deep" / "ink").base
    assert Path(made.model) == tmp_path / "dream"
    assert made.sha256 == bases.base_hash(bases.locate(bases.BaseFiles(tmp_path / "dream")))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ink", "--base", "poket"), "error: no base model is named poket; did you mean pocket?"),
        (("ink", "--images", "nowhere"), "error: there is no such folder (nowhere); check the path"),
        (
            ("ink", "--images", "empty"),
            "error: the folder holds no pictures (empty); put PNG, JPEG or WebP files into it",
        ),
        (("con",), "error: 'con' cannot be a name on every system; take con_"),
        (("what?",), "error: 'what?' cannot be a name on every system; take what-"),
    ],
    ids=range(5),
)
def test_new_refuses_in_one_sentence_and_makes_nothing(
    velatura: Velatura, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()

    answer = velatura("new", *words)

    assert answer.code == 2 and answer.err.splitlines() == [sentence]
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_place_that_may_not_be_written_is_one_sentence(velatura: Velatura, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    answer = velatura("new", "file/ink")

    assert answer.code == 2
    assert "error: a file stands where a folder is needed" in answer.err


def test_an_existing_project_is_not_overwritten(velatura: Velatura, tmp_path: Path) -> None:
    velatura("new", "ink")
    (tmp_path / "ink" / "recipe.toml").write_text("precious")

    answer = velatura("new", "ink")

    assert answer.code == 2 and "there is a project here already" in answer.err
    assert (tmp_path / "ink" / "recipe.toml").read_text() == "precious"


# velatura runs


def test_runs_are_listed_with_state_steps_and_choice(velatura: Velatura, tmp_path: Path) -> None:
    velatura("new", "ink")
    told = recipe.load(tmp_path / "ink", ["train.steps=300"])
    finished, stopped, running, damaged, fresh = (
        runs.create(tmp_path / "ink", told, provenance={}, dataset_lines=[]) for _ in range(5)
    )
    (finished.path / "result.json").write_text('{"step": 200, "chosen": true}')
    stopped.append(Checkpoint(100, "checkpoints/step-000100"))
    stopped.append(Progress("training", 120, 300))
    stopped.append(Progress("painting", 4, 4))
    running.append(Progress("training", 7, 300))
    (damaged.path / "provenance.json").write_text("{")

    with runs.lock(running):
        listed = velatura("runs", "ink", "--json").json[0]
        shown = velatura("runs", "ink").out

    assert [(one["state"], one["step"], one["chosen"]) for one in listed] == [
        ("finished", 300, 200),
        ("stopped", 120, None),
        ("running", 7, None),
        ("damaged", 0, None),
        ("stopped", 0, None),
    ]
    assert [one["name"] for one in listed] == [f"000{number}-ink" for number in range(1, 6)]
    assert fresh.path.name in shown and "stopped at step 120" in shown and "step 200" in shown


def test_a_project_without_runs_says_how_to_start_one(velatura: Velatura) -> None:
    velatura("new", "ink")

    answer = velatura("runs", "ink")

    assert answer.code == 0 and answer.out == "no runs yet; `velatura train ink` starts one\n"
    assert velatura("runs", "ink", "--json").json == [[]]


def test_a_folder_that_is_no_project_has_no_runs(velatura: Velatura) -> None:
    answer = velatura("runs", "nowhere")

    assert answer.code == 2 and "error: this is not a project (nowhere)" in answer.err


# velatura dataset check


def test_a_sound_dataset_exits_with_0(velatura: Velatura, tmp_path: Path) -> None:
    for seed in range(6):
        picture = clouds(seed, (96, 64)).convert("L")
        ImageOps.colorize(picture, "black", f"hsl({seed * 60}, 90%, 60%)").save(tmp_path / f"{seed}.png")
        (tmp_path / f"{seed}.txt").write_text("a sky")

    answer = velatura("dataset", "check", tmp_path)

    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[:2] == ["pictures: 6, 96 x 64 pixels", "with a caption: 6"]
    assert lines[-1] == "no problems found" and not any(line.startswith(("error", "warning")) for line in lines)


def test_problems_of_a_dataset_exit_with_1(velatura: Velatura, pictures: Path) -> None:
    (pictures / "c.png").write_bytes((pictures / "a.png").read_bytes())
    (pictures / "d.png").write_text("no picture")
    before = {path.name: path.read_bytes() for path in pictures.iterdir()}

    answer = velatura("dataset", "check", pictures, "--sheet", "sheet.png")
    told = velatura("dataset", "check", pictures, "--json").json[0]

    assert answer.code == 1
    for sentence in (
        "error: d.png is left out",
        "warning: b.caption is not UTF-8",
        "warning: a.png, c.png: the same file",
    ):
        assert sentence in answer.out
    assert "why: " in answer.out and "fix: velatura dataset reject pictures c.png" in answer.out
    assert (pictures.parent / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert told["nearly_the_same"] == [["a.png", "c.png"]] and len(told["problems"]) == 3
    assert {"kind", "level", "names", "what", "why", "fix"} == set(told["findings"][0])
    assert [one["captions"] for one in told["pictures"]] == [["a boat"], ["ein Haus, größer"], None, None]
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == before


@pytest.mark.parametrize("made", ["missing", "empty", "broken", "project"])
def test_a_folder_without_pictures_exits_with_2(velatura: Velatura, tmp_path: Path, made: str) -> None:
    if made == "project":
        velatura("new", "set")
    elif made != "missing":
        (tmp_path / "set").mkdir()
    if made == "broken":
        (tmp_path / "set" / "a.png").write_text("no picture")

    answer = velatura("dataset", "check", "set")

    assert answer.code == 2 and answer.out == ""
    assert len(answer.err.splitlines()) == 1 and answer.err.startswith("error: ")


# velatura plan, train, evaluate, generate, demo


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ink", "--set", "train.stpes=5"), "error: unknown setting train.stpes"),
        (("ink", "--set", "train.steps"), "error: cannot read the setting 'train.steps'"),
        (("nowhere.toml",), "error: there is no such file or folder (nowhere.toml); check the path"),
    ],
    ids=range(3),
)
def test_a_wrong_recipe_is_one_sentence(
    velatura: Velatura, command: str, words: tuple[str, ...], sentence: str
) -> None:
    velatura("new", "ink")

    answer = velatura(command, *words)

    assert answer.code == 2 and answer.out == ""
    assert answer.err.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in answer.err


def test_a_wrong_key_in_the_file_names_the_nearest_and_the_file(velatura: Velatura, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[train]\nlearning_rat = 1e-4\n")

    answer = velatura("train")

    assert answer.code == 2
    assert answer.err == (
        "error: unknown setting train.learning_rat (recipe.toml); did you mean train.learning_rate?\n"
    )


def worker(asked: dict[str, Any], summary: dict[str, Any]) -> Callable[..., Iterator[Event]]:
    """Stands in for the work; writes down what it was asked."""

    def work(*arguments: Any, **options: Any) -> Iterator[Event]:
        asked.update(options, arguments=arguments)
        yield Note("it begins")
        yield Done(1, summary)

    return work


def test_train_hands_on_what_it_is_told_and_shows_how_it_ended(
    velatura: Velatura, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    summary = {
        "lora": "loras/ink.safetensors",
        "reasons": ["It is good.", "It is early."],
        "warnings": [],
        "chosen": True,
    }
    monkeypatch.setattr(api, "train", worker(asked, summary))

    answer = velatura("train", "ink", "--set", "train.steps=5", "--set", "train.batch=2", "--new", "--refit")

    overrides = ["train.steps=5", "train.batch=2"]
    more = {"more": 0, "start": "", "weights_only": False}
    assert asked == {"arguments": (Path("ink"),), "overrides": overrides, "new": True, "refit": True, **more}
    assert answer.code == 0 and answer.err == "it begins\n"
    assert answer.out.splitlines() == [
        "lora: loras/ink.safetensors",
        "reasons:",
        "  It is good.",
        "  It is early.",
    ]
    monkeypatch.setattr(api, "train", worker({}, {"step": 40, "chosen": False, "finished_before": True}))
    assert velatura("train").out == "step: 40\nno checkpoint can be recommended; this is the last one\n"


def test_machines_get_the_events_alone(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "evaluate", worker({}, {"lora": "a"}))

    answer = velatura("evaluate", "runs/0001-ink", "--json")

    assert [one["event"] for one in answer.json] == ["note", "done"] and answer.err == ""


def test_generate_hands_on_what_it_is_told(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(api, "generate", worker(asked, {"folder": "images"}))

    velatura("generate", "a boat <lora:ink:0.8>", "--lora", "a.safetensors:0.5", "--lora", "b", "--seed", 7, "-n", 4,
             "--steps", 12, "--cfg", 4, "--width", 96, "--out", "here", "--negative", "blurry")  # fmt: skip

    (request,) = asked["arguments"]
    assert request == api.GenerateRequest(
        prompt="a boat <lora:ink:0.8>", negative="blurry", base="pocket", loras=("a.safetensors:0.5", "b"), seed=7,
        steps=12, cfg=4.0, width=96, count=4, out=Path("here"), project=None,
    )  # fmt: skip


def test_generate_inside_a_project_takes_its_base_and_its_loras(
    velatura: Velatura, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    velatura("new", "ink")
    text = (tmp_path / "ink" / "recipe.toml").read_text()
    (tmp_path / "ink" / "recipe.toml").write_text(text.replace('model = "pocket"', 'model = "dream"'))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(api, "generate", worker(asked, {}))
    monkeypatch.chdir(tmp_path / "ink" / "dataset")

    velatura("generate", "a boat")

    assert asked["arguments"][0].project == tmp_path / "ink" and asked["arguments"][0].base == "dream"
    velatura("generate", "a boat", "--base", "pocket")
    assert asked["arguments"][0].base == "pocket"


def test_plan_shows_numbers_and_notes(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"128x128": BucketPlan(11, 22, 6, 1), "160x96": BucketPlan(4, 4, 1, 0)}
    made = api.Plan(
        steps=1500, batch=4, accumulation=2, pictures=15, held_out=4, steps_per_epoch=4, epochs=375.0, images=9750,
        buckets=sizes, checkpoints=6, trained=2_000_000, disk={"adapter": 4_000_000, "run": 48_000_000},
        warnings=["each picture is seen 650 times"], notes=["no caption: a.png"],
    )  # fmt: skip
    monkeypatch.setattr(api, "plan", lambda path, overrides: made)

    lines = velatura("plan", "ink").out.splitlines()

    assert lines[0] == "1500 steps of up to 4 x 2 pictures: 375 epochs of 4 steps, 9750 pictures seen"
    assert lines[1] == "15 pictures, 4 held out"
    assert lines[3].split() == ["128x128", "11", "22", "6", "1"]
    assert "not measured on this machine yet" in lines[5] and "6 checkpoints of 4 MB each" in lines[6]
    assert lines[-2:] == ["warning: each picture is seen 650 times", "note: no caption: a.png"]
    assert velatura("plan", "ink", "--json").json == [json.loads(json.dumps(made.to_dict()))]

    known = Estimate(0.5, 750.0, 10.0, 7200.0, 0.08, 2 * 1024**3, 0.05, 1.0, 0.01, "2026-01-02", ["measured with lion"])
    monkeypatch.setattr(api, "plan", lambda path, overrides: replace(made, estimate=known))
    told = velatura("plan", "ink").out
    assert (
        "time: about 2 h 13 min (training 12 min, encoding the pictures 10 s, painting and judging 2 h 00 min)" in told
    )
    assert "0.50 s for a step, give or take 8%, as measured here on 2026-01-02" in told
    assert "memory while training: about 2.0 GB, give or take 5%" in told and "note: measured with lion" in told


def test_plan_measures_where_it_is_told_to(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def measured(path: Path, overrides: list[str]) -> Iterator[Event]:
        asked.append(path)
        yield Progress("measuring", 1, 1)

    velatura("new", "ink")
    monkeypatch.setattr(api, "calibrate", measured)

    assert velatura("plan", "ink").code == 2 and not asked  # there is no picture yet
    velatura("plan", "ink", "--probe")
    assert asked == [Path("ink")]


def test_the_demos_styles_are_listed(velatura: Velatura) -> None:
    answer = velatura("demo", "--list")

    assert answer.code == 0 and "watercolour" in answer.out
    assert "watercolour" in velatura("demo", "--list", "--json").json[0]


def test_demo_hands_on_what_it_is_told(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("velatura.demo.run", worker(asked, {"report": "demo/report.html"}))

    answer = velatura("demo", "here", "--images", "mine", "--seed", 3)

    assert asked["arguments"] == (Path("here"),) and asked["images"] == Path("mine") and asked["seed"] == 3
    assert answer.out == "report: demo/report.html\n"


@pytest.mark.parametrize("told", [["--style", "neon"], ["--portraits"]], ids=["style", "portraits"])
def test_the_demo_does_not_draw_where_pictures_are_brought(velatura: Velatura, told: list[str]) -> None:
    answer = velatura("demo", "here", "--images", "mine", *told)

    assert answer.code == 2
    assert f"{told[0]} says how pictures are drawn, and --images brings them" in answer.err


# velatura bases


def test_bases_lists_what_there_is_and_what_is_missing(
    velatura: Velatura, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "nobody")
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "broken \N{ARTIST PALETTE}.safetensors").write_bytes(b"x")
    (home / "config.toml").write_text(f"[folders]\nbases = ['{tmp_path / 'bases'}']\n")

    answer = velatura("bases")

    assert answer.code == 0
    heads, pocket, broken = answer.out.splitlines()
    assert heads.split() == ["base", "family", "variant", "missing", "precision", "size", "where"]
    assert pocket.split()[:6] == ["pocket", "sd15", "sd_v1", "-", "fp16", "22"]
    assert broken.startswith("broken \N{ARTIST PALETTE}") and "empty or cut off" in broken
    told = velatura("bases", "--json").json
    assert [(one["name"], one["family"], bool(one["problem"])) for one in told] == [
        ("pocket", "sd15", False),
        ("broken \N{ARTIST PALETTE}", "", True),
    ]


def test_bases_of_other_programs_are_listed_without_being_named(velatura: Velatura, neighbourhood: Path) -> None:
    there = neighbourhood / "ComfyUI" / "models" / "checkpoints"
    there.mkdir(parents=True)
    (there / "broken.safetensors").write_bytes(b"x")
    *_, last = velatura("bases").out.splitlines()
    assert last.startswith("broken")


# velatura doctor


def test_doctor_tells_what_a_base_is_and_what_it_lacks(velatura: Velatura, tmp_path: Path) -> None:
    folder = shutil.copytree(settings.BUILT_IN_BASES["pocket"], tmp_path / "dream")

    answer = velatura("doctor", "--base", "dream")

    assert answer.code == 0
    assert answer.out.splitlines()[1].split()[:3] == ["ok", "base", "dream"]
    (told,) = velatura("doctor", "--base", "dream", "--json").json
    assert (told["family"], len(told["parts"])) == ("sd15", 3)

    for path in (folder / "vae").glob("*.safetensors"):
        path.unlink()
    answer = velatura("doctor", "--base", "dream")
    assert answer.code == 1
    assert answer.out.splitlines()[-1].split()[:5] == ["!!", "autoencoder", "(VAE)", "missing;", "give"]


def test_doctor_fetches_nothing(velatura: Velatura, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))

    answer = velatura("doctor", "--base", "ada/dream")

    assert answer.code == 2 and "ada/dream is neither a file here nor in the cache" in answer.err
    assert velatura("new", "ink", "--base", "ada/dream").code == 0
    assert recipe.load(tmp_path / "ink").base == recipe.BaseSettings(model="ada/dream")


def test_doctor_shows_its_findings_and_exits_by_them(velatura: Velatura, monkeypatch: pytest.MonkeyPatch) -> None:
    from velatura.doctor.examine import Finding

    found = [Finding("Python", "3.11.7"), Finding("extra caption", "not installed", "note", "pip install it")]
    monkeypatch.setattr("velatura.doctor.examine.examine", lambda: found)

    answer = velatura("doctor")
    assert answer.code == 0
    assert answer.out.splitlines()[1:] == [
        "ok  Python         3.11.7",
        "--  extra caption  not installed; pip install it",
    ]

    found.append(Finding("disk", "full", "wrong", "free some space"))
    told = velatura("doctor", "--json")
    assert told.code == 1
    assert told.json[0][-1] == {"subject": "disk", "says": "full", "state": "wrong", "fix": "free some space"}


# velatura recipe


def test_shipped_recipes_are_listed_and_shown(velatura: Velatura) -> None:
    listed = velatura("recipe", "list")
    assert listed.code == 0
    assert {line.split()[0] for line in listed.out.splitlines()[1:]} >= {"sd15-person", "sdxl-style", "flux1-style"}

    shown = velatura("recipe", "show", "z-image-style").out
    assert "nine drawings" in shown and "steps = 1000" in shown
    assert "did you mean flux1-style?" in velatura("recipe", "show", "flux-style").err


def test_a_project_begins_with_a_shipped_recipe(velatura: Velatura, tmp_path: Path, pictures: Path) -> None:
    assert velatura("new", "hand", "--recipe", "pocket-style", "--images", pictures, "--trigger", "hand").code == 0
    made = recipe.load(tmp_path / "hand")
    assert (made.name, made.dataset.trigger, made.train.steps, made.base.model) == ("hand", "hand", 400, "pocket")
    assert (tmp_path / "hand" / "recipe.toml").read_text(encoding="utf-8").startswith("# A style of 10 to 40 pictures")

    wrong = velatura("new", "mara", "--recipe", "sdxl-style", "--base", "pocket")
    assert wrong.code == 2 and "is for bases of sdxl, and pocket is one of sd15" in wrong.err
    assert not (tmp_path / "mara").exists()

    assert velatura("new", "mara", "--recipe", "z-image-style").code == 0
    assert recipe.load(tmp_path / "mara").base.model == "Tongyi-MAI/Z-Image"


def test_a_recipe_is_checked_and_its_schema_printed(velatura: Velatura, tmp_path: Path) -> None:
    velatura("new", "ink", "--trigger", "inkstyle")

    answer = velatura("recipe", "check", "ink")
    assert answer.code == 0 and 'dataset.trigger = "inkstyle"' in answer.out
    (tmp_path / "ink" / "recipe.toml").write_text("[train]\nstep = 3\n", encoding="utf-8")
    assert "did you mean train.steps?" in velatura("recipe", "check", "ink").err
    (schema,) = velatura("recipe", "schema").json
    assert "train" in schema["properties"]


def test_a_recipe_of_another_trainer_is_carried_over_with_an_account(velatura: Velatura, tmp_path: Path) -> None:
    script = tmp_path / "train.bat"
    script.write_bytes(
        b"accelerate launch sdxl_train_network.py ^\r\n --network_dim 8 --learning_rate 1e-4 --color_aug --xformers\r\n"
    )

    printed = velatura("recipe", "import", script)
    assert printed.code == 0 and "rank = 8" in printed.out and "color_aug = true" in printed.err

    answer = velatura("recipe", "import", script, "-o", "recipe.toml")
    assert answer.code == 0
    assert "From kohya-ss/sd-scripts: 2 settings carried over, 2 not." in answer.out
    written = (tmp_path / "recipe.toml").read_text(encoding="utf-8")
    assert written.startswith("# From train.bat, a file of kohya-ss/sd-scripts.") and "color_aug = true" in written
    assert recipe.load(tmp_path / "recipe.toml").adapter.rank == 8
    assert "there is something here already" in velatura("recipe", "import", script, "-o", "recipe.toml").err

    (told,) = velatura("recipe", "import", script, "--json").json
    assert {one["key"] for one in told["left"]} == {"color_aug", "xformers"}
