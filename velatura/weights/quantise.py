"""The frozen base's layers in 8 or 4 bits, multiplied out when they are used; or in 16.

What is stored is one number per weight and a scale per block of weights: 8.25 bits a weight in evenly spaced
levels ("int8"), 4.5 in the levels of NormalFloat ("int4"; Dettmers et al. 2023, arXiv:2305.14314). The products
themselves are computed in the network's own type, forward and backward, so adapters beside such layers train as
beside the weights multiplied out. The arithmetic is bitsandbytes' (MIT; CUDA, ROCm, XPU, MPS and CPU), whose
functions store no more than plain tensors.

Convolutions stay as they are there: of the transformers there are none, of a UNet's weights they are a third to a half.

"fp8" stores each weight as an E4M3 number (Micikevicius et al. 2022, arXiv:2209.05433) and a power of two for each
output: 8 bits a weight, convolutions too, without a package. Its error is four times that of int8 (2.6 % of a
weight against 0.65 %, root mean square), whose levels lie where weights are, but a base whose file holds E4M3 numbers
is kept exactly. It is computed with as the others are.

In 16 bits ("half") a weight rests as most files hold it, and is widened when it is used: half the memory of fp32, and
where the file holds 16 bits, the very same numbers; a processor then reads them where the file is mapped, so they take
memory that the system can have back. It is for processors that do not compute in bf16 themselves. "large" is the same
for the convolutions alone that are multiplied piece by piece (`products`), which hardly costs them time, and only where
16 bits hold every number: half of a UNet's numbers, and nothing of it changes.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from velatura.errors import MissingExtra
from velatura.weights import products
from velatura.weights.products import Place
from velatura.weights.remade import Layer, Stored, lent_space, remakable, remake, stored

Kind = Literal["int8", "int4", "fp8", "half", "large"]

BITSANDBYTES: tuple[Kind, ...] = ("int8", "int4")
"""Kinds that need the package."""

BLOCK = {"int8": 128, "int4": 64}
"""Weights that share a scale."""

LARGEST = 448
"""The largest number that E4M3 has."""

SMALLEST = 1 << 16
"""Weights; a layer with fewer is not worth its error."""

WIDE = products.SHARE * products.MOST
"""Numbers of a convolution that is multiplied piece by piece for every map that may be."""

LARGE = 1_000_000_000
"""Numbers; a text encoder of so many is a language model, which is quantised with the denoiser, in 8 bits."""

PASSED_OVER = (
    r"(^|\.)\w*embed\w*(\.|$)",  # of time, text and patches: what comes in
    r"(^|\.)time_emb_proj$",
    r"^proj_out$|^norm_out\.|^all_final_layer\.",  # what goes out
    r"^conv_(in|out)$",
)
"""Patterns of the layers that every step depends on and that are small beside the rest."""

MODULATION = re.compile(r"(^|\.)norm\w*\.linear$|adaLN_modulation")
"""Layers that scale and shift whole blocks: sensitive, and a quarter of FLUX. They get 8 bits at the least."""


@dataclass(frozen=True)
class Quantised:
    """What was done to a network."""

    layers: tuple[str, ...]
    """The layers that are quantised."""
    before: int
    """Bytes of the network's weights."""
    after: int


def planned(
    network: nn.Module, kind: Kind, *, passed_over: Collection[str] = PASSED_OVER, smallest: int = SMALLEST
) -> dict[str, Kind]:
    """The layers that `quantise` changes, and how many bits each gets; the network may be empty yet."""
    if kind in ("half", "large"):
        found = ((name, layer) for name, layer in network.named_modules() if remakable(layer))
        return {
            name: kind
            for name, layer in found
            if (kind == "half" and layer.weight.numel() >= smallest)
            or (isinstance(layer, nn.Conv2d) and layer.weight.numel() >= WIDE)
        }
    left = re.compile("|".join(passed_over) if passed_over else r"(?!)")
    return {
        name: "int8" if kind == "int4" and MODULATION.search(name) else kind
        for name, layer in network.named_modules()
        if remakable(layer) and (kind == "fp8" or isinstance(layer, nn.Linear))
        if layer.weight.numel() >= smallest and not left.search(name)
    }


@torch.no_grad()
def quantise_layer(layer: Layer, kind: Kind) -> None:
    """Quantise one frozen layer in place, on the device where it is; to "large" only what stays as it is.

    Raises:
        MissingExtra: bitsandbytes is not installed.
    """
    if kind == "large" and not torch.equal(_narrowed(layer.weight).to(layer.weight.dtype), layer.weight):
        return
    remake(layer, packed(layer.weight.detach(), kind), dtype=layer.weight.dtype, device=layer.weight.device)


def quantise(
    network: nn.Module, kind: Kind, *, passed_over: Collection[str] = PASSED_OVER, smallest: int = SMALLEST
) -> Quantised:
    """Quantise a network's frozen layers in place, one after the other.

    Args:
        passed_over: patterns, searched for in the layers' names, of those that keep their weights.
        smallest: layers of fewer weights keep them.

    Raises:
        MissingExtra: bitsandbytes is not installed.
    """
    if kind in BITSANDBYTES:
        _library()
    before = nbytes(network)
    chosen = planned(network, kind, passed_over=passed_over, smallest=smallest)
    for name, own in chosen.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        quantise_layer(layer, own)
    return Quantised(tuple(chosen), before, nbytes(network))


def available() -> bool:
    """Whether the package is installed; it is not imported, which takes seconds."""
    return importlib.util.find_spec("bitsandbytes") is not None


def nbytes(network: nn.Module) -> int:
    """Bytes of a network's weights as they are stored, on whatever device."""
    total = 0
    for module in network.modules():
        kept = stored(module)
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        total += sum(tensor.nbytes for name, tensor in own if kept is None or name != "weight")
        total += 0 if kept is None else kept.nbytes
    return total


def packed(weight: Tensor, kind: Kind) -> Stored:
    """A weight in 16, 8 or 4 bits.

    Raises:
        MissingExtra: bitsandbytes is not installed, and 8 or 4 are asked for.
    """
    if kind in ("half", "large"):
        return halved(_narrowed(weight), weight.dtype)
    if kind == "fp8":
        return _in_fp8(weight)
    library, shape, dtype = _library(), weight.shape, weight.dtype
    if kind == "int4":
        numbers, made = library.quantize_4bit(weight, blocksize=BLOCK[kind], quant_type="nf4")
    else:
        levels = _levels(kind, str(weight.device))
        numbers, made = library.quantize_blockwise(weight, code=levels, blocksize=BLOCK[kind])

    def restore(tensors: tuple[Tensor, ...]) -> Tensor:
        return _multiplied_out(tensors, kind, shape, dtype)

    return Stored((numbers, made.absmax), restore)


def _in_fp8(weight: Tensor) -> Stored:
    """E4M3 numbers, as bytes, and for each output the power of two that brings its largest to at most `LARGEST`.

    A power of two only shifts their exponents: nothing is rounded by it, neither here nor when it is multiplied out.
    """
    shape, dtype = weight.shape, weight.dtype
    # Of fp16 and up: products of small scales would fall below what fp16 holds.
    wide = torch.float32 if dtype == torch.float16 else dtype
    rows = weight.flatten(1).to(torch.float32)
    mantissa, exponent = torch.frexp(rows.abs().amax(1, keepdim=True) / LARGEST)
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent)
    scales = torch.ldexp(torch.ones_like(mantissa), exponent)
    numbers = (rows / scales).to(torch.float8_e4m3fn).view(torch.uint8)

    def restore(tensors: tuple[Tensor, ...]) -> Tensor:
        held, powers = tensors
        return (held.view(torch.float8_e4m3fn).to(wide) * powers.to(wide)).to(dtype).view(shape)

    return Stored((numbers, scales), restore)


def _narrowed(weight: Tensor) -> Tensor:
    """In fp16 or bf16, whichever holds every number exactly; else in fp16, or bf16 where fp16 is too narrow."""
    narrow = [weight.to(kind) for kind in (torch.float16, torch.bfloat16)]
    exact = [one for one in narrow if torch.equal(one.to(weight.dtype), weight)]
    return (exact or [one for one in narrow if bool(one.isfinite().all())] or narrow)[0]


def halved(held: Tensor, dtype: torch.dtype) -> Stored:
    """A weight that rests in 16 bits, or in a file that is mapped, and is computed with in another type."""

    def lend(tensors: tuple[Tensor, ...], place: Place | None) -> Tensor:
        part = tensors[0] if place is None else tensors[0].flatten(1)[place]
        return lent_space(part.shape, dtype, part.device).copy_(part)

    return Stored((held,), lambda tensors: tensors[0].to(dtype), lend=lend)


def _multiplied_out(tensors: tuple[Tensor, ...], kind: Kind, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    numbers, scales = tensors
    library, levels = _library(), _levels(kind, str(numbers.device))
    state = library.QuantState(
        absmax=scales, shape=shape, code=levels, blocksize=BLOCK[kind], quant_type="nf4", dtype=dtype
    )
    made: Tensor = (library.dequantize_4bit if kind == "int4" else library.dequantize_blockwise)(numbers, state)
    return made


@functools.cache
def _levels(kind: Kind, device: str) -> Tensor:
    """What the stored numbers stand for, in [-1, 1]."""
    library = _library()
    made: Tensor
    if kind == "int4":
        made = library.get_4bit_type("nf4", device=device)
    else:
        made = library.create_linear_map(signed=True, total_bits=8).to(device)
    return made


def _library() -> Any:
    try:
        import bitsandbytes.functional
    except ImportError as error:
        raise missing() from error
    return bitsandbytes.functional


def missing() -> MissingExtra:
    """What to say where the package is not installed."""
    return MissingExtra(
        "a base in 8 or 4 bits needs a package that is not installed", fix='pip install "velatura[quantise]"'
    )
