"""A text per line: `.txt` files, and stdin."""

from __future__ import annotations

from collections.abc import Iterator

from factory.errors import InputError
from factory.files.base import BadRow, OpenSource, ReadOptions, gathered
from factory.files.lines import is_binary, numbered, opened


def open_plain(options: ReadOptions) -> OpenSource:
    """Lines without their ends, in a column `text`.

    Raises:
        InputError: Missing, or not text.
    """
    if str(options.path) != "-":
        with opened(options.path, options.encoding) as (stream, _):
            if is_binary(stream.read(8192)):
                raise InputError(
                    "this is not a text file", where=options.path, fix="Name its `format:`, or its `encoding:`"
                )
    return OpenSource(("text",), lambda wanted: gathered(_rows(options), wanted))


def _rows(options: ReadOptions) -> Iterator[tuple[int, dict[str, str] | BadRow, int]]:
    with opened(options.path, options.encoding) as (stream, _):
        for number, line in numbered(stream):
            if isinstance(line, BadRow):
                yield number, line, 0
            elif line.strip() or options.blank_rows:
                yield number, {"text": line.rstrip("\r\n")}, len(line)
