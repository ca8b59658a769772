"""Likely label errors: confident learning on classifiers that have not seen a text, and on its nearest neighbours.

Northcutt, Jiang, Chuang: Confident learning: estimating uncertainty in dataset labels. JAIR 2021. A text is suspect where a class
other than the given one is believed at least as much as texts of that class believe it on average. What is believed is the mean
of a cross-validated classifier and of the labels of the nearest neighbours, which err in different ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.logistic import fit_logistic

FOLDS = 5
NEIGHBOURS = 10
BLOCK = 1024


@dataclass(frozen=True)
class Issue:
    """One likely error.

    Attributes:
        row: Which text.
        given: Its label.
        likely: The label that is believed.
        score: Belief in the given label minus belief in the likely one, -1 ... 0; the worst are the lowest.
        belief: Belief in the given label and in the likely one.
        neighbours: Rows of the nearest texts.
    """

    row: int
    given: int
    likely: int
    score: float
    belief: tuple[float, float]
    neighbours: tuple[int, ...]


def find_issues(labels: np.ndarray, features: Any, classes: int, *, votes: np.ndarray | None = None) -> list[Issue]:
    """Suspect labels of a single-label set, the worst first.

    Args:
        labels: int [n].
        features: Float [n, d], rows of length 1 (dense or sparse).
        classes: Number of classes.
        votes: Float [n, k], what functions say of each text (rows add up to 1, uniform where nothing), or None.
    """
    if len(labels) < 2 * FOLDS or len(np.unique(labels)) < 2:
        return []
    shares, near = neighbours(features, labels, classes)
    belief = (out_of_sample(features, labels, classes) + shares) / 2
    if votes is not None:
        belief = (2 * belief + votes) / 3
    found = []
    for row, likely in suspects(labels, belief):
        pair = (float(belief[row, labels[row]]), float(belief[row, likely]))
        found.append(Issue(row, int(labels[row]), likely, pair[0] - pair[1], pair, tuple(int(at) for at in near[row])))
    return sorted(found, key=lambda issue: (issue.score, issue.row))


def suspects(labels: np.ndarray, belief: np.ndarray) -> list[tuple[int, int]]:
    """(row, likely label) where another class passes its own threshold, the mean belief of texts given that class in it."""
    classes = belief.shape[1]
    own = belief[np.arange(len(labels)), labels]
    sums = np.bincount(labels, weights=own, minlength=classes)
    seen = np.bincount(labels, minlength=classes)
    threshold = np.where(seen > 0, sums / np.maximum(seen, 1), np.inf)
    passing = np.where(belief >= threshold, belief, -1.0)
    passing[np.arange(len(labels)), labels] = -1.0
    likely = passing.argmax(axis=1)
    rows = np.flatnonzero((passing.max(axis=1) > 0) & (belief[np.arange(len(labels)), likely] > own))
    return [(int(row), int(likely[row])) for row in rows]


def out_of_sample(features: Any, labels: np.ndarray, classes: int, *, cost: float = 10.0) -> np.ndarray:
    """Probabilities float64 [n, k] of each text by a logistic regression on the other folds (stratified, by order of rows)."""
    fold = np.zeros(len(labels), np.int64)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        fold[rows] = np.arange(len(rows)) % FOLDS
    out = np.zeros((len(labels), classes))
    for number in range(FOLDS):
        seen, rest = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(rest):
            head = fit_logistic(features[seen], np.eye(classes)[labels[seen]], np.ones(len(seen)), c=cost)
            out[rest] = head.predict_proba(features[rest])
    return out


def neighbours(
    features: Any, labels: np.ndarray, classes: int, *, count: int = NEIGHBOURS
) -> tuple[np.ndarray, np.ndarray]:
    """Class shares float64 [n, k] among each text's nearest texts (by cosine, itself left out), and their rows [n, count]."""
    n = len(labels)
    count = min(count, n - 1)
    near = np.zeros((n, count), np.int64)
    for start in range(0, n, BLOCK):
        block = features[start : start + BLOCK] @ features.T
        close = np.array(block.toarray() if hasattr(block, "toarray") else block, np.float64)
        close[np.arange(len(close)), np.arange(start, start + len(close))] = -np.inf
        top = np.argpartition(-close, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(close, top, axis=1), axis=1, kind="stable")
        near[start : start + BLOCK] = np.take_along_axis(top, order, axis=1)
    shares = np.eye(classes)[labels[near]].mean(axis=1)
    return (shares * count + 0.5) / (count + 0.5 * classes), near
