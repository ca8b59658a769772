"""A text per line: `.txt` files, and stdin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from factory.errors import InputError
from factory.files.base import BadRow, Batch, Collector, OpenSource, ReadOptions
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
    return OpenSource(("text",), lambda wanted: _batches(options, wanted))


def _batches(options: ReadOptions, wanted: Sequence[str]) -> Iterator[Batch]:
    collector = Collector(wanted)
    with opened(options.path, options.encoding) as (stream, _):
        for number, line in numbered(stream):
            if isinstance(line, BadRow):
                full = collector.add_bad(line)
            elif line.strip() or options.blank_rows:
                full = collector.add(number, {"text": line.rstrip("\r\n")}, len(line))
            else:
                continue
            if full:
                yield full
    yield collector.take()
