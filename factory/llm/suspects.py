"""Requests that a server may die of: which were in its hands when it went away, and which of them are asked last and alone.

A server that crashes takes every call in flight with it, and most of them are innocent. Whoever was there twice is asked after
everything else, with nothing beside it; if the server goes away again, it is this request, which is then named and not sent again
in this run. The next run may ask it once more, alone. Whoever was there `NEVER_AFTER` times is
named and sent no more. Nothing is decided by that, so the request stays open. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from factory.llm.calls import Fault, FaultKind

ALONE_AFTER = 2
"""So many times a server went away while it worked on a request that is then asked last and alone."""

NEVER_AFTER = 3
"""So many times a server went away while it worked on a request, of all runs, that is then never sent again."""

_LOSSES: frozenset[FaultKind] = frozenset({"transport", "server"})


@dataclass(frozen=True, slots=True)
class _Loss:
    key: str
    number: int
    at: float
    alone: bool


class Suspects:
    """Keeps count for one run. Keys are those of requests, numbers those of attempts, times those of one clock."""

    def __init__(self) -> None:
        self._lost: dict[int, list[_Loss]] = {}
        self._exits: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()
        self._lost_alone: Counter[str] = Counter()

    def remember(self, exits: Mapping[str, int]) -> None:
        """What earlier runs saw: how often a server went away while it worked on a request."""
        for key, count in exits.items():
            self._exits[key] = max(self._exits[key], count)

    def failed(self, endpoint: int, key: str, number: int, fault: Fault, now: float, *, alone: bool) -> None:
        """A call failed that was sent to a server that seemed well. `alone`: nothing else was in flight meanwhile."""
        if fault.kind in _LOSSES and fault.reason != "unreachable":
            self._lost_alone[key] += alone and fault.kind == "transport" and self.to_be_alone(key)
            self._lost.setdefault(endpoint, []).append(_Loss(key, number, now, alone))

    def heard(self, endpoint: int, sent_at: float) -> None:
        """An answer came to a call sent then: what was lost before was lost by the connection, and not by the server."""
        if endpoint in self._lost:
            self._lost[endpoint] = [loss for loss in self._lost[endpoint] if loss.at >= sent_at]

    def went_away(self, endpoint: int) -> list[int]:
        """The server cannot be reached any more. Returns the attempts that were lost with it."""
        lost = self._lost.pop(endpoint, [])
        self._exits.update({loss.key for loss in lost})
        self._alone.update({loss.key for loss in lost if loss.alone})
        return [loss.number for loss in lost]

    def to_be_alone(self, key: str) -> bool:
        """Whether a request is asked after everything else, with nothing beside it."""
        return self._exits[key] >= ALONE_AFTER or self._alone[key] > 0

    def ends_the_server(self, key: str) -> bool:
        """Whether the server went away more than once while it worked on a request, and at least once on nothing else.

        A server that is started anew at once is never missed: there, so many connections lost on nothing else say it.
        """
        named = self._exits[key] >= ALONE_AFTER and self._alone[key] > 0
        return named or self._lost_alone[key] > ALONE_AFTER or self._exits[key] >= NEVER_AFTER
