"""From asks to the calls that are still to be made: looked up a chunk at a time, those that share a prefix together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from factory.llm.calls import Call, calls_of
from factory.llm.engines.base import Engine
from factory.llm.ledger import Ledger
from factory.llm.request import Answer, AnswerKey, Ask

Known = Callable[[Mapping[AnswerKey, Answer]], None]

CHUNK = 4096
"""Asks that are looked up with one join; bounds what is held in memory."""


class Intake:
    """Reads asks as they are needed: `gather` a chunk (in slices, it hashes), then `look_up` what of it is missing.

    The asks may be a generator, and a million of them; `known` is called with the answers that are there, if anybody wants them.
    """

    def __init__(self, asks: Iterable[Ask], ledger: Ledger, engine: Engine, known: Known | None) -> None:
        self._asks = iter(asks)
        self._ledger, self._engine, self._known = ledger, engine, known
        self._chunk: list[Ask] = []
        self._seen: set[int] = set()
        self.exhausted = False
        self.n_known = 0
        self.n_calls = 0

    def gather(self, most: int = CHUNK) -> bool:
        """Read and hash at most so many asks more. Returns whether a chunk is ready: it is full, or the asks are at their end."""
        room = min(most, CHUNK - len(self._chunk))
        taken = list(islice(self._asks, room))
        for ask in taken:
            self._engine.check_model(ask.request)
            ask.request.key, ask.request.content_key  # noqa: B018 - hashed here, where slices are small
        self._chunk += taken
        if len(taken) < room:
            self.exhausted = True
        return self.exhausted or len(self._chunk) >= CHUNK

    def look_up(self) -> list[Call]:
        """The calls of the gathered chunk that have no answer yet (perhaps none). May run in another thread."""
        chunk, self._chunk = self._chunk, []
        if not chunk:
            return []
        self._engine.arrived([ask.request for ask in chunk], self._ledger)
        found = self._ledger.missing(chunk, want_answers=self._known is not None)
        self.n_known += found.n_known
        if self._known is not None and found.known:
            self._known(found.known)
        calls = []
        for request, holes in found.asks:
            name = int(request.key[:24], 16)
            samples = [s for first, last in holes for s in range(first, last + 1) if (name << 20) + s not in self._seen]
            self._seen.update((name << 20) + sample for sample in samples)
            calls += calls_of(request, samples, max_n=self._engine.settings.max_n)
        self.n_calls += len(calls)
        return grouped(calls)

    def next(self) -> list[Call]:
        """The calls of the next chunk, gathered and looked up at once; sets `exhausted` at the end."""
        while not self.gather():
            pass
        return self.look_up()


def grouped(calls: list[Call]) -> list[Call]:
    """Calls with the same first message together, groups in order of their first call: so a prefix cache is hit.

    Example:
        Calls whose first messages are A, B, A come back as A, A, B.
    """
    groups: dict[str, list[Call]] = {}
    for call in calls:
        first = call.request.messages[0]["content"] if call.request.messages else ""
        groups.setdefault(first, []).append(call)
    return [call for group in groups.values() for call in group]
