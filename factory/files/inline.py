"""Rows that stand in the pipeline or a notebook themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from factory.files.base import BATCH_ROWS, Batch, OpenSource
from factory.files.source import SourceSpec


def open_inline(path: Path, spec: SourceSpec) -> OpenSource:
    """The spec's own `texts`, in a column `text` or a column for each field, and its `labels` in `label`."""
    rows = spec.texts or ()
    fields = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row))
    given = not isinstance(spec.labels, dict)

    def batches(wanted: Sequence[str]) -> Iterator[Batch]:
        for first in range(0, len(rows), BATCH_ROWS):
            part = rows[first : first + BATCH_ROWS]
            columns = {
                name: [row.get(name) if isinstance(row, dict) else row for row in part]
                for name in wanted
                if name != "label"
            }
            if "label" in wanted:
                columns["label"] = list(spec.labels[first : first + BATCH_ROWS])  # type: ignore[arg-type, index]
            yield Batch(range(first + 1, first + len(part) + 1), columns)

    return OpenSource([*(fields or ["text"]), *(["label"] if given else [])], batches)
