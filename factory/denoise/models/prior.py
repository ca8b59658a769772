"""Dawid and Skene's model with a prior on what functions say, and class shares learned only if votes tell.

Without a prior, functions that vote for one class, or seldom, lose their meaning: with abstention missing, a function
that only ever says one class says nothing at all. Where most votes come from such functions, the prior is ten votes that are
right in four of five. Where functions say several classes, the data tell more: a third of the prior's votes is what all of
these functions say of a class, pooled anew in every round of EM.

The class shares are uniform where most votes come from functions that vote for one class only: such votes tell how often a
function fires, not how common a class is, and shares learned from them collapse. Elsewhere they lie half way (geometric mean)
between uniform and majority vote's shares, since uniform shares make the rare class of a skewed task common; and they are
learned where that predicts held-out votes clearly better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, check_number, safe_log, softmax
from factory.denoise.models.dawid_skene import (
    FIRM,
    ONE_CLASS,
    Belief,
    expectation_maximisation,
    halfway_shares,
    pooled,
    symmetric,
)  # fmt: skip
from factory.denoise.people import answers, crowd_of
from factory.label_matrix import VoteSet, as_votes

MOST_PATTERNS = 50_000
SEVERAL = 0.5
CLEARLY = 3.0
EM_WORTH = 10.0
"""In answers for each class: what EM believes of a function, where people's answers judge it too."""
CELLS = 4_000_000
"""Numbers held at once while votes are held out, 32 MB."""


def fit(
    votes: VoteSet | Any, *, classes: int, balance: Any = None, strength: float | None = None, accuracy: float = 0.8,
    max_iter: int = 50, people: Sequence[int] = (),
) -> LogLinear:  # fmt: skip
    """Fit by EM, twice where the class shares may be learned.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain.
        classes: Number of classes.
        balance: Class balance [k], kept fixed; if not given, see above.
        strength: Weight of the prior on each column of each confusion matrix, in votes, above 0; if not given, see above.
        accuracy: What the prior believes a vote's chance to be right is, as far as votes do not tell; between 0 and 1.
        max_iter: Most rounds of EM, 1 or more.
        people: Functions that are people's answers: the others are judged by them (see `judged`).

    Raises:
        InputError: A parameter outside its range.
    """
    if strength is not None:
        check_number("strength", strength, above=0)
    check_number("accuracy", accuracy, above=0, below=1)
    data, _ = as_votes(votes, classes).patterns()
    several = several_classes(data) >= SEVERAL
    check_number("max_iter", max_iter, least=1, whole=True)
    firm = strength or FIRM
    alone = Belief(np.full(data.lfs, firm), symmetric(classes, accuracy)[None], np.zeros(data.lfs, np.int64))
    belief = pooled(data, accuracy, firm) if several else lambda _: alone

    def fitted(shares: Any, estimate: bool = False) -> LogLinear:
        model = expectation_maximisation(data, belief, balance=shares, estimate_balance=estimate, max_iter=max_iter)
        return judged(model, data, people) if people else model

    if balance is not None or not several:
        return fitted(balance)
    plain = fitted(halfway_shares(data))
    learned = fitted(None, estimate=True)
    (first, weight), (second, _) = held_out(plain, data), held_out(learned, data)
    mean, error = _mean(second - first, weight)
    return learned if mean > CLEARLY * error else plain


def judged(model: LogLinear, votes: VoteSet, people: Sequence[int]) -> LogLinear:
    """The model with its functions judged by people's answers.

    What EM believes of a function counts as `EM_WORTH` answers for each class. In EM itself some hundred answers would drown:
    functions that err together confirm each other on every text that nobody answered.
    """
    shares = answers(votes, people, crowd_of(votes, people))[0]
    said = np.zeros_like(model.weights)
    for rows, part, counts in votes.chunks():
        said += part.T @ (shares[rows] * counts[:, None])
    rates = (EM_WORTH * np.exp(model.weights) + said).reshape(votes.lfs, votes.classes, votes.classes)
    rates /= rates.sum(axis=1, keepdims=True)
    return replace(model, weights=safe_log(rates).reshape(model.weights.shape))


def several_classes(votes: VoteSet) -> float:
    """The share of votes by functions that say several classes."""
    said = votes.polarity()
    total = said.sum(axis=1)
    mixed = said.max(axis=1) < ONE_CLASS * total
    return float(total[mixed].sum() / max(total.sum(), 1.0))


def held_out(model: LogLinear, votes: VoteSet, *, shares: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """How well a vote is foretold by its text's other votes.

    Each vote v of function j is held out in turn. Its chance is sum_y P(y | other votes) P(v | y, j), with beliefs by the model,
    or with `shares` by the other votes' shares (half a vote added to each class); P(v | y, j) is the model's in both.

    Returns:
        Mean log chance per text (rows with two votes or more, at most 50,000 of them), and each text's weight.
    """
    data, _ = votes.patterns()
    rows = np.flatnonzero(data.lengths >= 2)
    if len(rows) > MOST_PATTERNS:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_PATTERNS])
    data = data.take(rows)
    chances, weights = [np.zeros(0)], [np.zeros(0)]
    fold = np.tile(np.eye(data.classes), (data.lfs, 1))
    longest = int(data.lengths.max(initial=1))
    for _, part, counts in data.chunks(max(1, CELLS // (longest * data.classes))):
        lengths = np.diff(part.indptr)
        row = np.repeat(np.arange(len(lengths)), lengths)
        if shares:
            belief = (part @ fold)[row] - fold[part.indices] + 0.5
            belief /= belief.sum(axis=1, keepdims=True)
        else:
            belief = softmax((part @ model.weights + model.bias)[row] - model.weights[part.indices])
        log = np.log(np.maximum((belief * np.exp(model.weights[part.indices])).sum(axis=1), 1e-12))
        chances.append(np.bincount(row, weights=log, minlength=len(lengths)) / lengths)
        weights.append(counts)
    return np.concatenate(chances), np.concatenate(weights)


def gain_over_shares(model: LogLinear, votes: VoteSet) -> tuple[float, float, float]:
    """How much better the model's beliefs foretell held-out votes than the shares of votes do.

    A figure for the report, and no reason to choose: on votes that the model was fitted on it is nearly always above 0.

    Returns:
        Mean difference of log chances per text, its standard error, and the number of texts with two votes or more.
    """
    (mine, weight), (plain, _) = held_out(model, votes), held_out(model, votes, shares=True)
    return (*_mean(mine - plain, weight), float(weight.sum()))


def _mean(values: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its standard error; zeros where there is nothing."""
    total = float(weight.sum())
    if total == 0:
        return 0.0, 0.0
    mean = float(values @ weight / total)
    return mean, float(np.sqrt((values - mean) ** 2 @ weight / total / total))
