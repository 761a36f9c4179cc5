"""How the layers of Stable Diffusion 1.x are called in adapter files.

written, and read   lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k, lora_te_text_model_... (kohya)
read too            lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_k   (the authors' names)
                    unet.down_blocks.0..., text_encoder.text_model...   (PEFT)
                    diffusion_model.input_blocks.1.1..., text_encoders.clip_l.transformer...   (ComfyUI)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from velatura.adapters.blocks import numbered, unet_blocks
from velatura.adapters.formats import KeyMap, Owners, PartKeys
from velatura.adapters.weights import Shape
from velatura.weights.layouts import Place, stable_diffusion


class Sd15Keys(KeyMap):
    """The family's map."""

    def fused(self, layers: Mapping[str, Shape]) -> Mapping[str, Owners]:
        """As `KeyMap.fused`: nothing is fused, but the authors count blocks through all levels."""
        paths = [name.removeprefix("denoiser.") for name in layers if name.startswith("denoiser.")]
        found: dict[str, Owners] = {}
        for path, original in stable_diffusion.layers(paths).items():
            owners = ((f"denoiser.{path}", Place(original)),)
            flat = original.replace(".", "_")
            found |= dict.fromkeys((f"lora_unet_{flat}", f"diffusion_model.{original}", original), owners)
        return found

    @property
    def block_lists(self) -> tuple[tuple[str, ...], ...]:
        """As `KeyMap.block_lists`: those with attention, and all."""
        return SOME, ALL

    @property
    def block_presets(self) -> Mapping[str, tuple[str, ...]]:
        """As `KeyMap.block_presets`."""
        return BLOCK_PRESETS

    def blocks(self, layers: Sequence[str]) -> Mapping[str, str]:
        """As `KeyMap.blocks`."""
        return unet_blocks(layers)


SOME = ("BASE", *numbered("IN", (1, 2, 4, 5, 7, 8)), "M00", *numbered("OUT", range(3, 12)))
ALL = ("BASE", *numbered("IN", range(12)), "M00", *numbered("OUT", range(12)))

BLOCK_PRESETS: Mapping[str, tuple[str, ...]] = {
    "INS": SOME[:3],
    "IND": (SOME[0], *SOME[4:7]),
    "INALL": SOME[:7],
    "MIDD": (SOME[0], *SOME[4:12]),
    "OUTD": (SOME[0], *SOME[8:12]),
    "OUTS": (SOME[0], *SOME[12:]),
    "OUTALL": (SOME[0], *SOME[8:]),
}
"""I and O tell the side, S and D shallow and deep blocks. Source: the presets of sd-webui-lora-block-weight."""

KEYS = Sd15Keys(
    "SD 1.5",
    {
        "denoiser": PartKeys("lora_unet", "unet", "diffusion_model"),
        "text_encoder": PartKeys("lora_te", "text_encoder", "text_encoders.clip_l.transformer", ("lora_te1",)),
    },
)
