"""A hint of which files did not change since they were read: their size and time, kept beside the warehouse.

It is no truth: losing the file costs one reading. It lies outside the warehouse because a file's size and time depend on the
labels in it, and nothing in the warehouse may depend on those of `test` and `reference`.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.canonical import digest
from factory.files.source import SourceSpec
from factory.warehouse.file import Warehouse


def file_state(path: Path, spec: SourceSpec, context: Any) -> str | None:
    """A digest that changes when the file, what was said of it, or `context` does; None if there is no telling.

    Args:
        path: The file, or a folder of files. A name on the hub has no state of its own and counts as unchanged.
        spec: How it is read.
        context: JSON-able: what else the outcome depends on (labels and fields of the card).
    """
    if spec.texts is not None:
        return digest(["inline", spec.model_dump(mode="json"), context])
    try:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file())[:10_000]
        else:
            files = [path] if path.exists() else []
        beside = path.parent / "label.json"
        if spec.format in ("wrench", "json", "auto") and path.suffix == ".json" and beside.is_file():
            files.append(beside)
        stats = [[str(p), str(p.stat().st_size), str(p.stat().st_mtime_ns)] for p in files]
    except OSError:
        return None
    if not stats and spec.format != "dataset":
        return None
    return digest([stats, spec.model_dump(mode="json"), context])


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
    with suppress(OSError):
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(hints, indent=0, sort_keys=True), encoding="utf-8")
        partial.replace(path)


def _path(warehouse: Warehouse) -> Path | None:
    return None if warehouse.path is None else warehouse.path.with_suffix(".files.json")
