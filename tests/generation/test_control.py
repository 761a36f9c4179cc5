"""What is asked of a ControlNet: how it is written, which steps it is at work in, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from velatura.errors import SettingsError
from velatura.generation import control
from velatura.generation.control import ControlUse


def test_a_line_says_file_hint_and_settings() -> None:
    told = control.read("canny.safetensors, hint=pose.png, weight=0.8, start=0.1, end=0.6, mode=prompt, fit=fill")
    expected = ControlUse("canny.safetensors", Path("pose.png"), 0.8, 0.1, 0.6, "prompt", "fill")
    assert told == expected
    made = control.read("canny,hint=a.png,preprocess=canny,low=50,high=120")
    assert (made.preprocessor, made.threshold_a, made.threshold_b) == ("canny", 50, 120)


def test_paths_may_hold_colons_and_in_quotes_commas() -> None:
    told = control.read(r'C:\nets\canny.pth, "hint=C:\my pictures\a, b.png"')
    assert told == ControlUse(r"C:\nets\canny.pth", Path(r"C:\my pictures\a, b.png"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("canny", "needs a file and a hint"),
        (", hint=a.png", "needs a file and a hint"),
        ("", "needs a file and a hint"),
        ("canny, hint=a.png, wieght=1", "did you mean weight"),
        ("canny, hint=a.png, weight=much", "is a number"),
        ("canny, hint=a.png, weight", "needs one value"),
        ("canny, hint=a.png, weight=1, weight=2", "needs one value"),
        ("canny, hint=a.png, weight=-1", "not possible"),
        ("canny, hint=a.png, weight=nan", "not possible"),
        ("canny, hint=a.png, start=0.6, end=0.4", "from 0.6 to 0.4"),
        ("canny, hint=a.png, end=1.5", "from 0 to 1.5"),
        ("canny, hint=a.png, mode=strong", "balanced, prompt, control"),
        ("canny, hint=a.png, fit=cover", "crop, stretch, fill"),
        ("canny, hint=a.png, preprocess=cany", "did you mean 'canny'"),
        ("canny, hint=a.png, preprocess=scribble_xdog", "did you mean 'scribble'"),
        ("canny, hint=a.png, preprocess=invert, low=3", "has no threshold_a"),
        ("canny, hint=a.png, low=3", "has no threshold_a"),
        ("canny, hint=a.png, preprocess=tile, low=30", "use 1 to 8"),
    ],
)
def test_what_cannot_be_is_one_sentence(line: str, says: str) -> None:
    with pytest.raises(SettingsError) as error:
        control.read(line)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("start", "end", "steps", "at_work"),
    [
        (0.0, 1.0, 5, [0, 1, 2, 3, 4]),
        (0.0, 0.6, 5, [0, 1, 2]),
        (0.2, 0.75, 10, [2, 3, 4, 5, 6]),
        (0.5, 1.0, 4, [2, 3]),
        (0.41, 0.49, 10, []),
    ],
)
def test_shares_of_the_steps_are_counted_as_diffusers_does(
    start: float, end: float, steps: int, at_work: list[int]
) -> None:
    use = ControlUse("canny", Path("a.png"), start=start, end=end)
    assert [step for step in range(steps) if use.acts(step, steps)] == at_work


def test_in_an_infotext_it_has_the_extension_s_words() -> None:
    """Those that its own reader splits at commas and colons."""
    use = ControlUse("x", Path("a.png"), 0.8, 0.1, 0.6, "control", preprocessor="canny", threshold_b=150)
    told = control.infotext(use, "canny, v1.1: mine", "0123abcd")
    pairs = dict(item.strip().split(": ") for item in told.split(","))
    assert pairs == {
        "Module": "canny",
        "Model": "canny  v1.1  mine [0123abcd]",
        "Weight": "0.8",
        "Resize Mode": "Crop and Resize",
        "Threshold A": "100",
        "Threshold B": "150",
        "Guidance Start": "0.1",
        "Guidance End": "0.6",
        "Pixel Perfect": "True",
        "Control Mode": "ControlNet is more important",
    }
