"""Writing layer by layer: the same bytes as in memory, in little memory; and what a round trip is measured by."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from velatura.adapters import formats, writing
from velatura.adapters.formats import Form
from velatura.adapters.weights import AdapterFile, Change, Lora
from velatura.api import loras
from velatura.errors import AdapterError
from velatura.families.names import keys, layers

SD15, LAYERS = keys("sd15"), layers("sd15")
Q = "denoiser.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def _adapter(rank: int = 4, *, names: int = 8) -> AdapterFile:
    draw = np.random.default_rng(0)
    changes: dict[str, Change] = {}
    for name in [one for one in LAYERS if one.startswith("denoiser.") and ".attn" in one][:names]:
        out, inputs = LAYERS[name]
        changes[name] = Lora(
            draw.standard_normal((rank, inputs), dtype=np.float32),
            draw.standard_normal((out, rank), dtype=np.float32),
            rank / 2,
        )
    vectors = draw.standard_normal((2, 768), dtype=np.float32)
    return AdapterFile(changes, {"ss_seed": "1"}, {"mara": {"string_to_param": vectors}})


@pytest.mark.parametrize("form", formats.FORMS)
def test_a_file_is_written_with_the_bytes_that_are_made_in_memory(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    writing.write(path, _adapter(), keys=SD15, form=form, layers=LAYERS)
    assert path.read_bytes() == writing.to_bytes(_adapter(), keys=SD15, form=form, layers=LAYERS)


def test_what_is_read_lazily_is_what_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    writing.write(path, _adapter(), keys=SD15)
    held, unread = (formats.read(path, keys=SD15, layers=LAYERS, lazily=lazily) for lazily in (False, True))
    assert list(held.layers) == list(unread.layers)
    for name, change in held.layers.items():
        assert np.array_equal(change.delta(), unread.layers[name].delta())


def test_converting_and_verifying_take_a_fraction_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    writing.write(path, _adapter(64, names=128), keys=SD15, precision="F16")
    size = path.stat().st_size
    for work in (
        lambda: loras.convert_lora(path, tmp_path / "b.safetensors", "diffusers"),
        lambda: loras.verify_lora(path, ""),
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size / 2, (peak, size)
    assert (tmp_path / "b.safetensors").stat().st_size > 0.9 * size


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    adapter = _adapter()
    lora = adapter.layers[Q]
    assert isinstance(lora, Lora)
    lora.up[0, 0] = 70000
    with pytest.raises(AdapterError, match="too large"):
        writing.write(tmp_path / "a.safetensors", adapter, keys=SD15, form="kohya", layers=LAYERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["up", "bias", "missing"])
def test_a_round_trip_that_changes_something_is_measured(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, taken = tmp_path / "a.safetensors", writing.draft
    writing.write(path, _adapter(), keys=SD15, precision="F32")
    assert loras.verify_lora(path, "").differences == pytest.approx(dict.fromkeys(formats.FORMS, 0.0), abs=1e-6)

    def altered(adapter: AdapterFile, **told: object) -> writing.Draft:
        changes = dict(adapter.layers)
        lora = changes.pop(Q)
        assert isinstance(lora, Lora)
        if what == "up":
            changes[Q] = Lora(lora.down, lora.up * np.float32(1.001), lora.alpha)
        if what == "bias":
            changes[Q] = Lora(lora.down, lora.up, lora.alpha, None, np.ones(len(lora.up), np.float32))
        return taken(AdapterFile(changes), **told)  # type: ignore[arg-type]

    monkeypatch.setattr(writing, "draft", altered)
    assert min(loras.verify_lora(path, "").differences.values()) > 100 * loras.ROUND_TRIP * 0.99
