"""A server that refuses or misspeaks in every known way: what decides, what stays open, and in which words it is told."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from factory.errors import EngineError, FactoryError, Unanswered
from factory.llm import Ask, Asker, EngineSettings, Failure, ModelRef, Request, ask, make_engine, send
from factory.llm.calls import Call
from factory.llm.check import check_engine
from factory.warehouse.file import Warehouse
from tests.llm.modes import FATAL, FILTERED, OPEN, TOO_LONG, error


def request(text: str, **sampling: Any) -> Request:
    return Request(
        ModelRef("fake"), ({"role": "user", "content": text},), {"temperature": 0.0, "max_tokens": 24} | sampling
    )


def engine(url: str, **more: Any) -> Any:
    given = {"retries": 1, "patience_s": 1.0} | more
    return make_engine(EngineSettings(kind="server", url=url, model="fake", **given))


def texts(n: int = 12) -> list[tuple[Request, int]]:
    return [(request(f"text {number}"), 0) for number in range(n)]


def read(_: Request, text: str) -> str:
    return text


# What decides nothing -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", FATAL)
def test_what_would_befall_every_request_ends_the_run_at_once_in_the_servers_words(fake_server, mode: str) -> None:
    raw, words = FATAL[mode]
    server = fake_server(raw=raw)
    warehouse = Warehouse.memory()
    with pytest.raises(Unanswered) as told:
        Asker(warehouse, engine(server.url, concurrency=2), "annotate").parsed(texts(), read)
    assert words in str(told.value)
    assert "sk-abcdefghijkl" not in str(told.value)
    assert told.value.exit_code == 5
    assert server.stats()["requests"] <= 3
    assert warehouse.scalar("SELECT count(*) FROM answers") == 0
    server.control(raw=None)
    assert send(warehouse, engine(server.url), [Ask(one) for one, _ in texts()], stage="annotate").answered == 12


@pytest.mark.parametrize("mode", OPEN)
def test_what_the_server_did_decides_nothing_is_told_and_asked_again(fake_server, mode: str) -> None:
    raw, words = OPEN[mode]
    server = fake_server(raw=raw)
    warehouse = Warehouse.memory()
    asker = Asker(warehouse, engine(server.url), "annotate")
    with pytest.raises(Unanswered) as told:
        asker.need_all(asker.parsed(texts(), read))
    assert words in str(told.value)
    assert told.value.exit_code == 5
    stored = warehouse.query("SELECT count(*), count(words) FROM attempts WHERE outcome IN ('failed', 'retried')")
    assert stored[0][0] == stored[0][1] > 0
    server.control(raw=None)
    again = Asker(warehouse, engine(server.url), "annotate").parsed(texts(), read)
    assert not [one for one in again if isinstance(one, Failure)]


def test_a_few_refusals_among_answers_are_counted_and_the_rest_is_kept(fake_server) -> None:
    server = fake_server(raw=error(400, "strange characters"), raw_if="text 7")
    asker = Asker(Warehouse.memory(), engine(server.url), "annotate")
    found = asker.parsed(texts(), read)
    with pytest.raises(
        Unanswered, match=r"`annotate`: 1 of 12 requests have no answer \(answered 400: strange characters\)"
    ):
        asker.need_all(found)
    assert server.stats()["requests"] == 12, "a refusal is not sent again in this run"


def test_five_equal_refusals_at_the_beginning_end_the_run_and_five_after_an_answer_do_not(fake_server) -> None:
    server = fake_server(raw=error(400, "no such thing as text 3"))
    with pytest.raises(Unanswered, match="refuses every request: answered 400: no such thing"):
        Asker(Warehouse.memory(), engine(server.url, concurrency=1), "t").parsed(texts(), read)
    assert server.stats()["requests"] == 5
    other = fake_server(raw=error(400, "no"), raw_if="text 1")  # 1, 10 and 11
    asker = Asker(Warehouse.memory(), engine(other.url, concurrency=1), "t")
    assert sum(isinstance(one, Failure) for one in asker.parsed(texts(), read)) == 3


def test_who_wants_to_go_on_without_the_missing_ones_can(fake_server) -> None:
    server = fake_server(raw=error(400, "strange"), raw_if="text 7")
    asker = Asker(Warehouse.memory(), engine(server.url, missing="fail"), "t")
    found = asker.parsed(texts(), read)
    asker.need_all(found)
    assert [one for one in found if isinstance(one, Failure)] == [Failure("bad_request", "answered 400: strange", True)]


# What decides -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", TOO_LONG)
def test_a_text_that_is_too_long_for_the_model_is_a_decision_in_every_dialect(fake_server, mode: str) -> None:
    check_decides(fake_server(raw=TOO_LONG[mode], raw_if="text 7"), "context_too_long")


@pytest.mark.parametrize("mode", FILTERED)
def test_a_text_that_a_filter_refuses_is_a_decision_in_every_dialect(fake_server, mode: str) -> None:
    check_decides(fake_server(raw=FILTERED[mode], raw_if="text 7"), "content_refused")


def check_decides(server: Any, reason: str) -> None:
    asker = Asker(Warehouse.memory(), engine(server.url), "t")
    found = asker.parsed(texts(), read)
    asker.need_all(found)
    (failure,) = [one for one in found if isinstance(one, Failure)]
    assert (failure.reason, failure.final) == (reason, True)
    assert "answered" in failure.detail
    assert server.stats()["requests"] == 12


# Waiting ------------------------------------------------------------------------------------------------------------------
DAY = error(
    429, "Rate limit reached for requests per day (RPD): Limit 50", "rate_limit_exceeded", {"Retry-After": "86400"}
)


@pytest.mark.parametrize("status", [429, 503, 500])
def test_a_server_that_asks_to_wait_for_a_day_is_not_waited_for(fake_server, status: int) -> None:
    server = fake_server(raw={**DAY, "status": status})
    began = time.monotonic()
    with pytest.raises(Unanswered, match=r"asks to wait 24 h \(answered \d+.*requests per day.*Run again then"):
        Asker(Warehouse.memory(), engine(server.url, patience_s=600.0), "t").parsed(texts(), read)
    assert time.monotonic() - began < 20
    check = check_engine(engine(server.url, patience_s=600.0), [Call(one, 0, 0) for one, _ in texts()])
    assert not check["ok"]
    assert "asks to wait 24 h" in check["checks"][-1]["detail"]


def test_one_of_two_servers_may_ask_to_wait_for_a_day(fake_server) -> None:
    tired, well = fake_server(raw=DAY), fake_server()
    both = make_engine(EngineSettings(kind="server", url=[tired.url, well.url], model="fake", concurrency=8))
    assert send(Warehouse.memory(), both, [Ask(one) for one, _ in texts(100)], stage="t").answered == 100
    assert tired.stats()["requests"] <= 8


def test_words_that_say_how_long_to_wait_are_obeyed(fake_server) -> None:
    server = fake_server(
        raw=error(429, "Rate limit reached. Please try again in 1.2s.", "rate_limit_exceeded"), raw_first=1
    )
    began = time.monotonic()
    ours = engine(server.url, concurrency=1, patience_s=30.0)
    assert send(Warehouse.memory(), ours, [Ask(request("x"))], stage="t").answered == 1
    assert time.monotonic() - began >= 1.2


# Where things go ----------------------------------------------------------------------------------------------------------
def test_no_redirect_takes_the_key_or_a_text_to_another_server(fake_server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-canary-777")
    other = fake_server()
    to = {"status": 307, "headers": {"Location": f"{other.url}/chat/completions"}}
    server = fake_server(raw=to, models_raw={**to, "headers": {"Location": f"{other.url}/models"}})
    ours = engine(server.url, api_key_env="SOME_KEY")
    for asking in (lambda: ask(Warehouse.memory(), ours, [Ask(request("x"))], stage="t"), ours.context_length):
        with pytest.raises(Unanswered, match=rf"redirects \(307\) to {other.url}\. If that is the server you mean"):
            asking()
    assert other.stats()["requests"] == other.stats().get("models", 0) == 0


@pytest.mark.parametrize("given", ["sk-secret123\n", "  sk-secret123\r\n", '"sk-secret123"'])
def test_blanks_and_line_ends_around_a_key_are_not_sent(
    fake_server, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("SOME_KEY", given)
    server = fake_server(api_key="sk-secret123")
    ours = engine(server.url, api_key_env="SOME_KEY")
    assert ours.context_length() == 4096
    assert len(ask(Warehouse.memory(), ours, [Ask(request("x"))], stage="t")) == 1


@pytest.mark.parametrize("given", ["“sk-secret123”", "sk-sec\nret123", "sk-sec ret123", "sk-sécret"])
def test_a_key_that_cannot_be_one_is_told_and_not_shown(
    fake_server, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("SOME_KEY", given)
    ours = engine(fake_server().url, api_key_env="SOME_KEY")
    for asking in (lambda: ask(Warehouse.memory(), ours, [Ask(request("x"))], stage="t"), ours.context_length):
        with pytest.raises(EngineError, match="the key in SOME_KEY holds characters") as told:
            asking()
        assert "sec" not in str(told.value)


@pytest.mark.parametrize("given", ["sk-secret123", "sk_live_secret123", "0123456789abcdef0123secret", "a b", ""])
def test_a_key_in_place_of_its_variables_name_is_not_shown(given: str) -> None:
    with pytest.raises(ValueError, match="name of an environment variable") as told:
        EngineSettings(kind="server", url="http://127.0.0.1:9/v1", api_key_env=given)
    assert "secret" not in str(told.value)


def test_a_password_in_a_url_is_not_shown(fake_server) -> None:
    url = fake_server(raw=error(402, "pay")).url.replace("http://", "http://me:topsecret@")
    with pytest.raises(Unanswered) as told:
        ask(Warehouse.memory(), engine(url), [Ask(request("x"))], stage="t")
    assert "topsecret" not in str(told.value)


# A server that dies of a request --------------------------------------------------------------------------------------------
def kept_alive(server: Any, done: threading.Event, deaths: list[float]) -> threading.Thread:
    """Starts the server again whenever it has died, as whoever watches over it would."""

    def watch() -> None:
        while not done.wait(0.05):
            process = server._process
            if process is not None and process.poll() is not None:
                deaths.append(time.monotonic())
                time.sleep(0.7)
                process.stdout.close()
                server.start()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("concurrency", [1, pytest.param(16, marks=pytest.mark.slow)])
def test_a_request_that_the_server_dies_of_is_named_and_all_others_are_answered(fake_server, concurrency: int) -> None:
    server = fake_server(latency_s=0.02, die_if="poison")
    warehouse, done, deaths = Warehouse.memory(), threading.Event(), list[float]()
    thread = kept_alive(server, done, deaths)
    wanted = [(request("poison" if number == 20 else f"text {number}"), 0) for number in range(60)]
    try:
        asker = Asker(warehouse, engine(server.url, concurrency=concurrency, patience_s=90.0, retries=6), "annotate")
        found = asker.parsed(wanted, read)
        with pytest.raises(
            Unanswered, match=r"the server went away whenever it worked on request [0-9a-f]{12} \(poison\)"
        ):
            asker.need_all(found)
        assert sum(isinstance(one, Failure) for one in found) == 1
        assert len(deaths) <= 3
        seen, before = len(deaths), warehouse.scalar("SELECT count(*) FROM answers")
        assert before == 59
        again = Asker(warehouse, engine(server.url, concurrency=concurrency, patience_s=90.0, retries=6), "annotate")
        again.parsed(wanted, read)
        assert len(deaths) - seen <= 1, "a later run asks it last, alone, and once"
        seen = len(deaths)
        third = Asker(warehouse, engine(server.url, concurrency=concurrency, patience_s=90.0, retries=6), "annotate")
        (open_,) = [one for one in third.parsed(wanted, read) if isinstance(one, Failure)]
        assert "went away whenever it worked on request" in open_.detail
        assert len(deaths) == seen, "then it is never sent again"
    finally:
        done.set()
        thread.join()


def test_a_server_that_is_started_anew_is_held_against_no_request(fake_server) -> None:
    server = fake_server(latency_s=0.05)

    def restart_twice() -> None:
        for _ in range(2):
            time.sleep(0.6)
            server.stop()
            time.sleep(0.5)
            server.start()

    thread = threading.Thread(target=restart_twice)
    thread.start()
    ours = engine(server.url, concurrency=8, patience_s=30.0, retries=6)
    sent = send(Warehouse.memory(), ours, [Ask(one) for one, _ in texts(400)], stage="t")
    thread.join()
    assert (sent.answered, sent.failed) == (400, 0)


def test_everything_that_ends_a_run_is_one_line(fake_server) -> None:
    server = fake_server(raw=error(402, "pay\x1b[31m\nnow\u202e " + "x" * 5000))
    with pytest.raises(FactoryError) as told:
        ask(Warehouse.memory(), engine(server.url), [Ask(request("x"))], stage="t")
    line = str(told.value)
    assert len(line) < 700
    assert line.isprintable()
