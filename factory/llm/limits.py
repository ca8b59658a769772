"""How many calls may be in flight to one endpoint: additive increase, multiplicative decrease, and whether it is down.

Slow start doubles the limit with every round trip until something speaks against it (Jacobson, "Congestion Avoidance and
Control", 1988). A cut needs a call that was sent after the last cut, so that one burst of 429 cuts once. Pure, but that
`Endpoint` keeps count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.llm.calls import Fault, Reply

DOWN_AFTER = 6
"""Failures in a row, without an answer in between, after which an endpoint counts as down."""

_KEPT_AFTER_429 = 0.8
_KEPT_AFTER_TIMEOUT = 0.5
_QUICKEST_PROBE_S, _SLOWEST_PROBE_S = 0.25, 2.0
_LOWEST, _BACK_WITH = 1.0, 8.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What we know of one endpoint. Times are seconds of a monotonic clock.

    Attributes:
        limit: Calls that may be in flight.
        ceiling: The limit never passes this.
        threshold: Slow start ends here; after an outage, where the limit stood before it.
        cut_at: When the limit was cut last.
        paused_until: Nothing is sent before.
        answered_at: When the last answer came.
        silent_since: When the first failure after the last answer came, or None while answers come.
        stood: Where the limit stood then, or where slow start was leading it to.
        failures: Transport and server failures since the last answer.
        down_since: When it was found down, or None while it is up.
    """

    limit: float
    ceiling: float
    threshold: float = math.inf
    cut_at: float = -math.inf
    paused_until: float = -math.inf
    answered_at: float = -math.inf
    silent_since: float | None = None
    stood: float = 0.0
    failures: int = 0
    down_since: float | None = None


def room(at: Limit, in_flight: int, now: float) -> int:
    """How many calls may be sent now. An endpoint that is down gets one at a time, to see whether it is back."""
    if now < at.paused_until:
        return 0
    if at.down_since is not None:
        return 1
    return max(int(at.limit) - in_flight, 0)


def probing(at: Limit, now: float) -> Limit:
    """A call was sent to an endpoint that is down: the next one waits a little longer."""
    if at.down_since is None:
        return at
    wait = min(_QUICKEST_PROBE_S * 1.5 ** min(at.failures - DOWN_AFTER, 12), _SLOWEST_PROBE_S)
    return replace(at, paused_until=now + max(wait, _QUICKEST_PROBE_S))


def on_answer(at: Limit, in_flight: int, now: float, *, sent_at: float = math.inf) -> Limit:
    """An answer came. The limit grows only if it was used.

    Args:
        at: The endpoint.
        in_flight: Most calls in flight since we last sent.
        now: The time.
        sent_at: When its call was sent. What was sent before an outage does not show that the outage is over.
    """
    if at.down_since is not None and sent_at < at.down_since:
        return replace(at, answered_at=now)
    heard = replace(at, answered_at=now, failures=0, silent_since=None)
    if at.down_since is not None:
        limit = min(at.ceiling, max(at.limit, _BACK_WITH))
        return replace(heard, limit=limit, down_since=None, paused_until=-math.inf, cut_at=now)
    limit = at.limit
    if in_flight >= int(limit):
        limit += 1.0 if limit < at.threshold else max(1.0, 0.02 * limit) / limit
    return replace(heard, limit=min(limit, at.ceiling))


def on_overload(at: Limit, sent_at: float, now: float, retry_after_s: float | None) -> Limit:
    """A 429, or a 503 that says when to come back: cut once per round trip, and wait as long as we are told."""
    paused = at.paused_until if retry_after_s is None else max(at.paused_until, now + retry_after_s)
    at = _cut(_silent(at, now), _KEPT_AFTER_429, sent_at, now)
    return replace(at, paused_until=paused, failures=0)


def on_timeout(at: Limit, sent_at: float, now: float) -> Limit:
    """No answer in time."""
    return on_failure(_cut(_silent(at, now), _KEPT_AFTER_TIMEOUT, sent_at, now), now)


def on_failure(at: Limit, now: float) -> Limit:
    """A transport error or a 5xx; the sixth in a row is an outage. Slow start then leads back to where the limit stood."""
    at = replace(_silent(at, now), failures=at.failures + 1)
    if at.down_since is not None or at.failures < DOWN_AFTER:
        return at
    limit = min(max(at.limit / 2.0, _BACK_WITH), at.ceiling)
    return replace(at, down_since=now, paused_until=now + _QUICKEST_PROBE_S, limit=limit, threshold=at.stood)


def _silent(at: Limit, now: float) -> Limit:
    """The first failure after an answer: from now on we wait for the next one."""
    if at.silent_since is not None:
        return at
    return replace(at, silent_since=now, stood=max(at.limit, at.threshold if math.isfinite(at.threshold) else 0.0))


def _cut(at: Limit, kept: float, sent_at: float, now: float) -> Limit:
    if sent_at < at.cut_at or at.down_since is not None:
        return at
    limit = max(at.limit * kept, _LOWEST)
    return replace(at, limit=limit, threshold=limit, cut_at=now)


@dataclass(slots=True)
class Endpoint:
    """One place to send to, by a name that may be shown.

    Attributes:
        limit: How many calls it bears.
        in_flight: How many it has; `peak` is the most since we last sent, `sent` those sent so far.
        last: The last fault.
    """

    name: str
    limit: Limit
    in_flight: int = 0
    peak: int = 0
    sent: int = 0
    last: Fault | None = None

    @property
    def down(self) -> bool:
        """Whether it answers nobody, so that a call only looks whether it is back."""
        return self.limit.down_since is not None

    def send(self, now: float) -> int:
        """A call goes there now. Returns its number if nothing else is in flight there, else 0."""
        self.sent += 1
        self.in_flight += 1
        self.limit = probing(self.limit, now)
        return self.sent if self.in_flight == 1 else 0

    def took(self, reply: Reply, sent_at: float, now: float) -> bool:
        """A call came back. Returns whether that shows the endpoint at work."""
        self.in_flight -= 1
        fault = reply.fault
        self.last = fault or self.last
        if reply.answers or fault is None or fault.is_an_answer:
            self.limit = on_answer(self.limit, self.peak, now, sent_at=sent_at)
            return True
        if fault.kind == "overload":
            self.limit = on_overload(self.limit, sent_at, now, fault.retry_after_s)
        elif fault.kind == "timeout":
            self.limit = on_timeout(self.limit, sent_at, now)
        else:
            self.limit = on_failure(self.limit, now)
            if fault.retry_after_s is not None:
                self.limit = replace(self.limit, paused_until=max(self.limit.paused_until, now + fault.retry_after_s))
        return False


def freest(endpoints: Sequence[Endpoint], now: float) -> int | None:
    """The endpoint with room that has least of what it bears, or None if none has room."""
    free = [number for number, at in enumerate(endpoints) if room(at.limit, at.in_flight, now) > 0]
    return min(
        free, key=lambda number: endpoints[number].in_flight / max(endpoints[number].limit.limit, 1.0), default=None
    )
