"""Writing a file or folder beside its place, and moving it there when it is whole: the only way in which anything is replaced."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from factory.errors import InputError
from factory.files.exchange import take_place
from factory.private import FILE_MODE, FOLDER_MODE


@contextlib.contextmanager
def replaced(path: Path, *, private: bool = False, sync: bool = False) -> Iterator[Path]:
    """A draft beside a file, moved to its place when the block ends, and removed if it raises.

    A link at that place is replaced, and not what it leads to. The folder is made if it is missing.

    Args:
        path: The file; whatever was there is replaced.
        private: Whether its owner alone may read it.
        sync: Whether it must survive a power cut once it has its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")  # one name, so that what a kill left is written over
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE if private else 0o666))
        yield draft
        if sync:
            with draft.open("r+b") as written:
                os.fsync(written.fileno())
        os.replace(draft, path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(path: Path, *, private: bool = False) -> Iterator[Path]:
    """A draft folder beside a folder, moved to its place when the block ends, and removed if it raises; see `take_place`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=FOLDER_MODE if private else 0o777)
        yield draft
        take_place(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def refuse_to_replace(
    path: Path, is_ours: Callable[[Sequence[str]], bool], what: str, *, inputs: Sequence[Path] = (),
    force: bool | None = None,
) -> None:  # fmt: skip
    """Refuse to write over what is read, or over a file that does not look like an earlier output of the same kind.

    So the same command can be run again, and a file of somebody's own is not lost by a slip.

    Args:
        path: Where to write.
        is_ours: Whether a file with these columns or keys is an earlier output.
        what: What an earlier output is called: "output of `predict`".
        inputs: What is read.
        force: Whether the user said that it may be replaced; None where there is no way to say so.

    Raises:
        InputError: It is one of the inputs, a folder, or something else.
    """
    if path.is_dir():
        raise InputError("this is a folder", where=path, fix="Name a file")
    if not path.exists():
        return
    if any(source.exists() and path.samefile(source) for source in inputs):
        raise InputError("this is the file that is read", where=path, fix="Write to another one with --out")
    if not path.is_file():
        raise InputError("this is not a regular file", where=path, fix="Name another")
    if not force and path.stat().st_size and not is_ours(head_names(path)):
        raise InputError(
            f"this file is there already, and it is not an earlier {what}",
            where=path,
            fix=f"Write to another one, or {'take it away first' if force is None else 'say --force to replace it'}",
        )


def head_names(path: Path) -> list[str]:
    """The columns or keys that a CSV, JSONL, JSON or Parquet file begins with; empty if it cannot be told."""
    with contextlib.suppress(OSError, ValueError, StopIteration, csv.Error, RecursionError):
        if path.suffix.lower() in (".parquet", ".pq"):
            import pyarrow as pa
            import pyarrow.parquet as pq

            with contextlib.suppress(pa.ArrowException):
                return list(pq.read_schema(path).names)
            return []
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline(1 << 24)
            head += file.read(1 << 16) if head.strip() in ("[", "{", "") else ""
        if head.lstrip().startswith(("{", "[")):
            found, _ = json.JSONDecoder().raw_decode(head.lstrip().lstrip("[").lstrip())
            return list(found) if isinstance(found, dict) else []
        return next(csv.reader(head.splitlines(keepends=True), delimiter="\t" if path.suffix == ".tsv" else ","))
    return []
