"""What a pipeline would still ask: collected by running its asking steps against an engine that only takes notes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.llm.engines.base import BulkEngine, Call, Fault, Pending, Reply
from factory.pipeline.bounds import most_answers
from factory.pipeline.load import ASKING, Pipeline, Step
from factory.pipeline.run import LINGER_S, call_step, refuse_to_do, still_to_do
from factory.pipeline.steps import Context
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.llm.engines.base import Engine
    from factory.llm.ledger import Ledger
    from factory.llm.request import Request


class Collector(BulkEngine):
    """Answers what its engine has recorded, and notes the rest as missing.

    Args:
        engine: Whose requests are noted.
        rough: Whether they are only counted. What is recorded is found by its content, so it is rendered with care all the same.

    Attributes:
        missing: The calls that were noted, by stage.
        most: The most answers that may be wanted in all where that is more than what is missing, by stage.
        supposed: The calls of later steps, as far as they can be told before the answers on which they hang, by stage.
    """

    def __init__(self, engine: Engine, *, rough: bool = False) -> None:
        recorded = engine.name == "recorded"
        super().__init__(engine.settings if recorded else engine.settings.model_copy(update={"missing": "stop"}))
        self.name = engine.name
        self.counting_only = rough and engine.name != "recorded"
        self._engine = engine
        self.missing: dict[str, list[Call]] = {}
        self.most: dict[str, int] = {}
        self.supposed: dict[str, list[Call]] = {}
        self.supposing = False

    def _find_model(self) -> str:
        return self._engine.model.name

    def arrived(self, requests: Sequence[Request], ledger: Ledger) -> None:
        """What came by file is there."""
        self._engine.arrived(requests, ledger)

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Recorded answers where there are any; everything else is `missing`."""
        if self._engine.name == "recorded" and isinstance(self._engine, BulkEngine):
            yield from self._engine.answer(calls)
            return
        for call in calls:
            yield call, Reply({}, Fault("missing", "planned"))

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """Note what is missing."""
        (self.supposed if self.supposing else self.missing).setdefault(stage, []).extend(calls)
        return Pending(f"{len(calls)} requests of `{stage}` are missing")

    def count_tokens(self, messages: Iterable[Mapping[str, str]]) -> int | None:
        """By the engine's own tokenizer, if it has one at hand."""
        return self._engine.count_tokens(messages)


def collect(
    pipeline: Pipeline, warehouse: Warehouse, folder: Path, *, beyond: bool, rough: bool = False
) -> tuple[Collector, list[str]]:
    """Run a pipeline as far as its stored and recorded answers reach, noting what is missing.

    Of the steps that do not ask, those alone are done on which a later request hangs: no label model, no student.

    Args:
        pipeline: From `load_pipeline`.
        warehouse: Its plans are stored here.
        folder: The run's folder.
        beyond: Also render the later asking steps that do not hang on what is missing.
        rough: Whether the requests are only counted.

    Returns:
        The collector, and the asking steps that could not be rendered yet.
    """
    context = Context(pipeline.card, folder, pipeline.base, pipeline.engine)
    collector = Collector(context.engine(), rough=rough)
    context.use(collector)
    stopped = False
    unknown: list[str] = []
    warehouse.linger_s = LINGER_S
    try:
        for step in pipeline.steps:
            if stopped and (step.verb not in ASKING or not beyond or _hangs_on_answers(step)):
                if step.verb in ASKING:
                    unknown.append(step.verb)
                    if rough:
                        _suppose(step, warehouse, context, collector)
                continue
            if step.verb == "tune":  # what an adapter answers is known after the training alone
                stopped = True
                continue
            if step.verb not in ASKING and not _wanted(step, _after(pipeline, step)):
                continue
            before = _samples(collector.missing.get(step.verb, ()))
            try:
                call_step(step, warehouse, context)
            except Pending:
                stopped = True
                now = _samples(collector.missing.get(step.verb, ())) - before
                most = collector.most.get(step.verb, before) + most_answers(step, warehouse, now)
                collector.most[step.verb] = most
    finally:
        context.close()
        warehouse.let_go()
    return collector, unknown


def _suppose(step: Step, warehouse: Warehouse, context: Context, collector: Collector) -> None:
    """Note what a step would ask if no answer were missing: by the untuned model, and of as many texts as it may ask."""
    params = {name: value for name, value in step.params.items() if name not in {"adapter", "texts"}}
    collector.supposing = True
    try:
        call_step(replace(step, params=params), warehouse, context)
    except (Pending, InputError):
        pass  # noted; or it needs what an earlier step makes, and stays unknown
    finally:
        collector.supposing = False


def _samples(calls: Iterable[Call]) -> int:
    return sum(call.n for call in calls)


def write_missing(pipeline: Pipeline, out: Path, *, folder: Path | None = None, beyond: bool = True) -> dict[str, Any]:
    """Write the requests that are missing as OpenAI batch JSONL.

    Args:
        pipeline: From `load_pipeline`.
        out: The file.
        folder: The run's folder; its warehouse is made or continued.
        beyond: Also render the later asking steps that do not hang on what is missing.

    Returns:
        `{"requests", "path", "stages": {stage: requests}, "later": [verbs]}`.

    Raises:
        InputError: Something is still to be filled in, as in `run`: such requests are not worth their answers.
    """
    from factory.llm.batch_files import write_calls

    refuse_to_do(pipeline)
    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    warehouse = Warehouse.open(folder / f"{pipeline.name}.duckdb")
    collector, unknown = collect(pipeline, warehouse, folder, beyond=beyond)
    calls = [call for stage in collector.missing.values() for call in stage]
    count = write_calls(out, calls, collector.settings) if calls else 0
    stages = {stage: len(found) for stage, found in collector.missing.items()}
    return {"requests": count, "path": str(out), "stages": stages, "later": unknown}


def plan_pipeline(pipeline: Pipeline, *, folder: Path | None = None) -> dict[str, Any]:
    """What a run would still ask, per stage: requests, tokens, cost and time, and one rendered prompt. Nothing is sent or stored.

    The steps run on a copy of the warehouse. Requests that can be rendered now are counted exactly: they are the lower ends
    of the ranges. The upper ends allow for all repairs and topping up within the bounds of each step, and for answers as
    long as they may be. Steps that hang on answers still missing are named under `later`, with ranges from 0 where it can be told
    how many texts they may ask. Passages that will be rewritten are dealt out instead of searched for, which would embed the
    corpus: their tokens are near to those of a run.

    Returns:
        `{"pipeline", "stages": [...], "later": [...], "to_do": [...]}`. Each of `stages` is `{"stage", "prompt"}` and what
        `factory.llm.estimate.estimate` gives; each of `later` is `{"step"}` and the same, without a prompt, or `{"step"}` alone.
    """
    from factory.llm.estimate import estimate
    from factory.llm.journal import journals

    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    real = folder / f"{pipeline.name}.duckdb"
    with tempfile.TemporaryDirectory(prefix="factory-plan-") as temporary:
        copy = Path(temporary) / real.name
        if real.is_file():
            with Warehouse.open(real).read():
                shutil.copyfile(real, copy)
            for journal in journals(real.with_suffix(".inflight")):  # what a killed run was told and did not store
                shutil.copyfile(journal, copy.parent / journal.name)
        collector, unknown = collect(pipeline, Warehouse.open(copy), Path(temporary), beyond=True, rough=True)
        stages = []
        for stage, calls in collector.missing.items():
            told = estimate(calls, collector, most=collector.most.get(stage))
            stages.append({"stage": stage, **told, "prompt": [dict(m) for m in calls[0].request.messages]})
        later: list[dict[str, Any]] = []
        for verb in dict.fromkeys(unknown):
            supposed = collector.supposed.get(verb)
            told = {} if supposed is None else {**estimate(supposed, collector, least=0), "requests": 0}
            later.append({"step": verb, **told})
    return {"pipeline": pipeline.name, "stages": stages, "later": later, "to_do": list(still_to_do(pipeline))}


def check_pipeline_engine(pipeline: Pipeline) -> dict[str, Any]:
    """Ask the engine a few of each kind of request the pipeline makes; where answers come from files, tell which are missing.

    Returns:
        `{"ok", "checks": [{"kind", "ok", "detail"}]}`.
    """
    from factory.llm.check import check_engine

    context = Context(pipeline.card, Path.cwd(), pipeline.base, pipeline.engine)
    try:
        engine = context.engine()
        if engine.name in {"recorded", "batch"}:
            checks = _checks_of_files(engine.name, *_all_missing(pipeline))
            return {"ok": all(check["ok"] for check in checks), "checks": checks}
        return dict(check_engine(engine, lambda: _calls(_all_missing(pipeline)[0]), _judge(pipeline)))
    finally:
        context.close()


def _all_missing(pipeline: Pipeline) -> tuple[Mapping[str, list[Call]], list[str]]:
    """What a pipeline would ask from its beginning, by stage, and the steps that cannot be rendered yet."""
    with tempfile.TemporaryDirectory(prefix="factory-check-") as temporary:
        warehouse = Warehouse.open(Path(temporary) / f"{pipeline.name}.duckdb")
        collector, later = collect(pipeline, warehouse, Path(temporary), beyond=True, rough=True)
    return collector.missing, later


def _calls(missing: Mapping[str, list[Call]]) -> list[Call]:
    return [call for calls in missing.values() for call in calls]


def _judge(pipeline: Pipeline) -> Callable[[Request, str], None]:
    """Reads an answer by the parser of its prompt."""
    from factory import prompts

    def judge(request: Request, text: str) -> None:
        prompts.load(request.prompt).parse(text, labels=pipeline.card.label_names)

    return judge


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


def _wanted(step: Step, later: Iterable[Step]) -> bool:
    """Whether a step that asks nothing changes what a later one asks: texts do, and votes where they choose the texts."""
    asking = [other for other in later if other.verb in ASKING]
    if step.verb == "vote":
        return any(other.params.get("texts") == "uncovered_or_tied" for other in asking)
    return step.verb == "ingest" and bool(asking)


def _hangs_on_answers(step: Step) -> bool:
    return step.params.get("texts") == "uncovered_or_tied" or step.params.get("adapter") is not None
