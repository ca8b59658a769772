"""Trust: temperature, conformal label sets, thresholds for a wanted precision, and noticing texts unlike the training texts.

All but the last need gold that the student did not learn from, so `student_dev` carries them and `student`, which never sees gold
of dev, carries only the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.students.head import loss_of, probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRECISIONS = (0.8, 0.9, 0.95, 0.99)
MOST_SCORES = 1000


def logits_from(probs: NDArray[np.floating[Any]], multi: bool) -> NDArray[np.float64]:
    """Logits that give these probabilities (up to a constant per row for a single task)."""
    p = np.clip(np.asarray(probs, np.float64), 1e-7, 1 - 1e-7)
    return np.log(p) - np.log1p(-p) if multi else np.log(p)


def fit_temperature(probs: NDArray[np.floating[Any]], gold: NDArray[np.floating[Any]], multi: bool) -> float:
    """The temperature that makes probabilities fit gold best (Guo et al. 2017).

    Args:
        probs: [n, k] of a student.
        gold: [n, k] of 0 and 1.
        multi: Whether each label stands alone.

    Returns:
        T in [0.05, 20]; logits / T have the lowest cross-entropy. 1.0 for fewer than 20 texts.
    """
    from scipy.optimize import minimize_scalar

    if len(probs) < 20:
        return 1.0
    logits = logits_from(probs, multi)
    ones = np.ones(len(probs))
    found = minimize_scalar(
        lambda log_t: loss_of(probabilities(logits / np.exp(log_t), multi), gold, ones, multi),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.round(np.exp(found.x), 4))


def expected_calibration_error(probs: NDArray[np.floating[Any]], gold: NDArray[np.int64], bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their share (single tasks).

    Args:
        probs: [n, k].
        gold: int64 [n], true columns.
        bins: Of confidence.

    Returns:
        In [0, 1]; 0 is perfectly calibrated.
    """
    confidence = probs.max(axis=1)
    right = probs.argmax(axis=1) == gold
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    total = 0.0
    for number in range(bins):
        mine = place == number
        if mine.any():
            total += float(mine.mean()) * abs(float(right[mine].mean()) - float(confidence[mine].mean()))
    return total


def conformal_scores(probs: NDArray[np.floating[Any]], gold: NDArray[np.floating[Any]], multi: bool) -> list[Any]:
    """One minus the probability of what is true, ascending: what conformal sets of any error rate are made from.

    A set made with error rate a then misses the true label in at most a of exchangeable texts (Vovk et al. 2005; the scores of
    Sadinle et al. 2019). In a multi task there is one list per label, over the texts that have it.

    Args:
        probs: [n, k]; gold: [n, k] of 0 and 1.
        multi: Whether each label stands alone.

    Returns:
        A list of at most 1,000 scores (evenly spaced order statistics beyond that), or a list of such lists.
    """
    if multi:
        return [_thin(1 - probs[gold[:, label] > 0.5, label]) for label in range(gold.shape[1])]
    return _thin(1 - probs[np.arange(len(probs)), gold.argmax(axis=1)])


def conformal_limit(scores: Sequence[float], error_rate: float) -> float:
    """The probability a label needs to enter the set: 1 - the ceil((n + 1)(1 - a))-th smallest score, 0 if there is none."""
    ordered = np.sort(np.asarray(scores, np.float64))
    rank = int(np.ceil((len(ordered) + 1) * (1 - error_rate)))
    return 0.0 if rank > len(ordered) else 1.0 - float(ordered[rank - 1])


def abstention(probs: NDArray[np.floating[Any]], gold: NDArray[np.int64], wanted: float) -> dict[str, float] | None:
    """The lowest threshold whose answers are right often enough, by the lower end of a 90 % Wilson interval.

    Args:
        probs: [n, k].
        gold: int64 [n].
        wanted: Precision among answered texts, in (0, 1).

    Returns:
        `{"threshold", "coverage", "precision"}` on these texts, or None if no threshold is good enough.
    """
    confidence = probs.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(probs.argmax(axis=1)[order] == gold[order])
    answered = np.arange(1, len(order) + 1)
    last_of_ties = np.append(confidence[order][1:] < confidence[order][:-1], True)
    good = (wilson_low(right, answered) >= wanted) & last_of_ties
    if not good.any():
        return None
    at = int(np.flatnonzero(good)[-1])
    return {
        "threshold": round(float(confidence[order][at]), 6),
        "coverage": round(float(answered[at] / len(order)), 4),
        "precision": round(float(right[at] / answered[at]), 4),
    }


def wilson_low(right: NDArray[np.int64], n: NDArray[np.int64], z: float = 1.2816) -> NDArray[np.float64]:
    """The lower end of Wilson's interval for a share; z = 1.2816 leaves 10 % below."""
    share = right / n
    middle = share + z**2 / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.asarray((middle - spread) / (1 + z**2 / n))


def scope_of(
    vectors: NDArray[np.float32], targets: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]]
) -> dict[str, Any]:
    """What is needed to notice a text unlike the training texts: a centroid per label and how near texts lie to theirs.

    Args:
        vectors: float32 [n, d], unit vectors of the training texts.
        targets: [n, k]; weights: [n].

    Returns:
        `{"centroids": [k][d], "limits": {"0.01": cosine, "0.05": ...}}`: the cosine to the nearest centroid that this share of
        the training texts falls short of.
    """
    known = np.nan_to_num(np.asarray(targets, np.float64), nan=0.0) * np.asarray(weights)[:, None]
    sums = known.T @ vectors
    centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    nearest = (vectors @ centroids.T).max(axis=1)
    limits = {str(share): round(float(np.quantile(nearest, share)), 5) for share in (0.01, 0.05, 0.1)}
    return {"centroids": np.round(centroids, 5).tolist(), "limits": limits}


def in_scope(vectors: NDArray[np.float32], scope: dict[str, Any]) -> NDArray[np.float64]:
    """Cosine of each text to the nearest label's centroid: float64 [n]; low means unlike the training texts."""
    return np.asarray((np.asarray(vectors, np.float64) @ np.asarray(scope["centroids"]).T).max(axis=1))


def trust_on(probs: NDArray[np.floating[Any]], gold: NDArray[np.floating[Any]], multi: bool) -> dict[str, Any]:
    """Conformal scores and abstention thresholds from gold that was not learned from.

    Args:
        probs: [n, k] of the student, temperature included; gold: [n, k] of 0 and 1.
        multi: Whether each label stands alone.

    Returns:
        `{"texts", "conformal", "abstain"}` (no `abstain` for multi tasks).
    """
    found: dict[str, Any] = {"texts": len(probs), "conformal": conformal_scores(probs, gold, multi)}
    if not multi:
        columns = gold.argmax(axis=1)
        found["abstain"] = {str(wanted): abstention(probs, columns, wanted) for wanted in PRECISIONS}
    return found


def _thin(scores: NDArray[np.floating[Any]]) -> list[float]:
    ordered = np.sort(np.asarray(scores, np.float64))
    if len(ordered) > MOST_SCORES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_SCORES).round().astype(int)]
    return [round(float(score), 6) for score in ordered]
