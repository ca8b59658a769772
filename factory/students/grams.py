"""Tokens and hashed pairs of neighbouring tokens as features: what `static` and `hybrid` read beside a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


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


def learn_idf(ids: Sequence[Sequence[int]], vocabulary: int, pairs: int) -> NDArray[np.float32]:
    """Inverse document frequency of tokens and hashed pairs: float32 [vocabulary + pairs], 0 where nothing may be learned.

    With 200 texts or more, what stands in one text only is left out.
    """
    found = np.zeros(vocabulary + pairs)
    for row in ids:
        slots, _ = gram_slots([row], vocabulary, pairs)
        found[np.unique(slots)] += 1
    floor = 2 if len(ids) >= 200 else 1
    idf = np.log((1 + len(ids)) / (1 + found)) + 1
    return np.where(found >= floor, idf, 0.0).astype(np.float32)


def gram_matrix(ids: Sequence[Sequence[int]], vocabulary: int, idf: NDArray[np.float32]) -> csr_matrix:
    """The weights that `gram_logits` gives to tokens and pairs, as a sparse matrix: float32 [n, len(idf)]."""
    from scipy.sparse import csr_matrix

    slots, lengths = gram_slots(ids, vocabulary, len(idf) - vocabulary)
    rows = np.repeat(np.arange(len(ids)), lengths)
    values = idf[slots]
    norms = np.sqrt(np.bincount(rows, values.astype(np.float64) ** 2, minlength=len(ids)))
    scaled = (values / np.maximum(norms, 1e-12)[rows]).astype(np.float32)
    matrix = csr_matrix((scaled, (rows, slots)), shape=(len(ids), len(idf)))
    matrix.sum_duplicates()
    return matrix
