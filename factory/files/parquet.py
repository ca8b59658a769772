"""Parquet, streamed by record batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from factory.errors import InputError
from factory.files.base import Batch, OpenSource, ReadOptions, inner_value
from factory.files.lines import need_file, unreadable

_ROWS = 1024


def open_parquet(options: ReadOptions) -> OpenSource:
    """A Parquet file. `label_names` in its schema's metadata says what the integers of a votes column mean.

    Raises:
        InputError: Missing, not a Parquet file, or two columns of one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = options.path
    need_file(path)
    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as error:
        raise InputError("this is not a Parquet file", where=path, fix="Name its `format:`") from error
    except OSError as error:
        raise unreadable(path, error) from error
    names = list(schema.names)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise InputError(f"two columns are named `{doubled}`", where=path, fix="Rename one")
    classes = _class_names(schema.metadata or {})
    votes = _names_in(schema.metadata or {}, b"label_names")
    return OpenSource(names, lambda wanted: _batches(options, names, classes, wanted), vote_labels=votes)


def _batches(
    options: ReadOptions, names: Sequence[str], classes: Mapping[str, Sequence[str]], wanted: Sequence[str]
) -> Iterator[Batch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys(name if name in names else name.partition(".")[0] for name in wanted))
    at = 1
    try:
        with pq.ParquetFile(options.path, pre_buffer=False) as file:
            for rows in file.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
                if rows.num_rows:
                    yield Batch(range(at, at + rows.num_rows), _Columns(rows, classes, wanted), table=rows)
                at += rows.num_rows
            if at == 1:
                nothing = pa.RecordBatch.from_pylist([], file.schema_arrow).select(columns)
                yield Batch((), _Columns(nothing, classes, wanted), table=nothing)
    except (pa.ArrowException, OSError) as error:
        words = " ".join(str(error).split())
        raise InputError(f"the Parquet file is damaged after row {at - 1}: {words}", where=options.path) from error


class _Columns(Mapping[str, Sequence[Any]]):
    """The wanted columns of a record batch as Python values, made when they are looked at."""

    def __init__(self, rows: Any, classes: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> None:
        self._rows, self._classes, self._wanted = rows, classes, wanted
        self._made: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._wanted:
            raise KeyError(name)
        if name not in self._made:
            if name in self._rows.schema.names:
                values = self._rows.column(name).to_pylist()
            else:
                outer = name.partition(".")[0]
                values = [inner_value({outer: value}, name) for value in self._rows.column(outer).to_pylist()]
            self._made[name] = (
                [class_name(value, self._classes[name]) for value in values] if name in self._classes else values
            )
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wanted)

    def __len__(self) -> int:
        return len(self._wanted)


def class_name(value: Any, names: Sequence[str]) -> Any:
    """The name of a class number, or of a list of them; None for a negative number, which stands for no label."""
    if isinstance(value, (list, tuple)):
        return [class_name(item, names) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value < 0 else names[value] if value < len(names) else value
    return value


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Column to class names, where `datasets` wrote the file and a column holds their numbers."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    found: dict[str, Sequence[str]] = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        while isinstance(feature, (dict, list)):
            inner = feature[0] if isinstance(feature, list) and feature else feature
            if not isinstance(inner, dict):
                break
            if inner.get("_type") == "ClassLabel" and isinstance(inner.get("names"), list):
                found[name] = [str(one) for one in inner["names"]]
            feature = inner.get("feature")
    return found


def _names_in(metadata: Mapping[bytes, bytes], key: bytes) -> tuple[str, ...]:
    try:
        return tuple(str(name) for name in json.loads(metadata.get(key, b"[]")))
    except (ValueError, TypeError):
        return ()
