"""Files of texts in, a chunk at a time: CSV, TSV, JSONL (also .gz and .zst), Parquet, plain lines."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from factory.errors import InputError
from factory.unpacked import Unpacked

NAMES = ("text", "sentence", "content", "body", "comment", "message", "question", "document")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        texts: What to label.
        rows: The rows as they came.
        table: The same rows as an Arrow table where the file has types of its own (Parquet), else None.
    """

    texts: list[str]
    rows: list[dict[str, Any]]
    table: Any = None


def read_rows(file: str | Path, text: str | None, fields: Sequence[str], size: int) -> Iterator[Chunk]:
    """Read a file in chunks.

    Args:
        file: A path, or `-` for lines on stdin.
        text: The column of the texts, or None to guess: the task's fields, a usual name, or the first row's only string.
        fields: Names of the task's fields, if its texts have several.
        size: Rows per chunk.

    Raises:
        InputError: No such file, an unknown ending, a row that cannot be read, no column to take.
    """
    columns: Sequence[str] | None = None
    number = 0
    for rows, table in _pieces(file, size):
        texts = []
        for row in rows:
            number += 1
            columns = columns or _columns(row, text, fields, file)
            values = [row.get(name) for name in columns]
            for name, value in zip(columns, values, strict=True):
                if not isinstance(value, str):
                    raise InputError(f"column {name!r} holds no text", where=f"{file}:row {number}")
            if len(columns) == 1:
                texts.append(str(values[0]))
            else:
                texts.append("\n".join(f"{name}: {value}" for name, value in zip(columns, values, strict=True)))
        yield Chunk(texts, rows, table)


def _columns(row: dict[str, Any], text: str | None, fields: Sequence[str], file: str | Path) -> Sequence[str]:
    if text is not None:
        if text not in row:
            raise InputError(f"there is no column {text!r}", where=file, fix=f"It has: {', '.join(map(str, row))}")
        return [text]
    if fields and all(name in row for name in fields):
        return list(fields)
    for name in NAMES:
        if name in row:
            return [name]
    strings = [name for name, value in row.items() if isinstance(value, str)]
    if len(strings) == 1:
        return strings
    raise InputError(
        "it is not clear which column holds the texts",
        where=file,
        fix=f"Name it with --text; there are: {', '.join(row)}",
    )


def _pieces(file: str | Path, size: int) -> Iterator[tuple[list[dict[str, Any]], Any]]:
    """At most `size` rows at a time, with their Arrow table where the file is Parquet."""
    if str(file) != "-" and not Path(file).is_file():
        raise InputError("no such file", where=file, fix="Check the path")
    if str(file).lower().endswith(".parquet"):
        yield from _parquet(Path(file), size)
        return
    rows: list[dict[str, Any]] = []
    for row in _rows(file):
        rows.append(row)
        if len(rows) == size:
            yield rows, None
            rows = []
    if rows:
        yield rows, None


def _rows(file: str | Path) -> Iterator[dict[str, Any]]:
    if str(file) == "-":
        try:
            for line in sys.stdin:
                yield {"text": line.rstrip("\r\n")}
        except UnicodeDecodeError as error:
            raise InputError("the input is not UTF-8 text", where="stdin", fix="Convert it to UTF-8") from error
        return
    path = Path(file)
    kind = path.name.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    if kind not in ("csv", "tsv", "jsonl", "ndjson", "txt"):
        raise InputError(
            f"a file of kind {path.suffix!r} cannot be read", where=path, fix="Use CSV, JSONL, Parquet or TXT"
        )
    try:
        with _open_text(path) as stream:
            if kind in ("csv", "tsv"):
                yield from _csv(stream, path, "\t" if kind == "tsv" else ",")
            elif kind == "txt":
                for line in stream:
                    yield {"text": line.rstrip("\r\n")}
            else:
                yield from _jsonl(stream, path)
    except UnicodeDecodeError as error:
        raise InputError("the file is not UTF-8 text", where=path, fix="Convert it to UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError("the compressed file is damaged or cut short", where=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=path) from error


def _csv(stream: TextIO, path: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 27)
    table = csv.DictReader(stream, delimiter=delimiter)
    try:
        names = table.fieldnames or []
        if len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise InputError(f"two columns are named {twice!r}", where=path)
        for row in table:
            if None in row:
                raise InputError("this row has more cells than the header", where=f"{path}:{table.line_num}")
            yield row
    except csv.Error as error:
        raise InputError(f"this is not CSV: {error}", where=f"{path}:{table.line_num}") from error


def _jsonl(stream: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "\\u" in line:
                json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InputError("this line holds half a surrogate pair", where=f"{path}:{number}") from error
        except (ValueError, RecursionError) as error:
            raise InputError("this line is not JSON", where=f"{path}:{number}") from error
        if not isinstance(row, dict):
            raise InputError("this line is not a JSON object", where=f"{path}:{number}")
        yield row


def _parquet(path: Path, size: int) -> Iterator[tuple[list[dict[str, Any]], Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as source:
            for batch in source.iter_batches(batch_size=size):
                if batch.num_rows:
                    yield batch.to_pylist(), pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise InputError("this is not a Parquet file, or it is damaged", where=path) from error


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    if path.name.lower().endswith(".zst"):
        import zstandard

        try:
            with path.open("rb") as raw:
                yield io.TextIOWrapper(io.BufferedReader(Unpacked(raw)), encoding="utf-8-sig", newline="")
        except zstandard.ZstdError as error:
            raise InputError("the compressed file is damaged or cut short", where=path) from error
    elif path.name.lower().endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield stream
    else:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
