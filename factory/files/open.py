"""Opening a file of any format: which one it is, and which reader reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from factory.errors import InputError
from factory.files.base import OpenSource, ReadOptions
from factory.files.dataset import open_dataset
from factory.files.delimited import open_delimited
from factory.files.document import holds_lines, open_document
from factory.files.inline import open_inline
from factory.files.jsonl import open_jsonl
from factory.files.lines import need_file, opened
from factory.files.parquet import open_parquet
from factory.files.plain import open_plain

READERS: dict[str, Callable[[ReadOptions], OpenSource]] = {
    "csv": open_delimited,
    "jsonl": open_jsonl,
    "json": open_document,
    "wrench": open_document,
    "parquet": open_parquet,
    "lines": open_plain,
    "dataset": open_dataset,
    "inline": open_inline,
}

BY_SUFFIX = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".txt": "lines",
}  # fmt: skip


def format_by_name(path: Path) -> str | None:
    """The format that a file's name says, packed or not; None if it says nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return BY_SUFFIX.get(suffixes[-1]) if suffixes else None


def format_of(options: ReadOptions) -> str:
    """The format that was told, or the one that the name says.

    Raises:
        InputError: The name says nothing, or there is no such file.
    """
    path = options.path
    if options.rows is not None:
        return "inline"
    if options.format != "auto":
        if options.format not in READERS:
            raise InputError(f"there is no format `{options.format}`", where=options.called, fix=_known())
        return options.format
    if str(path) == "-":
        return "lines"
    if options.called.startswith("hf://") or path.is_dir():
        return "dataset"
    kind = format_by_name(path)
    if kind is not None:
        return kind
    if not path.exists():
        raise InputError("no such file", where=path, fix="Check the path; a name on the hub needs `format: dataset`")
    raise InputError(
        f"the name does not say which format this is (known endings: {', '.join(BY_SUFFIX)})",
        where=path,
        fix=f"Say `format: {sniffed_format(path) if path.is_file() else 'csv'}` or another",
    )


def sniffed_format(path: Path) -> str:
    """The format that a file's first characters look like.

    Raises:
        InputError: It cannot be read.
    """
    with path.open("rb") as raw:
        if raw.read(4) == b"PAR1":
            return "parquet"
    with opened(path) as (stream, _):
        head = stream.read(4096).lstrip("\ufeff \t\r\n")
    if head.startswith("{"):
        return "jsonl" if holds_lines(ReadOptions(path)) else "json"
    return "json" if head.startswith("[") else "csv"


def open_source(options: ReadOptions) -> OpenSource:
    """Find out what a source's columns are. Nothing but its head is read.

    Raises:
        InputError: It cannot be read.
    """
    kind = format_of(options)
    if kind not in ("dataset", "inline") and str(options.path) != "-":
        if options.path.is_dir():
            raise InputError("this is a folder", where=options.path, fix="Name a file, or say `format: dataset`")
        need_file(options.path)
    if kind == "json" and options.format == "auto" and holds_lines(options):
        kind = "jsonl"
    return replace(READERS[kind](options), kind=kind)


def _known() -> str:
    return f"There are {', '.join(name for name in READERS if name != 'inline')}"
