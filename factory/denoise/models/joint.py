"""Votes and texts together: what functions say, times what a classifier of the text says.

The family of Raykar et al. (Learning from crowds, JMLR 2010) and of the multi-annotator networks: P(y | votes, x) is
proportional to P(votes | y) P(y | x). P(votes | y) is Dawid and Skene's with a prior; P(y | x) is a logistic regression on the
text's embedding, taught with the mean of that model's labels and majority vote (which is the less confident of the two where
functions are many and alike). Every text is judged by a classifier that has not seen it: folds follow from the text's key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models import majority, prior
from factory.denoise.models.base import LogLinear, softmax
from factory.denoise.people import believed
from factory.denoise.votes import VoteSet, as_votes
from factory.errors import InputError
from factory.logistic import fit_logistic

FOLDS = 3
LEAST_ROWS = 50
MOST_ROWS = 50_000


@dataclass(frozen=True)
class Joint:
    """A label model and, for each fold, a classifier of texts outside it.

    Attributes:
        classes: Number of classes (k).
        votes_model: What is believed from the votes alone.
        weights: float64 [FOLDS, d, k].
        bias: float64 [FOLDS, k].
        rows: Texts that the classifiers learned from.
        agreement: How often a classifier says the taught label of a text that it has not seen.
        base: How often the commonest taught label would.
    """

    classes: int
    votes_model: LogLinear
    weights: np.ndarray
    bias: np.ndarray
    rows: int
    agreement: float
    base: float
    name: str = "joint"

    @property
    def texts_tell(self) -> bool:
        """Whether the texts tell anything of the labels: agreement above the base rate by two standard errors."""
        return self.agreement - self.base > 2 * np.sqrt(self.base * (1 - self.base) / max(self.rows, 1))

    def predict_proba(self, votes: VoteSet | Any, *, features: Any = None, keys: Any = None) -> np.ndarray:
        """Probabilities float32 [n, k].

        Args:
            votes: A `VoteSet` or a dense label matrix.
            features: Float [n, d], one vector per text; without them the answer is the votes' alone.
            keys: uint64 [n], one number per text (see `factory.denoise.decide.tie_keys`): fixes the text's fold.
        """
        data = as_votes(votes, self.classes)
        said = self.votes_model.predict_proba(data)
        if features is None:
            return said
        # The text's side knows how common the classes are: the votes' side leaves its class shares out.
        out = np.log(np.maximum(said.astype(np.float64), 1e-9)) - self.votes_model.bias
        fold = _folds(keys)
        for number in range(FOLDS):
            rows = np.flatnonzero(fold == number)
            out[rows] += _log_softmax(features[rows] @ self.weights[number] + self.bias[number])
        return softmax(out).astype(np.float32)

    def params(self) -> Mapping[str, Any]:
        """The votes' side, and how much the text's side learned from."""
        return {
            "votes": dict(self.votes_model.params()),
            "rows": self.rows,
            "agreement": round(self.agreement, 4),
            "base": round(self.base, 4),
        }


def fit(
    votes: VoteSet | Any,
    *,
    classes: int,
    balance: Any = None,
    dev: Any = None,
    features: Any = None,
    keys: Any = None,
    strength: float = 10.0,
    accuracy: float = 0.8,
    cost: float = 10.0,
    seed: int = 0,
    people: Sequence[int] = (),
) -> Joint:
    """Fit the votes' side by EM, then the text's side on its labels.

    Args:
        votes: A `VoteSet` with one row per text, or a dense label matrix [n, m].
        classes: Number of classes.
        balance: Class balance [k]; uniform if not given.
        dev: Accepted as by every model; not used.
        features: Float [n, d], dense or sparse, of length 1 (embeddings, TF-IDF).
        keys: uint64 [n], one number per text.
        strength: See `factory.denoise.models.prior.fit`.
        accuracy: Likewise.
        cost: Inverse of the logistic regression's L2 penalty.
        seed: Of the draw of at most 50,000 texts to learn from.
        people: Functions that are people's answers.

    Raises:
        InputError: No features, or fewer than 50 covered texts.
    """
    if features is None or keys is None:
        raise InputError(
            "the joint model needs a vector and a key for every text", fix="Use `dawid_skene_prior` for votes alone"
        )
    data = as_votes(votes, classes)
    alone = prior.fit(data, classes=classes, balance=balance, strength=strength, accuracy=accuracy, people=people)
    rows = np.flatnonzero(data.covered)
    if len(rows) < LEAST_ROWS:
        raise InputError(f"the joint model needs {LEAST_ROWS} covered texts, and there are {len(rows)}")
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_ROWS])
    shown = data.take(rows)
    target = (alone.predict_proba(shown) + majority.fit(shown, classes=classes).predict_proba(shown)) / 2
    target = believed(target, shown, people)
    fold = _folds(keys)[rows]
    width = features.shape[1]
    weights, bias = np.zeros((FOLDS, width, classes)), np.zeros((FOLDS, classes))
    taught, agreed = target.argmax(axis=1), 0
    for number in range(FOLDS):
        kept = fold != number
        head = fit_logistic(features[rows[kept]], target[kept], np.ones(int(kept.sum())), c=cost, iterations=100)
        weights[number], bias[number] = head.weight.T, head.bias
        unseen = features[rows[~kept]] @ weights[number] + bias[number]
        agreed += int((np.asarray(unseen).argmax(axis=1) == taught[~kept]).sum()) if unseen.shape[0] else 0
    base = float(np.bincount(taught, minlength=classes).max() / len(rows))
    return Joint(classes, alone, weights, bias, len(rows), agreed / len(rows), base)


def _folds(keys: Any) -> np.ndarray:
    return (np.asarray(keys, np.uint64) >> np.uint64(8)) % np.uint64(FOLDS)


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    result: np.ndarray = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return result
