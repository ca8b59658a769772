"""What a static student computes, by numpy alone: means of token vectors, and weights of tokens and pairs of neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.students.grams import gram_logits

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


def static_answers(
    arrays: Mapping[str, NDArray[Any]], ids: Sequence[Sequence[int]], max_length: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a static student makes of token ids.

    Args:
        arrays: `embeddings` [v, d], `weight` [k, d], `bias` [k], `grams` [v + pairs, k], `idf` [v + pairs].
        ids: Token ids of each text.
        max_length: Tokens of a text that count.

    Returns:
        Its logits, float32 [n, k], and the unit vectors behind them, float32 [n, d].
    """
    ids = [row[:max_length] for row in ids]
    table = arrays["embeddings"]
    vectors = pool(table, ids, max_length)
    logits: NDArray[np.float32] = vectors @ arrays["weight"].T + arrays["bias"]
    return logits + gram_logits(arrays["grams"], arrays["idf"], ids, len(table)), vectors
