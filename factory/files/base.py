"""What a reader yields: rows in columns, with the rows that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BATCH_ROWS = 4096
BATCH_CHARS = 16_000_000
MAX_LINE_CHARS = 8_000_000


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used.

    Attributes:
        row_no: Line of a text file, else number of the row; both counted from 1.
        reason: A short code: `broken_row`, `not_utf8`, `line_too_long`, ...
        detail: Words for a person.
    """

    row_no: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes:
        row_nos: Line of a text file, else number of the row; both counted from 1, ascending.
        columns: Each wanted column's values, as long as `row_nos`; None where a row has no such value.
        bad: Rows of this stretch that could not be read.
    """

    row_nos: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    bad: Sequence[BadRow] = ()


@dataclass(frozen=True)
class OpenSource:
    """A source whose columns are known, not read yet.

    Attributes:
        columns: Names of its columns.
        batches: Given the wanted columns, yields the rows in bounded memory; may be called again to read anew.
        vote_labels: What the integers of the votes column mean, by index, if the source says so.
        says: What was guessed (a delimiter, a split).
    """

    columns: Sequence[str]
    batches: Callable[[Sequence[str]], Iterator[Batch]]
    vote_labels: Sequence[str] = ()
    says: tuple[str, ...] = ()


@dataclass
class Collector:
    """Gathers rows into batches of bounded size."""

    wanted: Sequence[str]
    row_nos: list[int] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)
    chars: int = 0

    def __post_init__(self) -> None:
        self.columns = {name: [] for name in self.wanted}

    def add(self, row_no: int, values: Mapping[str, Any], chars: int) -> Batch | None:
        """Take one row; a full batch comes back."""
        self.row_nos.append(row_no)
        for name, column in self.columns.items():
            column.append(values.get(name))
        self.chars += chars
        return self.take() if len(self.row_nos) >= BATCH_ROWS or self.chars >= BATCH_CHARS else None

    def add_bad(self, row: BadRow) -> Batch | None:
        """Take one unusable row; a full batch comes back."""
        self.bad.append(row)
        return self.take() if len(self.bad) >= BATCH_ROWS else None

    def take(self) -> Batch:
        """What was gathered, and start anew."""
        batch = Batch(self.row_nos, self.columns, self.bad)
        self.row_nos, self.bad, self.chars = [], [], 0
        self.columns = {name: [] for name in self.wanted}
        return batch
