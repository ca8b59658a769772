"""The step `buy` with a real server: what it buys, that a killed run buys the same, and what it says of a budget."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factory.errors import InputError
from factory.llm.engines.base import Pending
from factory.pipeline.auto import stage
from factory.pipeline.load import Pipeline, load_pipeline
from factory.pipeline.preview import plan_pipeline
from factory.pipeline.run import run_pipeline
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import purchases
from tests.kills.comparing import differences
from tests.kills.harness import CONCURRENCY, Line, write_pipeline
from tests.kills.server import CountingServer

Told = Callable[..., tuple[int, str, str]]
PIPELINE = """
name: small
task: {task}
engine: {{kind: server, url: "${{url}}", model: counting, concurrency: {concurrency}, start: {concurrency}}}
data: {{train: {{path: train.csv, text: text}}}}
steps:
  buy:
    programs: 6
    audit: 20
    rounds: 2
    synthesize: {{method: few_shot, seeds: none, encoder: hashing}}
  distill: {{student: linear, encoder: hashing}}
  denoise: {{model: dawid_skene}}
  evaluate: false
  export: false
"""


@pytest.fixture(scope="module")
def server() -> Iterator[CountingServer]:
    with CountingServer() as found:
        yield found


@pytest.fixture
def pipeline(tmp_path: Path, server: CountingServer) -> Pipeline:
    server.reset()
    return load_pipeline(write_pipeline(tmp_path, PIPELINE), {"url": server.url})


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, server: CountingServer) -> Line:
    server.reset()
    found = Line(tmp_path_factory.mktemp("auto"), server, PIPELINE)
    found.go_undisturbed()
    return found


def bought(folder: Path) -> list[purchases.Row]:
    return purchases.read(Warehouse.open(folder / "small.duckdb"))


def test_it_buys_programs_and_the_audit_slice_and_then_decides(line: Line) -> None:
    rows = bought(line.undisturbed)
    assert [(row.kind, row.size) for row in rows[:2]] == [("first", 6), ("audit", 20)]
    assert [row.kind for row in rows][-1] == "stop"
    assert len(rows) == 5, "two rounds after the first"
    assert all(row.why and row.done for row in rows)
    assert all(row.tokens and row.requests for row in rows[:-1])
    assert rows[3].kind == "anchors"
    assert rows[3].gain is not None
    made = Warehouse.open(line.undisturbed / "small.duckdb")
    assert made.scalar("SELECT count(*) FROM anchors WHERE role = 'audit'") == 20
    page = (line.undisturbed / "report.md").read_text()
    assert "## What was bought" in page
    assert "12 programs" in page
    assert "the audit slice" in page


@pytest.mark.parametrize(
    ("moment", "between"),
    [("1.buy/answer/3", None), ("1.buy/answer/60", None), ("1.buy/committed/3", None), ("1.buy/commit/30", None)],
)
def test_a_killed_run_takes_the_same_decisions_and_pays_for_nothing_twice(
    line: Line, moment: str, between: tuple[int, int] | None
) -> None:
    killed = line.kill_at(moment, between)
    line.start_again()
    sent = line.server.settled()["samples"]
    lost = min(killed.sent - killed.stored, CONCURRENCY * killed.largest)
    assert sent <= line.samples - killed.answered_before + lost
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []


def test_a_run_that_is_through_buys_nothing_more_and_a_larger_bound_goes_on_from_there(line: Line) -> None:
    line.as_finished()
    done = line.start_again()
    assert done["nothing_to_do"]
    assert line.server.settled()["samples"] == 0
    path = line.pipeline.with_name("more.yaml")
    path.write_text(line.pipeline.read_text().replace("rounds: 2", "rounds: 3"))
    before = [(row.kind, row.size) for row in bought(line.run)[:-1]]
    run_pipeline(load_pipeline(path, {"url": line.server.url}), folder=line.run, only=["buy"])
    after = [(row.kind, row.size) for row in bought(line.run)]
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    assert after[-1] == ("stop", 0)
