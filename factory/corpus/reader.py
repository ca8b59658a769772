"""Reading a source into a staging file, here or where a cluster has a processor for it: no source needs another one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from factory.corpus.staging import Arrival, disk, stage_source
from factory.files.columns import Columns, choose_columns
from factory.files.open import open_source
from factory.files.rows import Cleaner
from factory.files.source import SourceSpec
from factory.result import Progress, no_progress

GOLD_SPLITS = ("seed", "dev")
"""Splits whose gold every stage may see."""

FILE = "arrival.parquet"


@dataclass(frozen=True)
class Read:
    """A source that was read.

    Attributes:
        arrival: Its rows. `path` is that of a file on this machine, but for one that came from another: see `laid_down`.
        columns: What its columns mean.
        kind: Its format.
        says: How it was read.
        data: The staging file itself, where it was read elsewhere.
    """

    arrival: Arrival
    columns: Columns
    kind: str
    says: tuple[str, ...]
    data: bytes | None = None

    def laid_down(self, folder: Path) -> Arrival:
        """The arrival, with its file on this machine."""
        if self.data is None:
            return self.arrival
        path = folder / FILE
        with disk(path):
            path.write_bytes(self.data)
        return replace(self.arrival, path=path)


@dataclass(frozen=True)
class Reader:
    """What reads sources: called with a split and a source of it.

    Attributes:
        fields: The card's fields; empty for plain texts.
        kind: `single` or `multi`.
        numbers: Label name to number.
        base: What relative paths are relative to; on a cluster a folder that all nodes share.
        folder: Where the staging file goes, in place of the one before; None where it is to travel.
        progress: Called after each batch of rows.
    """

    fields: tuple[str, ...]
    kind: str
    numbers: Mapping[str, int]
    base: Path | None
    folder: Path | None = None
    progress: Progress = no_progress

    def __call__(self, asked: tuple[str, SourceSpec]) -> Read:
        """Read a source.

        Raises:
            InputError: It cannot be read, or has too many unusable rows.
            WarehouseError: The disk is full.
        """
        if self.folder is not None:
            return self._read(*asked, self.folder)
        with tempfile.TemporaryDirectory(prefix="factory-ingest-") as name:
            read = self._read(*asked, Path(name))
            return replace(read, data=read.arrival.path.read_bytes())

    def _read(self, split: str, spec: SourceSpec, folder: Path) -> Read:
        source = open_source(spec.reading(self.base))
        columns = choose_columns(spec, source, self.fields, gold=split in GOLD_SPLITS)
        cleaner = Cleaner(spec, source, columns, self.fields, self.numbers, self.kind, drop_exemplars=split == "train")
        arrival = stage_source(source, cleaner, folder, progress=self.progress, what=f"{split}: rows read")
        return Read(arrival, columns, source.kind, (*spec.said, *source.says, *columns.guessed))
