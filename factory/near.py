"""Near-duplicates: Jaccard similarity of character 5-grams, found by MinHash (`datasketch`) and confirmed exactly.

The LSH bands (32 of 4 rows) propose a pair of similarity .8 with probability 1 - 5e-8, of .7 with .9998; each proposal is then
measured on the sets themselves, so what counts as a near-duplicate does not depend on the hash.
"""

from __future__ import annotations

from collections.abc import Iterable

from factory.names import normalise

THRESHOLD = 0.8
"""Jaccard similarity from which two texts count as near-duplicates."""

_PERMUTATIONS = 128
_BANDS = (32, 4)


def shingles(text: str, n: int = 5) -> frozenset[str]:
    """The character n-grams of the normalised text, blanks at its ends included; the text itself if it is shorter."""
    plain = f" {normalise(text)} "
    return frozenset(plain[at : at + n] for at in range(max(1, len(plain) - n + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Size of the intersection over size of the union, 0 to 1."""
    both = len(first & second)
    return both / (len(first) + len(second) - both) if both else 0.0


class NearIndex:
    """Texts to compare new ones with.

    Example:
        >>> index = NearIndex()
        >>> index.add("a", "Oil prices rise again on supply fears in the Gulf")
        >>> index.find("Oil prices rise again on supply fears in the Gulf!")
        ('a', 1.0)
        >>> index.find("The striker scored twice") is None
        True
    """

    def __init__(self, texts: Iterable[tuple[str, str]] = (), *, threshold: float = THRESHOLD) -> None:
        """Index `(name, text)` pairs.

        Args:
            texts: Names are unique.
            threshold: At least .7: below it the bands would miss pairs.
        """
        from datasketch import MinHashLSH

        if not 0.7 <= threshold <= 1:
            raise ValueError("the near-duplicate threshold lies between 0.7 and 1")
        self.threshold = threshold
        self._lsh = MinHashLSH(num_perm=_PERMUTATIONS, params=_BANDS)
        self._sets: dict[str, frozenset[str]] = {}
        for name, text in texts:
            self.add(name, text)

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, name: str, text: str) -> None:
        """Add one text under a name that is not in use."""
        parts = shingles(text)
        self._lsh.insert(name, _minhash(parts))
        self._sets[name] = parts

    def find(self, text: str) -> tuple[str, float] | None:
        """The most similar text at or above the threshold (of equals, the lowest name), and its similarity."""
        return next(iter(self.find_all(text)), None)

    def find_all(self, text: str) -> list[tuple[str, float]]:
        """All texts at or above the threshold, the most similar first, with their similarity."""
        if not self._sets:
            return []
        parts = shingles(text)
        hits = [(-jaccard(parts, self._sets[name]), name) for name in self._lsh.query(_minhash(parts))]
        return [(name, -negative) for negative, name in sorted(hits) if -negative >= self.threshold]


def _minhash(parts: frozenset[str]) -> object:
    from datasketch import MinHash

    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([part.encode("utf-8") for part in sorted(parts)])
    return sketch
