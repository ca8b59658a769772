"""Texts that are near one another, in batches: each batch then shows whole kinds of texts, and few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECIMALS = 4
"""Distances are compared after rounding: the same batches, so the same prompts, whatever the last bits of a machine are."""


def neighbourhoods(vectors: NDArray[np.float32], size: int) -> list[list[int]]:
    """Cut texts into batches of neighbours.

    The texts are put in the order of the leaves of a tree (Ward's linkage), in which neighbours stand together, and the order is
    cut into pieces of nearly equal length. What stood beside a cut is in two batches, which joining mends.

    Args:
        vectors: float32 [n, d], rows of length 1. The tree needs memory for n x n / 2 distances.
        size: The most texts in a batch.

    Returns:
        Rows of `vectors` for each batch, every row once.

    Example:
        >>> neighbourhoods(np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], np.float32), 2)
        [[0, 2], [1, 3]]
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    n = len(vectors)
    if n <= size:
        return [list(range(n))] if n else []
    near = pdist(np.asarray(vectors, np.float64)).round(DECIMALS)
    order = leaves_list(linkage(near, "ward"))
    return [[int(at) for at in part] for part in np.array_split(order, -(-n // size))]
