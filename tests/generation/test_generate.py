"""From prompts to pictures: what changes a picture, what must not, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests import tiny
from velatura import randomness
from velatura.errors import PromptError, SettingsError
from velatura.events import Note, Progress
from velatura.family import Model
from velatura.generation import passes
from velatura.generation import prompt as grammar
from velatura.generation.generate import Painted, generate
from velatura.generation.reading import weighted
from velatura.generation.sampling import Job, Sampling, check_size
from velatura.text.clip_tokens import chunks
from velatura.text.weighted import plain

Floats = NDArray[np.float32]

QUICK = Sampling(96, 64, steps=3, cfg_scale=4.0, sampler="Euler", scheduler="Uniform")
JOBS = [
    Job("a red boat on the sea", 1),
    Job("a (black:1.3) cat", 2, "boat"),
    Job(", ".join(["a house"] * 40), 3),
    Job("", 4, "a long negative prompt, " * 20),
    Job("a red boat on the sea", 5),
]


@pytest.fixture
def floats(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Pictures as they are before they are rounded to 8 bits, as they are painted."""
    seen: list[Tensor] = []
    decode = type(model.family).decode_latents

    def watched(self: Any, model: Model, latents_BCHW: Tensor) -> Tensor:
        pictures = decode(self, model, latents_BCHW)
        seen.extend(pictures)
        return pictures

    monkeypatch.setattr(type(model.family), "decode_latents", watched)
    return seen


def paint(model: Model, jobs: list[Job], sampling: Sampling = QUICK, *, batch: int = 4) -> list[Floats]:
    return [
        np.asarray(event.image, dtype=np.float32)
        for event in generate(model, jobs, sampling, batch=batch)
        if isinstance(event, Painted)
    ]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(1.0, float(b.square().mean().sqrt()))


def differs(a: Floats, b: Floats) -> bool:
    """By far more than rounding."""
    return float(np.abs(a - b).max()) > 5


def test_pictures_come_in_the_order_of_their_jobs_each_with_its_own(model: Model) -> None:
    painted = [event for event in generate(model, JOBS, QUICK, batch=2) if isinstance(event, Painted)]
    assert [event.job for event in painted] == JOBS
    for event in painted:
        assert event.image.size == (96, 64)
        assert event.image.mode == "RGB"
        assert differs(np.asarray(event.image, np.float32), np.asarray(event.image, np.float32).mean((0, 1)))


def test_progress_counts_sampling_steps_over_all_batches(model: Model) -> None:
    told = [event for event in generate(model, JOBS, QUICK, batch=2) if isinstance(event, Progress)]
    assert [event.done for event in told] == list(range(1, 10))
    assert {event.total for event in told} == {9}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)")])
def test_where_there_is_no_room_for_a_batch_it_is_halved_that_is_said_and_the_pictures_are_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    jobs = [*JOBS, *(replace(job, seed=job.seed + 50) for job in JOBS)][:5]
    expected = [one.image for one in generate(model, jobs, QUICK, batch=4) if isinstance(one, Painted)]
    real, asked = model.family.predict, list[int]()

    def predict(told: Model, noisy: Tensor, *rest: Any) -> Tensor:
        asked.append(len(noisy))
        if len(noisy) > 4:  # two pictures, each with its negative prompt
            raise error
        return real(told, noisy, *rest)

    monkeypatch.setattr(model.family, "predict", predict)
    events = list(generate(model, jobs, QUICK, batch=4))
    said = [event.text for event in events if isinstance(event, Note)]
    assert said == ["there is no memory for 4 pictures at a time; so it is 2 from now on"]
    painted = [event for event in events if isinstance(event, Painted)]
    assert [event.job for event in painted] == jobs
    assert [[jobs.index(job) for job in event.together] for event in painted] == [[0, 1], [0, 1], [2, 3], [2, 3], [4]]
    assert {event.batch for event in painted} == {2}
    for found, one in zip(painted, expected, strict=True):
        assert np.abs(np.asarray(found.image, np.int16) - np.asarray(one, np.int16)).max() <= 1
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total == len(progress) == 3 * QUICK.steps
    monkeypatch.setattr(model.family, "predict", lambda *told: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        list(generate(model, jobs, QUICK, batch=1))


def test_a_schedule_that_visits_more_levels_than_steps_is_counted_as_it_is(model: Model) -> None:
    events = list(generate(model, JOBS[:1], replace(QUICK, steps=6, sampler="DDIM", scheduler="DDIM")))
    assert [(event.done, event.total) for event in events if isinstance(event, Progress)] == [
        (done, 7) for done in range(1, 8)
    ]


@torch.no_grad()
def test_ddim_paints_what_diffusers_pipeline_paints(model: Model, base: Path, floats: list[Tensor]) -> None:
    """The noise that a picture starts from included."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    pipeline = StableDiffusionPipeline(
        text_encoder=model.parts["text_encoder"], tokenizer=CLIPTokenizer.from_pretrained(base / "tokenizer"),
        vae=model.parts["vae"], unet=model.parts["denoiser"], safety_checker=None, feature_extractor=None,
        scheduler=DDIMScheduler.from_config({**tiny.SCHEDULER, "clip_sample": False, "set_alpha_to_one": True}),
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 4, 8, 12), generator=torch.Generator("cpu").manual_seed(3))
    theirs = pipeline(
        "a red boat", negative_prompt="a cat", latents=noise, num_inference_steps=10, guidance_scale=4.0, width=96,
        height=64, output_type="latent",
    ).images  # fmt: skip
    expected = model.family.decode_latents(model, theirs)[0]
    floats.clear()
    for schedule in ("DDIM", "Uniform"):
        paint(model, [Job("a red boat", 3, "a cat")], replace(QUICK, steps=10, sampler="DDIM", scheduler=schedule))
    assert distance(floats[0], expected) < 1e-4
    assert distance(floats[1], expected) > 100 * 1e-4


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M", "Heun", "DDIM"])
def test_the_same_layout_paints_the_same_bits_and_another_the_same_picture(
    model: Model, floats: list[Tensor], sampler: str
) -> None:
    sampling = replace(QUICK, sampler=sampler, scheduler="Automatic")
    paint(model, JOBS, sampling, batch=5)
    first = list(floats)
    torch.manual_seed(1)
    for batch in (5, 1, 2, 3):
        floats.clear()
        paint(model, JOBS, sampling, batch=batch)
        for mine, reference in zip(floats, first, strict=True):
            assert distance(mine, reference) < 1e-4
            assert batch != 5 or torch.equal(mine, reference)


def test_prompts_of_one_length_go_through_the_denoiser_together_and_others_apart(model: Model) -> None:
    with counted(model) as calls:
        paint(model, [JOBS[0], JOBS[4]], replace(QUICK, steps=1))
    assert calls == [4]
    with counted(model) as calls:
        paint(model, [JOBS[0], JOBS[2], JOBS[4]], replace(QUICK, steps=1))
    assert sorted(calls) == [1, 5], "three prompts, one of them long, and three empty negative ones"


def test_another_seed_is_another_picture_and_the_place_in_the_batch_is_none(model: Model) -> None:
    jobs = [Job("a boat", 1), Job("a boat", 2), Job("a boat", 1)]
    one, other, again = paint(model, jobs)
    assert differs(one, other)
    assert np.abs(one - again).max() <= 1
    for seed in (0, 2**32 - 1, 2**53):
        assert differs(paint(model, [Job("a boat", seed)])[0], one)


def test_the_first_noise_is_torch_s_own_from_the_seed_as_in_a1111_on_the_cpu(model: Model) -> None:
    noise = passes.seeded_noise(model, [Job("", 7), Job("", 8)], QUICK)
    first, second = noise.next(), noise.next()
    expected = torch.Generator("cpu").manual_seed(8)
    assert torch.equal(first[1], torch.randn((4, 8, 12), generator=expected))
    assert torch.equal(second[1], torch.randn((4, 8, 12), generator=expected))


def test_painting_leaves_torch_s_global_generator_alone(model: Model) -> None:
    state = torch.random.get_rng_state()
    paint(model, JOBS[:1], replace(QUICK, sampler="Euler a"))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_a_prompt_says_matters(model: Model) -> None:
    (reference,) = paint(model, [Job("a red boat", 1, "a cat")])
    for other in (
        Job("a blue boat", 1, "a cat"),
        Job("a (red:1.6) boat", 1, "a cat"),
        Job("a red boat", 1, "a house"),
        Job("a red boat", 1),
    ):
        assert differs(paint(model, [other])[0], reference), other


def test_the_negative_prompt_is_kept_away_from(model: Model) -> None:
    """Told as its own negative, a prompt cancels out, and the scale no longer matters."""
    same = [paint(model, [Job("a boat", 1, "a boat")], replace(QUICK, cfg_scale=scale))[0] for scale in (1.0, 4.0, 9.0)]
    assert all(np.abs(one - same[0]).max() <= 1 for one in same)
    assert differs(paint(model, [Job("a boat", 1, "a cat")])[0], same[0])


@contextmanager
def counted(model: Model) -> Iterator[list[int]]:
    """How many samples each call of the denoiser was given."""
    calls: list[int] = []
    handle = model.parts["denoiser"].register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    yield calls
    handle.remove()


def test_a_cfg_scale_of_one_asks_once_and_the_negative_prompt_is_of_no_account(model: Model) -> None:
    single = replace(QUICK, cfg_scale=1.0)
    with counted(model) as calls:
        (one,) = paint(model, [Job("a boat", 1)], single)
    assert calls == [1, 1, 1]
    assert np.array_equal(paint(model, [Job("a boat", 1, "a cat")], single)[0], one)
    with counted(model) as calls:
        paint(model, [Job("a boat", 1)])
    assert calls == [2, 2, 2]


def test_lora_marks_are_not_words(model: Model) -> None:
    (one,) = paint(model, [Job("a boat", 1)])
    assert np.array_equal(paint(model, [Job("a boat<lora:anything:0.7>", 1)])[0], one)


@pytest.mark.parametrize(("side", "nearest"), [(100, 96), (65, 64), (1, 8), (0, 8), (-64, 8), (109, 112), (9000, 8192)])
def test_a_size_that_latents_cannot_have_is_refused_with_the_nearest(model: Model, side: int, nearest: int) -> None:
    for sampling in (replace(QUICK, width=side), replace(QUICK, height=side)):
        with pytest.raises(PromptError) as refusal:
            next(generate(model, JOBS[:1], sampling))
        assert refusal.value.fix == f"use {nearest}"
        assert str(side) in refusal.value.what
    check_size(model, nearest, nearest)


def test_an_unknown_sampler_or_schedule_is_refused_with_the_nearest(model: Model) -> None:
    with pytest.raises(SettingsError, match="Euler"):
        next(generate(model, JOBS[:1], replace(QUICK, sampler="Euller")))
    with pytest.raises(SettingsError, match="Karras"):
        next(generate(model, JOBS[:1], replace(QUICK, scheduler="Karas")))


def test_no_steps_and_no_batch_are_refused(model: Model) -> None:
    with pytest.raises(SettingsError):
        next(generate(model, JOBS[:1], replace(QUICK, steps=0)))
    with pytest.raises(SettingsError):
        next(generate(model, JOBS[:1], QUICK, batch=0))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_that_torch_cannot_take_is_refused(model: Model, seed: int) -> None:
    with pytest.raises(SettingsError, match=str(seed)):
        next(generate(model, [Job("a boat", seed)], QUICK))


def test_one_step_paints(model: Model) -> None:
    for sampler in ("Euler", "DPM++ 2M", "Heun", "Euler a"):
        assert len(paint(model, JOBS[:1], replace(QUICK, steps=1, sampler=sampler, scheduler="Karras"))) == 1


def test_pictures_are_rounded_to_the_nearest_of_256_levels(model: Model, floats: list[Tensor]) -> None:
    (image,) = paint(model, JOBS[:1])
    exact = (floats[0].clamp(-1, 1) + 1) * 127.5
    assert np.abs(image - exact.permute(1, 2, 0).numpy()).max() <= 0.5
    assert image.min() >= 0
    assert image.max() <= 255


def test_stopping_the_iteration_stops_the_painting(model: Model) -> None:
    with counted(model) as calls:
        events = generate(model, JOBS, QUICK, batch=1)
        next(events)
        events.close()  # type: ignore[attr-defined]
    assert len(calls) == 1


# --- captions as prompts ---------------------------------------------------------------------


def test_a_caption_as_a_literal_prompt_is_the_very_tokens_it_is_trained_with(model: Model) -> None:
    tokenizer = model.tokenizers[0]
    draw = randomness.generator(0, "captions")
    pieces = [
        "a cat",
        "(",
        ")",
        "[",
        "]",
        "\\",
        ":1.4",
        "<lora:x:1>",
        "<",
        ">",
        "BREAK",
        ", ",
        " ",
        "ночь",
        "🦊",
        ":)",
        "AND",
        "|",
        ":30",
    ]
    captions = ["boat (ship:1.3), [sail] \\(x\\) <lora:style:0.8> BREAK end", "BREAK", "((", "\\"]
    captions += ["".join(draw.choice(pieces, size=8)) for _ in range(300)]
    for caption in captions:
        told = grammar.literal(caption)
        assert chunks(weighted(told), tokenizer) == chunks(plain(caption), tokenizer), repr(caption)
        assert grammar.parse(told).loras == ()
        (alone,) = grammar.scheduled(told, 20)
        assert alone.weight == 1
        assert [chunks(weighted(text), tokenizer) for _, text in alone.texts] == [chunks(plain(caption), tokenizer)]


def test_a_lora_is_called_otherwise_in_its_marks_alone() -> None:
    text = "lora a <lora:lora:0.5> <lyco:/home/me/b.safetensors:te=0.5:unet=0.8> b <lora:c>"
    names = {"lora": "x", "/home/me/b.safetensors": "b"}
    assert grammar.rename_loras(text, names) == "lora a <lora:x:0.5> <lyco:b:te=0.5:unet=0.8> b <lora:c>"
