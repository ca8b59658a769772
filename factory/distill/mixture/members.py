"""The members of a mixture: two label models, a student taught by each, and a logistic regression taught by the anchors alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from factory.denoise.models import anchored
from factory.distill.mixture.retire import below_chance
from factory.logistic import Features, choose_c, fit_logistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.label_matrix import VoteSet

    Rows: TypeAlias = NDArray[np.int64]
    Answer: TypeAlias = Callable[[Rows], NDArray[np.floating[Any]]]
    Teach: TypeAlias = Callable[[Rows, NDArray[np.float64]], Answer]


@dataclass(frozen=True)
class Fitted:
    """A fitted member.

    Attributes:
        learned: What was fitted: a label model, a student or a head.
        answer: What it says of some rows, float [r, k].
        thin: Classes of which `logistic` learned nothing, so that it says what `anchored` says of them.
    """

    learned: Any
    answer: Answer
    thin: Sequence[int] = ()

    def __call__(self, rows: Rows) -> NDArray[np.floating[Any]]:
        """What it says of some rows, float [r, k]."""
        return self.answer(rows)


MEMBERS = ("anchored", "anchors_only", "student_of_anchored", "student_of_anchors_only", "logistic")
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""What the logistic regression's strength is chosen from, by anchors that it has not seen."""

LEAST_OF_CLASS = 5
"""Anchors of a class, with fewer of which nothing is learned from them alone: one in each part."""


@dataclass(frozen=True)
class Material:
    """All texts, as rows.

    Attributes:
        votes: Of the programs, one row per text.
        labels: int64 [n], the class of each anchor, -1 for every other text.
        worth: float64 [n], how much each anchor counts.
        heap: bool [n], the training texts.
        vectors: float [n, d] of the texts, or None.
        teach: Trains a student on some rows with soft labels [r, k]; what it gives answers for any rows.
        spoken: bool [n], the texts that students learn from beside anchors; by default those that a program votes on. In a
            `multi` task a program of another label is enough: silence about this one then says no more often than not.
    """

    votes: VoteSet
    labels: NDArray[np.int64]
    worth: NDArray[np.float64]
    heap: NDArray[np.bool_]
    vectors: NDArray[np.floating[Any]] | None
    teach: Teach
    spoken: NDArray[np.bool_] | None = None

    @property
    def classes(self) -> int:
        """Number of classes (k)."""
        return self.votes.classes

    @cached_property
    def features(self) -> Features:
        """Every vote as a column of its own, beside the texts' vectors."""
        from scipy.sparse import csr_matrix

        votes = self.votes
        shape = (len(votes), votes.lfs * votes.classes)
        said = csr_matrix((np.ones(len(votes.codes)), votes.codes.astype(np.int32), votes.indptr), shape=shape)
        return Features(self.vectors, said)


def fit_members(material: Material, learn: NDArray[np.bool_]) -> tuple[Mapping[str, Answer], Mapping[int, str]]:
    """Fit every member on some of the training texts.

    Args:
        material: All texts.
        learn: bool [n], whose labels may be seen and which students may learn from; the votes of all are seen.

    Returns:
        The members by name, and why programs were retired by number.
    """
    known = np.where(learn, material.labels, -1)
    retired = below_chance(material.votes, known, material.worth)
    kept = [lf for lf in range(material.votes.lfs) if lf not in retired]
    votes = material.votes.keep_lfs(kept) if kept else material.votes
    found: dict[str, Answer] = {}
    spoken = votes.covered if material.spoken is None else material.spoken
    taught = np.flatnonzero(learn & material.heap & (spoken | (known >= 0)))
    of_anchors = known[taught] >= 0
    for name in ("anchored", "anchors_only"):
        model = anchored.fit(
            votes, known, classes=material.classes, worth=material.worth, by_anchors=name == "anchors_only"
        )
        found[name] = _by_votes(model, votes)
        targets = model.predict_proba(votes.take(taught)).astype(np.float64)
        targets[of_anchors] = np.eye(material.classes)[known[taught[of_anchors]]]
        found[f"student_of_{name}"] = material.teach(taught, targets)
    found["logistic"] = _logistic(material, known, found["anchored"])
    return {name: found[name] for name in MEMBERS}, retired


def _by_votes(model: Any, votes: VoteSet) -> Answer:
    return Fitted(model, lambda rows: np.asarray(model.predict_proba(votes.take(rows))))


def _logistic(material: Material, known: NDArray[np.int64], beside: Answer) -> Answer:
    """Taught by the anchors of classes that have a few; what it cannot know of the others, the model beside it says."""
    counts = np.bincount(known[known >= 0], minlength=material.classes)
    taught, thin = np.flatnonzero(counts >= LEAST_OF_CLASS), np.flatnonzero(counts < LEAST_OF_CLASS)
    if not len(taught):
        return beside
    rows = np.flatnonzero(np.isin(known, taught))
    features = material.features
    given, targets = features.take(rows), np.eye(material.classes)[known[rows]]
    worth = material.worth[rows] / material.worth[rows].mean()
    c, _ = choose_c(given, targets, worth, strengths=STRENGTHS)
    head = fit_logistic(given, targets, worth, c=c)

    def answer(some: Rows) -> NDArray[np.floating[Any]]:
        probs = head.predict_proba(features.take(some))
        if len(thin):
            theirs = beside(some)[:, thin]
            probs *= 1 - theirs.sum(axis=1, keepdims=True)
            probs[:, thin] = theirs
        return probs

    return Fitted(head, answer, thin.tolist())
