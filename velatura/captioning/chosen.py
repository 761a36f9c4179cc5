"""Captioners by what they are told: on the command line, or under a name of their own in the user's settings.

    [captioners.long-and-short]        # config.toml; then: velatura dataset caption DIR --by long-and-short
    endpoint = "http://localhost:8080/v1"
    prompt = ["Describe the picture.", "Describe the picture in ten words."]
    key_from = "OPENAI_API_KEY"        # the environment variable that has the key; or key = "..."

`template`, `tagger`, `endpoint` and `model` say which kind it is; an endpoint has a model too. A key is sent to the
server and stands nowhere else: not in what is noted of a caption, the history or an error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from velatura import settings
from velatura.captioning.answers import PROMPT
from velatura.captioning.captioner import Captioner
from velatura.errors import RecipeError, SettingsError, nearest
from velatura.recipe import MemorySettings, Precision
from velatura.schema import Settings, build

KEY = "VELATURA_API_KEY"
"""The environment variable that has a server's key, where no other is named."""

WD14 = "wd14"
"""The name of the tagger that needs no settings."""

HERE = "the command line"


class TemplateSettings(Settings):
    """One sentence for all pictures."""

    template: str
    with_tags: str = ""


class TaggerSettings(Settings):
    """A WD14 model."""

    tagger: str = "SmilingWolf/wd-vit-tagger-v3"
    general: float | None = Field(default=None, ge=0, le=1)
    character: float = Field(default=0.85, ge=0, le=1)
    most: int = Field(default=0, ge=0)
    underscores: bool = False
    rating: bool = False
    undesired: tuple[str, ...] = ()
    csv_order: bool = False
    batch: int = Field(default=8, ge=1, le=256)


class SpeakingSettings(Settings):
    """What is asked of a vision-language model."""

    prompt: str | tuple[str, ...] = PROMPT
    """Several give a caption each."""
    system: str = ""
    max_tokens: int = Field(default=300, ge=1)
    side: int = Field(default=1024, ge=64, le=8192)
    """Pixels of the longer side of what the model is shown."""
    with_tags: str = ""
    """A tagger that is asked beforehand."""

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts."""
        return (self.prompt,) if isinstance(self.prompt, str) else self.prompt


class EndpointSettings(SpeakingSettings):
    """A server that speaks as OpenAI's does."""

    endpoint: str
    model: str = ""
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int | None = None
    timeout: float = Field(default=120.0, gt=0)
    batch: int = Field(default=1, ge=1, le=64)
    key: str = Field(default="", repr=False)
    key_from: str = ""


class ModelSettings(SpeakingSettings):
    """A model on this machine."""

    model: str
    batch: int = Field(default=4, ge=1, le=256)
    device: Literal["cpu", "cuda", "mps"] | None = None
    precision: Precision | None = None


KINDS: dict[str, type[Settings]] = {
    "template": TemplateSettings, "tagger": TaggerSettings, "endpoint": EndpointSettings, "model": ModelSettings,
}  # fmt: skip


def captioner(told: Mapping[str, Any], *, where: object = HERE) -> Captioner:
    """The captioner that settings describe.

    Args:
        told: by the names of the fields above.
        where: they were read, for messages.

    Raises:
        SettingsError: they do not say which kind, or say what this kind does not know.
        ModelError: the model or the server is not to be had.
        MissingExtra: a package is missing.
    """
    given = _read(told, where)
    made = _made(given)
    tagger: str = getattr(given, "with_tags", "")
    words = given.prompts if isinstance(given, SpeakingSettings) else (getattr(given, "template", ""),)
    if not tagger and any("{tags}" in text for text in words):
        raise SettingsError("{tags} is asked for, and no tagger named", where=where, fix=f"name one, as {WD14}")
    if not tagger:
        return made
    from velatura.captioning.tagged import Tagged

    return Tagged(made, _tagger(tagger))


def named(name: str, told: Mapping[str, Any] | None = None) -> Captioner:
    """The captioner of a name: one of the user's settings, `wd14`, a server's address, a model's folder or id.

    Args:
        name: of the captioner.
        told: settings that go before those of that name.

    Raises:
        SettingsError: nothing has this name, or as for `captioner`.
    """
    known = settings.load().captioners
    if name in known:
        return captioner({**known[name], **(told or {})}, where=f"captioners.{name} in config.toml")
    if (guessed := _guessed(name)) is not None:
        return captioner({**guessed, **(told or {})})
    names = sorted({*known, WD14})
    close = nearest(name, names)
    fix = f"did you mean {close}?" if close else "name one of config.toml, wd14, an address, a model's folder or id"
    raise SettingsError(f"no captioner is named {name}", fix=fix)


def _guessed(name: str) -> dict[str, Any] | None:
    """Settings for what needs no name of its own."""
    from velatura.weights import hub

    if name == WD14:
        return {"tagger": TaggerSettings().tagger}
    if name.startswith(("http://", "https://")):
        return {"endpoint": name}
    folder = Path(name).expanduser()
    if folder.suffix == ".onnx" or (folder / "model.onnx").is_file():
        return {"tagger": name}
    return {"model": name} if folder.is_dir() or hub.is_id(name) else None


def _tagger(name: str) -> Captioner:
    """The tagger that is asked beforehand: a captioner of the user's settings, `wd14`, or a tagger's folder or id."""
    return named(name) if name == WD14 or name in settings.load().captioners else captioner({"tagger": name})


def _read(told: Mapping[str, Any], where: object) -> Settings:
    kinds = [kind for kind in KINDS if kind in told]
    if kinds == ["endpoint", "model"]:
        kinds = ["endpoint"]
    if len(kinds) != 1:
        what = f"{' and '.join(kinds)} are two captioners" if kinds else "who is to caption is not said"
        raise SettingsError(what, where=where, fix=f"give one of {', '.join(KINDS)}")
    kind = KINDS[kinds[0]]
    for key in told:
        if key not in kind.model_fields:
            close = nearest(key, list(kind.model_fields))
            fix = f"did you mean {close}?" if close else f"it knows {', '.join(kind.model_fields)}"
            raise SettingsError(f"a captioner of the kind {kinds[0]} has no {key}", where=where, fix=fix)
    try:
        return build(kind, {key: tuple(value) if isinstance(value, list) else value for key, value in told.items()})
    except RecipeError as error:
        what = error.what.replace(str(told["key"]), "...") if told.get("key") else error.what
        raise SettingsError(what, where=where, fix="change it") from None


def _made(given: Settings) -> Captioner:
    match given:
        case TemplateSettings():
            from velatura.captioning.template import Template

            return Template(given.template)
        case TaggerSettings():
            from velatura.captioning.wd14 import Choice, WD14Tagger

            choice = Choice(
                given.general, given.character, given.most, given.underscores, given.rating, given.undesired,
                by_confidence=not given.csv_order,
            )  # fmt: skip
            return WD14Tagger(given.tagger, choice, batch=given.batch)
        case EndpointSettings():
            return _endpoint(given)
        case ModelSettings():
            from velatura.captioning.vision_language import VisionLanguageModel

            return VisionLanguageModel(
                given.model,
                prompts=given.prompts,
                system=given.system,
                max_tokens=given.max_tokens,
                side=given.side,
                batch=given.batch,
                memory=MemorySettings(device=given.device, precision=given.precision),
            )
    raise AssertionError(given)


def _endpoint(given: EndpointSettings) -> Captioner:
    from velatura.captioning.endpoint import Endpoint
    from velatura.captioning.server import Server, address, refuse_offline

    key = given.key or os.environ.get(given.key_from or KEY, "")
    if given.key_from and not key:
        raise SettingsError(f"the environment variable {given.key_from} has no key in it", fix="set it")
    server = Server(address(given.endpoint), key.strip(), given.timeout)
    refuse_offline(server)
    return Endpoint(
        server,
        given.model,
        prompts=given.prompts,
        system=given.system,
        max_tokens=given.max_tokens,
        temperature=given.temperature,
        seed=given.seed,
        side=given.side,
        batch=given.batch,
    )
