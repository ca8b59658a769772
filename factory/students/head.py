"""A linear head on vectors, trained on soft labels: softmax for one label of many, sigmoids for any number of them.

The loss and its gradient are computed in closed form, or in torch for other losses and large sets (on the GPU if there is
one), and minimised by full-batch L-BFGS, so there is no seed and no learning rate, and the same input gives the same head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""The grid of `c` that `choose_strength` tries: inverse regularisation, as scikit-learn's `C`."""


@dataclass(frozen=True)
class Head:
    """logits = vectors @ weight.T + bias.

    Attributes:
        weight: float32 [k, d].
        bias: float32 [k].
        multi: Sigmoid per label rather than softmax over them.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    multi: bool

    def logits(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """float32 [n, k]."""
        scores: NDArray[np.float32] = np.asarray(vectors, np.float32) @ self.weight.T + self.bias
        return scores

    def predict_proba(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """float32 [n, k]."""
        return probabilities(self.logits(vectors), self.multi)

    def cooled(self, temperature: float) -> Head:
        """The head whose logits are divided by a temperature."""
        return Head(self.weight / np.float32(temperature), self.bias / np.float32(temperature), self.multi)


CLOSED_FORM_MOST = 200_000_000
"""Texts x dimensions x labels up to which the head is fitted in numpy; beyond, torch (or a GPU) is worth its start."""

Objective = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Flat parameters -> loss and gradient."""


def probabilities(logits: NDArray[np.floating[Any]], multi: bool) -> NDArray[np.float32]:
    """Softmax over the last axis, or a sigmoid of each entry; computed in float64."""
    z = np.asarray(logits, np.float64)
    if multi:
        return (1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))).astype(np.float32)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True), np.float32)


def fit_head(
    vectors: NDArray[np.floating[Any]],
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    *,
    c: float = 10.0,
    multi: bool = False,
    gce: float = 0.0,
    start: Head | None = None,
    iterations: int = 200,
) -> Head:
    """Minimise the weighted soft cross-entropy with an L2 penalty on the weights.

    The objective is sum_i w_i loss(i) + ||W||^2 / (2 c); the bias is free.

    Args:
        vectors: [n, d].
        targets: [n, k] probabilities. Multi: NaN entries are left out of the loss.
        weights: [n], mean 1.
        c: Inverse strength of the penalty, above 0.
        multi: Sigmoids instead of a softmax.
        gce: q of the generalized cross-entropy (Zhang and Sabuncu 2018, eq. 6), in (0, 1]; 0 is plain cross-entropy. Large q
            mistrusts labels that the model finds unlikely.
        start: Where to start from.
        iterations: At most so many steps of L-BFGS.

    Returns:
        The head.
    """
    from scipy.optimize import minimize

    n, d = vectors.shape
    k = targets.shape[1]
    if gce > 0 or n * d * k > CLOSED_FORM_MOST:
        objective = _by_autograd(vectors, targets, weights, c, multi, gce)
    else:
        objective = _in_closed_form(vectors, targets, weights, c, multi)
    if start is None:
        first = np.zeros((k, d + 1))
    else:
        first = np.concatenate([start.weight, start.bias[:, None]], axis=1).astype(np.float64)
    found = minimize(
        objective,
        first.reshape(-1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations, "ftol": 1e-9, "gtol": 1e-6, "maxcor": 10},
    )
    solution = found.x.reshape(k, d + 1)
    return Head(np.ascontiguousarray(solution[:, :d], np.float32), solution[:, d].astype(np.float32), multi)


def _in_closed_form(
    vectors: NDArray[np.floating[Any]],
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    c: float,
    multi: bool,
) -> Objective:
    """Plain cross-entropy and its gradient, X^T (w (p - y)), in numpy: many times faster than autograd on small sets."""
    n, d = vectors.shape
    k = targets.shape[1]
    x = np.ascontiguousarray(vectors, np.float64 if n * d <= 1_000_000 else np.float32)
    known = ~np.isnan(targets)
    y = np.where(known, targets, 0.0).astype(np.float64)
    w = np.asarray(weights, np.float64)
    m = known * w[:, None]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(k, d + 1)
        weight = parameters[:, :d]
        z = (x @ weight.T.astype(x.dtype)).astype(np.float64) + parameters[:, d]
        if multi:
            loss = float((m * (np.logaddexp(0.0, z) - y * z)).sum())
            slope = m * (1.0 / (1.0 + np.exp(-np.clip(z, -500, 500))) - y)
        else:
            z -= z.max(axis=1, keepdims=True)
            e = np.exp(z)
            total = e.sum(axis=1, keepdims=True)
            loss = float(w @ (y * (np.log(total) - z)).sum(axis=1))
            slope = w[:, None] * (e / total * y.sum(axis=1, keepdims=True) - y)
        gradient = np.empty_like(parameters)
        gradient[:, :d] = (slope.T.astype(x.dtype) @ x).astype(np.float64) + weight / c
        gradient[:, d] = slope.sum(axis=0)
        return (loss + float((weight * weight).sum()) / (2 * c)) / n, gradient.reshape(-1) / n

    return objective


def _by_autograd(
    vectors: NDArray[np.floating[Any]],
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    c: float,
    multi: bool,
    gce: float,
) -> Objective:
    """Any of the losses, in torch, on a GPU if there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    n, d = vectors.shape
    k = targets.shape[1]
    dtype = torch.float64 if n * d <= 1_000_000 else torch.float32
    x = torch.as_tensor(np.ascontiguousarray(vectors), dtype=dtype, device=device)
    known = ~np.isnan(targets)
    y = torch.as_tensor(np.where(known, targets, 0.0), dtype=dtype, device=device)
    w = torch.as_tensor(np.asarray(weights, np.float64), dtype=dtype, device=device)
    m = torch.as_tensor(known, dtype=dtype, device=device) * w[:, None]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.tensor(flat.reshape(k, d + 1), dtype=dtype, device=device, requires_grad=True)
        logits = x @ parameters[:, :d].T + parameters[:, d]
        if multi:
            if gce > 0:
                p = torch.sigmoid(logits)
                losses = y * (1 - p.clamp_min(1e-9) ** gce) / gce + (1 - y) * (1 - (1 - p).clamp_min(1e-9) ** gce) / gce
            else:
                losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
            loss = (losses * m).sum()
        else:
            log_p = torch.log_softmax(logits, dim=1)
            losses = -y * log_p if gce <= 0 else y * (1 - torch.exp(gce * log_p)) / gce
            loss = (losses.sum(1) * w).sum()
        loss = (loss + parameters[:, :d].square().sum() / (2 * c)) / n
        loss.backward()
        assert parameters.grad is not None
        return float(loss.item()), parameters.grad.double().cpu().numpy().reshape(-1)

    return objective


def loss_of(
    probs: NDArray[np.floating[Any]],
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    multi: bool,
) -> float:
    """Mean soft cross-entropy of probabilities against targets (known entries only for multi); lower is better."""
    p = np.clip(np.asarray(probs, np.float64), 1e-7, 1 - 1e-7)
    if multi:
        known = ~np.isnan(targets)
        y = np.where(known, targets, 0.0)
        losses = -(y * np.log(p) + (1 - y) * np.log1p(-p)) * known * weights[:, None]
        return float(losses.sum() / max((known * weights[:, None]).sum(), 1e-12))
    return float((-(targets * np.log(p)).sum(axis=1) * weights).sum() / max(weights.sum(), 1e-12))


def folds_of(n: int, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold number for each of n rows, by a seeded permutation: int64 [n], balanced to within one row."""
    order = np.random.default_rng([seed, n]).permutation(n)
    numbers = np.empty(n, np.int64)
    numbers[order] = np.arange(n) % folds
    return numbers


def choose_strength(
    vectors: NDArray[np.floating[Any]],
    targets: NDArray[np.floating[Any]],
    weights: NDArray[np.floating[Any]],
    *,
    multi: bool = False,
    gce: float = 0.0,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 3,
    seed: int = 0,
    limit: int = 6000,
) -> tuple[float, list[tuple[float, float]]]:
    """Choose `c` by agreement with held-out soft labels: no gold is needed.

    Args:
        vectors: [n, d]; targets: [n, k]; weights: [n].
        multi: As in `fit_head`, as is `gce`.
        strengths: What to try, ascending.
        folds: Parts of the cross-validation.
        seed: Of the parts.
        limit: At most so many rows take part (the first of a seeded order), to bound the time.

    Returns:
        The strength with the lowest held-out soft cross-entropy, and (strength, loss) for each that was tried. Fewer than
        two rows per fold: 10.0 and no trials.
    """
    if len(vectors) < 2 * folds:
        return 10.0, []
    if len(vectors) > limit:
        part = np.sort(np.random.default_rng([seed, len(vectors)]).permutation(len(vectors))[:limit])
        scale = len(vectors) / limit
        vectors, targets, weights = vectors[part], targets[part], weights[part]
    else:
        scale = 1.0
    fold = folds_of(len(vectors), folds, seed)
    losses = np.zeros(len(strengths))
    for number in range(folds):
        train, held = fold != number, fold == number
        head: Head | None = None
        for index, c in enumerate(strengths):
            head = fit_head(
                vectors[train],
                targets[train],
                weights[train],
                c=c * scale,
                multi=multi,
                gce=gce,
                start=head,
                iterations=100,
            )
            losses[index] += loss_of(head.predict_proba(vectors[held]), targets[held], weights[held], multi) / folds
    best = int(np.argmin(losses))
    return float(strengths[best]), [(float(c), float(loss)) for c, loss in zip(strengths, losses, strict=True)]
