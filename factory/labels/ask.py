"""Which texts to ask about: uncertainty, disagreement, holes in coverage, density, and answers that are doubtful.

Goh, Mueller: ActiveLab: active learning with re-labeling by multiple annotators. 2023. A text is wanted the more the less its
label is believed by the model and by those who voted on it, each weighed by how often it is right; so texts that were
answered before, by somebody doubtful, are compared with fresh ones on one scale.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from factory.errors import InputError
from factory.labels.votes import VoteSet

Strategy = Literal["auto", "uncertainty", "disagreement", "coverage", "density", "active", "random"]
POOL = 5
NEAREST = 10


def pick(
    budget: int,
    probs: np.ndarray,
    votes: VoteSet,
    *,
    keys: np.ndarray,
    features: Any = None,
    strategy: Strategy = "auto",
    seed: int = 0,
) -> np.ndarray:
    """Choose the rows to ask about, the most wanted first.

    Args:
        budget: How many (M).
        probs: Float [n, k], what is believed now.
        votes: The votes behind it, row by row.
        keys: uint64 [n], one number per text; equal scores go by it, never by row order.
        features: Float [n, d], rows of length 1, dense or sparse; spreads a batch over the texts. Needed by `density`.
        strategy: One of `Strategy`; `auto` takes the five-fold most wanted by uncertainty and holes in coverage, weighed by
            how typical a text is, and spreads the batch over them.
        seed: Of `random` and of the spread.

    Returns:
        int64 [min(budget, n)] rows.

    Raises:
        InputError: An unknown strategy, or `density` without vectors.
    """
    check_strategy(strategy)
    budget = min(budget, len(probs))
    if budget <= 0:
        return np.zeros(0, np.int64)
    if strategy == "random":
        return np.random.default_rng(seed).permutation(len(probs))[:budget]
    if strategy == "density" and features is None:
        raise InputError(
            "the strategy `density` needs vectors of the texts", fix="Use `uncertainty`, or give an encoder"
        )
    score = wanted(strategy, probs, votes)
    if features is not None and strategy in ("auto", "density"):
        score = score * typical(features, seed)
    order = np.lexsort((keys, -score))
    if features is None or strategy != "auto" or budget == len(probs):
        return order[:budget]
    return spread(order[: POOL * budget], budget, features, score)


def check_strategy(strategy: str) -> None:
    """Refuse what is no strategy.

    Raises:
        InputError: It is none.
    """
    if strategy not in get_args(Strategy):
        raise InputError(f"there is no strategy `{strategy}`", fix=f"Use one of {', '.join(get_args(Strategy))}")


def wanted(strategy: Strategy, probs: np.ndarray, votes: VoteSet) -> np.ndarray:
    """How much each text is wanted, float64 [n], 0 ... 1."""
    classes = probs.shape[1]
    unsure = (1 - probs.max(axis=1)) * classes / max(classes - 1, 1)
    counts = votes.class_votes()
    said = counts.sum(axis=1)
    shares = counts / np.maximum(said, 1)[:, None]
    torn = 1 - np.where(said > 0, shares.max(axis=1), 1.0)
    hole = (said == 0).astype(np.float64)
    if strategy == "uncertainty":
        return unsure
    if strategy == "disagreement":
        return torn
    if strategy == "coverage":
        return hole + 1e-3 * unsure
    if strategy == "active":
        return 1 - active_score(probs, votes)
    if strategy == "density":
        return np.ones(len(probs))
    return (unsure + hole) / 2 + 0.01


def active_score(probs: np.ndarray, votes: VoteSet) -> np.ndarray:
    """ActiveLab's score of each text's label, 0 ... 1: the lowest are to be asked about, again if need be.

    The mean of the model's belief in the label, of every voter's (its vote is right as often as voters are on average), and
    of chance, weighed by trust: how much nearer to always right a voter is than always saying the commonest label would be.

    Args:
        probs: Float [n, k], what is believed now.
        votes: The votes behind it, row by row.
    """
    k = votes.classes
    label = probs.argmax(axis=1)
    row = np.repeat(np.arange(len(votes)), votes.lengths)
    codes = votes.codes.astype(np.int64)
    voter, agrees = codes // k, codes % k == label[row]
    compared = votes.lengths[row] > 1
    met = np.bincount(voter[compared], minlength=votes.lfs)
    hits = np.bincount(voter[compared], weights=agrees[compared], minlength=votes.lfs)
    right = float(hits.sum() / max(met.sum(), 1)) if met.any() else 0.5 + 0.5 / k
    base = float(np.bincount(label, minlength=k).max() / max(len(label), 1))
    accuracy = (hits + right) / (met + 1)  # one vote's worth of the average for those seldom compared
    trust = np.maximum(1 - (1 - accuracy) / max(1 - base, 1e-3), 1e-3)
    mean_trust = float(trust.mean()) if votes.lfs else 1.0
    belief = np.where(agrees, right, (1 - right) / max(k - 1, 1))
    said = np.bincount(row, weights=trust[voter], minlength=len(votes))
    believed = np.bincount(row, weights=trust[voter] * belief, minlength=len(votes))
    top: np.ndarray = probs.max(axis=1)
    score: np.ndarray = (mean_trust * top + mean_trust / k + believed) / (2 * mean_trust + said)
    return score


def typical(features: Any, seed: int, *, sample: int = 2000) -> np.ndarray:
    """Mean cosine to the nearest of a sample of texts, scaled to 0.5 ... 1: outliers are worth less."""
    n = features.shape[0]
    at = np.sort(np.random.default_rng(seed).permutation(n)[:sample])
    close = features @ features[at].T
    close = np.asarray(close.toarray() if hasattr(close, "toarray") else close, np.float64)
    top = min(NEAREST + 1, close.shape[1])
    mean = np.partition(close, -top, axis=1)[:, -top:].mean(axis=1)
    low, high = np.percentile(mean, [5, 95])
    return 0.5 + 0.5 * np.clip((mean - low) / max(high - low, 1e-9), 0, 1)


def spread(order: np.ndarray, budget: int, features: Any, score: np.ndarray) -> np.ndarray:
    """Greedily the rows of `order` that are wanted and unlike those taken (score times distance to the nearest taken)."""
    part = features[order]
    close = part @ part.T
    close = np.asarray(close.toarray() if hasattr(close, "toarray") else close, np.float64)
    taken = [0]
    nearest = close[0].copy()
    for _ in range(budget - 1):
        gain = score[order] * (1 - np.clip(nearest, 0, 1))
        gain[taken] = -1
        best = int(gain.argmax())
        taken.append(best)
        nearest = np.maximum(nearest, close[best])
    return order[np.array(taken)]
