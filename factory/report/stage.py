"""The step `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from factory.params import Call, Params, stage
from factory.report import page
from factory.result import StageResult

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


class ReportParams(Params):
    """The parameters of `report`."""

    path: Path = Field(Path("report"), description="Relative to the run's folder, without a suffix.")


@stage("report", ReportParams, second="path")
def report(warehouse: Warehouse, params: ReportParams, call: Call) -> StageResult:
    """Write the report: `PATH.html` and its Markdown twin `PATH.md`, unless they say so already.

    Raises:
        InputError: The warehouse has no task yet.
        WarehouseError: The place cannot be written.
    """
    call.begin()
    return page.write(warehouse, (call.folder or Path()) / params.path)
