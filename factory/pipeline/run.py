"""Running a pipeline: the steps in order, each skipped when what it would do is done, with what it did on record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from factory.cluster.spreading import on_ray
from factory.errors import InputError
from factory.extras import need
from factory.llm.engines.base import Pending
from factory.pipeline.context import Context, call_step
from factory.pipeline.load import Pipeline, refuse_to_do
from factory.pipeline.lock import alone_in
from factory.pipeline.missing import write_all
from factory.pipeline.steps import Step
from factory.result import Progress, StageResult, no_progress
from factory.warehouse.file import Warehouse, next_no


@dataclass(frozen=True)
class RunResult:
    """What a run did.

    Attributes:
        name: The pipeline's name.
        warehouse: The warehouse file.
        steps: The result of every step, in order.
        nothing_to_do: True when every step was done already.
        export: The exported model's folder, or None.
        report: The report's HTML page, or None.
        evaluation: `{metric, split, n, systems: {...}}`, or None; each system's `ci95` is the interval of its `metric`.
    """

    name: str
    warehouse: Path | None
    steps: tuple[StageResult, ...]
    nothing_to_do: bool
    export: Path | None
    report: Path | None
    evaluation: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """The object that `factory run --json` prints."""
        steps = [{"stage": step.stage, "skipped": step.skipped, **step.did} for step in self.steps]
        return {
            "pipeline": self.name, "warehouse": self.warehouse and str(self.warehouse), "nothing_to_do": self.nothing_to_do,
            "steps": steps, "report": self.report and str(self.report), "export": self.export and str(self.export),
            "evaluation": self.evaluation,
        }  # fmt: skip


def run_pipeline(
    pipeline: Pipeline, *, folder: Path | None = None, warehouse: Warehouse | None = None, only: Sequence[str] = (),
    budget: str | None = None, alone: bool = True, progress: Callable[[Step, int, int], Progress] | None = None,
    told: Callable[[Step, StageResult], None] | None = None,
) -> RunResult:  # fmt: skip
    """Run a pipeline's steps in order.

    Every step looks into the warehouse for what is done already, does the rest, and commits as it goes: a run that was
    killed is continued by calling this again.

    Args:
        folder: The run's folder; `factory-runs/NAME` in the working folder by default.
        warehouse: Use this warehouse instead of the folder's own.
        only: Names of steps; others are left out.
        budget: Overrides the pipeline's.
        alone: Whether another run in the warehouse's folder is a reason to refuse: both would do, and pay for, the same.
        progress: Makes a progress callback for a step `(step, its number, number of steps)`.
        told: Called after each step with its result.

    Raises:
        InputError: Another run is at work there.
        FactoryError: Whatever a step says; what was done before it stands.
    """
    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    place = folder if warehouse is None else warehouse.folder
    spread = on_ray(pipeline.cluster) if pipeline.cluster is not None else nullcontext()
    with spread, alone_in(place) if alone else nullcontext():
        if warehouse is None:
            warehouse = Warehouse.open(folder / f"{pipeline.name}.duckdb")
        context = Context(pipeline.card, folder, pipeline.base, pipeline.engine, budget or pipeline.budget)
        return _run_steps(pipeline, warehouse, context, only, progress, told)


def _run_steps(
    pipeline: Pipeline, warehouse: Warehouse, context: Context, only: Sequence[str],
    progress: Callable[[Step, int, int], Progress] | None, told: Callable[[Step, StageResult], None] | None,
) -> RunResult:  # fmt: skip
    context.spending()  # a budget that cannot be read is said before anything is done
    steps = [step for step in pipeline.steps if not only or step.verb in only]
    unknown = [verb for verb in only if verb not in {step.verb for step in pipeline.steps}]
    if unknown:
        raise InputError(f"the pipeline has no step `{unknown[0]}`", where=pipeline.path)
    if any(step.asks for step in steps):
        refuse_to_do(pipeline)
    for step in steps:  # said before anything is asked or paid for
        for package, what in step.params.extras().items():
            need(package, what)
    results: list[StageResult] = []
    run_no: int | None = None
    try:
        for number, step in enumerate(steps):
            started = datetime.now()
            callback = progress(step, number, len(steps)) if progress else no_progress
            result = call_step(step, warehouse, context, callback)
            results.append(result)
            if not result.skipped:
                run_no = _record(warehouse, run_no, pipeline, number, result, started)
            if told:
                told(step, result)
    except BaseException as stop:
        _end(warehouse, run_no, "stopped")
        if isinstance(stop, Pending) and (pipeline.engine or {}).get("kind") == "batch":
            raise write_all(replace(pipeline, steps=tuple(steps)), warehouse, context, stop) from None
        raise
    finally:
        context.close()
    _end(warehouse, run_no, "finished")
    return RunResult(
        pipeline.name, warehouse.path, tuple(results), all(result.skipped for result in results),
        _path(results, "export"), _path(results, "report"), _evaluation(warehouse, pipeline),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------
def _record(
    warehouse: Warehouse, run_no: int | None, pipeline: Pipeline, number: int, result: StageResult, started: datetime
) -> int:
    with warehouse.lease() as db:
        if run_no is None:
            run_no = next_no(db, "runs", "run_no")
            config = _json({
                "file": pipeline.path and str(pipeline.path), "variables": dict(pipeline.variables),
                "steps": [{step.verb: step.params.given()} for step in pipeline.steps],
            })  # fmt: skip
            db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, NULL, 'running')", [run_no, pipeline.name, config, started]
            )
        row = [run_no, number, result.stage, result.skipped, _json(dict(result.did)), started, datetime.now()]
        db.execute("INSERT INTO stage_runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return run_no


def _end(warehouse: Warehouse, run_no: int | None, status: str) -> None:
    if run_no is not None:
        with warehouse.lease() as db:
            db.execute("UPDATE runs SET ended_at = ?, status = ? WHERE run_no = ?", [datetime.now(), status, run_no])


def _path(results: Sequence[StageResult], stage: str) -> Path | None:
    paths = [result.did.get("path") for result in results if result.stage == stage]
    return Path(paths[-1]) if paths and paths[-1] else None


def _evaluation(warehouse: Warehouse, pipeline: Pipeline) -> Mapping[str, Any] | None:
    if not any(step.verb == "evaluate" for step in pipeline.steps):
        return None
    from factory.evaluation.record import summary

    found = summary(warehouse)
    metric = "micro_f1" if pipeline.card.kind == "multi" else "accuracy"
    return None if found is None else {"metric": metric, **{key: found[key] for key in ("split", "n", "systems")}}


def _json(value: Any) -> str:
    """As JSON: models become mappings, paths become text."""
    return json.dumps(to_jsonable_python(value, fallback=str))
