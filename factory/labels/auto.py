"""Choosing a label model: on dev gold where there is any, else by what the votes alone can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.errors import InputError
from factory.labels.base import LabelModel
from factory.labels.models import fit_label_model
from factory.labels.votes import VoteSet

CANDIDATES = ("majority", "snorkel", "dawid_skene", "dawid_skene_missing")


@dataclass(frozen=True)
class Choice:
    """A chosen label model.

    Attributes:
        name: Key of `factory.labels.models.MODELS`.
        reason: Why, in a sentence.
        scores: What was compared, by model.
    """

    name: str
    reason: str
    scores: Mapping[str, float]


def fit_all(
    votes: VoteSet, names: Sequence[str], *, classes: int, balance: Any = None, options: Mapping[str, Any] | None = None
) -> tuple[dict[str, LabelModel], dict[str, str]]:
    """Fit several models; those that cannot use these votes are left out with the reason.

    Returns:
        Models by name, and reasons by name.
    """
    fitted: dict[str, LabelModel] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            fitted[name] = fit_label_model(
                name, votes, classes=classes, balance=balance, **dict((options or {}).get(name, {}))
            )
        except InputError as error:
            refused[name] = error.what
    return fitted, refused


def choose(
    models: Mapping[str, LabelModel], votes: VoteSet, *, dev: tuple[VoteSet, np.ndarray] | None = None
) -> Choice:
    """Choose among fitted models.

    With dev gold: the best accuracy on covered dev rows, if it beats majority vote by more than one standard error of the
    paired difference. Without: majority vote.

    Args:
        models: Fitted models, `majority` among them.
        votes: What they were fitted on.
        dev: Votes of gold-labelled texts and their labels, or None.
    """
    if dev is None or not dev[0].covered.any():
        return Choice("majority", "no gold to choose by: majority vote", {})
    rows = np.flatnonzero(dev[0].covered)
    shown, gold = dev[0].take(rows), dev[1][rows]
    right = {name: _soft_hits(model.predict_proba(shown), gold) for name, model in models.items()}
    scores = {name: round(float(hits.mean()), 6) for name, hits in right.items()}
    best = max(scores, key=lambda name: (scores[name], name == "majority"))
    gain = right[best] - right["majority"]
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf
    if best == "majority" or gain.mean() <= error:
        return Choice("majority", f"nothing beat majority vote clearly on {len(rows)} covered dev texts", scores)
    return Choice(
        best, f"best on {len(rows)} covered dev texts ({scores[best]:.3f}; majority {scores['majority']:.3f})", scores
    )


def _soft_hits(probs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """1 for a right row, 1/t where the right class shares a tie of t, else 0."""
    tied = np.abs(probs - probs.max(axis=1, keepdims=True)) < 1e-5
    hits: np.ndarray = tied[np.arange(len(gold)), gold] / tied.sum(axis=1)
    return hits
