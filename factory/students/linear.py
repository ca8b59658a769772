"""`linear`: TF-IDF of words, word pairs and character n-grams, and logistic regression. Needs no encoder; the one to beat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from factory.encoders.base import Encoder
from factory.errors import InputError
from factory.logistic import Features, Head
from factory.students.base import Student, TrainingSet, write_json
from factory.students.heads import learn_head
from factory.students.terms import terms_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix


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
    stands_on_encoder: ClassVar[bool] = False
    strength_for_programs: ClassVar[float | None] = 10.0
    strengths_on_dev: ClassVar[tuple[float, ...]] = (3.0, 10.0, 30.0)
    Config: ClassVar[type[Any]] = LinearConfig

    def __init__(self, terms: Sequence[str], idf: NDArray[np.float32], head: Head, config: LinearConfig) -> None:
        super().__init__(config, head.multi, len(head.bias))
        self.terms = list(terms)
        self.columns = {term: index for index, term in enumerate(self.terms)}
        self.idf, self.head = idf, head

    @classmethod
    def train(cls, lesson: TrainingSet, config: LinearConfig) -> LinearStudent:
        terms, idf = _learn_terms(lesson.texts, config)
        columns = {term: index for index, term in enumerate(terms)}
        matrix = tfidf(lesson.texts, columns, idf, config.words, config.characters)
        head, config, trials = learn_head(matrix, lesson, config)
        student = cls(terms, idf, head, config)
        student.trials = trials
        return student

    def _answer(self, texts: Sequence[str], vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        matrix = tfidf(texts, self.columns, self.idf, self.config.words, self.config.characters)
        return self.head.predict_proba(Features(sparse=matrix))

    def scale_temperature(self, temperature: float) -> None:
        self.head = self.head.scaled(temperature)

    def _write(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        arrays = {"idf": self.idf, "weight": self.head.weight, "bias": self.head.bias}
        save_file(arrays, str(folder / "linear.safetensors"))
        write_json(folder / "terms.json", self.terms)

    @classmethod
    def _read(cls, folder: Path, config: Any, multi: bool, encoder: Encoder | None) -> LinearStudent:
        from safetensors.numpy import load_file

        terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
        arrays = load_file(str(folder / "linear.safetensors"))
        return cls(terms, arrays["idf"], Head(arrays["weight"], arrays["bias"], multi), config)


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
