"""Physical lines -> CSV rows, finding the way back after a row that cannot be read.

A quote that is never closed swallows every line after it. So the lines that a broken row took are looked at again one by one, and
reading goes on at the first that is a whole row by itself. What cannot be told apart is counted by line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from factory.files.base import MAX_LINE_CHARS, BadRow

Line = tuple[int, str | BadRow]
_WORDS = {
    "unexpected end of data": "a quote is opened here and never closed",
    "' expected after '": "text follows a closing quote (a quote inside a cell is written twice)",
    "field larger": "a cell is longer than may be; a quote may be opened here and never closed",
}


class _Broken(Exception):
    """A row that grew too long, or met a line that is too long."""


class _Feed:
    """Hands physical lines to a CSV reader, remembers those of the row at work, and takes lines back."""

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self.back: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []
        self.bad: list[BadRow] = []
        self._chars = self._fresh = self._again = 0

    def begin(self) -> None:
        self.taken, self._chars = [], 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        while True:
            if self._chars > MAX_LINE_CHARS:
                raise _Broken("field larger")
            number, line = self.back.popleft() if self.back else next(self._source)
            if isinstance(line, BadRow):
                self.bad.append(line)
                if self.taken:
                    raise _Broken("unexpected end of data")
                continue
            self.taken.append((number, line))
            self._chars += len(line)
            self._fresh += len(line)
            return line

    def give_back(self, lines: Sequence[tuple[int, str]]) -> bool:
        """Take lines back, to be read again; False where so many were read again that it must be done line by line."""
        self.back.extendleft(reversed(lines))
        size = sum(len(line) for _, line in lines)
        self._fresh -= size
        self._again += size
        return self._again <= 4 * (self._fresh + MAX_LINE_CHARS)


def csv_rows(
    lines: Iterator[Line], delimiter: str, escape: str | None, misfit: Callable[[Sequence[str]], str]
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Every row with its first line; `[]` for a blank line, and a `BadRow` for what cannot be read or does not fit.

    Args:
        lines: From `numbered`.
        delimiter: One character.
        escape: A backslash where quotes inside a cell are escaped so, else None.
        misfit: Why a row does not have the right cells, in words; empty where it has.
    """
    csv.field_size_limit(max(MAX_LINE_CHARS, 131_072))
    feed = _Feed(lines)

    def reader() -> Iterator[list[str]]:
        return csv.reader(feed, delimiter=delimiter, escapechar=escape, strict=True)

    def alone(line: str) -> list[str] | None:
        """A line that is a row by itself."""
        try:
            cells = next(csv.reader([line], delimiter=delimiter, escapechar=escape, strict=True), None)
        except csv.Error:
            return None
        return cells if cells and not misfit(cells) else None

    rows = reader()
    while True:
        feed.begin()
        torn = False
        try:
            cells = next(rows)
            words = misfit(cells) if cells else ""
        except StopIteration:
            yield from _taken(feed)
            return
        except (csv.Error, _Broken) as error:
            torn = True
            words = next((said for known, said in _WORDS.items() if known in str(error)), str(error))
        yield from _taken(feed)
        (first, _), *rest = feed.taken
        if not words:
            yield first, cells
            continue
        if not torn and not all(alone(line) for _, line in rest):
            end = f" (lines {first} to {rest[-1][0]})" if rest else ""
            yield first, BadRow(first, "broken_row", words + end, 1 + len(rest))
            continue
        left = deque(rest)
        lost = 0
        while len(left) > 1 and alone(left[0][1]) is None:  # the last may begin a row of several lines
            lost += bool(left.popleft()[1].strip())
        words += f"; with it {lost} more lines cannot be told apart" if lost else ""
        yield first, BadRow(first, "broken_row", words, 1 + lost)
        if not feed.give_back(list(left)):
            while feed.back:
                number, line = feed.back.popleft()
                found = alone(line)
                yield number, BadRow(number, "broken_row", "not a row by itself") if found is None else found
        rows = reader()


def _taken(feed: _Feed) -> Iterator[tuple[int, BadRow]]:
    """Lines that were too long, out of the feed."""
    for row in feed.bad:
        yield row.row_no, row
    feed.bad.clear()
