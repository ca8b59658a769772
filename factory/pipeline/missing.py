"""Requests that are missing, as a file or as a check: what `factory batch write` and `factory engine check` do."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.llm.batch_files import write_calls
from factory.llm.calls import Call
from factory.llm.engines.base import BY_FILE, Pending
from factory.llm.engines.batch import BatchEngine
from factory.llm.request import Request
from factory.pipeline.collect import Collector, collect
from factory.pipeline.context import Context
from factory.pipeline.load import Pipeline, refuse_to_do
from factory.pipeline.lock import alone_in
from factory.warehouse.file import Warehouse


def write_missing(pipeline: Pipeline, out: Path, *, folder: Path | None = None) -> dict[str, Any]:
    """Write the requests of all stages that are missing as OpenAI batch JSONL.

    Args:
        out: The file.
        folder: The run's folder; its warehouse is made or continued.

    Returns:
        `{"requests", "path", "stages": {stage: requests}, "later": [verbs]}`.

    Raises:
        InputError: Something is still to be filled in, as in `run`: such requests are not worth their answers. Or another
            process is at work there.
    """
    refuse_to_do(pipeline)
    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    with alone_in(folder):
        collector = collect(pipeline, Warehouse.open(folder / f"{pipeline.name}.duckdb"), folder)
    calls = [call for stage in collector.missing.values() for call in stage]
    count = write_calls(out, calls, collector.settings) if calls else 0
    stages = {stage: len(found) for stage, found in collector.missing.items()}
    return {"requests": count, "path": str(out), "stages": stages, "later": collector.later}


def write_all(pipeline: Pipeline, warehouse: Warehouse, context: Context, first: Pending) -> Pending:
    """After a step of an engine by file stopped a run: add to its requests those of all later steps that can be rendered now.

    Returns:
        What the first step said, which has written its own requests, or what to say of all of them.
    """
    engine = context.engine()
    if not isinstance(engine, BatchEngine):
        return first  # a hosted batch holds what one step asks
    found = collect(pipeline, warehouse, context.folder).missing
    if len(found) < 2:
        return first
    every = [call for calls in found.values() for call in calls]
    write_calls(engine.requests_path, every, engine.settings)
    told = [f"{len(calls)} of `{stage}`" for stage, calls in found.items()]
    words = f"{', '.join(told[:-1])} and {told[-1]}"
    return Pending(
        f"{len(every)} requests are to be answered ({words}), all written to {engine.requests_path}{engine.came_back(every)}",
        fix=first.fix,
    )


def check_pipeline_engine(pipeline: Pipeline) -> dict[str, Any]:
    """Ask the engine a few of each kind of request the pipeline makes; where answers come from files, tell which are missing.

    Returns:
        `{"ok", "checks": [{"kind", "ok", "detail"}]}`.
    """
    from factory import prompts
    from factory.llm.check import check_engine

    context = Context(pipeline.card, Path.cwd(), pipeline.base, pipeline.engine)
    try:
        engine = context.engine()
        if engine.name in BY_FILE:
            checks = _checks_of_files(engine.name, _all_missing(pipeline))
            return {"ok": all(check["ok"] for check in checks), "checks": checks}

        def judge(request: Request, text: str) -> None:
            prompts.load(request.prompt).parse(text, labels=pipeline.card.label_names)

        def missing() -> Sequence[Call]:
            return [call for calls in _all_missing(pipeline).missing.values() for call in calls]

        return dict(check_engine(engine, missing, judge))
    finally:
        context.close()


def _all_missing(pipeline: Pipeline) -> Collector:
    """What a pipeline would ask from its beginning."""
    with tempfile.TemporaryDirectory(prefix="factory-check-") as temporary:
        warehouse = Warehouse.open(Path(temporary) / f"{pipeline.name}.duckdb")
        return collect(pipeline, warehouse, Path(temporary), rough=True)


def _checks_of_files(kind: str, found: Collector) -> list[dict[str, Any]]:
    """What an engine that reads its answers from files lacks, by stage."""
    checks: list[dict[str, Any]] = []
    for stage, calls in found.missing.items():
        n = sum(call.n for call in calls)
        names = ", ".join(sorted({call.request.prompt for call in calls}))
        detail = f"{n} answers are not recorded ({names}): `factory batch write` writes their requests"
        if kind != "recorded":
            detail = f"{n} answers to come by {'batch' if kind == 'hosted' else 'file'} ({names}): nothing can be tried before"
        checks.append({"kind": stage, "ok": kind != "recorded", "detail": detail})
    checks = checks or [
        {"kind": kind, "ok": True, "detail": "every request that can be rendered now has its recorded answer"}
    ]
    later = "depends on answers that are still missing"
    return [*checks, *({"kind": verb, "ok": True, "detail": later} for verb in found.later)]
