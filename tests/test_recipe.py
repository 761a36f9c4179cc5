from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from velatura import recipe, schema
from velatura.errors import FileProblem, RecipeError
from velatura.recipe import Recipe
from velatura.schema import Settings


def groups(kind: type[Settings] = Recipe) -> list[type[Settings]]:
    """Every group of settings in a recipe."""
    inner = [field.annotation for field in kind.model_fields.values()]
    nested = [group for group in inner if isinstance(group, type) and issubclass(group, Settings)]
    return [kind, *(deeper for group in nested for deeper in groups(group))]


def test_an_empty_recipe_is_every_default() -> None:
    assert recipe.build({}) == Recipe()


def test_what_is_written_is_what_was_told(tmp_path: Path) -> None:
    samples = {"prompts": ["a, b"]}
    told = recipe.build({"name": "ink", "train": {"steps": 7}, "objective": {"min_snr": "none"}, "samples": samples})

    for comments in (False, True):
        (tmp_path / "recipe.toml").write_text(recipe.to_toml(told, comments=comments), encoding="utf-8")
        assert recipe.load(tmp_path / "recipe.toml") == told
        assert recipe.load(tmp_path) == told


def test_every_default_is_written_out_and_reads_back_to_the_same_text() -> None:
    text = recipe.to_toml(Recipe())
    tree = tomllib.loads(text)

    for key in recipe.known_keys():
        place = tree
        for name in key.split("."):
            place = place[name]
    assert recipe.to_toml(recipe.build(tree)) == text


def test_every_setting_says_what_it_means() -> None:
    for group in groups():
        assert group.__doc__
        for name, field in group.model_fields.items():
            is_group = isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
            assert is_group or field.description, f"{group.__name__}.{name}"


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Recipe().train.steps = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "group", "name", "value"),
    [
        ("train.steps=120", "train", "steps", 120),
        (" train.steps = 120 ", "train", "steps", 120),
        ("train.learning_rate=2e-4", "train", "learning_rate", 2e-4),
        ("train.schedule=constant", "train", "schedule", "constant"),
        ("objective.min_snr=none", "objective", "min_snr", None),
        ("dataset.flip=true", "dataset", "flip", True),
        ("dataset.trigger=inkwash style", "dataset", "trigger", "inkwash style"),
        ("dataset.trigger='quoted'", "dataset", "trigger", "quoted"),
        ("dataset.trigger=1984", "dataset", "trigger", "1984"),
        ("dataset.trigger=2024-01-01", "dataset", "trigger", "2024-01-01"),
        ("dataset.trigger=a=b", "dataset", "trigger", "a=b"),
        ("dataset.trigger=", "dataset", "trigger", ""),
        ("dataset.path=C:\\pictures\\new", "dataset", "path", "C:\\pictures\\new"),
        ('adapter.targets=["attention", "denoiser.*"]', "adapter", "targets", ["attention", "denoiser.*"]),
    ],
)
def test_an_override_sets_one_setting(override: str, group: str, name: str, value: object) -> None:
    built = recipe.build({}, [override])

    assert getattr(getattr(built, group), name) == value
    assert built == recipe.build({group: {name: "none" if value is None else value}})


def test_later_overrides_win_and_the_tree_given_stays_as_it_is() -> None:
    tree = {"train": {"steps": 5}}

    assert recipe.build(tree, ["train.steps=6", "train.steps=7", "train.batch=2"]).train.steps == 7
    assert tree == {"train": {"steps": 5}}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.stpes=5", "unknown setting train.stpes; did you mean train.steps?"),
        ("steps=5", "unknown setting steps; did you mean train.steps?"),
        ("trian.steps=5", "unknown setting trian; did you mean train?"),
        ("train.steps", "cannot read the setting 'train.steps'; write it as key=value"),
        ("=5", "cannot read the setting"),
        ("train.=5", "cannot read the setting"),
        ("name.first=5", "name in 'name.first=5' is a value, not a group of settings"),
        ("train=5", "train is a group of settings, not a value"),
        ("train.steps=many", "train.steps: input should be a valid integer"),
        ("train.steps=0", "train.steps: input should be greater than 0, got 0"),
        ("train.warmup=2000", "train.warmup .2000. must be less than train.steps .1500."),
        ("train.schedule=lineal", "train.schedule: input should be 'constant', 'cosine'.*got 'lineal'"),
        ("name=a/b", "name: string should match pattern"),
        ("name=..", "name: string should match pattern"),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        recipe.build({"name": "ink"}, [override])


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[train]\nlearning_rat = 1e-4\n")

    with pytest.raises(RecipeError, match=r"did you mean train\.learning_rate") as caught:
        recipe.load(tmp_path / "recipe.toml")

    assert caught.value.where == str(tmp_path / "recipe.toml")


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="no such file"):
        recipe.load(tmp_path / "recipe.toml")


def test_known_keys_are_those_that_an_override_takes() -> None:
    assert recipe.known_keys() == schema.known_keys(Recipe)
    assert {"name", "train.steps", "samples.cfg_scale"} <= set(recipe.known_keys())


def test_a_recipe_of_the_first_version_is_read_as_it_was_meant() -> None:
    old = {"version": 1, "train": {"min_snr": 3.0, "masked_loss": "alpha", "caption_dropout": 0.3, "prior_weight": 0.5}}

    told = recipe.build(old)

    assert (told.version, told.objective.min_snr, told.objective.masked_loss) == (2, 3.0, "alpha")
    assert (told.dataset.caption_dropout, told.dataset.prior_weight) == (0.3, 0.5)
    assert recipe.build({"train": old["train"]}) == told, "a recipe without a version is of the first"
    assert old["train"] == {"min_snr": 3.0, "masked_loss": "alpha", "caption_dropout": 0.3, "prior_weight": 0.5}


def test_an_old_name_in_a_new_recipe_is_an_error_that_names_the_new_one() -> None:
    with pytest.raises(RecipeError, match=r"unknown setting train\.min_snr; did you mean objective\.min_snr"):
        recipe.build({"version": 2}, ["train.min_snr=5"])
    with pytest.raises(RecipeError, match=r"unknown setting train\.min_snr"):
        recipe.build({"train": {"min_snr": 1.0}, "objective": {"min_snr": 2.0}})


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("objective.huber_c=0.2", "huber_c has no effect without loss = huber"),
        ("objective.logit_mean=1", "logit_mean has no effect without timesteps = logit_normal"),
        ("objective.noise_offset_random=true", "noise_offset_random has no effect without noise_offset"),
        ("objective.input_perturbation_random=true", "has no effect without input_perturbation"),
        ("objective.min_timestep=900", r"min_timestep \(900\) must be less than max_timestep \(800\)"),
        ("objective.shift=0", "objective.shift: input should be greater than 0"),
    ],
)
def test_a_setting_of_the_objective_that_would_do_nothing_is_refused(override: str, sentence: str) -> None:
    told = {"version": 2, "objective": {"max_timestep": 800 if "min_timestep" in override else 1000}}

    with pytest.raises(RecipeError, match=sentence):
        recipe.build(told, [override])
