"""Files of other trainers, each in its genuine format: what arrives, what is left, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from velatura import recipe as recipes
from velatura.errors import RecipeError
from velatura.foreign import kohya, musubi
from velatura.foreign.reading import Translated, read
from velatura.foreign.translation import OFF, value_of

KOHYA_TOML = """
[basic]
pretrained_model_name_or_path = "illustrious.safetensors"
output_name = "mara"
train_data_dir = "pictures"
resolution = "1024,1024"
caption_extension = ".txt"
max_train_epochs = 4
train_batch_size = 2
seed = 42
[network]
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
network_args = ["rank_dropout=0.1"]
[rate]
unet_lr = 1e-4
text_encoder_lr = [5e-5, 5e-5]
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
lr_warmup_steps = 0.05
optimizer_type = "AdamW8bit"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
[rest]
min_snr_gamma = 8
noise_offset = 0.03
shuffle_caption = true
keep_tokens = 1
flip_aug = true
enable_bucket = true
xformers = true
mixed_precision = "bf16"
color_aug = true
wandb_api_key = "very secret"
"""

MUSUBI = """accelerate launch --mixed_precision bf16 src/musubi_tuner/zimage_train_network.py \\
    --dit z.safetensors --vae ae.safetensors --text_encoder qwen.safetensors \\
    --dataset_config set.toml --sdpa --timestep_sampling shift --weighting_scheme none --discrete_flow_shift 2.0 \\
    --optimizer_type adamw8bit --learning_rate 1e-4 --network_module networks.lora_zimage --network_dim 16 \\
    --max_train_steps 1000 --seed 42 --output_name hand
"""

MUSUBI_SET = """
[general]
resolution = [1024, 1024]
caption_extension = ".txt"
batch_size = 2
enable_bucket = true
[[datasets]]
image_directory = "drawings"
num_repeats = 1
"""

AI_TOOLKIT = """---
job: extension
config:
  name: "my_style"
  process:
    - type: 'sd_trainer'
      training_folder: "output"
      trigger_word: "p3r5on"
      network: &net
        type: "lora"
        linear: 16
        linear_alpha: 8
      save: {dtype: float16, save_every: 250}
      datasets:
        - folder_path: "pictures"
          caption_ext: "txt"
          caption_dropout_rate: 0.05
          resolution: [768, 1024]
      train:
        batch_size: 2
        steps: 2000
        lr: 1e-4
        timestep_type: sigmoid
        do_prior_divergence: true
      model: {name_or_path: "black-forest-labs/FLUX.1-dev", is_flux: true, quantize: true}
      sample:
        prompts: ["[trigger] in the rain"]
        seed: 3
        guidance_scale: 4
"""

ONETRAINER: dict[str, Any] = {
    "__version": 11,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_15",
    "base_model_name": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "output_model_destination": "models/ink.safetensors",
    "epochs": 20,
    "batch_size": 4,
    "learning_rate": 0.0003,
    "learning_rate_scheduler": "COSINE",
    "learning_rate_warmup_steps": 100,
    "resolution": "512",
    "lora_rank": 8,
    "lora_alpha": 4,
    "layer_filter_preset": "attn-mlp",
    "text_encoder_layer_skip": 1,
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "loss_weight_strength": 5.0,
    "offset_noise_weight": 0.05,
    "text_encoder": {"train": True, "learning_rate": 0.0001, "weight_dtype": "FLOAT_16"},
    "unet": {"train": True, "weight_dtype": "FLOAT_16"},
    "optimizer": {"optimizer": "ADAMW_8BIT", "weight_decay": 0.02, "beta2": 0.99},
    "latent_caching": True,
    "concepts": [{"name": "", "path": "pictures", "enabled": True, "image": {"enable_random_hue": True}, "text": {}}],
}

GUI: dict[str, Any] = {
    "LoRA_type": "Standard",
    "pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5",
    "output_name": "mara",
    "sdxl": False,
    "flux1_checkbox": False,
    "train_data_dir": "pictures",
    "max_resolution": "512,512",
    "epoch": 10,
    "max_train_steps": 0,
    "max_train_epochs": 0,
    "lr_warmup": 10,
    "lr_scheduler": "cosine",
    "optimizer": "AdamW",
    "learning_rate": 0.0001,
    "unet_lr": 0.0002,
    "text_encoder_lr": 0.0,
    "train_batch_size": 1,
    "network_dim": 8,
    "network_alpha": 8,
    "conv_dim": 64,
    "clip_skip": 2,
    "noise_offset_type": "Original",
    "multires_noise_iterations": 8,
    "min_snr_gamma": 0,
    "max_timestep": 1000,
    "xformers": "xformers",
    "use_wandb": True,
}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def settings(found: Translated) -> dict[str, Any]:
    """Setting -> value, of what was carried over."""
    return {one.setting: one.becomes for one in found.carried}


def keys_left(found: Translated) -> set[str]:
    return {one.key for one in found.left}


def test_a_toml_of_sd_scripts_arrives_setting_by_setting(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    found = read(write(tmp_path, "config.toml", KOHYA_TOML))

    assert found.trainer == "kohya-ss/sd-scripts"
    wanted = {
        "name": "mara",
        "base.model": "illustrious.safetensors",
        "dataset.path": str(tmp_path / "pictures"),
        "dataset.resolution": 1024,
        "dataset.flip": True,
        "dataset.hold_out": 0.0,
        "adapter.rank": 32,
        "adapter.alpha": 16.0,
        "adapter.dropout": 0.1,
        "adapter.targets": ["attention+mlp", "text"],
        "train.epochs": 4,
        "train.batch": 2,
        "train.learning_rate": 1e-4,
        "train.text_learning_rate": 5e-5,
        "train.schedule": "cosine_restarts",
        "train.cycles": 3,
        "train.warmup": 0.05,
        "train.optimizer": "adamw8bit",
        "train.optimizer_settings": {"beta1": 0.9, "beta2": 0.99},
        "train.weight_decay": 0.1,
        "train.seed": 42,
        "objective.min_snr": 8.0,
        "objective.noise_offset": 0.03,
        "objective.masked_loss": "off",
        "dataset.shuffle": True,
        "dataset.keep_tokens": 1,
        "dataset.caption_dropout": 0.0,
        "dataset.captions": "first",
    }
    assert settings(found).items() >= wanted.items()
    assert {"color_aug", "xformers", "mixed_precision", "wandb_api_key"} <= keys_left(found)
    assert "very secret" not in repr(found)
    assert "train_data_dir" not in " ".join(found.notes)
    assert "illustrious.safetensors is not here" in " ".join(found.notes)


def test_a_command_line_of_musubi_with_its_dataset(tmp_path: Path) -> None:
    write(tmp_path, "set.toml", MUSUBI_SET)
    found = read(write(tmp_path, "train.sh", MUSUBI.replace("\n", "\r\n")))

    assert found.trainer == "kohya-ss/musubi-tuner"
    wanted = {
        "name": "hand",
        "base.model": "z.safetensors",
        "base.vae": "ae.safetensors",
        "base.text_encoders": ["qwen.safetensors"],
        "adapter.rank": 16,
        "adapter.alpha": 1.0,
        "train.steps": 1000,
        "train.batch": 2,
        "train.learning_rate": 1e-4,
        "train.schedule": "constant",
        "train.optimizer": "adamw8bit",
        "objective.timesteps": "sigmoid",
        "objective.shift": 2.0,
        "dataset.path": "drawings",
        "dataset.resolution": 1024,
    }
    assert settings(found).items() >= wanted.items()
    assert found.recipe.adapter.targets == ["attention+mlp"]  # never its text encoder
    assert {"sdpa", "mixed_precision"} <= keys_left(found)


def test_a_yaml_of_ai_toolkit(tmp_path: Path) -> None:
    found = read(write(tmp_path, "my_style.yaml", "\ufeff" + AI_TOOLKIT))

    assert found.trainer == "ostris/ai-toolkit"
    wanted = {
        "name": "my_style",
        "base.model": "black-forest-labs/FLUX.1-dev",
        "adapter.rank": 16,
        "adapter.alpha": 8.0,
        "adapter.targets": ["all"],
        "train.steps": 2000,
        "train.batch": 2,
        "train.learning_rate": 1e-4,
        "train.schedule": "constant",
        "checkpoints.every": 250,
        "objective.timesteps": "sigmoid",
        "objective.shift": 1.0,
        "dataset.caption_dropout": 0.05,
        "dataset.resolution": 768,
        "dataset.further_resolutions": [1024],
        "dataset.trigger": "p3r5on",
        "samples.prompts": ["p3r5on in the rain"],
        "samples.guidance": 4.0,
    }
    assert settings(found).items() >= wanted.items()
    assert {"train.do_prior_divergence", "model.quantize", "training_folder"} <= keys_left(found)


def test_output_preservation_of_ai_toolkit_arrives_with_its_class_and_its_weight(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load(AI_TOOLKIT)
    told["config"]["process"][0]["train"] |= {
        "diff_output_preservation": True,
        "diff_output_preservation_class": "woman",
        "diff_output_preservation_multiplier": 0.5,
    }
    found = read(write(tmp_path, "kept.yaml", yaml.safe_dump(told)))
    assert settings(found).items() >= {"objective.preserve": "woman", "objective.preserve_weight": 0.5}.items()
    assert (found.recipe.objective.preserve, found.recipe.dataset.trigger) == ("woman", "p3r5on")


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ('log_with = "tensorboard"', {"tracking.tensorboard": True}),
        ('log_with = "wandb"\nlog_tracker_name = "mine"', {"tracking.wandb": "mine"}),
        ('log_with = "all"', {"tracking.tensorboard": True, "tracking.wandb": "network_train"}),
    ],
)
def test_where_sd_scripts_sends_its_numbers_is_where_they_go_here(
    tmp_path: Path, told: str, wanted: dict[str, object]
) -> None:
    assert settings(read(write(tmp_path, "config.toml", f"{KOHYA_TOML}\n{told}\n"))).items() >= wanted.items()


def test_a_json_of_onetrainer(tmp_path: Path) -> None:
    found = read(write(tmp_path, "ink.json", json.dumps(ONETRAINER)))

    assert found.trainer == "Nerogar/OneTrainer"
    wanted = {
        "name": "ink",
        "base.clip_skip": 2,  # it counts the layers skipped, from 0
        "adapter.rank": 8,
        "adapter.alpha": 4.0,
        "adapter.targets": ["attention+mlp", "text"],
        "train.epochs": 20,
        "train.batch": 4,
        "train.optimizer": "adamw8bit",
        "objective.min_snr": 5.0,
        "objective.noise_offset": 0.05,
        "train.learning_rate": 3e-4,
        "train.text_learning_rate": 1e-4,
        "train.warmup": 100,
        "train.weight_decay": 0.02,
        "dataset.path": "pictures",
        "dataset.resolution": 512,
    }
    assert settings(found).items() >= wanted.items()
    assert {"concepts.image.enable_random_hue", "latent_caching"} <= keys_left(found)


def test_the_json_of_the_kohya_interface_means_what_the_interface_makes_of_it(tmp_path: Path) -> None:
    found = read(write(tmp_path, "mara.json", json.dumps(GUI)))

    assert found.trainer == "bmaltais/kohya_ss"
    told = settings(found)
    assert told["train.learning_rate"] == 2e-4
    assert found.recipe.adapter.targets == ["attention+mlp"]  # a text encoder's rate of 0 leaves it out
    assert found.recipe.adapter.conv_rank is None  # a field of another kind of network
    assert told["base.clip_skip"] == 2
    assert (told["train.epochs"], told["train.warmup"]) == (10, 0.1)  # its warm-up is a percentage
    assert "use_wandb" in keys_left(found)
    assert not {"multires_noise_iterations", "max_timestep", "conv_dim"} & keys_left(found)


@pytest.mark.parametrize(
    ("name", "text"), [("config.toml", KOHYA_TOML), ("job.yaml", AI_TOOLKIT), ("ink.json", json.dumps(ONETRAINER))]
)
def test_what_arrives_is_a_recipe_that_reads_back(tmp_path: Path, name: str, text: str) -> None:
    found = read(write(tmp_path, name, text))

    path = write(tmp_path, "recipe.toml", recipes.to_toml(found.recipe, comments=True))
    assert recipes.load(path) == found.recipe
    for one in found.carried:
        if found.carried[-1] is one or one.setting not in {later.setting for later in found.carried}:
            assert value_of(found.recipe, one.setting) == one.becomes


@pytest.mark.parametrize("key", sorted({**kohya.LEFT, **musubi.LEFT, "nonsense": ""}))
def test_nothing_that_is_switched_on_is_lost(tmp_path: Path, key: str) -> None:
    found = read(write(tmp_path, "config.toml", f'network_dim = 8\n{key} = "switched on"\n'))

    assert key in keys_left(found)
    assert next(one.why for one in found.left if one.key == key)


def test_what_is_off_there_and_here_is_not_worth_a_word(tmp_path: Path) -> None:
    found = read(
        write(tmp_path, "config.toml", "network_dim = 8\nflip_aug = false\nnoise_offset = 0.0\nfull_bf16 = false\n")
    )

    assert not found.left
    assert [one.key for one in found.carried if one.told] == ["network_dim"]


def test_what_is_done_there_without_being_told_is_done_here_too(tmp_path: Path) -> None:
    found = read(write(tmp_path, "config.toml", 'output_name = "bare"\nnetwork_dim = 16\n'))

    assert found.recipe.adapter.alpha == 1.0
    assert found.recipe.train.steps == 1600
    assert found.recipe.train.learning_rate == 2e-6
    assert found.recipe.train.schedule == "constant"
    assert found.recipe.dataset.hold_out == 0.0
    assert all(not one.told for one in found.carried if one.setting in ("adapter.alpha", "train.steps"))


def test_several_folders_keep_their_own_rules(tmp_path: Path) -> None:
    text = '[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "a"\nnum_repeats = 2\n'
    text += (
        '[[datasets.subsets]]\nimage_dir = "b"\nnum_repeats = 5\n[[datasets.subsets]]\nimage_dir = "c"\nis_reg = true\n'
    )
    found = read(write(tmp_path, "set.toml", text))

    blocks = [(one.path, one.repeats, one.resolution, one.role) for one in found.recipe.dataset.blocks]
    assert blocks == [("a", 2, 512, "set"), ("b", 5, 512, "set"), ("c", 1, 512, "class")]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.yaml", BOMB.encode(), "names its own parts again and again"),
        ("a.yaml", b"a: &a [*a]", "names its own parts again and again"),
        ("a.yaml", b"job: [", "this is not valid YAML in line 1"),
        ("a.yaml", b"job: !!python/object/apply:os.system [ls]\nconfig: {}", "this is not valid YAML"),
        ("a.yaml", b"[" * 5000, "this is not valid YAML"),
        ("a.json", b"[" * 50000, "this is not valid JSON"),
        ("a.json", b'{"training_method": "LORA", ', "this is not valid JSON"),
        ("a.json", b"[1, 2]", "holds no settings by name"),
        ("a.json", b'{"a": 1}', "not the file of a trainer that is known"),
        ("a.toml", b"version = 1\nname = 'x'\n", "a recipe of Velatura needs no import"),
        ("a.toml", b"network_dim = 'many'\n", "network_dim is 'many', which is not a whole number"),
        ("a.toml", b"network_dim = [1, 2]\n", "network_dim is [1, 2], which is not a whole number"),
        ("a.toml", b"network_dim = nan\n", "network_dim is nan, which is not a whole number"),
        ("a.toml", b"network_dim = 8\nflip_aug = 'perhaps'\n", "flip_aug is 'perhaps', which is not true or false"),
        ("a.toml", b"network_dim = 8\nresolution = '0'\n", "resolution is '0'"),
        ("a.toml", b"datasets = 3\n", "datasets is not a list of tables"),
        ("a.json", b'{"training_method": "EMBEDDING"}', "training_method is EMBEDDING, and recipes here train a LoRA"),
        ("a.yaml", b"job: extension\nconfig: {process: []}\n", "this job has no process"),
        ("a.sh", b"\xff\xfea\xd8", "not a text file in UTF-8"),
        ("a.sh", b"\x89PNG", "not a text file in UTF-8"),
    ],
)
def test_hostile_files_end_in_a_sentence(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(RecipeError) as caught:
        read(path)

    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_value_that_does_not_fit_here_is_left_with_the_reason(tmp_path: Path) -> None:
    found = read(write(tmp_path, "config.toml", "network_dim = 4096\n"))

    (left,) = [one for one in found.left if one.key == "network_dim"]
    assert "1024" in left.why
    assert left.value not in OFF


HOSTILE: list[Any] = [
    None,
    "x",
    "",
    -1,
    0,
    1e308,
    True,
    [],
    ["x"],
    [[1]],
    {},
    {"a": 1},
    "1e999",
    "nan",
    "\x00",
    "é" * 300,
]


def changed(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The tree with one value replaced."""
    if not place:
        return value
    if isinstance(tree, list):
        return [changed(one, place[1:], value) if at == place[0] else one for at, one in enumerate(tree)]
    return {key: changed(one, place[1:], value) if key == place[0] else one for key, one in tree.items()}


def places(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value of a tree stands."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [above, *(place for key, one in inner for place in places(one, (*above, key)))][bool(not above) :]


def trees() -> dict[str, Any]:
    import tomllib

    import yaml

    return {
        "a.json": ONETRAINER,
        "b.json": GUI,
        "c.json": tomllib.loads(KOHYA_TOML)
        | {"LoRA_type": "LyCORIS/LoKr", "factor": 4, "optimizer_args": "weight_decay=0.1 betas=0.9,0.99"},
        "d.json": yaml.safe_load(AI_TOOLKIT),
    }


@pytest.mark.parametrize("name", ["a.json", "b.json", "c.json", "d.json"])
def test_any_value_of_any_kind_ends_in_a_recipe_or_a_sentence(tmp_path: Path, name: str) -> None:
    tree = trees()[name]
    where = places(tree)
    assert len(where) > 15

    for number, place in enumerate(where):
        for value in HOSTILE[number % 5 :: 5]:
            path = write(tmp_path, name, json.dumps(changed(tree, place, value)))
            try:
                found = read(path)
            except RecipeError as error:
                assert len(str(error)) < 500, (place, value)
            else:
                recipes.build(found.recipe.model_dump())
