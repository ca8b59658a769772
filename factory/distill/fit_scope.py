"""What tells a text like those of training from others: a few prototypes per label, and how near training texts lie to them.

Prototypes are k-means centres of the training texts of each label: one centre would blur a broad label, every text as its own
prototype (k nearest neighbours) would put the training set into the export. What counts as near is learned from folds: texts are
scored by prototypes that were made without them, so no gold is needed, and a text like those of training is called out of scope
with at most the rate asked for (split conformal; Bates et al. 2023). That holds as long as the vectors themselves do not know the
training texts, which is so for a frozen encoder; a tuned body draws its training texts together and gives more false alarms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from factory.predict.scope import scope_scores
from factory.predict.trust import MOST_SCORES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PROTOTYPES = 8
TEXTS_PER_PROTOTYPE = 20
FOLDS = 5
LEAST_TEXTS = 50


def fit_scope(
    vectors: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]], multi: bool, *, seed: int = 0
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Learn prototypes, and how near texts of training lie to them.

    Args:
        vectors: [n, d], unit vectors of the training texts.
        targets: [n, k], their probabilities; NaN for unknown in a multi task.
        multi: Whether a text may have any number of labels, none included.
        seed: Of the folds and of k-means.

    Returns:
        `{"scores": [...], "texts": n}`, ascending, at most 1,000 of them; and `{"prototypes": [m, d]}`. Both empty for fewer
        than 50 texts.
    """
    if len(vectors) < LEAST_TEXTS:
        return {}, {}
    rng = np.random.default_rng([seed, len(vectors)])
    x = np.asarray(vectors, np.float32)
    group = _groups(np.asarray(targets, np.float64), multi)
    fold = rng.permutation(len(x)) % FOLDS
    scores = np.zeros(len(x))
    for number in range(FOLDS):
        held = fold == number
        scores[held] = scope_scores({"prototypes": _prototypes(x[~held], group[~held], seed)}, x[held])
    ordered = np.sort(scores)
    if len(ordered) > MOST_SCORES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_SCORES).round().astype(int)]
    found = {"scores": [round(float(score), 6) for score in ordered], "texts": len(x)}
    return found, {"prototypes": _prototypes(x, group, seed)}


def _groups(targets: NDArray[np.float64], multi: bool) -> NDArray[np.int64]:
    """The label that a text is likeliest to have, int64 [n]; one further group for texts that have none."""
    known = np.nan_to_num(targets, nan=0.0)
    best = known.argmax(axis=1)
    return np.asarray(np.where(known.max(axis=1) >= 0.5, best, known.shape[1])) if multi else best


def _prototypes(x: NDArray[np.float32], group: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans

    centres = []
    for number in np.unique(group):
        mine = x[group == number]
        k = int(np.clip(len(mine) // TEXTS_PER_PROTOTYPE, 1, MOST_PROTOTYPES))
        distinct = len(np.unique(mine, axis=0)) if k > 1 else 1
        centres.append(KMeans(min(k, distinct), n_init=1, random_state=seed).fit(mine).cluster_centers_)
    stacked = np.concatenate(centres)
    return np.ascontiguousarray(stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12), np.float32)
