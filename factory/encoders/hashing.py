"""`hashing`: vectors without any model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from factory.canonical import digest
from factory.encoders.base import Encoder
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASHING = "hashing"
HASHING_DIMENSION = 2048


class HashingEncoder(Encoder):
    """Hashed words, word pairs and character trigrams, with logarithmic counts: no model, no corpus, any language.

    Good enough to compare and to cluster texts; a student is better served by `linear`, which learns document
    frequencies.
    """

    def __init__(self, says: str) -> None:
        key = digest({"encoder": HASHING, "dimension": HASHING_DIMENSION, "version": 1})
        super().__init__(HASHING, key, HASHING_DIMENSION, says)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.preprocessing import normalize

        tell = progress or no_progress
        out = np.zeros((len(texts), self.dimension), np.float32)
        kinds = [("word", (1, 2), r"(?u)\b\w+\b"), ("char_wb", (3, 3), None)]
        for start in range(0, len(texts), 4096):
            part = list(texts[start : start + 4096])
            total = np.zeros((len(part), self.dimension), np.float64)
            for analyzer, ngram_range, token_pattern in kinds:
                counts = HashingVectorizer(
                    n_features=self.dimension,
                    analyzer=analyzer,
                    ngram_range=ngram_range,
                    token_pattern=token_pattern,
                    norm=None,
                    alternate_sign=True,
                ).transform(part)
                counts.data = np.sign(counts.data) * np.log1p(np.abs(counts.data))
                total += normalize(counts).toarray()
            out[start : start + len(part)] = normalize(total)
            tell(min(start + len(part), len(texts)), len(texts), "texts encoded")
        return out
