"""Likely label errors: confident learning on classifiers that have not seen a text, and on its nearest neighbours.

Northcutt, Jiang, Chuang: Confident learning: estimating uncertainty in dataset labels. JAIR 2021. A text is suspect where a class
other than the given one is believed at least as much as texts of that class believe it on average. What is believed is the mean
of a cross-validated classifier and of the labels of the nearest neighbours, which err in different ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.logistic import fit_logistic
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from factory.task import TaskCard

FOLDS = 5
NEIGHBOURS = 10
BLOCK = 1024


@dataclass(frozen=True)
class Question:
    """One question that is audited: which label a text has, or whether it has one label of a `multi` task.

    Attributes:
        label: The label asked about, or None.
        number: Its number, or None.
        labels: int64 [n], the given class of each text; -1: left out.
        classes: Names of the classes.
    """

    label: str | None
    number: int | None
    labels: np.ndarray
    classes: Sequence[str]


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


def questions_of(card: TaskCard, names: Sequence[str], given: Sequence[set[int]]) -> list[Question]:
    """What is to be audited, from the label numbers given to each text."""
    if card.kind == "single":
        return [
            Question(None, None, np.array([next(iter(one)) if len(one) == 1 else -1 for one in given]), list(names))
        ]
    found = []
    for name in card.label_names:
        number = names.index(name)
        found.append(Question(name, number, np.array([int(number in one) for one in given]), [f"not {name}", name]))
    return found


def find_issues(labels: np.ndarray, features: Any, classes: int, *, progress: Progress = no_progress) -> list[Issue]:
    """Suspect labels of a single-label set, the worst first.

    Args:
        labels: int [n].
        features: Float [n, d], rows of length 1 (dense or sparse).
        classes: Number of classes.
        progress: Called with (done, total, what).
    """
    if len(labels) < 2 * FOLDS or len(np.unique(labels)) < 2:
        return []
    shares, near = neighbours(features, labels, classes)
    belief = (out_of_sample(features, labels, classes, progress=progress) + shares) / 2
    found = []
    for row, likely in suspects(labels, belief):
        pair = (float(belief[row, labels[row]]), float(belief[row, likely]))
        found.append(Issue(row, int(labels[row]), likely, pair[0] - pair[1], pair, tuple(int(at) for at in near[row])))
    return sorted(found, key=lambda issue: (issue.score, issue.row))


def described(question: Question, issue: Issue, probs: np.ndarray | None) -> dict[str, Any]:
    """Evidence in words: what the texts tell of the given and the likely class, and what the label model does.

    Args:
        question: What is audited.
        issue: Which text.
        probs: Float [label numbers], the label model's of the text (NaN: unknown), or None.
    """
    classes, pair = question.classes, (issue.given, issue.likely)

    def told(values: Sequence[float]) -> str:
        return ", ".join(f"{classes[at]} {value:.2f}" for at, value in zip(pair, values, strict=True))

    evidence: dict[str, Any] = {"believed": told(issue.belief)}
    if probs is None:
        return evidence
    if question.number is None:
        chances = [float(probs[at]) if at < len(probs) else np.nan for at in pair]
    else:
        yes = float(probs[question.number]) if question.number < len(probs) else np.nan
        chances = [yes if at else 1 - yes for at in pair]
    if not np.isnan(chances).any():
        evidence["label_model"] = told(chances)
    return evidence


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


def out_of_sample(
    features: Any, labels: np.ndarray, classes: int, *, cost: float = 10.0, progress: Progress = no_progress
) -> np.ndarray:
    """Probabilities float64 [n, k] of each text by a logistic regression on the other folds (stratified, by order of rows)."""
    fold = np.zeros(len(labels), np.int64)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        fold[rows] = np.arange(len(rows)) % FOLDS
    out = np.zeros((len(labels), classes))
    for number in range(FOLDS):
        progress(number * len(labels) // FOLDS, len(labels), "labels checked")
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
