"""Finding things in pictures, so that they can be painted anew: each detector by its name, or a file. No torch.

scene           drawn faces, those of the pocket base's portraits; comes with the program and needs nothing else
face-cascade    photographed faces seen from the front, by the cascade that comes with OpenCV (extra `vision`)
FILE, NAME      any YOLO as an ONNX file, for boxes or for shapes (extra `detect`); names are looked up in the folders
                of detectors
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from velatura import settings
from velatura.errors import SettingsError, nearest
from velatura.generation.finds import Find

Detector = Callable[[Image.Image], list[Find]]
"""What finds things in an RGB picture, the surest first."""

BUILT_IN = ("scene", "face-cascade")

HANDS = ("hand", "hands")

FACES = ("face", "faces")


def detector(name_or_file: str, confidence: float) -> Detector:
    """The detector of a name or a file, opened.

    Args:
        name_or_file: one of `BUILT_IN`, an ONNX file, or the name of one in the folders of detectors.
        confidence: 0 to 1; less sure finds are left out.

    Raises:
        SettingsError: there is no such detector, or the confidence is out of range.
        ModelError: its file cannot be read, or is not of this kind.
        MissingExtra: it needs a package that is not installed.
    """
    if not 0 <= confidence <= 1:
        raise SettingsError(f"a confidence of {confidence:g} is not possible", fix="use 0 to 1; 0.3 is usual")
    if name_or_file == "scene":
        from velatura.detection import scene

        return lambda image: scene.detect(image, confidence)
    if name_or_file == "face-cascade":
        return _cascade()
    from velatura.detection import yolo

    _explain(name_or_file)
    return yolo.Yolo(settings.find_detector(name_or_file), confidence)


def _explain(name: str) -> None:
    """Say of what people ask for first how it is to be had, where no file has that name."""
    if Path(name).is_file() or settings.detectors_named(name):
        return
    if name.lower() not in HANDS + FACES:
        if (close := nearest(name.lower(), list(BUILT_IN))) is not None:
            raise SettingsError(f"no detector is named {name}", fix=f"did you mean {close}?")
        return
    if name.lower() in HANDS:
        raise SettingsError(
            "hands are found by a model that does not come with the program",
            fix="give a YOLO for hands as an ONNX file",
        )
    raise SettingsError(
        f"there is no detector {name!r}",
        fix="use scene for drawn faces, face-cascade for photographed ones, or a YOLO for faces as an ONNX file",
    )


def _cascade() -> Detector:
    """OpenCV's, which is always as sure as it is."""
    from velatura.dataset import faces

    faces.cascade()

    def detect(image: Image.Image) -> list[Find]:
        return [Find(box, label="face") for box in faces.find_faces(image.convert("RGB"))]

    return detect
