"""One file for each format; `open_source` picks by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from factory.errors import InputError
from factory.files.base import BadRow, Batch, OpenSource
from factory.files.dataset import open_dataset
from factory.files.delimited import open_delimited
from factory.files.document import open_document
from factory.files.inline import open_inline
from factory.files.jsonl import open_jsonl
from factory.files.parquet import open_parquet
from factory.files.source import SourceSpec

__all__ = ["READERS", "BadRow", "Batch", "OpenSource", "format_of", "open_source"]

READERS: dict[str, Callable[[Path, SourceSpec], OpenSource]] = {
    "csv": open_delimited,
    "jsonl": open_jsonl,
    "json": open_document,
    "wrench": open_document,
    "parquet": open_parquet,
    "dataset": open_dataset,
    "inline": open_inline,
}

_BY_SUFFIX = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


def format_of(path: Path, spec: SourceSpec) -> str:
    """The format that was told, or the one that the name says.

    Raises:
        InputError: The name says nothing, or there is no such file.
    """
    if spec.texts is not None:
        return "inline"
    if spec.format != "auto":
        return spec.format
    if spec.path.startswith("hf://") or path.is_dir():
        return "dataset"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    if suffixes and suffixes[-1] in _BY_SUFFIX:
        return _BY_SUFFIX[suffixes[-1]]
    if not path.exists():
        raise InputError("no such file", where=path, fix="Check the path; a name on the hub needs `format: dataset`")
    raise InputError(
        f"the name does not say which format this is (known endings: {', '.join(_BY_SUFFIX)})",
        where=path,
        fix="Say `format: csv` or another",
    )


def open_source(spec: SourceSpec, base: Path | None = None) -> tuple[str, OpenSource]:
    """Find out what a source's columns are.

    Returns:
        Its format, and the source, of which nothing but the head was read.

    Raises:
        InputError: It cannot be read.
    """
    path = spec.located(base)
    kind = format_of(path, spec)
    if kind == "inline":
        return kind, open_inline(path, spec)
    if kind != "dataset" and not path.exists():
        raise InputError("no such file", where=path, fix="Check the path")
    if kind != "dataset" and path.is_dir():
        raise InputError("this is a folder", where=path, fix="Name a file, or say `format: dataset`")
    return kind, READERS[kind](path, spec)
