"""Textual-inversion files of every kind, what names mean in a prompt, and where their vectors stand in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import Parameter, ParameterDict

from velatura import randomness, tensorfile
from velatura.errors import ModelError, SettingsError, VelaturaError
from velatura.generation.reading import weighted
from velatura.text import clip_tokens
from velatura.text.clip_tokens import CHUNK, Chunk, ClipTokenizer, chunks
from velatura.text.embeddings import find, load, read
from velatura.text.weighted import Embedding, plain

WIDTH, WIDER = 24, 40


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> ClipTokenizer:
    return clip_tokens.load(base / "tokenizer")


def vectors(count: int, width: int = WIDTH, seed: int = 0) -> NDArray[np.float32]:
    drawn: NDArray[np.float32] = randomness.normal((count, width), seed, "vectors").numpy()
    return drawn


def embedding(name: str, count: int = 1, seed: int = 0) -> Embedding:
    return Embedding(name, {WIDTH: vectors(count, seed=seed)}, "0" * 64)


def safetensors(path: Path, **tensors: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tensorfile.to_bytes(tensors))
    return path


def pickled(path: Path, held: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(held, path)
    return path


def a1111(held: Any) -> dict[str, Any]:
    """A1111's own file, all that it writes into it."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": held},
        "name": "ink",
        "step": 500,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("ink.safetensors", lambda path, array: safetensors(path, emb_params=array)),
        ("ink.safetensors", lambda path, array: safetensors(path, **{"<ink>": array})),
        ("ink.pt", lambda path, array: pickled(path, a1111(torch.from_numpy(array)))),
        ("ink.pt", lambda path, array: pickled(path, a1111(Parameter(torch.from_numpy(array))))),
        (
            "ink.pt",
            lambda path, array: pickled(
                path, {"string_to_param": ParameterDict({"*": Parameter(torch.from_numpy(array))})}
            ),
        ),
        ("ink.bin", lambda path, array: pickled(path, {"<ink>": torch.from_numpy(array)})),
        ("ink.PT", lambda path, array: pickled(path, {"emb_params": torch.from_numpy(array)})),
    ],
)
def test_every_kind_of_file_gives_its_vectors(
    tmp_path: Path, name: str, write: Callable[[Path, NDArray[np.float32]], Path]
) -> None:
    path = write(tmp_path / name, vectors(3))
    found = load(path, [WIDTH])
    assert (found.name, len(found)) == ("ink", 3)
    assert np.array_equal(found.vectors[WIDTH], vectors(3))
    assert found.hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_vector_may_stand_without_its_own_axis(tmp_path: Path) -> None:
    found = load(pickled(tmp_path / "ink.bin", {"<ink>": torch.from_numpy(vectors(1)[0])}), [WIDTH])
    assert np.array_equal(found.vectors[WIDTH], vectors(1))


def test_half_precision_is_read_as_the_numbers_it_stands_for(tmp_path: Path) -> None:
    half = torch.from_numpy(vectors(2)).bfloat16()
    found = load(pickled(tmp_path / "ink.pt", a1111(half)), [WIDTH])
    assert np.array_equal(found.vectors[WIDTH], half.float().numpy())


def test_a_file_for_two_encoders_has_vectors_for_each(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "ink.safetensors", clip_g=vectors(2, WIDER), clip_l=vectors(2, WIDTH))
    found = load(path, [WIDTH, WIDER])
    assert {width: array.shape for width, array in found.vectors.items()} == {WIDTH: (2, WIDTH), WIDER: (2, WIDER)}
    assert len(found) == 2


@pytest.mark.parametrize("widths", [[WIDER], [WIDTH, WIDER]])
def test_an_embedding_of_another_base_is_one_sentence(tmp_path: Path, widths: list[int]) -> None:
    path = safetensors(tmp_path / "ink.safetensors", emb_params=vectors(2))
    with pytest.raises(ModelError, match="its vectors have 24 values"):
        load(path, widths)


class Command:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("owned"),))


BROKEN: dict[str, Any] = {
    "nothing": b"",
    "noise": b"no file of this kind",
    "two names": {"a": torch.zeros(2, 24), "b": torch.zeros(2, 24)},
    "three axes": {"a": torch.zeros(2, 3, 24)},
    "no vector": {"a": torch.zeros(0, 24)},
    "no numbers": {"a": torch.full((1, 24), torch.nan)},
    "more than a chunk": {"a": torch.zeros(CHUNK + 1, 24)},
    "unlike counts": {"clip_l": torch.zeros(2, 24), "clip_g": torch.zeros(3, 40)},
    "equal widths": {"clip_l": torch.zeros(2, 24), "clip_g": torch.zeros(2, 24)},
}
BROKEN_PICKLES: dict[str, Any] = {
    "two terms": {"string_to_param": {"*": torch.zeros(2, 24), "+": torch.zeros(2, 24)}},
    "text": {"a": "text"},
    "a list": [1, 2],
}


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_embedding_is_one_sentence(tmp_path: Path, content: Any, ending: str) -> None:
    path = tmp_path / f"ink{ending}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif ending == ".pt":
        pickled(path, content)
    else:
        safetensors(path, **{name: one.numpy() for name, one in content.items()})
    with pytest.raises(VelaturaError):
        read(path)


@pytest.mark.parametrize("content", BROKEN_PICKLES.values(), ids=BROKEN_PICKLES)
def test_a_pickle_of_something_else_is_one_sentence(tmp_path: Path, content: Any) -> None:
    with pytest.raises(ModelError):
        read(pickled(tmp_path / "ink.pt", content))


def test_a_pickle_with_a_command_in_it_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = pickled(tmp_path / "ink.pt", {"string_to_param": {"*": Command()}})
    with pytest.raises(ModelError, match="more than tensors"):
        read(path)
    assert not (tmp_path / "owned").exists()


# --- names -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("ink", "Ink-Wash", "deep/bad_hands-5", "sea")):
        safetensors(tmp_path / f"{name}.safetensors", emb_params=vectors(2, seed=seed))
    pickled(tmp_path / "night.pt", a1111(torch.from_numpy(vectors(1, seed=9))))
    (tmp_path / "readme.txt").write_text("ink", encoding="utf-8")
    return tmp_path


def names(tokenizer: ClipTokenizer, folder: Path, *texts: str) -> list[str]:
    return [one.name for one in find([weighted(text) for text in texts], tokenizer, [WIDTH], [folder]).embeddings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a boat", []),
        ("a boat, ink", ["ink"]),
        ("a boat in INK, Night", ["ink", "night"]),
        ("(ink:1.3) [night]", ["ink", "night"]),
        ("ink-wash", ["Ink-Wash"]),  # the longest name wins
        ("ink - wash", ["Ink-Wash"]),  # names are compared as tokens
        ("ink-wash ink", ["Ink-Wash", "ink"]),
        ("bad_hands-5", ["bad_hands-5"]),
        ("inky, seal", []),  # the beginning of a word is none
        ("embedding:ink", ["ink"]),
        ("(embedding:ink:1.2), embedding:night.pt", ["ink", "night"]),
        ("embedding:Ink-Wash.safetensors, sea", ["Ink-Wash", "sea"]),
        ("ink BREAK night", ["ink", "night"]),
    ],
)
def test_a_name_in_a_prompt_means_its_file(
    tokenizer: ClipTokenizer, folder: Path, text: str, expected: list[str]
) -> None:
    assert names(tokenizer, folder, text) == expected


def test_several_prompts_name_each_embedding_once(tokenizer: ClipTokenizer, folder: Path) -> None:
    assert names(tokenizer, folder, "ink, sea", "night, ink") == ["ink", "sea", "night"]
    assert names(tokenizer, folder / "nowhere", "ink") == []


@pytest.mark.parametrize("text", ["embedding:inc", "a embedding:boat-ink", "(embedding:inky:1.2)"])
def test_a_name_that_means_no_file_is_refused_where_it_is_asked_for_outright(
    tokenizer: ClipTokenizer, folder: Path, text: str
) -> None:
    with pytest.raises(SettingsError, match="no embedding is named"):
        names(tokenizer, folder, text)


def test_a_name_of_two_files_is_refused_when_it_is_used(tokenizer: ClipTokenizer, folder: Path) -> None:
    pickled(folder / "other" / "INK.pt", a1111(torch.zeros(1, WIDTH)))
    assert names(tokenizer, folder, "sea") == ["sea"]
    with pytest.raises(SettingsError, match="2 embeddings are named ink"):
        names(tokenizer, folder, "a boat, ink")


def test_a_bare_name_of_another_base_s_embedding_stays_a_word_and_is_told(
    tokenizer: ClipTokenizer, folder: Path
) -> None:
    safetensors(folder / "ink-wash-boat.safetensors", emb_params=vectors(1, WIDER))
    found = find([plain("ink-wash-boat, sea")], tokenizer, [WIDTH], [folder])
    assert [one.name for one in found.embeddings] == ["Ink-Wash", "sea"], "the next longest name takes its place"
    assert found.passed_over == (
        "ink-wash-boat.safetensors is read as words: its vectors have 40 values, those of this base 24",
    )
    with pytest.raises(ModelError, match="40 values"):
        find([plain("embedding:ink-wash-boat")], tokenizer, [WIDTH], [folder])


# --- chunks ----------------------------------------------------------------------------------


def places(found: list[Chunk]) -> list[list[tuple[int, str]]]:
    return [[(at, one.name) for at, one in chunk.embeddings] for chunk in found]


def told(text: str, *embeddings: Embedding) -> Any:
    return weighted(text, embeddings)


def test_vectors_take_as_many_places_as_they_are_each_with_the_name_s_weight(tokenizer: ClipTokenizer) -> None:
    (chunk,) = chunks(told("a (ink:1.4) boat", embedding("ink", 3)), tokenizer)
    assert chunk.embeddings[0][0] == 2, "behind the start and one word"
    assert chunk.weights[:6] == (1.0, 1.0, 1.4, 1.4, 1.4, 1.0)
    assert chunk.tokens[5:7] == (*tokenizer.encode("boat"), tokenizer.end)
    assert len(chunk.tokens) == len(chunk.weights) == CHUNK + 2


def test_a_text_that_is_given_no_embeddings_holds_none(tokenizer: ClipTokenizer) -> None:
    (chunk,) = chunks(plain("a ink boat"), tokenizer)
    assert chunk.embeddings == ()
    assert chunk.tokens[2 : 2 + tokenizer.count("ink")] == tuple(tokenizer.encode("ink"))


@pytest.mark.parametrize(
    ("words", "count", "expected"),
    [
        (70, 5, [[(71, "ink")]]),  # just fits
        (70, 6, [[], [(1, "ink")]]),  # stays together
        (75, 1, [[], [(1, "ink")]]),
        (0, CHUNK, [[(1, "ink")]]),
    ],
)
def test_vectors_that_do_not_fit_begin_the_next_chunk(
    tokenizer: ClipTokenizer, words: int, count: int, expected: list[list[tuple[int, str]]]
) -> None:
    found = chunks(told("boat " * words + "ink", embedding("ink", count)), tokenizer)
    assert places(found) == expected
    assert all(len(chunk.tokens) == CHUNK + 2 for chunk in found)
    if len(found) == 2:
        assert found[0].tokens[words + 1] == tokenizer.end


def test_vectors_behind_a_comma_move_with_the_words_there(tokenizer: ClipTokenizer) -> None:
    ink = embedding("ink", 3)
    text = "boat " * 69 + ", sea ink boat boat"
    assert tokenizer.count("sea") == 1
    first, second = chunks(told(text, ink), tokenizer)
    assert places([first, second]) == [[], [(2, "ink")]]
    assert first.tokens[70] == tokenizer.comma
    assert first.tokens[71] == tokenizer.end
    assert second.tokens[5:8] == (*tokenizer.encode("boat boat"), tokenizer.end)
