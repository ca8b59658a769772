"""Where a run is: what a person may name (a pipeline, a run's folder, a warehouse file, a folder with a pipeline in it)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from factory.errors import InputError

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

USUAL = "pipeline.yaml"
"""The pipeline of a folder, as `factory init` writes it."""


@dataclass(frozen=True)
class Place:
    """Where a run is, or will be.

    Attributes:
        pipeline: Its pipeline file, where the argument tells.
        warehouse: The warehouse file, whether it is there or not.
    """

    pipeline: Path | None
    warehouse: Path

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.warehouse.parent


def runs_here() -> list[Path]:
    """The runs under `factory-runs/` of the working folder, the one that was written last first."""
    found: dict[Path, float] = {}
    for file in Path("factory-runs").glob("*/*.duckdb"):
        if not file.name.endswith(".gold.duckdb"):
            found[file.parent] = max(file.stat().st_mtime, found.get(file.parent, 0.0))
    return sorted(found, key=lambda run: (-found[run], run))


def place_of(source: Path, folder: Path | None = None) -> Place:
    """The place that an argument means: a `.duckdb` file, a run's folder, a folder with `pipeline.yaml`, or a pipeline.

    Args:
        source: The argument.
        folder: The run's folder, where the argument is a pipeline; `factory-runs/NAME` otherwise: in the working folder, or
            beside the pipeline where its folder was named.

    Raises:
        InputError: A folder without a run, or with several; or no such pipeline.
    """
    if source.suffix == ".duckdb":
        return Place(None, source)
    if not source.is_dir():
        return _of_pipeline(source, folder, Path("factory-runs"))
    found = [file for file in sorted(source.glob("*.duckdb")) if not file.name.endswith(".gold.duckdb")]
    if len(found) == 1:
        return Place(None, found[0])
    if not found and (source / USUAL).is_file():
        return _of_pipeline(source / USUAL, folder, source / "factory-runs")
    runs = ", ".join(str(run) for run in runs_here()[:5])
    fix = f"Name a run's folder: {runs}" if runs else "Run a pipeline first: factory run quickstart"
    fix = "Name the .duckdb file itself" if found else fix
    raise InputError(f"the folder holds {len(found)} warehouses", where=source, fix=fix)


def pipeline_of(warehouse: Warehouse) -> tuple[Path | None, dict[str, str]]:
    """The pipeline file that a warehouse was last run by, if it is still there, and the values of its variables."""
    rows = warehouse.query("SELECT config::VARCHAR FROM runs ORDER BY run_no DESC LIMIT 1")
    told = json.loads(rows[0][0]) if rows else None
    if not isinstance(told, dict) or not told.get("file"):
        return None, {}
    path = Path(told["file"])
    return (path if path.is_file() else None), dict(told.get("variables") or {})


def _of_pipeline(source: Path, folder: Path | None, runs: Path) -> Place:
    from factory.pipeline.load import find_pipeline, run_name

    path = find_pipeline(source)
    name = run_name(path)
    return Place(path, (folder or runs / name) / f"{name}.duckdb")
