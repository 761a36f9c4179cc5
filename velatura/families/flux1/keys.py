"""How FLUX.1's layers are called in adapter files, and which of them the presets mean.

    written        transformer.transformer_blocks.0.attn.to_q.lora_A.weight, .lora_B.weight, .alpha
                   text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight
    also read      diffusion_model. in place of transformer., or nothing
                   lora_transformer_..., lora_unet_..., lora_te1_..., with underscores (OneTrainer, older kohya)
                   lora_unet_double_blocks_0_img_attn_qkv, diffusion_model.double_blocks.0.img_attn.qkv: layers of
                   the authors' layout, of which several of ours may be a part (kohya, ComfyUI)
                   double_blocks.0.processor.qkv_lora1: the same of the picture's side, and 2 of the text's (XLabs)

Alpha beside lora_A and lora_B is understood by diffusers (`FluxLoraLoaderMixin.lora_state_dict` collects every key
with "alpha" in it, and PEFT is given them) and by ComfyUI (`load_lora` looks for "<layer>.alpha" whatever the halves
are called). InvokeAI takes a file for FLUX.1's only where no key is anything but lora_A or lora_B, so alpha is left
out where it is the rank of every layer and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from velatura.adapters.blocks import numbered
from velatura.adapters.formats import KOHYA_ENDS, PEFT_ENDS, Form, KeyMap, Owners, PartKeys
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

XLABS = {
    "double_blocks": {
        "processor.qkv1": "img_attn.qkv",
        "processor.qkv2": "txt_attn.qkv",
        "processor.proj1": "img_attn.proj",
        "processor.proj2": "txt_attn.proj",
    },
    "single_blocks": {"processor.proj": "linear2"},
}
"""XLabs' names of layers of the authors' layout, as `endings.split` gives them."""


@dataclass(frozen=True)
class FluxKeys(KeyMap):
    """The names of FLUX.1's layers."""

    def written(self, name: str) -> str:
        """As diffusers and PEFT have it."""
        return self.diffusers(name)

    def stems(self, name: str) -> Iterator[str]:
        """Everything that a layer may be called in a file, but for the authors' layout."""
        yield from super().stems(name)
        part, _, path = name.partition(".")
        if part == "denoiser":
            flat = path.replace(".", "_")
            yield from (f"diffusion_model.{path}", f"lora_unet_{flat}", f"lora_transformer_{flat}")

    def fused(self, layers: Mapping[str, Shape]) -> Mapping[str, Owners]:
        """Every layer of the authors' layout with the layers that lie in it."""
        found: dict[str, list[tuple[str, Place]]] = {}
        for name, place in self._original(layers).items():
            for stem in (place.key, f"diffusion_model.{place.key}", f"lora_unet_{place.key.replace('.', '_')}"):
                found.setdefault(stem, []).append((name, place))
        for stem in [stem for stem in found if stem.partition(".")[0] in XLABS]:
            blocks, number, layer = stem.split(".", 2)
            for theirs, ours in XLABS[blocks].items():
                if layer == ours:
                    found[f"{blocks}.{number}.{theirs}"] = found[stem]
            if layer == "linear1":  # theirs is of the attention alone
                own = [(name, place) for name, place in found[stem] if ".attn." in name]
                found[f"{blocks}.{number}.processor.qkv"] = own
        return found

    def places(self, form: Form, layers: Mapping[str, Shape]) -> Mapping[str, tuple[str, Place]]:
        """As `KeyMap.places`: kohya's and ComfyUI's forms have the authors' layout."""
        if form == "diffusers":
            return super().places(form, layers)
        original = self._original(layers)
        found = {}
        for name in layers:
            if name in original:
                key = original[name].key
                stem = f"lora_unet_{key.replace('.', '_')}" if form == "kohya" else f"diffusion_model.{key}"
                found[name] = stem, original[name]._replace(key=stem)
            else:
                stem = self.kohya(name) if form == "kohya" else self.comfy(name)
                found[name] = stem, Place(stem)
        return found

    def ends(self, form: Form) -> tuple[str, str]:
        """As `KeyMap.ends`."""
        return KOHYA_ENDS if form == "kohya" else PEFT_ENDS

    @property
    def block_lists(self) -> tuple[tuple[str, ...], ...]:
        """As `KeyMap.block_lists`."""
        return (("CLIP", "T5", "IN", *numbered("D", range(19)), *numbered("S", range(38)), "OUT"),)

    def blocks(self, layers: Sequence[str]) -> Mapping[str, str]:
        """As `KeyMap.blocks`."""
        return {name: _block(name) for name in layers}

    def _original(self, layers: Mapping[str, Shape]) -> dict[str, Place]:
        """Where the denoiser's layers lie in the authors' layout, which calls the weights of norms `scale`."""
        shapes = {
            f"{name.removeprefix('denoiser.')}.weight": shape
            for name, shape in layers.items()
            if part_of(name) == "denoiser" and shape
        }
        return {
            f"denoiser.{name.removesuffix('.weight')}": place._replace(key=place.key.rpartition(".")[0])
            for name, place in layout.transformer(shapes).items()
        }


def _block(name: str) -> str:
    part, _, path = name.partition(".")
    if part != "denoiser":
        return {"text_encoder": "CLIP", "text_encoder_2": "T5"}[part]
    letters = {"transformer_blocks": "D", "single_transformer_blocks": "S"}
    kind, _, rest = path.partition(".")
    if kind in letters:
        return f"{letters[kind]}{int(rest.partition('.')[0]):02}"
    return "OUT" if kind in ("norm_out", "proj_out") else "IN"


KEYS = FluxKeys(
    "FLUX.1",
    {
        "denoiser": PartKeys("lora_unet", "transformer", "diffusion_model"),
        "text_encoder": PartKeys("lora_te1", "text_encoder", "text_encoders.clip_l.transformer"),
        "text_encoder_2": PartKeys("lora_te3", "text_encoder_2", "text_encoders.t5xxl.transformer", ("lora_te2",)),
    },
    written_ends=PEFT_ENDS,
)
