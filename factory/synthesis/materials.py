"""What a method works with: seeds, real lengths, a sample of style, and for SynthesizRR the passages of every query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from factory.errors import InputError
from factory.result import Progress, no_progress
from factory.retrieval import Hits, LexicalIndex, search_chunks
from factory.synthesis.bands import Band, pick
from factory.synthesis.synthesizrr import Query
from factory.task import label_names
from factory.warehouse.tables.gold import seed_gold
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

CHUNK = 65_536
"""Passages whose vectors are held at a time."""

SAMPLED_SIMILARITIES = 200_000
HYBRID_SAMPLE = 512


@dataclass(frozen=True)
class Seed:
    """A gold example: its text, its number, its label's name."""

    text_no: int
    label: str
    text: str


@dataclass(frozen=True)
class Retrieved:
    """The passages of every query.

    Attributes:
        queries: With their demonstrations and sources.
        thresholds: The similarities that the quantiles came to: `{"demos": [low, high], "sources": [low, high]}`.
    """

    queries: tuple[Query, ...]
    thresholds: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


def read_seeds(warehouse: Warehouse, labels: Sequence[str], per_label: int | None) -> dict[str, list[Seed]]:
    """The gold examples of the split `seed`, in the order of their file, the first `per_label` of each label."""
    names, given = label_names(warehouse), seed_gold(warehouse)
    texts = texts_of(warehouse, [seed.text_no for seed in given])
    seeds: dict[str, list[Seed]] = {label: [] for label in labels}
    for seed in given:
        for label in (names[number] for number in seed.labels):
            if label in seeds and (per_label is None or len(seeds[label]) < per_label):
                seeds[label].append(Seed(seed.text_no, label, texts[seed.text_no]))
    return seeds


def length_words(texts: Sequence[str]) -> str:
    """How long real texts are, as a phrase for a prompt; empty if there is nothing to measure.

    Example:
        >>> length_words(["one two three"] * 5)
        'usually about 3 words'
    """
    counts = sorted(len(text.split()) for text in texts)
    if not counts:
        return ""
    low, high = (_rounded(float(np.quantile(counts, at))) for at in (0.1, 0.9))
    return f"usually about {low} words" if low == high else f"usually {low} to {high} words"


def longest_usual(texts: Sequence[str]) -> int:
    """Characters of a long real text: 1.5 times what nine in ten stay below; 0 if there is nothing to measure."""
    return int(1.5 * float(np.quantile([len(text) for text in texts], 0.9))) if texts else 0


def retrieve(
    warehouse: Warehouse,
    queries: Sequence[tuple[str, int | None, str]],
    passages: Sequence[int],
    *,
    how: Literal["dense", "lexical", "hybrid"],
    encoder: Encoder | None,
    demos: Band,
    sources: Band,
    exclude: Sequence[int] = (),
    pool: int = 300,
    progress: Progress = no_progress,
) -> Retrieved:
    """Retrieve for every query and cut the hits into bands.

    Args:
        warehouse: Where texts and cached vectors are.
        queries: `(label, seed's text number or None, text)`.
        passages: Text numbers of the corpus, in order of content.
        how: By embeddings, by BM25, or by embeddings among the best `pool` of BM25 (which embeds a fraction of the corpus).
        encoder: For `dense` and `hybrid`.
        demos, sources: Which hits make demonstrations, and which are rewritten.
        exclude: Text numbers that are never passages (the seeds themselves).
        pool: For `hybrid`, passages of each query that are embedded.
        progress: Called with (done, total, what).

    Raises:
        InputError: There are no passages.
    """
    corpus = _searched(passages, exclude)
    k = min(max(demos.ranks[1], sources.ranks[1]), len(corpus))
    words = [text for _, _, text in queries]
    if how == "lexical":
        hits, sample = _lexical(warehouse, words, corpus, k)
    elif how == "hybrid":
        assert encoder is not None
        hits, sample = _hybrid(warehouse, encoder, words, corpus, k, max(pool, k), progress)
    else:
        assert encoder is not None
        hits, sample = _dense(warehouse, encoder, words, corpus, k, progress)
    picked = [pick(hits.positions, hits.scores, band, sample) for band in (demos, sources)]
    found = tuple(
        Query(label, seed, [corpus[at] for at in near], [corpus[at] for at in far])
        for (label, seed, _), near, far in zip(queries, *picked, strict=True)
    )
    return Retrieved(found, {"demos": _finite(demos.bounds(sample)), "sources": _finite(sources.bounds(sample))})


def dealt(
    queries: Sequence[tuple[str, int | None, str]],
    passages: Sequence[int],
    *,
    demos: Band,
    sources: Band,
    exclude: Sequence[int] = (),
) -> tuple[Query, ...]:
    """As many passages for every query as `retrieve`, which takes the same, finds on average, dealt out instead of searched for:
    nothing is embedded.
    """
    corpus = _searched(passages, exclude)
    found, at = [], 0
    for label, seed, _ in queries:
        hands = []
        for band in (demos, sources):
            share = band.quantiles[1] - band.quantiles[0]
            count = min(band.ranks[1] - band.ranks[0] + 1, round(share * len(corpus)), len(corpus))
            hands.append([corpus[(at + step) % len(corpus)] for step in range(count)])
            at += count
        found.append(Query(label, seed, *hands))
    return tuple(found)


def _searched(passages: Sequence[int], exclude: Sequence[int]) -> list[int]:
    left_out = set(exclude)
    corpus = [number for number in passages if number not in left_out]
    if not corpus:
        raise InputError("there are no passages to retrieve from", fix="Ingest a split `train`, or name `passages`")
    return corpus


def _dense(
    warehouse: Warehouse, encoder: Encoder, queries: Sequence[str], corpus: Sequence[int], k: int, progress: Progress
) -> tuple[Hits, NDArray[np.float32]]:
    from factory.encoders.vectors import vectors_of

    wanted = encoder.encode(queries)
    sample: list[NDArray[np.float32]] = []
    share = min(1.0, SAMPLED_SIMILARITIES / max(1, len(corpus) * len(queries)))
    rng = np.random.default_rng(0)

    def chunks() -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(corpus), CHUNK):
            vectors = vectors_of(warehouse, encoder, corpus[start : start + CHUNK], progress)
            rows = np.flatnonzero(rng.random(len(vectors)) < share)
            sample.append((wanted @ vectors[rows].T).ravel())
            yield vectors

    hits = search_chunks(wanted, chunks(), k)
    return hits, np.concatenate(sample)


def _hybrid(
    warehouse: Warehouse,
    encoder: Encoder,
    queries: Sequence[str],
    corpus: Sequence[int],
    k: int,
    pool: int,
    progress: Progress,
) -> tuple[Hits, NDArray[np.float32]]:
    """The best of BM25 ranked anew by embeddings; the corpus's own similarities are told by some of its passages."""
    from factory.encoders.vectors import vectors_of

    near, _ = _lexical(warehouse, queries, corpus, min(pool, len(corpus)))
    some = np.sort(np.random.default_rng(0).permutation(len(corpus))[:HYBRID_SAMPLE])
    embedded = np.unique(np.concatenate([near.positions[near.positions >= 0], some]))
    vectors = vectors_of(warehouse, encoder, [corpus[at] for at in embedded], progress)
    wanted = encoder.encode(queries)
    positions = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    for row, own in enumerate(near.positions):
        own = np.unique(own[own >= 0])
        found = search_chunks(wanted[row : row + 1], [vectors[np.searchsorted(embedded, own)]], k)
        there = found.positions[0] >= 0
        positions[row, there] = own[found.positions[0][there]]
        scores[row] = found.scores[0]
    sample = wanted @ vectors[np.searchsorted(embedded, some)].T
    return Hits(positions, scores), sample.ravel()


def _lexical(
    warehouse: Warehouse, queries: Sequence[str], corpus: Sequence[int], k: int
) -> tuple[Hits, NDArray[np.float32]]:
    texts = texts_of(warehouse, corpus)
    index = LexicalIndex([texts[number] for number in corpus])
    return index.search(queries, k), index.sample_scores(queries, SAMPLED_SIMILARITIES)


def _finite(bounds: tuple[float, float]) -> list[float | None]:
    return [round(value, 4) if np.isfinite(value) else None for value in bounds]


def _rounded(count: float) -> int:
    return max(1, round(count)) if count < 15 else 5 * round(count / 5)
