"""What training and generation need to know of a family of base models.

Everything else is written once. Training and generation call the same `predict`, so they cannot
disagree. Shared code never asks which family it has.

Shape suffixes: B batch, C channels, H and W height and width, L tokens, D features.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from velatura.adapters.formats import KeyMap
from velatura.adapters.layers import AdaptedLayer, walk
from velatura.bases import FAMILIES, Base, BaseFiles, Variant, described, locate
from velatura.controlnets import ControlFiles
from velatura.diffusion.objective import Objective
from velatura.errors import ModelError
from velatura.text.readers import Reader
from velatura.text.weighted import Embedding, WeightedText
from velatura.weights.convolutions import FastConvolutions
from velatura.weights.networks import listed
from velatura.weights.policy import MemoryPolicy as MemoryPolicy
from velatura.weights.policy import precision

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from velatura.adapters.weights import Change
    from velatura.text.clip import Emphasis
    from velatura.weights.residence import Turns


@dataclass(frozen=True)
class TextConditioning:
    """Encoded prompts: a function of the text alone, so it can be cached and indexed."""

    tokens_BLD: Tensor
    pooled_BD: Tensor | None = None
    mask_BL: Tensor | None = None
    """True where there is a token, for families whose prompts differ in length; what lies beyond is zero."""

    def __len__(self) -> int:
        """How many prompts."""
        return len(self.tokens_BLD)

    def pick(self, index: Tensor | Sequence[int]) -> TextConditioning:
        """Some of the prompts, in the order given."""
        at = torch.as_tensor(index, device=self.tokens_BLD.device)
        return self._each(lambda tensor: tensor[at])

    def to(self, device: torch.device | str) -> TextConditioning:
        """The same on another device."""
        return self._each(lambda tensor: tensor.to(device))

    @property
    def finite(self) -> bool:
        """Whether all features are numbers."""
        known = [tensor for tensor in (self.tokens_BLD, self.pooled_BD) if tensor is not None]
        return all(bool(tensor.isfinite().all()) for tensor in known)

    def zeroed(self) -> TextConditioning:
        """All features zero: what some bases take for no text at all."""
        pooled = None if self.pooled_BD is None else torch.zeros_like(self.pooled_BD)
        return TextConditioning(torch.zeros_like(self.tokens_BLD), pooled, self.mask_BL)

    def _each(self, change: Callable[[Tensor], Tensor]) -> TextConditioning:
        pooled = None if self.pooled_BD is None else change(self.pooled_BD)
        mask = None if self.mask_BL is None else change(self.mask_BL)
        return TextConditioning(change(self.tokens_BLD), pooled, mask)


@dataclass(frozen=True)
class Geometry:
    """The picture's history, for families that are told it: sizes and crop in pixels, height first."""

    original_B2: Tensor
    crop_top_left_B2: Tensor
    target_B2: Tensor


@dataclass(frozen=True)
class Conditioning:
    """Everything that a prediction depends on besides the noisy latents and their noise level."""

    text: TextConditioning
    geometry: Geometry | None = None
    guidance_B: Tensor | None = None
    """Distilled guidance, for families that take it."""
    extra_latents_BCHW: Tensor | None = None
    """Further input channels: the mask and masked picture of an inpainting base (`ModelFamily.masked`)."""
    controls: tuple[Control, ...] = ()
    """What ControlNets add to the denoiser."""


@dataclass(frozen=True)
class ControlNet:
    """A network that sees a hint, and tells the denoiser what it asks for."""

    name: str
    hash: str
    """sha256 of its weights' files, hex."""
    files: ControlFiles
    network: nn.Module
    layered: bool = False
    """Its layers see more and more of the picture at once, so that they can be weighed one against the other."""
    pooled: bool = False
    """What it adds is the same all over the picture; it is left out on the negative side of guidance."""


@dataclass(frozen=True)
class Control:
    """A ControlNet at work in a prediction."""

    net: ControlNet
    hint_BCHW: Tensor
    """As `ModelFamily.encode_hint` makes it; one for all samples, or one for each."""
    weight_B: Tensor
    """What all that it adds is multiplied by, for each sample."""
    soft: bool = False
    """What it adds near the picture counts less than what it adds deep down; of those that are layered."""
    kind: int = 0
    """Which of `ControlFiles.kinds` the hint is, where there are some."""


@dataclass(frozen=True)
class Defaults:
    """How a base is painted with where nothing else is asked for."""

    steps: int = 20
    cfg_scale: float = 5.0
    guidance: float = 3.5
    """Of bases into which guidance is distilled."""
    sampler: str = "DPM++ 2M"
    scheduler: str = "Karras"

    def how(self, sampler: str | None, scheduler: str | None) -> tuple[str, str]:
        """The sampler and the schedule where one or both are not asked for.

        The base's own schedule goes with its own sampler; another sampler brings its own.
        """
        sampler = sampler or self.sampler
        return sampler, scheduler or (self.scheduler if sampler == self.sampler else "Automatic")


TRAINING_GUIDANCE = 1.0
"""What a base with distilled guidance is told in training: the data as it is, not drawn towards the caption."""


@dataclass
class Model:
    """A loaded base: the facts of this checkpoint, and its networks."""

    family: ModelFamily
    variant: Variant
    name: str
    hash: str
    """sha256 over the base's weights, hex; of a single file, the file's own."""
    objective: Objective
    parts: dict[str, nn.Module]
    """"denoiser", "text_encoder"..., "vae"."""
    pristine: Mapping[str, Tensor]
    """Layer name + ".weight" -> the weight as the file holds it."""
    tokenizers: tuple[Any, ...]
    """What its family cuts texts with."""
    readers: tuple[Reader, ...]
    """The text encoders that do not read all of a long text."""
    resolution: int
    """Side of the square that the base was made for, in pixels."""
    latent_channels: int
    latent_factor: int = 8
    """Pixels per latent, in each direction."""
    patch: int = 1
    """Latents per token of the denoiser, in each direction: what a dynamic shift counts."""
    side_step: int = 1
    """Sides of a picture are multiples of this many latents."""
    extra_channels: int = 0
    """What the denoiser takes beside the latents: that of an inpainting base; others 0."""
    latent_scale: float = 1.0
    latent_shift: float = 0.0
    guidance: Literal["cfg", "distilled", "none"] = "cfg"
    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    turns: Turns | None = None
    """Which parts are in memory, where they take turns."""
    clip_skip: int | None = None
    """Which hidden layer of CLIP is read, counted from the last; None: the family's own choice."""
    emphasis: Emphasis = "a1111"
    """What weights in a prompt do to its features."""
    empty_negative_is_zero: bool = False
    """An empty negative prompt means features of zero, not those of the empty text."""
    defaults: Defaults = field(default_factory=Defaults)
    words: tuple[Embedding, ...] = ()
    """Learned words: what captions mean by them while they are learnt or judged."""
    distilled_steps: bool = False
    """It was distilled to paint in few steps; training it without an assistant undoes that."""
    assistant: Mapping[str, Change] | None = None
    """An adapter that undoes the distillation: at work while training, never while painting."""
    assisting: list[RemovableHandle] = field(default_factory=list, repr=False)
    """What puts the assistant beside the layers, where it is not merged."""
    unused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Part -> keys in its files that its network has no use for, as `weights.networks.fill` returns them."""
    notes: tuple[str, ...] = ()
    """Sentences that the user should read."""
    remembered: dict[Any, TextConditioning] = field(default_factory=dict, repr=False)
    """Encoded prompts, where text encoders are not always in memory."""

    def objective_for(self, height: int, width: int) -> Objective:
        """The objective for latents of one size: a shift that depends on it is settled."""
        return self.objective.for_tokens((height // self.patch) * (width // self.patch))

    def conditioned(
        self, text: TextConditioning, *, geometry: Geometry | None = None, guidance: float = TRAINING_GUIDANCE
    ) -> Conditioning:
        """What a prediction is told; guidance only where this base takes it."""
        guidance_B = torch.full((len(text),), guidance) if self.guidance == "distilled" else None
        return Conditioning(text, geometry, guidance_B)

    @torch.inference_mode(False)
    @torch.no_grad()
    def read(self, prompt: WeightedText) -> TextConditioning:
        """One prompt, encoded.

        Where parts take turns it is remembered, unless an adapter stands beside layers of the text encoders.
        """
        key = prompt, self.clip_skip, self.emphasis
        if key in self.remembered and not self._texts_changed():
            return self.remembered[key].to(self.policy.device)
        told = self.family.encode_prompts(self, [prompt])
        if self.turns is not None and not self._texts_changed():
            self.remembered[key] = told.to("cpu")
        return told

    def told(self, caption: str) -> WeightedText:
        """A caption as it is read: learned words in it mean their vectors."""
        return WeightedText(((caption, 1.0),) if caption else (), self.words)

    @contextmanager
    def knowing(self, words: Sequence[Embedding]) -> Iterator[None]:
        """Captions mean these words for a while."""
        before, self.words = self.words, tuple(words)
        try:
            yield
        finally:
            self.words = before

    def _texts_changed(self) -> bool:
        encoders = (part for name, part in self.parts.items() if name.startswith("text_encoder"))
        return any(isinstance(module, AdaptedLayer) for part in encoders for module in part.modules())

    @property
    def trainable_parts(self) -> dict[str, nn.Module]:
        """The parts that an adapter may change."""
        return {name: part for name, part in self.parts.items() if name != "vae"}

    def vae_broke_down(self, result: Tensor) -> bool:
        """Whether the autoencoder gave no numbers in half precision; it then goes on in fp32, and a note says so."""
        if self.policy.vae_dtype == torch.float32 or bool(result.isfinite().all()):
            return False
        self.notes += (
            f"the autoencoder gave no numbers in {precision(self.policy.vae_dtype)} and goes on in fp32;"
            " set memory.vae_precision to fp32",
        )
        with torch.inference_mode(False):
            if self.turns is not None:
                self.turns.retype("vae", torch.float32)
            else:
                self.parts["vae"].to(torch.float32)
        self.policy = replace(self.policy, vae_dtype=torch.float32)
        return True

    def stay(self) -> None:
        """All parts are in memory from now on."""
        if self.turns is not None:
            self.turns.end()
            self.turns, self.policy = None, replace(self.policy, in_turn=False)

    def freeze(self) -> None:
        """Nothing of the base is trained; layers behave as when painting."""
        for part in self.parts.values():
            part.requires_grad_(False)
            part.eval()


class Pristine(Mapping[str, Tensor]):
    """Of every layer that adapters change weight and bias as the file holds them, mapped, made when asked for."""

    def __init__(self, parts: Mapping[str, nn.Module], weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Args: `weights`, part -> its tensors by the names of its network; the autoencoder is passed over."""
        self._weights = weights
        known = {part: set(names) for part, names in weights.items()}
        self._places: dict[str, tuple[str, str]] = {}
        for one in walk({part: network for part, network in parts.items() if part != "vae"}):
            for kind in ("weight", "bias"):
                if f"{one.path}.{kind}" in known[one.part]:
                    self._places[f"{one.name}.{kind}"] = one.part, f"{one.path}.{kind}"

    def __getitem__(self, key: str) -> Tensor:
        """The weight of "<layer name>.weight", the bias of "<layer name>.bias"."""
        part, name = self._places[key]
        return self._weights[part][name]

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return iter(self._places)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)


class ModelFamily(Protocol):
    """One family of base models. A family derives from this and gives what has no body here."""

    name: str
    keys: KeyMap
    """How its layers are called in adapter files."""
    targets: Mapping[str, tuple[str, ...]]
    """Preset -> patterns of layer names."""

    def load(self, base: Base, *, policy: MemoryPolicy) -> Model:
        """The base, ready to predict."""

    def encode_images(self, model: Model, images_BCHW: Tensor) -> Tensor:
        """Latents of pictures in [-1, 1]: the posterior's mean, shifted and scaled as the denoiser takes it.

        As it stands here: by an autoencoder of diffusers' kind.
        """
        vae: Any = model.parts["vae"]
        with FastConvolutions(vae):
            encoded = vae.encode(_channels_last(images_BCHW.to(model.policy.device, model.policy.vae_dtype)))
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        if model.vae_broke_down(latents):
            return self.encode_images(model, images_BCHW)
        scaled: Tensor = (latents.float() - model.latent_shift) * model.latent_scale
        return scaled

    def decode_latents(self, model: Model, latents_BCHW: Tensor) -> Tensor:
        """Pictures in [-1, 1], not clipped. As it stands here: by an autoencoder of diffusers' kind."""
        vae: Any = model.parts["vae"]
        latents = latents_BCHW / model.latent_scale + model.latent_shift
        with FastConvolutions(vae):
            images: Tensor = vae.decode(_channels_last(latents.to(model.policy.vae_dtype))).sample
        if bool(latents.isfinite().all()) and model.vae_broke_down(images):
            return self.decode_latents(model, latents_BCHW)
        return images.float()

    def masked(self, model: Model, images_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """What an inpainting base is told beside the latents, (B, extra channels, H, W) in latents.

        As it stands here: the mask, every eighth pixel of it, and the latents of the picture.

        Args:
            model: an inpainting base.
            images_BCHW: pictures in [-1, 1], 0 where they are painted anew.
            mask_BHW: 1 where they are, of the pictures' size.
        """
        latents_BCHW = self.encode_images(model, images_BCHW)
        mask_B1HW = functional.interpolate(mask_BHW[:, None], size=latents_BCHW.shape[-2:])
        return torch.cat([mask_B1HW.to(latents_BCHW), latents_BCHW], dim=1)

    def encode_prompts(self, model: Model, prompts: Sequence[WeightedText]) -> TextConditioning:
        """Encoded prompts, padded to one length."""

    def predict(self, model: Model, noisy_BCHW: Tensor, sigma_B: Tensor, conditioning: Conditioning) -> Tensor:
        """What the denoiser says of noisy latents in sigma space: the kind of the model's objective."""

    def load_controlnet(self, model: Model, files: ControlFiles) -> ControlNet:
        """A ControlNet of this family, beside a base, in its precision and on its device.

        Raises:
            ModelError: it does not fit the base, or weights are missing.
        """

    def encode_hint(self, model: Model, net: ControlNet, hint_BCHW: Tensor) -> Tensor:
        """A hint as the network takes it.

        Args:
            model: the base.
            net: the ControlNet.
            hint_BCHW: RGB in [0, 1], of the size of the picture to paint.
        """


def _channels_last(x_BCHW: Tensor) -> Tensor:
    """As the fast convolutions of a processor give on what they make; elsewhere as it is."""
    fast = x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32
    return x_BCHW.contiguous(memory_format=torch.channels_last) if fast else x_BCHW


def family(name: str) -> ModelFamily:
    """A family by its name in `bases.FAMILIES`."""
    found: ModelFamily = importlib.import_module(f"{FAMILIES[name]}.model").FAMILY
    return found


def load_base(source: BaseFiles | Path, *, policy: MemoryPolicy | None = None, strict: bool = False) -> Model:
    """Recognise a base and load it.

    Args:
        strict: keys in the files that the base's networks have no use for are an error, and not only a note.

    Raises:
        ModelError: no family knows it, a part is missing, or it is damaged.
    """
    base = locate(source if isinstance(source, BaseFiles) else described(source))
    model = family(base.variant.family).load(base, policy=policy or MemoryPolicy())
    unused = [
        f"the files of the {part} hold what its network has no place for: {listed(names)}"
        for part, names in model.unused.items()
        if names
    ]
    if strict and unused:
        raise ModelError(unused[0], where=base.source, fix="load it without strict, or take a base without them")
    model.notes = (*base.notes, *model.notes, *unused)
    return model


def stack_prompts(prompts: Sequence[TextConditioning], empty: TextConditioning) -> TextConditioning:
    """One batch of several encoded prompts of one family.

    Shorter ones are filled up: with zeros where the family marks what is text by a mask, else with the empty
    prompt's chunk, as in A1111.
    """
    longest = max(prompt.tokens_BLD.shape[1] for prompt in prompts)
    pooled = [prompt.pooled_BD for prompt in prompts if prompt.pooled_BD is not None]
    masks = [prompt.mask_BL for prompt in prompts if prompt.mask_BL is not None]
    if masks:
        missing = [longest - prompt.tokens_BLD.shape[1] for prompt in prompts]
        tokens = torch.cat(
            [functional.pad(prompt.tokens_BLD, (0, 0, 0, more)) for prompt, more in zip(prompts, missing, strict=True)]
        )
        mask = torch.cat([functional.pad(one, (0, more)) for one, more in zip(masks, missing, strict=True)])
    else:
        tokens = torch.cat([_filled(prompt.tokens_BLD, longest, empty.tokens_BLD) for prompt in prompts])
        mask = None
    return TextConditioning(tokens, torch.cat(pooled) if pooled else None, mask)


def _filled(tokens_BLD: Tensor, length: int, empty_1LD: Tensor) -> Tensor:
    missing = (length - tokens_BLD.shape[1]) // empty_1LD.shape[1]
    if missing == 0:
        return tokens_BLD
    return torch.cat([tokens_BLD, empty_1LD.expand(len(tokens_BLD), -1, -1).repeat(1, missing, 1)], dim=1)
