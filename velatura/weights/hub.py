"""Bases in the cache of Hugging Face's library, where every program keeps what it fetched; see `fetching`.

An id is "organisation/name". Nothing is fetched where the user's settings say `offline = true`, or the environment
HF_HUB_OFFLINE=1.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Collection
from pathlib import Path

from velatura import settings
from velatura.errors import FileProblem, ModelError
from velatura.settings import INDEX, WEIGHT_ENDINGS
from velatura.weights.source import VARIANTS, WEIGHT_NAMES, BaseFolder

WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "Scheduler", "Processor", "FeatureExtractor")
"""How the classes of parts end that are settings and nothing else."""

NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that painting and training do without."""

SITE = "https://huggingface.co"

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_id(name: str) -> bool:
    """Whether a base's name is of the form "organisation/name"; a path that is there comes first."""
    return _ID.fullmatch(name) is not None and not name.lower().endswith(WEIGHT_ENDINGS)


def cached(identifier: str) -> Path | None:
    """The folder of a base that is in the cache, or None; it may not be whole."""
    return next((folder for folder in snapshots(identifier) if (folder / INDEX).is_file()), None)


def snapshots(identifier: str) -> list[Path]:
    """The folders of a repository that are in the cache, the one that is meant by its name first."""
    repository = settings.hub_cache() / f"models--{identifier.replace('/', '--')}"
    commits = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        commits.append((repository / "refs" / "main").read_text(encoding="utf-8").strip())
    with contextlib.suppress(OSError):
        commits += sorted(path.name for path in (repository / "snapshots").iterdir())
    return [repository / "snapshots" / commit for commit in commits if _COMMIT.fullmatch(commit)]


def whole(identifier: str) -> Path | None:
    """The folder of a base that is in the cache with all its parts, or None.

    Raises:
        ModelError: its list of parts is damaged.
    """
    folder = cached(identifier)
    return folder if folder is not None and not lacking(folder) else None


def all_cached() -> dict[str, Path]:
    """Every base in diffusers' form that is in the cache: id -> folder."""
    found = {}
    with contextlib.suppress(OSError):
        for repository in sorted(settings.hub_cache().glob("models--*--*")):
            identifier = repository.name.removeprefix("models--").replace("--", "/", 1)
            folder = cached(identifier)
            if folder is not None:
                found[identifier] = folder
    return found


def offline() -> bool:
    """Whether nothing may be fetched."""
    told = os.environ.get("HF_HUB_OFFLINE", os.environ.get("TRANSFORMERS_OFFLINE", ""))
    return settings.load().offline or told.upper() in ("1", "ON", "YES", "TRUE")


def lacking(folder: Path) -> list[str]:
    """Parts that a base's own list names and that are not whole in its folder.

    Raises:
        ModelError: the list is damaged.
    """
    missing = []
    for part, kind in parts(folder).items():
        if kind.endswith(WITHOUT_WEIGHTS):
            whole = (folder / part).is_dir() and any((folder / part).iterdir())
        else:
            whole = (folder / part / "config.json").exists() and _has_weights(folder, part)
        if not whole:
            missing.append(part)
    return missing


def needed(listed: Collection[str], parts: Collection[str]) -> list[str]:
    """Which of a repository's files a base is read from: of each part settings, tokenizer, and one set of weights.

    Args:
        listed: names of all files, with slashes.
        parts: folders of the parts.
    """
    chosen = [INDEX]
    for part in parts:
        inside = [name for name in listed if name.rpartition("/")[0] == part]
        chosen += [name for name in inside if name.endswith((".txt", ".model")) or _is_settings(name)]
        chosen += _weights(inside, part)
    return [name for name in chosen if name in listed]


def _is_settings(name: str) -> bool:
    return name.endswith(".json") and ".index." not in name


def _weights(inside: Collection[str], part: str) -> list[str]:
    """The safetensors of one precision, the plain ones first, with their list of shards."""
    for stem in WEIGHT_NAMES:
        for variant in VARIANTS:
            single = f"{part}/{stem}{variant}.safetensors"
            if single in inside:
                return [single]
            index = f"{part}/{stem}.safetensors.index{variant}.json"
            shard = re.compile(
                rf"{re.escape(f'{part}/{stem}')}({variant}-\d+-of-\d+|-\d+-of-\d+{variant})\.safetensors"
            )
            if index in inside:
                return [index, *(name for name in inside if shard.fullmatch(name))]
    return []


def _has_weights(folder: Path, part: str) -> bool:
    try:
        return bool(BaseFolder(folder).held(part))
    except (ModelError, FileProblem):
        return False


def parts(folder: Path) -> dict[str, str]:
    """Part -> name of its class, as the base's own list says; what is not needed is left out.

    Raises:
        ModelError: the list is damaged.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        named = {name: kind for name, kind in index.items() if isinstance(kind, list) and name not in NOT_NEEDED}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{INDEX} is damaged", where=folder, fix="delete this folder and fetch the base again"
        ) from error
    plain = {name: str(kind[-1]) for name, kind in named.items() if kind and kind[-1] and "/" not in name}
    return {name: kind for name, kind in plain.items() if name not in (".", "..") and "\\" not in name}
