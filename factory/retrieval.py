"""Finding passages (or labels) like a query: dense (inner product of embeddings) and lexical (BM25).

Dense search is exact and goes through the vectors in chunks, so they may lie in memory, in a memory-mapped file, or come from the
warehouse piece by piece. Lexical search is `bm25s`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

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
    best_scores = np.full((len(queries), k), -np.inf, np.float32)
    best_positions = np.full((len(queries), k), -1, np.int64)
    offset = 0
    for chunk in chunks:
        scores = queries @ np.asarray(chunk, np.float32).T
        top = _top(scores, k)
        found = np.concatenate([best_scores, np.take_along_axis(scores, top, 1)], axis=1)
        places = np.concatenate([best_positions, top + offset], axis=1)
        order = np.lexsort((places, -found), axis=1)[:, :k]
        best_scores, best_positions = np.take_along_axis(found, order, 1), np.take_along_axis(places, order, 1)
        offset += len(chunk)
    return Hits(best_positions, best_scores)


class LexicalIndex:
    """BM25 (Lucene's variant) by `bm25s`, without English stop words."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Index the texts."""
        import bm25s

        self._n = len(texts)
        self._index = bm25s.BM25()
        self._index.index(_tokens(texts), show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> Hits:
        """The k best passages of every query. A query of stop words alone has none.

        bm25s breaks ties by its own order; here the lower position comes first.
        """
        found_positions = np.full((len(queries), k), -1, np.int64)
        found_scores = np.full((len(queries), k), -np.inf, np.float32)
        for row, scores in enumerate(self._scores(queries)):
            top = _top(scores[None, :], k)[0]
            top = top[np.lexsort((top, -scores[top]))]
            top = top[scores[top] > 0]
            found_positions[row, : len(top)] = top
            found_scores[row, : len(top)] = scores[top]
        return Hits(found_positions, found_scores)

    def scores(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """float32 [q, n]: every query's score of every passage."""
        return np.stack([np.zeros(self._n, np.float32), *self._scores(queries)])[1:]

    def sample_scores(self, queries: Sequence[str], count: int) -> NDArray[np.float32]:
        """About `count` of all the scores of these queries, drawn evenly (every n-th passage): for quantiles."""
        step = max(1, len(queries) * self._n // max(1, count))
        return np.concatenate([np.zeros(0, np.float32), *(scores[::step] for scores in self._scores(queries))])

    def _scores(self, queries: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Each query's score of every passage."""
        for tokens in _tokens(queries, return_ids=False):
            known = [token for token in tokens if token in self._index.vocab_dict]
            yield np.asarray(self._index.get_scores(known), np.float32) if known else np.zeros(self._n, np.float32)


def _tokens(texts: Sequence[str], **how: bool) -> Any:
    import bm25s

    return bm25s.tokenize(list(texts), stopwords="english", show_progress=False, **how)


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
