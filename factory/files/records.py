"""Whole rows with their texts, a chunk at a time: what is labelled, and written out again with all its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from factory.errors import InputError
from factory.files.base import LINED, Batch, OpenSource, ReadOptions, place
from factory.files.columns import Picker
from factory.files.open import open_source
from factory.files.unpack import unpacked
from factory.files.values import as_text, is_missing, surrogate_fault, text_fault

_FIXES = {"not_utf8": "Say --encoding cp1252, or another", "lone_surrogate": "Mend the row, or take it out"}


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        texts: What to label; an empty one where the row has no text.
        rows: The rows as they came.
        table: The same rows as an Arrow record batch where the file has types of its own (Parquet), else None.
        end: The line or row of the file that the last of them stands in, counted from 1; 0 if there is none.
    """

    texts: list[str]
    rows: Sequence[Mapping[str, Any]]
    table: Any = None
    end: int = 0


@dataclass(frozen=True)
class TextFile:
    """A file of texts, opened.

    Attributes:
        options: How it is read.
        source: What is in it.
        columns: Where the texts are: one column, or one for each field.
        fields: Names of the task's fields, if its texts have several.
    """

    options: ReadOptions
    source: OpenSource
    columns: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def words(self) -> str:
        """Which columns are read, for a person."""
        names = ", ".join(f"`{name}`" for name in self.columns)
        return f"texts from column{'s' if len(self.columns) > 1 else ''} {names}"

    @property
    def counted_in(self) -> str:
        """What `Chunk.end` and `extent` count."""
        return "lines" if self.source.kind in LINED else "rows"

    def extent(self) -> int:
        """How many lines the file has (Parquet: rows), without reading a row; 0 where nobody can tell, as of stdin."""
        path = self.options.path
        if not path.is_file():
            return 0
        if self.source.kind == "parquet":
            import pyarrow.parquet as pq

            return int(pq.read_metadata(path).num_rows)
        if self.source.kind not in LINED:
            return 0
        lines, ending = 0, b"\n"
        try:
            with path.open("rb") as raw:
                stream = unpacked(raw, path)
                while piece := stream.read(1 << 20):
                    lines, ending = lines + piece.count(b"\n"), piece[-1:]
        except (OSError, EOFError):  # a damaged archive is told of where its rows are read
            return 0
        return lines + (ending != b"\n")

    def chunks(self, size: int) -> Iterator[Chunk]:
        """The rows, at most `size` at a time. A row without a text (nothing, or blanks alone) has the text "".

        Raises:
            InputError: A row that cannot be read, or a text that is not one; with its line.
        """
        rows_as_they_come = self.source.kind in ("jsonl", "json", "wrench")
        wanted = self.columns if rows_as_they_come else dict.fromkeys([*self.source.columns, *self.columns])
        for batch in self.source.batches(list(wanted)):
            if batch.bad:
                first = min(batch.bad, key=lambda row: row.row_no)
                fix = "Mend the row, or take it out"
                raise InputError(f"{first.reason}: {first.detail}", where=self._place(first.row_no), fix=fix)
            typed_and_empty = batch.table is not None and not len(batch.row_nos)
            for start in range(0, len(batch.row_nos) + typed_and_empty, size):
                yield self._chunk(batch, slice(start, start + size))

    def _chunk(self, batch: Batch, part: slice) -> Chunk:
        row_nos = batch.row_nos[part]
        end = row_nos[-1] if len(row_nos) else 0
        parts = [batch.columns[name][part] for name in self.columns]
        texts = [self._text(row_nos[at], values) for at, values in enumerate(zip(*parts, strict=True))]
        if batch.table is not None:
            table = batch.table.slice(part.start, len(row_nos))
            return Chunk(texts, _TableRows(table), table, end)
        if batch.records is not None:
            rows = list(batch.records[part])
        else:
            columns = {name: batch.columns[name][part] for name in self.source.columns}
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        for row_no, row in zip(row_nos, rows, strict=True):
            self._check(row_no, row)
        return Chunk(texts, rows, end=end)

    def _text(self, row_no: int, values: Sequence[Any]) -> str:
        """One string as the student was trained on it, or "" if there is nothing to read."""
        found = []
        for name, value in zip(self.columns, values, strict=True):
            missing = is_missing(value, untyped=self.source.kind == "csv")
            fault = None if missing else text_fault(value, name, encoding=self.options.encoding, most=None)
            if fault is not None:
                fix = "Name another column with --text, or mend it"
                raise InputError(f"{fault[0]}: {fault[1]}", where=self._place(row_no), fix=_FIXES.get(fault[0], fix))
            found.append("" if missing else as_text(value))
        if not any(text.strip() for text in found):
            return ""
        if not self.fields:
            return found[0]
        return "\n".join(f"{name}: {text}" for name, text in zip(self.fields, found, strict=True))

    def _check(self, row_no: int, row: Mapping[str, Any]) -> None:
        """Refuse a row that cannot be written again."""
        for value in row.values():
            fault = surrogate_fault(value, self.options.encoding) if isinstance(value, str) else None
            if fault is not None:
                raise InputError(f"{fault[0]}: {fault[1]}", where=self._place(row_no), fix=_FIXES[fault[0]])

    def _place(self, row_no: int) -> str:
        return place(self.options.called, row_no, self.source.kind)


def open_texts(
    options: ReadOptions, text: str | None, fields: Sequence[str], remembered: Sequence[Sequence[str]] = ()
) -> TextFile:
    """Open a file and find its texts.

    Args:
        options: How it is read. Blank lines are rows, so that every row keeps its place.
        text: The column of the texts as the user named it, or None.
        fields: Names of the task's fields, if its texts have several.
        remembered: The columns that the texts were in when the student was trained, one or more possibilities; without any, the
            column is guessed as `ingest` guesses.

    Raises:
        InputError: The file cannot be read, or the column is not there.
    """
    options = replace(options, blank_rows=True)
    source = open_source(options)
    pick = Picker(options.called, source, "--{}")
    if text is not None:
        return TextFile(options, source, (pick.named(text, "text"),), ())
    if source.kind == "lines":
        return TextFile(options, source, ("text",), ())
    for names in remembered:
        found = [pick.find(name) for name in names]
        if all(name is not None for name in found):
            return TextFile(options, source, tuple(str(name) for name in found), tuple(fields))
    if remembered:
        missing = next(name for name in remembered[0] if pick.find(name) is None)
        there = ", ".join(f"`{name}`" for name in source.columns[:12])
        raise InputError(
            f"there is no column `{missing}`, in which the model's training texts were (there are {there})",
            where=options.called,
            fix="Name the column of the texts with --text",
        )
    if fields and all(pick.find(name) is not None for name in fields):
        return TextFile(options, source, pick.text(None, fields), tuple(fields))
    return TextFile(options, source, pick.text(None, ()), ())


class _TableRows(Sequence[Mapping[str, Any]]):
    """The rows of an Arrow record batch, made when they are looked at."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._rows: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, at: Any) -> Any:
        if self._rows is None:
            self._rows = self._table.to_pylist()
        return self._rows[at]
