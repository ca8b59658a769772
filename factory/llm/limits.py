"""How many calls may be in flight to one endpoint, and what becomes of a call that failed. Pure: values in, values out.

Additive increase, multiplicative decrease, with slow start (Jacobson, "Congestion Avoidance and Control", 1988). A cut needs a
call that was sent after the last cut, so that one burst of 429 cuts once. Queue growth is seen by the *knee*: the smallest
in-flight limit at which throughput came within 5% of its best; well beyond twice the knee more calls only wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from factory.llm.engines.base import Fault

DOWN_AFTER = 6
"""Failures in a row, without an answer in between, after which an endpoint counts as down."""

_SLOWEST_PROBE_S = 2.0
_LOWEST = 1.0


@dataclass(frozen=True, slots=True)
class Flow:
    """What we know of one endpoint. Times are seconds of a monotonic clock.

    Attributes:
        limit: Calls that may be in flight.
        ceiling: The limit never passes this.
        threshold: Slow start ends here.
        cut_at: When the limit was cut last.
        before_cut: The limit before that, or what slow start was leading it to.
        paused_until: Nothing is sent before.
        answered_at: When the last answer came.
        failures: Transport and server failures since the last answer.
        down_since: When it was found down, or None while it is up.
        marks: `(limit, throughput)` of past windows, by limit.
        answers: Answers so far.
        latency_s: Their latency, a moving average.
        best_latency_s: The smallest that this average has been.
        turned_away: Share of the last calls that got a 429, a moving average.
        tried_lower_from: The limit before a lower one was tried, while it is being tried.
        tried_lower: Whether a lower limit has been tried.
    """

    limit: float
    ceiling: float
    threshold: float = math.inf
    cut_at: float = -math.inf
    before_cut: float = 0.0
    paused_until: float = -math.inf
    answered_at: float = -math.inf
    failures: int = 0
    down_since: float | None = None
    marks: tuple[tuple[float, float], ...] = ()
    answers: int = 0
    latency_s: float = 0.0
    best_latency_s: float = math.inf
    turned_away: float = 0.0
    tried_lower_from: float | None = None
    tried_lower: bool = False


def room(flow: Flow, in_flight: int, now: float) -> int:
    """How many calls may be sent now. An endpoint that is down gets one at a time, to see whether it is back."""
    if now < flow.paused_until:
        return 0
    if flow.down_since is not None:
        return 1
    return max(int(flow.limit) - in_flight, 0)


def probing(flow: Flow, now: float) -> Flow:
    """A call was sent to an endpoint that is down: the next one waits a little longer."""
    if flow.down_since is None:
        return flow
    wait = min(0.25 * 1.5 ** min(flow.failures - DOWN_AFTER, 12), _SLOWEST_PROBE_S)
    return replace(flow, paused_until=now + max(wait, 0.25))


def on_answer(flow: Flow, in_flight: int, now: float, latency_s: float = 0.0, *, sent_at: float = math.inf) -> Flow:
    """An answer came. The limit grows only if it was used; slow start ends when answers take three times as long as at best.

    Args:
        flow: The endpoint.
        in_flight: Most calls in flight since we last sent.
        now: The time.
        latency_s: From sending to the last byte.
        sent_at: When its call was sent. What was sent before an outage does not show that the outage is over.
    """
    if flow.down_since is not None and sent_at < flow.down_since:
        return replace(flow, answered_at=now)
    if flow.down_since is not None:
        start = min(flow.ceiling, max(flow.limit, 8.0))
        return replace(
            flow,
            limit=start,
            down_since=None,
            failures=0,
            answered_at=now,
            paused_until=-math.inf,
            marks=(),
            cut_at=now,
        )
    answers = flow.answers + 1
    average = latency_s if answers == 1 else flow.latency_s + (latency_s - flow.latency_s) / min(answers, 32)
    best = min(flow.best_latency_s, average) if answers >= 16 else math.inf
    limit, threshold = flow.limit, flow.threshold
    if in_flight >= int(limit):
        limit += 1.0 if limit < threshold else max(1.0, 0.02 * limit) / limit
    if limit < threshold and average > 3.0 * best:
        threshold = limit
    return replace(
        flow,
        limit=min(limit, flow.ceiling),
        threshold=threshold,
        failures=0,
        answered_at=now,
        answers=answers,
        latency_s=average,
        best_latency_s=best,
        turned_away=flow.turned_away * (15.0 / 16.0),
    )


def on_overload(flow: Flow, sent_at: float, now: float, retry_after_s: float | None) -> Flow:
    """A 429, or a 503 that says when to come back: cut once per round trip, and wait as long as we are told.

    The cut is by half of the share of calls that were turned away lately (as DCTCP does, Alizadeh et al. 2010): a stray 429
    costs little, a server that turns most of them away is left in peace within a few round trips.
    """
    paused = flow.paused_until if retry_after_s is None else max(flow.paused_until, now + retry_after_s)
    share = flow.turned_away + (1.0 - flow.turned_away) / 16.0
    flow = replace(flow, turned_away=share)
    return replace(_cut(flow, 1.0 - share / 2.0, sent_at, now), paused_until=paused, failures=0)


def on_timeout(flow: Flow, sent_at: float, now: float) -> Flow:
    """No answer in time."""
    return _failed(_cut(flow, 0.5, sent_at, now), now)


def on_failure(flow: Flow, now: float) -> Flow:
    """A transport error or a 5xx."""
    return _failed(flow, now)


def on_window(flow: Flow, throughput: float, limit: float, now: float) -> Flow:
    """A second of full load has passed.

    Args:
        flow: The endpoint.
        throughput: Answers per second in the window.
        limit: The in-flight limit during the window.
        now: The time.

    Returns:
        The flow with the window remembered, and cut to twice the knee if it had grown well past that. One batch in the
        making and one in the server's queue keep the server busy while we store or are held up. Where only large limits
        were seen, Little's law (the best throughput times the best latency) says how many calls would do if nothing waited; that
        is tried once, and taken back if it costs throughput.
    """
    bucket = round(math.log(max(limit, 1.0), 1.25))
    marks = {round(math.log(max(at, 1.0), 1.25)): (at, rate) for at, rate in flow.marks}
    old = marks.get(bucket)
    marks[bucket] = (limit, throughput if old is None else 0.5 * old[1] + 0.5 * throughput)
    kept = tuple(marks[key] for key in sorted(marks))
    flow = replace(flow, marks=kept)
    best = max(rate for _, rate in kept)
    knee = min(at for at, rate in kept if rate >= 0.95 * best)
    if flow.tried_lower_from is not None and limit < flow.tried_lower_from:
        back = flow.tried_lower_from if throughput < 0.95 * best else flow.limit
        return replace(flow, limit=back, tried_lower_from=None)
    if limit > 2.5 * knee and knee >= 4.0:
        return _lower(flow, 2.0 * knee, now)
    useful = best * flow.best_latency_s if math.isfinite(flow.best_latency_s) else math.inf
    if not flow.tried_lower and limit > 3.0 * useful and useful >= 4.0:
        return replace(_lower(flow, 2.0 * useful, now), tried_lower_from=limit, tried_lower=True)
    return flow


def _lower(flow: Flow, limit: float, now: float) -> Flow:
    limit = min(max(limit, _LOWEST), flow.ceiling)
    return replace(flow, limit=limit, threshold=limit, cut_at=now)


def _cut(flow: Flow, factor: float, sent_at: float, now: float) -> Flow:
    if sent_at < flow.cut_at or flow.down_since is not None:
        return flow
    limit = max(flow.limit * factor, _LOWEST)
    return replace(flow, limit=limit, threshold=limit, cut_at=now, before_cut=_goal(flow), marks=())


def _goal(flow: Flow) -> float:
    """Where the limit stands, or where slow start after an outage leads it."""
    return max(flow.limit, flow.threshold) if math.isfinite(flow.threshold) else flow.limit


def _failed(flow: Flow, now: float) -> Flow:
    """One failure more; the sixth in a row is an outage. Slow start then leads back to where the limit stood before it."""
    failures = flow.failures + 1
    if flow.down_since is not None or failures < DOWN_AFTER:
        return replace(flow, failures=failures)
    timeouts_cut_it = flow.cut_at > flow.answered_at
    stood = max(_goal(flow), flow.before_cut) if timeouts_cut_it else _goal(flow)
    return replace(
        flow,
        failures=failures,
        down_since=now,
        paused_until=now + 0.25,
        limit=min(max(flow.limit / 2.0, 8.0), flow.ceiling),
        threshold=stood,
    )


# A call that failed -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of repetition.

    Attributes:
        retries: Repetitions after transport errors, timeouts, 5xx and malformed replies.
        overloads: Repetitions after 429, which say nothing against the request.
        outages: Repetitions of a call whose endpoint answered nobody since it was sent.
        base_s: First wait, in seconds; doubles each time.
        longest_s: Longest wait.
    """

    retries: int = 6
    overloads: int = 1000
    outages: int = 200
    base_s: float = 0.25
    longest_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a call was repeated, by cause."""

    counted: int = 0
    overloads: int = 0
    outages: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Send the call again after so many seconds."""

    after_s: float
    tries: Tries


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The call will not be sent again in this run."""

    reason: str
    detail: str


def after_fault(
    fault: Fault, tries: Tries, policy: Policy, *, alive: bool, jitter: float, probe: bool = False
) -> Again | GiveUp:
    """What to do about a call that failed.

    Args:
        fault: What happened.
        tries: What happened before.
        policy: The bounds.
        alive: Whether the endpoint answered anybody since the call was sent; if not, a transport error says nothing about
            this call.
        jitter: A random number in [0, 1).
        probe: Whether the call only looked whether an endpoint that was down is back: that it is not says nothing about the
            call, and how long to look is the run's patience.
    """
    if fault.kind in {"refused", "missing", "fatal"}:
        return GiveUp(fault.reason, fault.detail)
    if probe and fault.kind == "transport":
        return Again(policy.base_s * (0.5 + jitter), tries)
    kind: Literal["counted", "overloads", "outages"]
    if fault.kind == "overload":
        kind = "overloads"
    elif fault.kind == "transport" and not alive:
        kind = "outages"
    else:
        kind = "counted"
    done = getattr(tries, kind) + 1
    tries = Tries(
        done if kind == "counted" else tries.counted,
        done if kind == "overloads" else tries.overloads,
        done if kind == "outages" else tries.outages,
    )
    most = {"counted": policy.retries, "overloads": policy.overloads, "outages": policy.outages}[kind]
    if done > most:
        return GiveUp("gave_up", f"{fault.reason} {done} times; {fault.detail}".rstrip("; "))
    if fault.retry_after_s is not None:
        return Again(fault.retry_after_s + jitter * policy.base_s, tries)
    longest = 2.0 if kind == "outages" else policy.longest_s if kind == "counted" else 5.0
    wait = min(policy.base_s * 2.0 ** min(done - 1, 16), longest)
    return Again(wait * (0.5 + jitter), tries)
