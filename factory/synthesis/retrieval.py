"""Finding passages like a query: dense (inner product of embeddings) and lexical (BM25).

Dense search is exact and goes through the vectors in chunks, so they may lie in memory, in a memory-mapped file, or come from the
warehouse piece by piece. Beyond about a million passages `ApproximateIndex` uses faiss. Lexical search is `bm25s`, which can keep
its index in a folder and read it memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Hits:
    """The best passages of each query, best first.

    Attributes:
        positions: int64 [q, k], positions in the corpus; -1 where there were fewer than k passages.
        scores: float32 [q, k]; `-inf` where the position is -1.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]


def search_chunks(queries: NDArray[np.float32], chunks: Iterable[NDArray[np.float32]], k: int) -> Hits:
    """Exact top-k by inner product over vectors that come in chunks.

    Ties go to the lower position, so the result does not depend on the size of the chunks.

    Args:
        queries: float32 [q, d].
        chunks: float32 [n_i, d] each, in the order of the corpus. Only one is held at a time.
        k: How many hits per query.
    """
    n_queries = len(queries)
    best_scores = np.full((n_queries, 0), -np.inf, np.float32)
    best_positions = np.full((n_queries, 0), -1, np.int64)
    offset = 0
    for chunk in chunks:
        scores = queries @ np.asarray(chunk, np.float32).T
        top = _top(scores, k)
        best_scores = np.concatenate([best_scores, np.take_along_axis(scores, top, 1)], axis=1)
        best_positions = np.concatenate([best_positions, top + offset], axis=1)
        if best_scores.shape[1] > k:
            order = np.lexsort((best_positions, -best_scores), axis=1)[:, :k]
            best_scores = np.take_along_axis(best_scores, order, 1)
            best_positions = np.take_along_axis(best_positions, order, 1)
        offset += len(chunk)
    order = np.lexsort((best_positions, -best_scores), axis=1)
    best_scores, best_positions = (
        np.take_along_axis(best_scores, order, 1),
        np.take_along_axis(best_positions, order, 1),
    )
    missing = k - best_scores.shape[1]
    if missing > 0:
        best_scores = np.pad(best_scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        best_positions = np.pad(best_positions, ((0, 0), (0, missing)), constant_values=-1)
    return Hits(best_positions, best_scores)


class DenseIndex:
    """Exact search over one array of vectors (in memory, or a memory-mapped `.npy`).

    Example:
        >>> index = DenseIndex(np.eye(3, dtype=np.float32))
        >>> index.search(np.array([[0.0, 1.0, 0.5]], np.float32), 2).positions.tolist()
        [[1, 2]]
    """

    def __init__(self, vectors: NDArray[np.float32], *, chunk: int = 65_536) -> None:
        """Take the vectors as they are.

        Args:
            vectors: float32 [n, d], normalised if cosine similarity is wanted.
            chunk: Passages per matrix product; the working memory is `chunk x queries x 4` bytes.
        """
        self.vectors = vectors
        self.chunk = chunk

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def open(cls, path: Path, *, chunk: int = 65_536) -> DenseIndex:
        """Vectors of a `.npy` file, memory-mapped."""
        return cls(np.load(path, mmap_mode="r", allow_pickle=False), chunk=chunk)

    def search(self, queries: NDArray[np.float32], k: int) -> Hits:
        """The k best passages of every query, at most 256 queries at a time."""
        parts = [
            search_chunks(
                queries[first : first + 256],
                (self.vectors[start : start + self.chunk] for start in range(0, len(self.vectors), self.chunk)),
                k,
            )
            for first in range(0, len(queries), 256)
        ]
        if not parts:
            return Hits(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))
        return Hits(np.concatenate([p.positions for p in parts]), np.concatenate([p.scores for p in parts]))


class LexicalIndex:
    """BM25 (Lucene's variant) by `bm25s`."""

    def __init__(self, texts: Sequence[str], *, stopwords: str = "english") -> None:
        """Index the texts; `stopwords` is a language that bm25s knows, or `""` for none."""
        import bm25s

        self.stopwords = stopwords
        self._n = len(texts)
        self._index = bm25s.BM25()
        tokens = bm25s.tokenize(list(texts), stopwords=stopwords or [], show_progress=False)
        self._index.index(tokens, show_progress=False)

    def __len__(self) -> int:
        return self._n

    def save(self, folder: Path) -> None:
        """Write the index to a folder (NumPy arrays and JSON)."""
        self._index.save(str(folder))

    @classmethod
    def open(cls, folder: Path, *, stopwords: str = "english") -> LexicalIndex:
        """Read an index that `save` wrote, memory-mapped."""
        import bm25s

        index = cls.__new__(cls)
        index.stopwords = stopwords
        index._index = bm25s.BM25.load(str(folder), mmap=True)
        index._n = int(index._index.scores["num_docs"])
        return index

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """The k best passages of every query. A query of stop words alone has none.

        bm25s breaks ties by its own order; here the lower position comes first.
        """
        import bm25s

        found_positions = np.full((len(queries), k), -1, np.int64)
        found_scores = np.full((len(queries), k), -np.inf, np.float32)
        words: Any = bm25s.tokenize(
            list(queries), stopwords=self.stopwords or [], return_ids=False, show_progress=False
        )
        for row, tokens in enumerate(words):
            known = [token for token in tokens if token in self._index.vocab_dict]
            if not known:
                continue
            scores = np.asarray(self._index.get_scores(known), np.float32)
            top = _top(scores[None, :], k)[0]
            top = top[np.lexsort((top, -scores[top]))]
            top = top[scores[top] > 0]
            found_positions[row, : len(top)] = top
            found_scores[row, : len(top)] = scores[top]
        return Hits(found_positions, found_scores)

    def sample_scores(self, queries: Sequence[str], count: int) -> NDArray[np.float32]:
        """About `count` of all the scores of these queries, drawn evenly (every n-th passage): for quantiles."""
        import bm25s

        words: Any = bm25s.tokenize(
            list(queries), stopwords=self.stopwords or [], return_ids=False, show_progress=False
        )
        step = max(1, len(queries) * self._n // max(1, count))
        parts = []
        for tokens in words:
            known = [token for token in tokens if token in self._index.vocab_dict]
            scores = np.asarray(self._index.get_scores(known), np.float32) if known else np.zeros(self._n, np.float32)
            parts.append(scores[::step])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class ApproximateIndex:
    """Approximate inner-product search by faiss (HNSW, or IVF for many passages)."""

    def __init__(self, vectors: NDArray[np.float32], *, probes: int = 32) -> None:
        """Build an IVF index with about `2 * sqrt(n)` lists.

        Raises:
            InputError: faiss is not installed.
        """
        try:
            import faiss
        except ImportError as error:
            raise InputError(
                "approximate search needs faiss", fix="Run `pip install faiss-cpu`, or use exact search"
            ) from error
        n, dimension = vectors.shape
        lists = max(1, min(int(2 * n**0.5), n // 39 or 1))
        self._index: Any = faiss.index_factory(dimension, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        sample = np.random.default_rng(0).permutation(n)[: max(lists * 39, 10_000)]
        self._index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
        for start in range(0, n, 65_536):
            self._index.add(np.ascontiguousarray(vectors[start : start + 65_536]))
        self._index.nprobe = min(probes, lists)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, queries: NDArray[np.float32], k: int) -> Hits:
        """The (nearly) k best passages of every query."""
        scores, positions = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return Hits(positions.astype(np.int64), np.where(positions < 0, -np.inf, scores).astype(np.float32))


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the k largest values of each row, ties at the edge going to the lower column; not sorted by value."""
    n = scores.shape[1]
    if n <= k:
        return np.broadcast_to(np.arange(n), scores.shape).copy()
    top = np.argpartition(scores, n - k, axis=1)[:, n - k :]
    edge = np.take_along_axis(scores, top, 1).min(axis=1)
    for row in np.flatnonzero(
        (scores == edge[:, None]).sum(1) > (np.take_along_axis(scores, top, 1) == edge[:, None]).sum(1)
    ):
        above = np.flatnonzero(scores[row] > edge[row])
        equal = np.flatnonzero(scores[row] == edge[row])[: k - len(above)]
        top[row] = np.concatenate([above, equal])
    return top
