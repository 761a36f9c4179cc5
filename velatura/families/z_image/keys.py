"""How Z-Image's layers are called in adapter files, and which of them are adapted.

    ai-toolkit     diffusion_model.layers.0.attention.to_q.lora_A.weight     written here, with .alpha
    diffusers      transformer.layers.0.attention.to_q.lora_A.weight
    musubi-tuner   lora_unet_layers_0_attention_to_q.lora_down.weight, .alpha
    ComfyUI        diffusion_model.layers.0.attention.qkv.lora_A.weight      query, key and value in one

An alpha is read by the others under ai-toolkit's names too: ComfyUI looks for it whatever a file's names are, and
diffusers multiplies it into lora_A, in the file's precision (ZImageLoraLoaderMixin). Text encoders have no names: no
program trains Z-Image's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from velatura.adapters.blocks import numbered
from velatura.adapters.formats import KOHYA_ENDS, PEFT_ENDS, Form, KeyMap, Owners, PartKeys
from velatura.adapters.weights import Shape, part_of
from velatura.families.z_image import layout
from velatura.weights.layouts import Place

PRESETS: Mapping[str, tuple[str, ...]] = {
    "attention": ("denoiser.layers.*.attention.to_*",),
    "attention+mlp": ("denoiser.layers.*.attention.to_*", "denoiser.layers.*.feed_forward.w*"),
    "all": ("denoiser.layers.*", "denoiser.noise_refiner.*", "denoiser.context_refiner.*"),
}
"""As in musubi-tuner, "attention+mlp" has neither the modulation nor the refiners."""


class ZImageKeys(KeyMap):
    """The names in Z-Image's adapter files."""

    def written(self, name: str) -> str:
        """As `KeyMap.written`."""
        return f"diffusion_model.{name.removeprefix('denoiser.')}"

    def stems(self, name: str) -> Iterator[str]:
        """As `KeyMap.stems`: ai-toolkit's, diffusers' and musubi-tuner's (kohya's); each also with ComfyUI's names."""
        for called in dict.fromkeys((name, layout.renamed(name))):
            yield from (self.written(called), *super().stems(called))

    def fused(self, layers: Mapping[str, Shape]) -> Mapping[str, Owners]:
        """As `KeyMap.fused`: ComfyUI has query, key and value in one layer."""
        found: dict[str, Owners] = {}
        for query in (name for name in layers if name.endswith(f".attention.{layout.FUSED[0]}")):
            above = query.removesuffix(layout.FUSED[0])
            width = layers[query][0]
            owners = [
                (above + projection, Place("", rows=(place * width, (place + 1) * width)))
                for place, projection in enumerate(layout.FUSED)
            ]
            found |= dict.fromkeys(self.stems(f"{above}qkv"), owners)
        return found

    def places(self, form: Form, layers: Mapping[str, Shape]) -> Mapping[str, tuple[str, Place]]:
        """As `KeyMap.places`: ComfyUI's form has its names, musubi-tuner's and diffusers' have diffusers'."""
        if form != "comfy":
            return super().places(form, layers)
        found = {}
        for name in (name for name in layers if part_of(name) in self.parts):
            above, _, last = name.rpartition(".")
            if above.endswith(".attention") and last in layout.FUSED:
                at, length = layout.FUSED.index(last), layers[name][0]
                rows = (at * length, (at + 1) * length)
                stem = self.written(f"{above}.qkv")
                found[name] = stem, Place(stem, rows=rows)
            else:
                stem = self.written(layout.renamed(name))
                found[name] = stem, Place(stem)
        return found

    @property
    def block_lists(self) -> tuple[tuple[str, ...], ...]:
        """As `KeyMap.block_lists`: the field has none, so its thirty layers."""
        return (numbered("L", range(30)),)

    def blocks(self, layers: Sequence[str]) -> Mapping[str, str]:
        """As `KeyMap.blocks`."""
        inside = {name: name.split(".") for name in layers if name.startswith("denoiser.layers.")}
        return {name: f"L{int(path[2]):02}" for name, path in inside.items()}

    def ends(self, form: Form) -> tuple[str, str]:
        """As `KeyMap.ends`."""
        return KOHYA_ENDS if form == "kohya" else PEFT_ENDS


KEYS = ZImageKeys("Z-Image", {"denoiser": PartKeys("lora_unet", "transformer", "diffusion_model")}, PEFT_ENDS)
