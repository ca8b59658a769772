"""A hint of which files did not change since they were read (`factory.files.stamp`), kept beside the warehouse.

It is no truth: losing the file costs one reading. It lies outside the warehouse because a file's size and time depend on the
labels in it, and nothing in the warehouse may depend on those of `test` and `reference`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from factory.files.replace import replaced
from factory.warehouse.file import Warehouse


def read_hints(warehouse: Warehouse) -> dict[str, str]:
    """What was kept; empty if there is nothing, or nothing readable."""
    path = _path(warehouse)
    if path is None:
        return {}
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {str(key): str(value) for key, value in found.items()}
    return {}


def write_hints(warehouse: Warehouse, hints: dict[str, str]) -> None:
    """Keep them; a place that cannot be written is no fault."""
    path = _path(warehouse)
    if path is None:
        return
    with suppress(OSError), replaced(path, private=True) as draft:
        draft.write_text(json.dumps(hints, indent=0, sort_keys=True), encoding="utf-8")


def _path(warehouse: Warehouse) -> Path | None:
    return None if warehouse.path is None else warehouse.path.with_suffix(".files.json")
