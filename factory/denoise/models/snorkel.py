"""Snorkel's `LabelModel`, fitted from the counts of votes that stand together.

The library builds a dense indicator matrix [n, m k] and seeds three global random generators. Everything it learns from the
votes is n and the matrix O = L'L / n, so O is counted on sparse votes here and handed to the library's own loss, optimiser,
clamping and symmetry breaking. A labelling function's class that is never voted has a zero row in O and keeps its start of 0
through every step, so such rows are left out and put back before clamping: the result is the same. Where the votes that occur
are still too many for a dense O, the same loss is computed on the sparse one (`_sparse_loss`).

Ratner, Hancock, Dunnmon, Sala, Pandey, Ré: Training complex models with multi-task weak supervision. AAAI 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, check_number, checked_balance
from factory.errors import InputError
from factory.label_matrix import Moments, VoteSet, as_votes

MOST_DENSE = 2_000
"""Votes that occur, up to which O is held densely: five arrays of 16 MB in a step."""


def fit(
    votes: VoteSet | Any, *, classes: int, balance: Any = None, seed: int = 0, n_epochs: int = 100, lr: float = 0.01,
    l2: float = 0.0, prec_init: float = 0.7, mu_eps: float | None = None,
) -> LogLinear:  # fmt: skip
    """Fit the library's label model; equal to `snorkel.labeling.model.LabelModel.fit` with the same seed.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain; three labelling functions or more.
        classes: Number of classes.
        balance: Class balance [k]; uniform if not given, as in the library.
        seed: Of the one number the library draws, the scale of the start.
        n_epochs: Steps of gradient descent, 1 or more.
        lr: Learning rate, above 0.
        l2: Pull towards the start, 0 or more.
        prec_init: Assumed precision of every labelling function at the start, above 0 and at most 1.
        mu_eps: Learned probabilities stay within [mu_eps, 1 - mu_eps]; the library's rule from n if not given.

    Raises:
        InputError: Fewer than three labelling functions, no texts, or a parameter outside its range.
    """
    check_number("seed", seed, least=0, most=2**32 - 1, whole=True)
    check_number("n_epochs", n_epochs, least=1, whole=True)
    check_number("lr", lr, above=0)
    check_number("l2", l2, least=0)
    check_number("prec_init", prec_init, above=0, most=1)
    if mu_eps is not None:
        check_number("mu_eps", mu_eps, above=0, below=0.5)
    data = as_votes(votes, classes)
    if data.lfs < 3:
        words = f"Snorkel's label model needs three labelling functions or more, and there are {data.lfs}"
        raise InputError(words, fix="Use `majority`, or write more programs")
    if data.n == 0:
        raise InputError("there are no texts to fit a label model on")
    import torch
    from snorkel.labeling.model.label_model import LabelModel, TrainConfig

    moments, shares = data.moments(), None if balance is None else checked_balance(balance, classes).tolist()
    seen, width = moments.seen, data.lfs * classes
    model = LabelModel(cardinality=classes, verbose=False)
    model.n, model.m, model.t, model.d = int(data.n), data.lfs, 1, len(seen)
    model.train_config = TrainConfig(n_epochs=n_epochs, lr=lr, l2=l2, prec_init=prec_init, mu_eps=mu_eps, seed=seed)
    model._set_class_balance(shares, None)
    own = torch.from_numpy(moments.own / data.n).float()
    start = torch.zeros(model.d, classes)
    label = torch.from_numpy(seen % classes)
    assumed = torch.tensor(prec_init) * own / torch.from_numpy(model.p).float()[label]
    start[torch.arange(model.d), label] = torch.clamp(assumed, 0, 1)
    model.mu_init = start
    model.mu = torch.nn.Parameter(start.clone() * np.random.RandomState(seed).random_sample()).float()
    model.train()
    model._set_optimizer()
    loss_of = (_dense_loss if len(seen) <= MOST_DENSE else _sparse_loss)(model, moments, data.n, l2)
    loss = torch.zeros(())
    with torch.enable_grad():
        for _ in range(n_epochs if len(seen) else 0):
            model.optimizer.zero_grad()
            loss = loss_of()
            if torch.isnan(loss):
                fix = "Give `denoise` a lower learning rate: `lr: 0.001`"
                raise InputError("Snorkel's loss is not a number", fix=fix)
            loss.backward()
            model.optimizer.step()
    whole = torch.zeros(width, classes)
    whole[torch.from_numpy(seen)] = model.mu.detach()
    model.d = width
    model.mu = torch.nn.Parameter(whole)
    model._clamp_params()
    weights = np.log(_most_trusting(model.mu.detach().numpy(), model.p, data.lfs)).astype(np.float64)
    told = {"seed": seed, "n_epochs": n_epochs, "loss": round(float(loss.detach()), 9)}
    return LogLinear("snorkel", classes, weights, np.log(model.p), {"balance": np.round(model.p, 6).tolist(), **told})


def _most_trusting(mu: np.ndarray, balance: np.ndarray, lfs: int) -> np.ndarray:
    """The library's `_break_col_permutation_symmetry`: of the orders of classes with equal shares, which the loss cannot tell
    apart, the one under which functions are right most often. Its own search takes minutes where classes are many.

    Args:
        mu: float32 [m k, k].
        balance: Float [k].
        lfs: Number of functions (m).
    """
    from scipy.optimize import linear_sum_assignment

    classes = mu.shape[1]
    right = mu.reshape(lfs, classes, classes).sum(axis=0) * balance
    order = np.arange(classes)
    for share in np.unique(np.around(balance, 3)):
        group = np.flatnonzero(np.around(balance, 3) == share)
        rows, columns = linear_sum_assignment(-right[np.ix_(group, group)])
        order[group[rows]] = group[columns]
    return mu[:, order]


def _dense_loss(model: Any, moments: Moments, n: float, l2: float) -> Callable[[], Any]:
    """The library's own loss."""
    import torch

    model.O = torch.from_numpy((moments.together / n).toarray()).float()
    owner = torch.from_numpy(moments.seen // moments.classes)
    model.mask = owner[:, None] != owner[None, :]
    return lambda: model._loss_mu(l2=l2)


def _sparse_loss(model: Any, moments: Moments, n: float, l2: float) -> Callable[[], Any]:
    """The library's loss in memory that follows from the votes that occur: |O - mu P mu'|^2 off the functions' own blocks.

    A function votes once on a text, so O is diagonal in its own block, and the sum over the other blocks is
    |O_off|^2 - 2 <O_off, mu P mu'> + |mu P mu'|^2 - the own blocks' |mu P mu'|^2; the third term is the trace of
    (P mu'mu)^2, which is [k, k]. In float64, since large terms cancel.
    """
    import torch
    from scipy.sparse import diags

    off = (moments.together - diags(moments.own)).tocoo() / n
    off.eliminate_zeros()
    at = torch.from_numpy(np.stack([off.row, off.col]).astype(np.int64))
    sparse = torch.sparse_coo_tensor(at, torch.from_numpy(off.data), off.shape, check_invariants=True).coalesce()
    constant = float((off.data**2).sum())
    own = torch.from_numpy(moments.own / n)
    balance = torch.from_numpy(np.asarray(model.p, np.float64))
    bounds = np.searchsorted(moments.seen // moments.classes, np.arange(moments.lfs + 1))
    blocks = [slice(int(low), int(high)) for low, high in pairwise(bounds) if high > low]

    def loss() -> Any:
        mu = model.mu.double()
        weighted = mu * balance
        gram = mu.T @ weighted
        cross = (torch.sparse.mm(sparse, mu) * weighted).sum()
        inside = sum((mu[block] @ weighted[block].T).square().sum() for block in blocks)
        apart = (gram * gram.T).sum() - inside
        return constant - 2 * cross + apart + (weighted.sum(1) - own).square().sum() + model._loss_l2(l2=l2)

    return loss
