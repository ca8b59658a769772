"""Self-training: texts without a label get the student's own, where it is sure and their neighbours agree; with a guarded stop.

After HAST (Schroeder and Heyer 2024): pseudo-labels are hard, taken from unlabelled texts whose nearest neighbours mostly have
the same label, in equal number for each label, and their total weight is bounded by that of the labelled texts, so that many
easy texts cannot drown the given ones. The guard is ours: part of the labelled texts is held out, and a round that agrees less
with their soft labels than the best one before it ends the training and is thrown away. No gold is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from factory.logistic import loss_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.students.base import Trial


@dataclass(frozen=True)
class SelfTraining:
    """How to go about it.

    Attributes:
        rounds: At most so many.
        confidence: Texts whose best label is less probable are left.
        neighbours: How many of the nearest texts are asked.
        agreement: Share of them that must have the same label, in [0, 1].
        per_label: At most so many pseudo-labels for each label, the surest first.
        weight: Total weight of the pseudo-labelled texts over that of the labelled ones, at most.
        held_out: Share of the labelled texts that guards.
        seed: Of the held-out texts.
    """

    rounds: int = 3
    confidence: float = 0.8
    neighbours: int = 10
    agreement: float = 0.8
    per_label: int = 500
    weight: float = 0.5
    held_out: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Pseudo:
    """Pseudo-labels.

    Attributes:
        rows: Which of the unlabelled texts, int64 [m], ascending.
        labels: int64 [m].
        weight: Of each.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    weight: float


class Asked(Protocol):
    """A fitted student, as far as self-training needs it."""

    def __call__(self, rows: NDArray[np.int64], *, unlabelled: bool) -> NDArray[np.floating[Any]]:
        """Probabilities of labelled texts, or of unlabelled ones, by row."""


Fit = Callable[["NDArray[np.int64]", "Pseudo | None"], Asked]
"""Trains a student on labelled texts, by row, and on pseudo-labels."""


def self_train(
    fit: Fit,
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    vectors: NDArray[np.floating[Any]],
    unlabelled: NDArray[np.floating[Any]],
    config: SelfTraining,
) -> tuple[Pseudo | None, list[Trial]]:
    """Find the pseudo-labels worth learning from, for a task of one label per text.

    Args:
        fit: Trains the student.
        targets: [n, k] soft labels of the labelled texts.
        weights: [n].
        vectors: [n, d], unit vectors of the labelled texts.
        unlabelled: [m, d], unit vectors of the unlabelled ones.
        config: How.

    Returns:
        The pseudo-labels of the best round, or None if no round agreed better with the held-out labels than training without
        them; and each round with its loss on those.
    """
    n = len(targets)
    order = np.random.default_rng([config.seed, n, 5]).permutation(n)
    held = np.sort(order[: int(n * config.held_out)])
    learn = np.sort(order[int(n * config.held_out) :])
    every = np.arange(len(unlabelled))
    if not len(held) or not len(every):
        return None, []
    near = neighbours_of(unlabelled, vectors[learn], config.neighbours)
    known = targets[learn].argmax(axis=1)

    def loss(student: Asked) -> float:
        return loss_of(student(held, unlabelled=False), targets[held], weights[held], False)

    student = fit(learn, None)
    best, kept = loss(student), None
    trials: list[Trial] = [({"round": 0, "pseudo_labels": 0}, best)]
    for number in range(1, config.rounds + 1):
        pseudo = choose_pseudo(student(every, unlabelled=True), near, known, float(weights[learn].sum()), config)
        if not len(pseudo.rows) or (kept is not None and _same(kept, pseudo)):
            break
        student = fit(learn, pseudo)
        found = loss(student)
        trials.append(({"round": number, "pseudo_labels": len(pseudo.rows)}, found))
        if found >= best:
            break
        best, kept = found, pseudo
    return kept, trials


def choose_pseudo(
    probs: NDArray[np.floating[Any]],
    near: NDArray[np.int64],
    known: NDArray[np.int64],
    mass: float,
    config: SelfTraining,
) -> Pseudo:
    """Which unlabelled texts get their most probable label.

    Args:
        probs: [m, k], the student's answers.
        near: int64 [m, q], from `neighbours_of`: rows of unlabelled texts below m, of labelled ones from m on.
        known: int64 [n], labels of the labelled texts.
        mass: Total weight of the labelled texts.
        config: How.

    Returns:
        Sure texts whose neighbours agree, as many of each label as the rarest of those that have any allows.
    """
    said = probs.argmax(axis=1)
    best = probs.max(axis=1)
    agree = (np.concatenate([said, known])[near] == said[:, None]).mean(axis=1)
    fit = (best >= config.confidence) & (agree >= config.agreement)
    counts = np.bincount(said[fit], minlength=probs.shape[1])
    most = min(config.per_label, int(counts[counts > 0].min())) if fit.any() else 0
    chosen: list[int] = []
    for label in range(probs.shape[1]):
        mine = np.flatnonzero(fit & (said == label))
        chosen += mine[np.argsort(-best[mine], kind="stable")][:most].tolist()
    rows = np.array(sorted(chosen), np.int64)
    weight = min(1.0, config.weight * mass / max(len(rows), 1))
    return Pseudo(rows, said[rows].astype(np.int64), weight)


def neighbours_of(
    unlabelled: NDArray[np.floating[Any]], labelled: NDArray[np.floating[Any]], count: int
) -> NDArray[np.int64]:
    """The nearest texts of each unlabelled one by cosine, among all others: int64 [m, min(count, others)].

    Rows below m are unlabelled texts, those from m on labelled ones.
    """
    everything = np.concatenate([unlabelled, labelled]).astype(np.float32)
    m = len(unlabelled)
    count = min(count, len(everything) - 1)
    out = np.zeros((m, count), np.int64)
    for start in range(0, m, 512):
        rows = np.arange(start, min(start + 512, m))
        scores = everything[rows] @ everything.T
        scores[np.arange(len(rows)), rows] = -np.inf
        out[rows] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return out


def _same(a: Pseudo, b: Pseudo) -> bool:
    return np.array_equal(a.rows, b.rows) and np.array_equal(a.labels, b.labels)
