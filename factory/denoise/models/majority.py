"""Majority vote: the class with the most votes; a tie shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models.base import check_width, checked_balance
from factory.label_matrix import VoteSet, as_votes


@dataclass(frozen=True)
class Majority:
    """Majority vote, either as shares of the votes or with everything on the winner.

    Attributes:
        classes: Number of classes (k).
        lfs: Number of labelling functions (m).
        balance: float64 [k], what a text without votes gets.
        hard: All probability on the winner (shared by a tie), as Snorkel's `MajorityLabelVoter` does; else shares of votes.
    """

    classes: int
    lfs: int
    balance: np.ndarray
    hard: bool = False
    name: str = "majority"

    def predict_proba(self, votes: VoteSet | Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        data = as_votes(votes, self.classes)
        check_width(data, self.lfs)
        counts = data.class_votes()
        if self.hard:
            counts = (counts == counts.max(axis=1, keepdims=True)).astype(np.float64)
        counts[~data.covered] = self.balance
        return np.asarray(counts / counts.sum(axis=1, keepdims=True), np.float32)

    def params(self) -> Mapping[str, Any]:
        """The balance and the form."""
        return {"balance": self.balance.tolist(), "hard": self.hard}


def fit(votes: VoteSet | Any, *, classes: int, balance: Any = None, hard: bool = False) -> Majority:
    """Nothing to fit: majority vote has no parameters.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain.
        classes: Number of classes.
        balance: Class balance [k] for texts without votes; uniform if not given.
        hard: See `Majority`.
    """
    return Majority(classes, as_votes(votes, classes).lfs, checked_balance(balance, classes), hard)
