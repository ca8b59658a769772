"""Batch files: out, and in in any order, partial, with errors, twice."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from factory.errors import InputError
from factory.llm import Answer, Ask, EngineSettings, Failure, ModelRef, Pending, Request, ask, make_engine
from factory.llm.batch import batch_settings, read_results, write_recorded
from factory.warehouse.file import Warehouse

MODEL = ModelRef("m")
SCHEMA = {"choice": ["a", "b"]}


def requests(n: int) -> list[Request]:
    return [
        Request(MODEL, ({"role": "user", "content": f"text {i}"},), {"max_tokens": 8}, SCHEMA, "p", "v")
        for i in range(n)
    ]


def engine(folder: Path, **more: object):
    settings = EngineSettings(kind="batch", model="m", requests="out.jsonl", results="in.jsonl", **more)  # type: ignore[arg-type]
    return make_engine(settings, base=folder)


def result_line(row: dict, text: str = "a", error: bool = False) -> dict:
    first, last = map(int, row["custom_id"].split(":")[1].split("-"))
    if error:
        body = {"error": {"message": "too long", "code": 400}}
        return {"id": "x", "custom_id": row["custom_id"], "response": {"status_code": 400, "body": body}, "error": None}
    choices = [
        {"index": i, "message": {"content": f"{text}{i}"}, "finish_reason": "stop"} for i in range(last - first + 1)
    ]
    body = {"choices": choices[::-1], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
    return {"id": "x", "custom_id": row["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}


def pend(folder: Path, warehouse: Warehouse, asks: list[Ask]) -> list[dict]:
    with pytest.raises(Pending, match="waits for"):
        ask(warehouse, engine(folder), asks, stage="annotate")
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_the_file_holds_one_line_for_each_run_of_samples(tmp_path: Path) -> None:
    lines = pend(tmp_path, Warehouse.memory(), [Ask(request, range(4)) for request in requests(3)])
    assert [line["custom_id"] for line in lines] == [f"{r.key}:0-3" for r in requests(3)]
    body = lines[0]["body"]
    assert (body["n"], body["seed"], body["structured_outputs"]) == (4, 0, SCHEMA)
    assert (lines[0]["method"], lines[0]["url"]) == ("POST", "/v1/chat/completions")


def test_results_come_in_any_order_partial_and_with_errors(tmp_path: Path) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request, range(2)) for request in requests(10)]
    lines = pend(tmp_path, warehouse, asks)
    results = [result_line(line) for line in lines[:6]] + [result_line(lines[6], error=True)]
    random.Random(1).shuffle(results)
    text = "\n".join(map(json.dumps, results)) + '\n{"custom_id": "half a li'
    (tmp_path / "in.jsonl").write_text(text)
    with pytest.raises(Pending, match="waits for 3 requests"):
        ask(warehouse, engine(tmp_path), asks, stage="annotate")
    assert warehouse.scalar("SELECT count(*) FROM answers") == 12
    assert warehouse.query("SELECT reason FROM attempts WHERE outcome = 'failed'") == [("batch_error",)]
    (tmp_path / "in.jsonl").write_text(
        "\n".join(json.dumps(result_line(line, error=line is lines[6])) for line in lines)
    )
    outcomes = ask(warehouse, engine(tmp_path), asks, stage="annotate")
    assert sum(isinstance(o, Answer) for o in outcomes.values()) == 18
    assert {o.reason for o in outcomes.values() if isinstance(o, Failure)} == {"batch_error"}


def test_reading_twice_does_no_harm(tmp_path: Path) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request, range(2)) for request in requests(5)]
    lines = pend(tmp_path, warehouse, asks)
    stray = result_line({"custom_id": "0" * 64 + ":0-0"})
    rows = [result_line(line) for line in lines] + [result_line(lines[0], text="other"), stray]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first = read_results(warehouse, tmp_path / "in.jsonl")
    assert (first["stored"], first["known"], first["unknown"]) == (10, 2, 1)
    stored = warehouse.query("SELECT * FROM answers ORDER BY 1, 2")
    second = read_results(warehouse, tmp_path / "in.jsonl")
    assert (second["stored"], second["known"]) == (0, 12)
    assert warehouse.query("SELECT * FROM answers ORDER BY 1, 2") == stored
    assert len(ask(warehouse, engine(tmp_path), asks, stage="annotate")) == 10


def test_a_line_that_is_none_of_ours_is_refused_by_number(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"custom_id": "mine"}\n')
    with pytest.raises(InputError, match=r"in\.jsonl:1"):
        read_results(Warehouse.memory(), tmp_path / "in.jsonl")


def test_a_batch_of_a_server_pipeline_keeps_the_requests_identity(tmp_path: Path) -> None:
    server = EngineSettings(kind="server", url="http://127.0.0.1:1/v1", model="m", revision="r")
    batch = batch_settings(server, tmp_path / "b.jsonl")
    assert make_engine(batch).model == make_engine(server).model


def test_stored_answers_come_out_as_a_recording_that_replays(tmp_path: Path) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request, range(2)) for request in requests(5)]
    lines = pend(tmp_path, warehouse, asks)
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(result_line(line)) for line in lines))
    read_results(warehouse, tmp_path / "in.jsonl")
    assert write_recorded(warehouse, tmp_path / "rec.jsonl") == {"answers": 10}
    row = json.loads((tmp_path / "rec.jsonl").read_text().splitlines()[0])
    assert set(row) == {"key", "sample_no", "answer", "date", "model", "prompt", "prompt_version"}
    recorded = make_engine(EngineSettings(kind="recorded", answers="rec.jsonl", model="m"), base=tmp_path)
    replayed = ask(Warehouse.memory(), recorded, asks, stage="annotate")
    original = ask(warehouse, recorded, asks, stage="annotate")
    assert {k: a.text for k, a in replayed.items()} == {k: a.text for k, a in original.items()}  # type: ignore[union-attr]
    before = (tmp_path / "rec.jsonl").read_bytes()
    write_recorded(warehouse, tmp_path / "rec.jsonl")
    assert (tmp_path / "rec.jsonl").read_bytes() == before
