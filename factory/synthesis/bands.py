"""Bands of rank and similarity: which retrieved passages serve as demonstrations and which as sources.

SynthesizRR's code takes ranks 1-2 at a similarity of .5 to .9 for demonstrations and ranks 3-50 at .4 to .9 for sources; those
similarities are Contriever's. Another encoder has another scale, so here the bounds are quantiles of the corpus's own
similarities (of all seeds to a sample of all passages), with absolute ones beside them for those who know their encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Band:
    """Which hits of a query are kept.

    Attributes:
        ranks: First and last rank, from 1, both inclusive.
        quantiles: Lowest and highest similarity as quantiles of the corpus's own similarities, 0 to 1.
        similarity: Lowest and highest similarity as such, either may be None. Both kinds of bounds hold.
    """

    ranks: tuple[int, int]
    quantiles: tuple[float, float] = (0.0, 1.0)
    similarity: tuple[float | None, float | None] = (None, None)

    def bounds(self, sample: NDArray[np.float32]) -> tuple[float, float]:
        """Lowest and highest similarity that are kept, given a sample of the corpus's similarities."""
        low, high = -np.inf, np.inf
        if len(sample) and self.quantiles[0] > 0:
            low = float(np.quantile(sample, self.quantiles[0]))
        if len(sample) and self.quantiles[1] < 1:
            high = float(np.quantile(sample, self.quantiles[1]))
        if self.similarity[0] is not None:
            low = max(low, self.similarity[0])
        if self.similarity[1] is not None:
            high = min(high, self.similarity[1])
        return low, high


DEMOS = Band((1, 2), quantiles=(0.98, 1.0))
"""Demonstrations: the nearest passages, if they are nearer than 98% of the corpus."""

SOURCES = Band((3, 50), quantiles=(0.9, 1.0))
"""Sources: the next ones, if they are nearer than 90% of the corpus."""


def band(values: Mapping[str, Any] | None, default: Band) -> Band:
    """A band from a pipeline's parameters, with the default's values where none are given.

    Raises:
        ValueError: An unknown key, or bounds out of order.
    """
    values = dict(values or {})
    unknown = set(values) - {"ranks", "quantiles", "similarity"}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}; a band has ranks, quantiles and similarity")
    ranks = tuple(values.get("ranks", default.ranks))
    quantiles = tuple(values.get("quantiles", default.quantiles))
    similarity = tuple(values.get("similarity", default.similarity))
    if not (len(ranks) == 2 and 1 <= ranks[0] <= ranks[1]):
        raise ValueError("ranks are [first, last], from 1")
    if not (len(quantiles) == 2 and 0 <= quantiles[0] <= quantiles[1] <= 1):
        raise ValueError("quantiles are [lowest, highest], between 0 and 1")
    if len(similarity) != 2:
        raise ValueError("similarity is [lowest, highest]; either may be null")
    return Band(ranks, quantiles, similarity)


def pick(
    positions: NDArray[np.int64], scores: NDArray[np.float32], kept: Band, sample: NDArray[np.float32]
) -> list[list[int]]:
    """The positions within a band, per query, in order of position.

    They come in the order of the corpus rather than of similarity: a last bit of an embedding then matters at a band's edge only.

    Args:
        positions: int64 [q, k], best first, -1 for none; ranks count along the row.
        scores: float32 [q, k].
        kept: The band.
        sample: Similarities of the corpus, for the quantiles.
    """
    low, high = kept.bounds(sample)
    ranks = np.arange(1, positions.shape[1] + 1)
    inside = (positions >= 0) & (scores >= low) & (scores <= high)
    inside &= (ranks >= kept.ranks[0]) & (ranks <= kept.ranks[1])
    return [sorted(int(p) for p in row[keep]) for row, keep in zip(positions, inside, strict=True)]
