"""Files of texts in, a chunk at a time: CSV, TSV, JSONL (also .gz and .zst), Parquet, plain lines."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from factory.errors import InputError
from factory.files.unpack import Unpacked

NAMES = ("text", "sentence", "content", "body", "comment", "message", "question", "document")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        texts: What to label; an empty one where the row has no text.
        rows: The rows as they came.
        table: The same rows as an Arrow table where the file has types of its own (Parquet), else None.
    """

    texts: list[str]
    rows: list[dict[str, Any]]
    table: Any = None


def read_rows(file: str | Path, text: str | None, fields: Sequence[str], size: int) -> Iterator[Chunk]:
    """Read a file in chunks. A row without a text (nothing, or blanks alone) has the text "".

    Args:
        file: A path, or `-` for lines on stdin.
        text: The column of the texts, or None to guess: the task's fields, a usual name, or the first row's only string.
        fields: Names of the task's fields, if its texts have several.
        size: Rows per chunk.

    Raises:
        InputError: No such file, an unknown ending, no header, a row that cannot be read, no column to take.
    """
    columns: Sequence[str] | None = None
    number = 0
    for rows, table in _pieces(file, size, text):
        texts = []
        for row in rows:
            number += 1
            columns = columns or _columns(row, text, fields, file)
            values = [row.get(name) for name in columns]
            for name, value in zip(columns, values, strict=True):
                if value is not None and not isinstance(value, str):
                    raise InputError(f"column {name!r} holds no text", where=f"{file}:row {number}")
            texts.append(_text(columns, values))
        yield Chunk(texts, rows, table)


def _text(columns: Sequence[str], values: Sequence[str | None]) -> str:
    """One string as the student was trained on it, or "" if there is nothing to read."""
    parts = [value or "" for value in values]
    if not any(part.strip() for part in parts):
        return ""
    if len(columns) == 1:
        return parts[0]
    return "\n".join(f"{name}: {part}" for name, part in zip(columns, parts, strict=True))


def _columns(row: dict[str, Any], text: str | None, fields: Sequence[str], file: str | Path) -> Sequence[str]:
    if text is not None:
        _check_column(row, text, file)
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


def _check_column(names: Iterable[str], text: str | None, file: str | Path) -> None:
    if text is not None and text not in names:
        raise InputError(f"there is no column {text!r}", where=file, fix=f"It has: {', '.join(map(str, names))}")


def _pieces(file: str | Path, size: int, text: str | None) -> Iterator[tuple[list[dict[str, Any]], Any]]:
    """At most `size` rows at a time, with their Arrow table where the file is Parquet (one without rows still has columns)."""
    if str(file) != "-" and not Path(file).is_file():
        raise InputError("no such file", where=file, fix="Check the path")
    if str(file).lower().endswith(".parquet"):
        yield from _parquet(Path(file), size)
        return
    rows: list[dict[str, Any]] = []
    for row in _rows(file, text):
        rows.append(row)
        if len(rows) == size:
            yield rows, None
            rows = []
    if rows:
        yield rows, None


def _rows(file: str | Path, text: str | None) -> Iterator[dict[str, Any]]:
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
                yield from _csv(stream, path, "\t" if kind == "tsv" else ",", text)
            elif kind == "txt":
                for line in stream:
                    yield {"text": line.rstrip("\r\n")}
            else:
                yield from _jsonl(stream, path)
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError("the compressed file is damaged or cut short", where=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=path) from error


def _not_text(path: Path) -> InputError:
    return InputError(
        "the file is not UTF-8 text, nor UTF-16 with a byte order mark", where=path, fix="Convert it to UTF-8"
    )


def _csv(stream: TextIO, path: Path, delimiter: str, text: str | None) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 27)
    table = csv.DictReader(stream, delimiter=delimiter)
    try:
        names = table.fieldnames
        if names is None:
            raise InputError("the file is empty", where=path, fix="The first line names the columns")
        if any("\0" in name for name in names):
            raise _not_text(path)
        _check_column(names, text, path)
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
            if not source.metadata.num_rows:
                yield [], source.schema_arrow.empty_table()
            for batch in source.iter_batches(batch_size=size):
                if batch.num_rows:
                    yield batch.to_pylist(), pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise InputError("this is not a Parquet file, or it is damaged", where=path) from error


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    """The unpacked text, read as UTF-16 if its byte order mark says so, else as UTF-8."""
    name = path.name.lower()
    with path.open("rb") as raw, _damaged_zst(path):
        unpacked = raw
        if name.endswith(".zst"):
            unpacked = io.BufferedReader(Unpacked(raw))
        elif name.endswith(".gz"):
            unpacked = io.BufferedReader(gzip.GzipFile(fileobj=raw))
        utf_16 = unpacked.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        yield io.TextIOWrapper(unpacked, encoding="utf-16" if utf_16 else "utf-8-sig", newline="")


@contextlib.contextmanager
def _damaged_zst(path: Path) -> Iterator[None]:
    if not path.name.lower().endswith(".zst"):
        yield
        return
    import zstandard

    try:
        yield
    except zstandard.ZstdError as error:
        raise InputError("the compressed file is damaged or cut short", where=path) from error
