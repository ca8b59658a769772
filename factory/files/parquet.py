"""Parquet, streamed by record batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from factory.errors import InputError
from factory.files.base import Batch, OpenSource
from factory.files.lines import unreadable
from factory.files.source import SourceSpec

_ROWS = 1024


def open_parquet(path: Path, spec: SourceSpec) -> OpenSource:
    """A Parquet file. `label_names` in its schema's metadata says what the integers of a votes column mean.

    Raises:
        InputError: Missing or no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise InputError("this is no Parquet file", where=path, fix="Name its `format:`") from error
    except OSError as error:
        raise unreadable(path, error) from error
    names: tuple[str, ...] = ()
    told = (schema.metadata or {}).get(b"label_names")
    if told:
        try:
            names = tuple(str(name) for name in json.loads(told))
        except ValueError:
            names = ()
    return OpenSource(list(schema.names), lambda wanted: _batches(path, wanted), vote_labels=names)


def _batches(path: Path, wanted: Sequence[str]) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = 1
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for rows in file.iter_batches(batch_size=_ROWS, columns=list(wanted), use_threads=False):
                yield Batch(range(at, at + rows.num_rows), {name: rows.column(name).to_pylist() for name in wanted})
                at += rows.num_rows
    except pa.ArrowException as error:
        raise InputError(f"the Parquet file is damaged after row {at - 1}: {error}", where=path) from error
    except OSError as error:
        raise InputError(f"the Parquet file is damaged after row {at - 1}: {error}", where=path) from error
