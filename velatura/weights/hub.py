"""Bases on Hugging Face: looked for in its cache, where every program keeps what it fetched, and fetched into it.

An id is "organisation/name". Only what a base in diffusers' form is read from is fetched: settings, tokenizers and
safetensors, of one precision; of other repositories, the files that are named. What was cut short goes on where it
stopped. Nothing is fetched where the user's settings say `offline = true`, or the environment HF_HUB_OFFLINE=1.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from velatura import settings
from velatura.errors import FileProblem, ModelError
from velatura.files import problem
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
    return next((folder for folder in _snapshots(identifier) if (folder / INDEX).is_file()), None)


def _snapshots(identifier: str) -> list[Path]:
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


def find(identifier: str, *, fetch: bool = True) -> Path:
    """The folder of a base: from the cache where it is whole, else fetched into it.

    Raises:
        ModelError: there is no such base, it may not be fetched, or not without consent.
        FileProblem: the disk is full.
    """
    if (folder := whole(identifier)) is not None:
        return folder
    what = "is only in part in the cache" if cached(identifier) else "is neither a file here nor in the cache"
    if not fetch:
        raise ModelError(f"{identifier} {what}", fix="it is fetched when it is first painted with or trained on")
    _refuse_offline(identifier, what)
    return _fetch(identifier)


def files(
    identifier: str, wanted: Collection[str], *, whole: Callable[[Path], object], unwanted: Collection[str] = ()
) -> Path:
    """The folder with some files of any repository: from the cache where they are whole, else fetched into it.

    Args:
        identifier: "organisation/name".
        wanted: names, or patterns such as `*.json`.
        whole: whether a folder has all that is needed.
        unwanted: patterns of what is left out.

    Raises:
        ModelError: there is no such repository, it lacks what is needed, or nothing may be fetched.
        FileProblem: the disk is full.
    """
    if (there := next(filter(whole, _snapshots(identifier)), None)) is not None:
        return there
    _refuse_offline(identifier, "is neither a folder here nor in the cache")
    import huggingface_hub

    quiet()
    with _sentences(identifier):
        fetched = huggingface_hub.snapshot_download(
            identifier, cache_dir=settings.hub_cache(), allow_patterns=[*wanted], ignore_patterns=[*unwanted]
        )
    if not whole(Path(fetched)):
        what = f"{identifier} lacks some of what is needed: {', '.join(wanted)}"
        raise ModelError(what, where=f"{SITE}/{identifier}", fix="take another model")
    return Path(fetched)


def _refuse_offline(identifier: str, what: str) -> None:
    if offline():
        raise ModelError(
            f"{identifier} {what}, and fetching is switched off",
            fix="take `offline` out of config.toml and HF_HUB_OFFLINE out of the environment, or give a path",
        )


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
    for part, kind in _parts(folder).items():
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


def _parts(folder: Path) -> dict[str, str]:
    """Part -> name of its class, as the base's own list says; what is not needed is left out."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        named = {name: kind for name, kind in index.items() if isinstance(kind, list) and name not in NOT_NEEDED}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{INDEX} is damaged", where=folder, fix="delete this folder and fetch the base again"
        ) from error
    plain = {name: str(kind[-1]) for name, kind in named.items() if kind and kind[-1] and "/" not in name}
    return {name: kind for name, kind in plain.items() if name not in (".", "..") and "\\" not in name}


def _fetch(identifier: str) -> Path:
    import huggingface_hub

    cache = settings.hub_cache()
    quiet()
    with _sentences(identifier):
        told = huggingface_hub.HfApi().model_info(identifier)
        listed = [entry.rfilename for entry in told.siblings or ()]
        if INDEX not in listed:
            raise ModelError(
                f"{identifier} is not a base in diffusers' form",
                where=f"{SITE}/{identifier}",
                fix="fetch the file that you want from there, and give its path",
            )
        first = Path(huggingface_hub.hf_hub_download(identifier, INDEX, cache_dir=cache))
        wanted = needed(listed, _parts(first.parent))
        folder = Path(huggingface_hub.snapshot_download(identifier, cache_dir=cache, allow_patterns=wanted))
    missing = lacking(folder)
    if missing:
        raise ModelError(
            f"{identifier} has no weights as safetensors for its {missing[0]}",
            where=f"{SITE}/{identifier}",
            fix="take a base that is published as safetensors",
        )
    return folder


@contextlib.contextmanager
def _sentences(identifier: str) -> Iterator[None]:
    """What goes wrong between here and the site, as one sentence."""
    from huggingface_hub import errors

    where = f"{SITE}/{identifier}"
    try:
        yield
    except (ModelError, FileProblem):
        raise
    except errors.GatedRepoError as error:
        fix = f"agree to its terms on that page, make a token on {SITE}/settings/tokens, and give it to `hf auth login`"
        raise ModelError(f"{identifier} is only given to who has agreed to its terms", where=where, fix=fix) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{identifier} is neither a file here nor a model on Hugging Face",
            fix="check the spelling; a private one needs a token, given to `hf auth login`",
        ) from error
    except Exception as error:  # whatever ails the network, what to do is the same
        if isinstance(error, OSError) and _is_of_the_disk(error):
            raise problem(error, settings.hub_cache()) from error
        raise ModelError(
            f"fetching {identifier} failed: {reason(error)}",
            where=where,
            fix="connect to the network and start again; what is there already is kept",
        ) from error


def _is_of_the_disk(error: OSError) -> bool:
    import errno

    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def quiet() -> None:
    """What the library says of its tries is left out: what came of them is one sentence here. Progress stays."""
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()


def reason(error: Any) -> str:
    """The first line of what a library says."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
