"""The oracle's pictures and questions; not its training, which takes minutes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import SIDE, TRAINING_PICTURES, Oracle, load_oracle, read_array, soften
from oracle_pictures import HANDS, SHARD, TEST_SEED, TRAINING_SEED, UNASKED, answers_of, hand_of
from pocket import PROMPT_SEED, draw_prompts, psnr
from questions import COLOURS, KINDS, verdict

from velatura.errors import SettingsError
from velatura.pocket import shards
from velatura.pocket.compose import held_out
from velatura.pocket.renderings import EVERYDAY
from velatura.pocket.scene import Facts, Thing
from velatura.pocket.styles.examples import FIRST_SEED


def test_every_rendering_and_every_style_is_drawn_alike_often() -> None:
    drawn = Counter(hand_of(number) for number in range(7 * 36))

    assert set(drawn) == set(HANDS)
    assert {drawn[hand] for hand in EVERYDAY} == {24}
    assert {drawn[hand] for hand in HANDS if hand not in EVERYDAY} == {7}


def test_the_oracle_never_sees_the_scenes_of_its_test_of_the_prompts_of_the_demo_or_of_the_base() -> None:
    starts = sorted([TRAINING_SEED, TEST_SEED, PROMPT_SEED, FIRST_SEED, shards.SEED])

    assert starts[0] == TRAINING_SEED
    assert starts[1] > TRAINING_SEED + TRAINING_PICTURES + SHARD


def test_colours_are_not_asked_of_a_pencil_drawing() -> None:
    facts = Facts((Thing("cat", "red", count=3),), "table", background="blue")

    answers = answers_of([facts, facts], ["flat", "pencil"])

    cat = KINDS.index("cat")
    assert answers.shown[:, cat].all() and answers.shown.sum() == 2
    assert answers.colours[0, cat] == COLOURS.index("red")
    assert answers.colours[1, cat] == UNASKED
    assert answers.backgrounds.tolist() == [COLOURS.index("blue"), UNASKED]
    assert answers.counts.tolist() == [2, 2]
    assert answers.times.tolist() == [UNASKED, UNASKED]


def test_a_count_is_not_asked_of_two_different_things() -> None:
    facts = Facts((Thing("cat", "red", side="left"), Thing("mug", "blue", side="right")), "table", background="green")

    assert answers_of([facts], ["flat"]).counts.tolist() == [UNASKED]


def test_every_answer_answers_every_question() -> None:
    torch.manual_seed(0)
    pictures = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)

    answers = read_array(Oracle().eval(), pictures)

    facts = Facts((Thing("boat", "red"),), "sea", "night")
    assert len(answers) == 2
    assert all(answer.kinds and set(verdict(facts, answer)) >= {"object", "time"} for answer in answers)


def test_softening_depends_on_the_step_alone_and_keeps_the_range() -> None:
    pictures = torch.rand((3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)) * 2 - 1

    softened = soften(pictures, 5)

    assert torch.equal(softened, soften(pictures, 5))
    assert not torch.equal(softened, soften(pictures, 6))
    assert softened.shape == pictures.shape and softened.abs().max() <= 1


def test_a_missing_oracle_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--train"):
        load_oracle(tmp_path)


def test_the_asked_share_of_prompts_is_unseen() -> None:
    scenes = draw_prompts(20, unseen=0.25)

    unseen = [any(held_out(scene.facts, thing) for thing in scene.facts.things) for scene in scenes]
    assert sum(unseen) == 5


def test_psnr_of_pictures_that_differ_by_one_level_is_48_decibels() -> None:
    black = np.zeros((4, 4, 3), np.uint8)

    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
    assert psnr(black, black) == 100
