"""What every label model can do, and the form that most of them end in: a weight for every vote, added up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import ge, gt, le, lt
from typing import Any, Protocol

import numpy as np

from factory.errors import InputError
from factory.label_matrix import VoteSet, as_votes

LOG_ZERO = -1e4
"""Stands for the logarithm of 0: far below any sum of real logarithms, and still a number that can be taken back."""


class LabelModel(Protocol):
    """A fitted model: votes in, a probability for every class out."""

    @property
    def name(self) -> str:
        """As the table of models calls it."""
        ...

    @property
    def classes(self) -> int:
        """Number of classes (k)."""
        ...

    def predict_proba(self, votes: Any) -> np.ndarray:
        """float32 [n, k], rows add up to 1. A row without votes gets what the model believes of such a text."""
        ...

    def params(self) -> Mapping[str, Any]:
        """What was learned, as JSON-able values."""
        ...


@dataclass(frozen=True)
class WrappedModel:
    """What a label model around another takes from it.

    Attributes:
        inner: The model inside.
    """

    inner: LabelModel

    @property
    def name(self) -> str:
        """Of the model inside."""
        return self.inner.name

    @property
    def classes(self) -> int:
        """Number of classes (k)."""
        return self.inner.classes


@dataclass(frozen=True)
class LogLinear:
    """P(y | votes) proportional to exp(bias[y] + the sum of weights[vote, y] over the votes).

    Attributes:
        name: Of the model it was fitted as.
        classes: Number of classes (k).
        weights: float64 [m k, k].
        bias: float64 [k], what a text without votes gets.
        facts: JSON-able values worth keeping (iterations, balance, warnings).
    """

    name: str
    classes: int
    weights: np.ndarray
    bias: np.ndarray
    facts: Mapping[str, Any] = field(default_factory=dict)

    def predict_proba(self, votes: VoteSet | Any) -> np.ndarray:
        """Probabilities float32 [n, k] of a `VoteSet` or a dense label matrix with the columns of the fit."""
        data = as_votes(votes, self.classes)
        check_width(data, len(self.weights) // self.classes)
        out = np.empty((len(data), self.classes), np.float32)
        for rows, part, _ in data.chunks():
            out[rows] = softmax(part @ self.weights + self.bias)
        return out

    def params(self) -> Mapping[str, Any]:
        """The facts and the bias; weights only while they are few."""
        found = {**self.facts, "bias": _rounded(self.bias)}
        if self.weights.size <= 4096:
            found["weights"] = _rounded(self.weights)
        return found


def softmax(scores: np.ndarray) -> np.ndarray:
    """Rows of scores to rows that add up to 1, without overflow. Overwrites its argument."""
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def log_softmax(scores: Any) -> np.ndarray:
    """The logarithm of `softmax`, float64 [n, k]."""
    found = np.asarray(scores, np.float64)
    found = found - found.max(axis=1, keepdims=True)
    result: np.ndarray = found - np.log(np.exp(found).sum(axis=1, keepdims=True))
    return result


def safe_log(values: np.ndarray) -> np.ndarray:
    """The logarithm, with `LOG_ZERO` for zeros."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(values), LOG_ZERO))


def check_width(votes: VoteSet, lfs: int) -> None:
    """Refuse votes with another number of labelling functions than the model was fitted on.

    Raises:
        InputError: They differ.
    """
    if votes.lfs != lfs:
        raise InputError(f"the model was fitted on {lfs} labelling functions, and these votes have {votes.lfs}")


def check_number(
    name: str, value: Any, *, least: float | None = None, above: float | None = None, most: float | None = None,
    below: float | None = None, whole: bool = False,
) -> None:  # fmt: skip
    """Refuse a parameter of a label model that is not a number, or not in its range.

    Raises:
        InputError: With the range in words.
    """
    all_bounds = (("at least", least, ge), ("above", above, gt), ("at most", most, le), ("below", below, lt))
    bounds = [(words, bound, holds) for words, bound, holds in all_bounds if bound is not None]
    good = not isinstance(value, bool) and isinstance(value, int | np.integer if whole else int | float | np.number)
    if good and math.isfinite(value) and all(holds(value, bound) for _, bound, holds in bounds):
        return
    wanted = " ".join(
        ["a whole number" if whole else "a number", *(f"{words} {bound:g}" for words, bound, _ in bounds)]
    )
    raise InputError(f"`{name}` is {wanted}, not {value!r}")


def checked_balance(balance: Any, classes: int) -> np.ndarray:
    """A class balance as float64 [k] that adds up to 1; uniform if none is given.

    Raises:
        InputError: Another number of classes, a share that is not above 0, or no numbers.
    """
    if balance is None:
        return np.full(classes, 1 / classes)
    try:
        shares = np.asarray(balance, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("the class balance is a list of numbers, one per class") from error
    if shares.shape != (classes,):
        raise InputError(f"the class balance has {shares.size} shares, and there are {classes} classes")
    if not np.isfinite(shares).all() or (shares <= 0).any():
        fix = "Give a rare class a small share such as 0.001"
        raise InputError("every share of the class balance is above 0", fix=fix)
    return np.asarray(shares / shares.sum())


def coin_weights(accuracies: np.ndarray, classes: int) -> np.ndarray:
    """Log-linear weights float64 [m k, k] of functions that are right with the given chance, and else err evenly."""
    right = np.clip(np.repeat(accuracies, classes), 1e-3, 1 - 1e-3)[:, None]
    own = np.tile(np.eye(classes), (len(accuracies), 1)) > 0
    return np.asarray(np.where(own, np.log(right), np.log((1 - right) / max(classes - 1, 1))))


def _rounded(values: np.ndarray) -> list[Any]:
    result: list[Any] = np.round(values, 6).tolist()
    return result
