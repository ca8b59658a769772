"""A program's repair, asked of a pipeline's engine: by texts that the program gets wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from factory.pipeline.context import Context
from factory.pipeline.lock import alone_in
from factory.pipeline.place import place_of
from factory.programs.author.repair import repair_program
from factory.programs.sandbox.host.pool import Sandbox
from factory.result import Progress, StageResult, no_progress
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.pipeline.load import Pipeline


def repair(
    pipeline: Pipeline, program_no: int, texts: Mapping[int, str | None], *, folder: Path | None = None,
    budget: str | None = None, sandbox: Sandbox = "kernel", progress: Progress = no_progress,
) -> StageResult:  # fmt: skip
    """Have the engine of a pipeline repair a program of its run: see `factory.programs.author.repair.repair_program`.

    Raises:
        InputError: Another process is at work on the run, or there is no such program or text.
        Unanswered: There is no answer yet. Run again.
    """
    from factory.llm import Asker

    place = place_of(pipeline.path or pipeline.base, folder)
    with alone_in(place.folder):
        warehouse = Warehouse.open(place.warehouse)
        context = Context(pipeline.card, place.folder, pipeline.base, pipeline.engine, budget or pipeline.budget)
        try:
            asker = Asker(warehouse, context.engine(), "author", context.spending(), progress)
            return repair_program(asker, program_no, texts, sandbox=sandbox)
        finally:
            context.close()
