"""Local vision-language models, two architectures of random weights with their true processors and chat templates."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("transformers")

from tests.captioning.vision_models import MODELS, florence, gemma, qwen3, smolvlm
from tests.paintings import clouds
from velatura.captioning.answers import asked_for
from velatura.captioning.captioner import Answer, Asked
from velatura.captioning.vision_language import VisionLanguageModel
from velatura.captioning.writing import Captioning
from velatura.dataset import authors
from velatura.errors import MissingExtra, ModelError
from velatura.recipe import MemorySettings

PROMPT = "Who is it?"


@pytest.fixture(scope="module", params=sorted(MODELS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder, with files as it would be published."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MODELS[request.param](tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS["llava"](tmp_path_factory.mktemp("alone") / "llava")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Asked]:
    """Of three shapes."""
    made = []
    for seed, size in enumerate(((64, 40), (30, 90), (50, 50))):
        path = tmp_path / f"{seed}.png"
        clouds(seed, size).save(path)
        made.append(Asked(path.name, path))
    return made


def opened(folder: Path, **told: Any) -> VisionLanguageModel:
    return VisionLanguageModel(folder, **{"prompts": (PROMPT,), "max_tokens": 8, **told})


def oracle(folder: Path, path: Path, *, system: str) -> str:
    """What transformers' own pipeline says of the picture; without torchvision it has none for Qwen's processor."""
    from transformers import pipeline

    if folder.name == "qwen" and importlib.util.find_spec("torchvision") is None:
        return by_hand(folder, path, system=system)

    asks = pipeline("image-text-to-text", model=str(folder), device="cpu")
    user = [{"type": "image", "image": Image.open(path)}, {"type": "text", "text": PROMPT}]
    messages = [{"role": "user", "content": user}]
    if system:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    [found] = asks(text=[messages], max_new_tokens=8, do_sample=False, return_full_text=False)
    return str((found[0] if isinstance(found, list) else found)["generated_text"]).strip()


def by_hand(folder: Path, path: Path, *, system: str) -> str:
    """What Qwen's network says, its input put together from the documented pieces."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    with Image.open(path) as picture:
        seen = AutoImageProcessor.from_pretrained(folder)(images=[picture.convert("RGB")], return_tensors="pt")
    places = "<|image_pad|>" * (int(seen["image_grid_thw"].prod()) // 4)
    text = f"<|im_start|>system\n{system or 'You are a helpful assistant.'}<|im_end|>\n<|im_start|>user\n"
    text += f"<|vision_start|>{places}<|vision_end|>{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    given = tokenizer(text, return_tensors="pt")
    kinds = (given["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    tokens = network.generate(**given, **seen, mm_token_type_ids=kinds, max_new_tokens=8, do_sample=False)
    return str(tokenizer.decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def test_it_says_what_transformers_own_pipeline_says(folder: Path, pictures: list[Asked]) -> None:
    for system in ("", "You see well."):
        answers = opened(folder, system=system).describe(pictures)
        assert [answer.captions for answer in answers] == [
            (oracle(folder, one.path, system=system),) for one in pictures
        ]


def test_gemma_3_says_what_transformers_own_pipeline_says(pictures: list[Asked], tmp_path: Path) -> None:
    folder = gemma(tmp_path / "gemma")
    answers = opened(folder).describe(pictures)

    assert [answer.captions for answer in answers] == [(oracle(folder, one.path, system=""),) for one in pictures]


def test_florence_2_is_asked_by_the_name_of_a_task_and_answers_from_its_first_word_on(
    pictures: list[Asked], tmp_path: Path
) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = florence(tmp_path / "florence")
    with pytest.raises(ModelError, match="no chat template"):
        VisionLanguageModel(folder)
    answers = opened(folder, prompts=("<CAPTION>",)).describe(pictures)

    processor, network = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    for one, answer in zip(pictures, answers, strict=True):
        given = processor(text="<CAPTION>", images=Image.open(one.path).convert("RGB"), return_tensors="pt")
        tokens = network.generate(**given, max_new_tokens=8, do_sample=False)
        assert answer.captions == (processor.batch_decode(tokens, skip_special_tokens=True)[0].strip(),)
    assert len({answer.captions for answer in answers}) > 1


def test_qwen_3_vl_follows_picture_and_prompt(pictures: list[Asked], tmp_path: Path) -> None:
    folder = qwen3(tmp_path / "qwen3")
    said = opened(folder).describe(pictures)

    assert len({answer.captions for answer in said}) > 1 and all(answer.captions for answer in said)
    assert opened(folder, prompts=("Where?",)).describe(pictures) != said


def test_smolvlm_runs_or_names_the_package_that_it_wants(
    pictures: list[Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.smolvlm import processing_smolvlm

    folder = smolvlm(tmp_path / "smolvlm")
    if importlib.util.find_spec("num2words") is None:
        with pytest.raises(MissingExtra, match="pip install num2words"):
            opened(folder)
        # It is for videos alone.
        monkeypatch.setattr(processing_smolvlm, "is_num2words_available", lambda: True)
        monkeypatch.setattr(processing_smolvlm, "num2words", str, raising=False)

    said = opened(folder).describe(pictures)
    assert len({answer.captions for answer in said}) > 1 and all(answer.captions for answer in said)


def test_the_answer_follows_picture_prompt_and_system(folder: Path, pictures: list[Asked]) -> None:
    said = opened(folder).describe(pictures)

    assert len({answer.captions for answer in said}) > 1
    assert opened(folder, prompts=("Where?",)).describe(pictures) != said
    assert opened(folder, system="Be brief.").describe(pictures) != said


def test_several_at_once_and_one_by_one_say_the_same_and_again(folder: Path, pictures: list[Asked]) -> None:
    model = opened(folder)
    together = model.describe(pictures)

    assert together == [model.describe([one])[0] for one in pictures] == model.describe(pictures)


def test_two_prompts_give_two_captions_and_a_broken_picture_is_named(
    folder: Path, pictures: list[Asked], tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    asked = [pictures[0], Asked("broken.png", tmp_path / "broken.png"), pictures[1]]

    answers = opened(folder, prompts=(PROMPT, "In short?")).describe(asked)

    assert [len(answer.captions) for answer in answers] == [2, 0, 2] and answers[1].why
    [long] = opened(folder).describe(pictures[:1])
    assert answers[0].captions[0] == long.captions[0]


def test_a_taggers_tags_come_into_the_prompt(folder: Path, pictures: list[Asked]) -> None:
    from dataclasses import replace

    model, tagged = opened(folder), replace(pictures[0], tags=("1girl", "hat"))

    assert asked_for(PROMPT, tagged) == f"{PROMPT} A tagger noted: 1girl, hat. Use what of it is true."
    assert asked_for("With {tags}?", tagged) == "With 1girl, hat?"
    assert model.describe([tagged]) != model.describe(pictures[:1])


def test_a_set_is_captioned_a_persons_words_stay_and_who_wrote_is_noted(folder: Path, pictures: list[Asked]) -> None:
    dataset = pictures[0].path.parent
    (dataset / "1.txt").write_text("my own words")

    work = Captioning(dataset, opened(folder, batch=2))
    list(work)

    assert work.result.kept == ("1.png",) and work.result.written == ("0.png", "2.png")
    assert (dataset / "1.txt").read_text() == "my own words"
    noted = authors.load(dataset)
    assert noted.noted["0.png"]["by"] == "model" and noted.settings("0.png")["prompts"] == [PROMPT]
    assert str(folder.parent) not in (dataset / authors.FILE).read_text()


def test_an_answer_without_an_end_is_no_caption(llava: Path, pictures: list[Asked], tmp_path: Path) -> None:
    endless = changed(llava, tmp_path, "generation_config.json", lambda tree: tree.pop("forced_eos_token_id"))

    [answer] = opened(endless).describe(pictures[:1])

    assert answer == Answer(why="the answer was cut off at 8 tokens; --max-tokens gives more")


def changed(folder: Path, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a model with another file."""
    copied = tmp_path / f"other-{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder, copied)
    tree = json.loads((copied / name).read_text())
    change(tree)
    (copied / name).write_text(json.dumps(tree))
    return copied


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        # As JoyCaption has it: a message is plain text, and the template puts the picture before it.
        ("{% for m in messages %}{{ m['role'] + ': ' + ('<image>' if m['role'] == 'user' else '') }}"
         "{{ m['content'] | trim }}\n{% endfor %}", "system: Look.\nuser: <image>Who is it?\n"),
        # Plain text too, and nobody puts the picture in.
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}\n{% endfor %}",
         "system: Look.\nuser: <image>\nWho is it?\n"),
    ],
)  # fmt: skip
def test_templates_that_want_plain_text_have_the_picture_once(
    llava: Path, pictures: list[Asked], tmp_path: Path, template: str, wanted: str
) -> None:
    copied = tmp_path / "plain"
    shutil.copytree(llava, copied)
    (copied / "chat_template.jinja").write_text(template)

    model = opened(copied, system="Look.")

    assert model._question(PROMPT) == wanted
    assert model.describe(pictures[:1])[0].captions


def test_a_template_without_a_place_for_a_system_prompt_is_told(llava: Path, tmp_path: Path) -> None:
    copied = tmp_path / "no-system"
    shutil.copytree(llava, copied)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    (copied / "chat_template.jinja").write_text(refusing + (llava / "chat_template.jinja").read_text())

    assert opened(copied)
    with pytest.raises(ModelError, match="no place for a picture and a system prompt"):
        opened(copied, system="Look.")


def test_models_without_a_template_want_words_of_their_own(llava: Path, pictures: list[Asked], tmp_path: Path) -> None:
    copied = tmp_path / "bare"
    shutil.copytree(llava, copied)
    (copied / "chat_template.jinja").unlink()

    with pytest.raises(ModelError, match="no chat template"):
        VisionLanguageModel(copied)
    assert opened(copied, prompts=("<image>caption",)).describe(pictures)[0].captions


def test_what_cannot_be_used_is_one_sentence(llava: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        opened(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="not a model of transformers' kind"):
        opened(empty)
    pickled = tmp_path / "pickled"
    shutil.copytree(llava, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no whole weights as safetensors"):
        opened(pickled)
    with pytest.raises(ModelError, match="its own program, which is never run"):
        opened(changed(llava, tmp_path, "config.json", own_program))
    with pytest.raises(ModelError, match="does not know this kind"):
        opened(changed(llava, tmp_path, "config.json", lambda tree: tree.update(model_type="unheard-of")))
    with pytest.raises(ModelError, match="missing or of the wrong shape"):
        opened(changed(llava, tmp_path, "config.json", lambda tree: tree["text_config"].update(num_hidden_layers=3)))


def own_program(tree: dict[str, Any]) -> None:
    tree["model_type"] = "theirs"
    tree["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModelForImageTextToText": "theirs.Model"}


def test_device_and_precision_are_chosen_and_can_be_told(llava: Path) -> None:
    assert opened(llava).settings["precision"] == "fp32"  # it is small
    told = opened(llava, memory=MemorySettings(precision="bf16", device="cpu"))
    assert told.settings["precision"] == "bf16" and str(told.network.dtype) == "torch.bfloat16"


def test_a_model_larger_than_the_machine_is_refused_before_it_is_read(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from velatura.captioning import vision_language
    from velatura.doctor.devices import Device

    tight = [Device("cpu", "the processor", 40_000, 40_000, False)]
    monkeypatch.setattr(vision_language, "devices", lambda: tight)
    monkeypatch.setattr("velatura.weights.policy.SMALL", 1)
    with pytest.raises(ModelError, match="the model's weights come to"):
        opened(llava)


def test_an_id_is_looked_up_in_the_cache_and_nothing_is_fetched_offline(
    llava: Path, pictures: list[Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="fetching is switched off"):
        opened(Path("somebody/seeing"))
    snapshot = tmp_path / "hub" / "models--somebody--seeing" / "snapshots" / ("a" * 40)
    shutil.copytree(llava, snapshot)

    model = VisionLanguageModel("somebody/seeing", prompts=(PROMPT,), max_tokens=8)

    assert model.settings["model"] == "somebody/seeing" and model.describe(pictures)[0].captions
