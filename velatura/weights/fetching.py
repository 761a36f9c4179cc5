"""Bases of Hugging Face that are not in its cache are fetched into it, and go on there when they are cut short.

Only what a base in diffusers' form is read from is fetched: settings, tokenizers and safetensors, of one precision; of
other repositories, the files that are named.
Weights are gigabytes, and the library begins anew each time: here they are fetched by HTTP into a file of their own
beside the cache's, from where the last attempt stopped, compared with their hash, and put into their place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from velatura import settings
from velatura.errors import FileProblem, ModelError
from velatura.events import Progress
from velatura.files import make_folder, problem, sha256
from velatura.settings import INDEX
from velatura.weights import hub
from velatura.weights.hub import SITE

PATIENCE = 0.25
"""Seconds between two looks at how much there is."""

MEGABYTE = 1000**2


def find(identifier: str, *, fetch: bool = True) -> Path:
    """The folder of a base: from the cache where it is whole, else fetched into it.

    Raises:
        ModelError: there is no such base, it may not be fetched, or not without consent.
        FileProblem: the disk is full.
    """
    if (folder := hub.whole(identifier)) is not None:
        return folder
    if not fetch:
        raise ModelError(
            f"{identifier} {_lies(identifier)}", fix="it is fetched when it is first painted with or trained on"
        )
    for _ in fetched(identifier):
        pass
    folder = hub.whole(identifier)
    assert folder is not None
    return folder


def fetched(identifier: str) -> Iterator[Progress]:
    """Fetch what the cache lacks of a base; yields how much there is, in megabytes.

    Raises:
        ModelError: there is no such base, or it may not be fetched.
        FileProblem: the disk is full.
    """
    _refuse_offline(identifier, _lies(identifier))
    with _sentences(identifier):
        listed = _listed(identifier)
        if INDEX not in listed:
            raise ModelError(
                f"{identifier} is not a base in diffusers' form",
                where=f"{SITE}/{identifier}",
                fix="fetch the file that you want from there, and give its path",
            )
        folder = _first(identifier, INDEX)
        yield from _into(folder, identifier, hub.needed(listed, hub.parts(folder)), listed)
    if missing := hub.lacking(folder):
        raise ModelError(
            f"{identifier} has no weights as safetensors for its {missing[0]}",
            where=f"{SITE}/{identifier}",
            fix="take a base that is published as safetensors",
        )


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
    if (there := next(filter(whole, hub.snapshots(identifier)), None)) is not None:
        return there
    _refuse_offline(identifier, "is neither a folder here nor in the cache")
    folder = None
    with _sentences(identifier):
        listed = _listed(identifier)
        chosen = [name for name in listed if _any(name, wanted) and not _any(name, unwanted)]
        if chosen:
            folder = _first(identifier, min(chosen, key=lambda name: listed[name].size or 0))
            for _ in _into(folder, identifier, chosen, listed):
                pass
    if folder is None or not whole(folder):
        what = f"{identifier} lacks some of what is needed: {', '.join(wanted)}"
        raise ModelError(what, where=f"{SITE}/{identifier}", fix="take another model")
    return folder


def _any(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(identifier: str) -> dict[str, Any]:
    """The repository's files: name -> its size and hash, as the library has them."""
    import huggingface_hub

    quiet()
    told = huggingface_hub.HfApi().model_info(identifier, files_metadata=True)
    return {entry.rfilename: entry for entry in told.siblings or ()}


def _first(identifier: str, name: str) -> Path:
    """Fetch one small file; the cache's folder for the repository as it is now."""
    import huggingface_hub

    got = Path(huggingface_hub.hf_hub_download(identifier, name, cache_dir=settings.hub_cache()))
    return got.parents[name.count("/")]


def _into(folder: Path, identifier: str, wanted: Sequence[str], listed: Mapping[str, Any]) -> Iterator[Progress]:
    """Fetch files into the cache's folder for one state of a repository."""
    import huggingface_hub

    stage, there = f"fetching {identifier}, MB", 0
    total = max(1, sum(listed[name].size or 0 for name in wanted) // MEGABYTE)
    for name in wanted:
        entry = listed[name]
        if entry.size and entry.lfs is not None and not (folder / name).exists():
            url = huggingface_hub.hf_hub_url(identifier, name, revision=folder.name)
            blob = make_folder(folder.parent.parent / "blobs") / entry.lfs.sha256
            for size in resumed(url, blob, size=entry.size):
                yield Progress(stage, (there + size) // MEGABYTE, total)
        huggingface_hub.hf_hub_download(identifier, name, revision=folder.name, cache_dir=settings.hub_cache())
        there += entry.size or 0
        yield Progress(stage, there // MEGABYTE, total)


def resumed(url: str, blob: Path, *, size: int) -> Iterator[int]:
    """Fetch a file from where the last attempt stopped; yields how many bytes there are.

    Args:
        url: where it is; the user's token goes with the request.
        blob: where it goes once it is whole; its name is its sha256.
        size: its bytes.

    Raises:
        ModelError: it is not the file that was promised.
        OSError: the disk, or the network.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    part = blob.with_name(f"{blob.name}.velatura.incomplete")
    with WeakFileLock(part.with_suffix(".lock")):
        if blob.exists():
            return
        before = part.stat().st_size if part.exists() else 0
        failures: list[BaseException] = []
        with part.open("ab" if before <= size else "wb") as file:

            def work() -> None:
                try:
                    http_get(url, file, resume_size=file.tell(), headers=build_hf_headers(), expected_size=size)
                except BaseException as error:  # noqa: BLE001 - raised below, where somebody listens
                    failures.append(error)

            # not waited for when the program ends: what has come is on the disk
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            while thread.is_alive():
                thread.join(PATIENCE)
                yield part.stat().st_size
            if failures:
                raise failures[0]
        if before and sha256(part) != blob.name:
            part.unlink()
            raise ModelError("what was fetched in several attempts does not fit together", fix="start again")
        part.replace(blob)


def _refuse_offline(identifier: str, what: str) -> None:
    if hub.offline():
        raise ModelError(
            f"{identifier} {what}, and fetching is switched off",
            fix="take `offline` out of config.toml and HF_HUB_OFFLINE out of the environment, or give a path",
        )


def _lies(identifier: str) -> str:
    return "is only in part in the cache" if hub.cached(identifier) else "is neither a file here nor in the cache"


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
    """What the library says of its tries, and its bars, are left out: both are told here."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bars()


def reason(error: Any) -> str:
    """The first line of what a library says."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
