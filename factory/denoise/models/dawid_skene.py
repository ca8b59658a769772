"""Dawid and Skene's model of annotators, fitted by expectation maximisation on sparse votes.

Dawid, Skene: Maximum likelihood estimation of observer error-rates using the EM algorithm. Applied Statistics 28(1), 1979.
Each labelling function has a confusion matrix P(vote | class). With `abstain="answer"` abstention is one of its votes, as
in WRENCH: what a function does not say then counts as well. With `abstain="missing"` it tells nothing, as in crowd-kit.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from factory.denoise.models.base import LogLinear, checked_balance, safe_log, softmax
from factory.denoise.votes import VoteSet, as_votes


def fit(
    votes: VoteSet | Any,
    *,
    classes: int,
    balance: Any = None,
    dev: Any = None,
    abstain: Literal["answer", "missing"] = "answer",
    strength: float = 0.0,
    accuracy: float = 0.8,
    estimate_balance: bool = True,
    max_iter: int = 1000,
    tolerance: float = 1e-5,
) -> LogLinear:
    """Fit class shares and confusion matrices from a start at majority vote.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain.
        classes: Number of classes.
        balance: Class balance [k], kept fixed; estimated if not given and `estimate_balance`, else uniform.
        dev: Accepted as by every model; not used.
        abstain: Whether abstention is an answer or is missing.
        strength: Weight of a Dirichlet prior on each row of each confusion matrix, in votes. It keeps functions that vote
            for one class, and functions with few votes, from losing their meaning.
        accuracy: What the prior believes a vote's chance to be right is.
        estimate_balance: Whether class shares are learned where none are given. Learning them lets a large class swallow
            the others when votes are few.
        max_iter: Most rounds of EM.
        tolerance: Stop when the class shares, and all confusion matrices together, each changed by less than this (sum of
            absolute differences).

    Returns:
        The fitted model.
    """
    data, _ = as_votes(votes, classes).patterns()
    fixed = checked_balance(balance, classes)
    if fixed is None and not estimate_balance:
        fixed = np.full(classes, 1 / classes)
    belief = strength * np.where(np.eye(classes) > 0, accuracy, (1 - accuracy) / max(classes - 1, 1))
    lfs, total = data.lfs, max(data.n, 1.0)
    said = np.zeros((lfs * classes, classes))
    share = np.zeros(classes)
    for _, part, counts in data.chunks():  # the start: shares of votes, uniform where there is none
        start = part @ np.tile(np.eye(classes), (lfs, 1))
        start[start.sum(axis=1) == 0] = 1.0
        start *= (counts / start.sum(axis=1))[:, None]
        said += part.T @ start
        share += start.sum(axis=0)
    old_prior = old_rates = None
    rounds = 0
    while True:
        prior = share / total if fixed is None else fixed
        rates, silent = _rates(said.reshape(lfs, classes, classes), share, abstain, belief)
        still = (
            old_prior is not None
            and old_rates is not None
            and np.abs(prior - old_prior).sum() < tolerance
            and _distance(rates, silent, old_rates) < tolerance
        )
        if still or rounds >= max_iter:
            break
        old_prior, old_rates = prior, (rates, silent)
        weights, bias = _weights(prior, rates, silent, abstain)
        said, share = np.zeros_like(said), np.zeros(classes)
        for _, part, counts in data.chunks():
            posterior = softmax(part @ weights + bias)
            posterior *= counts[:, None]
            said += part.T @ posterior
            share += posterior.sum(axis=0)
        rounds += 1
    weights, bias = _weights(prior, rates, silent, abstain)
    facts = {
        "balance": np.round(prior, 6).tolist(),
        "rounds": rounds,
        "converged": rounds < max_iter,
        "abstain": abstain,
        "patterns": len(data),
    }
    return LogLinear("dawid_skene", classes, weights, bias, facts)


def _rates(said: np.ndarray, share: np.ndarray, abstain: str, belief: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(vote | class) [m, k votes, k classes] and P(abstain | class) [m, k]."""
    votes = said + belief
    spoke = votes.sum(axis=1)
    if abstain == "missing":
        return np.divide(
            votes, spoke[:, None, :], out=np.zeros_like(votes), where=spoke[:, None, :] > 0
        ), np.zeros_like(spoke)
    quiet = np.maximum(share - said.sum(axis=1), 0.0)
    whole = spoke + quiet
    rates = np.divide(votes, whole[:, None, :], out=np.zeros_like(votes), where=whole[:, None, :] > 0)
    return rates, np.divide(quiet, whole, out=np.zeros_like(quiet), where=whole > 0)


def _distance(rates: np.ndarray, silent: np.ndarray, old: tuple[np.ndarray, np.ndarray]) -> float:
    return float(np.abs(rates - old[0]).sum() + np.abs(silent - old[1]).sum())


def _weights(prior: np.ndarray, rates: np.ndarray, silent: np.ndarray, abstain: str) -> tuple[np.ndarray, np.ndarray]:
    lfs, classes, _ = rates.shape
    weights = safe_log(rates)
    bias = safe_log(prior)
    if abstain == "answer":
        log_silent = safe_log(silent)
        weights = weights - log_silent[:, None, :]
        bias = bias + log_silent.sum(axis=0)
    return weights.reshape(lfs * classes, classes), bias
