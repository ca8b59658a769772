"""Programs that anchors show to be below chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.label_matrix import VoteSet

LEAST_VOTES = 5
"""Votes on anchors, with fewer of which nothing is said of a program."""
DOUBT = 0.05
"""A program is below chance if one that votes at random would do as badly with no more than this probability."""


def below_chance(votes: VoteSet, labels: NDArray[np.integer[Any]], worth: NDArray[np.float64]) -> dict[int, str]:
    """The programs that are right on fewer anchors than their votes would be on texts drawn at random.

    Args:
        votes: One row per text.
        labels: int [n], the class of each anchor, -1 for every other text.
        worth: float64 [n], how much each anchor counts in the class shares.

    Returns:
        The reason by number of the program.
    """
    from scipy.stats import binom

    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        return {}
    known, said = labels[rows], votes.take(rows).matrix()
    shares = np.bincount(known, weights=worth[rows], minlength=votes.classes)
    shares = shares / max(shares.sum(), 1e-12)
    found = {}
    for lf in range(votes.lfs):
        spoke = said[:, lf] >= 0
        n = int(spoke.sum())
        if n < LEAST_VOTES:
            continue
        right = int((said[spoke, lf] == known[spoke]).sum())
        chance = float(shares[said[spoke, lf]].mean())
        if right < chance * n and binom.cdf(right, n, chance) <= DOUBT:
            found[lf] = f"right on {right} of {n} anchors, where chance would be {chance:.0%}"
    return found
