"""Decisions of the dispatcher: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.llm import EngineSettings
from factory.llm import limits as rules
from factory.llm.dispatch import Dispatcher
from factory.llm.engines.base import Fault
from factory.llm.limits import Again, Flow, GiveUp, Policy, Tries, after_fault, room

POLICY = Policy(retries=3)


def test_slow_start_doubles_in_a_round_trip_and_then_grows_by_steps() -> None:
    flow = Flow(8.0, 1000.0)
    for _ in range(8):
        flow = rules.on_answer(flow, int(flow.limit), 1.0)
    assert flow.limit == 16.0
    flow = Flow(100.0, 1000.0, threshold=50.0)
    for _ in range(100):
        flow = rules.on_answer(flow, int(flow.limit), 1.0)
    assert 101.0 < flow.limit < 103.0


def test_slow_start_ends_when_answers_take_three_times_as_long_as_at_best() -> None:
    flow = Flow(8.0, 1000.0)
    for _ in range(60):
        flow = rules.on_answer(flow, int(flow.limit), 1.0, 0.2)
    assert flow.threshold == float("inf")
    for _ in range(200):
        flow = rules.on_answer(flow, int(flow.limit), 1.0, 0.9)
    assert flow.threshold < 200.0


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    assert rules.on_answer(Flow(8.0, 100.0), 3, 1.0).limit == 8.0


def test_one_burst_of_429_cuts_once_and_the_next_cuts_deeper() -> None:
    flow = Flow(100.0, 1000.0)
    for _ in range(50):
        flow = rules.on_overload(flow, 1.0, 2.0, None)
    assert 95.0 < flow.limit < 100.0
    once = flow.limit
    assert rules.on_overload(flow, 2.5, 3.0, None).limit < 0.55 * once


def test_stray_429s_leave_most_of_the_limit() -> None:
    flow, now = Flow(64.0, 256.0, threshold=1.0), 0.0
    for number in range(4000):
        now += 0.01
        if number % 16 == 0:
            flow = rules.on_overload(flow, now, now, None)
        else:
            flow = rules.on_answer(flow, int(flow.limit), now, 0.1)
    assert flow.limit > 16.0


def test_retry_after_pauses_everything() -> None:
    flow = rules.on_overload(Flow(100.0, 1000.0), 1.0, 2.0, 5.0)
    assert room(flow, 0, 6.9) == 0
    assert room(flow, 0, 7.1) == int(flow.limit) > 90


def test_failures_in_a_row_bring_an_endpoint_down_and_an_answer_brings_it_back_half_way() -> None:
    flow = Flow(128.0, 256.0)
    for _ in range(rules.DOWN_AFTER):
        flow = rules.on_failure(flow, 1.0)
    assert flow.down_since == 1.0
    assert room(flow, 100, 1.1) == 0
    assert room(flow, 100, 2.0) == 1
    flow = rules.probing(flow, 2.0)
    assert room(flow, 0, 2.1) == 0
    back = rules.on_answer(flow, 0, 5.0)
    assert back.down_since is None
    assert back.limit == 64.0
    assert back.threshold == 128.0


def test_what_was_sent_before_an_outage_does_not_end_it() -> None:
    flow = Flow(64.0, 256.0)
    for _ in range(rules.DOWN_AFTER):
        flow = rules.on_failure(flow, 10.0)
    flow = rules.on_answer(flow, 64, 10.5, 0.4, sent_at=9.9)
    assert flow.down_since == 10.0
    flow = rules.on_answer(flow, 1, 11.0, 0.2, sent_at=10.8)
    assert flow.down_since is None
    assert flow.threshold == 64.0


@pytest.mark.parametrize("failure", ["reset", "timeout"])
def test_outages_one_after_another_do_not_lower_what_slow_start_returns_to(failure: str) -> None:
    flow = Flow(200.0, 256.0)
    for now in (10.0, 20.0, 30.0):
        for _ in range(rules.DOWN_AFTER):
            flow = rules.on_failure(flow, now) if failure == "reset" else rules.on_timeout(flow, now - 1.0, now)
        flow = rules.on_answer(flow, 1, now + 5.0, 0.2, sent_at=now + 4.0)
        assert flow.threshold == 200.0
    for _ in range(200):
        flow = rules.on_answer(flow, int(flow.limit), 36.0, 0.2)
    assert flow.limit >= 200.0


def test_an_answer_in_between_keeps_it_up() -> None:
    flow = Flow(128.0, 256.0)
    for _ in range(20):
        flow = rules.on_answer(rules.on_failure(flow, 1.0), 0, 1.0)
    assert flow.down_since is None


def test_queue_growth_is_cut_to_the_knee() -> None:
    flow = Flow(1000.0, 2000.0, threshold=10.0)
    for limit, rate in ((32, 160.0), (64, 320.0), (128, 640.0), (256, 642.0), (1000, 641.0)):
        flow = rules.on_window(flow, rate, float(limit), 1.0)
    assert flow.limit == pytest.approx(2.0 * 128)


def test_where_only_large_limits_were_seen_a_lower_one_is_tried_and_kept_if_it_costs_nothing() -> None:
    flow = Flow(500.0, 2000.0, threshold=10.0, best_latency_s=0.2)
    flow = rules.on_window(flow, 640.0, 500.0, 1.0)
    assert flow.limit == pytest.approx(256.0)
    flow = rules.on_window(flow, 638.0, 256.0, 2.0)
    assert flow.limit == pytest.approx(256.0)


def test_a_lower_limit_that_costs_throughput_is_taken_back_for_good() -> None:
    flow = Flow(500.0, 2000.0, threshold=10.0, best_latency_s=0.2)
    flow = rules.on_window(flow, 640.0, 500.0, 1.0)
    flow = rules.on_window(flow, 400.0, 256.0, 2.0)
    assert flow.limit == 500.0
    assert rules.on_window(flow, 640.0, 500.0, 3.0).limit == 500.0


def test_a_batch_that_makes_more_of_more_is_let_grow() -> None:
    flow = Flow(1000.0, 2000.0, threshold=10.0)
    for limit, rate in ((32, 100.0), (128, 300.0), (512, 700.0), (1000, 900.0)):
        flow = rules.on_window(flow, rate, float(limit), 1.0)
    assert flow.limit == 1000.0


def test_a_request_that_cannot_succeed_ends_at_once() -> None:
    assert after_fault(Fault("refused", "bad_request", "no"), Tries(), POLICY, alive=True, jitter=0.5) == GiveUp(
        "bad_request", "no"
    )


def test_transport_errors_end_and_429_does_not_count_as_one() -> None:
    tries = Tries()
    for _ in range(20):
        decision = after_fault(Fault("overload", "rate_limited"), tries, POLICY, alive=True, jitter=0.5)
        assert isinstance(decision, Again)
        tries = decision.tries
    assert (tries.counted, tries.overloads) == (0, 20)
    for _ in range(POLICY.retries):
        decision = after_fault(Fault("transport", "reset"), tries, POLICY, alive=True, jitter=0.5)
        assert isinstance(decision, Again)
        tries = decision.tries
    assert isinstance(after_fault(Fault("transport", "reset"), tries, POLICY, alive=True, jitter=0.5), GiveUp)


def test_an_outage_says_nothing_against_the_request() -> None:
    tries = Tries()
    for _ in range(POLICY.retries * 5):
        decision = after_fault(Fault("transport", "unreachable"), tries, POLICY, alive=False, jitter=0.5)
        assert isinstance(decision, Again)
        assert decision.after_s <= 3.0
        tries = decision.tries
    assert tries.counted == 0


def test_a_probe_that_finds_the_server_away_is_not_held_against_its_request() -> None:
    gone, tries = Fault("transport", "unreachable"), Tries()
    for _ in range(1000):
        again = after_fault(gone, tries, POLICY, alive=False, jitter=0.5, probe=True)
        assert isinstance(again, Again)
        tries = again.tries
    assert tries == Tries()
    assert isinstance(
        after_fault(Fault("server", "http_500"), Tries(3), POLICY, alive=False, jitter=0.5, probe=True), GiveUp
    )


@given(
    st.lists(st.sampled_from(["answer", "overload", "timeout", "failure", "window"]), max_size=60), st.integers(1, 500)
)
def test_the_limit_stays_between_one_and_the_ceiling(events: list[str], ceiling: int) -> None:
    flow, now = Flow(min(16.0, ceiling), float(ceiling)), 0.0
    for event in events:
        now += 0.5
        if event == "answer":
            flow = rules.on_answer(flow, int(flow.limit), now)
        elif event == "overload":
            flow = rules.on_overload(flow, now - 0.1, now, None)
        elif event == "timeout":
            flow = rules.on_timeout(flow, now - 0.1, now)
        elif event == "failure":
            flow = rules.on_failure(flow, now)
        else:
            flow = rules.on_window(flow, 10.0 + len(event), flow.limit, now)
        assert 1.0 <= flow.limit <= ceiling
        assert 0 <= room(flow, 0, now) <= ceiling


def test_a_window_that_began_in_an_outage_does_not_lower_the_limit() -> None:
    engine: Any = SimpleNamespace(
        settings=EngineSettings(kind="server", url="http://127.0.0.1:1/v1"), endpoints=("one",), has_answered=True
    )
    work: Any = SimpleNamespace(exhausted=True)
    dispatcher = Dispatcher(engine, work, Any, told=print, budget=None, progress=print)
    (at,) = dispatcher.endpoints
    up = Flow(128.0, 256.0, answers=100, latency_s=0.2, best_latency_s=0.2)
    at.flow = replace(up, down_since=1.0)
    dispatcher._watch(10.0)
    at.flow, at.answered = up, 60  # it is back: a tenth of what 128 in flight give in a second
    dispatcher._watch(11.0)
    assert at.flow == up
    at.answered = 60
    dispatcher._watch(12.0)
    assert at.flow.limit < 128.0, "a whole window with so few answers does"
