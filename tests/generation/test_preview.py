"""Pictures as they look so far: what the factors show is what the autoencoder decodes, small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.paintings import clouds
from velatura import settings
from velatura.family import Model, load_base
from velatura.generation import preview
from velatura.generation.generate import Painted, Unfinished, generate
from velatura.generation.preview import KNOWN, fit, small_pictures
from velatura.generation.sampling import Job, Sampling
from velatura.pocket import renderings
from velatura.pocket.compose import compose


@pytest.fixture(scope="module")
def pocket() -> Model:
    torch.set_num_threads(1)
    return load_base(settings.BUILT_IN_BASES["pocket"])


def test_the_pocket_base_s_factors_are_those_that_fit_its_autoencoder(pocket: Model) -> None:
    """They were fitted on scenes 0 to 479; scenes that were not among them are told as well."""
    hands = (renderings.render_flat, renderings.render_soft, renderings.render_glossy, renderings.render_clay)
    scenes = [hands[seed % 4](compose(seed)) for seed in range(1000, 1040)]
    kept = KNOWN[pocket.latent_channels, pocket.latent_scale]
    found, explained = fit(pocket, scenes)
    assert explained > 0.97
    assert np.abs(np.array(found.rows) - np.array(kept.rows)).max() < 0.1


def test_what_is_shown_is_the_picture_at_an_eighth_of_its_size(pocket: Model) -> None:
    scene = renderings.render_soft(compose(1005))
    pixels = torch.from_numpy(np.array(scene)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = pocket.family.encode_images(pocket, pixels)
    (shown,) = small_pictures(pocket, latents)
    assert shown.size == (16, 16)
    small = np.asarray(scene.resize((16, 16), 4), np.float32)
    off = np.abs(np.asarray(shown, np.float32) - small).mean()
    (other,) = small_pictures(pocket, latents.flip(-1))
    assert off < 8 < np.abs(np.asarray(other, np.float32) - small).mean()


def test_an_unknown_autoencoder_s_pictures_are_decoded_in_full(model: Model) -> None:
    assert (model.latent_channels, model.latent_scale) not in KNOWN
    latents = torch.zeros(2, 4, 4, 6)
    assert [image.size for image in small_pictures(model, latents)] == [(48, 32), (48, 32)]


def test_every_so_many_steps_the_batch_is_shown_and_nothing_else_changes(model: Model) -> None:
    jobs = [Job("a boat", 1), Job("a house", 2), Job("a cat", 3)]
    sampling = Sampling(64, 64, 5, 1.0, "Euler", "Uniform")
    events = list(generate(model, jobs, sampling, batch=2, shown_every=2))
    assert [len(event.images) for event in events if isinstance(event, Unfinished)] == [2, 2, 1, 1]
    plain = list(generate(model, jobs, sampling, batch=2))
    assert not [event for event in plain if isinstance(event, Unfinished)]
    pictures = [[one.image.tobytes() for one in told if isinstance(one, Painted)] for told in (events, plain)]
    assert pictures[0] == pictures[1]


def test_what_is_no_number_is_shown_as_grey_and_not_as_an_error(pocket: Model) -> None:
    (shown,) = small_pictures(pocket, torch.full((1, 16, 2, 2), float("nan")))
    assert np.asarray(shown).tolist() == [[[128, 128, 128]] * 2] * 2
    assert preview.FLUX1.bias != (0.0, 0.0, 0.0)


def test_a_fit_of_few_pictures_tells_how_much_it_explains(pocket: Model) -> None:
    _, explained = fit(pocket, [clouds(seed, (64, 64)) for seed in range(3)])
    assert 0 < explained < 1
