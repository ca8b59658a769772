"""Rows that stand in the pipeline or a notebook themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from factory.files.base import BATCH_ROWS, Batch, OpenSource, ReadOptions, inner_value


def open_inline(options: ReadOptions) -> OpenSource:
    """The options' own `rows`, in a column `text` or a column for each key, and their `labels` in `label`."""
    rows = options.rows or ()
    keys = list(dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)) or ["text"]
    if options.labels is not None and "label" not in keys:
        keys.append("label")

    def batches(wanted: Sequence[str]) -> Iterator[Batch]:
        for first in range(0, len(rows), BATCH_ROWS):
            part = rows[first : first + BATCH_ROWS]
            columns = {
                name: [inner_value(row, name) if isinstance(row, dict) else row for row in part] for name in wanted
            }
            if "label" in wanted and options.labels is not None:
                columns["label"] = list(options.labels[first : first + BATCH_ROWS])
            yield Batch(range(first + 1, first + len(part) + 1), columns)

    return OpenSource(keys, batches)
