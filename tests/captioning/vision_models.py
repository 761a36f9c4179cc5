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


def tokenizer(*special: str, end: str) -> Any:
    """Bytes as tokens, and special ones; the first stands for a beginning, `<pad>` for what is nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={sign: place for place, sign in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<pad>", *special])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token=end, bos_token=special[0])


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
    for name, kind in (("preprocessor_config.json", "image_processor_type"), ("tokenizer_config.json", "")):
        tree = json.loads((folder / name).read_text())
        tree["processor_class"] = "Qwen2_5_VLProcessor"
        if kind:
            tree[kind] = "Qwen2VLImageProcessor"
        (folder / name).write_text(json.dumps(tree))
    return folder


MODELS = {"llava": llava, "idefics3": idefics3, "qwen": qwen}
