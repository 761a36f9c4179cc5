"""How SDXL's layers are called in adapter files.

written, and read   lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k   (the authors' names: kohya)
                    lora_te1_text_model_..., lora_te2_text_model_...
read too            lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_k   (diffusers' names)
                    unet.down_blocks.1..., text_encoder.text_model..., text_encoder_2.text_model...   (PEFT)
                    diffusion_model.input_blocks.4.1..., text_encoders.clip_l.transformer...   (ComfyUI)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from velatura.adapters.blocks import numbered, unet_blocks
from velatura.adapters.formats import KeyMap, PartKeys
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


class SdxlKeys(KeyMap):
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


SOME = ("BASE", *numbered("IN", (4, 5, 7, 8)), "M00", *numbered("OUT", range(6)))
ALL = ("BASE", *numbered("IN", range(9)), "M00", *numbered("OUT", range(9)))

BLOCK_PRESETS: Mapping[str, tuple[str, ...]] = {
    "INS": SOME[:3],
    "IND": (SOME[0], *SOME[3:5]),
    "INALL": SOME[:5],
    "MIDD": (SOME[0], *SOME[3:9]),
    "OUTD": (SOME[0], *SOME[6:9]),
    "OUTS": (SOME[0], *SOME[9:]),
    "OUTALL": (SOME[0], *SOME[6:]),
}
"""As SD 1.5's, on the halves of each side: here the field has names and no fixed meaning."""

KEYS = SdxlKeys(
    "SDXL",
    {
        "denoiser": PartKeys("lora_unet", "unet", "diffusion_model"),
        "text_encoder": PartKeys("lora_te1", "text_encoder", "text_encoders.clip_l.transformer"),
        "text_encoder_2": PartKeys("lora_te2", "text_encoder_2", "text_encoders.clip_g.transformer"),
    },
)
