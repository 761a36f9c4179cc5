"""The second pass of a high-resolution fix: A1111's sizes, A1111's upscalers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.paintings import clouds
from velatura import randomness
from velatura.errors import PromptError, SettingsError
from velatura.events import Progress
from velatura.family import Model
from velatura.generation.generate import Painted, generate
from velatura.generation.hires import LATENT_UPSCALERS, PICTURE_UPSCALERS, UPSCALERS, Hires, Target, target
from velatura.generation.sampling import Job, Sampling
from velatura.generation.upscale import INTERPOLATIONS, RESAMPLINGS, cropped, upscaled_latents, upscaled_picture

QUICK = Sampling(64, 96, steps=4, cfg_scale=3.0, sampler="Euler", scheduler="Uniform")
JOB = Job("a boat", 1, "a cat")


def painted(model: Model, hires: Hires | None, sampling: Sampling = QUICK) -> bytes:
    (picture,) = [one.image for one in generate(model, [JOB], sampling, hires=hires) if isinstance(one, Painted)]
    return picture.tobytes()


@pytest.mark.parametrize(
    ("first", "hires", "expected", "size"),
    [
        # what A1111 1.10 makes of the same numbers: the size to scale to, the latents to crop
        ((512, 768), Hires(2.0), Target(1024, 1536), (1024, 1536)),
        ((512, 768), Hires(1.7), Target(870, 1305), (864, 1304)),
        ((512, 512), Hires(width=1024, height=1536), Target(1536, 1536, 64, 0), (1024, 1536)),
        ((512, 768), Hires(width=1000), Target(1000, 1500), (1000, 1496)),
        ((512, 768), Hires(height=1000), Target(666, 1000), (664, 1000)),
        ((768, 512), Hires(width=1280, height=1280), Target(1920, 1280, 80, 0), (1280, 1280)),
        ((128, 96), Hires(width=200, height=168), Target(224, 168, 3, 0), (200, 168)),
    ],
)
def test_sizes_are_a1111_s(first: tuple[int, int], hires: Hires, expected: Target, size: tuple[int, int]) -> None:
    found = target(*first, hires)
    assert found == expected
    assert found.size(8) == size


@pytest.mark.parametrize("hires", [Hires(0.0), Hires(-1), Hires(float("nan")), Hires(float("inf")), Hires(width=-8)])
def test_no_size_is_no_second_pass(hires: Hires) -> None:
    with pytest.raises(SettingsError, match="needs a scale or a size"):
        target(64, 64, hires)


def test_latents_are_enlarged_as_torch_does_and_cropped_to_the_left_first() -> None:
    latents = randomness.normal((2, 4, 5, 7), 0, "latents")
    made = {name: upscaled_latents(latents, 9, 12, name) for name in LATENT_UPSCALERS}
    assert (tuple(INTERPOLATIONS), tuple(RESAMPLINGS)) == (LATENT_UPSCALERS, PICTURE_UPSCALERS)
    for name, told in INTERPOLATIONS.items():
        expected = torch.nn.functional.interpolate(latents, size=(9, 12), **told)
        assert torch.equal(made[name], expected)
    plain = [made["Latent"], made["Latent (bicubic)"], made["Latent (nearest)"], made["Latent (nearest-exact)"]]
    assert all(not torch.equal(a, b) for place, a in enumerate(plain) for b in plain[place + 1 :])
    smaller = {name: upscaled_latents(latents, 3, 4, name) for name in LATENT_UPSCALERS}
    assert not torch.equal(smaller["Latent"], smaller["Latent (antialiased)"])
    assert torch.equal(cropped(latents, 3, 2), latents[..., 1:4, 1:5])
    assert torch.equal(cropped(latents, 0, 0), latents)


def test_pictures_are_enlarged_by_eights_and_from_there_by_lanczos() -> None:
    image = clouds(1, (50, 30))
    lanczos, nearest, none = (upscaled_picture(image, 93, 61, name) for name in ("Lanczos", "Nearest", "None"))
    assert lanczos.size == nearest.size == none.size == (93, 61)
    by_eights = image.resize((int(50 * 61 / 30), 61), 1).resize((96, 56), 1).resize((93, 61), 1)
    assert np.array_equal(np.asarray(lanczos), np.asarray(by_eights))
    assert np.array_equal(np.asarray(none), np.asarray(image.resize((93, 61), 1)))
    assert not np.array_equal(np.asarray(nearest), np.asarray(lanczos))
    assert upscaled_picture(image, 25, 15, "Nearest").size == (25, 15)


@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_every_upscaler_paints_a_picture_of_its_own(model: Model, upscaler: str) -> None:
    plain = painted(model, None)
    found = painted(model, Hires(1.5, width=0, denoising=0.5, upscaler=upscaler), replace(QUICK, height=64))
    assert len(found) == 96 * 96 * 3
    assert found != plain


def test_each_setting_of_the_second_pass_matters_and_what_is_not_said_is_that_of_the_first(model: Model) -> None:
    usual = Hires(2.0, denoising=0.5)
    reference = painted(model, usual)
    for same in (
        {"steps": 4}, {"sampler": "Euler"}, {"scheduler": "Uniform"}, {"cfg_scale": 3.0}, {"prompt": "a boat"},
        {"negative_prompt": "a cat"}, {"scale": 9.0, "width": 128}, {"height": 192},
    ):  # fmt: skip
        assert painted(model, replace(usual, **same)) == reference, same
    for other in (
        {"steps": 3}, {"sampler": "Heun"}, {"scheduler": "Karras"}, {"cfg_scale": 1.0}, {"prompt": "a house"},
        {"negative_prompt": ""}, {"denoising": 0.8}, {"upscaler": "Lanczos"}, {"width": 96, "height": 192},
    ):  # fmt: skip
        assert painted(model, replace(usual, **other)) != reference, other


def test_guidance_in_the_second_pass_alone_reads_the_negative_prompt(model: Model) -> None:
    single = replace(QUICK, cfg_scale=1.0)
    guided = Hires(2.0, cfg_scale=4.0)
    assert painted(model, guided, single) != painted(model, replace(guided, negative_prompt="a house"), single)


def test_progress_counts_both_passes(model: Model) -> None:
    events = list(generate(model, [JOB, JOB], QUICK, hires=Hires(2.0, steps=3), batch=1))
    assert [(one.done, one.total) for one in events if isinstance(one, Progress)] == [(n, 14) for n in range(1, 15)]


def test_what_cannot_be_is_refused_before_anything_is_painted(model: Model) -> None:
    for hires, kind, said in (
        (Hires(2.0, upscaler="Latentt"), SettingsError, "did you mean 'Latent'"),
        (Hires(2.0, upscaler="ESRGAN_4x"), SettingsError, "known are Latent"),
        (Hires(200.0), PromptError, "the width 12800 is not possible with this base, multiples of 8 up to 8192 are"),
        (Hires(0.01), PromptError, "the width 0 is not possible"),
        (Hires(2.0, sampler="Eulr"), SettingsError, "Euler"),
        (Hires(2.0, denoising=0.0), SettingsError, "denoising 0"),
    ):
        with pytest.raises(kind, match=said):
            next(generate(model, [JOB], QUICK, hires=hires))
