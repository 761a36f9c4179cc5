"""What kohya's trainers train: the kind of adapter, its sizes, its layers, and what it begins from.

Facts (`networks/lora.py`, `networks/lora_flux.py`): rank 4 and alpha 1 without being told, alpha 0 means the rank;
text encoders are trained beside the denoiser unless `network_train_unet_only` is told, and a learning rate of 0
leaves a part out. `networks.lora` adapts every linear layer of the transformers, with `conv_dim` also the blocks of
convolutions; `networks.lora_flux` every linear layer of every block, queries, keys and values as one layer.
"""

from __future__ import annotations

from velatura.foreign.places import begins_with
from velatura.foreign.reasons import ABSENT, each
from velatura.foreign.translation import Translation, flag, number, numbers, text, whole, words

KINDS = {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr"}
"""LyCORIS' algorithms, and sd-scripts' own modules, as kinds of adapter."""

PRESETS = {"attn-mlp": ["attention+mlp"], "attn-only": ["attention"]}
"""LyCORIS' presets as targets."""

LEFT = {
    **each(
        "write it as adapter.ranks, by patterns of layers",
        (
            "block_dims block_alphas conv_block_dims conv_block_alphas img_attn_dim txt_attn_dim img_mlp_dim"
            " txt_mlp_dim img_mod_dim txt_mod_dim single_dim single_mod_dim in_dims train_double_block_indices"
            " train_single_block_indices network_reg_dims"
        ),
    ),
    **each(
        "write it as train.rates, by patterns of layers",
        "down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold network_reg_lrs",
    ),
    **each("write it as patterns in adapter.targets", "include_patterns exclude_patterns"),
    "train_t5xxl": "T5 is not trained here",
    **each(ABSENT, "module_dropout rank_dropout_scale ggpo_beta ggpo_sigma train_norm use_scalar"),
    "decompose_both": "set adapter.factor",
    "rs_lora": "set adapter.rslora",
    **each("it makes no difference to what is trained", "verbose bypass_mode split_qkv"),
}
"""Arguments of the network that are not carried over, and why."""


def translate(translation: Translation, family: str) -> None:
    """Carry over what is trained."""
    arguments = _arguments(translation)
    kind = _kind(translation, arguments)
    told_rank = translation.told("network_dim")
    rank = translation.take("network_dim", whole, 4)
    translation.put("adapter.rank", rank, "network_dim", rank, told=told_rank)
    told_alpha = translation.told("network_alpha")
    alpha = translation.take("network_alpha", number, 1.0)
    translation.put("adapter.alpha", alpha or float(rank), "network_alpha", alpha, told=told_alpha)
    convolutions = _convolutions(arguments, rank, alpha or rank, kind)
    arguments.carry("rank_dropout", "adapter.dropout", number)
    arguments.carry("loraplus_lr_ratio", "train.lora_plus", number)
    factor = arguments.take("factor", whole, -1)
    if kind == "lokr" and factor > 0:
        arguments.put("adapter.factor", factor, "factor", factor)
    _targets(translation, arguments, family, convolutions=convolutions)
    arguments.leave_told({"constraint": ABSENT, "algo": ABSENT, **LEFT})
    arguments.leave_rest()
    limit(translation)
    why = "it leaves out single values; adapter.dropout leaves out whole channels of the rank"
    translation.leave_told({"network_dropout": why})
    begins_with(translation, "network_weights")


def _arguments(translation: Translation) -> Translation:
    """The network's own arguments, `name=value`, accounted for with the others."""
    told = translation.take("network_args", words, list[str]())
    pairs = dict(word.partition("=")[::2] for word in told)
    named = {name: f"network_args {name}" for name in pairs}
    made = Translation(translation.trainer, dict(pairs), translation.where, named)
    made.tree, made.carried, made.left, made.notes = (
        translation.tree,
        translation.carried,
        translation.left,
        translation.notes,
    )
    return made


def limit(translation: Translation) -> None:
    """The largest norm of a layer's change, to which it is shrunk after a step."""
    norm = translation.take("scale_weight_norms", number, 0.0)
    if norm:
        translation.put("train.max_norm", norm, "scale_weight_norms", norm)


def _kind(translation: Translation, arguments: Translation) -> str:
    told = translation.take("network_module", text, "")
    if not told:
        return "lora"
    algorithm = arguments.take("algo", text, "lora").lower()
    module = algorithm if told.startswith("lycoris") else told.rpartition(".")[2].partition("_")[0]
    kind = KINDS.get(module, "")
    if not kind:
        translation.leave(
            "network_module", told, f"adapters of the kind {module} are not trained here; this trains a LoRA"
        )
        return "lora"
    if arguments.take("dora_wd", flag, False):
        if kind == "lora":
            kind = "dora"
        else:
            arguments.leave("dora_wd", True, f"lengths are trained of a LoRA, not of a {kind}")
    tucker = any([arguments.take("use_tucker", flag, False), arguments.take("use_cp", flag, False)])
    if tucker and kind == "lora":
        kind = "locon"
    translation.put("adapter.kind", kind, "network_module", told)
    return kind


def _convolutions(arguments: Translation, rank: int, alpha: float, kind: str) -> bool:
    """Whether convolutions with a kernel are adapted too; their rank."""
    conv_rank = arguments.take("conv_dim", whole, 0)
    conv_alpha = arguments.take("conv_alpha", number, 1.0)
    if not conv_rank:
        return False
    if conv_rank != rank:
        arguments.put("adapter.conv_rank", conv_rank, "conv_dim", conv_rank)
    if (conv_alpha or conv_rank) * rank != alpha * conv_rank:
        why = f"alpha / rank is the same for all layers here, {alpha:g} / {rank}"
        arguments.leave("conv_alpha", conv_alpha, why)
    return True


def _targets(translation: Translation, arguments: Translation, family: str, *, convolutions: bool) -> None:
    """Which layers are adapted."""
    only_denoiser = translation.take("network_train_unet_only", flag, False)
    only_text = translation.take("network_train_text_encoder_only", flag, False)
    denoiser = not only_text and translation.waiting.get("unet_lr") not in (0, "0", "0.0")
    texts = not only_denoiser and not _zero(translation.waiting.get("text_encoder_lr")) and family != "z_image"
    layers = ["all"] if convolutions or family == "flux1" else ["attention+mlp"]
    preset = arguments.take("preset", text, "")
    if preset in PRESETS:
        layers = PRESETS[preset]
    elif preset and preset != "full":
        arguments.leave("preset", preset, "write it as patterns in adapter.targets")
    elif preset == "full" and convolutions:
        translation.notes.append("LyCORIS' preset full also adapts conv_in, conv_out and the time embedding")
    blocks = arguments.take("train_blocks", text, "all")
    if blocks in ("single", "double") and family == "flux1":
        layers = [f"denoiser.{'single_' if blocks == 'single' else ''}transformer_blocks.*"]
    targets = [*(layers if denoiser else []), *(["text"] if texts else [])]
    key = "network_train_unet_only" if only_denoiser else "network_train_text_encoder_only"
    if not targets:
        translation.leave(key, True, "it leaves nothing to be trained")
        return
    if only_denoiser or only_text:
        translation.put("adapter.targets", targets, key, True)
    elif preset or convolutions:
        name = "preset" if preset else "conv_dim"
        translation.put("adapter.targets", targets, f"network_args {name}", preset or True)
    else:
        translation.put("adapter.targets", targets, key, False, told=False)
    if family == "flux1":
        translation.notes.append("queries, keys and values of FLUX.1 have a LoRA of the rank each, not one together")


def _zero(value: object) -> bool:
    """Whether every learning rate that is told is 0."""
    try:
        told = [] if value is None else numbers(value)
    except (TypeError, ValueError):
        return False  # said where it is read
    return bool(told) and not any(told)
