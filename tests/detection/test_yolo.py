"""YOLO as ONNX files with the signatures that its exporters write, every form of output read to the same finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from velatura import detection, settings
from velatura.detection import yolo
from velatura.detection.boxes import Letterbox, kept, overlap
from velatura.errors import ModelError, SettingsError
from velatura.generation.finds import Find

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIDE = 64
PLACES = 8 * 8 + 4 * 4 + 2 * 2
NAMES = "{0: 'face', 1: 'hand'}"

Array = NDArray[np.float32]


def network(
    path: Path,
    outputs: Sequence[Array],
    *,
    size: Sequence[Any] = (1, 3, SIDE, SIDE),
    half: bool = False,
    **metadata: str,
) -> Path:
    """An ONNX file that says these outputs, whatever it sees; it takes a picture as YOLO does."""
    from onnx import TensorProto, helper, numpy_helper

    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    given = helper.make_tensor_value_info("images", kind, list(size))
    nodes, made = [], []
    for place, output in enumerate(outputs):
        told = numpy_helper.from_array(output.astype(np.float16 if half else np.float32), f"said{place}")
        nodes.append(helper.make_node("Constant", [], [f"output{place}"], value=told))
        made.append(helper.make_tensor_value_info(f"output{place}", kind, list(output.shape)))
    model = helper.make_model(
        helper.make_graph(nodes, "yolo", [given], made), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def v8(*rows: tuple[int, Sequence[float]], features: int = 6) -> Array:
    """The output of a v8 in which some places say something: middle, size, probability of each class, and more."""
    said = np.zeros((1, features, PLACES), np.float32)
    for place, numbers in rows:
        said[0, : len(numbers), place] = numbers
    return said


FACE, DOUBLE, HAND = (5, (32, 20, 16, 8, 0.9, 0.1)), (6, (33, 20, 16, 8, 0.6, 0)), (70, (10, 50, 8, 8, 0, 0.5))


def rounded(finds: list[Find]) -> list[tuple[str, float, tuple[float, ...]]]:
    return [(one.label, round(one.confidence, 3), tuple(round(side, 3) for side in one.box)) for one in finds]


def test_boxes_are_told_by_their_middle_and_brought_back_to_the_picture(tmp_path: Path) -> None:
    """A picture of 128 x 64 lies at half its size in the middle of the square, 16 pixels down."""
    path = network(tmp_path / "face.onnx", [v8(FACE, HAND)], names=NAMES, imgsz="[64, 64]", task="detect")
    found = detection.detector(str(path), 0.3)(Image.new("RGB", (128, 64)))
    assert rounded(found) == [("face", 0.9, (48, 0, 80, 16)), ("hand", 0.5, (12, 60, 28, 64))]


def test_of_boxes_of_one_class_that_overlap_the_surest_is_kept_and_the_unsure_are_left_out(tmp_path: Path) -> None:
    hand = (7, (32, 20, 16, 8, 0, 0.7))
    path = network(tmp_path / "face.onnx", [v8(DOUBLE, FACE, HAND, hand)], names=NAMES)
    image = Image.new("RGB", (SIDE, SIDE))
    assert [one.label for one in detection.detector(str(path), 0.3)(image)] == ["face", "hand", "hand"]
    assert [one.label for one in detection.detector(str(path), 0.65)(image)] == ["face", "hand"]
    assert rounded(detection.detector(str(path), 0.95)(image)) == []


def test_every_form_of_output_says_the_same(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE))
    first = v8(FACE, DOUBLE, HAND)
    expected = rounded(yolo.Yolo(network(tmp_path / "v8.onnx", [first], names=NAMES), 0.3)(image))
    assert len(expected) == 2
    older = np.zeros((1, 3 * PLACES, 7), np.float32)
    for place, (x, y, wide, high, one, other) in (FACE, DOUBLE, HAND):
        older[0, 100 + place] = (x, y, wide, high, 0.95, one / 0.95, other / 0.95)
    last = np.zeros((1, 300, 6), np.float32)
    last[0, 0], last[0, 1] = (24, 16, 40, 24, 0.9, 0), (6, 46, 14, 54, 0.5, 1)
    forms = {"v5": older, "end to end": last, "turned": first.transpose(0, 2, 1)}
    for name, output in forms.items():
        path = network(tmp_path / f"{name}.onnx", [output], names=NAMES)
        assert rounded(yolo.Yolo(path, 0.3)(image)) == expected, name
    half = network(tmp_path / "half.onnx", [first], half=True, names=NAMES)
    assert [one[0] for one in rounded(yolo.Yolo(half, 0.3)(image))] == ["face", "hand"]
    unnamed = network(tmp_path / "unnamed.onnx", [first])
    assert [one[0] for one in rounded(yolo.Yolo(unnamed, 0.3)(image))] == ["0", "1"]


def test_shapes_are_mixed_of_prototypes_and_lie_in_their_boxes(tmp_path: Path) -> None:
    """The first prototype is positive in the left half of the square."""
    protos = np.zeros((1, 32, SIDE // 4, SIDE // 4), np.float32)
    protos[0, 0] = np.where(np.arange(SIDE // 4) < SIDE // 8, 4.0, -4.0)
    said = v8((5, (32, 32, 40, 24, 0.9, 0, 1.0)), features=4 + 2 + 32)
    path = network(tmp_path / "face-seg.onnx", [said, protos], names=NAMES, task="segment")
    (found,) = detection.detector(str(path), 0.3)(Image.new("RGB", (128, 128)))
    assert rounded([found]) == [("face", 0.9, (24, 40, 104, 88))]
    assert found.mask is not None
    assert found.mask.size == (128, 128)
    assert found.mask.getbbox() == (24, 40, 64, 88)
    end = np.zeros((1, 300, 38), np.float32)
    end[0, 0, :7] = (12, 20, 52, 44, 0.9, 0, 1.0)
    path = network(tmp_path / "end-seg.onnx", [end, protos], names=NAMES)
    (other,) = yolo.Yolo(path, 0.3)(Image.new("RGB", (128, 128)))
    assert other.mask is not None
    assert other.mask.tobytes() == found.mask.tobytes()


def test_what_the_network_sees_is_rgb_up_to_1_with_grey_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network(tmp_path / "face.onnx", [v8()], names=NAMES)
    told = yolo.Yolo(path, 0.3)
    seen: list[Array] = []
    session = told._session

    class Watched:
        def run(self, _: None, given: dict[str, Array]) -> Any:
            seen.append(given["images"])
            return session.run(None, given)

    monkeypatch.setattr(told, "_session", Watched())
    told(Image.new("RGB", (128, 64), (255, 102, 0)))
    (pixels,) = seen
    assert (pixels.shape, pixels.dtype) == ((1, 3, SIDE, SIDE), np.float32)
    assert np.allclose(pixels[0, :, 16:48], np.array([1.0, 0.4, 0.0])[:, None, None])
    assert np.allclose(pixels[0, :, :16], 114 / 255)
    assert np.allclose(pixels[0, :, 48:], 114 / 255)


def test_the_side_stands_in_the_input_or_in_the_metadata(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE))
    free = ("batch", 3, "height", "width")
    path = network(tmp_path / "free.onnx", [v8(FACE)], size=free, names=NAMES, imgsz="[64, 64]")
    assert yolo.Yolo(path, 0.3).size == (64, 64)
    assert rounded(yolo.Yolo(path, 0.3)(image))[0][0] == "face"
    assert yolo.Yolo(network(tmp_path / "silent.onnx", [v8(FACE)], size=free), 0.3).size == (640, 640)
    wide = network(tmp_path / "wide.onnx", [np.zeros((1, 6, 16 * 8 + 8 * 4 + 4 * 2), np.float32)], size=(1, 3, 64, 128))
    assert yolo.Yolo(wide, 0.3).size == (128, 64)
    assert yolo.Yolo(wide, 0.3)(image) == []


def test_what_is_no_detector_is_one_sentence(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE))
    pickled = tmp_path / "face_yolov8n.pt"
    pickled.write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match=r"could run any program.*yolo export model=face_yolov8n.pt format=onnx"):
        detection.detector(str(pickled), 0.3)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        detection.detector(str(broken), 0.3)
    flat = network(tmp_path / "flat.onnx", [v8()], size=(1, 10))
    with pytest.raises(ModelError, match="and not a picture"):
        detection.detector(str(flat), 0.3)
    other = network(tmp_path / "other.onnx", [np.zeros((1, 5, 7), np.float32)], names=NAMES)
    with pytest.raises(ModelError, match="1 x 5 x 7 for a picture of 64 x 64 and 2 classes"):
        detection.detector(str(other), 0.3)(image)
    more = network(tmp_path / "more.onnx", [v8(features=9)], names=NAMES)
    with pytest.raises(ModelError, match="of no YOLO that is known"):
        detection.detector(str(more), 0.3)(image)


def test_names_are_looked_up_in_the_folders_and_hands_are_explained(tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "adetailer"
    folder.mkdir()
    (folder / "face_yolov8n.pt").write_bytes(b"")
    (home / "config.toml").write_text(f"[folders]\ndetectors = ['{folder}']\n", encoding="utf-8")
    with pytest.raises(ModelError, match="yolo export"):
        detection.detector("face_yolov8n", 0.3)
    path = network(folder / "face_yolov8n.onnx", [v8()])
    assert settings.find_detector("face_yolov8n") == path
    assert settings.find_detector("face_yolov8n.onnx") == path
    with pytest.raises(SettingsError, match=r"did you mean face_yolov8n\?"):
        detection.detector("face_yolov8", 0.3)
    for name in ("hand", "hands"):
        with pytest.raises(SettingsError, match="hands are found by a model that does not come with the program"):
            detection.detector(name, 0.3)
    with pytest.raises(SettingsError, match="use scene for drawn faces"):
        detection.detector("face", 0.3)
    with pytest.raises(SettingsError, match="no detector is named scne; did you mean scene"):
        detection.detector("scne", 0.3)
    with pytest.raises(SettingsError, match=r"confidence of 1\.5"):
        detection.detector("scene", 1.5)
    network(folder / "hand.onnx", [v8()])
    assert detection.detector("hand", 0.3)(Image.new("RGB", (SIDE, SIDE))) == []


def test_boxes_overlap_by_what_they_share_of_what_both_cover() -> None:
    one = np.array([0, 0, 10, 10], np.float32)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20], [2, 2, 4, 4]], np.float32)
    assert overlap(one, others).tolist() == pytest.approx([1, 1 / 3, 0, 0.04])
    assert kept(others, np.array([0.5, 0.9, 0.8, 0.1], np.float32), 0.3) == [1, 2, 3]
    labels = np.array([0, 1, 0, 0])
    assert kept(others, np.array([0.5, 0.9, 0.8, 0.1], np.float32), 0.3, labels) == [1, 2, 0, 3]


@pytest.mark.parametrize(("picture", "left", "top"), [((100, 100), 0, 0), ((100, 50), 0, 16), ((33, 64), 15, 0)])
def test_a_picture_lies_in_the_middle_and_comes_back_where_it_was(
    picture: tuple[int, int], left: int, top: int
) -> None:
    box = Letterbox.of(picture, (64, 64))
    assert (box.left, box.top) == (left, top)
    inner = np.array([left, top, left + box.inner[0], top + box.inner[1]], np.float32)
    assert box.back(inner) == pytest.approx((0, 0, *picture), abs=0.6)
