"""What failed is open, in every stage that asks: told, paid for once, asked again, and never a decision."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.annotation.stage import annotate
from factory.corpus.stage import ingest
from factory.errors import Unanswered
from factory.llm import EngineSettings, make_engine
from factory.programs.stage import author
from factory.result import StageResult
from factory.synthesis.stage import synthesize
from factory.task import Label, TaskCard
from factory.warehouse.file import Warehouse
from tests.kills.answers import CUES
from tests.llm.modes import error

CARD = TaskCard(
    name="shop",
    text="a message to an online shop",
    labels=(
        Label(name="billing", description="Charges, invoices, refunds, prices."),
        Label(name="delivery", description="Parcels, shipping, couriers, lateness."),
        Label(name="account", description="Logins, passwords, user data."),
    ),
)

STAGES: dict[str, Callable[[Warehouse, Any], StageResult]] = {
    "annotate": lambda warehouse, engine: annotate(warehouse, engine, split="train"),
    "author": lambda warehouse, engine: author(warehouse, engine, programs=3, candidates=6, examples=2),
    "synthesize": lambda warehouse, engine: synthesize(
        warehouse, engine, method="few_shot", per_label=2, candidates=6, demos=2
    ),
}

FAST = {"an empty balance", "a broken server"}
LONG = (pytest.mark.slow, pytest.mark.long)
FAILURES = {
    "an empty balance": (error(402, "Insufficient Balance"), "Insufficient Balance"),
    "an empty balance in a 200": ({"body": {"error": {"message": "Insufficient credits", "code": 402}}}, "Insufficient credits"),
    "a limit in a 200": ({"body": {"choices": None, "error": {"message": "Provider returned error", "code": 429}}},
                         "Provider returned error"),
    "a broken server": (error(500, "CUDA error"), "CUDA error"),
    "no such model": (error(400, "nope is not a valid model ID", 400), "not a valid model ID"),
    "a wrong parameter": (error(400, "top_q is unknown to us"), "top_q is unknown to us"),
    "replies without answers": ({"body": {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}},
                                "no answer came"),
}  # fmt: skip


def corpus() -> Warehouse:
    warehouse, dice = Warehouse.memory(), random.Random(3)
    labels = [label.name for label in CARD.labels]

    def message(label: str) -> str:
        words = dice.sample(CUES[label], 3) + [f"case{dice.randint(100, 999)}" for _ in range(5)]
        return f"Hello, {' and '.join(words)}, please look into it."

    rows = [message(label) for _ in range(20) for label in labels]
    seeds = [(message(label), label) for _ in range(2) for label in labels]
    sources = {
        "train": {"texts": rows},
        "seed": {"texts": [text for text, _ in seeds], "labels": [label for _, label in seeds]},
    }
    ingest(warehouse, CARD, sources)
    return warehouse


def engine(url: str, **more: Any) -> Any:
    given = {"patience_s": 1.0, "retries": 1} | more
    return make_engine(EngineSettings(kind="server", url=url, model="fake", **given))


def decided(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """Everything that a stage leaves, apart from times."""
    return [
        *warehouse.query("SELECT stage, done FROM plans ORDER BY ALL"),
        *warehouse.query("SELECT * FROM slots ORDER BY ALL"),
        *warehouse.query("SELECT * EXCLUDE (created_at) FROM programs ORDER BY ALL"),
        *warehouse.query("SELECT * FROM synthetic ORDER BY ALL"),
        *warehouse.query("SELECT * FROM annotations ORDER BY ALL"),
    ]


@pytest.mark.parametrize(
    ("stage", "failure"),
    [
        pytest.param(stage, failure, marks=() if stage == "annotate" or failure in FAST else LONG)
        for stage in STAGES
        for failure in FAILURES
    ],
)
def test_a_stage_that_failed_ends_like_one_that_never_did_once_the_server_is_well(
    fake_server, stage: str, failure: str
) -> None:
    raw, words = FAILURES[failure]
    run = STAGES[stage]
    undisturbed, server = corpus(), fake_server(sensible=True)
    assert not run(undisturbed, engine(server.url)).skipped
    wanted = server.stats()["requests"]
    broken, warehouse = fake_server(sensible=True, raw=raw), corpus()
    for _ in range(2):
        with pytest.raises(Unanswered, match=words) as told:
            run(warehouse, engine(broken.url))
        assert told.value.exit_code == 5
        assert warehouse.query("SELECT DISTINCT done FROM plans") == [(False,)]
        assert warehouse.query("SELECT DISTINCT state FROM slots") == [("open",)]
    sent = broken.stats()["requests"]
    broken.control(raw=None)
    result = run(warehouse, engine(broken.url))
    assert not result.skipped
    assert broken.stats()["requests"] - sent == wanted, "what was never answered is asked once more, and nothing else"
    assert decided(warehouse) == decided(undisturbed)
    assert run(warehouse, engine(broken.url)).skipped


@pytest.mark.parametrize("stage", STAGES)
def test_what_was_answered_before_a_failure_is_not_asked_for_again(fake_server, stage: str) -> None:
    run, undisturbed, server = STAGES[stage], corpus(), fake_server(sensible=True)
    run(undisturbed, engine(server.url))
    wanted, warehouse = server.stats()["samples"], corpus()
    flaky = fake_server(sensible=True, faults={"bad_request": 0.4}, faults_seed=5)
    for _ in range(40):
        with contextlib.suppress(Unanswered):
            run(warehouse, engine(flaky.url, concurrency=2))
            break
    assert flaky.stats()["samples"] == wanted
    assert decided(warehouse) == decided(undisturbed)


def test_annotate_says_what_was_lost_and_to_what(fake_server) -> None:
    too_long = error(400, "This model's maximum context length is 100 tokens", "context_length_exceeded")
    warehouse = corpus()
    (text,) = warehouse.query("SELECT text FROM texts WHERE text_no = 4")[0]
    server = fake_server(sensible=True, raw=too_long, raw_if=text)
    result = annotate(warehouse, engine(server.url), split="train")
    assert result.says[:2] == ("59 of 60 texts answered", "1 answers cannot be used: 1 context_too_long")
    assert warehouse.query("SELECT drop_reason, detail FROM slots WHERE state = 'dropped'") == [
        ("context_too_long", "answered 400: This model's maximum context length is 100 tokens")
    ]
    assert annotate(warehouse, engine(server.url), split="train").skipped


def test_who_goes_on_without_the_missing_ones_gets_a_finished_stage(fake_server) -> None:
    warehouse = corpus()
    (text,) = warehouse.query("SELECT text FROM texts WHERE text_no = 4")[0]
    server = fake_server(sensible=True, raw=error(400, "no"), raw_if=text)
    result = annotate(warehouse, engine(server.url, missing="fail"), split="train")
    assert result.did["unreadable"] == {"bad_request": 1}
    assert annotate(warehouse, engine(server.url), split="train").skipped


def test_a_run_says_how_many_and_why_in_one_line_and_ends_with_a_code_of_its_own(
    fake_server, told: Any, tmp_path: Path
) -> None:
    server = fake_server(sensible=True, raw=error(402, "Insufficient Balance"))
    (tmp_path / "p.yaml").write_text(
        f"""
name: k
task: {{name: t, text: a message, labels: [{{name: billing, description: Charges}}, {{name: delivery, description: Parcels}}]}}
engine: {{kind: server, url: "{server.url}", model: fake, patience_s: 1, retries: 1}}
steps:
  - ingest: {{train: {{texts: [the parcel is late, a refund please, charged twice]}}}}
  - annotate: {{split: train}}
"""
    )
    command = ("run", str(tmp_path / "p.yaml"), "--folder", str(tmp_path / "run"))
    code, _, err = told(*command)
    assert code == 5
    assert err.splitlines()[-1].startswith("factory: http://127.0.0.1:")
    assert "answered 402: Insufficient Balance" in err.splitlines()[-1]
    server.control(raw=None)
    code, _, err = told(*command)
    assert code == 0
    assert "3 of 3 texts answered" in err
    code, out, _ = told(*command, "--json")
    assert json.loads(out)["nothing_to_do"] is True
