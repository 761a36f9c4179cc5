"""Vision-language models of random weights, a few thousand of them, with their true processors and chat templates.

The vocabulary is that of bytes; letters are what the models write most, so that what they say is text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
IDEFICS3_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def tokenizer(*special: str, end: str, **named: str) -> Any:
    """Bytes as tokens, and special ones; the first stands for a beginning, `<pad>` for what is nothing.

    Args:
        special: all but `<pad>`.
        end: which of them ends an answer.
        named: those that a processor asks the tokenizer for by name, as in `image_token="<image>"`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={sign: place for place, sign in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<pad>", *special])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token=end, bos_token=special[0], extra_special_tokens=named
    )


def talkative(network: Any, made: Any) -> None:
    """Redraw every parameter, and let letters be what comes out, until a last token that ends the answer."""
    stream = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            drawn = torch.randn(parameter.shape, generator=stream)
            parameter.copy_(drawn * 0.3 if parameter.ndim > 1 else parameter + drawn * 0.1)
        head = network.get_output_embeddings()
        wanted = [made.convert_tokens_to_ids(sign) for sign in "abcdefghijklmnopqrstuvwxyzĠ"]
        shunned = [token for token in range(head.weight.shape[0]) if token not in wanted]
        head.weight[shunned] = 0
    network.generation_config.eos_token_id = made.eos_token_id
    network.generation_config.pad_token_id = made.pad_token_id
    network.generation_config.forced_eos_token_id = made.eos_token_id


def llava(folder: Path) -> Path:
    """CLIP's vision tower, a projector, Llama."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    made = tokenizer("<s>", "</s>", "<image>", end="</s>")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=len(made), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=made.bos_token_id,
        eos_token_id=made.eos_token_id, pad_token_id=made.pad_token_id,
    )  # fmt: skip
    image = made.convert_tokens_to_ids("<image>")
    network = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, vision_feature_layer=-2)
    )
    talkative(network, made)
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        made,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def idefics3(folder: Path) -> Path:
    """SigLIP's kind of vision tower, pixels shuffled into tokens, Llama."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    marks = ("<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>")
    rows = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
    made = tokenizer(*marks, *rows, end="<end_of_utterance>")
    network = Idefics3ForConditionalGeneration(
        Idefics3Config(
            image_token_id=made.convert_tokens_to_ids("<image>"),
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 32, "patch_size": 8,
            },
            text_config={
                "model_type": "llama", "vocab_size": len(made), "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id,
                "pad_token_id": made.pad_token_id,
            },
            scale_factor=2,
            pad_token_id=made.pad_token_id,
        )
    )  # fmt: skip
    talkative(network, made)
    processor = Idefics3Processor(
        Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        made,
        image_seq_len=4,
        chat_template=IDEFICS3_TEMPLATE,
    )
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def qwen(folder: Path) -> Path:
    """Qwen2.5-VL: pictures of any shape, and a processor that watches videos too where torchvision is installed."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    marks = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    made = tokenizer("<|endoftext|>", *marks, end="<|im_end|>")
    identity = made.convert_tokens_to_ids
    network = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            image_token_id=identity("<|image_pad|>"), video_token_id=identity("<|video_pad|>"),
            vision_start_token_id=identity("<|vision_start|>"), vision_end_token_id=identity("<|vision_end|>"),
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "depth": 2, "num_heads": 2, "patch_size": 14,
                "out_hidden_size": 16, "window_size": 28, "fullatt_block_indexes": [1],
            },
            text_config={
                "vocab_size": len(made), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
                "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}, "bos_token_id": made.bos_token_id,
                "eos_token_id": made.eos_token_id, "pad_token_id": made.pad_token_id,
            },
        )
    )  # fmt: skip
    talkative(network, made)
    network.save_pretrained(folder)
    made.chat_template = QWEN_TEMPLATE
    made.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 16).save_pretrained(folder)
    _as_published(folder, "Qwen2_5_VLProcessor", "Qwen2VLImageProcessor")
    return folder


def gemma(folder: Path) -> Path:
    """Gemma 3: SigLIP's tower, pooled to a few tokens, that see each other."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    turns = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
    made = tokenizer(*turns, *marks.values(), end="<end_of_turn>", **marks)
    network = Gemma3ForConditionalGeneration(
        Gemma3Config(
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 56, "patch_size": 14,
            },
            text_config={
                "vocab_size": len(made), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
                "sliding_window": 64, "bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id,
                "pad_token_id": made.pad_token_id,
            },
            mm_tokens_per_image=4, image_token_index=made.image_token_id, boi_token_index=made.boi_token_id,
            eoi_token_index=made.eoi_token_id,
        )
    )  # fmt: skip
    talkative(network, made)
    pictures = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    network.save_pretrained(folder)
    Gemma3Processor(pictures, made, chat_template=GEMMA_TEMPLATE, image_seq_length=4).save_pretrained(folder)
    return folder


def florence(folder: Path) -> Path:
    """Florence-2: an encoder of picture and task, a decoder of its own, no chat template."""
    from transformers import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    made = tokenizer("<s>", "</s>", "<image>", end="</s>", image_token="<image>")
    network = Florence2ForConditionalGeneration(
        Florence2Config(
            vision_config={
                "embed_dim": [8, 16], "num_heads": [2, 2], "num_groups": [2, 2], "depths": [1, 1],
                "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
                "patch_prenorm": [False, True], "window_size": 4, "projection_dim": 16,
                "max_temporal_embeddings": 4, "max_position_embeddings": 10,
            },
            text_config={
                "model_type": "bart", "vocab_size": len(made), "d_model": 16, "encoder_layers": 2,
                "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
                "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 512,
                "bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id,
                "pad_token_id": made.pad_token_id, "decoder_start_token_id": made.eos_token_id,
            },
            image_token_id=made.image_token_id,
        )
    )  # fmt: skip
    talkative(network, made)
    pictures = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    pictures.image_seq_length = 65
    network.save_pretrained(folder)
    Florence2Processor(pictures, made, num_additional_image_tokens=1).save_pretrained(folder)
    return folder


def qwen3(folder: Path) -> Path:
    """Qwen3-VL: what its tower sees half-way up goes into the first layers of the text's network."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    marks = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    made = tokenizer("<|endoftext|>", *marks, end="<|im_end|>")
    identity = made.convert_tokens_to_ids
    network = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            image_token_id=identity("<|image_pad|>"), video_token_id=identity("<|video_pad|>"),
            vision_start_token_id=identity("<|vision_start|>"), vision_end_token_id=identity("<|vision_end|>"),
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "depth": 2, "num_heads": 2, "patch_size": 16,
                "out_hidden_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
            },
            text_config={
                "vocab_size": len(made), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512,
                "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [2, 1, 1]},
                "bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id,
                "pad_token_id": made.pad_token_id,
            },
        )
    )  # fmt: skip
    talkative(network, made)
    network.save_pretrained(folder)
    made.chat_template = QWEN_TEMPLATE
    made.save_pretrained(folder)
    limits = {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 16}
    Qwen2VLImageProcessorPil(patch_size=16, size=limits).save_pretrained(folder)
    _as_published(folder, "Qwen3VLProcessor", "Qwen2VLImageProcessorFast")
    return folder


def smolvlm(folder: Path) -> Path:
    """SmolVLM2: Idefics3 with a processor that watches videos, settings of its own, and the package num2words."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    marks = ("<|im_start|>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>")
    rows = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))
    made = tokenizer(*marks, *rows, end="<end_of_utterance>")
    network = SmolVLMForConditionalGeneration(
        SmolVLMConfig(
            image_token_id=made.convert_tokens_to_ids("<image>"),
            vision_config={
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 32, "patch_size": 8,
            },
            text_config={
                "model_type": "llama", "vocab_size": len(made), "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                "bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id,
                "pad_token_id": made.pad_token_id,
            },
            scale_factor=2, pad_token_id=made.pad_token_id,
        )
    )  # fmt: skip
    talkative(network, made)
    network.save_pretrained(folder)
    made.chat_template = IDEFICS3_TEMPLATE
    made.save_pretrained(folder)
    SmolVLMImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}).save_pretrained(folder)
    _as_published(folder, "SmolVLMProcessor", "SmolVLMImageProcessor")
    settings = {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder


def _as_published(folder: Path, processor: str, pictures: str) -> None:
    """Files that name the processor and its half for pictures, not ours without torchvision."""
    for name, told in (("preprocessor_config.json", {"image_processor_type": pictures}), ("tokenizer_config.json", {})):
        tree = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**tree, "processor_class": processor, **told}))


MODELS = {"llava": llava, "idefics3": idefics3, "qwen": qwen}
