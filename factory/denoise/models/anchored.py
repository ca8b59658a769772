"""Label models judged by anchors: texts whose label somebody said, which count beside what the votes alone tell.

Dawid and Skene's model in which an abstention is an answer, so that a function of one class keeps its meaning: how often it fires
on texts of each class is what it tells. With `by_anchors` that is counted on the anchors alone. Else it is estimated by EM over
all texts, in which an anchor's class is known and counts as `weight` texts. The class shares are those of the anchors in either
case: votes tell how often functions fire, not how common a class is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, check_number, safe_log, softmax
from factory.errors import InputError
from factory.label_matrix import VoteSet, as_votes

WEIGHT = 11.0
"""Texts that an anchor counts as in EM, in which some hundred would be lost."""
FIRM = 10.0
"""Texts of each class that the prior of a function is worth."""
RIGHT = 0.8
"""Chance of a vote to be right where nothing tells."""


def fit(
    votes: VoteSet | Any,
    labels: Any,
    *,
    classes: int,
    worth: Any = None,
    weight: float = WEIGHT,
    by_anchors: bool = False,
    max_iter: int = 50,
    tolerance: float = 1e-4,
) -> LogLinear:
    """Fit what every vote is worth.

    Args:
        votes: A `VoteSet` with one row per text, or a dense label matrix [n, m], -1 abstain.
        labels: int [n], the class of each anchor, -1 for every other text.
        classes: Number of classes (k).
        worth: Float [n], how much each anchor counts beside the others (only theirs are read); all alike by default.
        weight: Texts that an anchor of mean worth counts as in EM, above 0.
        by_anchors: Count on the anchors alone.
        max_iter: Most rounds of EM, 1 or more.
        tolerance: Stop when no P(class | vote) changes by more.

    Raises:
        InputError: There is no anchor, or a label or parameter that cannot be used.
    """
    data, known = as_votes(votes, classes), np.asarray(labels, np.int64)
    if known.shape != (len(data),) or known.max(initial=-1) >= classes:
        raise InputError(f"anchors are one class below {classes} for each of {len(data)} texts, -1 for none")
    check_number("weight", weight, above=0)
    check_number("max_iter", max_iter, least=1, whole=True)
    anchors = np.flatnonzero(known >= 0)
    if not len(anchors):
        raise InputError("there is no anchor to judge the votes by", fix="Run `annotate` with `anchors`")
    mass = np.ones(len(anchors)) if worth is None else np.asarray(worth, np.float64)[anchors]
    mass = mass / mass.mean()
    said = np.zeros((len(anchors), classes))
    said[np.arange(len(anchors)), known[anchors]] = mass
    shares = (said.sum(axis=0) + 1) / (mass.sum() + classes)
    counted = _counted(data.take(anchors), said)
    right, total = _right(counted)
    prior = _prior(data.lfs, shares, (right + FIRM * RIGHT) / (total + FIRM))
    fires = data.polarity().reshape(-1) / max(len(data), 1)
    expected = np.minimum(fires[:, None] * prior / shares, 0.9)
    rounds, texts = 0, said.sum(axis=0)
    if by_anchors:
        model = _weights(counted, texts, expected, shares)
    else:
        patterns, _ = data.take(np.flatnonzero(known < 0)).patterns()
        model = _weights(weight * counted, weight * texts, expected, shares)
        for rounds in range(1, max_iter + 1):  # noqa: B007 - told below
            old = model
            posteriors = [softmax(part @ model[0] + model[1]) for _, part, _ in patterns.chunks()]
            believed = np.concatenate(posteriors)
            total = believed.T @ _counts(patterns) + weight * texts
            model = _weights(weight * counted + _counted(patterns, believed), total, expected, shares)
            if np.abs(model[0] - old[0]).max(initial=0.0) < tolerance:
                break
    facts = {"balance": np.round(shares, 6).tolist(), "anchors": len(anchors), "rounds": rounds}
    return LogLinear("anchors_only" if by_anchors else "anchored", classes, *model, facts)


def _counts(votes: VoteSet) -> np.ndarray:
    """float64 [n]: how many texts each row stands for."""
    return np.ones(len(votes)) if votes.counts is None else votes.counts


def _counted(votes: VoteSet, classes: np.ndarray) -> np.ndarray:
    """float64 [m k, k]: texts of each class (rows of [n, k]) that have each vote."""
    total = np.zeros((votes.lfs * votes.classes, votes.classes))
    for rows, part, counts in votes.chunks():
        total += part.T @ (classes[rows] * counts[:, None])
    return total


def _right(counted: np.ndarray) -> tuple[float, float]:
    """Of counted votes, how many name the class, and how many there are."""
    k = counted.shape[1]
    return float(np.einsum("mkk->", counted.reshape(-1, k, k))), float(counted.sum())


def _prior(lfs: int, shares: np.ndarray, right: float) -> np.ndarray:
    """float64 [m k, k]: P(class | vote) of a vote that is right with this chance, and else errs as common as the classes are."""
    k = len(shares)
    rest = np.where(np.eye(k) > 0, 0.0, shares)
    one = np.eye(k) * right + (1 - right) * rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(np.tile(one, (lfs, 1)))


def _weights(
    counted: np.ndarray, texts: np.ndarray, expected: np.ndarray, shares: np.ndarray, firm: float = FIRM
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of each vote [m k, k] and bias [k], from votes [m k, k] and texts [k] by class, and `firm` expected ones."""
    k = len(shares)
    rates = np.minimum((counted + firm * expected) / (texts + firm), 0.98)
    silent = np.maximum(1 - rates.reshape(-1, k, k).sum(axis=1), 0.02)  # [m, k]
    return safe_log(rates) - np.repeat(safe_log(silent), k, axis=0), safe_log(shares) + safe_log(silent).sum(axis=0)
