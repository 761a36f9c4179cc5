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

from velatura.adapters.formats import PEFT_ENDS, KeyMap, PartKeys
from velatura.adapters.weights import Shape
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
            yield from (self.written(called), self.diffusers(called), self.kohya(called))

    def fused(self, layers: Mapping[str, Shape]) -> Mapping[str, Sequence[tuple[str, Place]]]:
        """As `KeyMap.fused`: ComfyUI has query, key and value in one layer."""
        found: dict[str, Sequence[tuple[str, Place]]] = {}
        for query in (name for name in layers if name.endswith(f".attention.{layout.FUSED[0]}")):
            above = query.removesuffix(layout.FUSED[0])
            width = layers[query][0]
            owners = [
                (above + projection, Place("", rows=(place * width, (place + 1) * width)))
                for place, projection in enumerate(layout.FUSED)
            ]
            found |= dict.fromkeys(self.stems(f"{above}qkv"), owners)
        return found


Z_IMAGE = ZImageKeys("Z-Image", {"denoiser": PartKeys("lora_unet", "transformer")}, PEFT_ENDS)
