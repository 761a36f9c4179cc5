"""Models that find faces and subjects: small ONNX files with the inputs and outputs of the genuine ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from velatura.dataset import faces, masking
from velatura.errors import DatasetError

onnx = pytest.importorskip("onnx", reason="the small models are made with onnx")
pytest.importorskip("onnxruntime", reason="subjects are found with onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402  # behind the line that skips where it is missing


def written(path: Path, nodes: list[object], inputs: list[object], outputs: list[object], **weights: object) -> Path:
    kept = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    path.write_bytes(made.SerializeToString())
    return path


def yunet(path: Path) -> Path:
    """YuNet's input and twelve outputs at strides of 8, 16 and 32; a bright cell of 16 pixels is a face of 48 by 64."""
    nodes, outputs, weights = [], [], {}
    for stride in (8, 16, 32):
        for name, wide in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            seen = np.zeros((wide, 3, stride, stride), np.float32)
            bias = np.zeros(wide, np.float32)
            if stride == 16 and wide == 1:
                seen[:] = 1 / (255 * 3 * stride * stride)
            if name == "bbox":
                bias[:] = 0.5, 0.5, math.log(48 / stride), math.log(64 / stride)
            if name == "kps":  # eyes, nose, corners of the mouth
                bias[:] = -0.5, -0.5, 1.5, -0.5, 0.5, 0.5, -0.3, 1.5, 1.3, 1.5
            key = f"{name}_{stride}"
            weights |= {f"{key}_w": seen, f"{key}_b": bias, f"{key}_s": np.array([1, -1, wide], np.int64)}
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input", f"{key}_w", f"{key}_b"],
                    [f"{key}_c"],
                    kernel_shape=[stride] * 2,
                    strides=[stride] * 2,
                ),
                helper.make_node("Transpose", [f"{key}_c"], [f"{key}_t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{key}_t", f"{key}_s"], [key]),
            ]
            outputs.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [1, None, wide]))
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    return written(path, nodes, [given], outputs, **weights)


def sface(path: Path) -> Path:
    """SFace's input of 112 pixels and its 128 numbers: here they follow the colour."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["fc1"]),
    ]
    given = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])
    told = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 128])
    weights = np.zeros((3, 128), np.float32)
    weights[[0, 1, 2], [0, 1, 2]] = 1
    return written(path, nodes, [given], [told], weights=weights)


def subjects(path: Path, side: int, outputs: int, *, over: float, logits: bool = False) -> Path:
    """A network of several maps, the first of which is 1 (a logit of 6) where red, as it is given, is over a value."""
    nodes = [
        helper.make_node("Slice", ["input.1", "zero", "one", "axis"], ["red"]),
        helper.make_node("Greater", ["red", "over"], ["true"]),
        helper.make_node("Cast", ["true"], ["share"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["share", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "least"], ["0"]),
        *(helper.make_node("Identity", ["red"], [str(place)]) for place in range(1, outputs)),
    ]
    given = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, side, side])
    told = [
        helper.make_tensor_value_info(str(place), TensorProto.FLOAT, [1, 1, side, side]) for place in range(outputs)
    ]
    return written(
        path, nodes, [given], told,
        zero=np.array([0], np.int64), one=np.array([1], np.int64), axis=np.array([1], np.int64),
        over=np.array(over, np.float32), gain=np.array(12 if logits else 1, np.float32),
        least=np.array(-6 if logits else 0, np.float32),
    )  # fmt: skip


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    """A bright spot in front of black, of 16 pixels at 160, 96 in the half of it that is looked at."""
    image = Image.new("RGB", (1280, 960))
    ImageDraw.Draw(image).rectangle((320, 192, 320 + 31, 192 + 31), fill=(255, 255, 255))
    path = tmp_path / "portrait.png"
    image.save(path)
    return path


def test_yunet_finds_a_face_where_it_is(portrait: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="faces are found with OpenCV")
    model = yunet(tmp_path / "yunet.onnx")

    [(left, top, right, bottom)] = faces.find_faces(Image.open(portrait), model=model)

    assert (right - left, bottom - top) == pytest.approx((96, 128), abs=1)
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((336, 208), abs=1)
    mask = masking.face(model=model, margin=0)(portrait)
    assert mask is not None and mask.getpixel((336, 208)) == 255 and mask.getpixel((900, 700)) == 0
    assert faces.find_faces(Image.new("RGB", (640, 480)), model=model) == []


def test_sface_tells_two_people_apart(portrait: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="faces are found with OpenCV")
    told = {"detector": yunet(tmp_path / "yunet.onnx"), "recogniser": sface(tmp_path / "sface.onnx")}
    someone = Image.open(portrait).convert("RGB")
    red = Image.merge("RGB", (someone.getchannel(0), *[someone.getchannel(1).point(lambda v: v * 0.9)] * 2))
    other = Image.merge("RGB", (someone.getchannel(0).point(lambda v: v * 0.9), *someone.split()[1:]))

    one, same, another = (faces.identity(image, **told) for image in (red, red, other))

    assert one is not None and same is not None and another is not None
    assert float(one @ same) == pytest.approx(1) and float(one @ another) < float(one @ same)
    assert faces.identity(Image.new("RGB", (640, 480)), **told) is None


def test_a_file_that_is_another_network_is_one_sentence(portrait: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="faces are found with OpenCV")
    for wrong in (sface(tmp_path / "sface.onnx"), portrait):
        with pytest.raises(DatasetError, match="this is not YuNet's ONNX file"):
            faces.find_faces(Image.open(portrait), model=wrong)
    with pytest.raises(DatasetError, match="not an ONNX file"):
        masking.subject(portrait)


def halves(path: Path) -> Path:
    """Left lighter than right."""
    image = Image.new("RGB", (120, 90), (100, 100, 100))
    image.paste((200, 200, 200), (0, 0, 60, 90))
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("name", "side", "outputs", "over", "logits"),
    [
        ("u2net.onnx", 320, 7, 1.0, False),  # red is (0.784 - 0.485) / 0.229 = 1.31 on the left
        ("isnet-general-use.onnx", 256, 12, 0.2, False),  # 0.784 - 0.5 = 0.284 on the left
        ("BiRefNet-general.onnx", 256, 1, 1.0, True),
    ],
)
def test_each_kind_of_network_is_given_the_numbers_that_it_was_trained_on(
    name: str, side: int, outputs: int, over: float, logits: bool, tmp_path: Path
) -> None:
    picture = halves(tmp_path / "a.png")
    found = masking.subject(subjects(tmp_path / name, side, outputs, over=over, logits=logits), outside=51)(picture)

    assert found is not None and found.size == (120, 90)
    assert found.getpixel((20, 45)) == 255 and found.getpixel((100, 45)) == 51
    shifted = {"u2net.onnx": 1.4, "isnet-general-use.onnx": 0.3, "BiRefNet-general.onnx": 1.4}[name]
    above = masking.subject(subjects(tmp_path / f"over-{name}", side, outputs, over=shifted, logits=logits))(picture)
    assert above is not None and above.getextrema() == (0, 0)
