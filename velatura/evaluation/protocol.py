"""The fixed protocol: every checkpoint of a run, and the base, on the same cells, prompts and seeds.

Two kinds of evidence. Without painting: the error on held-out pictures, on as many training
pictures, and on held-out pictures under another picture's caption. Painted: the held-out captions
(style, copies), and one object asked for in several colours (whether the prompt is still read).
Adapters are read back from their files and merged, on the path that generation uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from velatura.adapters.merge import Applied
from velatura.adapters.switch import Switch
from velatura.dataset import prepared as prepared_pictures
from velatura.errors import RunError
from velatura.evaluation.copies import CopyCheck, Detector, Nearest, calibrate, copy_check
from velatura.evaluation.diversity import diversity
from velatura.evaluation.heldout import held_out_loss, text_reliance
from velatura.evaluation.results import BaseResult, CheckpointResult, Results, Sample, to_json
from velatura.evaluation.separability import colour_spread, separability
from velatura.evaluation.style import Features, describe, overbake, score_features
from velatura.events import Progress
from velatura.family import Model
from velatura.files import make_folder, write_bytes, write_text
from velatura.generation.generate import Painted, generate
from velatura.generation.prompt import literal
from velatura.generation.record import words_of
from velatura.generation.sampling import Job
from velatura.recipe import Recipe
from velatura.run import CheckpointFolder, Run
from velatura.text.weighted import Embedding
from velatura.training import samples as painting
from velatura.training.adapter import changes_text
from velatura.training.data import Cached
from velatura.training.data import Sample as Encoded
from velatura.training.dataset import Pictures
from velatura.training.encoding import retold
from velatura.training.validation import cells

Picture = NDArray[np.uint8]

COLOURS = ("red", "blue", "green", "yellow")
"""Asked for in turn; far apart, and known to every base."""
OBJECT = "house"
COLOUR_SEEDS = 2
SEED = 1000
"""Seeds of the protocol count from here."""


@dataclass(frozen=True)
class Exam:
    """What every checkpoint is asked."""

    captions: tuple[Job, ...]
    """Captions of real pictures: of those held out first, then of training pictures."""
    sources: tuple[int, ...]
    """For each of them, the picture whose caption it is, counted through the training pictures and on through
    those held out."""
    colours: tuple[Job, ...]
    """Colour by colour, each with every seed."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All of it."""
        return self.captions + self.colours


@dataclass(frozen=True)
class Reference:
    """What checkpoints are compared with."""

    train: list[Picture]
    held_out: list[Picture]
    base: list[Picture]
    """The base's pictures of the exam."""
    real: Features
    """Of training and held-out pictures, one after the other."""
    told: Features
    """Of the base's pictures of the captions."""
    cells: dict[str, NDArray[np.float64]]
    """The base's errors: held_out, wrong, train."""
    detector: Detector | None


def exam(recipe: Recipe, pictures: Pictures) -> Exam:
    """The prompts and seeds of a dataset's exam; they follow from its captions alone."""
    real = (*pictures.train, *pictures.held_out)
    order = [*range(len(pictures.train), len(real)), *range(len(pictures.train))]
    sources = tuple(order[place % len(order)] for place in range(recipe.validation.paintings))
    captions = tuple(Job(literal(real[source].captions[0]), SEED + place) for place, source in enumerate(sources))
    triggers = [literal(one) for one in recipe.dataset.triggers] or [""]
    colours = tuple(
        Job(f"{trigger}, a {colour} {OBJECT}" if trigger else f"a {colour} {OBJECT}", SEED + 100 + seed)
        for colour in COLOURS
        for seed in range(COLOUR_SEEDS)
        for trigger in (triggers[seed % len(triggers)],)
    )
    return Exam(captions, sources, colours)


def evaluate(
    model: Model, recipe: Recipe, pictures: Pictures, cached: Cached, run: Run
) -> Iterator[Progress | Results]:
    """Measure the base and every checkpoint of a run; yields progress, and last the results, which are also written.

    The model must carry no adapter. Files go to `samples/exam/` and `evaluation.json` of the run.

    Raises:
        RunError: the run has no checkpoint.
    """
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise RunError("this run has no checkpoint yet", where=run.path.name, fix="train it first")
    asked = exam(recipe, pictures)
    how = painting.sampling(recipe, model)
    total = (1 + len(checkpoints)) * len(asked.jobs)
    done = 0

    def painted(
        name: str, adapters: Switch | None = None, words: Sequence[Embedding] = ()
    ) -> Iterator[Progress | list[Picture]]:
        nonlocal done
        images: list[Picture] = []
        for event in generate(model, asked.jobs, how, batch=8, embeddings=words, adapters=adapters):
            if isinstance(event, Painted):
                write_bytes(_folder(run, name) / f"{len(images):02d}.png", _png(event.image))
                images.append(np.asarray(event.image))
                done += 1
                yield Progress("judging", done, total)
        yield images

    base_images: list[Picture] = []
    for event in painted("base"):
        if isinstance(event, Progress):
            yield event
        else:
            base_images = event
    reference = _reference(model, recipe, pictures, cached, asked, base_images)
    _keep_real(run, "real", reference.held_out)
    _keep_real(run, "train", reference.train)
    measured = []
    for checkpoint in checkpoints:
        adapter = painting.read_adapter(model, checkpoint.adapter)
        used, words = [Applied(adapter.layers, 1.0, 1.0)], words_of(adapter)
        with model.knowing(words), painting.merged(model, used, apart=how.apart) as adapters:
            losses = _cells(model, recipe, cached, anew=bool(words) or changes_text(adapter.layers))
            images = []
            for event in painted(checkpoint.path.name, adapters, words):
                if isinstance(event, Progress):
                    yield event
                else:
                    images = event
        measured.append(_measure(model, recipe, checkpoint, asked, reference, losses, images))
    results = Results(
        base=BaseResult(model.name, tuple(_samples(asked, "base"))),
        checkpoints=tuple(measured),
        held_out=tuple(
            Sample(f"samples/exam/real/{n:02d}.png", one.captions[0]) for n, one in enumerate(pictures.held_out)
        ),
        training_count=len(pictures.train),
        colour_spread=colour_spread(reference.train, base_images) if len(reference.train) > 1 else None,
        settings=_settings(model, recipe, pictures),
        not_measured={} if pictures.held_out else {"held_out": "no picture was held out"},
    )
    write_text(run.path / "evaluation.json", to_json(results))
    yield results


def _reference(
    model: Model, recipe: Recipe, pictures: Pictures, cached: Cached, asked: Exam, base_images: list[Picture]
) -> Reference:
    train = [_real(one) for one in pictures.train]
    held_out = [_real(one) for one in pictures.held_out]
    detector = calibrate(train, held_out=held_out) if len(train) > 1 else None
    told = base_images[: len(asked.captions)]
    real = describe([*train, *held_out])
    return Reference(train, held_out, base_images, real, describe(told), _cells(model, recipe, cached), detector)


def _real(one: prepared_pictures.Prepared) -> Picture:
    return np.asarray(prepared_pictures.load(one)[0], dtype=np.uint8)


def _cells(model: Model, recipe: Recipe, cached: Cached, *, anew: bool = False) -> dict[str, NDArray[np.float64]]:
    """Errors on held-out pictures with the right and with a wrong caption, and on as many training pictures.

    Args:
        anew: the text encoders have changed since the captions were encoded.
    """
    strata = recipe.validation.strata
    held_out: Sequence[Encoded] = cached.held_out[: recipe.validation.pictures]
    train: Sequence[Encoded] = cached.train[: max(1, len(held_out))]
    if anew:
        held_out, train = retold(model, held_out), retold(model, train)
    return {
        "held_out": cells(model, held_out, strata=strata),
        "wrong": cells(model, _exchanged(held_out), strata=strata),
        "train": cells(model, train, strata=strata),
    }


def _exchanged(held_out: Sequence[Encoded]) -> list[Encoded]:
    """Each picture with the caption of the next one that is told differently; none where all are told alike."""
    exchanged = []
    for place, sample in enumerate(held_out):
        others = [*held_out[place + 1 :], *held_out[:place]]
        other = next((one for one in others if one.prepared.captions[0] != sample.prepared.captions[0]), None)
        if other is not None:
            exchanged.append(replace(sample, texts=other.texts))
    return exchanged


def _measure(
    model: Model,
    recipe: Recipe,
    checkpoint: CheckpointFolder,
    asked: Exam,
    reference: Reference,
    losses: dict[str, NDArray[np.float64]],
    images: list[Picture],
) -> CheckpointResult:
    # a shift that grows with the picture is the square's: the pictures of one training have about as many tokens
    side = (recipe.dataset.resolution or model.resolution) // model.latent_factor
    strata = model.objective_for(side, side).strata(recipe.validation.strata)
    log_snr = model.objective.snr(strata).log().tolist()
    base, count = reference.base, len(asked.captions)
    missing: dict[str, str] = {}
    held_out = training = reliance = None
    if len(losses["held_out"]):
        held_out = held_out_loss(losses["held_out"], reference.cells["held_out"], log_snr=log_snr)
        training = held_out_loss(losses["train"], reference.cells["train"], log_snr=log_snr)
    else:
        missing["held_out"] = missing["training"] = "no picture was held out"
    if len(losses["held_out"]) and len(losses["wrong"]) == len(losses["held_out"]):
        reliance = text_reliance(
            losses["held_out"], losses["wrong"], reference.cells["held_out"], reference.cells["wrong"]
        )
    else:
        missing["reliance"] = "the held-out pictures have no captions that differ"
    style = None
    if len(reference.train) + len(reference.held_out) > 1:
        style = score_features(
            reference.real,
            asked.sources,
            reference.told,
            describe(images[:count]),
            held_out=len(reference.held_out),
        )
    else:
        missing["style"] = "one picture does not show what a style varies"
    found = reference.detector.nearest(images[:count]) if reference.detector else []
    base_found = reference.detector.nearest(base[:count]) if reference.detector else []
    samples = [
        Sample(
            sample.path,
            sample.caption,
            sample.seed,
            nearest=f"samples/exam/train/{found[place].index:02d}.png" if place < len(found) else None,
            likeness=max(found[place].similarity.values()) if place < len(found) else None,
            copied=found[place].flagged if place < len(found) else False,
        )
        for place, sample in enumerate(_samples(asked, checkpoint.path.name))
    ]
    return CheckpointResult(
        step=checkpoint.step,
        path=f"checkpoints/{checkpoint.path.name}",
        held_out=held_out,
        training=training,
        style=style,
        reliance=reliance,
        separability=separability(_rows(images[count:]), _rows(base[count:]), names=COLOURS),
        diversity=diversity(_rows(images[count:]), _rows(base[count:])),
        copies=_copies(found, base_found, asked.sources, reference, images),
        overbake=overbake(reference.train, base[:count], images[:count]) if len(reference.train) > 1 else None,
        broken=sum(bool(image.std() < 2) for image in images),
        samples=tuple(samples),
        not_measured=missing,
    )


def _copies(
    found: list[Nearest], base: list[Nearest], sources: Sequence[int], reference: Reference, images: list[Picture]
) -> CopyCheck | None:
    """Paintings of training captions provoke copies; those of held-out captions show what comes unasked, and how
    like its own picture a caption makes what nobody trained on."""
    if not found or reference.detector is None:
        return None
    trained_on = len(reference.train)
    provoked = [place for place, source in enumerate(sources) if source < trained_on]
    plain = [place for place in range(len(sources)) if place not in provoked]
    # One painting of each: the seeds of one caption are no independent evidence.
    unseen = min(len(reference.held_out), len(plain))
    return copy_check(
        [found[place] for place in plain],
        base=[base[place] for place in provoked or plain],
        provoked=[found[place] for place in provoked],
        by_caption=reference.detector.by_caption(images[:unseen], reference.held_out[:unseen]),
    )


def _rows(images: list[Picture]) -> list[list[Picture]]:
    return [images[start : start + COLOUR_SEEDS] for start in range(0, len(images), COLOUR_SEEDS)]


def _samples(asked: Exam, name: str) -> list[Sample]:
    return [
        Sample(f"samples/exam/{name}/{place:02d}.png", job.prompt, job.seed) for place, job in enumerate(asked.captions)
    ]


def _settings(model: Model, recipe: Recipe, pictures: Pictures) -> dict[str, str]:
    told, adapter, how = recipe.train, recipe.adapter, recipe.samples
    negative = "" if how.negative_strength == 1 else f", negative strength {how.negative_strength:g}"
    return {
        "Base": f"{model.name} ({model.hash[:10]})",
        "Pictures": f"{len(pictures.train)} trained on, {len(pictures.held_out)} held out",
        "Trigger": ", ".join(recipe.dataset.triggers) or "none",
        "Adapter": f"LoRA, rank {adapter.rank}, alpha {adapter.alpha:g}, {', '.join(adapter.targets)}",
        "Training": f"{told.steps} steps of {told.batch}, learning rate {told.learning_rate:g}, {told.schedule}",
        "Seed": str(told.seed),
        "Judged with": f"{how.sampler}, {how.sampling_steps} steps, CFG {how.cfg_scale:g}{negative}",
        "Dataset fingerprint": pictures.fingerprint[:16],
    }


def _folder(run: Run, name: str) -> Path:
    return make_folder(run.path / "samples" / "exam" / name)


def _keep_real(run: Run, name: str, images: list[Picture]) -> None:
    for place, image in enumerate(images):
        write_bytes(_folder(run, name) / f"{place:02d}.png", _png(Image.fromarray(image)))


def _png(image: Image.Image) -> bytes:
    import io

    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
