"""One place to send to, and what happens there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from factory.llm import limits
from factory.llm.calls import Fault, Reply
from factory.llm.limits import Limit
from factory.llm.patience import Silence, silence


@dataclass(slots=True)
class Endpoint:
    """One place to send to.

    Attributes:
        name: As it may be shown.
        limit: How many calls it bears.
        in_flight: How many it has.
        peak: Most in flight since we last sent.
        sent: Calls sent so far.
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
        self.limit = limits.probing(self.limit, now)
        return self.sent if self.in_flight == 1 else 0

    def took(self, reply: Reply, sent_at: float, now: float) -> bool:
        """A call came back. Returns whether that shows the endpoint at work."""
        self.in_flight -= 1
        fault = reply.fault
        self.last = fault or self.last
        if reply.answers or fault is None or fault.is_an_answer:
            self.limit = limits.on_answer(self.limit, self.peak, now, sent_at=sent_at)
            return True
        if fault.kind == "overload":
            self.limit = limits.on_overload(self.limit, sent_at, now, fault.retry_after_s)
        elif fault.kind == "timeout":
            self.limit = limits.on_timeout(self.limit, sent_at, now)
        else:
            self.limit = limits.on_failure(self.limit, now)
            if fault.retry_after_s is not None:
                self.limit = replace(self.limit, paused_until=max(self.limit.paused_until, now + fault.retry_after_s))
        return False

    def silence(self, now: float) -> Silence | None:
        """Whether it answers nobody, and since when."""
        return silence(self.name, self.limit, self.in_flight, self.last, now)


def freest(endpoints: Sequence[Endpoint], now: float) -> int | None:
    """The endpoint with room that has least of what it bears, or None if none has room."""
    free = [number for number, at in enumerate(endpoints) if limits.room(at.limit, at.in_flight, now) > 0]
    return min(
        free, key=lambda number: endpoints[number].in_flight / max(endpoints[number].limit.limit, 1.0), default=None
    )
