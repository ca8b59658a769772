"""The cheap way to labels: clusters of embeddings, whose middle is then named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIDDLE = 12
"""Texts of a cluster that are shown to be named."""
BESIDE, OF_EACH = 3, 2
"""So many neighbouring clusters are shown with it, by so many texts each."""


def clusters(vectors: NDArray[np.float32], count: int | None, seed: int) -> list[list[int]]:
    """Cluster texts by k-means.

    Args:
        vectors: float32 [n, d], rows of length 1.
        count: How many clusters; None takes the number of the best mean silhouette (Rousseeuw 1987) among some 12 from 4 to a
            quarter of the texts.
        seed: Of the starts.

    Returns:
        Rows of each cluster, those nearest to its middle first; clusters by their first row.
    """
    from sklearn.metrics import silhouette_score

    n = len(vectors)
    tried = [count] if count else sorted({int(k) for k in np.geomspace(4, max(n // 4, 5), 12)})
    tried = [k for k in tried if k < n] or [max(n - 1, 1)]
    found = {k: _k_means(vectors, k, seed) for k in tried}
    best = max(tried, key=lambda k: silhouette_score(vectors, found[k][0])) if len(tried) > 1 else tried[0]
    which, middles = found[best]
    near = np.einsum("nd,nd->n", vectors, middles[which]).round(4)
    rows = [sorted(np.flatnonzero(which == k).tolist(), key=lambda at: (-near[at], at)) for k in range(len(middles))]
    return sorted((row for row in rows if row), key=min)


def beside(vectors: NDArray[np.float32], groups: list[list[int]]) -> list[list[int]]:
    """For each cluster some texts of those nearest to it."""
    middles = np.array([vectors[group].mean(axis=0) for group in groups])
    near = (middles @ middles.T).round(4)
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1, kind="stable")[:, : min(BESIDE, len(groups) - 1)]
    return [[at for other in row for at in groups[other][:OF_EACH]] for row in order]


def _k_means(vectors: NDArray[np.float32], count: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    from sklearn.cluster import KMeans

    model = KMeans(count, n_init=2, random_state=seed).fit(vectors)
    return model.labels_, model.cluster_centers_
