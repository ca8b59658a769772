"""What a file looks like from outside, so that one that did not change need not be read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factory.canonical import digest
from factory.files.source import SourceSpec


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
