"""Baselines that need gold or published votes: human rules, a student on gold alone, label equivalents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.decide import decide, tie_keys
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = (8, 16, 32, 64, 125, 250, 500, 1000, 2000, 4000, 8000)
DRAWS = 10


def majority_of_votes(
    votes: NDArray[np.int32], classes: int, *, position: NDArray[np.int64] | None, hashes: Sequence[bytes] | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Majority vote of published rules, with either tie-break.

    Args:
        votes: [n, m], label number or -1 for an abstention.
        classes: Number of classes (k). A row that no rule speaks of is a tie of all of them, as in WRENCH.
        position: Row numbers, from 0 anew for each file: ties go by their SHA-1, as in Snorkel and WRENCH. Or None.
        hashes: Content hashes of the texts: ties go by them, so the order of rows does not matter. Or None.

    Returns:
        Labels [n], covered [n], tied [n] (covered rows alone).
    """
    counts = np.stack([(votes == label).sum(axis=1) for label in range(classes)], axis=1).astype(float)
    covered = counts.sum(axis=1) > 0
    if position is not None:
        labels, tied = np.empty(len(votes), np.int64), np.zeros(len(votes), bool)
        for first, end in pairwise([*np.flatnonzero(position == 0), len(votes)]):
            labels[first:end], tied[first:end] = decide(counts[first:end], None, tie_break="row")
    else:
        assert hashes is not None
        labels, tied = decide(counts, tie_keys(hashes))
    return labels, covered, tied & covered


@dataclass(frozen=True)
class Equivalents:
    """How many random gold texts train the same student as well.

    Attributes:
        sizes: Numbers of gold texts tried.
        scores: For each size, the score of each draw.
        target: The student's score.
        worth: The number of gold texts at which the mean curve first reaches the target, interpolated on the logarithm of the
            number; None where it lies outside of what was tried.
        above: True where even the largest number tried scores below the target: the worth is more than that.
    """

    sizes: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]
    target: float
    worth: float | None
    above: bool

    def as_json(self) -> dict[str, Any]:
        """A JSON-able form, with the mean and the 10th and 90th percentile of each size."""
        return {
            "sizes": list(self.sizes), "draws": [list(s) for s in self.scores], "mean": [float(np.mean(s)) for s in self.scores],
            "low": [float(np.percentile(s, 10)) for s in self.scores],
            "high": [float(np.percentile(s, 90)) for s in self.scores],
            "target": self.target, "worth": self.worth, "above": self.above,
        }  # fmt: skip


def label_equivalents(
    pool: int, target: float, score_of: Callable[[NDArray[np.int64]], float], *, sizes: Sequence[int] = SIZES,
    draws: int = DRAWS, seed: int = 0, progress: Progress = no_progress,
) -> Equivalents | None:  # fmt: skip
    """Train on random gold texts of growing number until the mean passes the target.

    Args:
        pool: How many gold texts there are to draw from.
        target: The score to reach.
        score_of: Trains on the pool's rows of these indices and scores on test.
        sizes: Numbers to try, ascending; the whole pool is tried last.
        draws: Random draws for each number, without replacement (the whole pool is one draw).
        seed: Of the draws; they do not depend on which sizes are tried.

    Returns:
        None if the pool is too small to try anything.
    """
    tried = [size for size in sizes if size < pool] + ([pool] if pool >= min(sizes) else [])
    if not tried:
        return None
    scores: list[tuple[float, ...]] = []
    for number, size in enumerate(tried):
        progress(number, len(tried), f"label equivalents: {size} gold texts")
        times = 1 if size == pool else draws
        drawn = [np.random.default_rng([seed, size, draw]).permutation(pool)[:size] for draw in range(times)]
        scores.append(tuple(score_of(np.sort(rows)) for rows in drawn))
        if np.mean(scores[-1]) >= target:
            break
    worth = crossing(tried, [float(np.mean(s)) for s in scores], target)
    return Equivalents(tuple(tried[: len(scores)]), tuple(scores), target, worth, float(np.mean(scores[-1])) < target)


def crossing(sizes: Sequence[int], means: Sequence[float], target: float) -> float | None:
    """Where a curve over sizes first reaches a target, interpolated on the logarithm of the size.

    Example:
        >>> crossing([10, 100], [0.5, 0.9], 0.7)
        31.622776601683793
    """
    for at, mean in enumerate(means):
        if mean >= target:
            if at == 0:
                return float(sizes[0]) if mean == target else None
            share = (target - means[at - 1]) / (mean - means[at - 1])
            low, high = math.log(sizes[at - 1]), math.log(sizes[at])
            return math.exp(low + share * (high - low))
    return None
