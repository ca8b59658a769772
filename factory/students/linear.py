"""`linear`: TF-IDF of words, word pairs and character n-grams, and logistic regression. Needs no encoder; the one to beat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from factory.encoders import Encoder
from factory.errors import InputError
from factory.result import Progress
from factory.students.base import Student, texts_in, write_json
from factory.students.head import folds_of, loss_of, probabilities
from factory.students.terms import terms_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from factory.students.base import Inputs


@dataclass(frozen=True)
class LinearConfig:
    """Options.

    Attributes:
        c: Inverse regularisation, or `"auto"`: chosen by agreement on held-out soft labels.
        words: Shortest and longest word n-gram.
        characters: Shortest and longest character n-gram within words; (0, 0) for none.
        max_features: At most so many n-grams, the most frequent ones.
        folds: Parts of the cross-validation behind `auto`.
        seed: Of those parts.
    """

    c: float | Literal["auto"] = "auto"
    words: tuple[int, int] = (1, 2)
    characters: tuple[int, int] = (0, 0)
    max_features: int = 50_000
    folds: int = 3
    seed: int = 0


class LinearStudent(Student):
    """TF-IDF and logistic regression on soft labels."""

    kind: ClassVar[str] = "linear"
    takes: ClassVar[Literal["texts", "vectors", "both"]] = "texts"
    Config: ClassVar[type[Any]] = LinearConfig

    def __init__(
        self,
        terms: Sequence[str],
        idf: NDArray[np.float32],
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        config: LinearConfig,
        multi: bool,
    ) -> None:
        self.terms = list(terms)
        self.columns = {term: index for index, term in enumerate(self.terms)}
        self.idf, self.weight, self.bias = idf, weight, bias
        self.config = config
        self.multi = multi
        self.n_labels = len(bias)
        self.trials: list[tuple[float, float]] = []

    @classmethod
    def fit(
        cls,
        inputs: Inputs,
        soft_labels: NDArray[np.floating[Any]],
        weights: NDArray[np.floating[Any]],
        *,
        config: LinearConfig,
        multi: bool,
        encoder: Encoder | None,
        progress: Progress,
    ) -> LinearStudent:
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind == "f":
            raise InputError("the student 'linear' takes texts, not vectors")
        texts = texts_in(inputs)
        terms, idf = _learn_terms(texts, config)
        matrix = tfidf(texts, {term: index for index, term in enumerate(terms)}, idf, config.words, config.characters)
        trials: list[tuple[float, float]] = []
        if config.c == "auto":
            best, trials = choose_c(matrix, soft_labels, weights, config, multi)
            config = replace(config, c=best)
        weight, bias = regress(matrix, soft_labels, weights, float(config.c), multi)
        student = cls(terms, idf, weight, bias, config, multi)
        student.trials = trials
        return student

    def predict_proba(self, inputs: Inputs) -> NDArray[np.float32]:
        texts = texts_in(inputs)
        matrix = tfidf(texts, self.columns, self.idf, self.config.words, self.config.characters)
        return probabilities(np.asarray(matrix @ self.weight.T) + self.bias, self.multi)

    def cool(self, temperature: float) -> None:
        self.weight, self.bias = self.weight / np.float32(temperature), self.bias / np.float32(temperature)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        save_file({"idf": self.idf, "weight": self.weight, "bias": self.bias}, str(folder / "linear.safetensors"))
        write_json(folder / "terms.json", self.terms)
        write_json(folder / "student.json", {"kind": self.kind, "multi": self.multi, "config": asdict(self.config)})

    @classmethod
    def load(cls, folder: Path, encoder: Encoder | None = None) -> LinearStudent:
        from safetensors.numpy import load_file

        facts = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
        arrays = load_file(str(folder / "linear.safetensors"))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["config"].items()}
        return cls(terms, arrays["idf"], arrays["weight"], arrays["bias"], LinearConfig(**values), facts["multi"])


def tfidf(
    texts: Sequence[str],
    columns: Mapping[str, int],
    idf: NDArray[np.float32],
    words: tuple[int, int],
    characters: tuple[int, int],
) -> csr_matrix:
    """(1 + log tf) * idf, rows scaled to length 1: float32 [n, len(columns)], sparse."""
    from scipy.sparse import csr_matrix

    indptr, indices, data = [0], [], []
    for text in texts:
        counts: dict[int, int] = {}
        for term in terms_of(text, words, characters):
            column = columns.get(term)
            if column is not None:
                counts[column] = counts.get(column, 0) + 1
        row = sorted(counts)
        values = (1.0 + np.log([counts[column] for column in row])) * idf[row] if row else np.zeros(0)
        norm = float(np.sqrt((values**2).sum()))
        indices += row
        data.append((values / norm if norm else values).astype(np.float32))
        indptr.append(len(indices))
    flat = np.concatenate(data) if data else np.zeros(0, np.float32)
    return csr_matrix((flat, np.asarray(indices, np.int32), np.asarray(indptr)), shape=(len(texts), len(columns)))


def _learn_terms(texts: Sequence[str], config: LinearConfig) -> tuple[list[str], NDArray[np.float32]]:
    frequency: dict[str, int] = {}
    for text in texts:
        for term in set(terms_of(text, config.words, config.characters)):
            frequency[term] = frequency.get(term, 0) + 1
    floor = 2 if len(texts) >= 200 else 1
    ranked = sorted((term for term, count in frequency.items() if count >= floor), key=lambda t: (-frequency[t], t))
    terms = sorted(ranked[: config.max_features])
    if not terms:
        raise InputError("the texts hold no words to learn from")
    counts = np.array([frequency[term] for term in terms], np.float64)
    return terms, (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)


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
    for c in (1.0, 10.0, 100.0):
        total = 0.0
        for number in range(config.folds):
            train, held = part[fold != number], part[fold == number]
            weight, bias = regress(matrix[train], targets[train], weights[train], c, multi, dense=extra[train])
            logits = np.asarray(matrix[held] @ weight[:, d:].T) + extra[held] @ weight[:, :d].T + bias
            total += loss_of(probabilities(logits, multi), targets[held], weights[held], multi) / config.folds
        trials.append((c, total))
    return min(trials, key=lambda trial: (trial[1], trial[0]))[0], trials
