"""Votes and texts together: what functions say, times what a classifier of the text says.

The family of Raykar et al. (Learning from crowds, JMLR 2010) and of the multi-annotator networks: P(y | votes, x) is
proportional to P(votes | y) P(y | x)^share. P(votes | y) is Dawid and Skene's with a prior; P(y | x) is a logistic regression on
the text's embedding, taught with the mean of that model's labels and majority vote (which is the less confident of the two
where functions are many and alike). Every text is judged by a classifier that has not seen it: folds follow from the text's
key. The text's side counts by a share, since it is not an independent witness: it learned from the same functions, and a keyword
that makes one vote is a feature of the text as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from factory.denoise.models import majority, prior
from factory.denoise.models.base import LogLinear, check_number, log_softmax, softmax
from factory.denoise.people import believed, crowd_of
from factory.errors import InputError
from factory.label_matrix import VoteSet, as_votes
from factory.logistic import fit_logistic

FOLDS = 3
LEAST_ROWS = 50
LEAST_IN_FOLD = 5
MOST_ROWS = 50_000
TEXT_SHARE = 0.25
"""How much of the text's side counts. On half of the public vote sets with texts all shares from .25 to 1 score alike, so it is
the least of these; on the other half it scores .5 points more than 1."""


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
        share: How much the text's side counts, 0 ... 1.
    """

    classes: int
    votes_model: LogLinear
    weights: np.ndarray
    bias: np.ndarray
    rows: int
    agreement: float
    base: float
    share: float = TEXT_SHARE
    name: str = "joint"

    @property
    def texts_tell(self) -> bool:
        """Whether the texts tell anything of the labels: agreement above the base rate by two standard errors."""
        return bool(self.agreement - self.base > 2 * np.sqrt(self.base * (1 - self.base) / max(self.rows, 1)))

    def predict_proba(self, votes: VoteSet | Any, *, features: Any = None, keys: Any = None) -> np.ndarray:
        """Probabilities float32 [n, k].

        Args:
            votes: A `VoteSet` or a dense label matrix.
            features: Float [n, d], one vector per text; without them the answer is the votes' alone.
            keys: uint64 [n], one number per text (see `factory.denoise.decide.tie_keys`): fixes the text's fold.

        Raises:
            InputError: Vectors or keys that cannot be used.
        """
        data = as_votes(votes, self.classes)
        said = self.votes_model.predict_proba(data)
        if features is None:
            return said
        vectors, fold = _checked(features, keys, len(data), self.weights.shape[1])
        # The text's side knows how common the classes are: the votes' side leaves its class shares out, as far as it counts.
        out = np.log(np.maximum(said.astype(np.float64), 1e-9)) - self.share * self.votes_model.bias
        for number in range(FOLDS):
            rows = np.flatnonzero(fold == number)
            out[rows] += self.share * log_softmax(vectors[rows] @ self.weights[number] + self.bias[number])
        return softmax(out).astype(np.float32)

    def params(self) -> Mapping[str, Any]:
        """The votes' side, and how much the text's side learned from."""
        return {
            "votes": dict(self.votes_model.params()), "rows": self.rows, "agreement": round(self.agreement, 4),
            "base": round(self.base, 4), "text_share": self.share,
        }  # fmt: skip


def fit(
    votes: VoteSet | Any, *, classes: int, balance: Any = None, features: Any = None, keys: Any = None,
    strength: float | None = None, accuracy: float = 0.8, cost: float = 10.0, text_share: float = TEXT_SHARE,
    seed: int = 0, people: Sequence[int] = (),
) -> Joint:  # fmt: skip
    """Fit the votes' side by EM, then the text's side on its labels.

    Args:
        votes: A `VoteSet` with one row per text, or a dense label matrix [n, m].
        classes: Number of classes.
        balance: Class balance [k]; uniform if not given.
        features: Float [n, d], dense or sparse, of length 1 (embeddings, TF-IDF).
        keys: uint64 [n], one number per text.
        strength: See `factory.denoise.models.prior.fit`.
        accuracy: Likewise.
        cost: Inverse of the logistic regression's L2 penalty, above 0.
        text_share: How much the text's side counts, 0 ... 1.
        seed: Of the draw of at most 50,000 texts to learn from.
        people: Functions that are people's answers.

    Raises:
        InputError: Vectors, keys or a parameter that cannot be used, or fewer than 50 covered texts.
    """
    check_number("cost", cost, above=0)
    check_number("text_share", text_share, least=0, most=1)
    check_number("seed", seed, least=0, whole=True)
    if features is None or keys is None:
        fix = "Use `dawid_skene_prior` for votes alone"
        raise InputError("the joint model needs a vector and a key for every text", fix=fix)
    data = as_votes(votes, classes)
    vectors, folds = _checked(features, keys, len(data))
    alone = prior.fit(data, classes=classes, balance=balance, strength=strength, accuracy=accuracy, people=people)
    rows = np.flatnonzero(data.covered)
    if len(rows) < LEAST_ROWS:
        raise InputError(f"the joint model needs {LEAST_ROWS} covered texts, and there are {len(rows)}")
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_ROWS])
    fold = folds[rows]
    if np.bincount(fold, minlength=FOLDS).min() < LEAST_IN_FOLD:
        fix = "Keys are hashes of the texts, 64 bits each"
        raise InputError(f"the keys put the texts into less than {FOLDS} folds", fix=fix)
    shown = data.take(rows)
    target = (alone.predict_proba(shown) + majority.fit(shown, classes=classes).predict_proba(shown)) / 2
    target = believed(target, shown, people, crowd_of(shown, people))
    width = vectors.shape[1]
    weights, bias = np.zeros((FOLDS, width, classes)), np.zeros((FOLDS, classes))
    taught, agreed = target.argmax(axis=1), 0
    for number in range(FOLDS):
        kept = fold != number
        head = fit_logistic(vectors[rows[kept]], target[kept], np.ones(int(kept.sum())), c=cost, iterations=100)
        weights[number], bias[number] = head.weight.T, head.bias
        unseen = np.asarray(vectors[rows[~kept]] @ weights[number] + bias[number])
        agreed += int((unseen.argmax(axis=1) == taught[~kept]).sum())
    base = float(np.bincount(taught, minlength=classes).max() / len(rows))
    return Joint(classes, alone, weights, bias, len(rows), agreed / len(rows), base, text_share)


def _checked(features: Any, keys: Any, rows: int, width: int | None = None) -> tuple[Any, np.ndarray]:
    """The vectors as they are (sparse ones by row) and each text's fold.

    Raises:
        InputError: Another number of rows or columns, a number that is not finite, or keys that are not whole numbers.
    """
    vectors = features.tocsr() if hasattr(features, "tocsr") else np.asarray(features)
    if vectors.ndim != 2 or vectors.shape[0] != rows or width not in (None, vectors.shape[1]):
        wanted = f"{rows} vectors" + ("" if width is None else f" of {width} numbers")
        raise InputError(f"the joint model needs {wanted}, and gets an array of shape {vectors.shape}")
    numbers: Any = vectors.data if hasattr(vectors, "tocsr") else vectors
    if not np.issubdtype(numbers.dtype, np.floating) or not np.isfinite(numbers).all():
        raise InputError("the vectors of the texts hold a value that is not finite", fix="Encode the texts anew")
    given = np.asarray(keys)
    if given.shape != (rows,) or (rows and not np.issubdtype(given.dtype, np.integer)):
        raise InputError(f"the joint model needs {rows} keys, one whole number per text")
    return vectors, ((given.astype(np.uint64) >> np.uint64(8)) % np.uint64(FOLDS)).astype(np.int64)
