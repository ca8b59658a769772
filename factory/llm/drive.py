"""Takes an engine of either shape through one intake: calls in an event loop, or an engine that pulls them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from factory.llm.attempts import Attempt, Attempts
from factory.llm.calls import Call
from factory.llm.engines.base import BulkEngine, CallEngine
from factory.llm.intake import Intake
from factory.llm.storing import pause_after
from factory.result import Progress


def in_a_loop(engine: CallEngine, intake: Intake, attempts: Attempts, progress: Progress) -> None:
    """Dispatch in an event loop; in a thread of its own where this one has a loop already (a notebook)."""
    # Everything known is not worth a loop: look at the first chunk before one is started.
    first = intake.next()
    if not first and intake.exhausted:
        return

    async def go() -> None:
        from factory.llm.dispatch import Dispatcher

        dispatcher = Dispatcher(engine, intake, attempts, progress)
        dispatcher.add(first)
        await dispatcher.run()

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(go())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run_loop()
        return
    pool = ThreadPoolExecutor(1, "factory-dispatch")
    try:
        pool.submit(run_loop).result()
    finally:
        pool.shutdown(wait=False)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed (some less CPU for each call), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def in_bulk(engine: BulkEngine, intake: Intake, attempts: Attempts, progress: Progress) -> None:
    """Let an engine pull calls and store its replies as they come.

    A budget that is set aside for calls in flight ends what the engine may pull, and when those have come back it pulls again.
    """
    ledger, calls = attempts.ledger, _calls_of(intake)
    held: list[Call] = []
    running: dict[str, Attempt] = {}
    started = 0

    def pull() -> Iterator[Call]:
        nonlocal started
        while attempts.stop is None and (call := held.pop() if held else next(calls, None)) is not None:
            attempt = attempts.start(call)
            if attempt is None:
                held.append(call)
                return
            running[call.custom_id] = attempt
            started += 1
            yield call

    stored_at, pause = time.monotonic(), pause_after(0.0)
    try:
        while True:
            before = started
            for call, reply in engine.answer(pull()):
                fault, in_flight = reply.fault, len(running)
                missing = attempts.close(running.pop(call.custom_id), reply, "failed", in_flight)
                if fault is not None and fault.kind == "missing" and engine.settings.missing == "stop":
                    attempts.missing.append(call)
                elif fault is not None:
                    attempts.give_up(call, missing, fault, fault.reason, fault.detail)
                if (began := time.monotonic()) - stored_at >= pause:
                    ledger.flush()
                    progress(attempts.answered, intake.n_calls if intake.exhausted else 0, "answers")
                    stored_at = time.monotonic()
                    pause = pause_after(stored_at - began)
            if started == before and held and attempts.budget is not None:
                attempts.stop = attempts.budget.passed(len(held))
            if not held or attempts.stop is not None:
                break
    finally:
        ledger.flush()
    if attempts.stop is not None:
        raise attempts.stop
    if attempts.missing:
        ledger.store_wanted(attempts.missing)
        raise engine.pending(attempts.missing, ledger.stage)
    progress(attempts.answered, attempts.answered, "answers")


def _calls_of(intake: Intake) -> Iterator[Call]:
    """The calls of an intake, chunk by chunk."""
    while not intake.exhausted:
        yield from intake.next()
