"""The label matrix, held sparsely: only the votes that do not abstain, row after row.

A vote of labelling function j for class y is the code `j * classes + y`. Codes take two bytes where they fit, so 10,000,000
texts with 67,000,000 votes are 215 MB, whatever the number of functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ABSTAIN = -1
CHUNK = 32_768
"""Rows worked on at a time: small enough that a chunk stays in a processor's cache (five times faster than 250,000)."""


def vote_dtype(classes: int) -> np.dtype[Any]:
    """The narrowest signed integer that holds every class and -1: int8 up to 127 classes, then int16, then int32."""
    if classes <= 127:
        return np.dtype(np.int8)
    return np.dtype(np.int16) if classes <= 32_767 else np.dtype(np.int32)


@dataclass(frozen=True)
class VoteSet:
    """Rows of votes by `lfs` labelling functions over `classes` classes.

    Attributes:
        codes: Votes row by row, `lf * classes + label`, ascending within a row; uint16 where that fits, else int32.
        indptr: int64 [rows + 1]; row i is `codes[indptr[i]:indptr[i + 1]]`.
        lfs: Number of labelling functions (m).
        classes: Number of classes (k).
        counts: float64 [rows], how many texts each row stands for, or None where each is one.
        distinct: Whether the rows are known to differ from each other (`patterns` made them).
    """

    codes: np.ndarray
    indptr: np.ndarray
    lfs: int
    classes: int
    counts: np.ndarray | None = None
    distinct: bool = False

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def n(self) -> float:
        """Number of texts that the rows stand for."""
        return float(len(self)) if self.counts is None else float(self.counts.sum())

    @property
    def times(self) -> np.ndarray:
        """float64 [rows]: how many texts each row stands for."""
        return np.ones(len(self)) if self.counts is None else self.counts

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows]: votes in each row."""
        return np.diff(self.indptr)

    @property
    def covered(self) -> np.ndarray:
        """bool [rows]: whether anything voted."""
        return self.lengths > 0

    @classmethod
    def from_matrix(cls, votes: Any, classes: int) -> VoteSet:
        """Take a dense label matrix.

        Args:
            votes: Integers [n, m] in -1 ... classes-1, -1 abstains.
            classes: Number of classes, 2 or more.

        Raises:
            InputError: Not a matrix of integers, rows of several lengths, or a vote outside the range.
        """
        _check_classes(classes)
        try:
            matrix = np.asarray(votes)
        except (TypeError, ValueError) as error:  # what numpy says of rows of several lengths
            raise InputError("votes are a matrix of texts by labelling functions, with rows of one length") from error
        if matrix.ndim != 2:
            raise InputError(f"votes are a matrix of texts by labelling functions, not {matrix.ndim}-dimensional")
        if matrix.size and not np.issubdtype(matrix.dtype, np.integer):
            fix = "Use -1 for abstain and 0, 1, ... for the classes"
            raise InputError(f"votes are integers, not {matrix.dtype}", fix=fix)
        if matrix.size and (matrix.min() < ABSTAIN or matrix.max() >= classes):
            words = f"votes run from {matrix.min()} to {matrix.max()}, and there are {classes} classes"
            raise InputError(words, fix="Use -1 for abstain and 0 to classes-1 for the classes")
        rows, columns = np.nonzero(matrix >= 0)
        codes = _narrow(columns * np.int64(classes) + matrix[rows, columns], matrix.shape[1] * classes)
        return cls(codes, _starts(np.bincount(rows, minlength=len(matrix))), int(matrix.shape[1]), classes)

    @classmethod
    def from_triplets(cls, rows: Any, lfs: Any, labels: Any, *, shape: tuple[int, int], classes: int) -> VoteSet:
        """Take votes as (row, labelling function, label), in any order.

        Args:
            rows: Integers [v].
            lfs: Integers [v].
            labels: Integers [v], 0 ... classes-1: abstentions are left out.
            shape: (n, m).
            classes: Number of classes, 2 or more.

        Raises:
            InputError: Columns of several lengths, a number outside its range, or a cell that votes twice.
        """
        _check_classes(classes)
        columns = []
        for name, values, limit in (("row", rows, shape[0]), ("function", lfs, shape[1]), ("label", labels, classes)):
            column = np.asarray(values)
            if column.ndim != 1 or (column.size and not np.issubdtype(column.dtype, np.integer)):
                raise InputError(f"each vote has one {name}, an integer")
            if column.size and (column.min() < 0 or column.max() >= limit):
                words = f"the votes' {name}s run from {column.min()} to {column.max()}, and there are {limit} of them"
                raise InputError(words, fix="Number them from 0, and leave abstentions out")
            columns.append(column.astype(np.int64))
        row, lf, label = columns
        if not len(row) == len(lf) == len(label):
            raise InputError(f"there are {len(row)} rows, {len(lf)} functions and {len(label)} labels of votes")
        codes = lf * classes + label
        order = np.lexsort((codes, row))
        row, lf, codes = row[order], lf[order], codes[order]
        if ((row[1:] == row[:-1]) & (lf[1:] == lf[:-1])).any():
            raise InputError("a labelling function votes twice on one row")
        starts = _starts(np.bincount(row, minlength=shape[0]))
        return cls(_narrow(codes, shape[1] * classes), starts, shape[1], classes)

    def matrix(self) -> np.ndarray:
        """The dense label matrix [rows, m], -1 abstain."""
        dense = np.full((len(self), self.lfs), ABSTAIN, vote_dtype(self.classes))
        row, lf, label = self.triplets()
        dense[row, lf] = label
        return dense

    def triplets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, labelling function and label of every vote, int64 [v] each, row by row."""
        codes = self.codes.astype(np.int64)
        return np.repeat(np.arange(len(self)), self.lengths), codes // self.classes, codes % self.classes

    def take(self, rows: np.ndarray | Sequence[int]) -> VoteSet:
        """The given rows (indices), each standing for as many texts as before."""
        index = np.asarray(rows, np.int64)
        lengths = self.lengths[index]
        indptr = _starts(lengths)
        at = np.repeat(self.indptr[index] - indptr[:-1], lengths) + np.arange(indptr[-1])
        counts = None if self.counts is None else self.counts[index]
        return VoteSet(self.codes[at], indptr, self.lfs, self.classes, counts)

    def keep_lfs(self, lfs: Sequence[int]) -> VoteSet:
        """Only the votes of some labelling functions, renumbered in ascending order; rows stay."""
        wanted = np.sort(np.asarray(lfs, np.int64))
        number = np.full(self.lfs, -1, np.int64)
        number[wanted] = np.arange(len(wanted))
        row, lf, label = self.triplets()
        owner = number[lf]
        kept = owner >= 0
        codes = _narrow(owner[kept] * self.classes + label[kept], len(wanted) * self.classes)
        starts = _starts(np.bincount(row[kept], minlength=len(self)))
        return VoteSet(codes, starts, len(wanted), self.classes, self.counts)

    def patterns(self) -> tuple[VoteSet, np.ndarray]:
        """Each distinct row once, with how many texts have it.

        Returns:
            The distinct rows in order of their first appearance, and for every row of this set the index of its pattern
            (int64 [rows]).
        """
        if self.distinct or len(self) == 0:
            return self, np.arange(len(self))
        table = np.random.default_rng(0).integers(0, 2**64, size=max(self.lfs * self.classes, 1), dtype=np.uint64)
        # A row's hash is the sum of one random word per vote: equal rows get equal sums whatever their order.
        hashes = np.zeros(len(self), np.uint64)
        for start in range(0, len(self), CHUNK):
            stop = min(start + CHUNK, len(self))
            low, high = self.indptr[start], self.indptr[stop]
            sums = np.zeros(high - low + 1, np.uint64)
            np.cumsum(table[self.codes[low:high]], out=sums[1:])
            ends = self.indptr[start : stop + 1] - low
            hashes[start:stop] = sums[ends[1:]] - sums[ends[:-1]]
        import pandas as pd

        inverse, found = pd.factorize(hashes)  # a hash table: no sort
        first = np.empty(len(found), np.int64)
        first[inverse[::-1]] = np.arange(len(self) - 1, -1, -1)
        weights = np.bincount(inverse, weights=self.counts, minlength=len(first)).astype(np.float64)
        distinct = VoteSet(self.codes, self.indptr, self.lfs, self.classes).take(first)
        return replace(distinct, counts=weights, distinct=True), inverse

    def weighted(self, counts: np.ndarray) -> VoteSet:
        """The same rows, each standing for another number of texts; rows that stand for none are left out."""
        rows = np.flatnonzero(counts > 0)
        return replace(self.take(rows), counts=counts[rows].astype(np.float64), distinct=self.distinct)

    def chunks(
        self, rows: int = CHUNK, *, seen: np.ndarray | None = None
    ) -> Iterator[tuple[slice, csr_matrix, np.ndarray]]:
        """Row ranges, each as a sparse indicator matrix float64 [rows, m * k] with the counts float64 [rows].

        Args:
            rows: In a range.
            seen: int64 [d], the votes that occur, ascending: the matrices are then [rows, d].
        """
        from scipy.sparse import csr_matrix

        width = self.lfs * self.classes
        place = np.arange(width, dtype=np.int32)
        if seen is not None:
            place[seen] = np.arange(len(seen))
            width = len(seen)
        ones = np.ones(0)
        for start in range(0, len(self), rows):
            stop = min(start + rows, len(self))
            low, high = int(self.indptr[start]), int(self.indptr[stop])
            if len(ones) < high - low:
                ones = np.ones(high - low)
            counts = np.ones(stop - start) if self.counts is None else self.counts[start:stop]
            columns, ends = place[self.codes[low:high]], (self.indptr[start : stop + 1] - low).astype(np.int32)
            part = csr_matrix((ones[: high - low], columns, ends), shape=(stop - start, width))
            yield slice(start, stop), part, counts

    def class_votes(self) -> np.ndarray:
        """float64 [rows, k]: how many votes each class got in each row."""
        counts = np.empty((len(self), self.classes))
        for start in range(0, len(self), CHUNK):
            stop = min(start + CHUNK, len(self))
            said = self.codes[self.indptr[start] : self.indptr[stop]].astype(np.int64) % self.classes
            row = np.repeat(np.arange(stop - start), np.diff(self.indptr[start : stop + 1]))
            found = np.bincount(row * self.classes + said, minlength=(stop - start) * self.classes)
            counts[start:stop] = found.reshape(stop - start, self.classes)
        return counts

    def polarity(self) -> np.ndarray:
        """float64 [m, k]: how many texts each labelling function gave each class."""
        weight = None if self.counts is None else np.repeat(self.counts, self.lengths)
        total = np.bincount(self.codes, weights=weight, minlength=self.lfs * self.classes).astype(np.float64)
        return total.reshape(self.lfs, self.classes)

    def moments(self) -> Moments:
        """In how many texts two votes stand together, counted over the votes that occur."""
        from scipy.sparse import csr_matrix

        seen = np.flatnonzero(self.polarity().ravel())
        total = csr_matrix((len(seen), len(seen)))
        for _, part, counts in self.chunks(seen=seen):
            weighted = csr_matrix((np.repeat(counts, np.diff(part.indptr)), part.indices, part.indptr), part.shape)
            total = total + part.T @ weighted
        return Moments(total.tocsr(), seen, self.lfs, self.classes)


@dataclass(frozen=True)
class Moments:
    """How often votes stand together. Its size follows from the votes that occur, not from functions times classes.

    Attributes:
        together: Sparse float64 [d, d], in how many texts two votes stand together (whole numbers).
        seen: int64 [d], the votes that occur, as codes `lf * classes + label`, ascending.
        lfs: Number of labelling functions (m).
        classes: Number of classes (k).
    """

    together: csr_matrix
    seen: np.ndarray
    lfs: int
    classes: int

    @property
    def own(self) -> np.ndarray:
        """float64 [d]: in how many texts each vote occurs."""
        return np.asarray(self.together.diagonal())

    @cached_property
    def owner(self) -> csr_matrix:
        """Sparse [d, m], 1 where a vote is a function's."""
        from scipy.sparse import csr_matrix

        rows = np.arange(len(self.seen))
        return csr_matrix((np.ones(len(rows)), (rows, self.seen // self.classes)), shape=(len(rows), self.lfs))

    def both(self) -> np.ndarray:
        """float64 [m, m]: texts on which two functions vote."""
        found: np.ndarray = (self.owner.T @ self.together @ self.owner).toarray()
        return found

    def agree(self) -> np.ndarray:
        """float64 [m, m]: texts on which two functions say the same."""
        from scipy.sparse import coo_matrix

        pairs, lf, label = self.together.tocoo(), self.seen // self.classes, self.seen % self.classes
        same = label[pairs.row] == label[pairs.col]
        at = (lf[pairs.row[same]], lf[pairs.col[same]])
        found: np.ndarray = coo_matrix((pairs.data[same], at), shape=(self.lfs, self.lfs)).toarray()
        return found

    def agree_by_chance(self) -> np.ndarray:
        """float64 [m, m]: texts on which two functions would say the same if neither knew of the other, times `both`."""
        met = (self.together @ self.owner).tocsr()  # [d, m]: how often a vote stands where another function votes
        label, lf = self.seen % self.classes, self.seen // self.classes
        found = np.zeros((self.lfs, self.lfs))
        for number in np.unique(label):
            rows = np.flatnonzero(label == number)
            mine = np.zeros((self.lfs, self.lfs))
            mine[lf[rows]] = met[rows].toarray()
            found += mine * mine.T
        return found


def as_votes(votes: VoteSet | Any, classes: int) -> VoteSet:
    """A `VoteSet` as it is, or a dense matrix made into one.

    Raises:
        InputError: The set was made for another number of classes, or the matrix is none.
    """
    if isinstance(votes, VoteSet):
        if votes.classes != classes:
            raise InputError(f"the votes were made for {votes.classes} classes, not {classes}")
        return votes
    return VoteSet.from_matrix(votes, classes)


def _check_classes(classes: Any) -> None:
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2:
        raise InputError(f"votes tell classes apart, so there are 2 or more, not {classes!r}")


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Where rows of these lengths begin, and the end of the last, int64 [rows + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _narrow(codes: np.ndarray, size: int) -> np.ndarray:
    return codes.astype(np.uint16 if size <= 65_536 else np.int32)
