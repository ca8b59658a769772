"""Batch files: out, and in in any order, partial, with errors, twice."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from factory.errors import InputError
from factory.llm import Answer, Ask, EngineSettings, Failure, ModelRef, Pending, Request, ask, make_engine
from factory.llm.batch_files import read_results, write_recorded
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


def result_line(row: dict, text: str = "a") -> dict:
    first, last = map(int, row["custom_id"].split(":")[1].split("-"))
    choices = [
        {"index": i, "message": {"content": f"{text}{i}"}, "finish_reason": "stop"} for i in range(last - first + 1)
    ]
    body = {"choices": choices[::-1], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}
    return {"id": "x", "custom_id": row["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}


def error_line(row: dict, status: int = 500, words: str = "Internal error") -> dict:
    body = {"error": {"message": words, "code": status}}
    return {"id": "x", "custom_id": row["custom_id"], "response": {"status_code": status, "body": body}, "error": None}


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
    results = [result_line(line) for line in lines[:6]] + [error_line(lines[6])]
    random.Random(1).shuffle(results)
    text = "\n".join(map(json.dumps, results)) + '\n{"custom_id": "half a li'
    (tmp_path / "in.jsonl").write_text(text)
    with pytest.raises(
        Pending, match=r"waits for 4 requests .*; 1 of them came back without an answer: Internal error"
    ):
        ask(warehouse, engine(tmp_path), asks, stage="annotate")
    assert warehouse.scalar("SELECT count(*) FROM answers") == 12
    failed = "SELECT reason, words FROM attempts WHERE outcome = 'failed'"
    assert warehouse.query(failed) == [("http_500", "Internal error")]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, [*results, *map(result_line, lines[6:])])))
    outcomes = ask(warehouse, engine(tmp_path), asks, stage="annotate")
    assert sum(isinstance(o, Answer) for o in outcomes.values()) == 20
    assert warehouse.query(failed) == [("http_500", "Internal error")], "the line is on the books once"


ODD: dict[str, dict[str, Any]] = {
    "a status in words": {"response": {"status_code": "OK", "body": {"error": "not now"}}},
    "a status beyond all": {"response": {"status_code": 10**30, "body": {"error": "not now"}}},
    "a response of text": {"response": "not now"},
    "a body of text": {"response": {"status_code": 200, "body": "not now"}},
    "a body of a list": {"response": {"status_code": 200, "body": ["not now"]}},
    "choices of text": {"response": {"status_code": 200, "body": {"choices": "not now"}}},
    "a choice of nothing": {"response": {"status_code": 200, "body": {"choices": [None]}}},
    "an index beyond all": {"response": {"body": {"choices": [{"index": 10**30, "message": {"content": "x"}}]}}},
    "an error of a number": {"response": None, "error": 7},
}  # fmt: skip


@pytest.mark.parametrize("form", ODD)
def test_a_line_of_any_form_at_all_stops_nobody_and_leaves_its_request_open(tmp_path: Path, form: str) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request) for request in requests(2)]
    lines = pend(tmp_path, warehouse, asks)
    rows = [{"custom_id": lines[0]["custom_id"], **ODD[form]}, result_line(lines[1])]
    (tmp_path / "in.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(Pending, match="waits for 1 request"):
        ask(warehouse, engine(tmp_path), asks, stage="annotate")
    assert warehouse.scalar("SELECT count(*) FROM answers") == 1


@pytest.mark.parametrize("form", ["openai", "vllm", "expired", "in_a_200", "no_response"])
def test_a_line_with_an_error_is_asked_again_whatever_its_form(tmp_path: Path, form: str) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request) for request in requests(2)]
    lines = pend(tmp_path, warehouse, asks)
    said = {"message": "not now", "type": "x", "param": None, "code": None}
    bad = {
        "openai": {"response": {"status_code": 429, "body": {"error": said}}, "error": None},
        "vllm": {"response": {"status_code": 400, "body": None}, "error": {"error": {**said, "code": 400}}},
        "expired": {"response": None, "error": {"code": "batch_expired", "message": "not now"}},
        "in_a_200": {"response": {"status_code": 200, "body": {"error": said, "choices": None}}, "error": None},
        "no_response": {"response": None, "error": None},
    }[form]
    row = {"id": "x", "custom_id": lines[0]["custom_id"], **bad}
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, [row, result_line(lines[1])])))
    for _ in range(2):
        with pytest.raises(
            Pending, match=r"waits for 1 request .*without an answer: .*(not now|no response came)"
        ) as told:
            ask(warehouse, engine(tmp_path), asks, stage="annotate")
    assert told.value.exit_code == 4
    assert [json.loads(line)["custom_id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        lines[0]["custom_id"]
    ]
    assert warehouse.scalar("SELECT count(*) FROM attempts WHERE outcome = 'failed'") == 1


def test_a_line_that_says_the_text_is_too_long_decides_that_request(tmp_path: Path) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request) for request in requests(2)]
    lines = pend(tmp_path, warehouse, asks)
    too_long = error_line(lines[0], 400, "This model's maximum context length is 100 tokens")
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, [too_long, result_line(lines[1])])))
    outcomes = ask(warehouse, engine(tmp_path), asks, stage="annotate")
    (failure,) = [o for o in outcomes.values() if isinstance(o, Failure)]
    assert (failure.reason, failure.final) == ("context_too_long", True)
    assert warehouse.scalar("SELECT count(*) FROM attempts") == 2


def test_a_part_of_the_answers_is_taken_and_the_rest_asked_for(tmp_path: Path) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(requests(1)[0], range(5))]
    (line,) = pend(tmp_path, warehouse, asks)
    row = result_line(line)
    row["response"]["body"]["choices"] = row["response"]["body"]["choices"][-2:]
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    told = read_results(warehouse, tmp_path / "in.jsonl")
    assert (told["stored"], told["partial"], told["failed"], told["reasons"]) == (2, 1, 0, {})
    with pytest.raises(Pending, match=r"waits for 1 request \(1 of `p`\), written"):
        ask(warehouse, engine(tmp_path), asks, stage="annotate")
    (rest,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rest["custom_id"].endswith(":2-4")
    assert warehouse.query("SELECT outcome, count(*) FROM attempts GROUP BY 1") == [("partial", 1)]


def test_an_empty_reply_in_a_file_counts_with_what_it_cost_and_once(tmp_path: Path) -> None:
    warehouse, asks = Warehouse.memory(), [Ask(request) for request in requests(1)]
    (line,) = pend(tmp_path, warehouse, asks)
    row = result_line(line)
    row["response"]["body"]["choices"] = []
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    price = {"input": 1.0, "output": 2.0}
    for _ in range(2):
        read_results(warehouse, tmp_path / "in.jsonl", settings=engine(tmp_path, price=price).settings)
        with pytest.raises(Pending):
            ask(warehouse, engine(tmp_path, price=price), asks, stage="annotate")
    assert warehouse.query("SELECT tokens_in, tokens_out, cost FROM spend") == [(10, 4, pytest.approx(18e-6))]


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
    batch = server.model_copy(update={"kind": "batch", "requests": str(tmp_path / "b.jsonl")})
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
