"""Which texts to ask about: where what is believed is doubtful, spread over the texts; and answers that are doubtful.

A text that nothing voted on has no belief of its own. Taking it for wholly doubtful asks about nothing else, which skews the
classes of what is asked and teaches least: a classifier of the texts says most of their labels already. So its belief is
guessed by a classifier taught with what is believed of the others.

Goh, Mueller: ActiveLab: active learning with re-labeling by multiple annotators. 2023. A text is wanted the more the less its
label is believed by the model and by those who voted on it, each weighed by how often it is right; so texts that were
answered before, by somebody doubtful, are compared with fresh ones on one scale.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from factory.errors import InputError
from factory.label_matrix import VoteSet
from factory.logistic import fit_logistic

Strategy = Literal["auto", "uncertainty", "active", "random", "audit"]
POOL = 5
"""`auto` spreads a batch over so many times as many doubtful texts."""


def pick(
    budget: int, probs: np.ndarray, votes: VoteSet, *, keys: np.ndarray, features: Any = None,
    open_rows: np.ndarray | None = None, strategy: Strategy = "auto", seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Choose the rows to ask about, the most wanted first.

    Args:
        budget: How many (M).
        probs: Float [n, k], what is believed now; rows without votes are not read if there are features.
        votes: The votes behind it, row by row.
        keys: uint64 [n], one number per text; equal scores go by it, never by row order.
        features: Float [n, d], rows of length 1, dense or sparse; tells of texts without votes, and spreads a batch.
        open_rows: bool [n], which rows may be asked about; all by default. The others still tell of their like.
        strategy: One of `Strategy`. `uncertainty`: the least believed; `auto`: of the five-fold least believed those
            that are unlike each other; `active`: by `active_score`.
        seed: Of `random`.

    Returns:
        int64 [min(budget, open rows)] rows.

    Raises:
        InputError: An unknown strategy.
    """
    check_strategy(strategy)
    rows = np.arange(len(probs)) if open_rows is None else np.flatnonzero(open_rows)
    budget = min(budget, len(rows))
    if budget <= 0:
        return np.zeros(0, np.int64)
    if strategy in ("random", "audit"):
        return np.random.default_rng(seed).permutation(rows)[:budget]
    if features is not None:
        probs = guessed(probs, votes, features)
    score = 1 - (active_score(probs, votes) if strategy == "active" else probs.max(axis=1))
    order = rows[np.lexsort((keys[rows], -score[rows]))]
    if strategy != "auto" or features is None:
        return order[:budget]
    return spread(order[: POOL * budget], budget, features, score)


def check_strategy(strategy: str) -> None:
    """Refuse an unknown strategy.

    Raises:
        InputError: It is unknown.
    """
    if strategy not in get_args(Strategy):
        raise InputError(f"there is no strategy `{strategy}`", fix=f"Use one of {', '.join(get_args(Strategy))}")


def guessed(probs: np.ndarray, votes: VoteSet, features: Any) -> np.ndarray:
    """Probabilities [n, k] with those of rows without votes by a classifier taught with the others."""
    known = votes.covered
    if known.all() or not known.any():
        return probs
    head = fit_logistic(features[known], probs[known], np.ones(int(known.sum())), c=10.0)
    out = np.array(probs, np.float64)
    out[~known] = head.predict_proba(features[~known])
    return out


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


def spread(order: np.ndarray, budget: int, features: Any, score: np.ndarray) -> np.ndarray:
    """Greedily the rows of `order` that are wanted and unlike those taken (score times distance to the nearest taken).

    A row's gain only falls as others are taken, so it is computed anew only while it leads (lazy greedy): memory grows with
    the rows, and time with what must be looked at again.
    """
    part, wanted = features[order], score[order]
    nearest, seen = np.zeros(len(order)), np.zeros(len(order), np.int64)
    taken = [0]
    leading = [(-float(wanted[row]), row) for row in range(1, len(order))]
    heapq.heapify(leading)
    while len(taken) < budget:
        _, row = heapq.heappop(leading)
        if seen[row] < len(taken):
            close = part[taken[seen[row] :]] @ part[row].T
            near = float((close.toarray() if hasattr(close, "toarray") else np.asarray(close)).max())
            nearest[row], seen[row] = max(nearest[row], near), len(taken)
            heapq.heappush(leading, (-float(wanted[row] * (1 - np.clip(nearest[row], 0, 1))), row))
        else:
            taken.append(row)
    return np.asarray(order[np.array(taken)])


def beliefs(probs: np.ndarray, active: Sequence[int], *, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """What is believed of each text, as `pick` takes it.

    Args:
        probs: Float [n, label numbers], NaN where nothing is known.
        active: Numbers of the labels on the card.
        single: Whether a text has one label.

    Returns:
        Float [n, k] of the active labels, and nothing; for a `multi` task [n, 2], no and yes of each text's most doubtful label,
        and that label's number [n].
    """
    wide = np.full((len(probs), max(active) + 1), np.nan)  # a label may be newer than the probabilities
    width = min(wide.shape[1], probs.shape[1])
    wide[:, :width] = probs[:, :width]
    known = wide[:, list(active)]
    if single:
        return np.nan_to_num(known), np.zeros(0, np.int64)
    chance = np.where(np.isnan(known), 0.5, known)
    doubtful = np.abs(chance - 0.5).argmin(axis=1)
    yes = chance[np.arange(len(chance)), doubtful]
    return np.stack([1 - yes, yes], axis=1), np.array(active)[doubtful]


def on_label(votes: VoteSet, targets: Sequence[int | None], labels: np.ndarray) -> VoteSet:
    """Of each row's votes those that speak of its label; `targets` are the labels that the functions speak of."""
    target = np.array([-1 if number is None else number for number in targets], np.int64)
    row = np.repeat(np.arange(len(votes)), votes.lengths)
    kept = target[votes.codes.astype(np.int64) // votes.classes] == labels[row]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(votes)))])
    return VoteSet(votes.codes[kept], indptr, votes.lfs, votes.classes)
