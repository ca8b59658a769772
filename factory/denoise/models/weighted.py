"""Weighted majority: each function's vote counts by how often the others agree with it.

A function's accuracy is estimated as the share of the other votes on its texts that say the same, drawn towards a prior; its
votes then weigh the logarithm of its odds of being right. One pass over the votes and no iteration, so nothing can drift.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, check_number, checked_balance, coin_weights
from factory.label_matrix import VoteSet, as_votes


def fit(
    votes: VoteSet | Any, *, classes: int, balance: Any = None, strength: float = 10.0, accuracy: float = 0.7
) -> LogLinear:
    """Weigh functions by their agreement with the others.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain.
        classes: Number of classes.
        balance: Class balance [k]; uniform if not given.
        strength: Weight of the prior, in texts, above 0.
        accuracy: What the prior believes, between 0 and 1.

    Raises:
        InputError: A parameter outside its range.
    """
    check_number("strength", strength, above=0)
    check_number("accuracy", accuracy, above=0, below=1)
    data = as_votes(votes, classes)
    shares = checked_balance(balance, classes)
    fold = np.tile(np.eye(classes), (data.lfs, 1))
    agreed, met = np.zeros(data.lfs * classes), np.zeros(data.lfs * classes)
    for _, part, counts in data.chunks():
        tally = part @ fold
        others = tally.sum(axis=1) - 1
        several = others > 0
        weight = np.where(several, counts, 0.0)
        # A vote for class c on a row with n_c votes of c among N: (n_c - 1) of the (N - 1) others agree.
        agreement = (tally - 1) / np.maximum(others, 1)[:, None] * weight[:, None]
        agreed += np.einsum("vk,vk->v", part.T @ agreement, fold)
        met += part.T @ weight
    hits, seen = agreed.reshape(data.lfs, classes).sum(axis=1), met.reshape(data.lfs, classes).sum(axis=1)
    estimate = (hits + strength * accuracy) / (seen + strength)
    # A vote below chance is not turned round: without gold, disagreement alone does not show who is wrong.
    estimate = np.maximum(estimate, 1 / classes)
    facts = {"accuracies": np.round(estimate, 4).tolist()}
    return LogLinear("weighted", classes, coin_weights(estimate, classes), np.log(shares), facts)
