"""The detector of drawn faces that comes with the program: what its file says of it, and that it is so."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from velatura import detection, tensorfile
from velatura.dataset import faces
from velatura.detection import scene
from velatura.detection.boxes import overlap
from velatura.pocket import detector

UNSEEN = detector.HELD_OUT + 100_000


def test_it_is_small_and_says_how_it_was_made_and_how_good_it_is() -> None:
    assert scene.WEIGHTS.stat().st_size < 500_000
    told = json.loads(tensorfile.read_header(scene.WEIGHTS).metadata["velatura.detector"])
    assert {"seed", "pictures", "steps", "commit"} <= told.keys()
    assert told["held_out"]["precision"] > 0.8
    assert told["held_out"]["recall"] > 0.9
    assert told["held_out"]["overlap"] > 0.8


def test_on_pictures_that_it_has_never_seen_it_finds_what_its_file_says() -> None:
    figures = detector.measured([detector.drawn(UNSEEN + number) for number in range(20)], 0.5)
    assert figures["faces"] > 10
    assert figures["precision"] > 0.7
    assert figures["recall"] > 0.75


def test_in_numpy_it_says_what_torch_says() -> None:
    network = detector.Network()
    x = torch.randn(1, 3, scene.SIDE, scene.SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter)))
        expected = network(x)[0].numpy()
    layers = tuple((layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in network)
    found = scene.forward(x[0].numpy(), layers)
    assert found.shape == (5, 10, 10)
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, float(np.sqrt((expected**2).mean())))


def test_boxes_come_back_in_the_picture_s_own_pixels() -> None:
    """Whatever its size and proportions."""
    seed = next(UNSEEN + number for number in range(50) if len(detector.drawn(UNSEEN + number).faces) == 1)
    small = detector.drawn(seed)
    (plain, *_) = detection.detector("scene", 0.3)(small.image)
    wide = Image.new("RGB", (3 * 320, 320), (90, 140, 90))
    wide.paste(small.image.resize((320, 320), Image.Resampling.LANCZOS), (320, 0))
    twice = detection.detector("scene", 0.3)(small.image.resize((320, 320), Image.Resampling.LANCZOS))
    shared = overlap(np.array(plain.box, np.float32) * 2, np.array([one.box for one in twice], np.float32))
    assert shared.max() > 0.8
    assert all(0 <= one.box[0] <= one.box[2] <= 960 for one in detection.detector("scene", 0.05)(wide))


def test_more_is_found_the_less_sure_it_may_be_and_the_surest_comes_first() -> None:
    image = detector.drawn(UNSEEN + 3).image
    counts = [len(detection.detector("scene", confidence)(image)) for confidence in (0.01, 0.3, 0.99)]
    assert counts == sorted(counts, reverse=True)
    sure = [one.confidence for one in detection.detector("scene", 0.01)(image)]
    assert sure == sorted(sure, reverse=True)


def test_places_in_the_middle_of_a_face_are_right_and_those_around_them_are_not_asked() -> None:
    there, boxes = detector.targets(np.array([[32, 32, 96, 96]], np.float32))
    assert there[4, 4] == 1
    assert there[3, 3] == 1
    assert there[2, 2] == -1
    assert there[0, 0] == 0
    assert boxes[4, 4].tolist() == [32, 32, 96, 96]
    tiny, _ = detector.targets(np.array([[1, 1, 13, 13]], np.float32))
    assert tiny[0, 0] == 1


def test_the_cascade_s_faces_are_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    look = detection.detector("face-cascade", 0.3)
    assert look(Image.new("RGB", (64, 64), "white")) == []
    monkeypatch.setattr(faces, "find_faces", lambda _: [(1.0, 2.0, 30.0, 40.0)])
    (found,) = look(Image.new("RGB", (64, 64)))
    assert (found.box, found.label) == ((1.0, 2.0, 30.0, 40.0), "face")
