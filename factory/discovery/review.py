"""What two labellings of the same fresh texts say of a list of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from factory.card_labels import OTHER


@dataclass(frozen=True)
class Check:
    """Fresh texts, labelled twice: in another order, in other company, and with the labels listed in another order.

    One model agrees with itself more than two people do, so what it is torn about is the least that there is.

    Attributes:
        texts: The texts, by their positions.
        first: The label of each; None where the answer cannot be read.
        second: Likewise.
    """

    texts: tuple[int, ...]
    first: tuple[str | None, ...]
    second: tuple[str | None, ...]

    @cached_property
    def both(self) -> list[tuple[int, str, str]]:
        """Text and its two labels, of those that were read twice."""
        rows = zip(self.texts, self.first, self.second, strict=True)
        return [(text, one, two) for text, one, two in rows if one is not None and two is not None]

    @property
    def agreement(self) -> float | None:
        """The share of texts that got the same label twice; None without texts."""
        return sum(one == two for _, one, two in self.both) / len(self.both) if self.both else None

    @property
    def coverage(self) -> float | None:
        """The share of answers that gave a label other than the last; None without texts."""
        said = [name for _, *two in self.both for name in two]
        return sum(name != OTHER for name in said) / len(said) if said else None

    @property
    def agreed(self) -> dict[int, str]:
        """The label of each text that got the same one twice, if it is not the last."""
        return {text: one for text, one, two in self.both if one == two != OTHER}

    @property
    def torn(self) -> list[tuple[int, str, str]]:
        """Texts with two different labels, and both, unless one is the last."""
        return [(text, one, two) for text, one, two in self.both if one != two and OTHER not in (one, two)]

    @property
    def unfit(self) -> list[int]:
        """Texts that no label fitted, at least once."""
        return [text for text, one, two in self.both if OTHER in (one, two)]

    @property
    def pairs(self) -> list[tuple[tuple[str, str], int]]:
        """Pairs of labels between which texts were torn, with how many, the most first."""
        counted = Counter(tuple(sorted((one, two))) for _, one, two in self.torn)
        return [
            ((one, two), count) for (one, two), count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        ]


def split_in_two(texts: Sequence[int], size: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """The same texts in batches, twice, in two orders."""
    import random

    order = random.Random(seed)
    ways = []
    for _ in range(2):
        shuffled = list(texts)
        order.shuffle(shuffled)
        ways.append([shuffled[start : start + size] for start in range(0, len(shuffled), size)])
    return ways[0], ways[1]
