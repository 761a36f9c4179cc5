"""Captions by a vision-language model on this machine, through transformers: LLaVA, Idefics, Qwen-VL...

The model's own processor and chat template say how it is asked. Models that bring their own program are refused, as are
weights that are no safetensors. The most probable words are always taken, so an answer is the same each time.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from velatura.captioning.answers import PROMPT, asked_for, caption_or_why, together
from velatura.captioning.captioner import Answer, Asked
from velatura.dataset import images
from velatura.doctor.devices import Device, devices
from velatura.errors import DatasetError, MissingExtra, ModelError
from velatura.recipe import MemorySettings
from velatura.weights import fetching, hub, policy, room
from velatura.weights.containers import read_header
from velatura.weights.fit import ROOM, gigabytes

CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
UNWANTED = ("*/*", "consolidated*")


class VisionLanguageModel:
    """A model of transformers' kind that takes a picture and words, and answers with words."""

    name = "model"

    def __init__(
        self,
        model: str | Path,
        *,
        prompts: Sequence[str] = (PROMPT,),
        system: str = "",
        max_tokens: int = 300,
        side: int = 1024,
        batch: int = 4,
        memory: MemorySettings | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: its folder, or an id on Hugging Face.
            prompts: each gives a caption, so that a long and a short one may be had.
            system: what the model is told beforehand.
            max_tokens: of an answer.
            side: pixels of the longer side of what the model is shown.
            batch: pictures at once.
            memory: device and precision; what suits this machine where nothing is said.

        Raises:
            ModelError: no such model, one that cannot be read, or too large for this machine.
            SettingsError: the device or the precision is not to be had here.
        """
        self.folder, self.model = found(model)
        self.prompts, self.system, self.max_tokens = tuple(prompts), system, max_tokens
        self.side, self.batch = side, batch
        kept = _policy(self.folder, memory or MemorySettings())
        self.processor = _processor(self.folder)
        self.network = _network(self.folder, kept)
        self._templated = bool(getattr(self.processor, "chat_template", None))
        if not self._templated and (self.prompts == (PROMPT,) or system):
            what = "this model has no chat template, and knows words of its own alone"
            raise ModelError(what, where=self.model, fix="give them with --prompt, as its page says, and no --system")
        self.settings: Mapping[str, object] = {
            "model": self.model, "prompts": self.prompts, "system": system, "max_tokens": max_tokens, "side": side,
            "precision": policy.precision(kept.dtype),
        }  # fmt: skip
        for prompt in self.prompts:
            self._question(prompt)

    def describe(self, asked: Sequence[Asked]) -> list[Answer]:
        """An answer for each picture.

        Raises:
            ModelError: the device has not memory enough.
        """
        answers: list[Answer] = [Answer()] * len(asked)
        pictures: dict[int, Image.Image] = {}
        for place, one in enumerate(asked):
            try:
                pictures[place] = images.open_image(one.path, at_least=self.side)
                pictures[place].thumbnail((self.side, self.side))
            except DatasetError as error:
                answers[place] = Answer(why=error.what)
        if pictures:
            said = []
            for prompt in self.prompts:
                questions = [self._question(asked_for(prompt, asked[place])) for place in pictures]
                said.append(self._said([*pictures.values()], questions))
            for place, *captions in zip(pictures, *said, strict=True):
                answers[place] = together(captions)
        return answers

    def _said(self, pictures: list[Image.Image], questions: list[str]) -> list[tuple[str, str]]:
        """Captions, or why there is none, of pictures with a question each."""
        tokenizer, network = self.processor.tokenizer, self.network
        decoder_only = not network.config.is_encoder_decoder
        tokenizer.padding_side = "left" if decoder_only else "right"
        shown = [[one] for one in pictures] if self._templated else pictures
        given = self.processor(text=questions, images=shown, padding=len(questions) > 1, return_tensors="pt")
        told = _most_probable(network, tokenizer, self.max_tokens)
        try:
            with torch.inference_mode():
                tokens = network.generate(**given.to(network.device, network.dtype), generation_config=told)
        except (RuntimeError, MemoryError) as error:
            if not room.is_full(error):
                raise
            what = f"there is no memory for {len(pictures)} pictures at once" if len(pictures) > 1 else "out of memory"
            raise ModelError(what, where=self.model, fix="give a smaller --batch or --side") from None
        # What is told back before the answer: the question, or the one token that a decoder of its own begins with.
        begun = given["input_ids"].shape[1] if decoder_only else 1
        answers = []
        for row in tokens[:, begun:].tolist():
            ends = [place for place, token in enumerate(row) if token in _ends(told)]
            text = tokenizer.decode(row[: ends[0]] if ends else row, skip_special_tokens=True)
            cut = not ends and len(row) >= self.max_tokens
            answers.append(caption_or_why(text, cut_off=self.max_tokens if cut else None))
        return answers

    def _question(self, prompt: str) -> str:
        """The prompt and the picture's place as the model's chat template has them.

        Templates want a message as parts or as plain text; in the latter, some put the picture in and some do not.
        """
        if not self._templated:
            return prompt
        mark = str(self.processor.image_token)
        parts = [{"type": "image"}, {"type": "text", "text": prompt}]
        for content in (parts, prompt, f"{mark}\n{prompt}"):
            listed = isinstance(content, list)
            system = [{"type": "text", "text": self.system}] if listed else self.system
            messages = [{"role": "user", "content": content}]
            if self.system:
                messages.insert(0, {"role": "system", "content": system})
            try:
                text = self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            except Exception:  # noqa: BLE001  # whatever a template runs into, the next form may suit it
                continue
            whole = prompt.strip() in text and self.system.strip() in text and "'type'" not in text
            if whole and text.count(mark) == 1:
                return str(text)
        what = "its chat template has no place for a picture" + (" and a system prompt" if self.system else "")
        raise ModelError(what, where=self.model, fix="leave --system out" if self.system else "take another model")


def found(model: str | Path) -> tuple[Path, str]:
    """A model's folder, from the disk or from Hugging Face, and its name.

    Raises:
        ModelError: there is no such model, or none of a kind that can be used.
    """
    folder, name = Path(model).expanduser(), str(model)
    if folder.is_dir():
        name = folder.resolve().name
    elif hub.is_id(name):
        folder = fetching.files(
            name, WANTED, unwanted=UNWANTED, whole=lambda one: (one / CONFIG).is_file() and weights(one)
        )
    else:
        fix = "give the folder of a model, or an id on Hugging Face"
        raise ModelError("there is no such model", where=name, fix=fix)
    if not (folder / CONFIG).is_file():
        fix = "give the folder with config.json; a GGUF file is served by llama.cpp, see --endpoint"
        raise ModelError("this is not a model of transformers' kind", where=name, fix=fix)
    if not weights(folder):
        fix = "take one that is published so; pickled weights are not read"
        raise ModelError("this model has no whole weights as safetensors", where=name, fix=fix)
    return folder, name


def weights(folder: Path) -> list[Path]:
    """The safetensors files of a model; none where some are missing."""
    files = [folder / SINGLE]
    if (folder / INDEX).is_file():
        try:
            shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        except (OSError, ValueError, KeyError, AttributeError):
            return []
        files = [folder / Path(str(name)).name for name in sorted(set(shards))]
    return files if all(path.is_file() for path in files) else []


def _policy(folder: Path, told: MemorySettings) -> policy.MemoryPolicy:
    """Where and in which precision the model lives."""
    headers = [read_header(path) for path in weights(folder)]
    count = sum(math.prod(entry.shape) for header in headers for entry in header.entries.values())
    # bf16 is what such models are trained in; fp16 cannot hold the numbers of all of them.
    facts = policy.BaseFacts({"denoiser": count, "vae": 0}, fp16_overflows=True)
    whole = MemorySettings(
        device=told.device, precision=told.precision, in_turn=False, quantised="off", swapped_blocks=0
    )
    here: list[Device] = devices()
    chosen = policy.choose(here, facts, whole, task="paint").policy
    device = next(one for one in here if one.kind == chosen.device)
    size = facts.size(policy.precision(chosen.dtype))
    if device.total is not None and size > device.total * ROOM:
        what = f"the model's weights come to {gigabytes(size)}, and {device.title} has {gigabytes(device.total)}"
        fix = "serve a quantised one with llama.cpp, and give its address with --endpoint"
        raise ModelError(what, where=folder.name, fix=fix)
    return chosen


def _network(folder: Path, kept: policy.MemoryPolicy) -> Any:
    from transformers import AutoModelForImageTextToText

    _quiet()
    try:
        network, told = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=kept.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise _unreadable(folder, error) from error
    if lacking := sorted(map(str, {*told["missing_keys"], *told["mismatched_keys"]})):
        what = f"{len(lacking)} of the model's weights are missing or of the wrong shape, as {lacking[0]}"
        raise ModelError(what, where=folder.name, fix="fetch it again")
    return network.to(kept.device).eval()


def _processor(folder: Path) -> Any:
    from transformers import AutoProcessor

    _quiet()
    try:
        made = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        if "torchvision" not in str(error).lower():
            raise _unreadable(folder, error) from error
        made = _without_videos(folder)
    if not hasattr(made, "image_processor") or not hasattr(made, "tokenizer"):
        raise ModelError("this model does not take a picture and words", where=folder.name, fix="take another")
    if made.tokenizer.pad_token is None:
        made.tokenizer.pad_token = made.tokenizer.eos_token
    return made


def _without_videos(folder: Path) -> Any:
    """The processor of a model that watches videos too, without that half, which alone wants torchvision."""
    import transformers
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
    from transformers.processing_utils import ProcessorMixin

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        whole: Any = getattr(transformers, PROCESSOR_MAPPING_NAMES[config.model_type])

        class Half(whole):  # type: ignore[misc]
            def check_argument_for_proper_class(self, name: str, argument: object) -> Any:
                return None if argument is None else super().check_argument_for_proper_class(name, argument)

            def apply_chat_template(self, *args: Any, **told: Any) -> Any:  # SmolVLM's asks how many frames there are
                return ProcessorMixin.apply_chat_template(self, *args, **told)

        told = {"trust_remote_code": False, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(folder, **told)
        template = folder / "chat_template.json"  # where it stood before transformers 4.50
        if tokenizer.chat_template is None and template.is_file():
            tokenizer.chat_template = json.loads(template.read_text(encoding="utf-8"))["chat_template"]
        pictures = AutoImageProcessor.from_pretrained(folder, **told)
        kept, _ = whole.get_processor_dict(folder, local_files_only=True)
        own = {name: kept[name] for name in signature(whole.__init__).parameters if name in kept} | {
            "video_processor": None, "chat_template": tokenizer.chat_template or kept.get("chat_template")
        }  # fmt: skip
        return Half(**own | {"image_processor": pictures, "tokenizer": tokenizer})
    except Exception as error:
        wanted = re.search(r"pip install ([\w-]+)", str(error))
        package = wanted[1] if wanted else "torchvision"
        what = f"transformers wants {package} for this model ({fetching.reason(error)[:120]})"
        fix = f"pip install {package}, or serve the model with llama.cpp or vLLM and give --endpoint"
        raise MissingExtra(what, where=folder.name, fix=fix) from error


def _most_probable(network: Any, tokenizer: Any, max_tokens: int) -> Any:
    """How the model generates: its own settings, but that nothing is drawn at random."""
    told = copy.deepcopy(network.generation_config)
    told.do_sample, told.max_new_tokens, told.max_length = False, max_tokens, None
    told.temperature = told.top_p = told.top_k = told.min_p = told.typical_p = None
    if told.eos_token_id is None:
        told.eos_token_id = tokenizer.eos_token_id
    if told.pad_token_id is None:
        told.pad_token_id = tokenizer.pad_token_id
    return told


def _ends(told: Any) -> tuple[int, ...]:
    """Tokens that end an answer."""
    ends = told.eos_token_id
    return tuple(ends) if isinstance(ends, list) else (ends,)


def _quiet() -> None:
    """What the library says while it loads is left out: what came of it is one sentence here."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _unreadable(folder: Path, error: Exception) -> ModelError:
    said = fetching.reason(error)
    if "trust_remote_code" in str(error):
        what = "this model brings its own program, which is never run"
        return ModelError(what, where=folder.name, fix="take a model that transformers knows itself")
    if "does not recognize this architecture" in str(error) or "Unrecognized" in said:
        what = "transformers does not know this kind of model"
        return ModelError(what, where=folder.name, fix="take a model that takes pictures and words")
    return ModelError(f"the model cannot be read ({said[:200]})", where=folder.name, fix="fetch it again")
