"""What two runs of the same pipeline may differ in, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MAY_DIFFER: dict[str, tuple[str, ...]] = {
    # when
    "migrations": ("applied_at",),
    "tasks": ("created_at",),
    "sources": ("ingested_at",),
    "requests": ("created_at",),
    "answers": ("answered_at", "latency_ms"),
    "plans": ("created_at",),
    "programs": ("created_at",),
    "program_events": ("happened_at",),
    "label_models": ("created_at",),
    "models": ("created_at",),
    "trials": ("created_at",),
    "evaluations": ("created_at",),
    "exports": ("created_at",),
    "purchases": ("decided_at",),
}
"""Columns that hold a time or a latency."""

MAY_DIFFER_IN_GOLD: dict[str, tuple[str, ...]] = {"sources": ("state",)}
"""The same for the gold file: `state` is a hint that holds the time at which the texts were read."""

ARE_ABOUT_THE_RUN = frozenset({"attempts", "runs", "stage_runs"})
"""Tables that tell how a run went: calls sent (killed ones as `unknown`), run numbers, times."""


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of a DuckDB file by name: its rows without the columns that may differ, sorted."""
    import duckdb

    found = {}
    left_out = {**MAY_DIFFER, **(MAY_DIFFER_IN_GOLD if path.name.endswith(".gold.duckdb") else {})}
    with duckdb.connect(str(path), read_only=True) as db:
        tables = [name for (name,) in db.execute("SELECT table_name FROM duckdb_tables() ORDER BY ALL").fetchall()]
        for table in tables:
            if table in ARE_ABOUT_THE_RUN:
                continue
            columns = [row[0] for row in db.execute(f"SELECT column_name FROM (DESCRIBE {table})").fetchall()]
            kept = ", ".join(f'"{name}"' for name in columns if name not in left_out.get(table, ()))
            found[table] = db.execute(f"SELECT {kept} FROM {table} ORDER BY ALL").fetchall()
    return found


def differences(expected: Path, found: Path) -> list[str]:
    """One line for each table of two DuckDB files that is not equal row by row."""
    one, other = contents(expected), contents(found)
    lines = [f"only one has {table}" for table in sorted(set(one) ^ set(other))]
    for table in sorted(set(one) & set(other)):
        if one[table] != other[table]:
            missing = [row for row in one[table] if row not in other[table]]
            more = [row for row in other[table] if row not in one[table]]
            lines.append(
                f"{table}: {len(one[table])} rows expected, {len(other[table])} found;"
                f" missing {missing[:2]!s:.600}; not expected {more[:2]!s:.600}"
            )
    return lines


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
