"""Dawid and Skene's model of annotators, fitted by expectation maximisation on sparse votes.

Dawid, Skene: Maximum likelihood estimation of observer error-rates using the EM algorithm. Applied Statistics 28(1), 1979.
Each labelling function has a confusion matrix P(vote | class). With `abstain="answer"` abstention is one of its votes, as
in WRENCH: what a function does not say then counts as well. With `abstain="missing"` it tells nothing, as in crowd-kit.
Everything is held for the votes that occur; votes that never did get what the prior believes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from factory.denoise.models.base import LogLinear, check_number, checked_balance, safe_log, softmax
from factory.errors import InputError
from factory.label_matrix import VoteSet, as_votes

Abstain = Literal["answer", "missing"]
ONE_CLASS = 0.98
"""A function whose commonest class is at least this share of its votes says one class."""
LEAST_VOTES = 20
"""With fewer votes a function is not known to say one class: among others that say several it may have met one by chance."""
FIRM = 10.0
"""Votes that a prior is worth."""
POOL_SHARE = 1 / 3
"""How much of the prior of functions that say several classes is what they all say; the rest is an even chance of errors. On the
half of the public vote sets that it was chosen on, a third gains most over majority vote (6.4 points; none of it 6.0, all of it
5.7), and it loses nowhere there. On the other half it gains 2.8 (none of it 2.6), where all of it loses 3 to 4 points on one set
of many annotators who are right nearly always."""


@dataclass(frozen=True)
class Belief:
    """A Dirichlet prior on each column of each confusion matrix, P(vote | class).

    Attributes:
        strength: float64 [m], its weight in votes, by function.
        means: float64 [kinds, k votes, k classes], what is expected of each kind of function; columns add up to 1.
        kind: int64 [m], of each function.
    """

    strength: np.ndarray
    means: np.ndarray
    kind: np.ndarray

    def of(self, lf: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The prior's votes float64 [d, k classes] for some functions and labels, both int64 [d]."""
        return np.asarray(self.strength[lf, None] * self.means[self.kind[lf], label])


@dataclass(frozen=True)
class Counted:
    """What EM counts in a round: how often each vote that occurs was given to a text of each class.

    Attributes:
        said: float64 [d, k], by vote and class.
        lf: int64 [d], whose vote it is.
        label: int64 [d], what it says.
        lfs: Number of functions (m).
    """

    said: np.ndarray
    lf: np.ndarray
    label: np.ndarray
    lfs: int

    def by_function(self, values: np.ndarray) -> np.ndarray:
        """float64 [m, k]: values [d, k] added up over each function's votes."""
        return _added(values, self.lf, self.lfs)

    def by_label(self, rows: np.ndarray) -> np.ndarray:
        """float64 [k votes, k classes]: the counts of some votes (bool [d]) added up over functions, by what they say."""
        return _added(self.said[rows], self.label[rows], self.said.shape[1])


def _added(values: np.ndarray, owner: np.ndarray, owners: int) -> np.ndarray:
    """Rows of values [d, k] added up by their owner, float64 [owners, k]."""
    from scipy.sparse import csr_matrix

    at = np.arange(len(owner))
    total: np.ndarray = csr_matrix((np.ones(len(owner)), (owner, at)), shape=(owners, len(owner))) @ values
    return total


def symmetric(classes: int, accuracy: float) -> np.ndarray:
    """P(vote | class) float64 [k, k] of a function that is right with this chance, and else errs evenly."""
    right = np.eye(classes) > 0
    return np.where(right, accuracy, (1 - accuracy) / (classes - 1))


def fit(
    votes: VoteSet | Any, *, classes: int, balance: Any = None, abstain: Abstain = "answer", strength: float = 0.0,
    accuracy: float = 0.8, estimate_balance: bool = True, max_iter: int = 1000, tolerance: float = 1e-5,
) -> LogLinear:  # fmt: skip
    """Fit class shares and confusion matrices from a start at majority vote.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain.
        classes: Number of classes.
        balance: Class balance [k], kept fixed; estimated if not given and `estimate_balance`, else uniform.
        abstain: Whether abstention is an answer or is missing.
        strength: Weight of a Dirichlet prior on each column of each confusion matrix, in votes, 0 or more. It keeps functions
            that vote for one class, and functions with few votes, from losing their meaning.
        accuracy: What the prior believes a vote's chance to be right is, between 0 and 1.
        estimate_balance: Whether class shares are learned where none are given. Learning them lets a large class swallow
            the others when votes are few.
        max_iter: Most rounds of EM, 1 or more.
        tolerance: Stop when the class shares, and all confusion matrices together, each changed by less than this (sum of
            absolute differences).

    Raises:
        InputError: A parameter outside its range.
    """
    check_number("strength", strength, least=0)
    check_number("accuracy", accuracy, above=0, below=1)
    check_number("max_iter", max_iter, least=1, whole=True)
    check_number("tolerance", tolerance, least=0)
    if not isinstance(estimate_balance, bool):
        raise InputError(f"`estimate_balance` is true or false, and is {estimate_balance!r}")
    data, _ = as_votes(votes, classes).patterns()
    even = symmetric(classes, accuracy)[None]
    held = Belief(np.full(data.lfs, float(strength)), even, np.zeros(data.lfs, np.int64))
    return expectation_maximisation(
        data, lambda _: held, balance=balance, abstain=abstain, estimate_balance=estimate_balance, max_iter=max_iter,
        tolerance=tolerance,
    )  # fmt: skip


def expectation_maximisation(
    data: VoteSet, belief: Callable[[Counted], Belief], *, balance: Any = None, abstain: Abstain = "missing",
    estimate_balance: bool = True, max_iter: int, tolerance: float = 1e-5,
) -> LogLinear:  # fmt: skip
    """`fit` with a prior that may follow from the data.

    Args:
        data: A row per pattern.
        belief: The prior of a round, from what was counted in it.
        balance: See `fit`, as all that follow.
        abstain: Likewise.
        estimate_balance: Likewise.
        max_iter: Likewise.
        tolerance: Likewise.
    """
    classes, lfs, total = data.classes, data.lfs, max(data.n, 1.0)
    fixed = None if balance is None and estimate_balance else checked_balance(balance, classes)
    seen = np.flatnonzero(data.polarity().ravel())
    lf, label = seen // classes, seen % classes

    def counted(posteriors: Iterator[tuple[Any, np.ndarray]]) -> tuple[Counted, np.ndarray]:
        said, share = np.zeros((len(seen), classes)), np.zeros(classes)
        for part, posterior in posteriors:
            said += part.T @ posterior
            share += posterior.sum(axis=0)
        return Counted(said, lf, label, lfs), share

    found, share = counted(_vote_shares(data, seen, label))
    old: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    rounds = 0
    while True:
        prior = share / total if fixed is None else fixed
        held = belief(found)
        rates, silent, whole = _rates(found, share, abstain, held)
        moved = [np.abs(now - was).sum() for now, was in zip((prior, rates, silent), old or (), strict=False)]
        still = bool(moved) and moved[0] < tolerance and sum(moved[1:]) < tolerance
        if still or rounds >= max_iter:
            break
        old = prior, rates, silent
        weights, bias = _weights(prior, rates, silent, lf, abstain)
        found, share = counted(_posteriors(data, seen, weights, bias))
        rounds += 1
    weights, bias = _weights(prior, rates, silent, lf, abstain)
    facts = {
        "balance": np.round(prior, 6).tolist(), "rounds": rounds, "converged": rounds < max_iter, "abstain": abstain,
        "patterns": len(data),
    }  # fmt: skip
    return LogLinear("dawid_skene", classes, _for_all_votes(weights, seen, held, whole, silent, abstain), bias, facts)


def pooled(votes: VoteSet, accuracy: float, strength: float) -> Callable[[Counted], Belief]:
    """The prior of each round of EM; a third of it is what all functions that say several classes say of a class.

    Args:
        votes: What is fitted on.
        accuracy: Chance of a vote to be right where nothing tells.
        strength: Votes that it is worth for these; functions of one class get `FIRM` votes of that accuracy.
    """
    said = votes.polarity()
    total = said.sum(axis=1)
    one = (said.max(axis=1) >= ONE_CLASS * total) & (total >= LEAST_VOTES)
    alone = symmetric(votes.classes, accuracy)

    def belief(counted: Counted) -> Belief:
        pool = FIRM * alone + counted.by_label(~one[counted.lf])
        pool = POOL_SHARE * pool / pool.sum(axis=0) + (1 - POOL_SHARE) * alone
        return Belief(np.where(one, FIRM, strength), np.stack([pool, alone]), one.astype(np.int64))

    return belief


def halfway_shares(votes: VoteSet) -> np.ndarray:
    """Class shares [k] half way (geometric mean) between uniform and the mean vote shares of covered texts."""
    counts = votes.class_votes()
    said = counts.sum(axis=1)
    mean = (counts / np.maximum(said, 1)[:, None]).T @ votes.times
    covered = max(float(votes.times[said > 0].sum()), 1.0)
    half = np.sqrt(np.maximum(mean / covered, 1 / covered))
    result: np.ndarray = half / half.sum()
    return result


def _vote_shares(data: VoteSet, seen: np.ndarray, label: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
    """The start: shares of votes, uniform where there is none."""
    for _, part, counts in data.chunks(seen=seen):
        start = part @ np.eye(data.classes)[label]
        start[start.sum(axis=1) == 0] = 1.0
        start *= (counts / start.sum(axis=1))[:, None]
        yield part, start


def _posteriors(
    data: VoteSet, seen: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> Iterator[tuple[Any, np.ndarray]]:
    for _, part, counts in data.chunks(seen=seen):
        posterior = softmax(part @ weights + bias)
        posterior *= counts[:, None]
        yield part, posterior


def _rates(
    found: Counted, share: np.ndarray, abstain: Abstain, held: Belief
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(vote | class) [d, k], P(abstain | class) [m, k], and what they were divided by [m, k]."""
    votes = found.said + held.of(found.lf, found.label)
    spoke = found.by_function(found.said)
    quiet = np.maximum(share - spoke, 0.0) if abstain == "answer" else np.zeros_like(spoke)
    whole = spoke + held.strength[:, None] + quiet
    below = whole[found.lf]
    rates = np.divide(votes, below, out=np.zeros_like(votes), where=below > 0)
    return rates, np.divide(quiet, whole, out=np.zeros_like(quiet), where=whole > 0), whole


def _weights(
    prior: np.ndarray, rates: np.ndarray, silent: np.ndarray, lf: np.ndarray, abstain: Abstain
) -> tuple[np.ndarray, np.ndarray]:
    if abstain == "missing":
        return safe_log(rates), safe_log(prior)
    quiet = safe_log(silent)
    return safe_log(rates) - quiet[lf], safe_log(prior) + quiet.sum(axis=0)


def _for_all_votes(
    weights: np.ndarray, seen: np.ndarray, held: Belief, whole: np.ndarray, silent: np.ndarray, abstain: Abstain
) -> np.ndarray:
    """Weights [m k, k]: those that were fitted, and the prior's for votes that never occurred."""
    lfs, classes = whole.shape
    out = np.empty((lfs * classes, classes))
    for lf in range(lfs):
        expected = held.strength[lf] * held.means[held.kind[lf]]
        rates = np.divide(expected, whole[lf], out=np.zeros_like(expected), where=whole[lf] > 0)
        out[lf * classes : (lf + 1) * classes] = safe_log(rates) - (
            safe_log(silent[lf]) if abstain == "answer" else 0.0
        )
    out[seen] = weights
    return out
