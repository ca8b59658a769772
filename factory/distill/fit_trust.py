"""Trust from gold that the student did not learn from: temperature, conformal label sets, thresholds for a wanted precision.

`student_dev` carries them; `student`, which never sees gold of dev, carries only what notices texts out of scope (`fit_scope`).
What is fitted here is read by `factory.predict.trust`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from factory.logistic import loss_of, probabilities
from factory.predict.trust import MOST_SCORES, Abstain

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def trust_on(probs: NDArray[np.floating[Any]], gold: NDArray[np.floating[Any]], multi: bool) -> dict[str, Any]:
    """Conformal scores and what abstention is read from, out of gold that was not learned from.

    Args:
        probs: [n, k] of the student, temperature included; gold: [n, k] of 0 and 1.
        multi: Whether each label stands alone.

    Returns:
        `{"texts", "conformal", "abstain"}`.
    """
    return {
        "texts": len(probs),
        "conformal": conformal_scores(probs, gold, multi),
        "abstain": Abstain.of(probs, gold, multi).as_json(),
    }


def _thin(scores: NDArray[np.floating[Any]]) -> list[float]:
    ordered = np.sort(np.asarray(scores, np.float64))
    if len(ordered) > MOST_SCORES:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_SCORES).round().astype(int)]
    return [round(float(score), 6) for score in ordered]
