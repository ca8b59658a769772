"""Decisions of the dispatcher as values: how many in flight, what is sent again, when to wait no longer, who ends a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.llm import limits as rules
from factory.llm.calls import Fault
from factory.llm.limits import Limit, room
from factory.llm.patience import End, silence, verdict
from factory.llm.retries import Again, GiveUp, Policy, Tries, after_fault
from factory.llm.suspects import NEVER_AFTER, Suspects

POLICY = Policy(retries=3)


# How many in flight -------------------------------------------------------------------------------------------------------
def test_slow_start_doubles_in_a_round_trip_and_then_grows_by_steps() -> None:
    at = Limit(8.0, 1000.0)
    for _ in range(8):
        at = rules.on_answer(at, int(at.limit), 1.0)
    assert at.limit == 16.0
    at = Limit(100.0, 1000.0, threshold=50.0)
    for _ in range(100):
        at = rules.on_answer(at, int(at.limit), 1.0)
    assert 101.0 < at.limit < 103.0


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    assert rules.on_answer(Limit(8.0, 100.0), 3, 1.0).limit == 8.0


def test_one_burst_of_429_cuts_once_and_the_next_cuts_again() -> None:
    at = Limit(100.0, 1000.0)
    for _ in range(50):
        at = rules.on_overload(at, 1.0, 2.0, None)
    assert at.limit == 80.0
    assert rules.on_overload(at, 2.5, 3.0, None).limit == 64.0


def test_a_server_that_bears_ten_is_found_and_not_starved() -> None:
    at, now, turned_away, answered = Limit(64.0, 256.0), 0.0, 0, 0
    for _ in range(200):  # round trips of a tenth of a second; beyond ten at a time it says 429
        sent, now = int(at.limit), now + 0.1
        for number in range(sent):
            if number < 10:
                at, answered = rules.on_answer(at, sent, now, sent_at=now - 0.1), answered + 1
            else:
                at, turned_away = rules.on_overload(at, now - 0.1, now, None), turned_away + 1
    assert answered >= 0.85 * 200 * 10
    assert turned_away <= 0.3 * answered


def test_retry_after_pauses_everything() -> None:
    at = rules.on_overload(Limit(100.0, 1000.0), 1.0, 2.0, 5.0)
    assert room(at, 0, 6.9) == 0
    assert room(at, 0, 7.1) == int(at.limit) == 80


def test_failures_in_a_row_bring_an_endpoint_down_and_an_answer_brings_it_back_half_way() -> None:
    at = Limit(128.0, 256.0)
    for _ in range(rules.DOWN_AFTER):
        at = rules.on_failure(at, 1.0)
    assert at.down_since == 1.0
    assert room(at, 100, 1.1) == 0
    assert room(at, 100, 2.0) == 1
    at = rules.probing(at, 2.0)
    assert room(at, 0, 2.1) == 0
    back = rules.on_answer(at, 0, 5.0)
    assert back.down_since is None
    assert (back.limit, back.threshold) == (64.0, 128.0)


def test_what_was_sent_before_an_outage_does_not_end_it() -> None:
    at = Limit(64.0, 256.0)
    for _ in range(rules.DOWN_AFTER):
        at = rules.on_failure(at, 10.0)
    at = rules.on_answer(at, 64, 10.5, sent_at=9.9)
    assert at.down_since == 10.0
    at = rules.on_answer(at, 1, 11.0, sent_at=10.8)
    assert at.down_since is None
    assert at.threshold == 64.0


@pytest.mark.parametrize("failure", ["reset", "timeout"])
def test_outages_one_after_another_do_not_lower_what_slow_start_returns_to(failure: str) -> None:
    at = Limit(200.0, 256.0)
    for now in (10.0, 20.0, 30.0):
        for _ in range(rules.DOWN_AFTER):
            at = rules.on_failure(at, now) if failure == "reset" else rules.on_timeout(at, now - 1.0, now)
        at = rules.on_answer(at, 1, now + 5.0, sent_at=now + 4.0)
        assert at.threshold == 200.0
    for _ in range(200):
        at = rules.on_answer(at, int(at.limit), 36.0)
    assert at.limit >= 200.0


def test_an_answer_in_between_keeps_it_up() -> None:
    at = Limit(128.0, 256.0)
    for _ in range(20):
        at = rules.on_answer(rules.on_failure(at, 1.0), 0, 1.0)
    assert at.down_since is None
    assert at.silent_since is None


@given(st.lists(st.sampled_from(["answer", "overload", "timeout", "failure"]), max_size=60), st.integers(1, 500))
def test_the_limit_stays_between_one_and_the_ceiling(events: list[str], ceiling: int) -> None:
    at, now = Limit(min(16.0, ceiling), float(ceiling)), 0.0
    for event in events:
        now += 0.5
        if event == "answer":
            at = rules.on_answer(at, int(at.limit), now)
        elif event == "overload":
            at = rules.on_overload(at, now - 0.1, now, None)
        elif event == "timeout":
            at = rules.on_timeout(at, now - 0.1, now)
        else:
            at = rules.on_failure(at, now)
        assert 1.0 <= at.limit <= ceiling
        assert 0 <= room(at, 0, now) <= ceiling


# What is sent again -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["refused", "declined", "fatal"])
def test_a_request_that_cannot_succeed_now_ends_at_once(kind: str) -> None:
    fault = Fault(kind, "why", "no")  # type: ignore[arg-type]
    assert after_fault(fault, Tries(), POLICY, alive=True, jitter=0.5) == GiveUp("why", "no")


def test_transport_errors_end_and_429_does_not_count_as_one() -> None:
    tries = Tries()
    for _ in range(20):
        decision = after_fault(Fault("overload", "rate_limited"), tries, POLICY, alive=True, jitter=0.5)
        assert isinstance(decision, Again)
        tries = decision.tries
    assert (tries.retries, tries.overloads) == (0, 20)
    for _ in range(POLICY.retries):
        decision = after_fault(Fault("transport", "reset"), tries, POLICY, alive=True, jitter=0.5)
        assert isinstance(decision, Again)
        tries = decision.tries
    assert isinstance(after_fault(Fault("transport", "reset"), tries, POLICY, alive=True, jitter=0.5), GiveUp)


def test_a_reply_without_an_answer_may_be_paid_for_and_is_sent_again_twice_at_most() -> None:
    empty, tries, sent = Fault("malformed", "empty_choices", "no answer came"), Tries(), 1
    while isinstance(decision := after_fault(empty, tries, Policy(), alive=True, jitter=0.5), Again):
        tries, sent = decision.tries, sent + 1
    assert sent == 3
    assert decision == GiveUp("gave_up", "3 times: no answer came")


def test_an_outage_says_nothing_against_the_request() -> None:
    tries = Tries()
    for _ in range(POLICY.retries * 5):
        decision = after_fault(Fault("transport", "unreachable"), tries, POLICY, alive=False, jitter=0.5)
        assert isinstance(decision, Again)
        assert decision.after_s <= 3.0
        tries = decision.tries
    assert tries.retries == 0


@pytest.mark.parametrize("fault", [Fault("transport", "unreachable"), Fault("server", "http_500", "answered 500")])
def test_a_probe_that_finds_the_server_away_or_broken_is_not_held_against_its_request(fault: Fault) -> None:
    tries = Tries()
    for _ in range(1000):
        again = after_fault(fault, tries, POLICY, alive=False, jitter=0.5, probe=True)
        assert isinstance(again, Again)
        tries = again.tries
    assert tries == Tries()
    assert isinstance(after_fault(fault, Tries(retries=3), POLICY, alive=True, jitter=0.5), GiveUp)


# When to wait no longer ---------------------------------------------------------------------------------------------------
def down(now: float, fault: Fault) -> Limit:
    at = Limit(8.0, 8.0)
    for _ in range(rules.DOWN_AFTER):
        at = rules.on_failure(at, now)
    return at


def ended(fault: Fault, at: Limit, now: float, *, patience_s: float = 600.0, met: bool = True) -> str | None:
    found = silence("http://here/v1", at, 0, fault, now)
    if found is None:
        return None
    told = verdict([found], patience_s, met=met, model="m")
    return told.what if isinstance(told, End) else None


def test_a_server_that_asks_to_wait_for_a_day_ends_the_run_at_once() -> None:
    fault = Fault("overload", "rate_limited", "answered 429: requests per day", 429, 86_400.0)
    at = rules.on_overload(Limit(8.0, 8.0), 0.0, 1.0, 86_400.0)
    assert ended(fault, at, 1.1) == "the server asks to wait 24 h (answered 429: requests per day)"
    short = rules.on_overload(Limit(8.0, 8.0), 0.0, 1.0, 30.0)
    assert ended(Fault("overload", "rate_limited", "slow down", 429, 30.0), short, 1.1) is None


def test_a_server_that_turns_everybody_away_without_saying_for_how_long_is_left_after_the_patience() -> None:
    fault = Fault("overload", "rate_limited", "answered 429: slow down", 429)
    at = rules.on_overload(Limit(8.0, 8.0), 0.0, 1.0, None)
    assert ended(fault, at, 600.0, met=False) is None, "it is there: it gets the full patience"
    assert ended(fault, at, 602.0) == "for 600 s the server answered 429: slow down, and nothing else"
    assert silence("x", at, 3, fault, 602.0) is None, "what is in flight may yet be answered"


def test_a_server_that_is_broken_is_told_in_its_own_words_and_one_that_is_gone_otherwise() -> None:
    broken = Fault("server", "http_500", "answered 500: CUDA error", 500)
    assert ended(broken, down(1.0, broken), 32.0, met=False) == (
        "for 30 s the server answered 500: CUDA error, and nothing else"
    )
    gone = Fault("transport", "unreachable", "connection refused")
    assert ended(gone, down(1.0, gone), 32.0, met=False) == (
        "the server did not answer within 30 s (connection refused)"
    )
    assert ended(gone, down(1.0, gone), 32.0) is None, "one that has answered is waited for longer"


# Who ends a server --------------------------------------------------------------------------------------------------------
LOST = Fault("transport", "connection_lost")


def test_who_was_there_twice_when_the_server_went_away_is_asked_alone_and_then_named() -> None:
    found = Suspects()
    for turn in (1.0, 2.0):
        for number, key in enumerate("abc" if turn == 1.0 else "ad"):
            found.failed(0, key, number, LOST, turn, alone=False)
        assert sorted(found.went_away(0)) == ([0, 1, 2] if turn == 1.0 else [0, 1])
    assert [key for key in "abcd" if found.to_be_alone(key)] == ["a"]
    assert not found.ends_the_server("a")
    found.failed(0, "a", 9, LOST, 3.0, alone=True)
    assert found.went_away(0) == [9]
    assert found.ends_the_server("a")


def test_a_lost_connection_is_held_against_nobody_if_the_server_is_still_there() -> None:
    found = Suspects()
    for moment in range(5):
        found.failed(0, "a", moment, LOST, float(moment), alone=True)
        found.heard(0, moment + 0.5)
    assert found.went_away(0) == []
    assert not found.to_be_alone("a")
    found.failed(0, "a", 5, LOST, 10.0, alone=True)
    found.heard(0, 9.5)  # sent before: it shows nothing
    assert found.went_away(0) == [5]


def test_a_server_that_is_started_anew_at_once_is_known_by_connections_lost_on_nothing_else() -> None:
    found = Suspects()
    found.failed(0, "a", 0, LOST, 1.0, alone=True)
    found.went_away(0)
    for moment in range(3):
        assert not found.ends_the_server("a")
        found.failed(0, "a", moment, LOST, 2.0 + moment, alone=True)
        found.heard(0, 9.0)
    assert found.ends_the_server("a")


def test_whoever_was_there_in_several_runs_is_named_without_being_sent() -> None:
    found = Suspects()
    found.remember({"a": NEVER_AFTER - 1, "b": NEVER_AFTER})
    assert [found.ends_the_server(key) for key in "ab"] == [False, True]


def test_what_earlier_runs_saw_is_remembered() -> None:
    found = Suspects()
    found.remember({"a": 1, "b": 2})
    assert [found.to_be_alone(key) for key in "abc"] == [False, True, False]
    found.failed(0, "b", 1, LOST, 1.0, alone=True)
    found.went_away(0)
    assert found.ends_the_server("b")
