"""Axes: every setting of a generation by its name, the nearest named where one is not, and what a cell changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from velatura.api import FromPicture, GenerateRequest
from velatura.api.comparing import varying
from velatura.errors import SettingsError, VelaturaError
from velatura.generation.hires import Hires
from velatura.sheets import axes, plan
from velatura.sheets.axes import Axis

KNOWN = varying.known()
REQUEST = GenerateRequest("a red boat <lora:ink:0.8>", "blurred", seed=1)


def changed(request: GenerateRequest, *told: tuple[str, str], run: dict[int, Path] | None = None) -> GenerateRequest:
    """The request with the first value of each axis."""
    found = [axes.read(name, written, KNOWN) for name, written in told]
    cell = plan.cells(found)[-1]
    return varying.varied(request, plan.changes(found, cell), run)


@pytest.mark.parametrize(
    ("name", "written", "values"),
    [
        ("seed", "1-3", (1, 2, 3)),
        ("cfg", "4,7.5", (4.0, 7.5)),
        ("CFG Scale", "4", (4.0,)),
        ("sampler", "Euler,DPM++ 2M", ("Euler", "DPM++ 2M")),
        ("schedule type", "Karras", ("Karras",)),
        ("clip skip", "1,2", (1, 2)),
        ("eta", "0,1", (0.0, 1.0)),
        ("tuning.s_churn", "0-10 (+5)", (0.0, 5.0, 10.0)),
        ("rng", "cpu,nv", ("cpu", "nv")),
        ("hires.denoising", "0.3-0.7 (+0.2)", (0.3, 0.5, 0.7)),
        ("hires.upscaler", "Latent,Lanczos", ("Latent", "Lanczos")),
        ("hires.scale", "none,2", (None, 2.0)),
        ("size", "64x128", ("64x128",)),
        ("precision", "fp32,bf16", ("fp32", "bf16")),
        ("one_path", "true,false", (True, False)),
        ("lora.strength", "0,0.4", (0.0, 0.4)),
        ("lora.ink.te", "0,1", (0.0, 1.0)),
        ("run.checkpoint", "all", ("all",)),
        ("prompt.replace", "boat,ship", ("boat", "ship")),
        ("base", "pocket,other", ("pocket", "other")),
        ("styles", 'none,ink,"ink, wash"', (None, "ink", "ink, wash")),
        ("prompt.order", "boat,sun", ("boat, sun", "sun, boat")),
        ("Prompt order", '"sun, boat","boat, sun"', ("sun, boat", "boat, sun")),
        ("RNG source", "CPU,NV", ("cpu", "nv")),
    ],
)
def test_every_setting_of_a_generation_is_an_axis_by_its_name(
    name: str, written: str, values: tuple[object, ...]
) -> None:
    assert axes.read(name, written, KNOWN).values == values


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("sed", "1", "did you mean seed"),
        ("lora.strenght", "1", "did you mean lora.strength"),
        ("hires.denoise", "1", "did you mean hires.denoising"),
        ("rng", "nvidia", "nv"),
        ("seed", "one", "not a whole number"),
        ("seed", "", "has no values"),
        ("cfg", "4,4.0", "stands twice"),
        ("size", "large", "is not a size"),
        ("one_path", "perhaps", "neither true nor false"),
        ("prompt.order", "boat", "needs two words"),
        ("prompt.order", "a,b,c,d,e,f,g,h", "too many orders"),
        ("Face restore", "yes", "velatura refine"),
        ("Refiner switch at", "0.8", "is not painted with"),
    ],
)
def test_what_is_no_axis_or_no_value_is_refused_and_the_nearest_is_named(name: str, written: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        axes.read(name, written, KNOWN)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        *(
            ("Seed", "seed"),
            ("Var. seed", "variation_seed"),
            ("Var. strength", "variation_strength"),
            ("Steps", "steps"),
        ),
        *(
            ("Hires steps", "hires.steps"),
            ("CFG Scale", "cfg"),
            ("Prompt S/R", "prompt.replace"),
            ("Sampler", "sampler"),
        ),
        *(("Prompt order", "prompt.order"), ("Hires sampler", "hires.sampler"), ("Checkpoint name", "base")),
        *(("Negative Guidance minimum sigma", "tuning.s_min_uncond"), ("Sigma Churn", "tuning.s_churn")),
        *(("Sigma min", "tuning.s_tmin"), ("Sigma max", "tuning.s_tmax"), ("Sigma noise", "tuning.s_noise")),
        *(("Schedule type", "scheduler"), ("Schedule min sigma", "tuning.sigma_min"), ("Schedule rho", "tuning.rho")),
        *(
            ("Schedule max sigma", "tuning.sigma_max"),
            ("Beta schedule alpha", "tuning.beta_alpha"),
            ("Eta", "tuning.eta"),
        ),
        *(("Beta schedule beta", "tuning.beta_beta"), ("Clip skip", "clip_skip"), ("Denoising", "begin.denoising")),
        *(("Hires upscaler", "hires.upscaler"), ("VAE", "vae"), ("Styles", "styles"), ("Size", "size")),
        *(("UniPC Order", "tuning.unipc_order"), ("RNG source", "tuning.rng")),
    ],
)
def test_axes_are_known_by_the_names_that_they_have_in_a1111(written: str, name: str) -> None:
    assert axes.find(written, KNOWN).name == name


@pytest.mark.parametrize(
    ("prompt", "order", "found"),
    [
        ("a boat on the sea, a sun", "boat, sun, sea", "a boat on the sun, a sea"),
        ("a boat on the sea, a sun", "sun, sea, boat", "a sun on the sea, a boat"),
        ("red, green, blue", '"green", "red"', "green, red, blue"),
    ],
)
def test_words_change_places_and_the_rest_of_the_prompt_stays(prompt: str, order: str, found: str) -> None:
    assert axes.reordered(prompt, order) == found


def test_a_word_that_does_not_occur_cannot_change_places() -> None:
    request = GenerateRequest("a boat on the sea")
    assert changed(request, ("prompt.order", "boat,sea")).prompt == "a sea on the boat"
    with pytest.raises(SettingsError, match="'sun' does not occur"):
        changed(request, ("prompt.order", "boat,sun"))


def test_styles_stand_in_the_place_of_those_that_all_cells_have() -> None:
    request = GenerateRequest("a boat", styles=("wash",))
    assert changed(request, ("styles", 'none,"ink, bold"')).styles == ("ink", "bold")
    assert changed(request, ("styles", "ink,none")).styles == ()


def test_a_strength_of_0_is_0_and_not_unset() -> None:
    assert changed(REQUEST, ("lora.strength", "0")).prompt == "a red boat <lora:ink:0>"
    beside = replace(REQUEST, prompt="a boat", loras=("wash.safetensors:0.7",))
    assert changed(beside, ("lora.strength", "0")).loras == ("wash.safetensors:0.0",)


def test_of_a_lora_in_the_prompt_only_what_is_on_the_axis_changes() -> None:
    request = replace(REQUEST, prompt="a boat <lora:ink:0.5:0.8:lbw=OUTS:start=2>, red")
    assert changed(request, ("lora.strength", "1.2")).prompt == "a boat <lora:ink:1.2:lbw=OUTS:start=2>, red"
    assert changed(request, ("lora.te", "0")).prompt == "a boat <lora:ink:0:0.8:lbw=OUTS:start=2>, red"
    assert changed(request, ("lora.name", "wash")).prompt == "a boat <lora:wash:0.5:0.8:lbw=OUTS:start=2>, red"
    assert changed(request, ("lora.name", "none"), ("lora.strength", "1")).prompt == "a boat , red"


def test_of_several_loras_the_one_that_is_meant_is_named() -> None:
    request = replace(REQUEST, loras=("loras/wash.safetensors:0.7",))
    assert changed(request, ("lora.wash.strength", "0.2")).loras == ("loras/wash.safetensors:0.2",)
    assert changed(request, ("lora.2.strength", "0.2")).loras == ("loras/wash.safetensors:0.2",)
    with pytest.raises(SettingsError, match=r"lora.ink.strength or lora.wash.strength"):
        changed(request, ("lora.strength", "0.2"))
    with pytest.raises(SettingsError, match=r"did you mean lora.wash"):
        changed(request, ("lora.wush.strength", "0.2"))
    with pytest.raises(SettingsError, match="needs a LoRA"):
        changed(replace(REQUEST, prompt="a boat"), ("lora.strength", "0.2"))


def test_a_checkpoint_is_a_lora_whose_strength_may_stand_on_another_axis_in_any_order() -> None:
    request, run = replace(REQUEST, prompt="a boat"), {60: Path("a/adapter.safetensors")}
    for told in (
        [("lora.strength", "0.4"), ("run.checkpoint", "60")],
        [("run.checkpoint", "60"), ("lora.strength", "0.4")],
    ):
        assert changed(request, *told, run=run).loras == (f"{Path('a/adapter.safetensors')}:0.4",)
    both = changed(REQUEST, ("run.checkpoint", "60"), ("lora.checkpoint.strength", "0.4"), run=run)
    assert both.loras == (f"{Path('a/adapter.safetensors')}:0.4",) and both.prompt == REQUEST.prompt


def test_the_first_value_of_search_and_replace_is_the_needle_and_must_occur() -> None:
    found = axes.read("prompt.replace", "red,blue,green", KNOWN)
    prompts = [varying.varied(REQUEST, plan.changes([found], cell)).prompt for cell in plan.cells([found])]
    assert prompts == [f"a {colour} boat <lora:ink:0.8>" for colour in ("red", "blue", "green")]
    with pytest.raises(SettingsError, match="'house' does not occur"):
        changed(REQUEST, ("prompt.replace", "house,hut"))


def test_a_setting_of_a_second_pass_or_a_first_picture_needs_one() -> None:
    with pytest.raises(SettingsError, match=r"hires.denoising needs a second pass"):
        varying.changed(REQUEST, "hires.denoising", 0.5)
    with pytest.raises(SettingsError, match=r"begin.denoising needs a picture"):
        varying.changed(REQUEST, "begin.denoising", 0.5)
    second = replace(REQUEST, hires=Hires(2.0))
    assert varying.changed(second, "hires.denoising", 0.5).hires == Hires(2.0, denoising=0.5)
    assert varying.changed(second, "hires.scale", None).hires is None
    begun = replace(REQUEST, begin=FromPicture(Path("a.png")))
    assert varying.changed(begun, "begin.denoising", 0.5).begin == FromPicture(Path("a.png"), 0.5)


def test_checkpoints_are_all_or_steps_or_those_in_a_range_and_the_nearest_is_named() -> None:
    steps, run = (60, 120, 180, 240), Path("runs/0001-ink")
    assert axes.checkpoints(["all"], steps, run) == steps
    assert axes.checkpoints(["60", "200-300"], steps, run) == (60, 240)
    with pytest.raises(SettingsError, match="did you mean 120"):
        axes.checkpoints(["110"], steps, run)


def test_cells_are_counted_with_the_first_axis_fastest_and_an_axis_stands_once() -> None:
    across, down = Axis("seed", (1, 2)), Axis("cfg", (4.0, 5.0))
    assert [cell.values for cell in plan.cells([across, down])] == [(1, 4.0), (2, 4.0), (1, 5.0), (2, 5.0)]
    with pytest.raises(SettingsError, match="seed stands on two axes"):
        plan.cells([across, across])


def test_a_sheet_is_written_to_its_file_and_read_back_as_it_was(tmp_path: Path) -> None:
    told = [("lora.strength", "0,0.4"), ("prompt", '"a, b",c'), ("hires.scale", "none,2"), ("one_path", "true,false")]
    sheet = plan.Sheet(
        tuple(axes.read(name, written, KNOWN) for name, written in told),
        'a "quoted" prompt\nof two lines',
        ("ink:0.8",),
        "runs/0001",
        {"seed": 1, "cfg": 4.5, "tuning.eta": 0.5, "negative": "this, that"},
    )
    (tmp_path / "sheet.toml").write_text(plan.to_toml(sheet), encoding="utf-8")
    assert plan.load(tmp_path / "sheet.toml", KNOWN) == sheet


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("promt = 'a'", "did you mean prompt"),
        ("[settings]\nsed = 1", "did you mean seed"),
        ("[[axes]]\nname = 'seed'\nvalue = 1", "did you mean values"),
        ("axes = 3", "the axes are no list"),
        ("[settings]\nseed = '1-4'", "is not one value"),
        ("[settings]\n'lora.strength' = 1", "stands on an axis or nowhere"),
    ],
)
def test_mistakes_in_the_file_of_a_sheet_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "sheet.toml").write_text(text, encoding="utf-8")
    with pytest.raises(VelaturaError, match=said):
        plan.load(tmp_path / "sheet.toml", KNOWN)
