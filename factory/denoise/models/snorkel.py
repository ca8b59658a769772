"""Snorkel's `LabelModel`, fitted from the counts of votes that stand together.

The library builds a dense indicator matrix [n, m k] and seeds three global random generators. Everything it learns from the
votes is n and the matrix O = L'L / n, so O is counted on sparse votes here and handed to the library's own loss, optimiser,
clamping and symmetry breaking. A labelling function's class that is never voted has a zero row in O and keeps its start of 0
through every step, so such rows are left out and put back before clamping: the result is the same.

Ratner, Hancock, Dunnmon, Sala, Pandey, Ré: Training complex models with multi-task weak supervision. AAAI 2019.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, checked_balance
from factory.denoise.votes import VoteSet, as_votes
from factory.errors import InputError


def fit(
    votes: VoteSet | Any,
    *,
    classes: int,
    balance: Any = None,
    dev: Any = None,
    seed: int = 0,
    n_epochs: int = 100,
    lr: float = 0.01,
    l2: float = 0.0,
    prec_init: float = 0.7,
    mu_eps: float | None = None,
) -> LogLinear:
    """Fit the library's label model; equal to `snorkel.labeling.model.LabelModel.fit` with the same seed.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain; three labelling functions or more.
        classes: Number of classes.
        balance: Class balance [k]; uniform if not given, as in the library.
        dev: Accepted as by every model; not used.
        seed: Of the one number the library draws, the scale of the start.
        n_epochs: Steps of gradient descent.
        lr: Learning rate.
        l2: Pull towards the start.
        prec_init: Assumed precision of every labelling function at the start.
        mu_eps: Learned probabilities stay within [mu_eps, 1 - mu_eps]; the library's rule from n if not given.

    Raises:
        InputError: Fewer than three labelling functions, or no texts.
    """
    data = as_votes(votes, classes)
    if data.lfs < 3:
        raise InputError(
            f"Snorkel's label model needs three labelling functions or more, and there are {data.lfs}",
            fix="Use `majority`, or write more programs",
        )
    if data.n == 0:
        raise InputError("there are no texts to fit a label model on")
    moments = data.moments() / data.n
    return from_moments(
        moments,
        n=data.n,
        classes=classes,
        balance=balance,
        seed=seed,
        n_epochs=n_epochs,
        lr=lr,
        l2=l2,
        prec_init=prec_init,
        mu_eps=mu_eps,
    )


def from_moments(
    moments: np.ndarray,
    *,
    n: float,
    classes: int,
    balance: Any = None,
    seed: int = 0,
    n_epochs: int = 100,
    lr: float = 0.01,
    l2: float = 0.0,
    prec_init: float = 0.7,
    mu_eps: float | None = None,
) -> LogLinear:
    """Fit from O = L'L / n, float64 [m k, m k]; see `fit` for the rest."""
    import torch
    from snorkel.labeling.model.label_model import LabelModel, TrainConfig

    lfs = len(moments) // classes
    shares = checked_balance(balance, classes)
    model = LabelModel(cardinality=classes, verbose=False)
    model.n, model.m, model.t = int(n), lfs, 1
    model.train_config = TrainConfig(n_epochs=n_epochs, lr=lr, l2=l2, prec_init=prec_init, mu_eps=mu_eps, seed=seed)
    model._set_class_balance(None if shares is None else shares.tolist(), None)
    seen = np.flatnonzero(np.diag(moments) > 0)
    if len(seen) == 0:
        seen = np.arange(len(moments))
    model.d = len(seen)
    model.O = torch.from_numpy(moments[np.ix_(seen, seen)]).float()
    owner = torch.from_numpy(seen // classes)
    model.mask = owner[:, None] != owner[None, :]
    start = torch.zeros(model.d, classes)
    label = torch.from_numpy(seen % classes)
    here = torch.arange(model.d)
    scale = torch.tensor(prec_init) * torch.diag(model.O) / torch.from_numpy(model.p).float()[label]
    start[here, label] = torch.clamp(scale, 0, 1)
    model.mu_init = start
    model.mu = torch.nn.Parameter(start.clone() * np.random.RandomState(seed).random_sample()).float()
    model.train()
    model._set_optimizer()
    with torch.enable_grad():
        for _ in range(n_epochs):
            model.optimizer.zero_grad()
            loss = model._loss_mu(l2=l2)
            if torch.isnan(loss):
                raise InputError(
                    "Snorkel's loss is not a number", fix="Give `denoise` a lower learning rate: `lr: 0.001`"
                )
            loss.backward()
            model.optimizer.step()
    whole = torch.zeros(lfs * classes, classes)
    whole[torch.from_numpy(seen)] = model.mu.detach()
    model.d = lfs * classes
    model.mu = torch.nn.Parameter(whole)
    model._clamp_params()
    model._break_col_permutation_symmetry()
    mu = model.mu.detach().numpy()
    weights = np.log(mu).astype(np.float64)
    facts = {
        "balance": np.round(model.p, 6).tolist(),
        "seed": seed,
        "n_epochs": n_epochs,
        "loss": round(float(loss.detach()), 9),
    }
    return LogLinear("snorkel", classes, weights, np.log(model.p), facts)
