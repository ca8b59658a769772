"""Pipelines on real vLLM: the smoke pipeline from end to end, and the requests of every ready pipeline."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.llm import Answer, Ask, EngineSettings, Pending, Request, ask, make_engine
from factory.llm.calls import Call, Reply
from factory.llm.check import problem_with
from factory.llm.engines.base import BulkEngine, Engine
from factory.llm.request import estimate_prompt_tokens
from factory.pipeline.context import Context
from factory.pipeline.load import load_pipeline
from factory.pipeline.run import call_step, run_pipeline
from factory.resources import shipped
from factory.warehouse.file import Warehouse
from tests.models import has_model

pytestmark = pytest.mark.vllm
EACH = 12
"""Requests of each prompt that are sent for real: the longest ones and as many others."""

READY = sorted(
    path.stem for path in shipped("pipelines").glob("*.yaml") if path.stem != "vllm_smoke" and path.stem[:5] != "live_"
)
USUAL = {("quickstart", True)}
"""The others ask by the same prompts and take minutes: they run with LABEL_FACTORY_EVERY_PIPELINE=1, each on a few hundred of its
texts, the longest among them."""

LONGEST, OTHERS = 200, 600
"""So many texts of each file."""


@pytest.mark.slow
def test_every_stage_runs_on_vllm_and_a_second_run_sends_nothing(vllm_server, tmp_path: Path) -> None:
    if has_model("smollm2") and not os.environ.get("LABEL_FACTORY_EVERY_PIPELINE"):
        pytest.skip(
            "test_real_model.py does so on a real model: set LABEL_FACTORY_EVERY_PIPELINE=1 for a random one too"
        )
    pipeline = load_pipeline("vllm_smoke", {"url": vllm_server.url})
    first = run_pipeline(pipeline, folder=tmp_path)
    assert first.export is not None
    assert first.export.is_dir()
    warehouse = Warehouse.open(tmp_path / "vllm_smoke.duckdb")
    stages = dict(warehouse.query("SELECT stage, count(*) FROM requests GROUP BY 1"))
    assert set(stages) == {"author", "synthesize", "annotate"}
    unstructured = warehouse.scalar("SELECT count(*) FROM requests WHERE schema IS NULL")
    assert unstructured == 0
    refused = warehouse.query("SELECT reason, count(*) FROM attempts WHERE outcome = 'failed' GROUP BY 1")
    assert refused == []
    # A random model also writes bytes that are no UTF-8: each becomes a character of its own, which the schema did not count.
    # It also writes on until it is cut off.
    whole = [pair for pair in _answers(warehouse) if "\ufffd" not in pair[1].text and pair[1].finish_reason != "length"]
    invalid = [problem for problem in map(_problem, whole) if problem is not None]
    assert invalid == []
    assert warehouse.scalar("SELECT count(*) FROM programs WHERE state = 'accepted' AND kind = 'rules'") > 0
    attempts = warehouse.scalar("SELECT count(*) FROM attempts")
    second = run_pipeline(load_pipeline("vllm_smoke", {"url": vllm_server.url}), folder=tmp_path)
    assert second.nothing_to_do
    assert warehouse.scalar("SELECT count(*) FROM attempts") == attempts
    print(f"{attempts} requests: {stages}")


@pytest.mark.slow
@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("structured", [False, True])
def test_the_requests_of_every_ready_pipeline_are_accepted_and_fit(
    name: str, structured: bool, vllm_server, request, tmp_path: Path
) -> None:
    if (name, structured) not in USUAL and not os.environ.get("LABEL_FACTORY_EVERY_PIPELINE"):
        pytest.skip("takes minutes: set LABEL_FACTORY_EVERY_PIPELINE=1")
    asked = requests_of(name, structured, request, tmp_path, few=(name, structured) not in USUAL)
    engine = make_engine(EngineSettings(kind="server", url=vllm_server.url, model="tiny", seed=None, concurrency=64))
    length = engine.context_length()
    assert length is not None
    chosen: list[Request] = []
    for prompt in sorted({one.prompt for one in asked}):
        mine = sorted(
            (one for one in asked if one.prompt == prompt), key=lambda one: -estimate_prompt_tokens(one.messages)
        )
        others = random.Random(0).sample(mine, min(EACH, len(mine)))
        for one in [*mine[:EACH], *others]:
            tokens = engine.count_tokens(one.messages)
            assert tokens is not None
            assert tokens + int(one.sampling.get("max_tokens") or 0) <= length, (prompt, tokens)
            # A random model writes on until it may not: free text is cut short here, structured output is not.
            most = min(int(one.sampling["max_tokens"]), 48) if one.schema is None else int(one.sampling["max_tokens"])
            chosen.append(replace(one, model=engine.model, sampling={**one.sampling, "max_tokens": most}))
    outcomes = ask(Warehouse.memory(), engine, [Ask(one) for one in chosen], stage="smoke")
    by_key = {one.key: one for one in chosen}
    for (key, _), outcome in outcomes.items():
        assert isinstance(outcome, Answer), (by_key[key].prompt, outcome)
        if outcome.finish_reason == "stop":
            assert problem_with(outcome, by_key[key]) is None
    print(f"{name}: {len(outcomes)} of {len(asked)} requests sent, prompts {sorted({one.prompt for one in asked})}")


class Noting(BulkEngine):
    """Answers from the pipeline's recording, noting every request, those without a recorded answer too."""

    def __init__(self, engine: Engine, structured: bool) -> None:
        super().__init__(engine.settings)
        self.name, self.structured = engine.name, structured
        self._engine, self.asked = engine, dict[str, Request]()

    def _find_model(self) -> str:
        return self._engine.model.name

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        assert isinstance(self._engine, BulkEngine)
        for call, reply in self._engine.answer(calls):
            self.asked[call.request.key] = call.request
            yield call, reply


def small_data(shared: Path, folder: Path, text: str) -> Path:
    """The public sets that a pipeline names, with the longest and some other texts of each file."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for name in {path.name for path in shared.iterdir() if path.name in text}:
        (folder / name).mkdir(parents=True)
        for file in (shared / name).glob("*.parquet"):
            rows = pq.read_table(file)
            order = np.argsort(-pc.utf8_length(rows["text"]).to_numpy(zero_copy_only=False), kind="stable")
            others = np.random.default_rng(0).permutation(order[LONGEST:])[:OTHERS]
            pq.write_table(rows.take(np.sort(np.concatenate([order[:LONGEST], others]))), folder / name / file.name)
    return folder


def requests_of(
    name: str, structured: bool, request: pytest.FixtureRequest, tmp_path: Path, *, few: bool = False
) -> list[Request]:
    pipeline = load_pipeline(name)
    if (data := pipeline.variables.get("data")) is not None:
        folder = Path(request.getfixturevalue("shared_data"))
        if few:
            assert pipeline.path is not None
            folder = small_data(folder, tmp_path / "data", pipeline.path.read_text(encoding="utf-8"))
        pipeline = load_pipeline(name, {"data": str(folder if Path(data).name == "data" else folder / Path(data).name)})
    answers = tmp_path / "none.jsonl"
    answers.touch()
    settings: dict[str, Any] = dict(pipeline.engine or {})
    if settings.get("kind") != "recorded" or not (pipeline.base / str(settings["answers"])).is_file() or structured:
        settings = {"kind": "recorded", "answers": str(answers), "sampling": settings.get("sampling", {})}
    context = Context(pipeline.card, tmp_path, pipeline.base, settings)
    noting = Noting(context.engine(), structured)
    context.asked = noting
    warehouse = Warehouse.open(tmp_path / f"{name}.duckdb")
    for step in pipeline.steps:
        if step.asks or step.verb in {"ingest", "vote"}:
            try:
                call_step(step, warehouse, context)
            except Pending:
                continue
    assert noting.asked
    return list(noting.asked.values())


def _answers(warehouse: Warehouse) -> list[tuple[Request, Answer]]:
    from factory.llm.batch_files import stored_requests

    rows = warehouse.query("SELECT request_key, answer, finish_reason FROM answers")
    requests = stored_requests(warehouse, [row[0] for row in rows])
    return [(requests[key], Answer(text, finish)) for key, text, finish in rows]


def _problem(pair: tuple[Request, Answer]) -> str | None:
    request, answer = pair
    return problem_with(answer, request)
