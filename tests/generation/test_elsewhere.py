"""Pictures of other programs, in the forms in which those programs write: what is read of them, and what is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from velatura.generation import carriers
from velatura.generation.elsewhere import Foreign, read

A1111 = (
    "a lake, <lora:ink:0.8> BREAK dusk\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 12345, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5-pruned, Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent, "
    'Lora hashes: "ink: 00aa11bb22cc", Version: v1.10.1'
)
FORGE = "a lake\nSteps: 20, Sampler: Euler, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, Version: f2.0.1v1.10.1"
SWARM = {
    "sui_image_params": {
        "prompt": "a lake <lora:sub/ink:0.8:0.5> at <random:dusk,dawn>",
        "negativeprompt": "blurry",
        "model": "OfficialStableDiffusion/sd_xl_base_1.0.safetensors",
        "seed": 7,
        "steps": 20,
        "cfgscale": 7.0,
        "width": 1024,
        "height": 768,
        "sampler": "dpmpp_2m",
        "scheduler": "karras",
        "loras": ["moon"],
        "loraweights": ["0.4"],
        "refinerupscale": 2,
        "swarm_version": "0.9.6.1",
    },
    "sui_extra_data": {"date": "2025-01-25"},
}
COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5, "steps": 25, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0,
            "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "xl\\base.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 832, "height": 1216, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lake, (dusk:1.2)", "clip": ["11", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["11", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
    "10": {
        "class_type": "LoraLoader",
        "inputs": {
            "lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5,
            "model": ["4", 0], "clip": ["4", 1],
        },
    },
    "11": {
        "class_type": "LoraLoader",
        "inputs": {
            "lora_name": "moon.safetensors", "strength_model": 0.4, "strength_clip": 0.4,
            "model": ["10", 0], "clip": ["10", 1],
        },
    },
}  # fmt: skip
FLUX = {
    "5": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["40", 0], "clip": ["11", 0]}},
    "11": {"class_type": "DualCLIPLoader", "inputs": {"clip_name1": "t5", "clip_name2": "clip_l", "type": "flux"}},
    "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}},
    "13": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["25", 0], "guider": ["22", 0], "sampler": ["16", 0], "sigmas": ["17", 0],
            "latent_image": ["5", 0],
        },
    },
    "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "17": {
        "class_type": "BasicScheduler",
        "inputs": {"scheduler": "simple", "steps": 20, "denoise": 1.0, "model": ["12", 0]},
    },
    "22": {"class_type": "BasicGuider", "inputs": {"model": ["30", 0], "conditioning": ["26", 0]}},
    "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 99}},
    "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
    "30": {
        "class_type": "Power Lora Loader (rgthree)",
        "inputs": {
            "lora_1": {"on": True, "lora": "ink.safetensors", "strength": 0.7},
            "lora_2": {"on": False, "lora": "moon.safetensors", "strength": 1.0},
            "model": ["12", 0],
        },
    },
    "40": {"class_type": "PrimitiveNode", "inputs": {"value": "a lake at dusk"}},
}  # fmt: skip
INVOKE = {
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "a lake",
    "negative_prompt": "blurry",
    "positive_style_prompt": "a lake",
    "negative_style_prompt": "",
    "width": 1184, "height": 888, "seed": 591741300, "rand_device": "cpu", "cfg_scale": 5.0, "steps": 30,
    "cfg_rescale_multiplier": 0.3, "seamless_x": False,
    "scheduler": "dpmpp_2m_k", "clip_skip": 1,
    "model": {"key": "x", "hash": "blake3:1", "name": "juggernaut", "base": "sdxl", "type": "main"},
    "loras": [{"model": {"name": "ink", "hash": "blake3:2"}, "weight": 0.75}],
    "app_version": "5.4.2",
}  # fmt: skip
NOVEL = {
    "prompt": "a lake, {dusk}", "uc": "blurry", "steps": 28, "scale": 5.0, "seed": 3, "sampler": "k_euler_ancestral",
    "noise_schedule": "karras", "width": 832, "height": 1216, "sm": True, "cfg_rescale": 0.0,
}  # fmt: skip


def told(folder: Path, chunks: Mapping[str, Any]) -> Foreign | None:
    info = PngInfo()
    for name, value in chunks.items():
        info.add_text(name, value if isinstance(value, str) else json.dumps(value))
    Image.new("RGB", (8, 8)).save(folder / "x.png", pnginfo=info)
    return read(carriers.read(folder / "x.png"))


@pytest.mark.parametrize(
    ("chunks", "program", "prompt", "negative", "settings", "lost"),
    [
        (
            {"parameters": A1111}, "A1111", "a lake, <lora:ink:0.8> BREAK dusk", "blurry",
            {"Steps": "20", "Sampler": "Euler a", "Size": "512x768", "Hires upscale": "2", "Model": "v1-5-pruned"}, (),
        ),
        ({"parameters": FORGE}, "Forge", "a lake", "", {"Distilled CFG Scale": "3.5", "Seed": "1"}, ()),
        (
            {"parameters": SWARM}, "SwarmUI",
            "a lake <lora:ink:0.5:0.8> at <random:dusk,dawn> <lora:moon:0.4>", "blurry",
            {"Steps": "20", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "7", "Seed": "7",
             "Size": "1024x768", "Model": "sd_xl_base_1.0"},
            ("refinerupscale 2",),
        ),
        (
            {"prompt": COMFY, "workflow": {"nodes": []}}, "ComfyUI",
            "a lake, (dusk:1.2) <lora:ink:0.5:0.8> <lora:moon:0.4>", "blurry",
            {"Steps": "25", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "6.5", "Seed": "5",
             "Size": "832x1216", "Model": "base", "RNG": "CPU"},
            (),
        ),
        (
            {"prompt": FLUX}, "ComfyUI", "a lake at dusk <lora:ink:0.7>", "",
            {"Steps": "20", "Sampler": "Euler", "Schedule type": "Simple", "Distilled CFG Scale": "3.5", "Seed": "99",
             "Size": "1024x1024", "Model": "flux1-dev", "RNG": "CPU"},
            (),
        ),
        (
            {"invokeai_metadata": INVOKE}, "InvokeAI", "a lake <lora:ink:0.75>", "blurry",
            {"Steps": "30", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "5", "Seed": "591741300",
             "Size": "1184x888", "Model": "juggernaut", "Clip skip": "2", "RNG": "CPU"},
            ("cfg rescale multiplier",),
        ),
        (
            {"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Description": "a lake", "Comment": NOVEL},
            "NovelAI", "a lake, {dusk}", "blurry",
            {"Steps": "28", "Sampler": "Euler a", "Schedule type": "Karras", "CFG scale": "5", "Seed": "3",
             "Size": "832x1216", "Model": "NovelAI Diffusion V3"},
            ("sm", "braces in the prompt, its way of emphasis"),
        ),
    ],
    ids=["a1111", "forge", "swarmui", "comfyui", "comfyui flux", "invokeai", "novelai"],
)  # fmt: skip
def test_what_a_picture_says_is_told_in_a1111_s_words_and_what_is_lost_is_told_too(
    tmp_path: Path,
    chunks: Mapping[str, Any],
    program: str,
    prompt: str,
    negative: str,
    settings: dict[str, str],
    lost: tuple[str, ...],
) -> None:
    found = told(tmp_path, chunks)
    assert found is not None
    assert (found.program, found.infotext.prompt, found.infotext.negative_prompt) == (program, prompt, negative)
    assert {name: found.infotext.settings.get(name) for name in settings} == settings
    assert found.lost == lost
    assert program == "A1111" or program == "Forge" or set(found.infotext.settings) == set(settings)


def test_of_two_samplers_the_last_is_meant_and_what_lies_between_is_told(tmp_path: Path) -> None:
    graph: dict[str, Any] = json.loads(json.dumps(COMFY))
    graph["20"] = {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["3", 0], "scale_by": 1.5}}
    second = {**graph["3"]["inputs"], "latent_image": ["20", 0], "denoise": 0.5, "seed": 6, "steps": 10}
    graph["21"] = {"class_type": "KSampler", "inputs": second}
    found = told(tmp_path, {"prompt": graph})
    assert found is not None
    assert (found.infotext.settings["Seed"], found.infotext.settings["Steps"]) == ("6", "10")
    assert found.lost == ("it was painted from other latents at denoising 0.5", "the node LatentUpscaleBy")


def test_unknown_samplers_and_nodes_are_told(tmp_path: Path) -> None:
    graph: dict[str, Any] = json.loads(json.dumps(COMFY))
    graph["3"]["inputs"]["sampler_name"] = "res_multistep"
    graph["6"] = {"class_type": "MyTextNode", "inputs": {"text": "a hill"}}
    found = told(tmp_path, {"prompt": graph})
    assert found is not None
    assert found.infotext.prompt.startswith("a hill")
    assert "Sampler" not in found.infotext.settings
    assert found.lost == ("the sampler res_multistep", "the node MyTextNode")


@pytest.mark.parametrize(
    "chunks",
    [
        {},
        {"parameters": "only words"},
        {"parameters": "{broken"},
        {"parameters": {"other": 1}},
        {"prompt": "words"},
        {"prompt": {"1": {"class_type": "SaveImage", "inputs": {}}}},
        {"prompt": {"1": 3}},
        {"prompt": {"1": {"class_type": "KSampler", "inputs": {"latent_image": ["1", 0], "sampler_name": ["1", 0]}}}},
        {"invokeai_metadata": "[]"},
        {"Software": "NovelAI"},
        {"Software": "Photoshop"},
    ],
    ids=str,
)
def test_what_says_nothing_is_nothing_and_never_a_crash(tmp_path: Path, chunks: Mapping[str, Any]) -> None:
    found = told(tmp_path, chunks)
    assert found is None or found.infotext.prompt == ""
