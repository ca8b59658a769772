"""One JSON document of many rows, streamed: WRENCH's `{"0": {"label", "weak_labels", "data"}}`, or a list of objects."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import InputError
from factory.files.base import MAX_LINE_CHARS, BadRow, OpenSource, ReadOptions, gathered, inner_columns
from factory.files.jsonl import PEEK_ROWS
from factory.files.lines import opened

_CHUNK = 1 << 20
_BLANKS = re.compile(r"[ \t\n\r]*")
_FIX = 'A list of objects is expected (of a data frame: `to_json(path, orient="records")`), or WRENCH JSON'


def open_document(options: ReadOptions) -> OpenSource:
    """A WRENCH file (`label.json` beside it names the classes), or a JSON list of objects.

    Raises:
        InputError: Missing, empty, or not such a document.
    """
    names = _label_names(options.path)
    columns: dict[str, None] = {}
    for _, row, _ in itertools.islice(_rows(options, names), PEEK_ROWS):
        if isinstance(row, dict):
            columns.update(dict.fromkeys(inner_columns(row)))
    if not columns:
        raise InputError("there are no rows in this JSON document", where=options.path, fix=_FIX)
    if all(name.isdigit() for name in columns):
        raise InputError("this JSON document holds columns, not rows", where=options.path, fix=_FIX)
    return OpenSource(
        list(columns), lambda wanted: gathered(_rows(options, names), wanted, whole=True), vote_labels=names
    )


def holds_lines(options: ReadOptions) -> bool:
    """Whether a `.json` file holds JSON lines: its first line is a whole object, and another one follows."""
    with opened(options.path, options.encoding) as (stream, _):
        first = stream.readline(MAX_LINE_CHARS).lstrip("\ufeff")
        if not first.lstrip().startswith("{"):
            return False
        rest = stream.read(1 << 12).lstrip()
    try:
        return isinstance(json.loads(first), dict) and rest.startswith("{")
    except (ValueError, RecursionError):
        return False


def _label_names(path: Path) -> tuple[str, ...]:
    beside = path.parent / "label.json"
    if not beside.is_file():
        return ()
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        return tuple(str(told[key]) for key in sorted(told, key=int))
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"the label names cannot be read ({error})", where=beside) from error


def _rows(options: ReadOptions, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | BadRow, int]]:
    with opened(options.path, options.encoding) as (stream, _):
        for number, value in enumerate(_items(stream, options.path), start=1):
            if isinstance(value, dict):
                row = _flat(value, names)
                yield number, row, sum(len(cell) for cell in row.values() if isinstance(cell, str))
            else:
                yield number, BadRow(number, "broken_row", "this row is not a JSON object"), 0


def _flat(value: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """WRENCH's nesting undone: `data`'s keys, `label` by name, `weak_labels` as `votes`."""
    if not isinstance(value.get("data"), dict) or "weak_labels" not in value:
        return dict(value)
    row = {**value["data"], "votes": value["weak_labels"]}
    label = value.get("label")
    if isinstance(label, int) and 0 <= label < len(names):
        label = names[label]
    return {**row, "label": label, **{k: v for k, v in value.items() if k not in ("data", "weak_labels", "label")}}


def _items(stream: io.TextIOWrapper, path: Path) -> Iterator[Any]:
    """The members of one JSON object, or the elements of one JSON list, one at a time."""
    decoder = json.JSONDecoder()
    buffer, at, ended = "", 0, False

    def more() -> bool:
        nonlocal buffer, at, ended
        chunk = stream.read(_CHUNK)
        ended = not chunk
        buffer, at = buffer[at:] + chunk, 0
        return not ended

    def peek() -> str:
        nonlocal at
        while True:
            blanks = _BLANKS.match(buffer, at)
            at = blanks.end() if blanks else at
            if at < len(buffer):
                return buffer[at]
            if not more():
                raise InputError("the JSON document is cut off", where=path, fix="Fetch it again")

    def value() -> Any:
        nonlocal at
        while True:
            peek()
            try:
                found, end = decoder.raw_decode(buffer, at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or len(buffer) - at > 2 * MAX_LINE_CHARS or not more():
                    raise InputError(f"this is not JSON: {error}", where=path) from error
                continue
            if end == len(buffer) and not ended and more():
                continue
            at = end
            return found

    try:
        opening = peek()
    except InputError as error:
        raise InputError("the file is empty", where=path) from error
    if opening == "\ufeff":
        at += 1
        opening = peek()
    if opening not in "{[":
        raise InputError("this is not a JSON object or list", where=path, fix="Name its `format:`")
    closing = "}" if opening == "{" else "]"
    at += 1
    if peek() == closing:
        return
    while True:
        if opening == "{":
            if not isinstance(value(), str) or peek() != ":":
                raise InputError("this is not JSON: a key is expected", where=path)
            at += 1
        yield value()
        mark = peek()
        at += 1
        if mark == closing:
            return
        if mark != ",":
            raise InputError(f"this is not JSON: a comma is expected and {mark!r} stands there", where=path)
