"""Mean of token vectors, by numpy alone: what a static student computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pool(table: NDArray[Any], ids: Sequence[Sequence[int]], max_length: int) -> NDArray[np.float32]:
    """The mean of each text's token vectors, scaled to length 1.

    Args:
        table: [vocabulary, d], any float type.
        ids: Token ids of each text; only the first `max_length` count.
        max_length: Tokens.

    Returns:
        float32 [n, d]; a row of zeros for a text without tokens.
    """
    lengths = np.fromiter((min(len(row), max_length) for row in ids), np.int64, len(ids))
    out = np.zeros((len(ids), table.shape[1]), np.float32)
    rows = np.flatnonzero(lengths)
    if len(rows) == 0:
        return out
    flat = np.concatenate([np.asarray(ids[row][:max_length], np.int64) for row in rows.tolist()])
    starts = np.concatenate([[0], np.cumsum(lengths[rows])[:-1]])
    sums = np.add.reduceat(table[flat].astype(np.float32, copy=False), starts, axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    out[rows] = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
    return out
