"""Logistic regression on soft labels over sparse features, dense ones beside them: shared by `linear`, `static`, `hybrid`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from factory.students.head import folds_of, loss_of, probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from factory.students.base import Lesson, Trial

ConfigT = TypeVar("ConfigT")

STRENGTHS = (1.0, 10.0, 100.0)
"""The grid of `c` that `choose_c` tries."""


def regress_at(
    matrix: csr_matrix, lesson: Lesson, config: ConfigT, *, dense: NDArray[np.floating[Any]] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], ConfigT, list[Trial]]:
    """Fit at the strength that a configuration names, or at the one that agrees best with held-out soft labels.

    Args:
        matrix: [n, v], sparse.
        lesson: Targets, weights and `multi`.
        config: Has `c`, `folds` and `seed`.
        dense: [n, d], further features, or None.

    Returns:
        Weight and bias as of `regress`, the configuration with its `c` resolved, and what was tried.
    """
    settings: Any = config
    trials: list[tuple[float, float]] = []
    if settings.c == "auto":
        best, trials = choose_c(matrix, lesson.targets, lesson.weights, settings, lesson.multi, dense=dense)
        settings = replace(settings, c=best)
    weight, bias = regress(matrix, lesson.targets, lesson.weights, float(settings.c), lesson.multi, dense=dense)
    return weight, bias, settings, [({"c": c}, loss) for c, loss in trials]


def regress(
    matrix: csr_matrix,
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    c: float,
    multi: bool,
    *,
    dense: NDArray[np.floating[Any]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logistic regression on soft labels over sparse features, by L-BFGS.

    Args:
        matrix: [n, v], sparse.
        targets: [n, k] probabilities; NaN entries of a multi task are left out of the loss.
        weights: [n].
        c: Inverse strength of the L2 penalty.
        multi: Sigmoids instead of a softmax.
        dense: [n, d], further features, or None.

    Returns:
        Weight float32 [k, d + v] (dense features first) and bias float32 [k].
    """
    from scipy.optimize import minimize

    n, v = matrix.shape
    d = 0 if dense is None else dense.shape[1]
    k = targets.shape[1]
    known = ~np.isnan(targets)
    y = np.where(known, targets, 0.0)
    mass = known * weights[:, None]
    x = matrix.astype(np.float64)
    xt = x.T.tocsr()
    extra = np.zeros((n, 0)) if dense is None else np.asarray(dense, np.float64)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(k, d + v + 1)
        w = parameters[:, :-1]
        z = np.asarray(x @ w[:, d:].T) + extra @ w[:, :d].T + parameters[:, -1]
        if multi:
            losses = np.logaddexp(0, z) - y * z
            slope = (1 / (1 + np.exp(-np.clip(z, -500, 500))) - y) * mass
            loss = float((losses * mass).sum())
        else:
            top = z.max(axis=1, keepdims=True)
            log_sum = top + np.log(np.exp(z - top).sum(axis=1, keepdims=True))
            loss = float((-(y * (z - log_sum)).sum(axis=1) * weights).sum())
            slope = (np.exp(z - log_sum) * y.sum(axis=1, keepdims=True) - y) * weights[:, None]
        features = np.concatenate([slope.T @ extra, np.asarray(xt @ slope).T], axis=1)
        gradient = np.concatenate([features + w / c, slope.sum(axis=0)[:, None]], axis=1)
        return (loss + float((w**2).sum()) / (2 * c)) / n, gradient.reshape(-1) / n

    options = {"maxiter": 150, "ftol": 1e-7, "gtol": 1e-6}
    found = minimize(objective, np.zeros(k * (d + v + 1)), jac=True, method="L-BFGS-B", options=options)
    solution = found.x.reshape(k, d + v + 1)
    return np.ascontiguousarray(solution[:, :-1], np.float32), solution[:, -1].astype(np.float32)


def choose_c(
    matrix: csr_matrix,
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    config: Any,
    multi: bool,
    *,
    dense: NDArray[np.floating[Any]] | None = None,
    limit: int = 4000,
) -> tuple[float, list[tuple[float, float]]]:
    """Choose `c` by agreement with held-out soft labels, on at most `limit` texts.

    Args:
        matrix: As in `regress`, as are targets, weights, multi and dense.
        config: Has `folds` and `seed`.

    Returns:
        The strength with the lowest held-out soft cross-entropy, and (strength, loss) for each.
    """
    n = matrix.shape[0]
    if n < 2 * config.folds:
        return 10.0, []
    part = np.sort(np.random.default_rng([config.seed, n]).permutation(n)[:limit])
    fold = folds_of(len(part), config.folds, config.seed)
    extra = np.zeros((n, 0), np.float32) if dense is None else dense
    d = extra.shape[1]
    trials = []
    for c in STRENGTHS:
        total = 0.0
        for number in range(config.folds):
            train, held = part[fold != number], part[fold == number]
            weight, bias = regress(matrix[train], targets[train], weights[train], c, multi, dense=extra[train])
            logits = np.asarray(matrix[held] @ weight[:, d:].T) + extra[held] @ weight[:, :d].T + bias
            total += loss_of(probabilities(logits, multi), targets[held], weights[held], multi) / config.folds
        trials.append((c, total))
    return min(trials, key=lambda trial: (trial[1], trial[0]))[0], trials
