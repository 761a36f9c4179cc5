"""What reading a tokenizer's files has in common: what to say of broken ones, and where published ones come from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from velatura import settings
from velatura.errors import ModelError
from velatura.weights import fetching, hub

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """A tokenizer that several repositories on Hugging Face have."""

    owner: str
    """Whose it is: "T5", "Qwen3"."""
    size: str
    """Of what is fetched."""
    places: tuple[tuple[str, str], ...]
    """Repositories and their files; the first, open to everybody, is what is fetched."""

    def folder(self, path: Path, *, beside: Path) -> Path:
        """Where it lies in the Hugging Face cache; fetched into it, once, where it is not there.

        Args:
            path: the file that comes without it.
            beside: where the user may put it.

        Raises:
            ModelError: it is neither there nor to be had.
        """
        import huggingface_hub

        cache = settings.hub_cache()
        for repository, name in self.places:
            cached = huggingface_hub.try_to_load_from_cache(repository, name, cache_dir=cache)
            if isinstance(cached, str):
                return Path(cached).parent
        repository, name = self.places[0]
        source = f"{hub.SITE}/{repository}"
        what = f"this text encoder comes without the tokenizer of {self.owner}, and fetching it"
        fix = f"put {source}/blob/main/{name} into {beside}"
        if hub.offline():
            raise ModelError(f"{what} is switched off", where=path, fix=fix)
        LOGGER.warning("fetching the tokenizer of %s (%s), once, from %s", self.owner, self.size, source)
        fetching.quiet()
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name, cache_dir=cache)).parent
        except Exception as error:  # whatever ails the network, what to do is the same
            raise ModelError(f"{what} failed: {fetching.reason(error)}", where=path, fix=fix) from error


@contextlib.contextmanager
def damage(where: Path) -> Iterator[None]:
    """Turn what goes wrong over broken files into a sentence.

    Raises:
        ModelError: something did.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError("the tokenizer's files are damaged", where=where, fix="fetch them again") from error
    except Exception as error:  # the tokenizers library raises bare Exception for a missing or broken file
        if type(error) is not Exception:
            raise
        raise ModelError(f"the tokenizer cannot be read: {error}", where=where, fix="fetch it again") from error
