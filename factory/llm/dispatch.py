"""Sending calls: as many in flight as each endpoint bears, results taken as they complete, kept in the journal at once.

What to do about each event is decided in `factory.llm.limits`; here it is only done.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from factory.errors import BudgetError, EngineError
from factory.llm import limits as rules
from factory.llm.budget import Budget
from factory.llm.engines.base import Call, CallEngine, Fault, Reply, calls_of
from factory.llm.intake import CHUNK, Intake
from factory.llm.ledger import Ledger
from factory.llm.limits import Flow, GiveUp, Policy, Tries
from factory.llm.request import Answer, AnswerKey, Failure
from factory.result import Progress

STORE_EVERY_S = 1.0
STORE_MOST_S = 5.0
STORE_SHARE = 0.02
"""Replies are moved from the journal into the warehouse once a second; less often, up to five, where that takes more than this
share of the time (opening the file, writing and closing it is some 50 ms, however few the rows)."""

STORE_ROWS = 2000
"""So many are worth a storing of their own."""

PROGRESS_EVERY_S = 1.0

FIRST_PATIENCE_S = 30.0
"""For how long a server that has answered nothing in this run is waited for, if `patience_s` is not shorter."""

GATHER = 32
"""Asks that are read and hashed between two looks at the network: some 5 ms."""

_MOST_UNSTORED = 20_000


def pause_after(taken_s: float) -> float:
    """Seconds from the beginning of one storing to the next, if the last took so long.

    Example:
        >>> pause_after(0.005), pause_after(0.06), pause_after(0.5)
        (1.0, 3.0, 5.0)
    """
    return min(max(taken_s / STORE_SHARE, STORE_EVERY_S), STORE_MOST_S)


@dataclass(slots=True)
class Work:
    """One call on its way."""

    call: Call
    tries: Tries = field(default_factory=Tries)
    number: int = 0
    endpoint: int = 0
    sent_at: float = 0.0
    probe: bool = False
    reserved: tuple[float, int] | None = None


@dataclass(slots=True)
class Endpoint:
    """One place to send to, and what happens there."""

    name: str
    flow: Flow
    in_flight: int = 0
    answered: int = 0
    window_from: float = 0.0
    window_limit: float = 0.0
    starved: bool = False
    peak: int = 0


Told = Callable[[Mapping[AnswerKey, "Answer | Failure"]], None]


class Dispatcher:
    """Runs the calls of one intake through one engine.

    Args:
        engine: Whom to ask.
        intake: Gives the calls.
        ledger: Where replies are stored.
        told: Called with each outcome.
        budget: Kept before it is passed; or None.
        progress: Called about once a second.
        seed: For the jitter of repetitions.
    """

    def __init__(
        self,
        engine: CallEngine,
        intake: Intake,
        ledger: Ledger,
        *,
        told: Told,
        budget: Budget | None,
        progress: Progress,
        seed: int = 0,
    ) -> None:
        self.engine, self.intake, self.ledger = engine, intake, ledger
        self.told, self.budget, self.progress = told, budget, progress
        settings = engine.settings
        share = max(settings.concurrency / max(len(engine.endpoints), 1), 1.0)
        start = min(float(settings.start), share)
        self.endpoints = [Endpoint(name, Flow(start, share)) for name in engine.endpoints]
        self.policy = Policy(retries=settings.retries)
        self.patience_s = settings.patience_s
        self.ready: deque[Work] = deque()
        self.delayed: list[tuple[float, int, Work]] = []
        self.done: deque[tuple[Work, Reply]] = deque()
        self.freed: deque[tuple[Work, Reply, int]] = deque()
        self.sent = self.answered = self.failed = 0
        self._dice = random.Random(seed)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._chunk: asyncio.Future[list[Call]] | None = None
        self._all_in = intake.exhausted
        self._storing: asyncio.Future[None] | None = None
        self._stored_at = self._told_at = time.monotonic()
        self._store_after = pause_after(0.0)
        self._stop: EngineError | BudgetError | None = None
        self._order = 0
        self._says = ""

    async def run(self) -> None:
        """Send everything; return when every call has its outcome and all is stored.

        Raises:
            EngineError: The server was away for longer than `patience_s`, or refuses everyone. What was answered is stored.
            BudgetError: The next call might pass the budget. Likewise.
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
                if self._free_all():
                    # The next calls leave before what came is written down: the server shall not wait for our books.
                    self._send(time.monotonic())
                    await asyncio.sleep(0)
                self._settle_all()
                self._watch(time.monotonic())
                await self._store_if_due(time.monotonic())
        finally:
            await self._end()
        if self._stop is not None:
            raise self._stop

    # In --------------------------------------------------------------------------------------------------------------
    def _take_in(self, now: float) -> None:
        while self.delayed and self.delayed[0][0] <= now:
            self.ready.append(heapq.heappop(self.delayed)[2])
        if self._chunk is not None and self._chunk.done():
            self.ready.extend(Work(call) for call in self._chunk.result())
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
        return low and self._chunk is None and not self._all_in and self._stop is None

    def _finished(self) -> bool:
        if self._tasks or self.done:
            return False
        if self._stop is not None:
            return True
        return not (self.ready or self.delayed or self._chunk) and self._all_in

    # Out -------------------------------------------------------------------------------------------------------------
    def _send(self, now: float) -> None:
        self._send_all(now)
        for at in self.endpoints:
            at.peak = at.in_flight
            at.starved = at.starved or rules.room(at.flow, at.in_flight, now) > 0

    def _send_all(self, now: float) -> None:
        if self._stop is not None or self.ledger.unstored > _MOST_UNSTORED:
            return
        while self.ready:
            endpoint = self._freest(now)
            if endpoint is None:
                return
            work = self.ready[0]
            if self.budget is not None:
                work.reserved = self.budget.reserve(work.call, self.ledger.price)
                if work.reserved is None:
                    if self.budget.idle:
                        self._stop = self.budget.passed(len(self.ready) + len(self.delayed))
                    return
            self.ready.popleft()
            at = self.endpoints[endpoint]
            work.probe = at.flow.down_since is not None
            at.flow = rules.probing(at.flow, now)
            at.in_flight += 1
            work.endpoint, work.sent_at = endpoint, now
            work.number = self.ledger.started(work.call)
            self.sent += 1
            task = asyncio.ensure_future(self._one(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _freest(self, now: float) -> int | None:
        best, least = None, 2.0
        for number, at in enumerate(self.endpoints):
            if rules.room(at.flow, at.in_flight, now) > 0:
                load = at.in_flight / max(at.flow.limit, 1.0)
                if load < least:
                    best, least = number, load
        return best

    async def _one(self, work: Work) -> None:
        try:
            reply = await self.engine.call(work.endpoint, work.call)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a bug of the engine: this call ends with it, and the others are kept
            reply = Reply(fault=Fault("fatal", "engine_bug", f"{type(error).__name__}: {error}"))
        self.done.append((work, reply))
        self._wake.set()

    # Back ------------------------------------------------------------------------------------------------------------
    def _free_all(self) -> bool:
        """Make room for what has come back. Returns whether all of it are answers: then nothing speaks against sending more."""
        now, good = time.monotonic(), bool(self.done)
        while self.done:
            work, reply = self.done.popleft()
            self._free(work, reply, now)
            good = good and reply.fault is None
        return good

    def _free(self, work: Work, reply: Reply, now: float) -> None:
        at, fault = self.endpoints[work.endpoint], reply.fault
        self.freed.append((work, reply, at.in_flight))
        at.in_flight -= 1
        if reply.answers or (fault is not None and fault.kind in {"refused", "malformed"}):
            latency_s = (reply.latency_ms or 0.0) / 1e3
            at.flow = rules.on_answer(at.flow, at.peak, now, latency_s, sent_at=work.sent_at)
            at.answered += 1
        elif fault is not None and fault.kind == "overload":
            at.flow = rules.on_overload(at.flow, work.sent_at, now, fault.retry_after_s)
        elif fault is not None and fault.kind == "timeout":
            at.flow = rules.on_timeout(at.flow, work.sent_at, now)
        else:
            at.flow = rules.on_failure(at.flow, now)

    def _settle_all(self) -> None:
        self._free_all()
        now = time.monotonic()
        while self.freed:
            self._settle(*self.freed.popleft(), now)

    def _settle(self, work: Work, reply: Reply, in_flight: int, now: float) -> None:
        """Write down what came, and decide what to do about what failed."""
        at, call, fault = self.endpoints[work.endpoint], work.call, reply.fault
        decision = None
        if fault is not None:
            alive = at.flow.answered_at >= work.sent_at
            jitter = self._dice.random()
            decision = rules.after_fault(fault, work.tries, self.policy, alive=alive, jitter=jitter, probe=work.probe)
        outcome = "answered" if fault is None else "failed" if isinstance(decision, GiveUp) else "retried"
        answers = self.ledger.add(work.number, call, reply, outcome, in_flight=in_flight)
        if self.budget is not None and work.reserved is not None:
            billed = (0, 0.0) if fault is None else (fault.tokens_in + fault.tokens_out, 0.0)
            self.budget.settle(work.reserved, call, answers.values(), billed)
        if answers:
            self.answered += len(answers)
            self.engine.has_answered = True
            self.told(answers)
        if fault is None or decision is None:
            return
        if fault.kind == "fatal" and self._stop is None:
            self._stop = EngineError(
                f"the engine refuses every request ({fault.reason}: {fault.detail})", where=at.name
            )
        missing = [sample for sample in range(call.first, call.last + 1) if sample not in reply.answers]
        if isinstance(decision, GiveUp):
            self.failed += len(missing)
            self.told({(call.request.key, sample): Failure(decision.reason, decision.detail) for sample in missing})
            return
        for again in calls_of(call.request, missing, max_n=self.engine.settings.max_n):
            self._order += 1
            heapq.heappush(self.delayed, (now + decision.after_s, self._order, Work(again, decision.tries)))

    # Meanwhile -------------------------------------------------------------------------------------------------------
    def _watch(self, now: float) -> None:
        """Close windows of throughput; say when everything is down, and end the run when that lasts too long."""
        for at in self.endpoints:
            if now - at.window_from < max(1.0, 2.0 * at.flow.latency_s):
                continue
            steady = at.window_limit and 0.8 < at.flow.limit / at.window_limit < 1.25
            if steady and not at.starved and at.flow.down_since is None and at.answered:
                at.flow = rules.on_window(at.flow, at.answered / (now - at.window_from), at.window_limit, now)
            # a window that begins while the endpoint is down says nothing of its speed
            began_at = at.flow.limit if at.flow.down_since is None else 0.0
            at.window_from, at.window_limit, at.answered, at.starved = now, began_at, 0, False
        down = [at.flow.down_since for at in self.endpoints if at.flow.down_since is not None]
        self._says = ""
        if len(down) == len(self.endpoints):
            away = now - max(down)
            met = self.engine.has_answered
            patience = self.patience_s if met else min(self.patience_s, FIRST_PATIENCE_S)
            self._says = f"{self.endpoints[0].name} is away for {away:.0f} s; waiting for it, at most {patience:.0f} s"
            if away > patience and self._stop is None:
                self._stop = EngineError(
                    f"the server {'did not come back' if met else 'did not answer'} within {patience:g} s",
                    where=self.endpoints[0].name,
                    fix=f"Every answer so far is stored; start the server (`vllm serve {self.engine.settings.model or 'MODEL'}`)"
                    " or check `engine: {url: ...}`, and run again",
                )

    async def _wait(self, now: float) -> None:
        until = now + 0.25
        if self.delayed:
            until = min(until, self.delayed[0][0])
        for at in self.endpoints:
            if self.ready and at.flow.paused_until > now:
                until = min(until, at.flow.paused_until)
        if self._gathering:
            until = now
        if self.done:
            return
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(max(until - now, 0.0), self._wake.set)
        await self._wake.wait()
        timer.cancel()

    async def _store_if_due(self, now: float) -> None:
        if self._storing is not None and self._storing.done():
            self._storing.result()
            self._storing = None
        many = self.ledger.unstored >= STORE_ROWS
        if self._storing is None and now - self._stored_at >= (STORE_EVERY_S if many else self._store_after):
            self._stored_at = now
            self._storing = asyncio.ensure_future(self._store())
        if now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            total = 0 if not self.intake.exhausted else self.intake.n_calls
            self.progress(self.answered + self.failed, total, self._says or "answers")

    async def _store(self) -> None:
        batch = self.ledger.take()
        if batch.attempts:
            began = time.monotonic()
            await asyncio.to_thread(self.ledger.store, batch)
            self.ledger.settle(batch)
            self._store_after = pause_after(time.monotonic() - began)

    async def _end(self) -> None:
        """Cancel what is still in flight (the journal knows of it) and store what is not stored."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._chunk is not None:
            await asyncio.gather(self._chunk, return_exceptions=True)
        self._settle_all()
        if self._storing is not None:
            await asyncio.gather(self._storing, return_exceptions=True)
        try:
            await self._store()
        finally:
            await self.engine.shut()
        self.progress(self.answered + self.failed, self.answered + self.failed, "answers")
