"""JSON lines, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from factory.errors import InputError
from factory.files.base import BadRow, OpenSource, ReadOptions, gathered, inner_columns
from factory.files.lines import is_binary, numbered, opened

PEEK_ROWS = 50


def open_jsonl(options: ReadOptions) -> OpenSource:
    """A file of one JSON object for each line. Its columns are the keys of the first fifty.

    Raises:
        InputError: Missing, empty, or not one of the first lines is a JSON object.
    """
    path = options.path
    columns: dict[str, None] = {}
    first_fault, head = None, ""
    with opened(path, options.encoding) as (stream, encoding):
        for number, line in numbered(stream):
            if number > PEEK_ROWS:
                break
            if isinstance(line, str) and len(head) < 4096:
                head += line[:4096]
            row = _parse(number, line)
            if isinstance(row, dict):
                columns.update(dict.fromkeys(inner_columns(row)))
            elif isinstance(row, BadRow) and first_fault is None:
                first_fault = row
    if not columns:
        if first_fault is None:
            raise InputError("the file is empty", where=path, fix="Each line holds one JSON object")
        if is_binary(head):
            raise InputError("this is not a text file", where=path, fix="Name its `format:`, or its `encoding:`")
        raise InputError(
            f"these are not JSON lines: {first_fault.detail}",
            where=f"{path}:{first_fault.row_no}",
            fix="Each line holds one JSON object",
        )
    marked = not options.encoding and encoding != "utf-8"
    says = (f"{options.called}: read as {encoding}, as its byte order mark says",) if marked else ()
    return OpenSource(list(columns), lambda wanted: gathered(_rows(options), wanted, whole=True), says=says)


def _parse(number: int, line: str | BadRow) -> dict[str, Any] | BadRow | None:
    if isinstance(line, BadRow):
        return line
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(number, "broken_row", f"this line is not JSON ({error})")
    if not isinstance(row, dict):
        return BadRow(number, "broken_row", "this line is not a JSON object")
    return row


def _rows(options: ReadOptions) -> Iterator[tuple[int, dict[str, Any] | BadRow, int]]:
    with opened(options.path, options.encoding) as (stream, _):
        for number, line in numbered(stream):
            row = _parse(number, line)
            if row is not None:
                yield number, row, len(line) if isinstance(line, str) else 0
