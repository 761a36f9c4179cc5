"""The tagger, on a small model with the genuine inputs, outputs and list of tags."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velatura.captioning.captioner import Asked
from velatura.captioning.wd14 import Choice, WD14Tagger, prepared, spaced
from velatura.captioning.writing import Captioning
from velatura.dataset import authors
from velatura.errors import MissingExtra, ModelError

onnx = pytest.importorskip("onnx", reason="the small model is made with onnx")
pytest.importorskip("onnxruntime", reason="taggers run with onnxruntime")

SIDE = 32
ROWS = [
    ("general", 9), ("sensitive", 9), ("questionable", 9), ("explicit", 9),
    ("1girl", 0), ("long_hair", 0), ("^_^", 0), ("solo", 0), ("grey_background", 0),
    ("jeanne_(alter)", 4), ("zelda", 4),
]  # fmt: skip
BIASES = [0.6, 0.3, 0.05, 0.01, 0.30, 0.9, 0.5, 0.4, 0.95, 0.9, 0.8]


def model(folder: Path, *, batch: int | str = "batch_size", values: list[float] | None = None, rows: int = 99) -> Path:
    """`selected_tags.csv` and `model.onnx`: NHWC in, probabilities out.

    Each is its bias, and the last follows the blue channel of the middle: 0.8 at blue 0, more with blue.
    """
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    biases = np.array(values or BIASES, dtype=np.float32)
    weights = np.zeros((3, len(biases)), dtype=np.float32)
    weights[0, -1] = 1 / 2550  # the first channel is blue
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["weighed"]),
        helper.make_node("Add", ["weighed", "biases"], ["predictions"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [batch, len(biases)])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(biases, "biases")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model.onnx").write_bytes(made.SerializeToString())
    lines = [f"{number},{name},{kind},100" for number, (name, kind) in enumerate(ROWS[:rows])]
    (folder / "selected_tags.csv").write_text(
        "\n".join(["tag_id,name,category,count", *lines]) + "\n", encoding="utf-8"
    )
    return folder


def picture(path: Path, colour: tuple[int, ...] = (255, 255, 0), mode: str = "RGB") -> Asked:
    Image.new(mode, (64, 64), colour).save(path)
    return Asked(path.name, path)


def tags(folder: Path, asked: Asked, choice: Choice | None = None) -> str:
    [answer] = WD14Tagger(folder, choice).describe([asked])
    return answer.captions[0] if answer.captions else f"none: {answer.why}"


def test_a_picture_is_padded_with_white_to_a_square_and_turned_to_blue_green_red() -> None:
    made = prepared(Image.new("RGB", (64, 32), (10, 20, 30)), 64)

    assert made.shape == (64, 64, 3) and made.dtype == np.float32 and made.flags.c_contiguous
    assert made[32, 0].tolist() == [30, 20, 10]
    assert (made[:16] == 255).all() and (made[48:] == 255).all() and (made[16:48] == [30, 20, 10]).all()
    assert prepared(Image.new("RGB", (100, 300), (0, 0, 0)), SIDE).shape == (SIDE, SIDE, 3)


def test_transparency_is_white(tmp_path: Path) -> None:
    asked = picture(tmp_path / "a.png", (0, 0, 0, 0), "RGBA")
    assert (prepared(asked.image(), SIDE) == 255).all()


def test_tags_by_threshold_characters_first_the_most_probable_first(tmp_path: Path) -> None:
    folder, asked = model(tmp_path / "wd-vit-tagger-v3"), picture(tmp_path / "a.png")

    assert tags(folder, asked) == "jeanne (alter), grey background, long hair, ^_^, solo, 1girl"  # over 0.2614
    assert (
        tags(folder, asked, Choice(by_confidence=False))
        == "jeanne (alter), 1girl, long hair, ^_^, solo, grey background"
    )
    assert tags(folder, asked, Choice(general=0.45)) == "jeanne (alter), grey background, long hair, ^_^"
    assert tags(folder, asked, Choice(general=0.45, character=0.1)).startswith("jeanne (alter), zelda, ")
    assert tags(folder, asked, Choice(most=2, character=1.0)) == "grey background, long hair"
    assert tags(folder, asked, Choice(general=0.9, rating=True, underscores=True, undesired=("*background",))) == (
        "general, jeanne_(alter), long_hair"
    )
    assert tags(folder, asked, Choice(general=1.0, character=1.0)) == "none: no tag is probable enough"


def test_the_balance_of_precision_and_recall_is_the_models_own_else_035(tmp_path: Path) -> None:
    assert WD14Tagger(model(tmp_path / "wd-v1-4-moat-tagger-v2")).threshold == 0.3771
    assert WD14Tagger(model(tmp_path / "mine")).settings["general"] == 0.35
    assert "1girl" not in tags(tmp_path / "mine", picture(tmp_path / "a.png"))


def test_the_first_channel_is_blue(tmp_path: Path) -> None:
    folder = model(tmp_path / "mine")

    assert "zelda" in tags(folder, picture(tmp_path / "blue.png", (0, 0, 255)))
    assert "zelda" not in tags(folder, picture(tmp_path / "red.png", (255, 0, 0)))


def test_models_of_one_picture_at_once_and_of_many_say_the_same(tmp_path: Path) -> None:
    many = [picture(tmp_path / f"{blue}.png", (0, 0, blue)) for blue in range(0, 250, 25)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    asked = [*many[:3], Asked("broken.png", broken), *many[3:]]

    one = WD14Tagger(model(tmp_path / "one", batch=1)).describe(asked)
    several = WD14Tagger(model(tmp_path / "several"), batch=4).describe(asked)

    four = WD14Tagger(model(tmp_path / "four", batch=4)).describe(asked)  # ten pictures: two are missing at the end

    assert one == several == four and one[3].captions == () and one[3].why
    assert [bool(answer.captions) and "zelda" in answer.captions[0] for answer in one].index(True) > 3


def test_faces_keep_their_underscores() -> None:
    faces = ["^_^", "o_o", "(o)_(o)", "x_x", "0_0", ">_<", "|_|"]
    assert [spaced(tag) for tag in faces] == faces and spaced("long_hair") == "long hair"


def test_a_set_is_tagged_and_a_persons_words_stay(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        picture(tmp_path / "set" / f"{name}.png")
    (tmp_path / "set" / "b.txt").write_text("my own words")

    work = Captioning(tmp_path / "set", WD14Tagger(model(tmp_path / "mine"), Choice(most=1)))
    list(work)

    assert work.result.written == ("a.png",) and work.result.kept == ("b.png",)
    assert (tmp_path / "set" / "a.txt").read_text() == "jeanne (alter), grey background\n"
    assert (tmp_path / "set" / "b.txt").read_text() == "my own words"
    assert authors.load(tmp_path / "set").settings("a.png")["model"] == "mine"


def test_an_id_is_read_from_the_cache_and_nothing_is_fetched_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="fetching is switched off"):
        WD14Tagger("SmilingWolf/wd-vit-tagger-v3")
    model(tmp_path / "hub" / "models--SmilingWolf--wd-vit-tagger-v3" / "snapshots" / ("a" * 40))

    assert WD14Tagger("SmilingWolf/wd-vit-tagger-v3").threshold == 0.2614


def test_without_onnxruntime_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"run with onnxruntime; pip install 'velatura\[caption\]'"):
        WD14Tagger(model(tmp_path / "mine"))


def test_what_is_not_a_tagger_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such tagger"):
        WD14Tagger(tmp_path / "nowhere")
    folder = model(tmp_path / "short", rows=3)
    with pytest.raises(ModelError, match=r"the model knows 11 tags, its selected_tags\.csv names 3"):
        WD14Tagger(folder)
    (folder / "selected_tags.csv").unlink()
    with pytest.raises(ModelError, match="list of the model's tags"):
        WD14Tagger(folder)
    (folder / "selected_tags.csv").write_text("tag_id,name,category,count\n")
    (folder / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot be read"):
        WD14Tagger(folder)
