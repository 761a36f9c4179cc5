"""Adapter files: read as their programs mean them, every key accounted for; written the same every time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from velatura import tensorfile
from velatura.adapters import formats, layers, lora, writing
from velatura.adapters.lora import LayerSpec
from velatura.adapters.weights import AdapterFile, Lora
from velatura.errors import AdapterError
from velatura.families.sd15.keys import KEYS as SD15

Parts = dict[str, nn.Module]
Specs = Callable[..., list[LayerSpec]]
Drawn = Callable[..., dict[str, Lora]]
Run = Callable[[Mapping[str, nn.Module]], Tensor]
Distance = Callable[[Tensor, Tensor], float]

TOLERANCE = 1e-4
Q = "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
TEXT = "text_encoder.text_model.encoder.layers.1.self_attn.q_proj"
CONV = "denoiser.down_blocks.0.resnets.1.conv2"
PROJ = "denoiser.down_blocks.0.attentions.0.proj_in"
SHAPES = {Q: (6, 5), OUT: (6, 6), TEXT: (4, 4), CONV: (3, 2, 3, 3), PROJ: (5, 6, 1, 1)}


def _adapter(rank: int = 2, alpha: float = 3.0) -> dict[str, Lora]:
    made = {}
    for index, (name, (out, *rest)) in enumerate(SHAPES.items()):
        drawn = np.random.default_rng(index)
        down = drawn.standard_normal((rank, *rest), dtype=np.float32)
        up = drawn.standard_normal((out, rank, *[1] * (len(rest) - 1)), dtype=np.float32)
        made[name] = Lora(down, up, alpha)
    return made


def _read(tensors: dict[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> AdapterFile:
    raw = {key: tensorfile.raw(value) for key, value in tensors.items()}
    return formats.from_tensors(raw, metadata or {}, keys=SD15, layers=SHAPES, where="a.safetensors")


def _kohya(adapter: dict[str, Lora]) -> dict[str, np.ndarray]:
    made = {}
    for name, layer in adapter.items():
        stem = SD15.kohya(name)
        made |= {f"{stem}.lora_down.weight": layer.down, f"{stem}.lora_up.weight": layer.up}
        made[f"{stem}.alpha"] = np.array(layer.alpha, np.float32)
    return made


def _equal(a: Mapping[str, Lora], b: Mapping[str, Lora]) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[n].delta(), b[n].delta()) for n in a)


def test_names_are_kohyas() -> None:
    assert SD15.kohya(OUT) == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert SD15.kohya(TEXT) == "lora_te_text_model_encoder_layers_1_self_attn_q_proj"
    assert SD15.diffusers(CONV) == "unet.down_blocks.0.resnets.1.conv2"


@pytest.mark.parametrize("precision", ["F32", "F16", "BF16"])
def test_what_is_written_is_read_back(precision: formats.Precision, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    adapter = AdapterFile(_adapter(), {"ss_seed": "3", "modelspec.title": "Bütten"})
    path.write_bytes(writing.to_bytes(adapter, keys=SD15, precision=precision))

    back = formats.read(path, keys=SD15, layers=SHAPES)

    assert adapter.metadata.items() <= back.metadata.items()
    assert len(tensorfile.read_header(path).entries) == 3 * len(SHAPES)
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[precision]
    for name, layer in adapter.layers.items():
        for half in ("down", "up"):
            stored = torch.from_numpy(getattr(layer, half)).to(dtype).float().numpy()
            assert np.array_equal(getattr(back.layers[name], half), stored)
        assert back.layers[name].alpha == 3.0


def test_two_processes_write_the_same_bytes() -> None:
    program = (
        "import sys, numpy as np\n"
        "from velatura.adapters import formats, metadata, writing\nfrom velatura.families.sd15.keys import KEYS\n"
        "from velatura.adapters.weights import AdapterFile, Lora\n"
        "names = {'denoiser.b.to_q', 'denoiser.a.to_q', 'text_encoder.text_model.encoder.layers.0.mlp.fc1'}\n"
        "draw = np.random.default_rng(1).standard_normal((2, 9), dtype=np.float32)\n"
        "facts = {key: key.upper() for key in {'ss_b', 'ss_a', 'modelspec.title', 'ss_ü'}}\n"
        "adapter = AdapterFile({name: Lora(draw, draw.T, 1.0) for name in names}, facts)\n"
        "sys.stdout.buffer.write(writing.to_bytes(adapter, keys=KEYS))\n"
        "assert 'torch' not in sys.modules\n"
    )
    written = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}, cwd=_root()
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(written) == 1 and len(written.pop()) > 500


def test_a_saved_file_gives_diffusers_the_same_prediction(
    parts: Parts, specs: Specs, drawn: Drawn, run: Run, distance: Distance, tmp_path: Path
) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    before = run(parts)
    weights = drawn(parts)
    with lora.inject(parts, specs(parts), seed=7) as injected:
        injected.load(weights)
        ours = run(parts)
    path = tmp_path / "style.safetensors"
    path.write_bytes(writing.to_bytes(AdapterFile(weights, {"ss_seed": "1"}), keys=SD15, precision="F32"))

    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=parts["text_encoder"],
        tokenizer=None,
        unet=parts["denoiser"],
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.load_lora_weights(tmp_path, weight_name=path.name)

    assert distance(run(parts), ours) <= TOLERANCE
    assert distance(ours, before) >= 100 * TOLERANCE


def test_a_file_that_diffusers_saved_gives_the_same_prediction(
    parts: Parts, drawn: Drawn, run: Run, distance: Distance, tmp_path: Path
) -> None:
    """PEFT's keys, no alpha among them, and rsLoRA: the scale is in the settings that diffusers stores beside."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    before, shapes = run(parts), layers.shapes(parts)
    denoiser, text_encoder = parts["denoiser"], parts["text_encoder"]
    config = LoraConfig(r=3, lora_alpha=2, use_rslora=True, target_modules=["to_q", "conv1", "proj_in"])
    inject_adapter_in_model(config, denoiser)
    text_config = LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj", "fc1"], alpha_pattern={"fc1": 1})
    inject_adapter_in_model(text_config, text_encoder)
    with torch.no_grad():
        for seed, module in enumerate(parts.values()):
            for index, (name, parameter) in enumerate(module.named_parameters()):
                if "lora_" in name:
                    generator = torch.Generator().manual_seed(1000 * seed + index)
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    theirs = run(parts)
    text_state = convert_state_dict_to_diffusers(get_peft_model_state_dict(text_encoder))
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(denoiser),
        text_encoder_lora_layers=text_state,
        unet_lora_adapter_metadata=config.to_dict(),
        text_encoder_lora_adapter_metadata=text_config.to_dict(),
    )

    adapter = formats.read(tmp_path / "pytorch_lora_weights.safetensors", keys=SD15, layers=shapes)

    for module in parts.values():
        _remove_peft(module)
    assert torch.equal(run(parts), before)
    specs = [LayerSpec(name, layer.rank, layer.alpha) for name, layer in adapter.layers.items()]
    with lora.inject(parts, specs, seed=0) as injected:
        injected.load(adapter.layers)
        ours = run(parts)
    assert distance(ours, theirs) <= TOLERANCE
    assert distance(theirs, before) >= 100 * TOLERANCE
    unscaled = {name: Lora(layer.down, layer.up, layer.rank) for name, layer in adapter.layers.items()}
    with lora.inject(parts, specs, seed=0) as injected:
        injected.load(unscaled)
        assert distance(run(parts), theirs) >= 100 * TOLERANCE


def test_without_alpha_the_scale_is_one() -> None:
    tensors = {key: value for key, value in _kohya(_adapter()).items() if not key.endswith(".alpha")}
    assert {layer.scale for layer in _read(tensors).layers.values()} == {1.0}
    assert {layer.scale for layer in _read(_kohya(_adapter())).layers.values()} == {1.5}


def test_every_way_of_naming_is_read() -> None:
    adapter = _adapter(alpha=2.0)
    ways = {
        "peft": (".lora_A.weight", ".lora_B.weight", SD15.diffusers),
        "flattened text encoder": (
            ".lora_A.weight",
            ".lora_B.weight",
            lambda name: SD15.diffusers(name).replace(".text_model", ""),
        ),
        "old diffusers": (
            ".lora.down.weight",
            ".lora.up.weight",
            SD15.diffusers,
        ),
        "older text encoder": (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight", SD15.diffusers),
    }
    for way, (down, up, stem) in ways.items():
        tensors = {}
        for name, layer in adapter.items():
            tensors |= {stem(name) + down: layer.down, stem(name) + up: layer.up}
        assert _equal(_read(tensors).layers, adapter), way

    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor"
    processors = {
        f"unet.{block}.to_q_lora.down.weight": adapter[Q].down,
        f"unet.{block}.to_q_lora.up.weight": adapter[Q].up,
        f"{block}.to_out_lora.down.weight": adapter[OUT].down,
        f"{block}.to_out_lora.up.weight": adapter[OUT].up,
        "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.down.weight": adapter[TEXT].down,
        "text_encoder.text_model.encoder.layers.1.self_attn.to_q_lora.up.weight": adapter[TEXT].up,
    }
    assert _equal(_read(processors).layers, {name: adapter[name] for name in (Q, OUT, TEXT)})


def test_a_one_by_one_kernel_may_be_left_out() -> None:
    adapter = _adapter()
    tensors = _kohya(adapter)
    stem = SD15.kohya(PROJ)
    tensors[f"{stem}.lora_down.weight"] = adapter[PROJ].down[:, :, 0, 0]
    tensors[f"{stem}.lora_up.weight"] = adapter[PROJ].up[:, :, 0, 0]
    assert _equal(_read(tensors).layers, adapter)


FOREIGN = {
    "SDXL": "lora_te2_text_model_encoder_layers_0_mlp_fc1",
    "SDXL ": "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k",
    "SDXL  ": "unet.down_blocks.2.attentions.0.transformer_blocks.7.attn1.to_q",
    "FLUX.1": "lora_unet_double_blocks_0_img_attn_qkv",
    "FLUX.1 ": "transformer.single_transformer_blocks.0.attn.to_q",
    "SD 3": "lora_unet_joint_blocks_0_x_block_attn_qkv",
    "Z-Image": "diffusion_model.layers.0.attention.to_q",
    "Qwen-Image": "lora_unet_transformer_blocks_0_img_mlp_net_0_proj",
    "Wan": "lora_unet_blocks_0_self_attn_q",
}


@pytest.mark.parametrize(("family", "stem"), [(family.strip(), stem) for family, stem in FOREIGN.items()])
def test_a_file_for_another_family_is_refused_by_name(family: str, stem: str) -> None:
    ending = ("lora_A", "lora_B") if "." in stem else ("lora_down", "lora_up")
    foreign = {f"{stem}.{half}.weight": np.ones((2, 2), np.float32) for half in ending}
    with pytest.raises(AdapterError, match=f"this LoRA is for {family}, the base is SD 1.5") as refusal:
        _read({**_kohya(_adapter()), **foreign})
    assert stem in refusal.value.what and refusal.value.where == "a.safetensors"


def test_a_file_for_another_size_is_refused_with_its_first_layer() -> None:
    name = "denoiser.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    down, up = np.ones((2, 1024), np.float32), np.ones((320, 2), np.float32)
    stem = SD15.kohya(name)
    raw = {f"{stem}.lora_down.weight": tensorfile.raw(down), f"{stem}.lora_up.weight": tensorfile.raw(up)}
    with pytest.raises(AdapterError, match=r"this LoRA is for SD 2\.x.*attn2\.to_k.*\[320, 768\]"):
        formats.from_tensors(raw, {}, keys=SD15, layers={name: (320, 768)})

    other = _kohya(_adapter())
    other[f"{SD15.kohya(CONV)}.lora_down.weight"] = np.ones((2, 2, 1, 1), np.float32)
    with pytest.raises(AdapterError, match=r"a base of another size.*resnets\.1\.conv2"):
        _read(other)


def _damaged() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    whole, stem = _kohya(_adapter()), SD15.kohya(Q)
    yield "no adapter", {}
    yield (
        "LoRA is for SD 1.5, but.*1 of 16 keys.*belong to no layer.*: lora_unet_nowhere.alpha",
        {**whole, "lora_unet_nowhere.alpha": whole[f"{stem}.alpha"]},
    )
    yield "lacks one of its halves", {key: value for key, value in whole.items() if key != f"{stem}.lora_up.weight"}
    yield "twice", {**whole, f"{SD15.diffusers(Q)}.lora_A.weight": whole[f"{stem}.lora_down.weight"]}
    yield "not numbers", {**whole, f"{stem}.lora_up.weight": np.full((6, 2), np.nan, np.float32)}
    yield "not one number", {**whole, f"{stem}.alpha": np.ones(2, np.float32)}
    yield "another size", {**whole, f"{stem}.lora_up.weight": np.ones((7, 2), np.float32)}
    yield "do not fit together", {**whole, f"{stem}.lora_up.weight": np.ones((6, 3), np.float32)}
    yield "do not fit together", {**whole, f"{stem}.lora_down.weight": np.ones((), np.float32)}
    yield "do not fit together", {**whole, f"{stem}.lora_down.weight": np.ones((0, 5), np.float32)}
    yield "another size", {**whole, f"{stem}.dora_scale": np.ones((7, 1), np.float32)}
    yield "two kinds of change", {**whole, f"{stem}.hada_w1_a": np.ones((6, 1), np.float32)}
    yield "lacks one of its halves, hada_w1_b", {f"{stem}.hada_w1_a": np.ones((6, 1), np.float32)}
    yield "holds an OFT of PEFT's", {f"{SD15.diffusers(Q)}.oft_r": np.ones((6, 1), np.float32)}


@pytest.mark.parametrize(("sentence", "tensors"), list(_damaged()))
def test_a_file_that_cannot_be_used_whole_is_refused(sentence: str, tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(AdapterError, match=sentence):
        _read(tensors)


def test_damaged_settings_are_refused() -> None:
    tensors = {
        f"{SD15.diffusers(Q)}.lora_{half}.weight": np.ones(shape, np.float32)
        for half, shape in (("A", (2, 5)), ("B", (6, 2)))
    }
    for settings in ("{", "[1]", json.dumps({"unet.lora_alpha": "high"}), json.dumps({"unet.alpha_pattern": {"(": 1}})):
        with pytest.raises(AdapterError, match="damaged"):
            _read(tensors, {"lora_adapter_metadata": settings})


@pytest.mark.parametrize(
    ("name", "on_input", "expected"),
    [
        (Q, 0, [1.25, 2.5, 3.75, 3.5, 4.375, 5.25]),
        (Q, 1, [1.25, 1.75, 4.5, 5, 4.375, 9]),
        (CONV, 0, [1.25, 2.5, 3.75, 5, 6.25, 7.5, 6.125, 7, 7.875, 8.75, 9.625, 10.5]),
        (CONV, 1, [1.25, 2.5, 2.625, 3.5, 7.5, 9, 8.75, 10, 7.875, 8.75, 16.5, 18]),
    ],
)
def test_an_ia3_of_lycoris_at_half_strength_is_what_its_own_code_makes_of_the_weight(
    name: str, on_input: int, expected: list[float]
) -> None:
    """The numbers are those of LyCORIS' `IA3Module.make_weight` (commit 164f5027), run beside this."""
    shape = (2, 3) if name == Q else (2, 3, 1, 2)
    factors = np.array([0.5, -0.25, 1] if on_input else [0.5, -0.25], np.float32)
    stored = factors if name == Q else factors.reshape(1, -1, 1, 1)
    stem = SD15.kohya(name)
    raw = {f"{stem}.weight": tensorfile.raw(stored), f"{stem}.on_input": tensorfile.raw(np.array(on_input))}
    adapter = formats.from_tensors(raw, {}, keys=SD15, layers={name: shape})

    weight = np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    assert adapter.layers[name].applied(weight, 0.5).ravel().tolist() == expected


def test_a_kind_that_is_not_read_is_named_with_a_way_round() -> None:
    blocks = np.ones((2, 3, 3), np.float32)
    with pytest.raises(AdapterError, match=r"before its release 0\.14.*velatura lora extract"):
        _read({f"{SD15.diffusers(Q)}.oft_r": blocks})


@pytest.mark.parametrize("value", [70000.0, np.nan, np.inf])
def test_what_fp16_cannot_hold_is_not_written(value: float) -> None:
    adapter = _adapter()
    adapter[Q].up[0, 0] = value
    with pytest.raises(AdapterError, match=r"too large|not numbers"):
        writing.to_bytes(AdapterFile(adapter), keys=SD15)


def _remove_peft(module: nn.Module) -> None:
    from peft.tuners.lora import LoraLayer

    for path, parent in list(module.named_modules()):
        for child, layer in list(parent.named_children()):
            if isinstance(layer, LoraLayer):
                setattr(module.get_submodule(path), child, layer.base_layer)


def _root() -> Path:
    return Path(__file__).parents[2]
