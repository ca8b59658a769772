"""The public vote sets that label models are measured on, and the two halves they are divided into.

`auto` was built looking at `BUILT_ON` alone; `REPORTED_ON` was opened when it was finished. Sets that share texts or a task
are in the same half.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BUILT_ON = (
    "wrench_youtube",
    "llmlf_datasculpt_youtube",
    "wrench_trec",
    "wrench_chemprot",
    "agnews",
    "llmlf_datasculpt_agnews",
    "llmvotes_agnews_fewshot",
    "crowd_noisyagnews",
    "llmvotes_discourse",
    "llmvotes_emotion",
    "crowd_bluebird",
    "crowd_d_sentiment",
    "crowd_dog",
    "crowd_rte",
    "crowd_s5_adult",
)
REPORTED_ON = (
    "wrench_sms",
    "llmlf_datasculpt_sms",
    "wrench_semeval",
    "wrench_spouse_test",
    "imdb",
    "llmlf_datasculpt_imdb",
    "llmvotes_semeval_stance",
    "llmvotes_wiki_politeness",
    "crowd_sentence_polarity",
    "crowd_temp",
    "crowd_weather",
    "crowd_web",
    "crowd_wsd",
    "crowd_zencrowd_us",
)
F1_SETS = ("wrench_sms", "llmlf_datasculpt_sms", "wrench_spouse_test")
NO_TEXTS = (
    "crowd_bluebird",
    "crowd_d_sentiment",
    "crowd_dog",
    "crowd_s5_adult",
    "crowd_sentence_polarity",
    "crowd_web",
    "crowd_wsd",
    "crowd_zencrowd_us",
)


@dataclass(frozen=True)
class Part:
    """One split: texts, votes as a `VoteSet`, and gold (int64, -1 where there is none)."""

    texts: list[str]
    votes: Any
    gold: np.ndarray


@dataclass(frozen=True)
class VoteData:
    """One vote set. `fit` is what label models are fitted on: train, or the scored rows themselves where there is no train.

    Attributes:
        name: Of the folder.
        classes: Class names.
        fit: Votes to fit on; its gold is never shown to a model.
        score: Rows to score.
        dev: Gold-labelled rows apart from both, or None.
        same: Whether `fit` and `score` are the same rows.
    """

    name: str
    classes: list[str]
    fit: Part
    score: Part
    dev: Part | None
    same: bool

    @property
    def metric(self) -> str:
        """`f1` of the rarer class for skewed tasks of two classes, else `accuracy`."""
        return "f1" if self.name in F1_SETS else "accuracy"


def load(data: Path, name: str, *, limit: int = 5000) -> VoteData:
    """Read one set.

    Args:
        data: Folder of the data sets.
        name: A name of `BUILT_ON` or `REPORTED_ON`.
        limit: Most rows of a split (drawn with seed 0); keeps texts affordable to embed.
    """
    from factory.label_matrix import VoteSet

    limit = 10**9 if name.startswith("crowd_") else limit
    train_of = "cosine_chemprot" if name == "wrench_chemprot" else name
    names, m = _names(data, name)
    has_train = (data / train_of / "train.parquet").exists()
    score = _part(data / name / "test.parquet", names, m, limit, 1)
    fit = _part(data / train_of / "train.parquet", names, m, limit, 2) if has_train else score
    if (
        name == "wrench_chemprot"
    ):  # its test texts and those of this copy's train overlap by other splits: leave them out
        known = set(score.texts)
        fit = _pick(fit, np.array([row for row, text in enumerate(fit.texts) if text not in known], np.int64))
    dev = None
    if (data / name / "validation.parquet").exists():
        dev = _part(data / name / "validation.parquet", names, m, 500, 3)
    assert isinstance(score.votes, VoteSet)
    return VoteData(name, names, fit, score, dev, not has_train)


def with_dev(data: VoteData, size: int = 100) -> VoteData:
    """The same set with dev gold: its own, else `size` scored rows (at most a quarter) drawn with seed 0 and not scored."""
    if data.dev is not None:
        return data
    gold = np.flatnonzero(data.score.gold >= 0)
    picked = np.sort(np.random.default_rng(0).permutation(gold)[: min(size, len(gold) // 4)])
    rest = np.setdiff1d(np.arange(len(data.score.texts)), picked)
    return VoteData(data.name, data.classes, data.fit, _pick(data.score, rest), _pick(data.score, picked), False)


def _names(data: Path, name: str) -> tuple[list[str], int]:
    import pyarrow.parquet as pq

    table = pq.read_table(data / name / "test.parquet")
    names = json.loads(table.schema.metadata[b"label_names"])
    if "voters" in table.schema.names:
        return names, max(max(row, default=0) for row in table["voters"].to_pylist()) + 1
    return names, len(table["votes"][0])


def _part(path: Path, names: list[str], m: int, limit: int, seed: int) -> Part:
    import pyarrow.parquet as pq

    from factory.label_matrix import VoteSet

    table = pq.read_table(path)
    if "exemplar" in table.schema.names:
        table = table.filter([not value for value in table["exemplar"].to_pylist()])
    if table.num_rows > limit:
        table = table.take(np.sort(np.random.default_rng(seed).permutation(table.num_rows)[:limit]))
    number = {name: at for at, name in enumerate(names)}
    gold = np.array([number.get(label, -1) if label is not None else -1 for label in table["label"].to_pylist()])
    votes = table["votes"].to_pylist()
    if "voters" in table.schema.names:
        cells = {
            (row, voter): vote
            for row, (values, voters) in enumerate(zip(votes, table["voters"].to_pylist(), strict=True))
            for vote, voter in zip(values, voters, strict=True)
        }
        at = np.array(list(cells), np.int64).reshape(-1, 2)
        said = np.array(list(cells.values()), np.int64)
        shape = (table.num_rows, m)
        matrix = VoteSet.from_triplets(at[:, 0], at[:, 1], said, shape=shape, classes=len(names))
    else:
        matrix = VoteSet.from_matrix(np.array(votes), len(names))
    return Part([str(text) for text in table["text"].to_pylist()], matrix, gold)


def _pick(part: Part, rows: np.ndarray) -> Part:
    return Part([part.texts[row] for row in rows], part.votes.take(rows), part.gold[rows])


def keys_of(texts: list[str]) -> np.ndarray:
    """The tie keys of texts, as the warehouse makes them."""
    from factory.denoise.decide import tie_keys

    return tie_keys([hashlib.sha256(text.encode("utf-8", "replace")).digest()[:16] for text in texts])


def score(metric: str, gold: np.ndarray, said: np.ndarray) -> float:
    """Accuracy, or F1 of class 1."""
    if metric == "accuracy":
        return float((gold == said).mean())
    hits = float(((said == 1) & (gold == 1)).sum())
    return 2 * hits / max(float((said == 1).sum() + (gold == 1).sum()), 1.0)


def tfidf(fit: list[str], *others: list[str]) -> list[Any]:
    """Sparse TF-IDF of words and word pairs, learned on `fit`: vectors of `fit` and of the others."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    maker = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=50_000)
    first = maker.fit_transform(fit)
    return [first, *(maker.transform(texts) for texts in others)]


def lsa(fit: list[str], *others: list[str], width: int = 128) -> list[np.ndarray]:
    """Unit vectors of `fit` and of the others: the first singular vectors of `tfidf`, learned on `fit`. No model is needed."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    first, *rest = tfidf(fit, *others)
    maker = TruncatedSVD(width, random_state=0).fit(first)
    return [normalize(maker.transform(part)).astype(np.float32) for part in (first, *rest)]
