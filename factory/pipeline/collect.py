"""What a pipeline would still ask and compute: found by running its steps against an engine that only takes notes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import FactoryError, InputError
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import BulkEngine, Pending
from factory.params import Params
from factory.pipeline.context import Context, call_step
from factory.pipeline.load import Pipeline
from factory.pipeline.steps import Step, make_step
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.llm.engines.base import Engine
    from factory.llm.ledger import Ledger
    from factory.llm.request import Request

NOBODY = {"kind": "recorded", "answers": "none"}
"""The engine of a pipeline that asks nobody."""
SMALL_FILE = 4 << 20
"""Bytes up to which a file beside a warehouse is copied for a plan; larger ones, and folders, are linked to."""


class Collector(BulkEngine):
    """Answers what its engine has recorded, and notes the rest as missing.

    Args:
        engine: Whose requests are noted.
        rough: Whether they are only counted. What is recorded is found by its content, so it is rendered with care all the same.

    Attributes:
        missing: The calls that were noted, by stage.
        most: The most answers that may be wanted in all where that is more than what is missing, by stage.
        supposed: The calls of later steps, as far as they can be told before the answers on which they depend, by stage.
        later: The asking steps that could not be rendered yet.
        compute: The steps that ask nothing and have something to do, in order.
    """

    def __init__(self, engine: Engine, *, rough: bool = False) -> None:
        recorded = engine.name == "recorded"
        super().__init__(engine.settings if recorded else engine.settings.model_copy(update={"missing": "stop"}))
        self.name = engine.name
        self.counting_only = rough and not recorded
        self._engine = engine
        self.missing: dict[str, list[Call]] = {}
        self.most: dict[str, int] = {}
        self.supposed: dict[str, list[Call]] = {}
        self.supposing = False
        self.later: list[str] = []
        self.compute: list[Step] = []

    def _find_model(self) -> str:
        return self._engine.model.name

    def arrived(self, requests: Sequence[Request], ledger: Ledger) -> None:
        """What came by file is there."""
        self._engine.arrived(requests, ledger)

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Answers that lie in a file, recorded or of a batch; everything else is `missing`."""
        if self._engine.name in ("recorded", "batch") and isinstance(self._engine, BulkEngine):
            yield from self._engine.answer(calls)
            return
        for call in calls:
            yield call, Reply({}, Fault("missing", "planned"))

    def pending(self, calls: list[Call], stage: str) -> Pending:
        """Note what is missing."""
        (self.supposed if self.supposing else self.missing).setdefault(stage, []).extend(calls)
        return Pending(f"{len(calls)} requests of `{stage}` are missing")

    def count_tokens(self, messages: Iterable[Mapping[str, str]]) -> int | None:
        """By the engine's own tokenizer, if that is available."""
        return self._engine.count_tokens(messages)


def collect(
    pipeline: Pipeline, warehouse: Warehouse, folder: Path, *, rough: bool = False, look: bool = False
) -> Collector:
    """Run a pipeline as far as its stored and recorded answers reach, noting what is missing.

    Of the steps that do not ask, those alone are done on which a later request depends: no label model, no student. Later
    asking steps are rendered too, unless they depend on what is missing.

    Args:
        pipeline: What is looked at; its plans are stored in `warehouse`.
        warehouse: Of the run, or a copy.
        rough: Whether the requests are only counted.
        look: Whether to note which of the other steps have something to do.
    """
    context = Context(pipeline.card, folder, pipeline.base, pipeline.engine or NOBODY)
    collector = Collector(context.engine(), rough=rough)
    context.asked = collector
    stopped = False
    try:
        for at, step in enumerate(pipeline.steps):
            if not step.asks and not _wanted(step, pipeline.steps[at + 1 :]):
                tunes = step.verb == "tune"
                if (look or tunes) and (stopped or collector.compute or _has_work(step, warehouse, context)):
                    collector.compute.append(step)
                    stopped |= tunes  # what an adapter answers is known after the training alone
                continue
            if stopped and (not step.asks or _depends_on_answers(step)):
                if step.asks:
                    collector.later.append(step.verb)
                    if rough:
                        _suppose(step, warehouse, context, collector)
                continue
            asked = replace(step, verb="author") if step.verb == "buy" else step  # its labels are asked once
            before = _samples(collector.missing.get(asked.verb, ()))
            try:
                call_step(step, warehouse, context)
            except Pending:
                stopped = True
                now = _samples(collector.missing.get(asked.verb, ())) - before
                collector.most[asked.verb] = collector.most.get(asked.verb, before) + most_answers(
                    asked, warehouse, now
                )
    finally:
        context.close()
    return collector


def twin_of(folder: Path, name: str, twin: Path) -> Warehouse:
    """A copy of a run's warehouse in another (empty) folder, with what lies beside it in reach: the run itself stays as it is."""
    real = folder / f"{name}.duckdb"
    if real.is_file():
        with Warehouse.open(real).read():
            shutil.copyfile(real, twin / real.name)
        for beside in folder.iterdir():
            place = twin / beside.name
            if beside.name.startswith(f"{name}.duckdb") or beside.name == "run.lock":
                continue
            if beside.is_file() and beside.stat().st_size <= SMALL_FILE:
                shutil.copyfile(beside, place)
            else:
                place.symlink_to(beside)
    return Warehouse.open(twin / real.name)


class _HasWork(Exception):
    """A step had something to do."""


def _has_work(step: Step, warehouse: Warehouse, context: Context) -> bool:
    """Whether a step that asks nothing has something to do, found by calling it up to where it begins."""

    def begin() -> None:
        raise _HasWork

    try:
        with warehouse.kept_open():
            step.stage.run(warehouse, step.params, replace(context.call(step.stage), begin=begin))
    except (_HasWork, FactoryError):  # or it needs what an earlier step makes
        return True
    return False


def _suppose(step: Step, warehouse: Warehouse, context: Context, collector: Collector) -> None:
    """Note what a step would ask if no answer were missing: by the untuned model, and of as many texts as it may ask."""
    params = {name: value for name, value in step.params.given().items() if name not in {"adapter", "texts"}}
    collector.supposing = True
    try:
        call_step(make_step(step.verb, params), warehouse, context)
    except (Pending, InputError):
        pass  # noted; or it needs what an earlier step makes, and stays unknown
    finally:
        collector.supposing = False


def _samples(calls: Iterable[Call]) -> int:
    return sum(call.n for call in calls)


def _wanted(step: Step, later: Iterable[Step]) -> bool:
    """Whether a step that asks nothing changes what a later one asks: texts do, and votes where they choose the texts."""
    if step.verb == "vote":
        return any(other.asks and _chosen_by_votes(other) for other in later)
    return step.verb == "ingest"


def _depends_on_answers(step: Step) -> bool:
    return _chosen_by_votes(step) or getattr(step.params, "adapter", None) is not None


def most_answers(step: Step, warehouse: Warehouse, missing: int) -> int:
    """The most answers that an asking step, run as far as its stored answers reach, may still take; at least what is missing now.

    `author` asks at most `candidates` programs with `repairs` each, `synthesize` at most `candidates` times `per_label` texts of
    every label and the checks of them; `annotate` asks what its plan says, and once more only what could not be read.
    """
    if step.verb == "annotate":
        return missing
    name = getattr(step.params, "name", None) or getattr(step.params, "method", None)
    found = warehouse.query(
        "SELECT plan_no, config FROM plans WHERE stage = ? AND NOT done AND (stage = 'author' OR config ->> 'name' = ?)"
        " ORDER BY plan_no DESC LIMIT 1",
        [step.verb, name],
    )
    if not found:
        return missing
    plan_no, config = int(found[0][0]), json.loads(found[0][1])
    if step.verb != "author":
        return max(missing, _most_of_synthesis(warehouse, plan_no, config, step.params))
    [(candidates, taken)] = warehouse.query(
        "SELECT (SELECT count(*) FROM slots WHERE plan_no = p.plan_no), (SELECT count(*) FROM answers JOIN requests r"
        " USING (request_key) WHERE r.stage = 'author' AND r.created_at >= p.created_at) FROM plans p WHERE plan_no = ?",
        [plan_no],
    )
    return max(missing, int(candidates) * (1 + int(config["repairs"])) + 2 * bool(config["knowledge"]) - int(taken))


def _most_of_synthesis(warehouse: Warehouse, plan_no: int, config: Mapping[str, Any], params: Params) -> int:
    from factory.synthesis.stage import SynthesizeParams
    from factory.synthesis.values import Goal

    assert isinstance(params, SynthesizeParams)
    goal = Goal(params.per_label, params.candidates)
    labels, samples = len(config["labels"]), int(config["check_samples"])
    decided: dict[str, int] = dict(
        warehouse.query(
            "SELECT spec ->> 'kind', count(*) FROM slots WHERE plan_no = ? AND state <> 'open' GROUP BY ALL", [plan_no]
        )
    )
    left: int = labels * math.ceil(goal.budget / int(config["texts_per_answer"])) - decided.get("write", 0)
    if config["label_check"] == "model":
        left += (labels * goal.budget - decided.get("check", 0)) * samples
    if config["attributes"] and not decided:
        left += 2 * labels
    return left


def _chosen_by_votes(step: Step) -> bool:
    """Whether votes choose the texts that a step asks about."""
    return (
        getattr(step.params, "texts", None) == "uncovered_or_tied" or getattr(step.params, "anchors", None) is not None
    )
