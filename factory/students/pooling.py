"""What a static student computes, by numpy alone: means of token vectors, and weights of tokens and pairs of neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


BLOCK = 64
"""Texts whose token vectors are gathered at once: more would leave the processor's cache, which takes twice the time."""


def pool(table: NDArray[Any], ids: Sequence[Sequence[int]], max_length: int) -> NDArray[np.float32]:
    """The mean of each text's token vectors, scaled to length 1.

    Args:
        table: [vocabulary, d], any float type.
        ids: Token ids of each text; only the first `max_length` count.
        max_length: Tokens.

    Returns:
        float32 [n, d]; a row of zeros for a text without tokens.
    """
    out = np.zeros((len(ids), table.shape[1]), np.float32)
    known = [row for row in range(len(ids)) if len(ids[row])]
    for start in range(0, len(known), BLOCK):
        rows = known[start : start + BLOCK]
        tokens = [ids[row][:max_length] for row in rows]
        starts = np.cumsum([0, *map(len, tokens[:-1])])
        flat = np.concatenate([np.asarray(some, np.int64) for some in tokens])
        sums = np.add.reduceat(table[flat].astype(np.float32, copy=False), starts, axis=0)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        out[rows] = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return out


def gram_slots(
    ids: Sequence[Sequence[int]], vocabulary: int, pairs: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every token and every pair of neighbours of each text, as a slot.

    Args:
        ids: Token ids of each text.
        vocabulary: Slots of the tokens themselves.
        pairs: Slots that pairs are hashed into, after those.

    Returns:
        Slots int64 [total], text after text, and how many each text has, int64 [n].
    """
    lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
    if lengths.sum() == 0:
        return np.zeros(0, np.int64), np.zeros(len(ids), np.int64)
    flat = np.concatenate([np.asarray(row, np.int64) for row in ids])
    owner = np.repeat(np.arange(len(ids)), lengths)
    inside = owner[1:] == owner[:-1]
    joined = ((flat[:-1] * 1_000_003) ^ (flat[1:] * 8_191)) % pairs + vocabulary
    slots = np.concatenate([flat, joined[inside]])
    owners = np.concatenate([owner, owner[1:][inside]])
    order = np.argsort(owners, kind="stable")
    return slots[order], np.bincount(owners, minlength=len(ids)).astype(np.int64)


def static_logits(
    arrays: Mapping[str, NDArray[Any]], ids: Sequence[Sequence[int]], max_length: int
) -> NDArray[np.float32]:
    """The logits of a static student.

    Args:
        arrays: `embeddings` [v, d], `weight` [k, d], `bias` [k], `grams` [v + pairs, k], `idf` [v + pairs].
        ids: Token ids of each text.
        max_length: Tokens of a text that count.

    Returns:
        float32 [n, k].
    """
    return static_answers(arrays, ids, max_length)[0]


def static_answers(
    arrays: Mapping[str, NDArray[Any]], ids: Sequence[Sequence[int]], max_length: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The logits of a static student, float32 [n, k], and the unit vectors behind them, float32 [n, d]; as `static_logits`."""
    ids = [row[:max_length] for row in ids]
    table = arrays["embeddings"]
    vectors = pool(table, ids, max_length)
    logits: NDArray[np.float32] = vectors @ arrays["weight"].T + arrays["bias"]
    return logits + gram_logits(arrays["grams"], arrays["idf"], ids, len(table)), vectors


def gram_logits(
    grams: NDArray[np.float32], idf: NDArray[np.float32], ids: Sequence[Sequence[int]], vocabulary: int
) -> NDArray[np.float32]:
    """What tokens and pairs add to the logits: sum of idf * grams over a text's slots, over the root of the sum of idf^2.

    Args:
        grams: [v + pairs, k]; idf: [v + pairs].
        ids: Token ids of each text.
        vocabulary: v.

    Returns:
        float32 [n, k].
    """
    out = np.zeros((len(ids), grams.shape[1]), np.float32)
    slots, lengths = gram_slots(ids, vocabulary, len(idf) - vocabulary)
    rows = np.flatnonzero(lengths)
    if len(rows):
        starts = np.concatenate([[0], np.cumsum(lengths[rows])[:-1]])
        values = idf[slots]
        norms = np.sqrt(np.add.reduceat(values.astype(np.float64) ** 2, starts))
        sums = np.add.reduceat(grams[slots] * values[:, None], starts, axis=0)
        out[rows] = sums / np.maximum(norms, 1e-12)[:, None].astype(np.float32)
    return out
