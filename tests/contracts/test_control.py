"""What ControlNets of every family make of a picture, against diffusers' pipelines: same noise, same noise levels.

Latents are compared in fp32 on one thread. The tolerance is 1e-4 of max(1, root mean square).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests import tiny, tiny_control
from tests.paintings import clouds
from velatura import controlling, tensorfile
from velatura.bases import FAMILIES
from velatura.controlnets import recognise
from velatura.errors import SettingsError
from velatura.family import MemoryPolicy, Model, load_base
from velatura.generation import hints
from velatura.generation.control import ControlUse
from velatura.generation.generate import generate
from velatura.generation.hints import Shown
from velatura.generation.hires import Hires
from velatura.generation.sampling import Job, Sampling
from velatura.generation.start import fitted

# diffusers' schedulers hand torch tensors to numpy in a way that numpy 2 deprecates, its networks use its own old names
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
]

TOLERANCE = 1e-4
WIDTH, HEIGHT = 96, 64
STEPS = 10
SEED = 9
PROMPT, NEGATIVE = "a red boat on the sea, yellow sun", "a cat at night"

PIPELINES = {
    "sd15": ("controlnet.pipeline_controlnet", "StableDiffusionControlNetPipeline", 6.0),
    "sdxl": ("controlnet.pipeline_controlnet_sd_xl", "StableDiffusionXLControlNetPipeline", 6.0),
    "flux1": ("flux.pipeline_flux_controlnet", "FluxControlNetPipeline", 1.0),
    "z_image": ("z_image.pipeline_z_image_controlnet", "ZImageControlNetPipeline", 4.0),
}
"""Family -> diffusers' module and class, and our cfg scale."""


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.BASES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load_base(folder)


@pytest.fixture(scope="module")
def nets(model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two ControlNets, as folders."""
    made = tmp_path_factory.mktemp("nets")
    first, second = (tiny_control.network(model.family.name, seed=seed) for seed in (11, 12))
    return tiny_control.written(made / "one", first), tiny_control.written(made / "two", second)


def shown(model: Model, path: Path, hint: Image.Image, **told: Any) -> Shown:
    return Shown(
        model.family.load_controlnet(model, recognise(path)), hint, ControlUse(str(path), Path("hint.png"), **told)
    )


@pytest.fixture
def ours(model: Model, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Latents as they are before they become a picture."""
    seen: list[Tensor] = []
    decode = type(model.family).decode_latents

    def watched(self: Any, model: Model, latents_BCHW: Tensor) -> Tensor:
        seen.append(latents_BCHW)
        return decode(self, model, latents_BCHW)

    def run(*controls: Shown, **told: Any) -> Tensor:
        seen.clear()
        scale = PIPELINES[model.family.name][2]
        sampling = Sampling(WIDTH, HEIGHT, STEPS, scale, "Euler", "Uniform", controls=controls)
        negative = "" if model.guidance == "distilled" else NEGATIVE
        list(generate(model, [Job(PROMPT, SEED, negative)], sampling, **told))
        return seen[-1]

    monkeypatch.setattr(type(model.family), "decode_latents", watched)
    return run


def pipeline_of(model: Model, folder: Path, *networks: Any) -> Any:
    """diffusers' own, of the model's networks and these ControlNets."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.models.t5.tokenization_t5 import T5Tokenizer

    name, flow = model.family.name, model.objective.kind == "flow"
    schedulers = importlib.import_module("diffusers.schedulers")
    parts: dict[str, Any] = {
        "scheduler": getattr(schedulers, f"{'FlowMatch' if flow else ''}EulerDiscreteScheduler").from_pretrained(
            folder / "scheduler", **({} if flow else {"timestep_spacing": "linspace"})
        ),
        "controlnet": _several(name, networks) if len(networks) > 1 else networks[0],
    }
    for part, network in model.parts.items():
        parts[{"denoiser": "transformer" if flow else "unet"}.get(part, part)] = network
    readers = {"z_image": {"tokenizer": Qwen2Tokenizer}, "flux1": {"tokenizer_2": T5Tokenizer}}.get(name, {})
    for part in ("tokenizer", "tokenizer_2"):
        if (folder / part).is_dir():
            parts[part] = readers.get(part, CLIPTokenizer).from_pretrained(folder / part)
    more = {
        "sd15": {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False},
        "sdxl": {"add_watermarker": False},
    }.get(name, {})
    module, kind, _ = PIPELINES[name]
    if "Union" in type(networks[0]).__name__:
        module, kind = f"{module.replace('controlnet_sd', 'controlnet_union_sd')}", kind.replace("Net", "NetUnion", 1)
    made = getattr(importlib.import_module(f"diffusers.pipelines.{module}"), kind)(**parts, **more)
    made.set_progress_bar_config(disable=True)
    return made


def _several(family: str, networks: tuple[Any, ...]) -> Any:
    """Z-Image's pipeline knows one alone, so the sum of several is put in its place."""
    if family == "flux1":
        from diffusers.models.controlnets.controlnet_flux import FluxMultiControlNetModel

        return FluxMultiControlNetModel(list(networks))
    if family != "z_image":
        from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

        return MultiControlNetModel(list(networks))
    return networks[0]


@torch.no_grad()
def theirs(
    model: Model,
    pipeline: Any,
    hints: list[Image.Image],
    weights: list[float],
    window: tuple[float, float] = (0, 1),
    **more: Any,
) -> Tensor:
    """Latents of diffusers' pipeline; where it draws around the hint's latents, it is given their mean."""
    name, scale = model.family.name, PIPELINES[model.family.name][2]
    several = len(hints) > 1
    given: dict[str, Any] = {
        "controlnet_conditioning_scale": weights if several else weights[0],
        "output_type": "latent",
        "num_inference_steps": STEPS,
        "generator": torch.Generator().manual_seed(SEED),
        "width": WIDTH,
        "height": HEIGHT,
    }
    images = hints if several else hints[0]
    if name == "z_image":
        given |= {"negative_prompt": NEGATIVE, "guidance_scale": scale - 1, "control_image": images}
    else:
        given |= {"control_guidance_start": window[0], "control_guidance_end": window[1]}
        if name == "flux1":
            given |= {"guidance_scale": 3.5, "max_sequence_length": 512, "control_image": images}
        else:
            given |= {"negative_prompt": NEGATIVE, "guidance_scale": scale, "image": images}
    with pytest.MonkeyPatch.context() as patch:
        if model.objective.kind == "flow":
            encode = pipeline.vae.encode
            patch.setattr(pipeline.vae, "encode", lambda x: SimpleNamespace(latents=encode(x).latent_dist.mode()))
        if "control_image" in more:
            del given["image"]
        latents: Tensor = pipeline(PROMPT, **{**given, **more}).images
    if latents.dim() == 3:
        latents = pipeline._unpack_latents(latents, HEIGHT, WIDTH, pipeline.vae_scale_factor)
    return latents


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def network_of(path: Path) -> Any:
    from diffusers.models.modeling_utils import ModelMixin

    kind = recognise(path).network
    places = {"FluxControlNetModel": "_flux", "ZImageControlNetModel": "_z_image", "ControlNetUnionModel": "_union"}
    module = importlib.import_module(f"diffusers.models.controlnets.controlnet{places.get(kind, '')}")
    made: ModelMixin = getattr(module, kind).from_pretrained(path, low_cpu_mem_usage=False)
    return made.eval().requires_grad_(False)


HINT = clouds(3, (WIDTH, HEIGHT))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    HINT.save(tmp_path / "hint.png")
    return tmp_path / "hint.png"


def test_a_picture_is_the_one_that_diffusers_pipeline_paints(
    model: Model, folder: Path, nets: tuple[Path, Path], ours: Callable[..., Tensor]
) -> None:
    """With a weight; and each of what is told matters by a hundred tolerances."""
    reference = theirs(model, pipeline_of(model, folder, network_of(nets[0])), [HINT], [0.8])
    found = ours(shown(model, nets[0], HINT, weight=0.8))
    assert distance(found, reference) < TOLERANCE
    assert distance(ours(), reference) > 100 * TOLERANCE
    assert distance(ours(shown(model, nets[0], HINT, weight=0.5)), reference) > 100 * TOLERANCE
    assert distance(ours(shown(model, nets[0], clouds(4, HINT.size), weight=0.8)), reference) > 100 * TOLERANCE
    assert distance(ours(shown(model, nets[1], HINT, weight=0.8)), reference) > 100 * TOLERANCE


FORMS: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "sdxl": [({"union": 6}, "canny", {"control_mode": 3, "control_image": HINT})],
    "flux1": [
        ({"num_mode": 3, "num_layers": 2}, "depth", {"control_mode": 2}),
        ({"num_single_layers": 0, "conditioning_embedding_channels": 4, "patch_size": 2}, "", {}),
    ],
    "z_image": [
        ({"control_in_dim": 33, "add_control_noise_refiner": refiner, "control_refiner_layers_places": [0, 1]}, "", {})
        for refiner in ("control_noise_refiner", "control_layers")
    ],
}
"""Family -> settings of further kinds of networks, the kind of the hint, and what the pipeline is told of it."""


def test_other_kinds_of_networks_are_diffusers_too(
    model: Model, folder: Path, ours: Callable[..., Tensor], tmp_path: Path
) -> None:
    """Unions, XLabs', Z-Image's 2.0 and 2.1."""
    for place, (settings, kind, told) in enumerate(FORMS.get(model.family.name, [])):
        made = tiny_control.network(model.family.name, **settings)
        path = tiny_control.written(tmp_path / f"{place}", made)
        reference = theirs(model, pipeline_of(model, folder, network_of(path)), [HINT], [0.7], **told)
        assert distance(ours(shown(model, path, HINT, weight=0.7, kind=kind)), reference) < TOLERANCE
        assert distance(ours(), reference) > 100 * TOLERANCE
        assert (
            distance(ours(shown(model, path, clouds(4, HINT.size), weight=0.7, kind=kind)), reference) > 20 * TOLERANCE
        )
        if kind:
            other = shown(model, path, HINT, weight=0.7, kind=recognise(path).kinds[0])
            assert distance(ours(other), reference) > 20 * TOLERANCE


def test_it_is_at_work_from_its_start_to_its_end(
    model: Model, folder: Path, nets: tuple[Path, Path], ours: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(nets[0])
    if model.family.name == "z_image":  # whose pipeline has no start and end: by diffusers' rule for the others
        forward, calls = network.forward, iter(range(STEPS))

        def windowed(*told: Any, conditioning_scale: float, **more: Any) -> Any:
            step = next(calls)
            kept = 1.0 - float(step / STEPS < 0.2 or (step + 1) / STEPS > 0.75)
            return forward(*told, conditioning_scale=conditioning_scale * kept, **more)

        monkeypatch.setattr(network, "forward", windowed)
    pipeline = pipeline_of(model, folder, network)
    reference = theirs(model, pipeline, [HINT], [0.8], (0.2, 0.75))
    assert distance(ours(shown(model, nets[0], HINT, weight=0.8, start=0.2, end=0.75)), reference) < TOLERANCE
    for start, end in ((0.0, 0.75), (0.3, 0.75), (0.2, 0.6), (0.2, 0.8)):
        other = ours(shown(model, nets[0], HINT, weight=0.8, start=start, end=end))
        assert distance(other, reference) > 20 * TOLERANCE, (start, end)
    assert distance(ours(shown(model, nets[0], HINT, weight=0.8)), reference) > 100 * TOLERANCE


def test_two_at_once_are_added(
    model: Model, folder: Path, nets: tuple[Path, Path], ours: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    hints, weights = [HINT, clouds(4, HINT.size)], [0.8, 0.6]
    networks = [network_of(path) for path in nets]
    pipeline = pipeline_of(model, folder, *networks)
    if model.family.name == "z_image":
        pair = [
            shown(model, path, hint, weight=weight) for path, hint, weight in zip(nets, hints, weights, strict=True)
        ]
        latents = [one.hint(model, WIDTH, HEIGHT) for one in pair]
        first = networks[0].forward

        def both(x: Any, t: Any, captions: Any, context: Any, **more: Any) -> Any:
            networks[1].from_transformer(networks[1], pipeline.transformer)
            second = list(latents[1].unsqueeze(2).expand(len(x), -1, -1, -1, -1))
            told = first(list(x), t, list(captions), context, conditioning_scale=weights[0])
            others = networks[1](list(x), t, list(captions), second, conditioning_scale=weights[1])
            return {layer: told[layer] + others[layer] for layer in told}

        monkeypatch.setattr(networks[0], "forward", both)
        reference = theirs(model, pipeline, hints[:1], weights[:1])
    else:
        reference = theirs(model, pipeline, hints, weights)
    pair = [shown(model, path, hint, weight=weight) for path, hint, weight in zip(nets, hints, weights, strict=True)]
    assert distance(ours(*pair), reference) < TOLERANCE
    assert distance(ours(*reversed(pair)), reference) < TOLERANCE
    for one in pair:
        assert distance(ours(one), reference) > 100 * TOLERANCE


def test_a_weight_of_nothing_is_the_picture_without_it_to_the_bit(
    model: Model, nets: tuple[Path, Path], ours: Callable[..., Tensor]
) -> None:
    plain = ours()
    assert torch.equal(ours(shown(model, nets[0], HINT, weight=0.0)), plain)


def test_a_hint_of_other_proportions_is_made_to_fit(
    model: Model, nets: tuple[Path, Path], ours: Callable[..., Tensor]
) -> None:
    tall = clouds(5, (77, 130))
    for mode in ("crop", "stretch", "fill"):
        told = shown(model, nets[0], tall, resize_mode=mode)
        assert told.fitted(WIDTH, HEIGHT).tobytes() == fitted(tall, WIDTH, HEIGHT, mode).tobytes()
    assert torch.equal(ours(told), ours(shown(model, nets[0], fitted(tall, WIDTH, HEIGHT, "fill"))))


def test_a_second_pass_sees_a_hint_of_its_own_size(
    model: Model, nets: tuple[Path, Path], ours: Callable[..., Tensor]
) -> None:
    """Made of the picture that was given, and not of the small hint."""
    large = clouds(6, (2 * WIDTH, 2 * HEIGHT))
    told = shown(model, nets[0], large)
    hires = Hires(2.0, steps=4, denoising=0.5, upscaler="Latent (nearest-exact)")
    found = ours(told, hires=hires)
    assert distance(found, ours(hires=hires)) > 100 * TOLERANCE
    assert told.fitted(2 * WIDTH, 2 * HEIGHT).tobytes() == large.tobytes()
    assert torch.equal(found, ours(told, hires=hires))


def test_at_work_in_no_step_is_refused(model: Model, nets: tuple[Path, Path], ours: Callable[..., Tensor]) -> None:
    with pytest.raises(SettingsError, match="none of 10 steps"):
        ours(shown(model, nets[0], HINT, start=0.41, end=0.49))


def test_pictures_of_a_batch_have_what_they_have_alone(
    model: Model, nets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Sampling(WIDTH, HEIGHT, 4, PIPELINES[model.family.name][2], "Euler", "Uniform")
    told = replace(told, controls=(shown(model, nets[0], HINT),))
    jobs = [Job(PROMPT, SEED), Job("a house", SEED + 1)]
    seen: list[Tensor] = []
    monkeypatch.setattr(
        "velatura.generation.generate.decode",
        lambda _, latents: [seen.append(latents), *[Image.new("RGB", (8, 8))] * len(latents)][1:],
    )
    list(generate(model, jobs, told, batch=2))
    list(generate(model, jobs, told, batch=1))
    assert distance(torch.cat(seen[1:]), seen[0]) < TOLERANCE


def test_modes_are_a1111_s_arithmetic_and_for_unets_alone(
    model: Model, nets: tuple[Path, Path], ours: Callable[..., Tensor], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layer i of what is added counts 0.825 ** (12 - i); for `control` the negative side has none of it."""
    if model.objective.kind == "flow":
        with pytest.raises(SettingsError, match="UNets"):
            hints.shown(model, ControlUse(str(nets[0]), picture, mode="prompt"), None, {})
        return
    net = nets[0]
    balanced, prompt, control = (ours(shown(model, net, HINT, mode=mode)) for mode in ("balanced", "prompt", "control"))
    plain = controlling.weighed

    def by_hand(control: Any, added: Any) -> Any:
        return [one * 0.825 ** (12 - layer) for layer, one in enumerate(plain(control, added))]

    monkeypatch.setattr(controlling, "weighed", by_hand)
    assert distance(ours(shown(model, nets[0], HINT)), prompt) < TOLERANCE

    def one_side(control: Any, added: Any) -> Any:
        assert len(added[0]) == 2  # the prompt's row comes first
        return [torch.cat([one[:1], 0 * one[1:]]) for one in by_hand(control, added)]

    monkeypatch.setattr(controlling, "weighed", one_side)
    assert distance(ours(shown(model, nets[0], HINT)), control) < TOLERANCE
    assert distance(prompt, balanced) > 100 * TOLERANCE
    assert distance(control, prompt) > 100 * TOLERANCE


@pytest.mark.parametrize("policy", [{"in_turn": True}, {"swapped_blocks": 1}], ids=["in turn", "swapped"])
def test_where_the_base_lies_changes_no_bit(
    model: Model, folder: Path, nets: tuple[Path, Path], ours: Callable[..., Tensor], policy: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Z-Image's ControlNet shares what the denoiser has before its layers."""
    expected = ours(shown(model, nets[0], HINT))
    elsewhere = load_base(folder, policy=MemoryPolicy(**policy))
    seen: list[Tensor] = []
    monkeypatch.setattr(
        "velatura.generation.generate.decode", lambda _, latents: [seen.append(latents), Image.new("RGB", (8, 8))][1:]
    )
    told = Sampling(WIDTH, HEIGHT, STEPS, PIPELINES[model.family.name][2], "Euler", "Uniform")
    told = replace(told, controls=(shown(elsewhere, nets[0], HINT),))
    list(generate(elsewhere, [Job(PROMPT, SEED, "" if model.guidance == "distilled" else NEGATIVE)], told))
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux1"])
def test_beside_an_inpainting_base_it_sees_the_latents_and_not_the_mask(family: str, tmp_path: Path) -> None:
    """Its file says nothing of channels, and the base has more of them than it."""
    base = load_base(tiny.inpainting(family, tmp_path / "base"))
    made = tiny_control.network(family).state_dict()
    path = tmp_path / "net.safetensors"
    path.write_bytes(tensorfile.to_bytes({name: tensorfile.raw(one.numpy()) for name, one in made.items()}, {}))
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        image = Image.new("RGB", (8, 8))
        patch.setattr("velatura.generation.generate.decode", lambda _, latents: [seen.append(latents), image][1:])
        told = Sampling(WIDTH, HEIGHT, 2, 1.0 if family == "flux1" else 3.0, "Euler", "Uniform")
        for controls in ((), (shown(base, path, HINT),)):
            list(generate(base, [Job(PROMPT, SEED)], replace(told, controls=controls)))
    assert bool(seen[1].isfinite().all())
    assert distance(seen[1], seen[0]) > 100 * TOLERANCE
