"""JSON lines, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from factory.errors import InputError
from factory.files.base import BadRow, Batch, Collector, OpenSource
from factory.files.lines import is_binary, numbered, opened
from factory.files.source import SourceSpec

_PEEK_LINES = 50


def open_jsonl(path: Path, spec: SourceSpec) -> OpenSource:
    """A file of one JSON object for each line. Its columns are the keys of the first fifty.

    Raises:
        InputError: Missing, empty, or not one of the first lines is a JSON object.
    """
    columns: dict[str, None] = {}
    first_fault, head = None, ""
    with opened(path, spec.encoding) as (stream, encoding):
        for number, line in numbered(stream):
            if number > _PEEK_LINES:
                break
            if isinstance(line, str) and len(head) < 4096:
                head += line[:4096]
            row = _parse(number, line)
            if isinstance(row, dict):
                columns.update(dict.fromkeys(row))
            elif isinstance(row, BadRow) and first_fault is None:
                first_fault = row
    if not columns:
        if first_fault is None:
            raise InputError("the file is empty", where=path, fix="Each line holds one JSON object")
        if is_binary(head):
            raise InputError("this is no text file", where=path, fix="Name its `format:`, or its `encoding:`")
        raise InputError(
            f"no JSON lines: {first_fault.detail}",
            where=f"{path}:{first_fault.row_no}",
            fix="Each line holds one JSON object",
        )
    says = (
        ()
        if spec.encoding or encoding == "utf-8"
        else (f"{spec.path}: read as {encoding}, as its byte order mark says",)
    )
    return OpenSource(list(columns), lambda wanted: _batches(path, spec, wanted), says=says)


def _parse(number: int, line: str | BadRow) -> dict[str, Any] | BadRow | None:
    if isinstance(line, BadRow):
        return line
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(number, "broken_row", f"no JSON ({error})")
    if not isinstance(row, dict):
        return BadRow(number, "broken_row", "no JSON object")
    return row


def _batches(path: Path, spec: SourceSpec, wanted: Sequence[str]) -> Iterator[Batch]:
    collector = Collector(wanted)
    with opened(path, spec.encoding) as (stream, _):
        for number, line in numbered(stream):
            row = _parse(number, line)
            if row is None:
                continue
            full = collector.add_bad(row) if isinstance(row, BadRow) else collector.add(number, row, len(line))  # type: ignore[arg-type]
            if full:
                yield full
    yield collector.take()
