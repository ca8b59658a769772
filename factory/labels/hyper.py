"""The hyper label model: a small graph network, trained once on synthetic label matrices, that needs no fitting.

Wu, Chen, Zhang, Chu: Learning hyper label model for programmatic weak supervision. ICLR 2023. The weights come with the
optional package `hyperlm`. Its own loader fails on torch 2.6 and later (`weights_only`); they are read here with an allow-list
of the three harmless types that the file holds, so no code of a pickle runs. The network is evaluated on distinct rows with
their counts, and its column means are kept from the fit, so that new rows can be labelled one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from factory.errors import InputError
from factory.labels.base import check_width, checked_balance
from factory.labels.votes import VoteSet, as_votes

LAYERS = 4


@dataclass(frozen=True)
class Hyper:
    """The network with the means of the fitted votes.

    Attributes:
        classes: Number of classes (k).
        lfs: Number of labelling functions (m).
        balance: float64 [k], what a text without votes gets.
        means: For each one-vs-rest problem and layer: column means [m, width] and the mean of everything [width].
    """

    classes: int
    lfs: int
    balance: np.ndarray
    means: tuple[tuple[tuple[np.ndarray, np.ndarray], ...], ...]
    name: str = "hyper"

    def predict_proba(self, votes: VoteSet | Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        data = as_votes(votes, self.classes)
        check_width(data, self.lfs)
        rows, pattern = data.patterns()
        chances = np.stack(
            [_forward(rows, label, kept)[0] for label, kept in zip(_labels(self.classes), self.means, strict=True)]
        )
        probs = np.stack([1 - chances[0], chances[0]], axis=1) if self.classes == 2 else chances.T
        probs = probs / probs.sum(axis=1, keepdims=True)
        probs[~rows.covered] = self.balance
        return probs[pattern].astype(np.float32)

    def params(self) -> Mapping[str, Any]:
        """The balance; the weights are the package's."""
        return {"balance": self.balance.tolist(), "weights": "hyperlm"}


def fit(votes: VoteSet | Any, *, classes: int, balance: Any = None, dev: Any = None) -> Hyper:
    """Keep the column means of these votes; nothing is trained. `dev` is not used.

    Raises:
        InputError: The package `hyperlm` is not installed or holds no such weights, or there are no votes.
    """
    data, _ = as_votes(votes, classes).patterns()
    if not data.covered.any():
        raise InputError("the hyper label model needs votes, and there are none")
    shares = checked_balance(balance, classes)
    means = tuple(_forward(data, label, None)[1] for label in _labels(classes))
    return Hyper(classes, data.lfs, np.full(classes, 1 / classes) if shares is None else shares, means)


def _labels(classes: int) -> list[int]:
    return [1] if classes == 2 else list(range(classes))


def _forward(
    data: VoteSet, label: int, kept: tuple[tuple[np.ndarray, np.ndarray], ...] | None
) -> tuple[np.ndarray, tuple[tuple[np.ndarray, np.ndarray], ...]]:
    """One class against the rest: chances [rows], and the column and overall means of every layer."""
    from scipy.sparse import csr_matrix

    lengths = data.lengths
    row = np.repeat(np.arange(len(data)), lengths)
    codes = data.codes.astype(np.int64)
    column = codes // data.classes
    votes, entry = len(codes), np.arange(len(codes))
    weight = np.ones(votes) if data.counts is None else data.counts[row]
    by_row = csr_matrix((1 / lengths[row], (row, entry)), shape=(len(data), votes))
    by_column = csr_matrix((weight, (column, entry)), shape=(data.lfs, votes))
    per_column = np.maximum(np.bincount(column, weights=weight, minlength=data.lfs), 1e-9)[:, None]
    value = np.where(codes % data.classes == label, 1.0, -1.0)[:, None]
    means = []
    for layer in range(LAYERS):
        at = f"matrix_net.{layer}."
        if kept is None:
            columns = by_column @ value / per_column
            whole = weight @ value / weight.sum()
        else:
            columns, whole = kept[layer]
        means.append((columns, whole))
        pooled = [
            _linear(value, at + "linear_self"),
            _linear(by_row @ value, at + "linear_row")[row],
            _linear(columns, at + "linear_col")[column],
            np.broadcast_to(_linear(whole, at + "linear_global"), (votes, value.shape[1])),
        ]
        value = _leaky(_linear(np.concatenate(pooled, axis=1), at + "linear"))
    hidden = by_row @ value
    for part in ("classify.0", "classify.2"):
        hidden = _leaky(_linear(hidden, part))
    return 1 / (1 + np.exp(-_linear(hidden, "classify.4")[:, 0])), tuple(means)


def _linear(values: np.ndarray, name: str) -> np.ndarray:
    weights = _weights()
    result: np.ndarray = values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _leaky(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 0.01 * values)


@lru_cache(maxsize=1)
def _weights() -> dict[str, np.ndarray]:
    from importlib.util import find_spec
    from pathlib import Path

    found = find_spec("hyperlm")
    if found is None or found.origin is None:
        raise InputError(
            "the package `hyperlm` is not installed", fix="Install it (`pip install hyperlm`), or use another model"
        )
    import pickle

    import numpy._core.multiarray as multiarray
    import torch

    path = Path(found.origin).parent / "checkpoint.pt"
    harmless = [(multiarray.scalar, "numpy.core.multiarray.scalar"), np.dtype, np.dtypes.Float64DType]
    try:
        with torch.serialization.safe_globals(harmless):  # type: ignore[arg-type]
            state = torch.load(path, map_location="cpu", weights_only=True)["model_state_dict"]
    except (OSError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(
            "the weights of `hyperlm` cannot be read", where=path, fix="Reinstall hyperlm 0.0.5"
        ) from error
    return {name: values.numpy().astype(np.float64) for name, values in state.items()}
