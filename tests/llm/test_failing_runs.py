"""`factory run` against a server that fails, or that hides what it bills: codes, words, what is stored and what is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factory.warehouse.file import Warehouse
from tests.kills.answers import CUES
from tests.llm.modes import error

Told = Callable[..., tuple[int, str, str]]

DECISIONS = ("programs", "votes", "synthetic", "annotations", "answers")

LONG = (pytest.mark.slow, pytest.mark.long)
FAST = {"402", "503", "429 for a day", "an error in a 200"}
FAILURES = {
    "402": (error(402, "Insufficient Balance"), "Insufficient Balance"),
    "403": (error(403, "This key may not use the model"), "This key may not use the model"),
    "404": (error(404, "The model `fake` does not exist."), "does not exist"),
    "408": (error(408, "Request timed out upstream"), "Request timed out upstream"),
    "409": (error(409, "Conflict with another request"), "Conflict with another request"),
    "429": (error(429, "Rate limit reached for this organisation"), "Rate limit reached for this organisation"),
    "429 for a day": (error(429, "Limit of requests per day", headers={"Retry-After": "86400"}), "Limit of requests per day"),
    "500": (error(500, "CUDA error: out of memory"), "CUDA error: out of memory"),
    "503": (error(503, "no healthy upstream"), "no healthy upstream"),
    "an error in a 200": ({"body": {"error": {"message": "upstream was lost", "code": 502}}}, "upstream was lost"),
    "an empty balance in a 200": ({"body": {"error": {"message": "Insufficient credits", "code": 402}}}, "Insufficient credits"),
}  # fmt: skip


def pipeline(folder: Path, url: str, *, engine: str = "", report: bool = False) -> str:
    """A pipeline with each stage that asks, over messages that the server's `sensible` answers know."""
    labels = ("billing", "delivery")
    texts = [
        f"Hello, {CUES[label][at % 6]} and {CUES[label][at % 5 + 1]} case {at}" for at in range(10) for label in labels
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    path = folder / "p.yaml"
    path.write_text(
        f"""
name: k
task:
  name: shop
  text: a message to an online shop
  labels: [{{name: billing, description: "Charges, refunds."}}, {{name: delivery, description: "Parcels, lateness."}}]
engine: {{kind: server, url: "{url}", model: fake, patience_s: 0.5, retries: 1{engine}}}
steps:
  - ingest: {{train: train.jsonl}}
  - author: {{programs: 2, candidates: 4, examples: 2}}
  - synthesize: {{method: few_shot, per_label: 2, candidates: 4, seeds: none, texts_per_answer: 2}}
  - annotate: {{split: train, limit: 5}}
{"  - report: {}" if report else ""}
"""
    )
    return str(path)


@pytest.mark.parametrize("failure", [pytest.param(name, marks=() if name in FAST else LONG) for name in FAILURES])
def test_a_run_that_the_server_fails_says_so_once_decides_nothing_and_is_completed_by_the_next(
    fake_server: Any, told: Told, tmp_path: Path, failure: str
) -> None:
    raw, words = FAILURES[failure]
    server = fake_server(sensible=True, raw=raw)
    command = ("run", pipeline(tmp_path, server.url), "--folder", str(tmp_path / "run"))
    code, out, err = told(*command)
    assert code == 5
    assert err.count(words) == 1
    assert words in err.splitlines()[-1]
    assert "Traceback" not in err
    assert out == ""
    warehouse = Warehouse.open(tmp_path / "run" / "k.duckdb")
    for table in DECISIONS:
        assert warehouse.scalar(f"SELECT count(*) FROM {table}") == 0, table
    assert warehouse.query("SELECT DISTINCT stage, done FROM plans") == [("author", False)]
    assert warehouse.query("SELECT DISTINCT state FROM slots") == [("open",)]

    server.control(raw=None)
    assert told(*command)[0] == 0
    assert warehouse.query("SELECT DISTINCT done FROM plans") == [(True,)]
    for table in DECISIONS:
        assert table == "votes" or warehouse.scalar(f"SELECT count(*) FROM {table}") > 0, table
    sent = server.stats()["requests"]
    code, out, _ = told(*command, "--json")
    assert (code, json.loads(out)["nothing_to_do"], server.stats()["requests"]) == (0, True, sent)


@pytest.mark.parametrize("step", ["annotate", *(pytest.param(step, marks=LONG) for step in ("author", "synthesize"))])
def test_a_balance_that_runs_out_under_way_leaves_the_rest_open(
    fake_server: Any, told: Told, tmp_path: Path, step: str
) -> None:
    server = fake_server(sensible=True)
    whole = ("run", pipeline(tmp_path, server.url), "--folder", str(tmp_path / "whole"))
    assert told(*whole)[0] == 0
    wanted = server.stats()["samples"]
    before = ("ingest", "author", "synthesize", "annotate")
    command = ("run", pipeline(tmp_path, server.url), "--folder", str(tmp_path / "run"))
    assert told(*command, *(part for verb in before[: before.index(step)] for part in ("--only", verb)))[0] == 0
    server.control(raw=error(402, "Insufficient Balance"))
    code, _, err = told(*command)
    assert (code, err.count("Insufficient Balance")) == (5, 1)
    server.control(raw=None)
    assert told(*command)[0] == 0
    assert server.stats()["samples"] == 2 * wanted


# Money ----------------------------------------------------------------------------------------------------------------
def report_of(folder: Path) -> str:
    return next((folder / "run").glob("**/report.md")).read_text()


def test_what_nobody_prices_is_unknown_in_the_plan_the_spend_and_the_report(
    fake_server: Any, told: Told, tmp_path: Path
) -> None:
    server = fake_server(sensible=True)
    path = pipeline(tmp_path, server.url, report=True)
    code, out, _ = told("plan", path, "--folder", str(tmp_path / "run"))
    assert code == 0
    assert "no price" in out
    assert "price: {input: 1.0, output: 3.0}" in out
    assert told("run", path, "--folder", str(tmp_path / "run"))[0] == 0
    warehouse = Warehouse.open(tmp_path / "run" / "k.duckdb")
    assert warehouse.query("SELECT DISTINCT cost, cost_unknown > 0 FROM spend") == [(None, True)]
    rows = [line for line in report_of(tmp_path).splitlines() if "| fake |" in line or line.startswith("| in all")]
    assert len(rows) >= 4
    assert all("| unknown |" in row for row in rows)


def test_a_cost_that_is_known_in_part_is_told_as_a_lower_bound(fake_server: Any, told: Told, tmp_path: Path) -> None:
    server = fake_server(sensible=True)
    path = pipeline(tmp_path, server.url, engine=", price: {input: 100.0, output: 300.0}", report=True)
    command = ("run", path, "--folder", str(tmp_path / "run"))
    assert told(*command)[0] == 0
    assert "at least" not in report_of(tmp_path)
    warehouse = Warehouse.open(tmp_path / "run" / "k.duckdb")
    with warehouse.lease() as db:
        db.execute("UPDATE attempts SET cost = NULL WHERE attempt_no = (SELECT max(attempt_no) FROM attempts)")
    assert told(*command)[0] == 0
    rows = [line for line in report_of(tmp_path).splitlines() if "| at least " in line]
    assert [row.split(" | ")[0] for row in rows] == ["| annotate", "| in all"]


def test_a_server_that_bills_nothing_on_paper_is_not_believed(fake_server: Any, told: Told, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    server = fake_server(sensible=True, usage=usage)
    path = pipeline(tmp_path, server.url, engine=", price: {input: 100.0, output: 300.0}", report=True)
    command = ("run", path, "--folder", str(tmp_path / "run"))
    code, _, err = told(*command, "--budget", "600 tokens")
    assert code == 3
    assert "would be passed" in err.splitlines()[-1]
    assert told(*command)[0] == 0
    warehouse = Warehouse.open(tmp_path / "run" / "k.duckdb")
    rows = warehouse.query("SELECT DISTINCT tokens_in > 0, tokens_out > 0, cost > 0, tokens_counted FROM spend")
    assert rows == [(True, True, True, False)]
    assert "Tokens are estimated" in report_of(tmp_path)


# Keys, places and names -----------------------------------------------------------------------------------------------
KEYS = {
    "a line end": "sk-secret123\n",
    "blanks": " sk-secret123 ",
    "curly quotes": "“sk-secret123”",
    "two lines": "sk-sec\nret123",
}


@pytest.mark.parametrize("form", KEYS)
def test_no_key_is_shown_and_none_ends_a_command_in_a_traceback(
    fake_server: Any, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("SHOP_KEY", KEYS[form])
    server = fake_server(sensible=True, api_key="sk-secret123")
    path = pipeline(tmp_path, server.url, engine=", api_key_env: SHOP_KEY")
    Path(path).write_text(Path(path).read_text().replace("model: fake, ", ""))  # the server is asked for its model
    usable = form in {"a line end", "blanks"}
    run = ("run", path, "--folder", str(tmp_path / "run"), "--only", "ingest", "--only", "annotate")
    for command in (("engine", "check", path), run):
        code, out, err = told(*command)
        assert code == (0 if usable else 2), err
        assert "sec" not in (out + err).replace("seconds", "")
        assert "Traceback" not in err
        assert usable or "SHOP_KEY holds characters" in out + err


def test_a_key_that_is_refused_is_not_shown_though_the_server_repeats_it(
    fake_server: Any, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-secret123456789")
    server = fake_server(raw=error(401, "Incorrect API key provided: sk-secret123456789. Get one at https://x.example"))
    path = pipeline(tmp_path, server.url, engine=", api_key_env: SHOP_KEY")
    code, out, err = told("run", path, "--folder", str(tmp_path / "run"))
    assert code == 5
    assert "Incorrect API key provided" in err.splitlines()[-1]
    assert "secret" not in out + err
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or b"secret123456789" not in file.read_bytes(), file


def test_a_run_says_where_a_redirect_leads_and_follows_none(fake_server: Any, told: Told, tmp_path: Path) -> None:
    other = fake_server(sensible=True)
    server = fake_server(raw={"status": 301, "headers": {"Location": f"{other.url}/chat/completions"}})
    code, _, err = told("run", pipeline(tmp_path, server.url), "--folder", str(tmp_path / "run"))
    assert code == 5
    assert f"redirects (301) to {other.url}" in err.splitlines()[-1]
    assert other.stats()["requests"] == 0


def test_who_is_told_another_name_for_max_tokens_writes_it_and_goes_on(
    fake_server: Any, told: Told, tmp_path: Path
) -> None:
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    server = fake_server(sensible=True, raw=error(400, words, "unsupported_parameter"), keep_bodies=True)
    command = ("run", pipeline(tmp_path, server.url), "--folder", str(tmp_path / "run"))
    code, _, err = told(*command)
    assert code == 5
    assert "max_tokens_field: max_completion_tokens" in err.splitlines()[-1]
    path = pipeline(tmp_path, server.url, engine=", max_tokens_field: max_completion_tokens")
    code, planned, _ = told("plan", path, "--folder", str(tmp_path / "run"), "--json")
    server.control(raw=None)
    asked = server.stats()["requests"]
    assert told(*command)[0] == 0
    sent = server.bodies()[asked:]
    assert all("max_tokens" not in body and body["max_completion_tokens"] > 0 for body in sent)
    (author,) = [stage for stage in json.loads(planned)["stages"] if stage["stage"] == "author"]
    first = [body["max_completion_tokens"] * body.get("n", 1) for body in sent][: author["requests"]]
    assert author["tokens_out"][1] >= sum(first)
