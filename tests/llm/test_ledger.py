"""The ledger and its journal: what a kill leaves, what two processes do to each other, what goes out together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from factory.errors import FactoryError
from factory.llm import Answer, Ask, EngineSettings, ModelRef, Request, Usage, ask, make_engine, send
from factory.llm.calls import Call, Fault, Reply
from factory.llm.intake import grouped
from factory.llm.journal import Journal
from factory.llm.ledger import Ledger
from factory.warehouse.file import Warehouse

ROOT = Path(__file__).resolve().parents[2]


def request(text: str, system: str = "s") -> Request:
    return Request(ModelRef("fake"), ({"role": "system", "content": system}, {"role": "user", "content": text}))


def reply(text: str = "hi") -> Reply:
    return Reply({0: Answer(text, usage=Usage(3, 1), origin="test")}, None, 5.0, 200)


def test_what_was_in_flight_at_a_kill_is_counted_once_as_unknown(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    dead = Ledger(warehouse, stage="t", engine="test")
    stored, lost = Call(request("stored"), 0, 0), Call(request("lost"), 0, 3)
    number = dead.started(stored)
    dead.started(lost)
    dead.add(number, stored, reply(), "answered")
    batch = dead.take()
    dead.store(batch)  # stored, and then killed before the journal heard of it
    os.close(dead.journal._file)  # type: ignore[arg-type]  # the lock goes with the process
    assert Ledger(warehouse, stage="t", engine="test").recover() == 1
    rows = warehouse.query(
        "SELECT request_key, first_sample, last_sample, reason FROM attempts WHERE outcome = 'unknown'"
    )
    assert rows == [(lost.request.key, 0, 3, "killed")]
    assert Ledger(warehouse, stage="t", engine="test").recover() == 0
    assert not list(tmp_path.glob("*.inflight*"))


def test_an_answer_that_came_before_a_kill_and_was_not_stored_is_stored_by_the_next_run(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    dead = Ledger(warehouse, stage="t", engine="test")
    calls = [Call(request(f"text {number}\nline"), 0, 1) for number in range(3)]
    numbers = [dead.started(call) for call in calls]
    two = {n: Answer(f"said {n}\n\u2028", usage=Usage(3, 1), origin="test") for n in range(2)}
    dead.add(numbers[0], calls[0], Reply(two, None, 5.0, 200), "answered")
    dead.flush()
    part = Reply({0: two[0]}, Fault("malformed", "missing_choices", ""), 5.0, 200)
    dead.add(numbers[1], calls[1], part, "retried")
    rest = Call(calls[1].request, 1, 1)
    dead.add(dead.started(rest), rest, Reply({1: two[1]}, None, 5.0, 200), "answered")
    os.close(dead.journal._file)  # type: ignore[arg-type]  # killed
    assert warehouse.scalar("SELECT count(*) FROM answers") == 2
    assert Ledger(warehouse, stage="t", engine="test").recover() == 1
    told = warehouse.query("SELECT request_key, sample_no, answer FROM answers ORDER BY ALL")
    assert told == sorted((call.request.key, n, two[n].text) for call in calls[:2] for n in range(2))
    assert warehouse.query("SELECT outcome, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [
        ("answered", 2), ("retried", 1), ("unknown", 1),
    ]  # fmt: skip
    assert warehouse.scalar("SELECT count(*) FROM requests") == 2
    asked = Ledger(warehouse, stage="t", engine="test").missing(
        [Ask(c.request, range(2)) for c in calls], want_answers=True
    )
    assert [one.key for one, _ in asked.asks] == [calls[2].request.key]
    assert Ledger(warehouse, stage="t", engine="test").recover() == 0
    assert not list(tmp_path.glob("*.inflight*"))


def test_a_kill_between_storing_and_the_journal_stores_nothing_twice(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    dead = Ledger(warehouse, stage="t", engine="test")
    call = Call(request("x"), 0, 0)
    dead.add(dead.started(call), call, reply(), "answered")
    dead.store(dead.take())
    os.close(dead.journal._file)  # type: ignore[arg-type]
    assert Ledger(warehouse, stage="t", engine="test").recover() == 0
    for table in ("requests", "answers", "attempts"):
        assert warehouse.scalar(f"SELECT count(*) FROM {table}") == 1


def test_the_journal_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    alive = Journal(tmp_path / "w.inflight")
    alive.note(1, "0" * 64, 0, 0, "server")
    assert Journal(tmp_path / "w.inflight").left_over() == {}
    alive.stored([1])
    alive.close()
    assert not list(tmp_path.iterdir())


def test_a_torn_line_is_left_out_and_a_long_journal_is_rewritten(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("factory.llm.journal._REWRITE_BYTES", 1000)
    journal = Journal(tmp_path / "w.inflight")
    for number in range(1, 101):
        journal.note(number, f"{number:064d}", 0, 0, "server")
    journal.stored(range(1, 100))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < 100
    with path.open("ab") as file:
        file.write(b"101 0000")
    os.close(journal._file)  # type: ignore[arg-type]
    assert [line[0] for line in Journal(tmp_path / "w.inflight").left_over()[path].in_flight] == [100]


def test_a_reply_that_a_kill_cut_off_leaves_its_call_in_flight(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "w.inflight")
    for number in (1, 2):
        journal.note(number, f"{number:064d}", 0, 0, "server")
        journal.came(number, [number, "a"], [["k", 0, "said"]], None)
    (path,) = tmp_path.iterdir()
    os.truncate(path, path.stat().st_size - 5)
    os.close(journal._file)  # type: ignore[arg-type]
    left = Journal(tmp_path / "w.inflight").left_over()[path]
    assert [line[0] for line in left.in_flight] == [2]
    assert left.attempts == [(1, "a")]
    assert left.answers == [("k", 0, "said")]


def test_a_batch_of_very_long_texts_is_stored_within_the_limit_of_memory(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    ledger = Ledger(warehouse, stage="t", engine="test")
    for number in range(40):  # 40 MB of them: with 256 MB alone DuckDB would refuse
        call = Call(request(f"{number} " + "word " * 200_000), 0, 0)
        ledger.add(ledger.started(call), call, reply("said"), "answered")
    ledger.close()
    assert warehouse.scalar("SELECT count(*) FROM requests WHERE length(messages) > 1000000") == 40


def test_what_another_process_stored_meanwhile_is_not_stored_twice(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    one, other = (Ledger(warehouse, stage="t", engine="test") for _ in range(2))
    call = Call(request("x"), 0, 0)
    for ledger, text in ((one, "first"), (other, "second")):
        assert ledger.missing([Ask(call.request)], want_answers=False).n_known == 0 or text == "second"
        ledger.add(ledger.started(call), call, reply(text), "answered")
    one.close()
    other.close()
    assert warehouse.query("SELECT answer FROM answers") == [("first",)]
    assert warehouse.scalar("SELECT count(*) FROM requests") == 1
    assert warehouse.scalar("SELECT count(*) FROM attempts") == 2


def test_what_another_process_stored_long_ago_but_after_we_looked_is_not_stored_twice(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    one, other = (Ledger(warehouse, stage="t", engine=name) for name in ("one", "other"))
    asks = [Ask(request(f"text {number}")) for number in range(3)]
    assert len(one.missing(asks, want_answers=False).asks) == 3
    last = Call(asks[2].request, 0, 0)
    other.missing(asks, want_answers=False)
    other.add(other.started(last), last, reply("theirs"), "answered")
    other.flush()
    for ask_ in asks:  # batch after batch; nobody else writes any more
        call = Call(ask_.request, 0, 0)
        one.add(one.started(call), call, reply("ours"), "answered")
        one.flush()
    assert warehouse.query("SELECT count(*), count(DISTINCT request_key) FROM answers") == [(3, 3)]
    assert warehouse.query("SELECT count(*), count(DISTINCT request_key) FROM requests") == [(3, 3)]
    one.close()
    other.close()


def test_a_request_that_is_asked_in_several_calls_or_runs_is_stored_once(fake_server) -> None:
    server = fake_server(faults={"http_500": 0.3}, faults_seed=1)
    warehouse = Warehouse.memory()
    settings = EngineSettings(kind="server", url=server.url, model="fake", max_n=2, retries=50)
    for last in (3, 8):
        asks = [Ask(request(f"text {number}"), range(last)) for number in range(40)]
        assert send(warehouse, make_engine(settings), asks, stage="t").failed == 0
    assert warehouse.query("SELECT count(*), count(DISTINCT request_key) FROM requests") == [(40, 40)]
    assert warehouse.scalar("SELECT count(*) FROM answers") == 40 * 8


def test_calls_that_share_their_first_message_go_out_together() -> None:
    calls = [Call(request(f"{i}", system="ab"[i % 2]), 0, 0) for i in range(6)]
    assert [call.request.messages[0]["content"] for call in grouped(calls)] == ["a"] * 3 + ["b"] * 3


def test_the_server_sees_requests_of_a_prefix_one_after_the_other(fake_server) -> None:
    server = fake_server(keep_bodies=True)
    engine = make_engine(EngineSettings(kind="server", url=server.url, model="fake", concurrency=1))
    ask(Warehouse.memory(), engine, [Ask(request(f"{i}", system="abc"[i % 3])) for i in range(30)], stage="t")
    seen = [body["messages"][0]["content"] for body in server.bodies()]
    assert seen == ["a"] * 10 + ["b"] * 10 + ["c"] * 10


def test_a_generator_of_asks_is_read_as_it_is_needed(fake_server) -> None:
    server = fake_server()
    read = []

    def asks():
        for i in range(9000):
            read.append(i)
            yield Ask(request(f"{i}"))

    first: list[int] = []
    engine = make_engine(EngineSettings(kind="server", url=server.url, model="fake"))
    sent = send(Warehouse.memory(), engine, asks(), stage="t", told=lambda _: first or first.append(len(read)))
    assert sent.answered == 9000
    assert first[0] <= 4096 + 200


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background inherits an ignored SIGINT
import sys
sys.path.insert(0, {root!r})
from factory.llm import Ask, EngineSettings, ModelRef, Request, make_engine, send
from factory.warehouse.file import Warehouse
engine = make_engine(EngineSettings(kind="server", url={url!r}, model="fake", concurrency=32))
asks = (Ask(Request(ModelRef("fake"), ({{"role": "user", "content": str(i)}},))) for i in range(100000))
print("ready", flush=True)
send(Warehouse.open({path!r}), engine, asks, stage="t")
"""


def test_an_interrupt_keeps_every_answer_that_came(fake_server, tmp_path: Path) -> None:
    server = fake_server(latency_s=0.05)
    path = tmp_path / "w.duckdb"
    code = INTERRUPTED.format(root=str(ROOT), url=server.url, path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    while server.stats()["requests"] < 300:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    warehouse = Warehouse.open(path)
    stored = warehouse.scalar("SELECT count(*) FROM answers")
    assert server.stats()["requests"] - 2 * 32 <= stored <= server.stats()["requests"]
    assert Ledger(warehouse, stage="t", engine="test").recover() <= 64


@pytest.mark.parametrize("name", ["plain", "run [v1]", "a*b", "?", "[!x]"])
def test_what_a_killed_run_was_told_is_found_whatever_the_runs_name(tmp_path: Path, name: str) -> None:
    warehouse = Warehouse.open(tmp_path / f"{name}.duckdb")
    dead = Ledger(warehouse, stage="t", engine="test")
    call = Call(request("x"), 0, 0)
    dead.add(dead.started(call), call, reply("said"), "answered")
    os.close(dead.journal._file)  # type: ignore[arg-type]  # killed
    assert Ledger(warehouse, stage="t", engine="test").recover() == 0
    assert warehouse.query("SELECT answer FROM answers") == [("said",)]
    assert not list(tmp_path.glob("*.inflight*"))


def test_nobody_else_may_read_a_journal_and_no_key_stands_in_it(
    fake_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-canary-77712345")
    kept: list[tuple[int, bytes]] = []
    server = fake_server(raw={"status": 500, "body": {"error": {"message": "sent with Bearer sk-canary-77712345"}}})
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    engine = make_engine(
        EngineSettings(kind="server", url=server.url, model="fake", api_key_env="SOME_KEY", retries=1, patience_s=0.5)
    )
    came = Journal.came

    def watched(self: Journal, *given: Any) -> None:
        came(self, *given)
        assert self._path is not None
        kept.append((self._path.stat().st_mode & 0o777, self._path.read_bytes()))

    monkeypatch.setattr(Journal, "came", watched)
    with pytest.raises(FactoryError) as told:
        ask(warehouse, engine, [Ask(request(f"{i}")) for i in range(12)], stage="t")
    assert kept
    assert {mode for mode, _ in kept} == {0o600}
    words = [words for (words,) in warehouse.query("SELECT words FROM attempts")]
    for text in (str(told.value), *words, *(content.decode() for _, content in kept)):
        assert "canary" not in text
    assert "answered 500: sent with ***" in words


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    import orjson

    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    key = request("x").key
    attempt = [1, key, 0, 0, "answered", None, 200, 3, 1, None, 5.0, "test", 0]
    answer = [key, 0, "said", None, "stop", 3, 0, 1, True, None, 5.0, None, "test"]
    (tmp_path / "w.inflight-1-0").write_bytes(orjson.dumps([attempt, [answer], None]) + b"\n")
    assert Ledger(warehouse, stage="t", engine="test").recover() == 0
    assert warehouse.query("SELECT tokens_in, tokens_counted, words FROM attempts") == [(3, None, None)]
    assert warehouse.query("SELECT answer FROM answers") == [("said",)]


def test_a_plan_counts_what_a_killed_run_was_told_and_did_not_store(tmp_path: Path) -> None:
    from factory.llm.batch_files import stored_requests
    from factory.pipeline.load import load_pipeline
    from factory.pipeline.missing import write_missing
    from factory.pipeline.preview import plan_pipeline

    (tmp_path / "p.yaml").write_text(
        """
name: k
task: {name: t, text: a message, labels: [{name: billing, description: Charges}, {name: delivery, description: Parcels}]}
engine: {kind: server, url: "http://127.0.0.1:9/v1", model: fake}
steps:
  - ingest: {train: {texts: [the parcel is late, a refund please, charged twice]}}
  - annotate: {split: train}
"""
    )
    pipeline = load_pipeline(tmp_path / "p.yaml")
    folder = tmp_path / "run"
    planned = plan_pipeline(pipeline, folder=folder)
    assert [stage["requests"] for stage in planned["stages"]] == [3]
    warehouse = Warehouse.open(folder / "k.duckdb")
    write_missing(pipeline, tmp_path / "out.jsonl", folder=folder)
    line = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    key = line["custom_id"].partition(":")[0]
    asked = Call(stored_requests(warehouse, [key])[key], 0, 0)
    dead = Ledger(warehouse, stage="annotate", engine="server")
    dead.add(dead.started(asked), asked, reply("billing"), "answered")
    os.close(dead.journal._file)  # type: ignore[arg-type]  # killed
    assert [stage["requests"] for stage in plan_pipeline(pipeline, folder=folder)["stages"]] == [2]
    assert list(folder.glob("*.inflight*")), "a plan stores nothing"
