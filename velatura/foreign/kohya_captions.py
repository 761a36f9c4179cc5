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
    "keep_tokens_separator": ("dataset.keep_separator", text),
    "caption_dropout_every_n_epochs": ("dataset.caption_dropout_every", whole),
    "enable_wildcard": ("dataset.wildcards", flag),
    "caption_prefix": ("dataset.prefix", text),
    "caption_suffix": ("dataset.suffix", text),
    "caption_separator": ("dataset.separator", text),
    "flip_aug": ("dataset.flip", flag),
    "num_repeats": ("dataset.repeats", whole),
}
"""Their names, and ours."""

OWN_BUCKETS = "pictures keep their shapes: there are buckets of half to twice the side, in steps of 64 pixels"

LEFT = {
    "random_crop": "set dataset.crops to how many windows are cut of a picture",
    "class_tokens": "a picture without a caption is told by the trigger; `velatura dataset caption` writes captions",
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
    wildcards = translation.waiting.get("enable_wildcard") in (True, "true", 1)
    translation.put("dataset.captions", "random" if wildcards else "first", "enable_wildcard", wildcards, told=False)
    for key, (setting, read) in CAPTIONS.items():
        translation.carry(key, setting, read)
    _blocks(translation)
    hold_out = translation.take("validation_split", number, 0.0)
    told = bool(hold_out)
    translation.put("dataset.hold_out", hold_out, "validation_split", hold_out, told=told)
    if not told:
        translation.notes.append(
            "all pictures are trained on, as there; dataset.hold_out = 0.2 keeps some back to judge checkpoints by"
        )
    translation.leave_told({"token_warmup_min": ABSENT}, off=(*OFF, 1, "1"))
    translation.leave_told(LEFT)


def _folders(translation: Translation) -> None:
    key = next((one for one in ("train_data_dir", "image_dir") if translation.told(one)), "")
    if key:
        named = translation.take(key, text, "")
        translation.put("dataset.path", place(translation, key, named), key, named)
    translation.carry("dataset_repeats", "dataset.repeats", whole)
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
    if not 1 <= len(sides) <= 2 or not 0 < min(sides) <= max(sides) < 100_000:
        raise ValueError
    return sides


def buckets(translation: Translation) -> None:
    """The sizes that pictures are trained at; those here are always buckets, of one kind."""
    told = translation.told("enable_bucket")
    on = translation.take("enable_bucket", flag, False)
    if told and not on:
        translation.leave("enable_bucket", False, OWN_BUCKETS)
    side = translation.tree.get("dataset", {}).get("resolution", 0)
    limits = {"min_bucket_reso": (256, side // 2), "max_bucket_reso": (1024, side * 2), "bucket_reso_steps": (64, 64)}
    for key, (usual, here) in limits.items():
        size = translation.take(key, whole, usual)
        if on and size not in (usual, here):
            translation.leave(key, size, OWN_BUCKETS)
    if translation.take("bucket_no_upscale", flag, False) and on:
        translation.leave("bucket_no_upscale", True, f"{OWN_BUCKETS}; small pictures are scaled up")


def _blocks(translation: Translation) -> None:
    """Several folders, each with what it does not share with the others."""
    told = translation.waiting.pop("subsets", None)
    if not told:
        return
    blocks = []
    for at, subset in enumerate(told):
        block: dict[str, Any] = {"role": "class"} if subset.pop("is_reg", None) is True else {}
        for key, value in subset.items():
            name = f"subsets[{at}].{key}"
            if key in ("image_dir", "image_directory"):
                block["path"] = place(translation, name, str(value))
            elif key in CAPTIONS:
                setting, read = CAPTIONS[key]
                translation.waiting[name] = value
                block[setting.removeprefix("dataset.")] = translation.take(name, read, value)
            elif value not in OFF:
                translation.leave(name, value, LEFT.get(key, ABSENT))
        blocks.append(block)
    translation.put("dataset.blocks", blocks, "subsets", f"{len(blocks)} folders")


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
    trained = [subset for subset in subsets if subset.get("is_reg") is not True]
    shared = {
        key: value
        for key, value in (trained[0] if trained else {}).items()
        if all(key in subset and subset[key] == value for subset in trained)
    }
    if "batch_size" in shared:
        merged["train_batch_size"] = shared.pop("batch_size")
    classes = [subset for subset in subsets if subset.get("is_reg") is True]
    if len(trained) == 1 and len(classes) <= 1:
        merged |= {key: value for key, value in shared.items() if key != "is_reg"}
        if classes:
            merged["reg_data_dir"] = classes[0].get("image_dir")
        return merged
    merged |= {key: value for key, value in shared.items() if key not in ("image_dir", "is_reg")}
    passed = ("batch_size", *(key for key in merged if key in shared))
    folders = [{key: value for key, value in subset.items() if key not in passed} for subset in subsets]
    return {**merged, "subsets": folders}


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
