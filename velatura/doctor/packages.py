"""What is installed of what Velatura asks for: read from its own package's metadata, so nothing is listed twice."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

PACKAGE = "velatura"


@dataclass(frozen=True)
class Needed:
    """One package that is asked for."""

    name: str
    asked: str
    """Versions that will do, as in ">=2.6"."""
    found: str | None
    """The version that is installed."""

    @property
    def good(self) -> bool:
        """Installed, and new enough."""
        from packaging.specifiers import SpecifierSet

        return self.found is not None and SpecifierSet(self.asked).contains(self.found, prereleases=True)


def core() -> list[Needed]:
    """What nothing works without."""
    return [_needed(one) for one in _requirements() if one.marker is None or one.marker.evaluate({"extra": ""})]


def extras() -> dict[str, list[Needed]]:
    """Optional parts: what each asks for on this system."""
    found: dict[str, list[Needed]] = {}
    for extra in _metadata_list("Provides-Extra"):
        found[extra] = [
            _needed(one)
            for one in _requirements()
            if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
        ]
    return found


def _requirements() -> list[Requirement]:
    return [Requirement(line) for line in _metadata_list("Requires-Dist")]


def _metadata_list(name: str) -> list[str]:
    try:
        return metadata.metadata(PACKAGE).get_all(name) or []
    except metadata.PackageNotFoundError:  # run from its source, without having been installed
        return []


def _needed(requirement: Requirement) -> Needed:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        found = None
    return Needed(requirement.name, str(requirement.specifier), found)
