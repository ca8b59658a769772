"""Synthetic texts that are dropped after they had been accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def drop(db: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
    """Mark synthetic texts as dropped, in one statement however many they are.

    Args:
        db: A lease's connection.
        rows: Columns `drop_reason`, `detail`, and those of `synthetic` that tell which text is meant.
    """
    if not rows.num_rows:
        return
    keys = [name for name in rows.column_names if name not in ("drop_reason", "detail")]
    same = " AND ".join(f"synthetic.{name} = d.{name}" for name in keys)
    db.register("dropped_texts", rows)
    try:
        db.execute(
            "UPDATE synthetic SET state = 'dropped', drop_reason = d.drop_reason, detail = d.detail"
            f" FROM dropped_texts d WHERE {same}"
        )
    finally:
        db.unregister("dropped_texts")
