"""The block of the model that a layer belongs to, told from the layer's name in any program's spelling.

Blocks of a UNet are numbered as Stability AI's code does and the "block weight" presets of other programs do: IN00 to
IN11, MID, OUT00 to OUT11. Those of transformers are D00... (double blocks, which keep picture and text apart), S00...
(single blocks) and L00... (layers of one kind); NR and CR are a refiner's. Text encoders are TE, TE1, TE2, TE3. BASE
and M00, as those presets call the text encoders and the middle, are understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from velatura.errors import AdapterError, nearest

ALIASES = {"BASE": "TE", "M00": "MID"}
"""What presets of block weights call a block -> what it is called here."""

OTHER = "REST"
"""What lies in no block: the embeddings of time and text, the last layer."""

Named = Callable[[re.Match[str]], str]

RULES: tuple[tuple[str, Named], ...] = (
    (r"^lora_te(\d)_", lambda found: f"TE{found[1]}"),
    (r"^(?:lora_)?text_encoder_(\d)[._]", lambda found: f"TE{found[1]}"),
    (r"^text_encoders[._](clip_l|clip_g|t5)", lambda found: {"clip_l": "TE1", "clip_g": "TE2"}.get(found[1], "TE3")),
    (r"^lora_te_|^(?:lora_)?text_encoder[._]", lambda found: "TE"),
    (r"input_blocks[._](\d+)", lambda found: f"IN{int(found[1]):02}"),
    (r"output_blocks[._](\d+)", lambda found: f"OUT{int(found[1]):02}"),
    (r"middle_block|mid_block", lambda found: "MID"),
    # diffusers counts within stages of three; Stability AI counts through, and its first block is the one that reads
    (
        r"down_blocks[._](\d+)[._](?:attentions|resnets|motion_modules)[._](\d+)",
        lambda found: f"IN{3 * int(found[1]) + int(found[2]) + 1:02}",
    ),
    (r"down_blocks[._](\d+)[._]downsamplers", lambda found: f"IN{3 * int(found[1]) + 3:02}"),
    (
        r"up_blocks[._](\d+)[._](?:attentions|resnets|motion_modules)[._](\d+)",
        lambda found: f"OUT{3 * int(found[1]) + int(found[2]):02}",
    ),
    (r"up_blocks[._](\d+)[._]upsamplers", lambda found: f"OUT{3 * int(found[1]) + 2:02}"),
    (r"conv_in$", lambda found: "IN00"),
    (r"(?:single_blocks|single_transformer_blocks)[._](\d+)", lambda found: f"S{int(found[1]):02}"),
    (r"(?:double_blocks|joint_blocks|(?<!single_)transformer_blocks)[._](\d+)", lambda found: f"D{int(found[1]):02}"),
    (r"noise_refiner", lambda found: "NR"),
    (r"context_refiner", lambda found: "CR"),
    (r"(?<![a-z])(?:layers|blocks)[._](\d+)", lambda found: f"L{int(found[1]):02}"),
)
"""Pattern in a layer's name -> its block; the first that matches counts."""

GROUPS = ("TE", "IN", "MID", "OUT", "NR", "CR", "D", "S", "L", OTHER)
"""The order of blocks, and the words that stand for all of one kind."""


def block_of(stem: str) -> str:
    """ "lora_unet_down_blocks_1_attentions_0_proj_in" -> "IN04"."""
    for pattern, named in RULES:
        if found := re.search(pattern, stem):
            return named(found)
    return OTHER


def in_order(blocks: Iterable[str]) -> list[str]:
    """Blocks as they follow one another in the model."""
    return sorted(set(blocks), key=lambda block: (GROUPS.index(_group(block)), block))


def _group(block: str) -> str:
    return block if block in GROUPS else block.rstrip("0123456789")


def strengths(told: Sequence[str], blocks: Iterable[str]) -> dict[str, float]:
    """What `--blocks` says, for every block of a file; those that it does not name keep strength 1.

    Args:
        told: as in "IN04:0.5" or "OUT:0" (every OUT block) or "TE*:0.5"; later ones count over earlier ones.
        blocks: of the file.

    Raises:
        AdapterError: it names a block that the file does not have, or no number.
    """
    there = in_order(blocks)
    found = dict.fromkeys(there, 1.0)
    for one in told:
        name, colon, number = one.rpartition(":")
        try:
            strength = float(number)
        except ValueError:
            colon = ""
        if not colon or not name or not abs(strength) < 1e6:
            raise AdapterError(f"{one} is no block with a strength", fix="write it as in IN04:0.5 or OUT:0")
        meant = [block for block in there if _means(name, block)]
        if not meant:
            close = nearest(name.upper(), [*there, *GROUPS])
            raise AdapterError(
                f"this file has no block {name}: it has {', '.join(there)}",
                fix=f"did you mean {close}?" if close else None,
            )
        found |= dict.fromkeys(meant, strength)
    return found


def _means(name: str, block: str) -> bool:
    name = name.upper().removesuffix("*")
    name = ALIASES.get(name, name)
    first = block == "TE" and name == "TE1"  # names of some programs do not number the first text encoder
    return first or name in (block, _group(block), "ALL")


def gathered(stems: Iterable[str]) -> Mapping[str, list[str]]:
    """Block -> the layers in it, in order."""
    found: dict[str, list[str]] = {}
    for stem in stems:
        found.setdefault(block_of(stem), []).append(stem)
    return {block: found[block] for block in in_order(found)}
