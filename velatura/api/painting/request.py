"""What painting is told (no torch)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from velatura.generation.control import ControlUse
from velatura.generation.hires import Hires
from velatura.generation.parts import Inpaint
from velatura.recipe import MemorySettings, TuningSettings

WHITE = (255, 255, 255)


@dataclass(frozen=True)
class FromPicture:
    """A picture to paint from."""

    path: Path
    denoising: float = 0.75
    """How much of it is painted anew, 0 to 1."""
    resize_mode: str = "stretch"
    """How it is made to fit: stretch, crop, fill or latent."""
    exact_steps: bool = False
    """Take as many steps as are asked for, and not that share of them."""
    background: tuple[int, int, int] = WHITE
    """What shows through where it is transparent."""
    inpaint: Inpaint | None = None
    """The part of it that is painted anew; none: all of it."""
    colour_correction: bool = False
    """What is painted gets its colours back, in A1111's way: `generation.colours`."""


@dataclass(frozen=True)
class Original:
    """A picture that is to be painted again, bit for bit."""

    path: Path
    pixels: str
    """sha256 of its pixels as RGB, hex."""
    place: int
    """Its place in its batch."""
    together: tuple[tuple[int, str, str, int, float], ...]
    """Seed, prompt, negative prompt, seed and strength of the variation of the pictures of its batch."""
    doubts: tuple[str, ...] = ()
    """What is not as it was, so that the last bits may differ."""


@dataclass(frozen=True)
class GenerateRequest:
    """What `velatura generate` is told."""

    prompt: str
    negative: str = ""
    styles: tuple[str, ...] = ()
    """Names of styles, in the order in which they are put around the prompts."""
    as_is: bool = False
    """Comments, choices and wildcards in the prompts are plain text."""
    base: str = "pocket"
    vae: str = ""
    """File or name of another autoencoder."""
    text_encoders: tuple[str, ...] = ()
    """Files or names of text encoders, for bases of several files."""
    base_sha256: str = ""
    """What the base must be; empty: not checked."""
    strict: bool = False
    """Refuse a base whose files hold keys that its networks have no use for, rather than note them."""
    loras: tuple[str, ...] = ()
    """FILE or NAME, with `:strength` behind it."""
    partial: bool = False
    """Take of a LoRA what fits the base, and note the rest, rather than refuse it."""
    seed: int | None = None
    """None: drawn, and written down."""
    steps: int | None = None
    """This, and what follows: None for what suits the base."""
    cfg: float | None = None
    guidance: float | None = None
    negative_strength: float = 1.0
    """What strengths of LoRAs are multiplied by on the negative side of guidance."""
    sampler: str | None = None
    scheduler: str | None = None
    tuning: TuningSettings = field(default_factory=TuningSettings)
    """What hardly anyone changes of sampler, schedule, noise and guidance."""
    variation_seed: int | None = None
    """The seed of noise that every picture's is mixed with, counting up; None: drawn, and written down."""
    variation_strength: float = 0.0
    """How much of it, 0 to 1; above 0 all pictures have one seed, and only the variation counts up, as in A1111."""
    width: int | None = None
    height: int | None = None
    begin: FromPicture | None = None
    """A picture to paint from; then what is not said of width and height follows from its proportions."""
    hires: Hires | None = None
    """A second, larger pass."""
    controls: tuple[ControlUse, ...] = ()
    """ControlNets, and the hints that they see; what they add is summed."""
    clip_skip: int | None = None
    """Which hidden layer of CLIP is read, counted from the last; None: the base's own."""
    emphasis: str = "a1111"
    """What weights in the prompt do: a1111, a1111-nonorm or comfy."""
    memory: MemorySettings = field(default_factory=MemorySettings)
    """Where and in which precision; what is not said is chosen for the machine."""
    count: int = 1
    batch: int = 4
    form: str = "png"
    """Of the files: png, jpg, webp or avif."""
    quality: int = 90
    """Of files that lose something."""
    threads: int | None = None
    """Of the processor, on which the last bits depend; None: as many as suit it."""
    original: Original | None = None
    """Paint this picture again, and say whether it is the same."""
    preview: Path | None = None
    """A file that shows the unfinished pictures, written anew every few steps."""
    preview_every: int = 1
    """Steps between."""
    remarks: tuple[str, ...] = ()
    """What the user should read before anything is painted."""
    out: Path | None = None
    """Folder for the pictures; none: `images/` of the project, or of the current folder."""
    project: Path | None = None
