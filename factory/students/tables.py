"""Files of texts in, files of labels out, a chunk at a time: CSV, JSONL (also .gz and .zst), Parquet, plain lines."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from factory.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES = ("text", "sentence", "content", "body", "comment", "message", "question", "document")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file: the texts to label, and the rows as they came."""

    texts: list[str]
    rows: list[dict[str, Any]]


def read_rows(file: str | Path, text: str | None, fields: Sequence[str], size: int) -> Iterator[Chunk]:
    """Read a file in chunks.

    Args:
        file: A path, or `-` for lines on stdin.
        text: The column of the texts, or None to guess: the task's fields, a usual name, or the only column of strings.
        fields: Names of the task's fields, if its texts have several.
        size: Rows per chunk.

    Raises:
        InputError: No such file, an unknown ending, a row that cannot be read, no column to take.
    """
    rows: list[dict[str, Any]] = []
    texts: list[str] = []
    columns: Sequence[str] | None = None
    for number, row in enumerate(_rows(file), start=1):
        columns = columns or _columns(row, text, fields, file)
        values = [row.get(name) for name in columns]
        if any(not isinstance(value, str) for value in values):
            raise InputError(f"column {columns[0]!r} holds no text", where=f"{file}:row {number}")
        if len(columns) == 1:
            texts.append(str(values[0]))
        else:
            texts.append("\n".join(f"{name}: {value}" for name, value in zip(columns, values, strict=True)))
        rows.append(row)
        if len(rows) == size:
            yield Chunk(texts, rows)
            rows, texts = [], []
    if rows:
        yield Chunk(texts, rows)


def _columns(row: dict[str, Any], text: str | None, fields: Sequence[str], file: str | Path) -> Sequence[str]:
    if text is not None:
        if text not in row:
            raise InputError(f"there is no column {text!r}", where=file, fix=f"It has: {', '.join(map(str, row))}")
        return [text]
    if fields and all(name in row for name in fields):
        return list(fields)
    strings = [name for name, value in row.items() if isinstance(value, str)]
    for name in NAMES:
        if name in strings:
            return [name]
    if len(strings) == 1:
        return strings
    raise InputError(
        "it is not clear which column holds the texts",
        where=file,
        fix=f"Name it with --text; there are: {', '.join(row)}",
    )


def _rows(file: str | Path) -> Iterator[dict[str, Any]]:
    if str(file) == "-":
        for line in sys.stdin:
            yield {"text": line.rstrip("\n")}
        return
    path = Path(file)
    if not path.is_file():
        raise InputError("no such file", where=path, fix="Check the path")
    name = path.name.lower()
    if name.endswith(".parquet"):
        yield from _parquet(path)
        return
    kind = name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    if kind not in ("csv", "tsv", "jsonl", "ndjson", "txt"):
        raise InputError(
            f"a file of kind {path.suffix!r} cannot be read", where=path, fix="Use CSV, JSONL, Parquet or TXT"
        )
    with _open_text(path) as stream:
        try:
            if kind in ("csv", "tsv"):
                csv.field_size_limit(1 << 27)
                yield from csv.DictReader(stream, delimiter="\t" if kind == "tsv" else ",")
            elif kind == "txt":
                for line in stream:
                    yield {"text": line.rstrip("\n")}
            else:
                yield from _jsonl(stream, path)
        except UnicodeDecodeError as error:
            raise InputError("the file is not UTF-8 text", where=path, fix="Convert it to UTF-8") from error
        except csv.Error as error:
            raise InputError(f"this is not CSV: {error}", where=path) from error


def _jsonl(stream: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError("this line is not JSON", where=f"{path}:{number}") from error
        if not isinstance(row, dict):
            raise InputError("this line is not a JSON object", where=f"{path}:{number}")
        yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=4096):
            yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise InputError("this is not a Parquet file", where=path) from error


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    if path.name.lower().endswith(".zst"):
        import zstandard

        with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            yield io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    elif path.name.lower().endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield stream
    else:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream


class Writer:
    """Writes judged rows; `write` takes a chunk, what is said of its texts, and the probabilities."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        """Append rows."""
        raise NotImplementedError


class JsonlWriter(Writer):
    """One JSON object per line: the row as it came, then what is said of it."""

    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self.stream = stream

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        for row, words, values in zip(chunk.rows, said, probs, strict=True):
            each = {name: round(float(value), 6) for name, value in zip(self.labels, values, strict=True)}
            record = {**row, **words, "probabilities": each}
            self.stream.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


class CsvWriter(Writer):
    """The row's columns, then `label`, `probability`, and `p_LABEL` for each label."""

    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        super().__init__(labels)
        self.stream = stream
        self.table: Any = None

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        for row, words, values in zip(chunk.rows, said, probs, strict=True):
            each = {f"p_{name}": f"{float(value):.6f}" for name, value in zip(self.labels, values, strict=True)}
            flat = {key: "|".join(value) if isinstance(value, list) else value for key, value in words.items()}
            record = {**row, **flat, **each}
            if self.table is None:
                self.table = csv.DictWriter(self.stream, list(record), extrasaction="ignore", lineterminator="\n")
                self.table.writeheader()
            self.table.writerow(record)


class ParquetWriter(Writer):
    """The row's columns, then `label`, `probability`, and `p_LABEL` for each label."""

    def __init__(self, path: Path, labels: Sequence[str], multi: bool, with_sets: bool) -> None:
        super().__init__(labels)
        self.path, self.multi, self.with_sets = path, multi, with_sets
        self.file: Any = None

    def write(self, chunk: Chunk, said: Sequence[dict[str, Any]], probs: NDArray[np.float32]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(chunk.rows)
        if self.file is not None:
            table = table.select([name for name in self.file.schema.names if name in table.column_names])
        kinds: dict[str, Any] = {"labels": pa.list_(pa.string()), "set": pa.list_(pa.string())}
        kinds |= {"label": pa.string(), "probability": pa.float64()}
        for name in said[0] if said else ():
            table = table.append_column(name, pa.array([words[name] for words in said], kinds[name]))
        for column, name in enumerate(self.labels):
            table = table.append_column(f"p_{name}", pa.array(probs[:, column]))
        if self.file is None:
            self.file = pq.ParquetWriter(self.path, table.schema)
        self.file.write_table(table.cast(self.file.schema))


@contextlib.contextmanager
def open_writer(
    out: str | Path | None, labels: Sequence[str], multi: bool, *, with_sets: bool = False
) -> Iterator[Writer]:
    """A writer by the ending of `out`; None is JSONL on stdout. A file that was begun and not ended is not left behind.

    Raises:
        InputError: An ending that cannot be written, or a folder that does not exist.
    """
    if out is None:
        yield JsonlWriter(sys.stdout, labels)
        return
    path = Path(out)
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl", ".parquet"):
        raise InputError(f"a file of kind {kind!r} cannot be written", where=path, fix="Use .csv, .jsonl or .parquet")
    draft = path.with_name(path.name + ".draft")
    try:
        if kind == ".parquet":
            parquet = ParquetWriter(draft, labels, multi, with_sets)
            yield parquet
            if parquet.file is None:
                raise InputError("there are no rows to label", where=path)
            parquet.file.close()
        else:
            with draft.open("w", encoding="utf-8", newline="") as stream:
                yield JsonlWriter(stream, labels) if kind == ".jsonl" else CsvWriter(stream, labels)
        draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=path) from error
    finally:
        draft.unlink(missing_ok=True)
