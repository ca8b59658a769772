"""Labelled rows out, a chunk at a time: CSV, JSONL, Parquet.

Every kind of file holds the row's own columns, then what is said of it, then the probabilities; where nothing is said (None, and
NaN for a probability) the cell is empty or null. A column of the row that has the name of one of ours is kept as `input_NAME`.

Cells are written as they came. One that begins with `=`, `+`, `-` or `@` is a formula to a spreadsheet: import what strangers
wrote there as text.
"""

from __future__ import annotations

import contextlib
import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from factory.errors import InputError
from factory.files.replace import refuse_to_replace, replaced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from factory.files.records import Chunk

KINDS = {
    ".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
MARK = b"label_factory"
"""Key of a Parquet file's metadata: what it was made from."""


_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON may hold as it is and a terminal or an editor takes for a command."""


def json_line(value: Any) -> str:
    """A value as JSON on one line, with every control character escaped, and those that turn the direction of writing.

    Example:
        >>> json_line({"text": "é\x9b31m"})
        '{"text": "é\\\\u009b31m"}'
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False, default=str))


class Writer(Protocol):
    """Takes chunks, what is said of their texts, and the probabilities, float32 [n, k]."""

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        """Append rows."""

    def end(self) -> None:
        """Write what is due even if there was no row."""


def _kept(names: Sequence[str], taken: set[str]) -> list[str]:
    """The names under which the columns of the input are written: none of ours, and none twice."""
    used = taken | set(names)
    found = []
    for name in names:
        new = name
        while name in taken and new in used:
            new = f"input_{new}"
        used |= {new}
        found.append(new)
    return found


def _same_columns(row: Mapping[str, Any], names: Sequence[str]) -> None:
    new = next((name for name in row if name not in names), None)
    if new is not None:
        raise InputError(f"a row has {new!r}, which the first row lacks: a table would lose it", fix="Write .jsonl")


@dataclass
class JsonlWriter:
    """One JSON object per line; probabilities as an object by label."""

    stream: TextIO
    labels: Sequence[str]
    columns: Mapping[str, str]

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        taken = {*self.columns, "probabilities"}
        for row, words, values in zip(chunk.rows, said, probs, strict=True):
            each = {name: _rounded(value) for name, value in zip(self.labels, values, strict=True)}
            given = dict(zip(_kept(list(row), taken), row.values(), strict=True))
            self.stream.write(json_line({**given, **words, "probabilities": each}) + "\n")

    def end(self) -> None:
        self.stream.flush()


def _rounded(value: Any) -> float | None:
    return None if value != value else round(float(value), 6)


@dataclass
class CsvWriter:
    """`p_LABEL` for each label; lists of labels joined by `|`, yes and no as `true` and `false`."""

    stream: TextIO
    labels: Sequence[str]
    columns: Mapping[str, str]
    given: Sequence[str]
    delimiter: str
    table: Any = None
    names: Sequence[str] = ()

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        for row, words, values in zip(chunk.rows, said, probs, strict=True):
            if self.table is None:
                self._begin(list(row))
            _same_columns(row, self.names)
            cells = [_cell(row.get(name)) for name in self.names] + [_cell(words[name]) for name in self.columns]
            self.table.writerow([*cells, *("" if value != value else f"{float(value):.6f}" for value in values)])

    def _begin(self, names: Sequence[str]) -> None:
        self.names, ours = names, [*self.columns, *(f"p_{name}" for name in self.labels)]
        self.table = csv.writer(_Lines(self.stream), delimiter=self.delimiter, lineterminator="\r\n")
        self.table.writerow([*_kept(names, set(ours)), *ours])

    def end(self) -> None:
        if self.table is None:
            self._begin(self.given)


class _Lines:
    """Takes rows that end in CR LF, for which the csv module quotes a lone CR too, and ends them in LF."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, row: str) -> int:
        return self.stream.write(row.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "|".join(value)
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, (list, dict)) else value


@dataclass
class ParquetWriter:
    """`p_LABEL` for each label; the columns of a Parquet file keep their types."""

    path: Path
    labels: Sequence[str]
    columns: Mapping[str, str]
    given: Sequence[str]
    mark: str | None = None
    file: Any = None
    names: Sequence[str] = ()

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        import pyarrow as pa

        table = chunk.table
        if table is None:
            self.names = self.names or list(chunk.rows[0])
            for row in chunk.rows:
                _same_columns(row, self.names)
            table = pa.table({name: _column([row.get(name) for row in chunk.rows]) for name in self.names})
        else:
            table = pa.Table.from_batches([table])
        kinds = self._kinds()
        table = table.rename_columns(_kept(table.column_names, set(kinds)))
        for at, (name, kind) in enumerate(kinds.items(), start=-len(self.columns)):
            mine = [words[name] for words in said] if at < 0 else probs[:, at]
            if at < 0 and self.columns[name] == "json":
                mine = [None if value is None else json.dumps(value, ensure_ascii=False) for value in mine]
            table = table.append_column(name, pa.array(mine, kind, from_pandas=True))
        self._append(table)

    def _kinds(self) -> dict[str, Any]:
        import pyarrow as pa

        kinds = {
            "label": pa.string(), "labels": pa.list_(pa.string()), "number": pa.float64(), "yes_no": pa.bool_(),
            "words": pa.string(), "json": pa.string(),
        }  # fmt: skip
        ours = {name: kinds[kind] for name, kind in self.columns.items()}
        return ours | {f"p_{name}": pa.float32() for name in self.labels}

    def _append(self, table: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.file is None:
            about = {name: value for name, value in (table.schema.metadata or {}).items() if name != MARK}
            about |= {} if self.mark is None else {MARK: self.mark.encode()}
            self.file = pq.ParquetWriter(self.path, table.schema.with_metadata(about))
        try:
            self.file.write_table(table.cast(self.file.schema))
        except (pa.ArrowException, ValueError) as error:
            raise InputError(
                f"a column changes its type: {' '.join(str(error).split())}", where=self.path.name, fix="Write .jsonl"
            ) from error

    def end(self) -> None:
        import pyarrow as pa

        if self.file is None:
            own = [(name, pa.string()) for name in _kept(self.given, set(self._kinds()))]
            self._append(pa.schema([*own, *self._kinds().items()]).empty_table())
        self.file.close()


def _column(values: list[Any]) -> Any:
    """Strings, numbers or booleans as they are; anything else, and what is mixed, as JSON. All nulls are strings."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if not kinds or kinds == {str}:
        return pa.array(values, pa.string())
    largest = max((abs(value) for value in values if type(value) is int), default=0)
    if kinds == {int} and largest < 2**63:
        return pa.array(values, pa.int64())
    if kinds == {bool} or (kinds <= {int, float} and largest <= 2**53):
        return pa.array(values, pa.bool_() if kinds == {bool} else pa.float64())
    return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values], pa.string())


def _is_output(names: Sequence[str]) -> bool:
    """Whether a file has what every output has: a label, and probabilities."""
    return bool({"label", "labels"} & set(names)) and any(
        name == "probabilities" or name.startswith("p_") for name in names
    )


def is_torn(path: Path) -> bool:
    """Whether a Parquet file is there that was not written to its end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return path.is_file()
    return False


def check_output(path: Path, *, inputs: Sequence[Path] = (), force: bool = False) -> str:
    """The kind of file that is written there.

    Args:
        path: Where to write.
        inputs: What is read, and must not be written over.
        force: Whether any file that is there may be replaced.

    Raises:
        InputError: An ending that cannot be written, one of the inputs, or a file that is no earlier output.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(
            f"a file of kind {path.suffix!r} cannot be written", where=path, fix="Use .csv, .jsonl or .parquet"
        )
    refuse_to_replace(path, _is_output, "output of `predict`", inputs=inputs, force=force)
    return kind


@contextlib.contextmanager
def open_writer(
    out: str | Path | None, labels: Sequence[str], columns: Mapping[str, str], given: Sequence[str] = (), *,
    mark: str | None = None, inputs: Sequence[Path] = (), force: bool = False,
) -> Iterator[Writer]:  # fmt: skip
    """A writer by the ending of `out`; None is JSONL on stdout. A file that was begun and not ended is not left behind.

    Args:
        out: Where to write. A file that is there is replaced if it is an earlier output.
        labels: In the order of the probabilities.
        columns: What is said of each text: name to `label`, `labels`, `number`, `yes_no`, `words` or `json`.
        given: Columns of the input, for one that has no rows.
        mark: Kept under `MARK` in a Parquet file.
        inputs: What is read, and must not be written over.
        force: Whether another file that is there may be replaced.

    Raises:
        InputError: An ending that cannot be written, a folder where that cannot be done, or a file that is something else.
    """
    if out is None:
        lines = JsonlWriter(sys.stdout, labels, columns)
        yield lines
        lines.end()
        return
    path = Path(out)
    kind = check_output(path, inputs=inputs, force=force or (mark is not None and is_torn(path)))
    try:
        with replaced(path, sync=mark is not None) as draft:  # a later run takes the name alone for a whole file
            if kind == "parquet":
                parquet = ParquetWriter(draft, labels, columns, given, mark)
                try:
                    yield parquet
                    parquet.end()
                finally:
                    if parquet.file is not None:
                        parquet.file.close()
            else:
                with draft.open("w", encoding="utf-8", newline="") as stream:
                    writer: Writer = JsonlWriter(stream, labels, columns)
                    if kind == "csv":
                        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
                        writer = CsvWriter(stream, labels, columns, given, delimiter)
                    yield writer
                    writer.end()
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=path) from error
    except UnicodeEncodeError as error:
        raise InputError("a row holds half of a surrogate pair, which no file can", where=path) from error
