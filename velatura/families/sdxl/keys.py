"""How SDXL's layers are called in adapter files.

written, and read   lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k   (the authors' names: kohya)
                    lora_te1_text_model_..., lora_te2_text_model_...
read too            lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_k   (diffusers' names)
                    unet.down_blocks.1..., text_encoder.text_model..., text_encoder_2.text_model...   (PEFT)
                    diffusion_model.input_blocks.4.1..., text_encoders.clip_l.transformer...   (ComfyUI)
"""

from __future__ import annotations

from collections.abc import Iterator

from velatura.adapters.blocks import UnetKeys, unet_list
from velatura.adapters.formats import PartKeys
from velatura.weights.layouts import stable_diffusion

FRAME = (
    "down_blocks.0.resnets.0.conv1.weight",
    "down_blocks.0.resnets.1.conv1.weight",
    "up_blocks.0.attentions.0.norm.weight",
    "up_blocks.1.attentions.0.norm.weight",
)
"""What the authors' numbers hang on: two layers in a level, attention in the two deepest."""


def original(path: str) -> str:
    """What the authors call a layer of the denoiser."""
    name = f"{path}.weight"
    return stable_diffusion.unet((*FRAME, name))[name].key.removesuffix(".weight")


class SdxlKeys(UnetKeys):
    """The family's map."""

    def kohya(self, name: str) -> str:
        """ "denoiser.mid_block.attentions.0.proj_in" -> "lora_unet_middle_block_1_proj_in"."""
        if not name.startswith("denoiser."):
            return super().kohya(name)
        path = original(name.removeprefix("denoiser."))
        return f"{self.parts['denoiser'].kohya}_{path.replace('.', '_')}"

    def stems(self, name: str) -> Iterator[str]:
        """Everything that a layer may be called in a file."""
        yield from super().stems(name)
        if name.startswith("denoiser."):
            own = original(name.removeprefix("denoiser."))
            yield from (super().kohya(name), f"diffusion_model.{own}", own)


KEYS = SdxlKeys(
    "SDXL",
    {
        "denoiser": PartKeys("lora_unet", "unet", "diffusion_model"),
        "text_encoder": PartKeys("lora_te1", "text_encoder", "text_encoders.clip_l.transformer"),
        "text_encoder_2": PartKeys("lora_te2", "text_encoder_2", "text_encoders.clip_g.transformer"),
    },
    lists=(
        unet_list((4, 5, 7, 8), range(6)),
        unet_list(range(9), range(9)),
        unet_list(range(12), range(12)),  # SD 1.x's full list, which programs take for SDXL too: it has the first nine
    ),
)
