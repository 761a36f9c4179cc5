"""The pictures, captions and buckets of kohya's trainers, and the TOML of --dataset_config.

Facts (`library/config_util.py`, `library/train_util.py`): folders are called `10_mara woman`; captions end in
`.caption` without being told, and are left out at no rate; without `enable_bucket` every picture is cut to one
square. In the TOML subsets inherit from their dataset, datasets from `[general]`, and what it says wins over the
command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from velatura.errors import RecipeError
from velatura.foreign.files import read_text
from velatura.foreign.places import found, place
from velatura.foreign.reasons import ABSENT, each
from velatura.foreign.translation import OFF, Translation, flag, number, text, whole

READ_HERE = (".txt", ".caption", "txt", "caption")
"""Endings of captions that are read beside a picture."""

CAPTIONS: Mapping[str, tuple[str, Any]] = {
    "caption_dropout_rate": ("dataset.caption_dropout", number),
    "caption_tag_dropout_rate": ("dataset.tag_dropout", number),
    "shuffle_caption": ("dataset.shuffle", flag),
    "keep_tokens": ("dataset.keep_tokens", whole),
    "enable_wildcard": ("dataset.wildcards", flag),
    "caption_prefix": ("dataset.prefix", text),
    "caption_suffix": ("dataset.suffix", text),
    "flip_aug": ("dataset.flip", flag),
    "random_crop": ("dataset.random_crop", flag),
}
"""Their names, and ours."""

LEFT = {
    **each(
        ABSENT,
        (
            "keep_tokens_separator secondary_separator color_aug face_crop_aug_range token_warmup_step"
            " caption_dropout_every_n_epochs in_json metadata_file"
        ),
    ),
}


def translate(translation: Translation) -> None:
    """Carry over pictures, captions and buckets."""
    _folders(translation)
    resolution(translation, "resolution")
    buckets(translation)
    translation.put("dataset.caption_dropout", 0.0, "caption_dropout_rate", 0.0, told=False)
    for key, (setting, read) in CAPTIONS.items():
        translation.carry(key, setting, read)
    hold_out = translation.take("validation_split", number, 0.0)
    told = bool(hold_out)
    translation.put("dataset.hold_out", hold_out, "validation_split", hold_out, told=told)
    if not told:
        translation.notes.append(
            "all pictures are trained on, as there; dataset.hold_out = 0.2 keeps some back to judge checkpoints by"
        )
    translation.leave_told({"caption_separator": ABSENT}, off=(*OFF, ",", ", "))
    translation.leave_told({"token_warmup_min": ABSENT}, off=(*OFF, 1, "1"))
    translation.leave_told(LEFT)


def _folders(translation: Translation) -> None:
    key = next((one for one in ("train_data_dir", "image_dir") if translation.told(one)), "")
    if key:
        named = translation.take(key, text, "")
        translation.put("dataset.path", place(translation, key, named), key, named)
    repeats = translation.take("num_repeats", whole, translation.take("dataset_repeats", whole, 1))
    if repeats != 1:
        translation.put("dataset.repeats", repeats, "num_repeats", repeats)
    translation.carry("class_tokens", "dataset.class_words", text)
    class_folder = translation.take("reg_data_dir", text, "")
    if class_folder:
        translation.put(
            "dataset.regularisation", place(translation, "reg_data_dir", class_folder), "reg_data_dir", class_folder
        )
    elif key:
        translation.put("dataset.regularisation", "", "reg_data_dir", "", told=False)
    for one in ("caption_extension", "caption_extention"):
        if (ending := translation.take(one, text, "")) and ending.lower() not in READ_HERE:
            translation.leave(one, ending, "captions are read from .txt and .caption")


def resolution(translation: Translation, key: str) -> None:
    """The training area: one side, or width and height, of which only the product counts."""
    told = translation.waiting.get(key)
    parts = translation.take(key, _sides, list[int]())
    if not parts:
        return
    side = round((parts[0] * parts[-1]) ** 0.5)
    translation.put("dataset.resolution", side, key, told)
    if side * side != parts[0] * parts[-1]:
        translation.notes.append(f"{translation.called(key)}: {told} has about as many pixels as a square of {side}")


def _sides(value: Any) -> list[int]:
    told = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    sides = [whole(one) for one in told]
    if not 1 <= len(sides) <= 2 or min(sides) <= 0:
        raise ValueError
    return sides


def buckets(translation: Translation) -> None:
    """The sizes that pictures are trained at."""
    told = translation.told("enable_bucket")
    on = translation.take("enable_bucket", flag, False)
    if told and not on:
        translation.put("dataset.buckets", False, "enable_bucket", False)
    for key, setting in {
        "min_bucket_reso": "dataset.bucket_minimum",
        "max_bucket_reso": "dataset.bucket_maximum",
        "bucket_reso_steps": "dataset.bucket_step",
        "bucket_no_upscale": "dataset.no_upscale",
    }.items():
        if on:
            translation.carry(key, setting, flag if key == "bucket_no_upscale" else whole)
        else:
            translation.waiting.pop(key, None)


def with_dataset(told: dict[str, Any], tree: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The settings of a training with those of a dataset's TOML; what its folders do not share is named for each.

    Raises:
        RecipeError: it is no such TOML.
    """
    subsets = []
    general = _table(tree.get("general", {}), "general", where)
    for number_of, dataset in enumerate(_tables(tree.get("datasets"), "datasets", where)):
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        inner = _tables(dataset.get("subsets", [{}]), f"datasets[{number_of}].subsets", where)
        subsets += [{**general, **own, **subset} for subset in inner]
    merged = dict(told)
    if any("batch_size" in subset for subset in subsets):
        merged.pop("train_batch_size", None)
    classes = [subset for subset in subsets if subset.get("is_reg") is True]
    trained = [subset for subset in subsets if subset not in classes]
    for subset in trained:
        subset.pop("is_reg", None)
    for key in dict.fromkeys(key for subset in trained for key in subset):
        values = [subset.get(key) for subset in trained]
        called = {"batch_size": "train_batch_size"}.get(key, key)
        if all(value == values[0] for value in values):
            merged[called] = values[0]
        else:
            merged |= {f"subsets[{at}].{key}": value for at, value in enumerate(values) if value is not None}
    if len(classes) == 1 and isinstance(folder := classes[0].get("image_dir"), str):
        merged["reg_data_dir"] = folder
    elif classes:
        merged |= {f"is_reg[{at}].image_dir": subset.get("image_dir") for at, subset in enumerate(classes)}
    return merged


def _table(value: Any, name: str, where: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecipeError(f"{name} is not a table", where=where, fix=f"write [{name}]")
    return value


def _tables(value: Any, name: str, where: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise RecipeError(f"{name} is not a list of tables", where=where, fix=f"write [[{name}]]")
    return [_table(one, name, where) for one in value]


def prompt_lines(told: str, translation: Translation) -> list[str]:
    """The sample prompts that a setting names: those of a text file, or the text itself where it is no file's name."""
    path = found(told, translation.where) if "\n" not in told else None
    if path is not None and path.is_file():
        lines: Sequence[str] = read_text(path).splitlines() if path.suffix.lower() == ".txt" else []
        if not lines:
            translation.leave("sample_prompts", told, "prompts are read from .txt files")
    elif told.endswith((".txt", ".toml", ".json")):
        translation.leave("sample_prompts", told, "this file is not here")
        return []
    else:
        lines = told.splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
