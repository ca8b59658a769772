"""Hosted batches against a local service of the documented form: nothing is lost and nothing submitted twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_service import BatchService
from hosted_run import asker, asks, run
from pydantic import ValidationError

import factory.llm.engines.hosted as hosted
from factory.errors import BudgetError, Unanswered
from factory.llm import Answer, EngineSettings, Failure, Pending, parse_budget
from factory.llm.engines.batch_service import BatchService as Client
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import batches


@pytest.fixture
def service() -> Iterator[BatchService]:
    with BatchService() as started:
        yield started


@pytest.fixture
def warehouse() -> Warehouse:
    return Warehouse.memory()


def of(number: int) -> str:
    return f"text {number}"


def only(*numbers: int, other: str):
    """Lines of these texts are answered, and the others are not."""
    return lambda line: "answer" if line["body"]["messages"][-1]["content"] in map(of, numbers) else other


def check_all_is_there(warehouse: Warehouse, service: BatchService) -> None:
    """Every sample is stored once with its own text, and every request was answered, and so billed, once."""
    rows = warehouse.query(
        "SELECT r.messages, a.sample_no, a.answer FROM answers a JOIN requests r USING (request_key)"
    )
    assert len(rows) == 12
    assert all(answer.endswith(f", sample {sample}") and answer.split(",")[0] in said for said, sample, answer in rows)
    assert warehouse.scalar("SELECT count(*) FROM attempts WHERE outcome = 'answered'") == 6
    assert warehouse.scalar("SELECT count(*) FROM batches WHERE status = 'open'") == 0
    assert set(service.answered.values()) == {1}
    assert len(service.answered) == 6


def test_a_batch_is_uploaded_polled_fetched_and_stored(warehouse: Warehouse, service: BatchService) -> None:
    service.polls = 3
    asking, told = asker(warehouse, service.url, price={"input": 1.0, "output": 2.0}), []
    asking.progress = lambda *words: told.append(words)
    outcomes = asking.ask(asks())
    assert len(outcomes) == 12
    assert sum(answer.cost for answer in outcomes.values()) == pytest.approx(6 * 18e-6)  # type: ignore[union-attr]
    assert asking.warehouse.query("SELECT sum(tokens_in), sum(cost) FROM spend") == [(60, pytest.approx(6 * 18e-6))]
    assert (0, 6, "answers of batch_0") in told
    assert (service.calls["poll"], service.calls["list"]) == (4, 0)
    check_all_is_there(warehouse, service)
    assert run(warehouse, service.url).keys() == outcomes.keys()
    assert len(service.batches) == 1, "what is stored is not asked again"


@pytest.mark.slow
@pytest.mark.parametrize("point", ["upload", "uploaded", "create", "created", "poll", "fetch"])
def test_a_killed_run_goes_on_and_nothing_is_submitted_twice(tmp_path: Path, service: BatchService, point: str) -> None:
    service.hold = point
    script = Path(__file__).with_name("hosted_run.py")
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path / "w.duckdb"), service.url])
    try:
        assert service.reached.wait(60)
    finally:
        process.kill()
        process.wait()
    service.hold = None
    made = len(service.batches)
    assert made == (point in {"created", "poll", "fetch"})
    service.release.set()
    warehouse = Warehouse.open(tmp_path / "w.duckdb")
    run(warehouse, service.url)
    assert len(service.batches) == 1
    assert set(service.submitted.values()) == {1}
    check_all_is_there(warehouse, service)
    assert warehouse.scalar("SELECT count(*) FROM attempts") == 6, "nothing is unknown"


@pytest.mark.parametrize("moment", ["recorded", "stored"])
def test_a_run_that_ends_between_two_records_goes_on(
    warehouse: Warehouse, service: BatchService, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """After the intention is on record and before the upload; after the answers are stored and before the end is on record."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((Client, "upload", stop) if moment == "recorded" else (batches, "end", stop)))
        with pytest.raises(KeyboardInterrupt):
            run(warehouse, service.url)
    assert warehouse.scalar("SELECT count(*) FROM batches WHERE status = 'open'") == 1
    assert warehouse.scalar("SELECT count(*) FROM requests") == 6
    run(warehouse, service.url)
    assert len(service.batches) == 1
    check_all_is_there(warehouse, service)


def test_a_batch_whose_id_was_lost_is_found_on_a_later_page_and_without_metadata(
    warehouse: Warehouse, service: BatchService
) -> None:
    service.keeps_metadata = False
    service.refuse["created"] = (0, {}, {})
    outcomes = run(warehouse, service.url)
    assert len(outcomes) == 12
    assert service.calls["list"] == 1
    row = batches.Batch("ours", f"{service.url}", 6, 1 << 20, service.batches["batch_0"]["input_file_id"])
    batches.put(warehouse, row)
    strange = {"object": "batch", "status": "completed", "metadata": None, "input_file_id": "another"}
    service.batches |= {f"batch_{n}": {"id": f"batch_{n}", "output_file_id": None, **strange} for n in range(1, 6)}
    more = asker(warehouse, service.url, wait=False)
    with pytest.raises(Pending):
        more.ask(asks(7))
    assert service.calls["list"] == 1 + 3
    assert warehouse.query("SELECT batch_id FROM batches WHERE batch_key = 'ours'") == [("batch_0",)]


def test_what_an_expired_batch_did_not_come_to_is_submitted_anew_and_told(
    warehouse: Warehouse, service: BatchService
) -> None:
    service.ends = ["expired"]
    service.fate = lambda line: only(0, 1, other="expired")(line) if len(service.batches) == 1 else "answer"
    asking = asker(warehouse, service.url)
    assert all(isinstance(outcome, Answer) for outcome in asking.ask(asks()).values())
    assert asking.notes == ["batch_0 expired with 2 of 6 requests answered"]
    assert sorted(service.submitted.values()) == [1, 1, 2, 2, 2, 2]
    check_all_is_there(warehouse, service)


def test_the_rest_of_an_expired_batch_may_have_no_lines_and_is_submitted_by_the_next_run(
    warehouse: Warehouse, service: BatchService
) -> None:
    service.ends = ["expired"]
    service.fate = lambda line: only(0, 1, other="none")(line) if len(service.batches) == 1 else "answer"
    with pytest.raises(Pending, match=r"6 requests \(6 of `p`\) are submitted as batch_0\. Run again later"):
        run(warehouse, service.url, wait=False)
    with pytest.raises(Pending, match=r"batch_0: 0 of 6 requests are answered") as stop:
        run(warehouse, service.url, wait=False)
    assert stop.value.exit_code == 4
    with pytest.raises(Pending, match=r"batch_0 expired with 2 of 6 requests answered; 4 requests .* as batch_1"):
        run(warehouse, service.url, wait=False)
    assert len(run(warehouse, service.url)) == 12
    check_all_is_there(warehouse, service)


def test_batches_that_expire_without_an_answer_end_the_run(warehouse: Warehouse, service: BatchService) -> None:
    service.ends, service.fate = ["expired"], lambda line: "expired"
    with pytest.raises(
        Pending, match=r"expired with 0 of 6 requests answered; 6 requests of `annotate` have no answer"
    ):
        run(warehouse, service.url)
    assert len(service.batches) == 1


@pytest.mark.parametrize("wait", [True, False])
def test_of_a_batch_of_which_half_failed_the_good_half_is_stored_and_the_rest_fails_as_elsewhere(
    warehouse: Warehouse, service: BatchService, wait: bool
) -> None:
    service.fate = only(0, 1, 2, other="error")
    if not wait:
        with pytest.raises(Pending):
            run(warehouse, service.url, wait=False)
        service.batches["batch_0"]["polls"] = 0
    outcomes = run(warehouse, service.url, wait=wait)
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Failure)]
    assert len(outcomes) == 12
    assert {(failure.reason, failure.detail, failure.final) for failure in failures} == {
        ("http_500", "Internal error", False)
    }
    assert len(failures) == 6
    assert len(service.batches) == 1, "not twice in a run"
    assert warehouse.query("SELECT outcome, count(*) FROM attempts GROUP BY 1 ORDER BY 1") == [
        ("answered", 3),
        ("failed", 3),
    ]
    service.fate = lambda line: "answer"
    assert all(isinstance(outcome, Answer) for outcome in run(warehouse, service.url).values())
    assert sorted(service.submitted.values()) == [1, 1, 1, 2, 2, 2]
    check_all_is_there(warehouse, service)


def test_whoever_asked_for_it_goes_on_without_what_failed(warehouse: Warehouse, service: BatchService) -> None:
    service.fate = only(0, other="error")
    outcomes = run(warehouse, service.url, missing="fail")
    assert sum(isinstance(outcome, Failure) and outcome.final for outcome in outcomes.values()) == 10


def test_a_line_that_the_service_lost_stays_open(warehouse: Warehouse, service: BatchService) -> None:
    service.fate = only(0, 1, 2, 3, 4, other="none")
    lost = [outcome for outcome in run(warehouse, service.url).values() if isinstance(outcome, Failure)]
    assert {(one.reason, one.final) for one in lost} == {("no_line", False)}


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_batch_that_failed_or_was_cancelled_ends_the_run_in_its_words_and_is_submitted_by_the_next(
    warehouse: Warehouse, service: BatchService, end: str
) -> None:
    service.ends, service.fate = (
        [end],
        lambda line: only(0, other="none")(line) if len(service.batches) == 1 else "answer",
    )
    words = {"failed": r"batch_0 failed: line 1 is not right\. Every", "cancelled": r"batch_0 was cancelled\. Every"}[
        end
    ]
    with pytest.raises(Unanswered, match=words):
        run(warehouse, service.url)
    assert warehouse.scalar("SELECT count(*) FROM answers") == (0 if end == "failed" else 2)
    assert len(run(warehouse, service.url)) == 12
    check_all_is_there(warehouse, service)


def test_more_than_a_file_takes_goes_as_several_batches(
    warehouse: Warehouse, service: BatchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "MOST_LINES", 4)
    assert len(run(warehouse, service.url)) == 12
    assert [batch["request_counts"]["total"] for batch in service.batches.values()] == [4, 2]
    monkeypatch.setattr(hosted, "MOST_BYTES", 700)
    assert len(asker(warehouse, service.url).ask(asks(12))) == 24
    files = [service.files[batch["input_file_id"]] for batch in service.batches.values()]
    assert len(files) > 3
    assert all(len(file) <= 700 for file in files[2:])
    assert set(service.submitted.values()) == {1}


def test_a_budget_holds_before_anything_is_submitted(warehouse: Warehouse, service: BatchService) -> None:
    asking = asker(warehouse, service.url)
    asking.budget = parse_budget("40 tokens")
    with pytest.raises(BudgetError, match="the budget of 40 tokens would be passed"):
        asking.ask(asks())
    assert not service.files
    asking.budget = budget = parse_budget("200 tokens")
    assert len(asking.ask(asks())) == 12
    assert budget.spent_tokens == 6 * 14
    first, *others = (batch["request_counts"]["total"] for batch in service.batches.values())
    assert first == 3, "as many as the budget holds if each costs what it may at most"
    assert sum(others) == 3


def test_a_service_that_is_away_for_a_moment_is_waited_for(warehouse: Warehouse, service: BatchService) -> None:
    error = {"error": {"message": "come back"}}
    service.refuse = {
        "upload": (503, error, {}),
        "create": (429, error, {}),
        "poll": (0, {}, {}),
        "fetch": (500, error, {}),
    }
    assert len(run(warehouse, service.url)) == 12
    assert service.refuse == {}
    assert len(service.batches) == 1


def test_a_refused_batch_leaves_nothing_behind_and_says_why(warehouse: Warehouse, service: BatchService) -> None:
    service.refuse["create"] = (400, {"error": {"message": "The window is not known"}}, {})
    with pytest.raises(Unanswered, match=r"the batch service gives no answer .*The window is not known"):
        run(warehouse, service.url)
    assert warehouse.scalar("SELECT count(*) FROM batches") == 0
    assert len(run(warehouse, service.url)) == 12


def test_the_key_is_sent_and_follows_no_redirect(
    warehouse: Warehouse, service: BatchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_KEY", "secret-1")
    with BatchService(key="secret-1") as other:
        assert len(run(warehouse, other.url, api_key_env="BATCH_KEY")) == 12
        other.keys_seen.clear()
        service.refuse["upload"] = (307, {}, {"Location": f"{other.url}/files"})
        with pytest.raises(Unanswered, match="redirects") as stop:
            asker(warehouse, service.url, api_key_env="BATCH_KEY").ask(asks(7))
        assert "secret" not in str(stop.value)
        assert not other.keys_seen
    rows = [warehouse.query(f"SELECT * FROM {table}") for table in ("batches", "requests", "attempts")]
    assert "secret-1" not in str(rows)


def test_results_beyond_all_bounds_are_not_read(
    warehouse: Warehouse, service: BatchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "SMALL_REPLY", -(6 * (hosted._LINE_FRAME + 16 * 64)) + 100)
    with pytest.raises(Unanswered, match="more than 0 MB"):
        run(warehouse, service.url)
    assert warehouse.scalar("SELECT count(*) FROM batches WHERE status = 'open'") == 1


def test_a_file_of_requests_is_still_a_file() -> None:
    assert EngineSettings(kind="batch", url="http://h/v1", model="m").hosted
    assert not EngineSettings(kind="batch", url="http://h/v1", model="m", requests="r.jsonl").hosted
    with pytest.raises(ValidationError, match="needs `requests`"):
        EngineSettings(kind="batch", model="m")
    with pytest.raises(ValidationError, match="one `url`"):
        EngineSettings(kind="batch", url=["http://h/v1", "http://i/v1"], model="m")
