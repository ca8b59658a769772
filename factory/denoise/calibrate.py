"""How far probabilities can be believed: reliability on dev, and the temperature that mends them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models.base import WrappedModel

BINS = 10
LEAST_DEV = 50


@dataclass(frozen=True)
class Tempered(WrappedModel):
    """A label model whose probabilities are raised to 1 / temperature and made to add up to 1 again."""

    temperature: float

    def predict_proba(self, votes: Any, **more: Any) -> np.ndarray:
        """Probabilities float32 [n, k]."""
        return temper(self.inner.predict_proba(votes, **more), self.temperature)

    def params(self) -> Mapping[str, Any]:
        """The model's, and the temperature."""
        return {**self.inner.params(), "temperature": round(self.temperature, 4)}


def temper(probs: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities raised to 1 / temperature, float32 [n, k]; above 1 is less sure. The most probable class stays."""
    logs = np.log(np.maximum(probs.astype(np.float64), 1e-9)) / temperature
    logs -= logs.max(axis=1, keepdims=True)
    scaled = np.exp(logs)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), np.float32)


def best_temperature(probs: np.ndarray, gold: np.ndarray) -> float:
    """The temperature in 0.25 ... 10 with the least log loss on gold.

    Guo, Pleiss, Sun, Weinberger: On calibration of modern neural networks. ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = temper(probs, float(np.exp(log_temperature)))
        return -float(np.log(np.maximum(scaled[np.arange(len(gold)), gold], 1e-9)).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.25), np.log(10.0)), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def reliability(probs: np.ndarray, gold: np.ndarray) -> dict[str, Any]:
    """How sure the model is, against how often it is right.

    Args:
        probs: Float [n, k].
        gold: int [n].

    Returns:
        `n`, `accuracy`, `brier` (sum over classes), `log_loss`, `ece` (expected calibration error, ten equal bins), and the
        `bins` that hold texts as {confidence, accuracy, n}.
    """
    sure, said = probs.max(axis=1), probs.argmax(axis=1)
    right = (said == gold).astype(float)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    n, believed, met = (np.bincount(place, weights, BINS) for weights in (np.ones(len(gold)), sure, right))
    own = probs[np.arange(len(gold)), gold]
    figures = {
        "accuracy": right.mean(), "brier": ((probs - np.eye(probs.shape[1])[gold]) ** 2).sum(axis=1).mean(),
        "log_loss": -np.log(np.maximum(own, 1e-9)).mean(), "ece": np.abs(believed - met).sum() / len(gold),
    }  # fmt: skip
    return {
        "n": len(gold),
        **{name: round(float(value), 4) for name, value in figures.items()},
        "bins": [
            {"confidence": round(believed[at] / n[at], 4), "accuracy": round(met[at] / n[at], 4), "n": int(n[at])}
            for at in np.flatnonzero(n)
        ],
    }
