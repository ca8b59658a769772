"""What a reader is told and what it yields: rows in columns, with the rows that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH_ROWS = 4096
BATCH_CHARS = 16_000_000
MAX_LINE_CHARS = 8_000_000
LINED = frozenset({"csv", "jsonl", "lines"})
"""Formats whose rows are told by their physical line; rows of the others are counted."""


def place(name: str | Path, row_no: int, kind: str) -> str:
    """Where a row stands, for a person: `mails.csv:14`, or `mails.parquet: row 14` where there are no lines.

    Example:
        >>> place("mails.csv", 14, "csv")
        'mails.csv:14'
    """
    return f"{name}:{row_no}" if kind in LINED else f"{name}: row {row_no}"


@dataclass(frozen=True)
class ReadOptions:
    """How one file is read.

    Attributes:
        path: The file; a folder or a name on the hub for `format: dataset`; `-` is stdin.
        name: What the source is called in messages; the path unless told.
        format: A key of `factory.files.open.READERS`, or `auto`: by the name.
        encoding: Of a text file; None is UTF-8, or what a byte order mark says.
        delimiter: Of a CSV file; None is guessed.
        header: Names of the columns of a CSV file that has no header line; None where the first line is the header.
        subset: Configuration of a Hugging Face dataset.
        part: Split of a Hugging Face dataset.
        blank_rows: Whether a blank line of a CSV or text file is a row without a text (where rows are joined by position).
        rows: The rows themselves, for `format: inline`: texts, or column to value.
        labels: A label for each of `rows`, or None.
    """

    path: Path
    name: str = ""
    format: str = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    header: tuple[str, ...] | None = None
    subset: str | None = None
    part: str | None = None
    blank_rows: bool = False
    rows: Sequence[Any] | None = None
    labels: Sequence[Any] | None = None

    @property
    def called(self) -> str:
        """What the source is called in messages."""
        return self.name or str(self.path)


@dataclass(frozen=True)
class BadRow:
    """One row that cannot be used.

    Attributes:
        row_no: Line of a text file, else number of the row; both counted from 1.
        reason: A short code: `broken_row`, `not_utf8`, `line_too_long`, ...
        detail: Words for a person.
        lines: How many lines of the file are lost with it: above 1 where its end cannot be told.
    """

    row_no: int
    reason: str
    detail: str = ""
    lines: int = 1


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes:
        row_nos: Line of a text file, else number of the row; both counted from 1, ascending.
        columns: Each wanted column's values, as long as `row_nos`; None where a row has no such value.
        bad: Rows of this stretch that could not be read.
        records: The rows as they came, where each has keys of its own (JSON).
        table: The same rows as an Arrow record batch, where the file has types of its own (Parquet).
    """

    row_nos: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    bad: Sequence[BadRow] = ()
    records: Sequence[Mapping[str, Any]] | None = None
    table: Any = None


@dataclass(frozen=True)
class OpenSource:
    """A source whose columns are known, not read yet.

    Attributes:
        columns: Names of its columns.
        batches: Given the wanted columns, yields the rows in bounded memory; may be called again to read anew.
        kind: Its format.
        vote_labels: What the integers of the votes column mean, by index, if the source says so.
        says: What was guessed (a delimiter, a split).
        delimiter: Of a CSV file, as it was told or guessed.
        names_guessed: Whether the names are a CSV file's first line, which may be a text.
    """

    columns: Sequence[str]
    batches: Callable[[Sequence[str]], Iterator[Batch]]
    kind: str = ""
    vote_labels: Sequence[str] = ()
    says: tuple[str, ...] = ()
    delimiter: str | None = None
    names_guessed: bool = False


def gathered(
    rows: Iterable[tuple[int, Mapping[str, Any] | BadRow, int]], wanted: Sequence[str], *, whole: bool = False
) -> Iterator[Batch]:
    """Rows in batches of bounded size, the last of which may be empty.

    Args:
        rows: Number, values or why there are none, and length in characters of each.
        wanted: The columns.
        whole: Whether the rows are kept as they came, too.
    """
    found: list[tuple[int, Mapping[str, Any]]] = []
    bad: list[BadRow] = []
    chars = 0

    def batch() -> Batch:
        records = [row for _, row in found]
        columns = {name: [inner_value(row, name) for row in records] for name in wanted}
        return Batch([number for number, _ in found], columns, tuple(bad), records if whole else None)

    for number, row, length in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            found.append((number, row))
            chars += length
        if max(len(found), len(bad)) >= BATCH_ROWS or chars >= BATCH_CHARS:
            yield batch()
            found, bad, chars = [], [], 0
    yield batch()


def inner_value(row: Mapping[str, Any], name: str) -> Any:
    """What a row holds under a path such as `data.text`: the value inside an object; None if there is none.

    Example:
        >>> inner_value({"data": {"text": "hello"}}, "data.text")
        'hello'
    """
    if name in row:
        return row[name]
    found: Any = row
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def inner_columns(row: Mapping[str, Any], depth: int = 3) -> Iterator[str]:
    """The keys of a row, and the paths to the values of the objects in it."""
    for name, value in row.items():
        yield str(name)
        if isinstance(value, dict) and depth > 1:
            yield from (f"{name}.{inner}" for inner in inner_columns(value, depth - 1))
