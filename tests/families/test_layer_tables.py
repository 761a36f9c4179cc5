"""The layers that are known without a base: those of the real networks, built without memory."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from tests import tiny
from velatura import bases
from velatura.adapters.layers import every_shape
from velatura.adapters.targets import select
from velatura.bases import FAMILIES
from velatura.families.names import keys, layers, layers_of, told
from velatura.families.sdxl.model import FAMILY as SDXL
from velatura.weights.networks import build


@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_layers_are_those_of_the_published_networks(family: str) -> None:
    configuration = import_module(f"{FAMILIES[family]}.configuration")
    parts: dict[str, nn.Module] = {}
    for part in keys(family).parts:
        with torch.device("meta"):
            parts[part] = build(configuration.CLASSES[part], configuration.PUBLISHED[part], Path(part))
    assert layers(family) == every_shape(parts)
    assert len(layers(family)) > 250


@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_layer_has_a_name_in_every_form_that_is_read_back(family: str) -> None:
    own, known = keys(family), layers(family)
    named = {stem: name for name in known for stem in own.stems(name)}
    fused = own.fused(known)
    for form in ("kohya", "diffusers", "comfy"):
        for name, (stem, _) in own.places(form, known).items():
            if len(known[name]) > 1:
                assert named.get(stem) == name or name in dict(fused[stem]), (form, name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_told_by_its_names(family: str) -> None:
    own, known = keys(family), layers(family)
    for form in ("kohya", "diffusers", "comfy"):
        stems = [stem for name, (stem, _) in own.places(form, known).items() if name.startswith("denoiser.")]
        assert told(f"{stem}.lora_down.weight" for stem in stems) == family, form


def test_the_layers_of_a_base_follow_from_its_headers(tmp_path: Path) -> None:
    folder = tiny.BASES["sd15"](tmp_path)
    base = bases.locate(bases.described(folder))
    found = layers_of(base)
    assert found == layers("sd15", {"denoiser": tiny.UNET, "text_encoder": tiny.TEXT})


def test_sdxls_style_and_content_are_one_transformer_each_that_does_not_meet_the_other() -> None:
    known = [name for name, shape in layers("sdxl").items() if len(shape) > 1]
    style, content = (set(select([one], known, presets=SDXL.targets)) for one in ("style", "content"))
    assert len(style) == len(content) == 2 + 10 * 10 and not style & content
    assert style | content <= set(select(["attention+mlp"], known, presets=SDXL.targets))


def test_no_torch_is_needed() -> None:
    program = (
        "import sys\n"
        "from velatura.families.names import keys, layers\n"
        f"assert all(layers(family) and keys(family) for family in {list(FAMILIES)!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
