"""Tokens of many programs, looked up once for each run of characters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from factory.programs.sandbox.patterns import set_of
from factory.programs.specs import Spec

MAX_RUNS = 400_000
_MOST = 30_000
"""Counts stop there, as `settling.every` does: they must fit 16 bits."""


class Words:
    """Which tokens count for which columns, and what is known of every run of characters met so far.

    A run is a longest stretch of the characters that tokens consist of. Its tokens, found once in a sealed child, are kept as
    numbers of words.

    Attributes:
        heads: `(pattern, flags)` of each kind of token, with its words in order.
    """

    def __init__(self, asked: Iterable[tuple[int, Spec]]) -> None:
        listed = list(asked)
        self.columns = sorted({column for column, _ in listed})
        mask = 0
        places: dict[tuple[str, str, str], list[tuple[int, bool]]] = {}
        for column, (op, patterns, _) in listed:
            mask |= int(patterns[2], 16)
            for word in patterns[3:]:
                places.setdefault((patterns[0], patterns[1], word), []).append((column, op == "token_count"))
        inside = {code for code in range(128) if mask >> code & 1 or chr(code).isalnum() or code == 95}
        self.find = re.compile(set_of(inside) + "+").findall
        self.heads: dict[tuple[str, str], list[str]] = {}
        self._numbers: dict[tuple[str, str], list[int]] = {}
        counted: list[list[int]] = []
        distinct: list[list[int]] = []
        for number, ((pattern, flags, word), columns) in enumerate(places.items()):
            self.heads.setdefault((pattern, flags), []).append(word)
            self._numbers.setdefault((pattern, flags), []).append(number)
            counted.append([column for column, counts in columns if counts])
            distinct.append([column for column, counts in columns if not counts])
        self._counted, self._distinct = Lists(counted), Lists(distinct)
        self.forget()

    def forget(self) -> None:
        """Drop what is known of runs."""
        self.known: dict[str, int] = {}
        self._groups: list[list[int]] = [[]]
        self._by_group: dict[tuple[int, ...], int] = {(): 0}

    def new(self, runs: Sequence[str]) -> list[str]:
        """The runs that were not met before, in order."""
        if len(self.known) > MAX_RUNS:
            self.forget()
        return sorted(set(runs) - self.known.keys())

    def learn(self, run: str, numbers: Sequence[int] | None) -> None:
        """Store the words of a run; None if they cannot be known."""
        if numbers is None:
            self.known[run] = -1
            return
        key = tuple(numbers)
        if key not in self._by_group:
            self._by_group[key] = len(self._groups)
            self._groups.append(list(key))
        self.known[run] = self._by_group[key]

    def numbers(self, head: tuple[str, str]) -> list[int]:
        """Numbers of a head's words."""
        return self._numbers[head]

    def count(self, runs: Sequence[str], sizes: Sequence[int], values: np.ndarray, odd: np.ndarray) -> None:
        """Add what the runs of each text hold to the outcomes. All of them must be known."""
        groups = np.fromiter(map(self.known.__getitem__, runs), dtype=np.int64, count=len(runs))
        rows = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        odd[rows[groups < 0]] = True
        there = groups > 0
        rows, words = Lists(self._groups).spread(rows[there], groups[there])
        at, columns = self._counted.spread(rows, words)
        tally(values, at, columns)
        keys = once_each(rows << 32 | words)
        at, columns = self._distinct.spread(keys >> 32, keys & 0xFFFFFFFF)
        tally(values, at, columns)


class Lists:
    """Lists of integers, one after the other."""

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        self.sizes = np.array([len(one) for one in lists], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self.flat = np.array([number for one in lists for number in one], dtype=np.int64)

    def spread(self, rows: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each row all integers of the list it points to: rows, repeated, and integers."""
        sizes = self.sizes[which]
        ends = np.cumsum(sizes)
        within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - sizes, sizes)
        return np.repeat(rows, sizes), self.flat[np.repeat(self.starts[which], sizes) + within]


def once_each(keys: np.ndarray) -> np.ndarray:
    """The distinct integers, ascending. (`np.unique` hashes, which takes thirty times as long for some hundred thousand.)"""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=keys[:1] - 1) != 0]


def tally(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Add one at each place, as often as it is named."""
    n, m = values.shape
    if len(rows):
        values += np.minimum(np.bincount(rows * m + columns, minlength=n * m), _MOST).reshape(n, m).astype(values.dtype)
