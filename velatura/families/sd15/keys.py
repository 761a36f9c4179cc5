"""How the layers of Stable Diffusion 1.x are called in adapter files.

written, and read   lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k, lora_te_text_model_... (kohya)
read too            lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_k   (the authors' names)
                    unet.down_blocks.0..., text_encoder.text_model...   (PEFT)
                    diffusion_model.input_blocks.1.1..., text_encoders.clip_l.transformer...   (ComfyUI)
"""

from __future__ import annotations

from collections.abc import Mapping

from velatura.adapters.blocks import UnetKeys, unet_list
from velatura.adapters.formats import Owners, PartKeys
from velatura.adapters.weights import Shape
from velatura.weights.layouts import Place, stable_diffusion


class Sd15Keys(UnetKeys):
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


KEYS = Sd15Keys(
    "SD 1.5",
    {
        "denoiser": PartKeys("lora_unet", "unet", "diffusion_model"),
        "text_encoder": PartKeys("lora_te", "text_encoder", "text_encoders.clip_l.transformer", ("lora_te1",)),
    },
    lists=(unet_list((1, 2, 4, 5, 7, 8), range(3, 12)), unet_list(range(12), range(12))),
)
