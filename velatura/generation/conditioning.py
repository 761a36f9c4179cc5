"""What a batch of pictures is told at each step, and how a base's answers to it become one prediction.

A picture may have several prompts at once (AND), each with texts that change from step to step. Answers to them are
joined as in A1111: with u the answer to the negative prompt, the prompt's is u + sum of weight * (answer - u).

Shape suffixes: B pictures, R rows (all prompts of all pictures), C latent channels, H and W latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from velatura.adapters.switch import Switch
from velatura.diffusion.guidance import classifier_free, composed, rescaled
from velatura.family import Conditioning, Control, Geometry, Model, TextConditioning, stack_prompts
from velatura.generation.hints import Shown
from velatura.generation.prompt import Scheduled, scheduled, scheduled_negative
from velatura.generation.prompt.schedule import text_at


@dataclass(frozen=True)
class Prompts:
    """What one picture is painted with, through the steps of a pass."""

    positive: tuple[Scheduled, ...]
    negative: Scheduled | None
    """None: guidance does without."""

    @property
    def texts(self) -> list[str]:
        """Every text that is told at some step."""
        told = (*self.positive, *([self.negative] if self.negative else ()))
        return [until.text for one in told for until in one.texts]


def read_prompts(
    prompt: str,
    negative_prompt: str,
    *,
    steps: int,
    cfg_scale: float,
    first_pass: int | None = None,
    always_negative: bool = False,
) -> Prompts:
    """A picture's prompts as they are painted with.

    Args:
        steps: of the pass.
        first_pass: steps of the pass before, where this is the second.
        always_negative: the sampler asks for the answer to the negative prompt, whatever the scale.

    Raises:
        PromptError: a prompt has no meaning.
    """
    positive = scheduled(prompt, steps, first_pass=first_pass)
    alone = not always_negative and cfg_scale == 1 and [one.weight for one in positive] == [1.0]
    return Prompts(positive, None if alone else scheduled_negative(negative_prompt, steps, first_pass=first_pass))


@dataclass(frozen=True)
class Without:
    """When guidance is left out, and the prompt's answer stands alone: A1111's "skip early CFG" and "NGMS"."""

    early: float = 0.0
    """As long as the denoiser was asked no more often than this before; 0: never."""
    below: float = 0.0
    """Below this noise level, every other time."""
    every: bool = False
    """Every time, there."""

    def at(self, sigma: float, asked: int) -> bool:
        """Whether it is left out at this noise level, the denoiser having been asked so often."""
        if self.early and asked <= self.early:
            return True
        return sigma < self.below and (self.every or asked % 2 == 1)


class Guided:
    """A base's prediction for a batch, guided by its prompts.

    Texts of different length go through the denoiser apart, as in A1111: filled up to one length, a
    picture would depend on the prompts beside it.
    """

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Prompts],
        texts: Sequence[Mapping[str, TextConditioning]],
        *,
        width: int,
        height: int,
        cfg_scales: Sequence[float],
        guidance: float,
        adapters: Switch | None = None,
        negative_strength: float = 1.0,
        strengths: Sequence[Sequence[tuple[str, float]]] = (),
        without: Without | None = None,
        rescale: float = 0.0,
        extra_BCHW: Tensor | None = None,
        controls: Sequence[Shown] = (),
        steps: int = 0,
    ) -> None:
        """Nothing is asked yet.

        Args:
            model: the base.
            prompts: of each picture.
            texts: encoded, for each picture all that its prompts say.
            width: in pixels, as is `height`.
            height: see `width`.
            cfg_scales: of the guidance, for each picture; all of them 1, or none.
            guidance: told to bases into which it is distilled.
            adapters: those in use.
            negative_strength: what their strength is multiplied by for negative prompts.
            strengths: for each picture, adapters by name and what their strength is multiplied by; none: all by 1.
            without: when there is no guidance.
            rescale: how far guidance's contrast is brought back to the prompt's own.
            extra_BCHW: what an inpainting base is told beside the latents.
            controls: ControlNets and their hints.
            steps: of the pass.

        Raises:
            SettingsError: a ControlNet would be at work in none of the steps.
        """
        self._model, self._texts, self._adapters = model, texts, adapters
        self._size = torch.tensor([[height, width]], dtype=torch.float32)
        self._guidance, self._rescale, self._extra_BCHW = guidance, rescale, extra_BCHW
        self._controls, self._steps = [(one, one.hint(model, width, height)) for one in controls], steps
        for one in controls:
            one.check(steps)
        same = len(set(cfg_scales)) == 1
        self._cfg_scale: float | Tensor = cfg_scales[0] if same else torch.tensor(cfg_scales, dtype=torch.float32)
        self._plain = same and cfg_scales[0] == 1
        self._without, self._asked = without or Without(), 0
        self._scheduled: list[tuple[Scheduled, bool]] = []
        """Row -> what it is told, and whether that is a negative prompt."""
        self._owners: list[int] = []
        """Row -> its picture."""
        self._positive: list[list[int]] = []
        """Picture -> rows of its prompts."""
        self._negative: dict[int, int] = {}
        """Picture -> row of its negative prompt, where it has one."""
        for picture, told in enumerate(prompts):
            self._positive.append([self._row(picture, one) for one in told.positive])
        for picture, told in enumerate(prompts):
            if told.negative is not None:
                self._negative[picture] = self._row(picture, told.negative, negative=True)
        sides = torch.tensor([negative_strength if negative else 1.0 for _, negative in self._scheduled])
        self._side_R = sides if negative_strength != 1 else None
        """Row -> what every adapter's strength is multiplied by there, for its side of guidance."""
        own = [dict(told) for told in strengths]
        named = {name for told in own for name in told}
        self._shares = {
            name: torch.tensor([own[picture].get(name, 1.0) for picture in self._owners]) * sides for name in named
        }
        """Adapter -> what its strength is multiplied by in each row, where pictures differ in it."""
        self._now: list[str] = []
        self._rows: list[int] = []
        self._groups: list[tuple[list[int], Conditioning]] = []

    def __call__(self, x_BCHW: Tensor, sigma: float, step: int) -> tuple[Tensor, Tensor | None]:
        """The prediction at a step, counted from 0, (B, C, H, W), and the one for the negative prompts alone.

        None in its place where they were not asked for.
        """
        alone = self._without.at(sigma, self._asked)
        self._asked += 1
        answers_RCHW = self._answers(x_BCHW, sigma, step, alone=alone)
        pictures = range(len(x_BCHW))
        positive_BCHW = torch.stack([self._joined(picture, answers_RCHW) for picture in pictures])
        if alone or len(self._negative) < len(pictures):
            return positive_BCHW, None
        negative_BCHW = answers_RCHW[[self._negative[picture] for picture in pictures]]
        if self._plain:
            return positive_BCHW, negative_BCHW
        guided_BCHW = classifier_free(positive_BCHW, negative_BCHW, self._cfg_scale)
        if self._rescale:
            guided_BCHW = rescaled(guided_BCHW, positive_BCHW, self._rescale)
        return guided_BCHW, negative_BCHW

    def _row(self, picture: int, told: Scheduled, *, negative: bool = False) -> int:
        self._owners.append(picture)
        self._scheduled.append((told, negative))
        return len(self._owners) - 1

    def _answers(self, x_BCHW: Tensor, sigma: float, step: int, *, alone: bool) -> Tensor:
        found_RCHW = x_BCHW.new_empty((len(self._owners), *x_BCHW.shape[1:]))
        for rows, conditioning in self._told(step, alone=alone):
            sigma_B = torch.full((len(rows),), sigma, dtype=torch.float64)
            noisy = x_BCHW[[self._owners[row] for row in rows]]
            conditioning = replace(conditioning, controls=self._at_work(rows, step))
            with self._strengths(rows):
                found_RCHW[rows] = self._model.family.predict(self._model, noisy, sigma_B, conditioning)
        if alone:
            for picture, row in self._negative.items():
                found_RCHW[row] = found_RCHW[self._positive[picture][0]]
        return found_RCHW

    def _at_work(self, rows: Sequence[int], step: int) -> tuple[Control, ...]:
        """The ControlNets at a step, as much of each as every row is to have."""
        negative_R = torch.tensor([self._scheduled[row][1] for row in rows])
        return tuple(one.control(hint, negative_R) for one, hint in self._controls if one.acts(step, self._steps))

    def _strengths(self, rows: Sequence[int]) -> AbstractContextManager[None]:
        """Adapters as strong as each row is to have them."""
        if self._adapters is None or (self._side_R is None and not self._shares):
            return nullcontext()
        every = None if self._side_R is None else self._side_R[list(rows)]
        return self._adapters.shared(every, {name: share_R[list(rows)] for name, share_R in self._shares.items()})

    def _joined(self, picture: int, answers_RCHW: Tensor) -> Tensor:
        """The answer to a picture's prompts."""
        rows = self._positive[picture]
        weights = [self._scheduled[row][0].weight for row in rows]
        if weights == [1.0]:
            return answers_RCHW[rows[0]]
        return composed(answers_RCHW[rows], answers_RCHW[self._negative[picture]], weights)

    def _told(self, step: int, *, alone: bool) -> list[tuple[list[int], Conditioning]]:
        """What goes through the denoiser together: texts of one length. Made anew where a text changes."""
        now = [text_at(told.texts, step) for told, _ in self._scheduled]
        asked = [row for row, (_, negative) in enumerate(self._scheduled) if not (alone and negative)]
        if now != self._now or asked != self._rows:
            encoded = {row: self._encoded(row, now[row]) for row in asked}
            places: dict[int, list[int]] = {}
            for row, text in encoded.items():
                places.setdefault(text.tokens_BLD.shape[1], []).append(row)
            self._groups = [(rows, self._conditioning(rows, encoded)) for rows in places.values()]
            self._now, self._rows = now, asked
        return self._groups

    def _encoded(self, row: int, text: str) -> TextConditioning:
        told, negative = self._scheduled[row]
        empty = negative and not any(until.text.strip() for until in told.texts)
        encoded = self._texts[self._owners[row]][text]
        return encoded.zeroed() if empty and self._model.empty_negative_is_zero else encoded

    def _conditioning(self, rows: Sequence[int], encoded: Mapping[int, TextConditioning]) -> Conditioning:
        texts = [encoded[row] for row in rows]
        whole = self._size.expand(len(texts), 2)
        geometry = Geometry(whole, torch.zeros_like(whole), whole)
        told = self._model.conditioned(stack_prompts(texts, texts[0]), geometry=geometry, guidance=self._guidance)
        if self._extra_BCHW is None:
            return told
        return replace(told, extra_latents_BCHW=self._extra_BCHW[[self._owners[row] for row in rows]])
