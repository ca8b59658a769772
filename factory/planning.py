"""What a pipeline would still ask: collected by running its asking steps against an engine that only takes notes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.llm.engines.base import BulkEngine, Call, Fault, Pending, Reply
from factory.pipeline import ASKING, Pipeline, Step
from factory.run import call_step
from factory.steps import Context
from factory.warehouse import Warehouse

if TYPE_CHECKING:
    from factory.llm.engines.base import Engine


class Collector(BulkEngine):
    """Answers what its engine has recorded, and notes the rest as missing.

    Attributes:
        missing: The calls that were noted, by stage.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.settings)
        self.name = engine.name
        self._engine = engine
        self.missing: dict[str, list[Call]] = {}

    def _find_model(self) -> str:
        return self._engine.model.name

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Recorded answers where there are any; everything else is `missing`."""
        if self._engine.name == "recorded" and isinstance(self._engine, BulkEngine):
            yield from self._engine.answer(calls)
            return
        for call in calls:
            yield call, Reply({}, Fault("missing", "planned"))

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """Note what is missing."""
        self.missing.setdefault(stage, []).extend(calls)
        return Pending(f"{len(calls)} requests of `{stage}` are missing")

    def count_tokens(self, messages: Iterable[Mapping[str, str]]) -> int | None:
        """By the engine's own tokenizer, if it has one at hand."""
        return self._engine.count_tokens(messages)


def collect(pipeline: Pipeline, warehouse: Warehouse, folder: Path, *, beyond: bool) -> tuple[Collector, list[str]]:
    """Run a pipeline as far as its stored and recorded answers reach, noting what is missing.

    Args:
        pipeline: From `load_pipeline`.
        warehouse: Its plans are stored here.
        folder: The run's folder.
        beyond: Also render the later asking steps that do not hang on what is missing.

    Returns:
        The collector, and the asking steps that could not be rendered yet.
    """
    context = Context(pipeline.card, folder, pipeline.base, pipeline.engine)
    collector = Collector(context.engine())
    context.use(collector)
    stopped = False
    unknown: list[str] = []
    try:
        for step in pipeline.steps:
            if stopped and (step.verb not in ASKING or not beyond or _hangs_on_votes(step)):
                if step.verb in ASKING:
                    unknown.append(step.verb)
                continue
            if step.verb == "tune":  # what an adapter answers is known after the training alone
                stopped = True
                continue
            if step.verb not in ASKING and not any(later.verb in ASKING for later in _after(pipeline, step)):
                continue
            try:
                call_step(step, warehouse, context)
            except Pending:
                stopped = True
    finally:
        context.close()
    return collector, unknown


def write_missing(pipeline: Pipeline, out: Path, *, folder: Path | None = None, beyond: bool = True) -> dict[str, Any]:
    """Write the requests that are missing as OpenAI batch JSONL.

    Args:
        pipeline: From `load_pipeline`.
        out: The file.
        folder: The run's folder; its warehouse is made or continued.
        beyond: Also render the later asking steps that do not hang on what is missing.

    Returns:
        `{"requests", "path", "stages": {stage: requests}, "later": [verbs]}`.
    """
    from factory.llm.batchfile import write_calls

    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    warehouse = Warehouse.open(folder / f"{pipeline.name}.duckdb")
    collector, unknown = collect(pipeline, warehouse, folder, beyond=beyond)
    calls = [call for stage in collector.missing.values() for call in stage]
    count = write_calls(out, calls, collector.settings) if calls else 0
    stages = {stage: len(found) for stage, found in collector.missing.items()}
    return {"requests": count, "path": str(out), "stages": stages, "later": unknown}


def plan_pipeline(pipeline: Pipeline, *, folder: Path | None = None) -> dict[str, Any]:
    """What a run would still ask, per stage: requests, tokens, cost and time, and one rendered prompt. Nothing is sent or stored.

    The steps run on a copy of the warehouse. Requests that can be rendered now are counted exactly; repairs and
    topping up add to them, so the upper ends of the ranges allow for one repetition of each; steps that hang on answers
    still missing are named under `later`.
    """
    from factory.llm.plan import estimate

    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    real = folder / f"{pipeline.name}.duckdb"
    with tempfile.TemporaryDirectory(prefix="factory-plan-") as temporary:
        copy = Path(temporary) / real.name
        if real.is_file():
            with Warehouse.open(real).read():
                shutil.copyfile(real, copy)
        collector, unknown = collect(pipeline, Warehouse.open(copy), Path(temporary), beyond=True)
        stages = []
        for stage, calls in collector.missing.items():
            stages.append(
                {"stage": stage, **estimate(calls, collector), "prompt": [dict(m) for m in calls[0].request.messages]}
            )
    return {"pipeline": pipeline.name, "stages": stages, "later": unknown}


def check_pipeline_engine(pipeline: Pipeline) -> dict[str, Any]:
    """Ask the engine one of each kind of request the pipeline makes; where answers come from files, tell which are missing.

    Returns:
        `{"ok", "checks": [{"kind", "ok", "detail"}]}`.
    """
    from factory.llm.check import check_engine

    with tempfile.TemporaryDirectory(prefix="factory-check-") as temporary:
        warehouse = Warehouse.open(Path(temporary) / f"{pipeline.name}.duckdb")
        collector, later = collect(pipeline, warehouse, Path(temporary), beyond=True)
        calls = [call for found in collector.missing.values() for call in found]
    context = Context(pipeline.card, Path.cwd(), pipeline.base, pipeline.engine)
    try:
        engine = context.engine()
        if engine.name in {"recorded", "batch"}:
            checks = _checks_of_files(engine.name, collector.missing, later)
            return {"ok": all(check["ok"] for check in checks), "checks": checks}
        return dict(check_engine(engine, [call.request for call in calls]))
    finally:
        context.close()


def _checks_of_files(kind: str, missing: Mapping[str, list[Call]], later: list[str]) -> list[dict[str, Any]]:
    """What an engine that reads its answers from files lacks, by stage."""
    checks: list[dict[str, Any]] = []
    for stage, calls in missing.items():
        n = sum(call.n for call in calls)
        names = ", ".join(sorted({call.request.prompt for call in calls}))
        detail = f"{n} answers are not recorded ({names}): `factory batch write` writes their requests"
        if kind == "batch":
            detail = f"{n} answers to come by file ({names}): nothing can be tried before"
        checks.append({"kind": stage, "ok": kind == "batch", "detail": detail})
    if not checks:
        detail = "every request that can be rendered now has its recorded answer"
        checks.append({"kind": kind, "ok": True, "detail": detail})
    checks += [{"kind": verb, "ok": True, "detail": "hangs on answers that are still missing"} for verb in later]
    return checks


def _after(pipeline: Pipeline, step: Step) -> tuple[Step, ...]:
    at = next(number for number, other in enumerate(pipeline.steps) if other is step)
    return pipeline.steps[at + 1 :]


def _hangs_on_votes(step: Step) -> bool:
    return step.params.get("texts") == "uncovered_or_tied" or step.params.get("adapter") is not None
