"""How a CSV file is written: its delimiter, whether quotes are escaped, where its header stands and which columns have names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from factory.errors import InputError
from factory.files.base import BadRow, ReadOptions
from factory.files.csv_rows import Line, csv_rows
from factory.files.lines import is_binary, numbered, opened

MARKS = (",", "\t", ";", "|")
NONE = "\x1f"
"""The delimiter of a file of one column: a character that no text has, so that commas in its texts cut nothing."""

_SEP_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE | re.DOTALL)
_SAMPLE_LINES, _SAMPLE_CHARS = 200, 1 << 18


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written.

    Attributes:
        delimiter: One character; `NONE` where there is one column.
        escape: A backslash where quotes inside a cell are escaped so, else None.
        first_line: Physical line on which the header begins, or the first row where there is no header.
        columns: Names of the columns; cells without a name at the end of the header are none.
        encoding: As it was read.
        said: What was guessed.
    """

    delimiter: str
    escape: str | None
    first_line: int
    columns: tuple[str, ...]
    encoding: str
    said: tuple[str, ...] = ()

    def misfit(self, cells: Sequence[str]) -> str:
        """Why a row does not have a cell for each column, and nothing but empty cells after them; empty where it has."""
        named = len(self.columns)
        if len(cells) < named or any(cells[named:]):
            return f"{len(cells)} cells where the header has {named}"
        return ""


def find_dialect(options: ReadOptions) -> Dialect:
    """Look at the beginning of a file.

    Raises:
        InputError: Empty, not text, or a header that cannot be used.
    """
    path = options.path
    with opened(path, options.encoding) as (stream, encoding):
        sample = list(itertools.islice(_some(numbered(stream)), _SAMPLE_LINES))
    head = "".join(line for _, line in sample if isinstance(line, str))
    if is_binary(head[:8192]) or "\x00" in _first(sample):
        raise InputError("this is not a text file", where=path, fix="Name its `format:`, or its `encoding:`")
    if not _first(sample).strip():
        raise InputError("the file is empty, or its first line is", where=path, fix="The first line names the columns")
    told = _SEP_LINE.fullmatch(_first(sample).rstrip("\r\n"))
    if told:
        sample = sample[1:]
        if not sample:
            raise InputError("the file is empty but for its `sep=` line", where=path)
    mark = as_delimiter(options.delimiter) if options.delimiter else told[1] if told else None
    if mark is None and {".tsv", ".tab"} & {suffix.lower() for suffix in path.suffixes}:
        mark = "\t"
    delimiter, escape = (mark, _escape(sample, mark)) if mark is not None else _best(sample, options.header)
    said = _said(options, delimiter, escape, encoding, mark)
    line, cells = next(csv_rows(iter(sample), delimiter, escape, lambda _: ""))
    if options.header is not None:
        return Dialect(delimiter, escape, line, options.header, encoding, said)
    if isinstance(cells, BadRow):
        raise InputError(f"the header cannot be read: {cells.detail}", where=f"{path}:{line}")
    return Dialect(delimiter, escape, line, _names(cells, f"{path}:{line}"), encoding, said)


def _some(lines: Iterator[Line]) -> Iterator[Line]:
    size = 0
    for number, line in lines:
        yield number, line
        size += len(line) if isinstance(line, str) else 0
        if size > _SAMPLE_CHARS:
            return


def _first(sample: Sequence[Line]) -> str:
    return sample[0][1] if sample and isinstance(sample[0][1], str) else ""


def _names(cells: Sequence[str], where: str) -> tuple[str, ...]:
    """The header's names; trailing cells without a name are no columns, and others without one are numbered.

    Raises:
        InputError: A name stands twice, or there is none.
    """
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InputError("the header has no name in it", where=where, fix="The first line names the columns")
    if names.count("") > 1:
        names = [name or f"column_{at}" for at, name in enumerate(names, start=1)]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"the column `{doubled}` stands twice in the header", where=where, fix="Rename one")
    return tuple(names)


def _best(sample: Sequence[Line], header: Sequence[str] | None) -> tuple[str, str | None]:
    """The delimiter under which most rows of the sample have the header's cells; of equals the one that gives more columns."""
    ranked = []
    for rank, mark in enumerate(MARKS):
        width = len(header) if header is not None else _width(sample, mark)
        if width > 1:
            escape = _escape(sample, mark)
            ranked.append((_share(sample, mark, escape, width), width, -rank, mark, escape))
    if not ranked:
        return NONE, _escape(sample, NONE)
    *_, mark, escape = max(ranked, key=lambda each: each[:3])
    return mark, escape


def _escape(sample: Sequence[Line], mark: str) -> str | None:
    width = _width(sample, mark)
    plain = _share(sample, mark, None, width)
    return "\\" if plain < 1 and _share(sample, mark, "\\", width) > plain else None


def _width(sample: Sequence[Line], mark: str) -> int:
    """Columns of the first row under a delimiter, without empty cells at its end."""
    _, cells = next(csv_rows(iter(sample), mark, None, lambda _: ""), (0, []))
    if isinstance(cells, BadRow) or not any(cells):
        return len(cells) if isinstance(cells, list) else 0
    return max(at for at, cell in enumerate(cells, start=1) if cell)


def _share(sample: Sequence[Line], mark: str, escape: str | None, width: int) -> float:
    """The share of the rows after the header that have so many cells."""
    misfit = Dialect(mark, escape, 1, ("",) * width, "").misfit
    rows = [cells for _, cells in csv_rows(iter(sample), mark, escape, misfit) if cells][1:]
    return sum(isinstance(cells, list) for cells in rows) / len(rows) if rows else 1.0


def _said(options: ReadOptions, delimiter: str, escape: str | None, encoding: str, told: str | None) -> tuple[str, ...]:
    found = []
    if told is None and delimiter not in (",", NONE):
        found.append(f"{options.called}: columns are taken as separated by {delimiter!r}")
    if escape is not None:
        found.append(f"{options.called}: quotes inside a cell are taken as escaped by a backslash")
    if options.encoding is None and encoding != "utf-8":
        found.append(f"{options.called}: read as {encoding}, as its byte order mark says")
    return tuple(found)


def as_delimiter(mark: str) -> str:
    """The character that separates columns, as a person names it: itself, or `\\t` and `tab`.

    Raises:
        InputError: It cannot separate columns.
    """
    if mark in ("\\t", "tab"):
        return "\t"
    if len(mark) != 1 or mark in '\r\n"\0':
        raise InputError(f"{mark[:20]!r} cannot separate columns", fix="Use one of , ; | or tab")
    return mark
