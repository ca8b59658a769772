"""What a run would still ask and compute, what it would cost, and what would be cheaper: `factory plan`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from factory.llm.engines.base import Pending
from factory.pipeline.collect import Collector, collect, twin_of
from factory.pipeline.context import Context, call_step
from factory.pipeline.forecast import forecast
from factory.pipeline.load import Pipeline, still_to_do
from factory.pipeline.scale import plan_at_scale
from factory.pipeline.steps import make_step
from factory.revision import card_of, change_of
from factory.task import TaskCard
from factory.warehouse.file import Warehouse
from factory.warehouse.tables.programs import accepted

SAMPLE = 50
"""Training texts whose labelling is priced."""
REPLACED = ("author", "synthesize")
"""Steps that need not be asked where the model labels the texts itself."""


def plan_pipeline(
    pipeline: Pipeline, *, folder: Path | None = None, texts: int | None = None, nodes: int = 1
) -> dict[str, Any]:
    """What a run would still ask, per stage, and compute: requests, tokens, cost and time, and one rendered prompt.

    Nothing is sent or stored: the steps run on a copy of the warehouse. Requests that can be rendered now are counted exactly:
    they are the lower ends of the ranges. The upper ends allow for all repairs and topping up within the bounds of each step,
    and for answers as long as they may be. Steps that depend on answers still missing are named under `later`, with ranges from
    0 where it can be told how many texts they may ask. Passages that will be rewritten are dealt out instead of searched for,
    which would embed the corpus: their tokens are near to those of a run.

    Args:
        pipeline: What is planned.
        folder: The run's folder.
        texts: How many texts there will be, and on how many `nodes`: told as `scale`, as `plan_at_scale` gives it.
        nodes: See `texts`.

    Returns:
        `{"pipeline", "stages": [...], "later": [...], "to_do": [...], "compute": {...}, "direct": {...} or None, "buys": {...} or
        None}`, the last what the step `buy` would buy first, its price, and when it would stop. Each of
        `stages` is `{"stage", "prompt"}` and what `factory.llm.estimate.estimate` gives; each of `later` is `{"step"}` and the
        same, without a prompt, or `{"step"}` alone; `compute` is what `forecast` gives; `direct` what labelling every training
        text by the model takes: `{"texts", "tokens", "instead"}`, both in tokens, the latter as a range; `change`, where the card
        is another than that of the last run, what it touches: `{"words", "labels": [kept, again], "programs": [kept, again]}`.

    Raises:
        InputError: With `texts`, no step has run yet.
    """
    from factory.llm.estimate import estimate

    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    with tempfile.TemporaryDirectory(prefix="factory-plan-") as temporary:
        warehouse = twin_of(folder, pipeline.name, Path(temporary))
        # before anything is planned in it: what ran and what it took
        scale: dict[str, Any] = {} if texts is None else {"scale": plan_at_scale(pipeline, warehouse, texts, nodes)}
        before = card_before(warehouse, pipeline.card)
        collector = collect(pipeline, warehouse, Path(temporary), rough=True, look=True)
        stages = []
        for stage, calls in collector.missing.items():
            told = estimate(calls, collector, most=collector.most.get(stage))
            stages.append({"stage": stage, **told, "prompt": [dict(m) for m in calls[0].request.messages]})
        later: list[dict[str, Any]] = []
        for verb in dict.fromkeys(collector.later):
            supposed = collector.supposed.get(verb)
            told = {} if supposed is None else {**estimate(supposed, collector, least=0), "requests": 0}
            later.append({"step": verb, **told})
        return {
            "pipeline": pipeline.name, "stages": stages, "later": later, "to_do": list(still_to_do(pipeline)),
            "compute": forecast(pipeline, collector.compute, warehouse),
            "change": None if before is None else _change(warehouse, before, pipeline.card),
            "direct": _direct(pipeline, warehouse, Path(temporary), stages),
            "buys": _buys(pipeline, warehouse, Path(temporary)), **scale,
        }  # fmt: skip


def _buys(pipeline: Pipeline, warehouse: Warehouse, folder: Path) -> dict[str, Any] | None:
    """What the step `buy` is going to do, or how far it is."""
    step = next((step for step in pipeline.steps if step.verb == "buy"), None)
    if step is None:
        return None
    from factory.pipeline.auto.params import BuyParams
    from factory.pipeline.auto.stage import forecast_of

    assert isinstance(step.params, BuyParams)
    context = Context(pipeline.card, folder, pipeline.base, pipeline.engine, pipeline.budget)
    return forecast_of(warehouse, step.params, context.call(step.stage))


def card_before(warehouse: Warehouse, card: TaskCard) -> TaskCard | None:
    """The card by which the model was asked last, or the newest there is, if it is another one."""
    revision = warehouse.scalar(
        "SELECT task_revision FROM plans WHERE task_revision IS NOT NULL ORDER BY plan_no DESC LIMIT 1"
    )
    revision = revision or warehouse.scalar("SELECT revision FROM tasks ORDER BY task_no DESC LIMIT 1")
    return None if revision in (None, card.revision) else card_of(warehouse, revision)


def _change(warehouse: Warehouse, before: TaskCard, card: TaskCard) -> dict[str, Any]:
    """What a change of the card touches: labels of the model and programs that stay, and those that are asked again."""
    [(kept, again)] = warehouse.query(
        "SELECT count(*) FILTER (WHERE state = 'accepted'), count(*) FILTER (WHERE state = 'open') FROM slots"
        " JOIN plans USING (plan_no) WHERE stage = 'annotate' AND task_revision = ?",
        [card.revision],
    )
    change, written = change_of(before, card), accepted(warehouse)
    plans = [
        json.loads(config)
        for (config,) in warehouse.query(
            "SELECT config FROM plans WHERE stage = 'author' AND task_revision = ?", [card.revision]
        )
    ]
    replaced = {number for config in plans for number in config.get("renews", {}).get("programs", ())}
    mine = [one.number for one in written if one.origin == "model" and one.kind != "prompted"]
    return {
        "words": change.words, "labels": [int(kept), int(again)],
        "programs": [len(mine) - len(replaced), len(mine) if change.whole else len(replaced)],
    }  # fmt: skip


def _direct(
    pipeline: Pipeline, warehouse: Warehouse, folder: Path, stages: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """What it would take to let the model label every training text, and what programs and synthetic texts take instead."""
    from factory.llm.estimate import prompt_tokens, shortest

    replaced = [stage for stage in stages if stage["stage"] in REPLACED]
    if not any(stage["stage"] == "author" for stage in replaced):
        return None
    context = Context(pipeline.card, folder, pipeline.base, pipeline.engine)
    noted = Collector(context.engine(), rough=True)
    context.asked = noted
    with suppress(Pending):
        call_step(make_step("annotate", {"split": "train", "limit": SAMPLE}), warehouse, context)
    calls = noted.missing.get("annotate", [])
    texts = int(warehouse.scalar("SELECT count(*) FROM split_texts WHERE split = 'train'"))
    if not calls:
        return None
    tokens_in, _ = prompt_tokens(calls, noted.count_tokens)
    each = (tokens_in + sum(shortest(call) for call in calls)) / len(calls)
    instead = [sum(stage[kind][end] for stage in replaced for kind in ("tokens_in", "tokens_out")) for end in (0, 1)]
    return {"texts": texts, "tokens": round(texts * each), "instead": instead}
