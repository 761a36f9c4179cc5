"""Which pictures a request means, and that each is the same as painted alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from velatura import api
from velatura.adapters import writing
from velatura.adapters.layers import every_shape
from velatura.adapters.weights import AdapterFile, Lora
from velatura.api.painting.wanted import wanted
from velatura.errors import PromptError, SettingsError
from velatura.events import Done, Note, Progress
from velatura.family import Model
from velatura.generation import carriers
from velatura.generation.hires import Hires
from velatura.recipe import MemorySettings

LORAS = "a boat <lora:{ink|wash}:{0.5|1}>"


@pytest.fixture
def project(tmp_path: Path, model: Model) -> Path:
    """A project with two LoRAs, a wildcard and a style."""
    known = every_shape(model.trainable_parts)
    for seed, name in enumerate(("ink", "wash")):
        draw = np.random.default_rng(seed)
        layers = {}
        for layer in ("denoiser.mid_block.attentions.0.proj_in", "text_encoder.text_model.encoder.layers.0.mlp.fc1"):
            layer = layer if layer in known else next(one for one in known if one.startswith(layer.partition(".")[0]))
            down, up = (
                (0.5 * draw.standard_normal(shape)).astype(np.float32)
                for shape in ((2, *known[layer][1:]), (known[layer][0], 2))
            )
            layers[layer] = Lora(down, up, 3.0)
        path = tmp_path / "loras" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(writing.to_bytes(AdapterFile(layers), keys=model.family.keys))
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "thing.txt").write_text("cat\ndog\n")
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nnight,{prompt} at night,__thing__\n")
    return tmp_path


def request(base: Path, project: Path, prompt: str, **told: Any) -> api.GenerateRequest:
    size = {"width": 64, "height": 64, "steps": 2, "cfg": 3.0}
    return api.GenerateRequest(prompt, **{"base": str(base), "seed": 1, "project": project, **size, **told})


def paint(asked: api.GenerateRequest) -> tuple[list[Path], list[object]]:
    events: Sequence[object] = list(api.generate(asked))
    done = events[-1]
    assert isinstance(done, Done)
    folder = Path(done.summary["folder"])
    return [folder / name for name in done.summary["files"]], list(events)


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32)


def record(path: Path) -> dict[str, Any]:
    return dict(carriers.read(path).record or {})


def test_pictures_with_the_same_loras_are_painted_together(base: Path, project: Path) -> None:
    groups = wanted(request(base, project, LORAS, count=24), seed=1)
    assert sorted(place for group in groups for place in group.places) == list(range(24))
    assert 2 < len(groups) <= 4
    assert {job.seed for group in groups for job in group.jobs} == set(range(1, 25))


@pytest.mark.parametrize("quantised", [None, "int8"])
def test_each_picture_of_a_batch_has_the_loras_of_its_own_prompt(
    base: Path, project: Path, quantised: str | None
) -> None:
    """Merged into the weights, and where they cannot be, beside the layers."""
    memory = MemorySettings() if quantised is None else MemorySettings(quantised=quantised)
    together, events = paint(request(base, project, LORAS, count=5, out=project / "together", memory=memory))
    *pictures, _ = together
    prompts = [record(path)["prompt"] for path in pictures]
    assert len(set(prompts)) > 2
    for place, path in enumerate(pictures):
        told = request(base, project, prompts[place], seed=1 + place, out=project / "alone", memory=memory)
        (alone,), _ = paint(told)
        assert np.abs(pixels(path) - pixels(alone)).max() <= 1
        assert record(path)["loras"] == record(alone)["loras"]
        (bare,), _ = paint(replace(told, prompt="a boat "))
        assert np.abs(pixels(path) - pixels(bare)).max() > 3
    steps = [(event.done, event.total) for event in events if isinstance(event, Progress) and event.stage == "painting"]
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_what_was_chosen_stands_in_the_infotext_and_what_it_was_chosen_from_in_the_record(
    base: Path, project: Path
) -> None:
    (path,), _ = paint(request(base, project, "a {red|blue} __thing__ # mine", styles=("night",), steps=1))
    prompt = record(path)["prompt"]
    assert prompt in {f"a {colour} {thing} \n at night" for colour in ("red", "blue") for thing in ("cat", "dog")}
    assert record(path)["negative_prompt"] in {"cat", "dog"}
    assert str(carriers.read(path).text).startswith(prompt)
    assert record(path)["template"] == {
        "prompt": "a {red|blue} __thing__ # mine",
        "negative_prompt": "",
        "styles": ["night"],
    }
    (plain,), _ = paint(request(base, project, "a red cat", steps=1))
    assert "template" not in record(plain)


def test_a_template_s_loras_are_named_without_their_folders(base: Path, project: Path) -> None:
    ink, wash = (project / "loras" / f"{name}.safetensors" for name in ("ink", "wash"))
    (path,), _ = paint(request(base, project, f"a boat <lora:{{{ink}|{wash}}}:0.5>", steps=1))
    assert record(path)["template"]["prompt"] == "a boat <lora:{ink|wash}:0.5>"
    assert str(project) not in str(carriers.read(path).infotext) + str(record(path))


def test_as_it_is_a_prompt_is_text(base: Path, project: Path) -> None:
    (group,) = wanted(request(base, project, "a {red|blue} __thing__ # mine", as_is=True, count=2), seed=1)
    assert [job.prompt for job in group.jobs] == ["a {red|blue} __thing__ # mine"] * 2


def test_the_prompt_of_the_second_pass_has_styles_and_choices_too(base: Path, project: Path) -> None:
    told = request(base, project, "a boat", styles=("night",), hires=Hires(prompt="a __thing__"), count=8)
    groups = wanted(told, seed=1)
    assert {group.hires.prompt for group in groups if group.hires} == {"a cat at night", "a dog at night"}
    with pytest.raises(PromptError, match="other LoRAs"):
        wanted(replace(told, hires=Hires(prompt="a cat <lora:ink:1>")), seed=1)


def test_names_that_are_nowhere_are_refused_before_the_base_is_loaded(base: Path, project: Path) -> None:
    for prompt, words, told in (
        ("__thin__", "did you mean __thing__", {}),
        ("a cat", "did you mean 'night'", {"styles": ("nigh",)}),
        ("a cat <lora:inc:0.5>", "did you mean ink", {}),
        ("a (cat:1.2.3)", "not a number", {}),
        ("[a:b:1e999]", "not a step", {}),
        ("a cat", "not a number", {"hires": Hires(prompt="(a:.)")}),
    ):
        events: list[object] = []
        with pytest.raises((PromptError, SettingsError), match=words):
            events.extend(api.generate(request(base, project, prompt, **told)))
        assert events == []


def test_a_number_at_the_end_that_weighs_the_whole_prompt_is_said(base: Path, project: Path) -> None:
    _, events = paint(request(base, project, "a boat at 10:30", steps=1))
    assert any(isinstance(event, Note) and "multiplies its guidance by 30" in event.text for event in events)
    for prompt in ("a boat at 10:\\30", "a boat :2 AND a cat"):
        _, events = paint(request(base, project, prompt, steps=1))
        assert not any(isinstance(event, Note) and "guidance" in event.text for event in events)


def test_a_picture_that_was_chosen_for_is_painted_again_as_it_was(base: Path, project: Path, home: Path) -> None:
    (home / "config.toml").write_text(f"[folders]\nbases = ['{base.parent}']\n", encoding="utf-8")
    (project / "wildcards" / "odd.txt").write_text("\\{x|y\\}, \\__thing\\__\n")
    together, _ = paint(request(base, project, f"{LORAS} __thing__ __odd__", count=5, out=project / "first"))
    path = together[2]
    (again,), events = paint(replace(api.again(path, project=project), out=project / "second"))
    assert record(again)["prompt"] == record(path)["prompt"]
    assert np.array_equal(pixels(again), pixels(path))
    assert any(isinstance(event, Note) and "bit for bit" in event.text for event in events)
