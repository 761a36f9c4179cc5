"""Painting to disk: LoRAs by every way of naming them, files that say how they were made, nothing overwritten."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests import tiny
from velatura import api, randomness, tensorfile
from velatura.adapters import writing
from velatura.adapters.layers import find, shapes
from velatura.adapters.metadata import hashes
from velatura.adapters.targets import select
from velatura.adapters.weights import AdapterFile, Lora
from velatura.errors import PromptError, SettingsError, VelaturaError
from velatura.events import Done, Note, Preview
from velatura.family import Model, load_base
from velatura.generation import carriers, infotext
from velatura.generation.record import infotext_of, used_embeddings, used_loras
from velatura.generation.sampling import Job, Sampling
from velatura.text import clip
from velatura.text.embeddings import Found

WriteLora = Callable[[Path, int], Path]
Generate = Callable[..., list[Path]]


@pytest.fixture
def write_lora(model: Model) -> WriteLora:
    """A LoRA file whose every layer matters."""

    def write(path: Path, seed: int = 0) -> Path:
        known = shapes(model.trainable_parts)
        layers = {}
        for name in select(["attention", "text"], known, presets=model.family.targets):
            draw = randomness.generator(seed, "lora", name)
            down, up = (
                (0.5 * draw.standard_normal(shape)).astype(np.float32)
                for shape in ((2, *known[name][1:]), (known[name][0], 2))
            )
            layers[name] = Lora(down, up, 3.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(writing.to_bytes(AdapterFile(layers), keys=model.family.keys))
        return path

    return write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "my project"
    folder.mkdir()
    return folder


@pytest.fixture
def generate(base: Path, project: Path) -> Generate:
    """Paint, and where the pictures are."""

    def run(prompt: str, **told: Any) -> list[Path]:
        request = api.GenerateRequest(
            prompt, **{"base": str(base), "seed": 1, "steps": 2, "cfg": 3.0, "project": project, **told}
        )
        *_, done = api.generate(request)
        assert isinstance(done, Done)
        return [Path(done.summary["folder"]) / name for name in done.summary["files"]]

    return run


def pixels(path: Path) -> NDArray[np.float32]:
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32)


def told(path: Path) -> infotext.Infotext:
    found = carriers.read(path).infotext
    assert found is not None
    return found


def record(path: Path) -> dict[str, Any]:
    return dict(carriers.read(path).record or {})


# --- LoRAs -----------------------------------------------------------------------------------


def test_a_lora_is_the_same_however_it_is_named(generate: Generate, project: Path, write_lora: WriteLora) -> None:
    path = write_lora(project / "loras" / "ink.safetensors", 0)
    elsewhere = write_lora(project / "deep" / "down" / "other.safetensors", 0)
    (plain,) = generate("a boat")
    (named,) = generate("a boat <lora:ink:0.7>")
    assert np.abs(pixels(named) - pixels(plain)).max() > 5
    for prompt, loras in (
        ("a boat <lora:INK:0.7>", ()),
        ("a boat <lora:ink.safetensors:0.7>", ()),
        ("a boat <lora:ink:0.7:0.7>", ()),
        ("a boat", ("ink:0.7",)),
        ("a boat", (f"{path}:0.7",)),
        ("a boat", (f"{elsewhere}:0.7",)),
        ("a boat", ("ink:0.3", "ink:0.4")),
    ):
        (other,) = generate(prompt, loras=loras)
        assert np.abs(pixels(other) - pixels(named)).max() <= 1, (prompt, loras)


def test_strengths_of_text_and_denoiser_are_kept_apart(
    generate: Generate, project: Path, write_lora: WriteLora
) -> None:
    write_lora(project / "loras" / "ink.safetensors", 0)
    found = [
        pixels(generate(f"a boat {mark}")[0])
        for mark in ("<lora:ink:0.7:0>", "<lora:ink:0:0.7>", "<lora:ink:0.7>", "<lora:ink:0>", "<lora:ink>")
    ]
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            assert np.abs(one - other).max() > 3


def test_of_two_strengths_the_first_is_the_text_encoder_s(
    generate: Generate, project: Path, write_lora: WriteLora, model: Model
) -> None:
    write_lora(project / "loras" / "ink.safetensors", 0)
    (lora,) = used_loras(model, "a boat <lora:ink:0.3:0.8>", [], project)
    assert lora.applied.strength("text_encoder.text_model.encoder.layers.0.mlp.fc1") == 0.3
    assert lora.applied.strength("denoiser.mid_block.attentions.0.proj_in") == 0.8
    (kept,) = record(generate("a boat <lora:ink:0.3:0.8>")[0])["loras"]
    assert (kept["text_strength"], kept["strength"]) == (0.3, 0.8)


def test_strength_zero_is_the_base_bit_for_bit(generate: Generate, project: Path, write_lora: WriteLora) -> None:
    write_lora(project / "loras" / "ink.safetensors", 0)
    (plain,) = generate("a boat")
    for prompt, loras in (("a boat <lora:ink:0>", ()), ("a boat", ("ink:0",))):
        assert np.array_equal(pixels(generate(prompt, loras=loras)[0]), pixels(plain))


def test_a_lora_leaves_no_trace_in_the_next_picture(model: Model, project: Path, write_lora: WriteLora) -> None:
    """One loaded base paints with one LoRA, another, and none."""
    from velatura.generation.generate import Painted
    from velatura.generation.generate import generate as paint
    from velatura.training.samples import merged

    one = write_lora(project / "one.safetensors", 1)
    other = write_lora(project / "other.safetensors", 2)

    def painted(*given: Path) -> NDArray[np.float32]:
        loras = used_loras(model, "", [str(path) for path in given], None)
        with merged(model, [lora.applied for lora in loras]):
            events = paint(model, [Job("a boat", 1)], Sampling(64, 64, 2, sampler="Euler"))
            return next(np.asarray(event.image, np.float32) for event in events if isinstance(event, Painted))

    plain, first = painted(), painted(one)
    assert np.abs(first - plain).max() > 5
    painted(other)
    painted(one, other)
    assert np.array_equal(painted(one), first)
    assert np.array_equal(painted(), plain)


def test_an_error_while_painting_leaves_no_lora_behind(model: Model, project: Path, write_lora: WriteLora) -> None:
    from velatura.training.samples import merged

    lora = used_loras(model, "", [str(write_lora(project / "x.safetensors", 1))], None)[0]
    weight = find(model.trainable_parts)[next(iter(lora.applied.layers))].weight
    before = weight.clone()
    with pytest.raises(KeyboardInterrupt), merged(model, [lora.applied]):
        assert not torch.equal(weight, before)
        raise KeyboardInterrupt
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("prompt", "loras", "kind", "said"),
    [
        ("a <lora:unk:1>", (), SettingsError, "ink"),
        ("a <lora:ink:much>", (), PromptError, "much"),
        ("a", ("ink:much",), PromptError, "much"),
        ("a", ("ink:nan",), PromptError, "nan"),
        ("a", ("ink:inf",), PromptError, "inf"),
        ("a <hypernet:ink:1>", (), PromptError, "hypernet"),
        ("a", ("nothing.safetensors",), SettingsError, "nothing"),
    ],
)
def test_a_lora_that_cannot_be_used_is_one_sentence_and_no_picture(
    generate: Generate, project: Path, write_lora: WriteLora, prompt: str, loras: tuple[str, ...], kind: type, said: str
) -> None:
    write_lora(project / "loras" / "ink.safetensors", 0)
    with pytest.raises(kind) as refusal:
        generate(prompt, loras=loras)
    assert said in str(refusal.value)
    assert not list(project.rglob("*.png"))


def test_a_file_that_is_no_lora_is_refused(generate: Generate, project: Path) -> None:
    (project / "bad.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(VelaturaError):
        generate("a boat <lora:bad:1>")


# --- what a picture says ---------------------------------------------------------------------


def test_a_picture_says_how_it_was_made(generate: Generate, project: Path, write_lora: WriteLora, model: Model) -> None:
    path = write_lora(project / "loras" / "ink.safetensors", 0)
    (file,) = generate("a (red:1.2) boat <lora:ink:0.7>", negative="blurry, dull", seed=42, width=96, height=64)
    found = told(file)
    assert found.prompt == "a (red:1.2) boat <lora:ink:0.7>"
    assert found.negative_prompt == "blurry, dull"
    digits = hashes(*tensorfile.read(path))["sshs_model_hash"][:12]
    assert infotext.read_lora_hashes(found.settings["Lora hashes"]) == {"ink": digits}
    expected = {
        "Steps": "2", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "3", "Seed": "42",
        "Size": "96x64", "Model hash": model.hash[:10], "Model": "tiny-sd15", "RNG": "CPU",
    }  # fmt: skip
    assert {name: found.settings[name] for name in expected} == expected
    kept = record(file)
    assert (kept["seed"], kept["width"], kept["height"], kept["threads"]) == (42, 96, 64, 1)
    assert kept["base"]["sha256"] == model.hash
    assert [(lora["name"], lora["strength"], lora["text_strength"]) for lora in kept["loras"]] == [("ink", 0.7, 0.7)]


@pytest.fixture
def write_embedding(model: Model) -> Callable[..., Path]:
    """An embedding that means the very words given."""

    def write(path: Path, words: str, width: int | None = None) -> Path:
        table = clip.body(model.parts["text_encoder"]).embeddings.token_embedding.weight
        vectors = table.detach()[model.tokenizers[0].encode(words)].numpy()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tensorfile.to_bytes({"emb_params": vectors[:, :width].copy()}))
        return path

    return write


def test_an_embedding_is_found_painted_with_and_told_of(
    generate: Generate, project: Path, write_embedding: Callable[..., Path], tmp_path: Path, home: Path
) -> None:
    path = write_embedding(project / "embeddings" / "Sea-Boat.safetensors", "red boat")
    elsewhere = write_embedding(tmp_path / "mine" / "dull.safetensors", "cat")
    (home / "config.toml").write_text(f"[folders]\nembeddings = ['{elsewhere.parent}']\n", encoding="utf-8")
    (words,) = generate("a (red boat:1.3) at night", negative="cat")
    for prompt, negative in (
        ("a (sea-boat:1.3) at night", "dull"),
        ("a (embedding:Sea-Boat:1.3) at night", "embedding:dull"),
    ):
        (file,) = generate(prompt, negative=negative)
        assert np.array_equal(pixels(file), pixels(words))
        digits = {one.stem: hashlib.sha256(one.read_bytes()).hexdigest() for one in (path, elsewhere)}
        assert infotext.read_lora_hashes(told(file).settings["TI hashes"]) == {
            name: hashed[:12] for name, hashed in digits.items()
        }
        assert record(file)["embeddings"] == [{"name": name, "sha256": hashed} for name, hashed in digits.items()]
        for word in private_words(tmp_path):
            assert word not in file.read_bytes()
    assert np.abs(pixels(generate("a (sea-boa:1.3) at night", negative="dull")[0]) - pixels(words)).max() > 5
    assert "TI hashes" not in told(words).settings


def test_an_embedding_of_another_base_is_told_and_the_word_is_painted(
    base: Path, project: Path, write_embedding: Callable[..., Path]
) -> None:
    write_embedding(project / "embeddings" / "boat.safetensors", "cat", width=8)
    request = api.GenerateRequest("a boat", base=str(base), seed=1, steps=1, project=project)
    events = list(api.generate(request))
    assert [event.text for event in events if isinstance(event, Note)] == [
        "boat.safetensors is read as words: its vectors have 8 values, those of this base 24"
    ]
    assert isinstance(events[-1], Done)
    with pytest.raises(VelaturaError, match="8 values"):
        list(api.generate(replace(request, prompt="embedding:boat")))
    with pytest.raises(SettingsError, match="no embedding is named"):
        list(api.generate(replace(request, negative="embedding:boot")))


def test_a_base_that_is_not_told_by_clip_alone_takes_no_embeddings(tmp_path: Path, project: Path) -> None:
    flux = load_base(tiny.BASES["flux1"](tmp_path / "flux"))
    assert used_embeddings(flux, ["a boat"], project) == Found()
    with pytest.raises(PromptError, match="text encoders are CLIP"):
        used_embeddings(flux, ["a boat", "embedding:boat"], project)


def test_how_the_text_was_read_is_told_as_a1111_tells_it(generate: Generate) -> None:
    loud = "a (red boat on the sea, yellow sun:1.6)"
    (usual,) = generate(loud)
    said = {"Clip skip", "Emphasis"}
    assert not said & set(told(usual).settings)
    assert (record(usual)["clip_skip"], record(usual)["emphasis"]) == (None, "a1111")
    for changed, expected in (
        ({"clip_skip": 2}, {"Clip skip": "2"}),
        ({"emphasis": "a1111-nonorm"}, {"Emphasis": "No norm"}),
        ({"emphasis": "comfy"}, {"Emphasis": "comfy"}),
    ):
        (file,) = generate(loud, **changed)
        assert {name: told(file).settings[name] for name in said & set(told(file).settings)} == expected
        assert record(file)["clip_skip"] == changed.get("clip_skip")
        assert record(file)["emphasis"] == changed.get("emphasis", "a1111")
        assert np.abs(pixels(file) - pixels(usual)).max() > 5, changed
    (first,) = generate(loud, clip_skip=1)
    assert np.array_equal(pixels(first), pixels(usual))
    assert "Clip skip" not in told(first).settings
    assert "Emphasis" not in told(generate("a boat", emphasis="comfy")[0]).settings, "without brackets it is nothing"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"emphasis": "a1112"}, "did you mean a1111"),
        ({"clip_skip": 3}, "has 2 layers"),
        ({"clip_skip": 0}, "use 1 to 2"),
    ],
)
def test_a_way_of_reading_that_there_is_not_is_refused(
    generate: Generate, project: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        generate("a boat", **given)
    assert not (project / "images").exists()


def test_each_picture_of_a_batch_says_its_own_seed(generate: Generate) -> None:
    files = generate("a boat", count=3, seed=10, batch=2)
    assert [told(file).settings["Seed"] for file in files[:3]] == ["10", "11", "12"]
    assert len({pixels(file).tobytes() for file in files[:3]}) == 3


def test_a_lora_given_beside_the_prompt_is_told_in_it_once(
    generate: Generate, project: Path, write_lora: WriteLora
) -> None:
    write_lora(project / "loras" / "ink.safetensors", 0)
    assert told(generate("a boat", loras=("ink:0.7",))[0]).prompt == "a boat <lora:ink:0.7>"
    assert told(generate("a boat <lora:INK:0.7>")[0]).prompt == "a boat <lora:ink:0.7>"
    both = told(generate("a boat <lora:ink:0.5>", loras=("ink:0.2",))[0])
    assert both.prompt == "a boat <lora:ink:0.5> <lora:ink:0.2>"


def test_a_picture_can_be_made_again_from_what_it_says(
    generate: Generate, project: Path, write_lora: WriteLora
) -> None:
    write_lora(project / "loras" / "ink.safetensors", 0)
    (first,) = generate("a (boat:1.3), BREAK sea", negative="dull", seed=77, loras=("ink:0.7",), width=96)
    said = told(first)
    assert said.size is not None
    (again,) = generate(
        said.prompt,
        negative=said.negative_prompt,
        seed=int(said.settings["Seed"]),
        steps=int(said.settings["Steps"]),
        cfg=float(said.settings["CFG scale"]),
        sampler=said.settings["Sampler"],
        scheduler=said.settings["Schedule type"],
        width=said.size[0],
        height=said.size[1],
    )
    assert np.array_equal(pixels(again), pixels(first))


def test_a_seed_that_is_not_given_is_drawn_and_written_down(generate: Generate) -> None:
    (one,), (other,) = generate("a boat", seed=None), generate("a boat", seed=None)
    seed = told(one).settings["Seed"]
    assert seed != told(other).settings["Seed"]
    (again,) = generate("a boat", seed=int(seed))
    assert np.array_equal(pixels(again), pixels(one))


def private_words(tmp_path: Path) -> Iterator[bytes]:
    for word in (str(tmp_path), str(Path.home()), platform.node(), getpass.getuser(), "/tmp", os.sep + "home"):
        if len(word) > 3:
            yield word.encode()


def test_no_path_and_no_name_of_user_or_machine_is_in_a_picture(
    generate: Generate, project: Path, write_lora: WriteLora, tmp_path: Path
) -> None:
    path = write_lora(project / "loras" / "ink.safetensors", 0)
    for prompt, loras in (
        (f"a boat <lora:{path}:0.7>", ()),
        ("a boat", (f"{path}:0.7",)),
        ("a boat <lora:ink:0.7>", ()),
    ):
        for file in generate(prompt, loras=loras, count=2):
            data = file.read_bytes()
            for word in private_words(tmp_path):
                assert word not in data, word


def test_a_built_in_base_is_called_by_its_name(base: Path, generate: Generate, monkeypatch: pytest.MonkeyPatch) -> None:
    from velatura import settings

    monkeypatch.setitem(settings.BUILT_IN_BASES, "pocket", base)
    assert told(generate("a boat", base="pocket")[0]).settings["Model"] == "pocket"


def test_an_empty_prompt_still_makes_an_infotext(model: Model) -> None:
    text, _ = infotext_of(model, Job("", 0), Sampling(64, 64), [], batch=1)
    assert infotext.parse(text).settings["Seed"] == "0"


# --- files -----------------------------------------------------------------------------------


def test_pictures_that_are_there_are_never_overwritten(generate: Generate, project: Path) -> None:
    own = project / "images" / "1.png"
    own.parent.mkdir()
    own.write_bytes(b"the user's own")
    first, second = generate("a boat")[0], generate("a boat")[0]
    assert own.read_bytes() == b"the user's own"
    assert len({own, first, second}) == 3
    assert np.array_equal(pixels(first), pixels(second))


def test_several_pictures_come_with_a_contact_sheet(generate: Generate, project: Path) -> None:
    files = generate("a boat", count=3)
    assert [file.name for file in files] == ["1.png", "2.png", "3.png", "1-sheet.png"]
    assert {file.parent for file in files} == {project / "images"}
    assert len(generate("a boat")) == 1


def test_pictures_are_told_of_as_soon_as_they_are_there(base: Path, project: Path) -> None:
    request = api.GenerateRequest("a boat", base=str(base), seed=1, steps=1, count=3, batch=1, project=project)
    events = api.generate(request)
    for event in events:
        if isinstance(event, Preview):
            assert Path(event.path).exists()
            break
    events.close()  # type: ignore[attr-defined]
    assert len(list((project / "images").iterdir())) == 1, "what was painted before the stop is kept"


def test_a_folder_can_be_named(generate: Generate, tmp_path: Path) -> None:
    (file,) = generate("a boat", out=tmp_path / "here" / "there")
    assert file == tmp_path / "here" / "there" / "1.png"
