"""What the calibration of an export says: conformal label sets, and thresholds for a wanted precision.

It is fitted by `factory.distill.fit_trust`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.intervals import Z80, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_SCORES = 1000
"""Scores, and answers with their confidence, that an export carries at most."""
LEAST_CONFIDENCE = 0.05
"""Pairs of text and label below this are not answers in a multi task, whatever precision is wanted."""


def conformal_limit(scores: Sequence[float], error_rate: float) -> float:
    """The probability a label needs to enter the set: 1 - the ceil((n + 1)(1 - a))-th smallest score, 0 if there is none."""
    ordered = np.sort(np.asarray(scores, np.float64))
    rank = int(np.ceil((len(ordered) + 1) * (1 - error_rate)))
    return 0.0 if rank > len(ordered) else 1.0 - float(ordered[rank - 1])


@dataclass(frozen=True)
class Abstain:
    """How sure answers were and whether they were right, the surest first: what a threshold for any precision is read from.

    Attributes:
        confidence: float64 [n], descending. Multi: of every pair of text and label that is not nearly ruled out.
        right: bool [n].
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, probs: NDArray[np.floating[Any]], gold: NDArray[np.floating[Any]], multi: bool) -> Abstain:
        """From probabilities [n, k] and gold [n, k] of 0 and 1."""
        if multi:
            said = np.asarray(probs) >= LEAST_CONFIDENCE
            confidence, right = np.asarray(probs, np.float64)[said], np.asarray(gold)[said] > 0.5
        else:
            confidence = np.asarray(probs.max(axis=1), np.float64)
            right = probs.argmax(axis=1) == gold.argmax(axis=1)
        order = np.lexsort((right, -confidence))
        return cls(confidence[order], np.asarray(right, bool)[order])

    def as_json(self) -> dict[str, Any]:
        """JSON-able, thinned to `MOST_SCORES` by a seeded draw."""
        keep = np.sort(np.random.default_rng(0).permutation(len(self.right))[:MOST_SCORES])
        return {
            "confidence": [round(float(value), 6) for value in self.confidence[keep]],
            "right": [int(value) for value in self.right[keep]],
        }

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Abstain:
        """Read what `as_json` gave."""
        return cls(np.asarray(value["confidence"], np.float64), np.asarray(value["right"], bool))


def abstention(known: Abstain, wanted: float) -> dict[str, float] | None:
    """The lowest threshold whose answers are right often enough, by the lower end of a one-sided 90 % Wilson interval.

    Args:
        known: Of texts that the student did not learn from.
        wanted: Precision among what is answered, in (0, 1).

    Returns:
        `{"threshold", "coverage", "precision"}` on these texts, or None if no threshold is good enough.
    """
    n = len(known.right)
    if n == 0:
        return None
    right, answered = np.cumsum(known.right.astype(np.int64)), np.arange(1, n + 1)
    last_of_ties = np.append(known.confidence[1:] < known.confidence[:-1], True)
    good = (wilson(right / answered, answered, Z80)[0] >= wanted) & last_of_ties
    if not good.any():
        return None
    at = int(np.flatnonzero(good)[-1])
    return {
        "threshold": round(float(known.confidence[at]), 6),
        "coverage": round(float(answered[at] / n), 4),
        "precision": round(float(right[at] / answered[at]), 4),
    }
