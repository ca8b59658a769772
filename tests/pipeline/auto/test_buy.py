"""The step `buy` with a real server: what it buys, that a stopped run buys the same, and what it says of a budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.errors import BudgetError, InputError
from factory.pipeline.auto import stage
from factory.pipeline.load import load_pipeline
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
    rounds: 1
    kinds: [anchors]
  distill: {{student: linear, encoder: hashing}}
  denoise: {{model: dawid_skene}}
  evaluate: false
  export: false
"""


@pytest.fixture(scope="module")
def server() -> Iterator[CountingServer]:
    with CountingServer() as found:
        yield found


class Run:
    """A pipeline of its own folder, run in this process; with everything that it sent counted."""

    def __init__(self, folder: Path, server: CountingServer, text: str = PIPELINE) -> None:
        self.path, self.folder, self.server = write_pipeline(folder, text), folder / "run", server
        server.reset()

    def go(self, **more: Any) -> Any:
        return run_pipeline(load_pipeline(self.path, {"url": self.server.url}), folder=self.folder, **more)

    @property
    def file(self) -> Path:
        return self.folder / "small.duckdb"

    def rows(self) -> list[purchases.Row]:
        return purchases.read(Warehouse.open(self.file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, server: CountingServer) -> tuple[Run, int]:
    """A run without a stop, and how many answers it asked for."""
    run, said = Run(tmp_path_factory.mktemp("auto"), server), set[str]()
    run.go(progress=lambda *_: lambda done, of, what: said.add(what))
    assert {"author", "annotate", "vote"} <= {what.rpartition("(")[2].rstrip(")") for what in said}, (
        "progress names the stage"
    )
    return run, server.settled()["samples"]


def test_it_buys_programs_and_the_audit_slice_and_then_decides(whole: tuple[Run, int]) -> None:
    rows = whole[0].rows()
    assert [(row.kind, row.size) for row in rows] == [("first", 6), ("audit", 20), ("anchors", 100), ("stop", 0)]
    assert all(row.why and row.done for row in rows)
    assert all(row.tokens and row.requests for row in rows[:-1])
    assert rows[2].expected
    assert rows[2].gain is not None
    assert rows[2].requests == 100
    assert rows[3].why == "as many rounds as are allowed"
    made = Warehouse.open(whole[0].file)
    assert made.query("SELECT role, count(*) FROM anchors GROUP BY 1 ORDER BY 1") == [("audit", 20), ("teach", 100)]
    for name in ("report.md", "report.html"):
        page = (whole[0].folder / name).read_text()
        assert "What was bought" in page
        assert "20 labels for the audit slice" in page
        assert "as many rounds as are allowed" in page


class Stopped(BaseException):
    """What ends a run here, as Ctrl-C would."""


@pytest.mark.slow
def test_a_run_that_is_stopped_again_and_again_takes_the_same_decisions_and_pays_for_nothing_twice(
    whole: tuple[Run, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, whole[0].server)

    def after(times: int, what: Any) -> Any:
        left = [times]

        def called(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Stopped
            return what(*arguments, **named)

        return called

    stops: list[tuple[Any, str, int]] = [
        (purchases, "put", 0), (stage._Buyer, "ask", 1), (stage, "judge", 0), (purchases, "close", 1),
        (purchases, "put", 0), (stage._Buyer, "ask", 0), (stage._Buyer, "_answer", 0), (stage, "judge", 0),
    ]  # fmt: skip
    for at, (where, name, times) in enumerate(stops):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, after(times, getattr(where, name)))
            with pytest.raises(Stopped):
                run.go()
        assert at < 4 or len(run.rows()) >= 2
    run.go()
    assert run.server.settled()["samples"] == whole[1]
    assert differences(whole[0].file, run.file) == []


def test_a_run_that_is_through_buys_nothing_more_and_a_larger_bound_goes_on_from_there(whole: tuple[Run, int]) -> None:
    run, server = whole[0], whole[0].server
    server.reset()
    assert run.go().nothing_to_do
    assert server.settled()["samples"] == 0
    before = [(row.kind, row.size) for row in run.rows()[:-1]]
    run.path.write_text(run.path.read_text().replace("rounds: 1", "rounds: 2"))
    run.go(only=["buy"])
    after = [(row.kind, row.size) for row in run.rows()]
    assert after == [*before, ("anchors", 29), ("stop", 0)], "the heap has 149 texts"
    assert server.settled()["samples"] == 29


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("0", "a budget of 0 does not pay the first round: 6 programs and 20 labels for the audit slice"),
        ("0 tokens", "a budget of 0 tokens does not pay the first round"),
        ("900 tokens", r"a budget of 900 tokens does not pay the first round: .* take [\d,]+ tokens at least"),
        ("25 requests", "a budget of 25 requests does not pay the first round: .* take 26 requests at least"),
    ],
)
def test_a_budget_that_does_not_pay_the_first_round_is_refused_in_one_line_before_anything_is_asked(
    budget: str, words: str, tmp_path: Path, server: CountingServer
) -> None:
    run = Run(tmp_path, server)
    with pytest.raises(InputError, match=words) as found:
        run.go(budget=budget)
    assert found.value.exit_code == 2
    assert server.settled()["samples"] == 0
    assert run.rows() == []


def test_a_budget_in_money_is_refused_where_nobody_knows_a_price(tmp_path: Path, server: CountingServer) -> None:
    run = Run(tmp_path, server)
    with pytest.raises(BudgetError, match="no price is known for counting"):
        run.go(budget="2.50")
    assert server.settled()["samples"] == 0


@pytest.mark.slow
def test_a_plan_says_what_is_bought_first_its_price_and_when_it_ends(
    tmp_path: Path, server: CountingServer, told: Told
) -> None:
    run = Run(tmp_path, server)
    code, out, err = told("plan", str(run.path), "--set", f"url={server.url}", "--folder", str(run.folder))
    assert code == 0
    said = " ".join((out + err).split())
    assert "Bought first: 6 programs and 20 labels for the audit slice, for " in said
    assert "It ends when nothing promises more than noise, after one more purchase at the latest" in said
    text = run.path.read_text()
    given = ("plan", str(run.path), "--set", f"url={server.url}", "--folder", str(run.folder), "--budget", "3 requests")
    code, out, err = told(*given)
    assert "does not pay the first round" in " ".join((out + err).split()), "`run` would refuse it"
    run.path.write_text(f"budget: 90k tokens\n{text}")
    code, out, _ = told("plan", str(run.path), "--set", f"url={server.url}", "--folder", str(run.folder), "--json")
    buys = json.loads(out)["buys"]
    assert "or when 90,000 tokens are spent" in buys["words"]
    assert buys["price"]["answers"][0] == 26
    assert server.settled()["samples"] == 0


def test_with_files_the_first_round_is_one_trip_that_says_what_follows(tmp_path: Path, told: Told) -> None:
    lines = PIPELINE.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("engine"))
    lines[at] = "engine: {{kind: batch, model: m, requests: requests.jsonl, results: results.jsonl}}"
    path = write_pipeline(tmp_path, "\n".join(lines).replace("rounds: 1", "rounds: 6"))
    code, _, err = told("run", str(path), "--folder", str(tmp_path / "run"))
    assert code == 4
    last = err.splitlines()[-1]
    assert "26 requests are to be answered (6 of `author` and 20 of `annotate`)" in last
    assert (
        "Then the next purchase is decided by what they bring. It ends when nothing promises more than noise, after 2 more"
        in last
    )


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("moment", ["1.buy/answer/3", "1.buy/committed/3", "1.buy/answer/60"])
def test_a_killed_run_ends_as_an_undisturbed_one(moment: str, tmp_path: Path, server: CountingServer) -> None:
    server.reset()
    line = Line(tmp_path, server, PIPELINE)
    line.go_undisturbed()
    killed = line.kill_at(moment)
    line.start_again()
    lost = min(killed.sent - killed.stored, CONCURRENCY * killed.largest)
    assert server.settled()["samples"] <= line.samples - killed.answered_before + lost
    assert differences(line.undisturbed / "small.duckdb", line.warehouse) == []
