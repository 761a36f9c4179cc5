"""Files that other programs wrote: read whole, and each layer changed as the program itself changes it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import tiny, tiny_flux1, tiny_sdxl, tiny_z_image
from velatura import tensorfile
from velatura.adapters import formats, fused, writing
from velatura.adapters.formats import Form, KeyMap
from velatura.adapters.weights import AdapterFile, Array, Change, Shape
from velatura.families.names import keys, layers

GOLDEN = Path(__file__).parents[1] / "golden"

FILES = sorted(path.stem for path in GOLDEN.glob("*.safetensors") if ".expected" not in path.name)
FOLDERS = sorted(path.name for path in GOLDEN.glob("peft_*") if path.is_dir())

FUSED = ["kohya_flux1", "xlabs_flux1"]
"""Files whose numbers stand for layers as BFL fuses them."""

KOHYA_SDXL = {
    **tiny_sdxl.UNET,
    "block_out_channels": (32, 64, 128),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "projection_class_embeddings_input_dim": 64,
}
"""kohya's own network, whose depths and whose width of text are written into its code."""

ONETRAINER_FORMS = ("kohya", "diffusers", "original", "comfy", "legacy")

TOLERANCE = 1e-5
"""Of the largest value of a layer's change."""


def family(name: str) -> tuple[KeyMap, dict[str, Shape]]:
    """The names and layers of the tiny base that the file was made for."""
    if "z_image" in name:
        return keys("z_image"), layers("z_image", {"denoiser": tiny_z_image.TRANSFORMER})
    if "flux1" in name:
        told = {"denoiser": tiny_flux1.TRANSFORMER, "text_encoder": tiny.TEXT, "text_encoder_2": tiny_flux1.TEXT_2}
        return keys("flux1"), layers("flux1", told)
    if "sdxl" in name:
        denoiser = KOHYA_SDXL if name.startswith("kohya") else tiny_sdxl.UNET
        told = {"denoiser": denoiser, "text_encoder": tiny_sdxl.TEXT, "text_encoder_2": tiny_sdxl.TEXT_2}
        return keys("sdxl"), layers("sdxl", told)
    return keys("sd15"), layers("sd15", {"denoiser": tiny.UNET, "text_encoder": tiny.TEXT})


def read(name: str) -> AdapterFile:
    path = GOLDEN / name if name.startswith("peft_") else GOLDEN / f"{name}.safetensors"
    own, known = family(name)
    return formats.read(path, keys=own, layers=known)


def expected(name: str) -> dict[str, tuple[Array, Array]]:
    """Layer -> its weight and what the program makes of it."""
    plain = "musubi_z_image" if name.startswith("musubi") else name
    tensors, _ = tensorfile.read(GOLDEN / f"{plain}.expected.safetensors")
    arrays = {key: tensorfile.as_float32(tensor) for key, tensor in tensors.items()}
    return {
        key.removeprefix("weight."): (arrays[key], arrays[key.replace("weight.", "merged.", 1)])
        for key in arrays
        if key.startswith("weight.")
    }


def off(change: Change, weight: Array, merged: Array) -> float:
    """The largest difference from the program's change, as a share of its largest value."""
    theirs = merged.astype(np.float64) - weight
    return float(np.abs(change.applied(weight) - weight - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", [name for name in [*FILES, *FOLDERS] if name not in FUSED])
def test_a_layer_is_changed_as_the_program_that_wrote_the_file_changes_it(name: str) -> None:
    adapter, told = read(name), expected(name)
    common = told.keys() & adapter.layers.keys()

    assert common and adapter.layers.keys() <= told.keys()
    for layer in common:
        weight, merged = told[layer]
        assert off(adapter.layers[layer], weight, merged) <= TOLERANCE, layer
        assert np.abs(merged - weight).max() > 100 * TOLERANCE


@pytest.mark.parametrize("name", FUSED)
def test_fused_layers_of_flux_are_the_rows_of_ours(name: str) -> None:
    own, known = family(name)
    adapter, told = read(name), expected(name)
    places = own.fused(known)
    checked = set()
    for stem, (weight, merged) in told.items():
        for layer, place in places[stem]:
            rows = fused.rows_at(place, len(weight))
            if layer in adapter.layers:
                assert off(adapter.layers[layer], weight[rows], merged[rows]) <= TOLERANCE, layer
                checked.add(layer)
            else:
                assert np.array_equal(weight[rows], merged[rows]), layer
    assert checked == adapter.layers.keys() and len(checked) > 9


@pytest.mark.parametrize(
    "name",
    ["kohya_sd15", "kohya_sdxl", "kohya_flux1", "musubi_z_image", "musubi_z_image_comfy", "xlabs_flux1"]
    + [f"onetrainer_{base}_{form}" for base in ("sdxl", "flux1") for form in ONETRAINER_FORMS],
)
@pytest.mark.parametrize("form", formats.FORMS)
def test_there_and_back_through_every_form_is_exact_to_the_stored_precision(
    name: str, form: Form, tmp_path: Path
) -> None:
    own, known = family(name)
    before = read(name)
    path = tmp_path / "there.safetensors"
    path.write_bytes(writing.to_bytes(before, keys=own, precision="F32", form=form, layers=known))
    there = formats.read(path, keys=own, layers=known)
    back = formats.from_tensors(
        *tensorfile.read(_written(tmp_path / "back.safetensors", there, own, known)), keys=own, layers=known
    )

    for after in (there, back):
        assert set(after.layers) >= set(before.layers)
        for layer, change in after.layers.items():
            theirs = before.layers[layer].delta() if layer in before.layers else np.zeros(known[layer], np.float32)
            np.testing.assert_allclose(change.delta(), theirs, rtol=2e-6, atol=1e-6)


def _written(path: Path, adapter: AdapterFile, own: KeyMap, known: dict[str, Shape]) -> Path:
    path.write_bytes(writing.to_bytes(adapter, keys=own, precision="F32", form="kohya", layers=known))
    return path


def test_a_fused_layer_that_is_taken_apart_and_put_together_is_the_same_file(tmp_path: Path) -> None:
    own, known = family("kohya_flux1")
    data = writing.to_bytes(read("kohya_flux1"), keys=own, precision="F32", form="kohya", layers=known)
    path = tmp_path / "again.safetensors"
    path.write_bytes(data)
    first, _ = tensorfile.read(GOLDEN / "kohya_flux1.safetensors")
    second, _ = tensorfile.read(path)

    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert np.array_equal(tensorfile.as_float32(tensor), tensorfile.as_float32(second[key])), key


def test_putting_together_makes_block_diagonal_factors_with_alpha_scaled() -> None:
    """musubi-tuner's own conversion of the same file is the oracle."""
    own, known = family("musubi_z_image")
    ours = read("musubi_z_image")
    named, _ = tensorfile.read(GOLDEN / "musubi_z_image_comfy.safetensors")
    made = writing.draft(ours, keys=own, precision="F32", form="comfy", layers=known)

    ends = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight", "alpha": "alpha"}
    for end, their_end in ends.items():
        tensor = made.tensor(f"diffusion_model.layers.0.attention.qkv.{end}")
        expected = tensorfile.as_float32(named[f"lora_unet_layers_0_attention_qkv.{their_end}"])
        assert np.array_equal(tensorfile.as_float32(tensor), expected), end


def test_every_golden_file_is_told_of_in_the_readme() -> None:
    readme = (GOLDEN / "README.md").read_text("utf-8")
    for name in (*FILES, *FOLDERS):
        assert any(program in readme and name.startswith(program) for program in _programs(readme)), name


def _programs(readme: str) -> list[str]:
    return [line.split("`")[1].rstrip("*") for line in readme.splitlines() if line.startswith("| `")]


def test_peft_s_settings_decide_the_scale() -> None:
    """Without rsLoRA and the pattern of alphas the numbers would be others."""
    adapter = read("peft_lora")
    settings = json.loads(adapter.metadata["lora_adapter_metadata"])
    assert settings["unet.use_rslora"] is True and settings["unet.alpha_pattern"] == {"proj_in": 5}
    alphas = {change.alpha for change in adapter.layers.values()}
    assert {round(alpha, 6) for alpha in alphas} == {round(2 * 3**0.5, 6), round(5 * 3**0.5, 6)}
