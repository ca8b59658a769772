"""Sending calls: as many in flight as each endpoint bears, results taken as they complete, kept in the journal at once.

What to do about each event is decided in `factory.llm.limits` and `factory.llm.retries`; here it is only done.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from factory.llm.attempts import Attempt, Attempts
from factory.llm.calls import Call, Fault, Reply, calls_of
from factory.llm.engines.base import CallEngine
from factory.llm.faults import plain
from factory.llm.intake import CHUNK, Intake
from factory.llm.limits import Endpoint, Limit, freest
from factory.llm.patience import End, silence, verdict
from factory.llm.retries import GiveUp, Policy, Tries, after_fault
from factory.llm.storing import Storing
from factory.llm.suspects import Suspects
from factory.result import Progress

PROGRESS_EVERY_S = 1.0

GATHER = 32
"""Asks that are read and hashed between two looks at the network: some 5 ms."""

_MOST_UNSTORED = 20_000

SEEDS = "If it ends at batches with seeds, as vLLM on a CPU may, give `engine: {seed: null}`: `factory engine check` tries that"


@dataclass(slots=True, eq=False)
class Work:
    """One call, from the queue to its outcome."""

    call: Call
    tries: Tries = field(default_factory=Tries)
    attempt: Attempt | None = None
    endpoint: int = 0
    sent_at: float = 0.0
    ticket: int = 0
    probe: bool = False
    gone: bool = False


class Dispatcher:
    """Runs the calls of one intake through one engine; `progress` is called about once a second."""

    def __init__(self, engine: CallEngine, intake: Intake, attempts: Attempts, progress: Progress) -> None:
        self.engine, self.intake, self.attempts, self.progress = engine, intake, attempts, progress
        self.ledger = attempts.ledger
        settings = engine.settings
        share = max(settings.concurrency / max(len(engine.endpoints), 1), 1.0)
        start = min(float(settings.start), share)
        self.endpoints = [Endpoint(name, Limit(start, share)) for name in engine.endpoints]
        self.policy = Policy(retries=settings.retries)
        self.suspects = Suspects()
        self.ready: deque[Work] = deque()
        self.alone: deque[Work] = deque()
        self.delayed: list[tuple[float, int, Work]] = []
        self.done: deque[tuple[Work, Reply]] = deque()
        self._dice = random.Random(0)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunk: asyncio.Future[list[Call]] | None = None
        self._all_in = intake.exhausted
        self._storing = Storing(self.ledger)
        self._told_at = time.monotonic()
        self._order = 0

    async def run(self) -> None:
        """Send everything; return when every call has its outcome and all is stored.

        Raises:
            Unanswered, BudgetError: Nothing more is to be sent. What was answered is stored.
        """
        await self.engine.open()
        try:
            while True:
                now = time.monotonic()
                self._take_in(now)
                self._send(now)
                if self._finished():
                    break
                await self._wait(now)
                # In the journal before the next calls go out: no kill loses more than is in flight.
                self._settle_all()
                self._watch(time.monotonic())
                self._storing.begin_if_due(time.monotonic())
        finally:
            await self._end()
        if self.attempts.stop is not None:
            raise self.attempts.stop

    # In --------------------------------------------------------------------------------------------------------------
    def add(self, calls: list[Call]) -> None:
        """Take calls into the queue."""
        self.suspects.remember(self.ledger.exits({call.request.key for call in calls}))
        self.ready.extend(Work(call) for call in calls)

    def _take_in(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self.delayed)[2])
        if self._chunk is not None and self._chunk.done():
            self.add(self._chunk.result())
            self._chunk = None
        # Hashing is done here in slices: in a thread it would take the interpreter from this loop for 5 ms at a time.
        if self._gathering and self.intake.gather(GATHER):
            self._all_in = self.intake.exhausted
            self._chunk = asyncio.ensure_future(asyncio.to_thread(self.intake.look_up))
            self._chunk.add_done_callback(lambda _: self._wake.set())

    @property
    def _gathering(self) -> bool:
        """Whether more asks are to be read now."""
        low = len(self.ready) + len(self.delayed) < CHUNK // 2
        return low and self._chunk is None and not self._all_in and self.attempts.stop is None

    @property
    def _nothing_else(self) -> bool:
        """Whether nothing is in flight, and nothing is left but what must be asked alone."""
        return self._all_in and not (self._tasks or self.done or self.ready or self.delayed or self._chunk)

    def _finished(self) -> bool:
        if self._tasks or self.done:
            return False
        return self.attempts.stop is not None or (self._nothing_else and not self.alone)

    # Out -------------------------------------------------------------------------------------------------------------
    def _send(self, now: float) -> None:
        if self.attempts.stop is None and self.ledger.unstored <= _MOST_UNSTORED:
            while self.ready and self._send_one(self.ready, now):
                pass
            if self.alone and self._nothing_else:
                self._send_one(self.alone, now)
        for at in self.endpoints:
            at.peak = at.in_flight

    def _send_one(self, queue: deque[Work], now: float) -> bool:
        """Send the first of a queue, if there is room and money for it. Returns whether the next may follow."""
        work, key = queue[0], queue[0].call.request.key
        if self.suspects.ends_the_server(key):
            self._name(queue.popleft())
            return True
        if self.suspects.to_be_alone(key) and queue is self.ready:
            self.alone.append(queue.popleft())
            return True
        endpoint = freest(self.endpoints, now)
        if endpoint is None:
            return False
        work.attempt = self.attempts.start(work.call)
        if work.attempt is None:
            budget = self.attempts.budget
            if budget is not None and budget.idle:
                self.attempts.stop = budget.passed(len(self.ready) + len(self.delayed) + len(self.alone))
            return False
        queue.popleft()
        at = self.endpoints[endpoint]
        work.endpoint, work.sent_at, work.probe = endpoint, now, at.down
        work.ticket = at.send(now)
        task = asyncio.ensure_future(self._one(work, check=queue is self.alone))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _name(self, work: Work) -> None:
        """Give up a request of which the server dies, and say which it is."""
        call, missing = work.call, range(work.call.first, work.call.last + 1)
        glimpse = plain(call.request.messages[-1]["content"], most=80)
        words = f"the server went away whenever it worked on request {call.request.key[:12]} ({glimpse})"
        words += self._of_seeds
        self.attempts.give_up(call, missing, Fault("server", "ends_the_server"), "ends_the_server", words)

    @property
    def _of_seeds(self) -> str:
        """What may help where a server goes away."""
        return "" if self.engine.settings.seed is None else f". {SEEDS}"

    async def _one(self, work: Work, *, check: bool) -> None:
        try:
            if check and not await self.engine.is_up(work.endpoint):
                # Only if the server was there before does it mean anything that it goes away.
                work.probe = True
                reply = Reply(fault=Fault("transport", "unreachable", "the server is not back"))
            else:
                reply = await self.engine.call(work.endpoint, work.call)
                # A server that was started anew meanwhile would not be missed later.
                if reply.lost and (check or work.ticket or self.endpoints[work.endpoint].limit.failures):
                    work.gone = not await self.engine.is_up(work.endpoint)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a bug of the engine: this call ends with it, and the others are kept
            reply = Reply(fault=Fault("fatal", "engine_bug", f"{type(error).__name__}: {error}"))
        self.done.append((work, reply))
        self._wake.set()

    # Back ------------------------------------------------------------------------------------------------------------
    def _settle_all(self) -> None:
        """Make room for what has come back, and write it down."""
        now = time.monotonic()
        came = list(self.done)
        self.done.clear()
        in_flight = [self._free(work, reply, now) for work, reply in came]
        for (work, reply), beside in zip(came, in_flight, strict=True):
            self._settle(work, reply, beside)

    def _free(self, work: Work, reply: Reply, now: float) -> int:
        """Make room for one call; returns how many were in flight with it."""
        at, fault, number = self.endpoints[work.endpoint], reply.fault, work.endpoint
        assert work.attempt is not None
        in_flight = at.in_flight
        if at.took(reply, work.sent_at, now):
            self.suspects.heard(number, work.sent_at)
        elif fault is not None:
            if not work.probe:
                key, alone = work.call.request.key, work.ticket == at.sent
                self.suspects.failed(number, key, work.attempt.number, fault, now, alone=alone)
            if work.gone or fault.reason == "unreachable" or (work.probe and fault.kind == "transport"):
                self.ledger.went_away(self.suspects.went_away(number))
        return in_flight

    def _settle(self, work: Work, reply: Reply, in_flight: int) -> None:
        """Write down what came, and decide what to do about what failed."""
        call, fault = work.call, reply.fault
        assert work.attempt is not None
        if fault is None:
            self.attempts.close(work.attempt, reply, "answered", in_flight)
            return
        alive, jitter = self.endpoints[work.endpoint].limit.answered_at >= work.sent_at, self._dice.random()
        decision = after_fault(fault, work.tries, self.policy, alive=alive, jitter=jitter, probe=work.probe)
        if isinstance(decision, GiveUp):
            missing = self.attempts.close(work.attempt, reply, "failed", in_flight)
            self.attempts.give_up(call, missing, fault, decision.reason, decision.detail)
            return
        missing = self.attempts.close(work.attempt, reply, "retried", in_flight)
        for again in calls_of(call.request, missing, max_n=self.engine.settings.max_n):
            self._order += 1
            due = time.monotonic() + decision.after_s
            heapq.heappush(self.delayed, (due, self._order, Work(again, decision.tries)))

    # Meanwhile -------------------------------------------------------------------------------------------------------
    def _watch(self, now: float) -> None:
        """Say how far it is, and that no endpoint answers; end the run when that lasts too long."""
        what = "answers"
        silent = (silence(at.name, at.limit, at.in_flight, at.last, now) for at in self.endpoints)
        found = [one for one in silent if one is not None]
        if self.attempts.stop is None and len(found) == len(self.endpoints):
            settings = self.engine.settings
            told = verdict(found, settings.patience_s, met=self.engine.has_answered, model=settings.model)
            if isinstance(told, End):
                went = self.engine.has_answered and any(
                    at.last and at.last.kind == "transport" for at in self.endpoints
                )
                self.attempts.end(told.what, where=told.where, fix=told.fix + self._of_seeds * went)
                return
            what = told
        if now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            total = self.intake.n_calls if self.intake.exhausted else 0
            self.progress(self.attempts.answered + self.attempts.failed, total, what)

    async def _wait(self, now: float) -> None:
        if self.done:
            return
        paused = [at.limit.paused_until for at in self.endpoints if self.ready and at.limit.paused_until > now]
        until = now if self._gathering else min([now + 0.25, *(due for due, _, _ in self.delayed[:1]), *paused])
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(max(until - now, 0.0), self._wake.set)
        await self._wake.wait()
        timer.cancel()

    async def _end(self) -> None:
        """Cancel what is still in flight (the journal knows of it) and store what is not stored."""
        for task in self._tasks:
            task.cancel()
        left: list[asyncio.Future[Any]] = [*self._tasks, *([self._chunk] if self._chunk is not None else ())]
        await asyncio.gather(*left, return_exceptions=True)
        self._settle_all()
        try:
            await self._storing.end()
        finally:
            await self.engine.shut()
        done = self.attempts.answered + self.attempts.failed
        self.progress(done, done, "answers")
