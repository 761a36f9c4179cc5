"""Which pictures a request to paint means: prompts with their choices made, and what can be painted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from velatura import settings
from velatura.api.painting.request import GenerateRequest
from velatura.errors import PromptError
from velatura.generation import prompt as grammar
from velatura.generation.hires import Hires
from velatura.generation.prompt import styles
from velatura.generation.prompt.template import Template
from velatura.generation.prompt.wildcards import Wildcards

if TYPE_CHECKING:
    from velatura.generation.sampling import Job


@dataclass(frozen=True)
class Together:
    """Pictures with the same LoRAs and the same second pass."""

    jobs: Sequence[Job]
    places: Sequence[int]
    """Which of all pictures they are."""
    hires: Hires | None

    @property
    def prompt(self) -> str:
        """One whose LoRAs all of them have."""
        return self.jobs[0].prompt


def wanted(request: GenerateRequest, seed: int, variation: int = 0) -> list[Together]:
    """The pictures of a request.

    Args:
        request: what is to be painted.
        seed: of the first picture, by which it also chooses; they count up, except where variations are asked for.
        variation: the first picture's, where they are; then these count up.

    Raises:
        SettingsError: a style that there is not.
        PromptError: a prompt has no meaning.
    """
    from velatura.generation.sampling import Job

    if (original := request.original) is not None:
        again = [
            Job(prompt, own, negative, other, strength) for own, prompt, negative, other, strength in original.together
        ]
        return [Together(again, range(len(again)), request.hires)]
    template, wildcards = template_of(request), wildcards_of(request.project)
    groups: dict[tuple[object, Hires | None], list[tuple[int, Job]]] = {}
    for place in range(request.count):
        own = seed if request.variation_strength else seed + place
        prompt, negative = template.resolve(own, wildcards)
        made = template if (prompt, negative) != (request.prompt, request.negative) else None
        job = Job(prompt, own, negative, template=made)
        if request.variation_strength:
            job = replace(job, variation=variation + place, variation_strength=request.variation_strength)
        hires = second_pass(request.hires, own, prompt, template, wildcards)
        _check(job, hires, request.steps or 20, request.project)
        groups.setdefault((grammar.extract_loras(prompt)[1], hires), []).append((place, job))
    return [
        Together([job for _, job in members], [place for place, _ in members], hires)
        for (_, hires), members in groups.items()
    ]


def _check(job: Job, hires: Hires | None, steps: int, project: Path | None) -> None:
    """Refuse what a prompt cannot mean, before a base is loaded.

    Raises:
        PromptError: it has no meaning.
        SettingsError: a LoRA that it names is not there.
    """
    for use in grammar.extract_loras(job.prompt)[1]:
        settings.find_lora(use.name, project=project)
    second = (hires.prompt or "", hires.negative_prompt or "") if hires else ()
    for text in dict.fromkeys((job.prompt, job.negative_prompt, *second)):
        for one in grammar.scheduled(text, steps):
            for until in one.texts:
                grammar.parse(until.text)


def template_of(request: GenerateRequest) -> Template:
    """A request's prompts with its styles around them, before anything is chosen.

    Raises:
        SettingsError: a style that there is not.
    """
    project = request.project
    found = styles.find(request.styles, (*((project,) if project else ()), *settings.load().folders("styles")))
    return Template(request.prompt, request.negative, tuple(found), request.as_is)


def wildcards_of(project: Path | None) -> Wildcards:
    """Those of the project, then those of the user."""
    return Wildcards((*((project / "wildcards",) if project else ()), *settings.load().folders("wildcards")))


def second_pass(hires: Hires | None, seed: int, first: str, template: Template, wildcards: Wildcards) -> Hires | None:
    """A second pass with prompts as they are painted.

    Args:
        hires: as it is asked for.
        seed: of the picture, by which it chooses.
        first: the prompt of the first pass.

    Raises:
        PromptError: its prompt has other LoRAs than that of the first.
    """
    if hires is None:
        return None
    own = replace(template, prompt=hires.prompt or "", negative_prompt=hires.negative_prompt or "")
    prompt, negative = own.resolve(seed, wildcards)
    if hires.prompt is not None and grammar.parse(prompt).loras != grammar.parse(first).loras:
        raise PromptError(
            "the prompt of the second pass has other LoRAs than that of the first",
            where=hires.prompt,
            fix="write the same <lora:...> into both",
        )
    return replace(
        hires,
        prompt=None if hires.prompt is None else prompt,
        negative_prompt=None if hires.negative_prompt is None else negative,
    )
