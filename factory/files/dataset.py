"""Hugging Face datasets: a folder of `save_to_disk`, a folder of data files, or a name on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from factory.errors import InputError
from factory.files.base import Batch, OpenSource
from factory.files.source import SourceSpec

_ROWS = 1024


def open_dataset(path: Path, spec: SourceSpec) -> OpenSource:
    """A dataset read by `datasets`: memory-mapped from disk, streamed from the hub. Class numbers become class names.

    Raises:
        InputError: Nothing there, no network, or no such part.
    """
    data, says = _load(path, spec)
    features = data.features
    columns = list(features) if features is not None else list(next(iter(data), {}))
    return OpenSource(columns, lambda wanted: _batches(data, features, wanted), says=tuple(says))


def _load(path: Path, spec: SourceSpec) -> tuple[Any, list[str]]:
    import datasets

    says: list[str] = []
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            found: Any = datasets.load_from_disk(str(path))
        elif path.is_dir():
            found = datasets.load_dataset(str(path), name=spec.subset, streaming=True)
        else:
            found = datasets.load_dataset(spec.path.removeprefix("hf://"), name=spec.subset, streaming=True)
    except Exception as error:
        words = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"no dataset can be read here ({words[:200]})",
            where=spec.path,
            fix="Name a folder with data files or of save_to_disk, or a name on the hub with the network at hand",
        ) from error
    if isinstance(found, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        parts = list(found)
        part = spec.part or ("train" if "train" in parts else parts[0])
        if part not in parts:
            raise InputError(f"the dataset has no part `{part}` (there are {', '.join(parts)})", where=spec.path)
        if spec.part is None and len(parts) > 1:
            says.append(f"{spec.path}: part `{part}` is read (guessed; name another with `part:`)")
        found = found[part]
    return found, says


def _batches(data: Any, features: Any, wanted: Sequence[str]) -> Iterator[Batch]:
    import datasets

    at = 1
    for rows in data.iter(batch_size=_ROWS):
        columns = {}
        size = len(next(iter(rows.values()))) if rows else 0
        for name in wanted:
            values = list(rows.get(name, [None] * size))
            feature = None if features is None else features.get(name)
            inner = getattr(feature, "feature", None)
            if isinstance(feature, datasets.ClassLabel):
                values = [None if v is None or v < 0 else feature.int2str(int(v)) for v in values]
            elif isinstance(inner, datasets.ClassLabel):
                values = [None if v is None else [inner.int2str(int(i)) for i in v] for v in values]
            columns[name] = values
        yield Batch(range(at, at + size), columns)
        at += size
