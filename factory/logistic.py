"""The one logistic regression: soft labels over dense features, sparse ones, or both side by side; softmax or sigmoids.

Loss and gradient are in closed form and minimised by full-batch L-BFGS, so there is no seed and no learning rate, and the same
input gives the same head. A label that no text has is not fitted: it gets `NEVER` as its bias, and so a probability of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = NDArray[np.floating[Any]]

NEVER = -1e4
"""Bias of a label without a single text: its probability is 0, whatever temperature divides the logits later."""
DENSE_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
SPARSE_STRENGTHS = (1.0, 10.0, 100.0)
"""What `choose_c` tries: inverse regularisation, as scikit-learn's `C`. Words bear a weaker penalty than vectors, and a fit of
tens of thousands of columns takes so long that a grid of three has to do."""
DOUBLE_MOST = 4_000_000
"""Numbers in the dense block up to which it is computed in double precision."""


@dataclass(frozen=True)
class Features:
    """n texts as numbers: a dense block [n, d], a sparse one [n, v], or the dense one followed by the sparse one."""

    dense: Floats | None = None
    sparse: csr_matrix | None = None

    @classmethod
    def of(cls, matrix: Any) -> Features:
        """A dense or a sparse matrix as features."""
        return cls(matrix) if isinstance(matrix, np.ndarray) else cls(sparse=matrix)

    def __len__(self) -> int:
        block = self.sparse if self.dense is None else self.dense
        return 0 if block is None else int(block.shape[0])

    @property
    def widths(self) -> tuple[int, int]:
        """(d, v); 0 for a block that is not there."""
        blocks = (self.dense, self.sparse)
        return tuple(0 if block is None else int(block.shape[1]) for block in blocks)  # type: ignore[return-value]

    def take(self, rows: NDArray[Any]) -> Features:
        """Some of the texts, by row or by mask."""
        return Features(*(None if block is None else block[rows] for block in (self.dense, self.sparse)))

    def times(self, weight: Floats) -> Floats:
        """[n, k]: the product with weights [k, d + v]."""
        d, _ = self.widths
        parts: list[Floats] = []
        if self.dense is not None:
            parts.append(np.asarray(self.dense @ weight[:, :d].T.astype(self.dense.dtype, copy=False)))
        if self.sparse is not None:
            parts.append(np.asarray(self.sparse @ weight[:, d:].T))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


@dataclass(frozen=True)
class Head:
    """logits = features @ weight.T + bias.

    Attributes:
        weight: float32 [k, d + v].
        bias: float32 [k].
        multi: Sigmoid per label rather than softmax over them.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    multi: bool

    def logits(self, features: Floats | Features) -> NDArray[np.float32]:
        """float32 [n, k]."""
        given = features if isinstance(features, Features) else Features.of(features)
        return np.asarray(given.times(self.weight) + self.bias, np.float32)

    def predict_proba(self, features: Floats | Features) -> NDArray[np.float32]:
        """float32 [n, k]."""
        return probabilities(self.logits(features), self.multi)

    def scaled(self, temperature: float) -> Head:
        """The head whose logits are divided by a temperature."""
        return Head(self.weight / np.float32(temperature), self.bias / np.float32(temperature), self.multi)


def probabilities(logits: Floats, multi: bool) -> NDArray[np.float32]:
    """Softmax over the last axis, or a sigmoid of each entry; computed in float64."""
    z = np.asarray(logits, np.float64)
    if multi:
        return (1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))).astype(np.float32)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(z / z.sum(axis=1, keepdims=True), np.float32)


def loss_of(probs: Floats, targets: Floats, weights: Floats, multi: bool) -> float:
    """Mean soft cross-entropy of probabilities against targets (known entries only for multi); lower is better."""
    p = np.clip(np.asarray(probs, np.float64), 1e-7, 1 - 1e-7)
    if multi:
        known = ~np.isnan(targets)
        y = np.where(known, targets, 0.0)
        losses = -(y * np.log(p) + (1 - y) * np.log1p(-p)) * known * weights[:, None]
        return float(losses.sum() / max((known * weights[:, None]).sum(), 1e-12))
    return float((-(targets * np.log(p)).sum(axis=1) * weights).sum() / max(weights.sum(), 1e-12))


def fit_logistic(
    features: Floats | Features, targets: Floats, weights: Floats, *, c: float = 10.0, multi: bool = False,
    gce: float = 0.0, start: Head | None = None, iterations: int = 200, tolerance: float = 1e-8,
    progress: Progress = no_progress,
) -> Head:  # fmt: skip
    """Minimise the weighted soft cross-entropy with an L2 penalty on the weights.

    The objective is sum_i w_i loss(i) + ||W||^2 / (2 c); the bias is free.

    Args:
        features: n texts.
        targets: [n, k] probabilities. Multi: NaN entries are left out of the loss.
        weights: [n], or [n, k] where the labels of a text weigh differently.
        c: Inverse strength of the penalty, above 0.
        multi: Sigmoids instead of a softmax.
        gce: q of the generalized cross-entropy (Zhang and Sabuncu 2018, eq. 6), in (0, 1]; 0 is plain cross-entropy. Large q
            mistrusts labels that the model finds unlikely.
        start: Where to start from.
        iterations: At most so many steps of L-BFGS.
        tolerance: Relative change of the objective at which it stops.

    Returns:
        The head, with weights of the dense block first.
    """
    from scipy.optimize import minimize

    given = features if isinstance(features, Features) else Features.of(features)
    width, k = sum(given.widths), targets.shape[1]
    known = ~np.isnan(targets)
    y = np.where(known, targets, 0.0).astype(np.float64)
    mass = known * (weights if weights.ndim == 2 else weights[:, None]).astype(np.float64)
    seen = np.flatnonzero((mass * y).sum(axis=0) > 0)
    weight, bias = np.zeros((k, width), np.float32), np.full(k, NEVER, np.float32)
    if not len(seen):
        return Head(weight, bias, multi)
    first = np.zeros((len(seen), width + 1))
    if start is not None:
        first[:, :width], first[:, width] = start.weight[seen], np.maximum(start.bias[seen], NEVER / 2)
    steps = iter(range(1, iterations + 1))
    found = minimize(
        _objective(given, y[:, seen], mass[:, seen], c, multi, gce), first.reshape(-1), jac=True, method="L-BFGS-B",
        callback=lambda _: progress(next(steps, iterations), iterations, "steps of logistic regression, at most"),
        options={"maxiter": iterations, "ftol": tolerance, "gtol": 1e-6},
    )  # fmt: skip
    solution = found.x.reshape(len(seen), width + 1)
    weight[seen], bias[seen] = solution[:, :width], solution[:, width]
    return Head(weight, bias, multi)


def _objective(
    features: Features, y: NDArray[np.float64], mass: NDArray[np.float64], c: float, multi: bool, gce: float
) -> Any:
    """Flat parameters [k * (width + 1)] -> the mean loss and its gradient."""
    n, k = y.shape
    d, v = features.widths
    dense: Any = None
    if features.dense is not None:
        dense = np.ascontiguousarray(features.dense, np.float64 if n * d <= DOUBLE_MOST else np.float32)
    sparse = None if features.sparse is None else features.sparse.astype(np.float64)
    turned = None if sparse is None else sparse.T.tocsr()
    blocks = Features(dense, sparse)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(k, d + v + 1)
        weight = parameters[:, :-1]
        z = np.asarray(blocks.times(weight), np.float64) + parameters[:, -1]
        loss, slope = (_sigmoid_loss if multi else _softmax_loss)(z, y, mass, gce)
        gradient = np.empty_like(parameters)
        if dense is not None:
            gradient[:, :d] = slope.T.astype(dense.dtype, copy=False) @ dense
        if turned is not None:
            gradient[:, d:-1] = np.asarray(turned @ slope).T
        gradient[:, :-1] += weight / c
        gradient[:, -1] = slope.sum(axis=0)
        return (loss + float((weight * weight).sum()) / (2 * c)) / n, gradient.reshape(-1) / n

    return objective


def _softmax_loss(
    z: NDArray[np.float64], y: NDArray[np.float64], mass: NDArray[np.float64], gce: float
) -> tuple[float, NDArray[np.float64]]:
    """The summed loss of logits [n, k], and its slope [n, k]."""
    z = z - z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    pull = y * mass
    if gce > 0:
        damped = np.exp(gce * log_p)
        loss = float((pull * (1 - damped)).sum()) / gce
        pull = pull * damped
    else:
        loss = -float((pull * log_p).sum())
    return loss, np.exp(log_p) * pull.sum(axis=1, keepdims=True) - pull


def _sigmoid_loss(
    z: NDArray[np.float64], y: NDArray[np.float64], mass: NDArray[np.float64], gce: float
) -> tuple[float, NDArray[np.float64]]:
    p = 1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))
    if gce <= 0:
        return float((mass * (np.logaddexp(0.0, z) - y * z)).sum()), mass * (p - y)
    yes, no = p**gce, (1 - p) ** gce
    loss = float((mass * (y * (1 - yes) + (1 - y) * (1 - no))).sum()) / gce
    return loss, mass * ((1 - y) * no * p - y * yes * (1 - p))


def choose_c(
    features: Floats | Features, targets: Floats, weights: Floats, *, multi: bool = False, gce: float = 0.0,
    strengths: Sequence[float] | None = None, folds: int = 3, seed: int = 0, limit: int = 6000,
    progress: Progress = no_progress,
) -> tuple[float, list[tuple[float, float]]]:  # fmt: skip
    """Choose `c` by agreement with held-out soft labels: no gold is needed.

    Args:
        features: As in `fit_logistic`, as are all up to `gce`.
        targets: Likewise.
        weights: [n].
        multi: Likewise.
        gce: Likewise.
        strengths: What to try, ascending; a grid of ours by the kind of features without it.
        folds: Parts of the cross-validation.
        seed: Of the parts.
        limit: At most so many rows take part, to bound the time; `c` is scaled for all of them.

    Returns:
        The strength with the lowest held-out soft cross-entropy, and (strength, loss) for each that was tried. Fewer than
        two rows per fold: 10.0 and no trials.
    """
    given = features if isinstance(features, Features) else Features.of(features)
    n = len(given)
    if n < 2 * folds:
        return 10.0, []
    tried = tuple(strengths or (DENSE_STRENGTHS if given.sparse is None else SPARSE_STRENGTHS))
    part = np.sort(np.random.default_rng([seed, n]).permutation(n)[:limit]) if n > limit else np.arange(n)
    fold = folds_of(len(part), folds, seed)
    losses = np.zeros(len(tried))
    for number in range(folds):
        train, held = part[fold != number], part[fold == number]
        learned_from, unseen = given.take(train), given.take(held)
        head: Head | None = None
        for index, c in enumerate(tried):
            progress(number * len(tried) + index, folds * len(tried), "strengths tried")
            head = fit_logistic(
                learned_from, targets[train], weights[train], c=c * n / len(part), multi=multi, gce=gce, start=head,
                iterations=100,
            )  # fmt: skip
            losses[index] += loss_of(head.predict_proba(unseen), targets[held], weights[held], multi) / folds
    return float(tried[int(np.argmin(losses))]), list(zip(map(float, tried), map(float, losses), strict=True))


def folds_of(n: int, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold number for each of n rows, by a seeded permutation: int64 [n], balanced to within one row."""
    order = np.random.default_rng([seed, n]).permutation(n)
    numbers = np.empty(n, np.int64)
    numbers[order] = np.arange(n) % folds
    return numbers
