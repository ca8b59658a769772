"""Asking, end to end: a real HTTP server in another process, a real DuckDB file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory.errors import EngineError
from factory.llm import (
    Answer,
    Ask,
    Asker,
    EngineSettings,
    Failure,
    ModelRef,
    Parsed,
    Pending,
    Request,
    ask,
    make_engine,
)
from factory.prompts import ParseFailure
from factory.warehouse.file import Warehouse


def request(text: str, **more: object) -> Request:
    model = more.pop("model", ModelRef("fake"))
    return Request(model, ({"role": "user", "content": text},), {"temperature": 0.7, "max_tokens": 16}, **more)  # type: ignore[arg-type]


def server_engine(url: str, **more: object):
    return make_engine(EngineSettings(kind="server", url=url, model="fake", **more))  # type: ignore[arg-type]


def test_a_second_ask_sends_nothing(fake_server, tmp_path: Path) -> None:
    server = fake_server()
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    asks = [Ask(request(f"text {i}"), range(2)) for i in range(50)]
    first = ask(warehouse, server_engine(server.url), asks, stage="t")
    assert len(first) == 100
    assert all(isinstance(a, Answer) for a in first.values())
    sent = server.stats()["requests"]
    assert sent == 50  # n=2 in one call
    again = ask(warehouse, server_engine(server.url), asks, stage="t")
    assert server.stats()["requests"] == sent
    assert {k: a.text for k, a in again.items()} == {k: a.text for k, a in first.items()}


def test_more_samples_are_new_sample_numbers_and_new_seeds(fake_server) -> None:
    server = fake_server(keep_bodies=True)
    warehouse = Warehouse.memory()
    engine = server_engine(server.url, seed=100)
    one = request("x")
    ask(warehouse, engine, [Ask(one, range(2))], stage="t")
    ask(warehouse, engine, [Ask(one, range(6))], stage="t")
    bodies = server.bodies()
    assert [(body["n"], body["seed"]) for body in bodies] == [(2, 100), (4, 102)]
    assert warehouse.query("SELECT sample_no FROM answers ORDER BY 1") == [(i,) for i in range(6)]


def test_greedy_samples_go_one_by_one(fake_server) -> None:
    server = fake_server(keep_bodies=True)
    greedy = Request(ModelRef("fake"), ({"role": "user", "content": "x"},), {"temperature": 0})
    ask(Warehouse.memory(), server_engine(server.url), [Ask(greedy, range(3))], stage="t")
    assert sorted(body["seed"] for body in server.bodies()) == [0, 1, 2]
    assert all("n" not in body for body in server.bodies())


def test_the_same_request_twice_is_asked_once(fake_server) -> None:
    server = fake_server()
    outcomes = ask(Warehouse.memory(), server_engine(server.url), [Ask(request("x")), Ask(request("x"))], stage="t")
    assert len(outcomes) == 1
    assert server.stats()["requests"] == 1


def test_the_ledger_holds_requests_answers_and_attempts(fake_server) -> None:
    server = fake_server(cached_tokens=3)
    warehouse = Warehouse.memory()
    engine = server_engine(server.url, price={"input": 1.0, "output": 2.0})
    ask(warehouse, engine, [Ask(request("hello", prompt="p", prompt_version="1"))], stage="annotate")
    assert warehouse.query("SELECT model, prompt, stage FROM requests") == [("fake", "p", "annotate")]
    tokens_in, cached, tokens_out, counted, cost = warehouse.query(
        "SELECT tokens_in, tokens_cached, tokens_out, tokens_counted, cost FROM answers"
    )[0]
    assert cached == 3
    assert counted
    assert cost == pytest.approx((tokens_in + 2 * tokens_out) / 1e6)
    assert warehouse.query("SELECT outcome, engine FROM attempts") == [("answered", "server")]


def test_a_bad_request_ends_at_once_and_the_others_go_on(fake_server) -> None:
    server = fake_server(faults={"bad_request": 0.3})
    warehouse = Warehouse.memory()
    outcomes = ask(warehouse, server_engine(server.url), [Ask(request(f"{i}")) for i in range(100)], stage="t")
    failures = [o for o in outcomes.values() if isinstance(o, Failure)]
    assert 5 < len(failures) < 70
    assert {(f.reason, f.final) for f in failures} == {("bad_request", False)}
    assert server.stats()["requests"] == 100


def test_a_server_that_is_not_there_is_one_clear_line() -> None:
    engine = make_engine(EngineSettings(kind="server", url="http://127.0.0.1:9/v1", model="m", patience_s=1.0))
    with pytest.raises(EngineError, match=r"did not answer within 1 s.*vllm serve"):
        ask(Warehouse.memory(), engine, [Ask(request("x", model=ModelRef("m")))], stage="t")


def test_a_wrong_key_ends_the_run_and_is_never_shown(fake_server, monkeypatch: pytest.MonkeyPatch) -> None:
    server = fake_server(api_key="right")
    monkeypatch.setenv("SOME_KEY", "wrong-secret")
    with pytest.raises(EngineError) as caught:
        ask(Warehouse.memory(), server_engine(server.url, api_key_env="SOME_KEY"), [Ask(request("x"))], stage="t")
    assert "wrong-secret" not in str(caught.value)


def test_recorded_answers_match_by_content(tmp_path: Path) -> None:
    one, other = request("x"), request("y")
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"key": one.content_key, "sample_no": 0, "answer": "hi", "date": "2026-01-01"}) + "\n"
    )
    engine = make_engine(EngineSettings(kind="recorded", answers="a.jsonl", requests="missing.jsonl"), base=tmp_path)
    mine = request("x", model=engine.model)
    warehouse = Warehouse.memory()
    (answer,) = ask(warehouse, engine, [Ask(mine)], stage="t").values()
    assert isinstance(answer, Answer)
    assert (answer.text, answer.origin, answer.usage.counted) == ("hi", "recorded", False)
    with pytest.raises(Pending, match=r"1 answer of stage `author` not recorded \(1 of `p`\)"):
        ask(warehouse, engine, [Ask(request("y", model=engine.model, prompt="p"))], stage="author")
    assert json.loads((tmp_path / "missing.jsonl").read_text())["messages"] == [dict(other.messages[0])]


def parse(_: Request, text: str) -> str:
    if not text.startswith("good"):
        raise ParseFailure("no_label", "say good")
    return text


def test_a_parse_failure_asks_again_showing_the_error(tmp_path: Path) -> None:
    def again(request: Request, answer: str, failure: ParseFailure) -> Request:
        more = ({"role": "assistant", "content": answer}, {"role": "user", "content": failure.words})
        return Request(request.model, request.messages + more, request.sampling)  # type: ignore[arg-type]

    model = ModelRef("recorded")
    bad, good, hopeless = request("a", model=model), request("b", model=model), request("c", model=model)
    failure = ParseFailure("no_label", "say good")
    rows = [(bad, "oops"), (again(bad, "oops", failure), "good 2"), (good, "good 1"), (hopeless, "no")]
    rows.append((again(hopeless, "no", failure), "still no"))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"key": r.content_key, "answer": a}) + "\n" for r, a in rows))
    engine = make_engine(EngineSettings(kind="recorded", answers="a.jsonl"), base=tmp_path)
    asker = Asker(Warehouse.memory(), engine, "t")
    found = asker.parsed([(bad, 0), (good, 0), (hopeless, 0)], parse, again=again, tries=2)
    assert isinstance(found[0], Parsed)
    assert (found[0].value, found[0].request_key) == ("good 2", rows[1][0].key)
    assert isinstance(found[1], Parsed)
    assert found[1].value == "good 1"
    assert found[2] == Failure("no_label", "say good", final=True)
    asker.need_all(found)  # what the model did is a decision


def test_a_cut_off_answer_is_never_parsed(fake_server) -> None:
    server = fake_server(finish_reason="length", reply="good and so on")
    found = Asker(Warehouse.memory(), server_engine(server.url), "t").parsed([(request("x"), 0)], parse)
    assert isinstance(found[0], Failure)
    assert (found[0].reason, found[0].final) == ("length", True)


def test_asking_works_inside_a_running_event_loop(fake_server) -> None:
    import asyncio

    server = fake_server()

    async def notebook() -> int:
        return len(ask(Warehouse.memory(), server_engine(server.url), [Ask(request("x"))], stage="t"))

    assert asyncio.run(notebook()) == 1
