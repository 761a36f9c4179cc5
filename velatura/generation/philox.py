"""The numbers of an NVIDIA card's generator, computed anywhere: what A1111 calls the RNG source "NV".

The card draws normal numbers with Philox-4x32-10 and Box and Muller's transform. A number depends on the seed, on how
often was drawn before, and on its place, so each can be computed alone. A1111 takes the sine branch of the transform,
and computes it in float64 from constants of float32; so does this. The card's own numbers are these for tensors of up
to about a hundred thousand elements; for larger ones each model of card has its own.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 5.2.
"""

from __future__ import annotations

import math

import numpy as np

ROUNDS = 10
FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
WORD = 2**32
ONE = float(np.float32(2.3283064e-10))
"""What one step of a 32-bit number is of 1."""
TURN = float(np.float32(2.3283064e-10 * 6.2831855))
"""What it is of a full turn."""


def normals(seed: int, draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers of unit variance, float32.

    Args:
        seed: 0 to 2**64 - 1.
        draw: how often was drawn with this seed before.
        shape: of the array.
    """
    count = math.prod(shape)
    words = (
        np.full(count, draw, np.uint64),
        np.zeros(count, np.uint64),
        np.arange(count, dtype=np.uint64),
        np.zeros(count, np.uint64),
    )
    key = seed % WORD, seed // WORD
    for _ in range(ROUNDS):
        words = _mixed(words, key)
        key = (key[0] + KEY_STEPS[0]) % WORD, (key[1] + KEY_STEPS[1]) % WORD
    uniform = words[0] * ONE + ONE / 2
    angle = words[1] * TURN + TURN / 2
    drawn = np.sqrt(-2.0 * np.log(uniform)) * np.sin(angle)
    single: np.ndarray = drawn.astype(np.float32)
    return single.reshape(shape)


Words = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _mixed(words: Words, key: tuple[int, int]) -> Words:
    """One round: two products of 64 bits, their halves exchanged and mixed with the key."""
    first, second = words[0] * FACTORS[0], words[2] * FACTORS[1]
    half, low = np.uint64(32), np.uint64(WORD - 1)
    return (
        (second >> half) ^ words[1] ^ np.uint64(key[0]),
        second & low,
        (first >> half) ^ words[3] ^ np.uint64(key[1]),
        first & low,
    )
