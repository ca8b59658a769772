"""CSV and TSV, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from factory.files.base import BadRow, Batch, OpenSource, ReadOptions, gathered
from factory.files.csv_rows import csv_rows
from factory.files.dialect import NONE, Dialect, find_dialect
from factory.files.lines import numbered, opened


def open_delimited(options: ReadOptions) -> OpenSource:
    """A CSV file with a header line, or with the columns that were told.

    Raises:
        InputError: Missing, empty, not text, or a header that cannot be used.
    """
    dialect = find_dialect(options)
    return OpenSource(
        dialect.columns, lambda wanted: _batches(options, dialect, wanted), says=dialect.said,
        delimiter=None if dialect.delimiter == NONE else dialect.delimiter, names_guessed=options.header is None,
    )  # fmt: skip


def _batches(options: ReadOptions, dialect: Dialect, wanted: Sequence[str]) -> Iterator[Batch]:
    places = {name: at for at, name in enumerate(dialect.columns)}
    picked = [(name, places[name]) for name in wanted if name in places]
    rows = (
        (row_no, cells, 0) if isinstance(cells, BadRow)
        else (row_no, {name: cells[at] for name, at in picked} if cells else {}, sum(map(len, cells)))
        for row_no, cells in _rows(options, dialect)
    )  # fmt: skip
    return gathered(rows, wanted)


def _rows(options: ReadOptions, dialect: Dialect) -> Iterator[tuple[int, list[str] | BadRow]]:
    """The rows after the header. A blank line is none, or `[]` where `blank_rows` asks for them; of several columns, those at
    the end of the file are none."""
    one_column = len(dialect.columns) == 1
    blank: list[int] = []
    with opened(options.path, options.encoding) as (stream, _):
        lines = ((number, line) for number, line in numbered(stream) if number >= dialect.first_line)
        rows = csv_rows(lines, dialect.delimiter, dialect.escape, dialect.misfit)
        if options.header is None:
            next(rows)
        for row_no, cells in rows:
            if cells:
                yield from ((number, []) for number in blank)
                blank.clear()
                yield row_no, cells
            elif options.blank_rows and one_column:
                yield row_no, []
            elif options.blank_rows:
                blank.append(row_no)
