"""How FLUX.1's layers are called in adapter files, and which of them the presets mean.

    written        transformer.transformer_blocks.0.attn.to_q.lora_A.weight, .lora_B.weight, .alpha
                   text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight
    also read      diffusion_model. in place of transformer., or nothing
                   lora_transformer_..., lora_unet_..., lora_te1_..., with underscores (OneTrainer, older kohya)
                   lora_unet_double_blocks_0_img_attn_qkv, diffusion_model.double_blocks.0.img_attn.qkv: layers of
                   the authors' layout, of which several of ours may be a part (kohya, ComfyUI)

Alpha beside lora_A and lora_B is understood by diffusers (`FluxLoraLoaderMixin.lora_state_dict` collects every key
with "alpha" in it, and PEFT is given them) and by ComfyUI (`load_lora` looks for "<layer>.alpha" whatever the halves
are called). InvokeAI takes a file for FLUX.1's only where no key is anything but lora_A or lora_B, so alpha is left
out where it is the rank of every layer and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from velatura.adapters.formats import PEFT_ENDS, KeyMap, PartKeys
from velatura.adapters.weights import Shape, part_of
from velatura.families.flux1 import layout
from velatura.weights.layouts import Place

BLOCKS = ("denoiser.transformer_blocks", "denoiser.single_transformer_blocks")

ATTENTION = (
    *(f"{BLOCKS[0]}.*.attn.{layer}" for layer in ("to_*", "add_?_proj")),
    f"{BLOCKS[1]}.*.attn.to_*",
)

PRESETS: Mapping[str, tuple[str, ...]] = {
    "attention": ATTENTION,
    "attention+mlp": (*ATTENTION, f"{BLOCKS[0]}.*.ff*.net.*", f"{BLOCKS[1]}.*.proj_*"),
    "all": tuple(f"{block}.*" for block in BLOCKS),
    "text": ("text_encoder.*.self_attn.*", "text_encoder.*.mlp.*"),
}
"""All: the modulation of each block too. Text: CLIP; T5 is no part of any preset."""

FUSED_PREFIXES = ("diffusion_model.", "base_model.model.", "")
"""What stands before names of the authors' layout."""


@dataclass(frozen=True)
class FluxKeys(KeyMap):
    """The names of FLUX.1's layers."""

    def written(self, name: str) -> str:
        """As diffusers and PEFT have it."""
        return self.diffusers(name)

    def stems(self, name: str) -> Iterator[str]:
        """Everything that a layer may be called in a file, but for the authors' layout."""
        part, _, path = name.partition(".")
        yield from (self.diffusers(name), self.kohya(name))
        if part == "denoiser":
            yield from (f"diffusion_model.{path}", path, f"lora_unet_{path.replace('.', '_')}")
        else:
            yield self.diffusers(name).replace(".text_model.", ".", 1)

    def fused(self, layers: Mapping[str, Shape]) -> dict[str, list[tuple[str, Place]]]:
        """Every layer of the authors' layout with the layers that lie in it."""
        shapes = {
            f"{name.partition('.')[2]}.weight": shape for name, shape in layers.items() if part_of(name) == "denoiser"
        }
        found: dict[str, list[tuple[str, Place]]] = {}
        for name, place in layout.transformer(shapes).items():
            path = place.key.removesuffix(".weight")
            for stem in (*(prefix + path for prefix in FUSED_PREFIXES), f"lora_unet_{path.replace('.', '_')}"):
                found.setdefault(stem, []).append((f"denoiser.{name.removesuffix('.weight')}", place))
        return found


FLUX1 = FluxKeys(
    "FLUX.1",
    {
        "denoiser": PartKeys("lora_transformer", "transformer"),
        "text_encoder": PartKeys("lora_te1", "text_encoder"),
        "text_encoder_2": PartKeys("lora_te3", "text_encoder_2"),
    },
    written_ends=PEFT_ENDS,
)
