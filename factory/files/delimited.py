"""CSV and TSV, streamed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from factory.errors import InputError
from factory.files.base import MAX_LINE_CHARS, BadRow, Batch, Collector, OpenSource
from factory.files.lines import is_binary, numbered, opened
from factory.files.source import SourceSpec


def open_delimited(path: Path, spec: SourceSpec) -> OpenSource:
    """A CSV file with a header line.

    Raises:
        InputError: Missing, empty, binary, or a header that cannot be used.
    """
    with opened(path, spec.encoding) as (stream, encoding):
        head = stream.readline(MAX_LINE_CHARS)
        sample = head + stream.read(4096)
    if not head.strip():
        raise InputError("the file is empty, or its first line is", where=path, fix="The first line names the columns")
    if is_binary(sample) or "\x00" in head:
        raise InputError("this is no text file", where=path, fix="Name its `format:`, or its `encoding:`")
    delimiter = spec.delimiter or _guess_delimiter(head, path)
    header = [name.strip() for name in next(csv.reader([head.lstrip("\ufeff")], delimiter=delimiter))]
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise InputError(f"the column `{doubled[0]}` stands twice in the header", where=f"{path}:1", fix="Rename one")
    says = (
        [] if delimiter == "," or spec.delimiter else [f"{spec.path}: columns are taken as separated by {delimiter!r}"]
    )
    if spec.encoding is None and encoding != "utf-8":
        says.append(f"{spec.path}: read as {encoding}, as its byte order mark says")
    return OpenSource(header, lambda wanted: _batches(path, spec, header, delimiter, wanted), says=tuple(says))


def _guess_delimiter(head: str, path: Path) -> str:
    if ".tsv" in path.suffixes or ".tab" in path.suffixes:
        return "\t"
    counts = {mark: len(next(csv.reader([head], delimiter=mark), [])) for mark in (",", "\t", ";", "|")}
    return max(counts, key=lambda mark: counts[mark])


def _batches(
    path: Path, spec: SourceSpec, header: Sequence[str], delimiter: str, wanted: Sequence[str]
) -> Iterator[Batch]:
    keep = [(name, header.index(name)) for name in wanted]
    collector = Collector(wanted)
    csv.field_size_limit(max(MAX_LINE_CHARS, 131_072))
    with opened(path, spec.encoding) as (stream, _):
        too_long: list[BadRow] = []
        at = 0

        def lines() -> Iterator[str]:
            nonlocal at
            for number, line in numbered(stream):
                at = number
                if isinstance(line, BadRow):
                    too_long.append(line)
                else:
                    yield line

        reader = csv.reader(lines(), delimiter=delimiter, strict=True)
        next(reader, None)
        while True:
            start = at + 1
            full: Batch | None = None
            try:
                row = next(reader, None)
            except csv.Error as error:
                full = collector.add_bad(BadRow(start, "broken_row", str(error)))
                if full:
                    yield full
                continue
            for line in too_long:
                full = collector.add_bad(line) or full
            too_long.clear()
            if row is None:
                break
            if len(row) == len(header):
                values = {name: row[index] for name, index in keep}
                full = collector.add(start, values, sum(map(len, row))) or full
            elif row:
                words = f"{len(row)} fields where the header has {len(header)}"
                full = collector.add_bad(BadRow(start, "broken_row", words)) or full
            if full:
                yield full
    yield collector.take()
