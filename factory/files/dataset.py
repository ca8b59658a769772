"""Hugging Face datasets: a folder of `save_to_disk`, a folder that describes its own files, or a name on the hub."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from factory.errors import InputError
from factory.files.base import Batch, OpenSource, ReadOptions
from factory.files.parquet import class_name

_ROWS = 1024


def open_dataset(options: ReadOptions) -> OpenSource:
    """A dataset read by `datasets`: memory-mapped from disk, streamed from the hub. Class numbers become class names.

    Raises:
        InputError: Nothing there, no network, or no such part.
    """
    data, says = _load(options)
    features = data.features
    columns = list(features) if features is not None else list(next(_guarded(options, iter(data)), {}))
    return OpenSource(columns, lambda wanted: _batches(options, data, features, wanted), says=tuple(says))


def _load(options: ReadOptions) -> tuple[Any, list[str]]:
    import datasets

    says: list[str] = []
    path, where = options.path, options.called
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # it tells in its own words what we tell in one line
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            found: Any = datasets.load_from_disk(str(path))
        elif path.is_dir():
            found = datasets.load_dataset(str(path), name=options.subset, streaming=True)
        else:
            hub = str(where).partition("#")[0].removeprefix("hf://")
            found = datasets.load_dataset(hub, name=options.subset, streaming=True)
    except Exception as error:
        raise InputError(
            f"no dataset can be read here ({_words(error)})",
            where=where,
            fix="Name a folder with data files or of save_to_disk, or a name on the hub with the network at hand",
        ) from error
    if isinstance(found, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        parts = list(found)
        if not parts:
            raise InputError("the dataset has no part with rows in it", where=where)
        part = options.part or ("train" if "train" in parts else parts[0])
        if part not in parts:
            raise InputError(f"the dataset has no part `{part}` (there are {', '.join(parts)})", where=where)
        if options.part is None and len(parts) > 1:
            says.append(f"{where}: part `{part}` is read (guessed; name another with `part:`)")
        found = found[part]
    return found, says


def _batches(options: ReadOptions, data: Any, features: Any, wanted: Sequence[str]) -> Iterator[Batch]:
    at = 1
    for rows in _guarded(options, data.iter(batch_size=_ROWS)):
        columns = {}
        size = len(next(iter(rows.values()))) if rows else 0
        for name in wanted:
            names = _class_names(None if features is None else features.get(name))
            values = list(rows.get(name, [None] * size))
            columns[name] = values if names is None else [class_name(value, names) for value in values]
        yield Batch(range(at, at + size), columns)
        at += size


def _guarded(options: ReadOptions, rows: Iterator[Any]) -> Iterator[Any]:
    """The rows; whatever the library raises on the way is one line."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:
            raise InputError(
                f"the dataset cannot be read to its end ({_words(error)})",
                where=options.called,
                fix="Name the files themselves, or fetch it again",
            ) from error
        yield row


def _class_names(feature: Any) -> Sequence[str] | None:
    import datasets

    while feature is not None:
        if isinstance(feature, datasets.ClassLabel):
            return list(feature.names)
        feature = getattr(feature, "feature", None)
    return None


def _words(error: Exception) -> str:
    """The library's own words on one line; those of the cause, where there is one."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__
