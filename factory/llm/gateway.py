"""The way in: ask a set of requests, get every answer that can be had, with everything stored before it is handed back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from factory.llm.budget import Budget
from factory.llm.engines.base import BulkEngine, Call, CallEngine, Engine
from factory.llm.intake import Intake
from factory.llm.ledger import Ledger
from factory.llm.prices import price_of
from factory.llm.request import Answer, AnswerKey, Ask, Failure, Outcomes, Request
from factory.result import Progress, no_progress
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.prompts import ParseFailure

T = TypeVar("T")


@dataclass(frozen=True)
class Sent:
    """What `send` did.

    Attributes:
        known: Answers that were there before.
        answered: Answers that came now.
        failed: Samples that have no answer and will get none in this run.
    """

    known: int
    answered: int
    failed: int


@dataclass(frozen=True)
class Parsed(Generic[T]):
    """A value that was read from an answer.

    Attributes:
        value: What the parser made of it.
        request_key: Of the request whose answer parsed (a repetition is a request of its own).
        sample_no: Its sample.
        answer: The answer itself.
    """

    value: T
    request_key: str
    sample_no: int
    answer: Answer


def ask(
    warehouse: Warehouse,
    engine: Engine,
    asks: Sequence[Ask],
    *,
    stage: str,
    budget: Budget | None = None,
    progress: Progress = no_progress,
) -> Outcomes:
    """Answers to all of these, asking for those alone that the warehouse does not have.

    Args:
        warehouse: Where answers are looked up and stored.
        engine: Whom to ask.
        asks: Requests and their samples; repeated ones are asked once.
        stage: Stored with each request.
        budget: Kept before it is passed.
        progress: Called about once a second with samples done and in all.

    Returns:
        For every `(request_key, sample_no)` its answer, or why there is none.

    Raises:
        Pending: A `batch` or `recorded` engine lacks answers.
        BudgetError: The budget would be passed. What was answered is stored.
        EngineError: No server, a wrong key, no such model. Likewise.
    """
    outcomes: Outcomes = {}
    send(warehouse, engine, asks, stage=stage, budget=budget, progress=progress, told=outcomes.update, want_known=True)
    return outcomes


def send(
    warehouse: Warehouse,
    engine: Engine,
    asks: Iterable[Ask],
    *,
    stage: str,
    budget: Budget | None = None,
    progress: Progress = no_progress,
    told: Callable[[Mapping[AnswerKey, Answer | Failure]], None] | None = None,
    want_known: bool = False,
) -> Sent:
    """Like `ask`, for any number of requests: they are read as they are needed, and nothing is kept in memory.

    Args:
        warehouse: Where answers are looked up and stored.
        engine: Whom to ask.
        asks: Requests and their samples, perhaps from a generator.
        stage: Stored with each request.
        budget: Kept before it is passed.
        progress: Called about once a second.
        told: Called with outcomes as they come (in the dispatcher's thread).
        want_known: Whether `told` also hears of answers that were there before.

    Raises:
        Pending, BudgetError, EngineError: As `ask`.
    """
    counts = {"answered": 0, "failed": 0}
    known_at_hand: Callable[[Mapping[AnswerKey, Answer]], None] | None = told if want_known else None

    def tell(outcomes: Mapping[AnswerKey, Answer | Failure]) -> None:
        for outcome in outcomes.values():
            counts["answered" if isinstance(outcome, Answer) else "failed"] += 1
        if told is not None:
            told(outcomes)

    first = list(_peek(asks))
    if not first:
        return Sent(0, 0, 0)
    ledger = Ledger(
        warehouse, stage=stage, engine=engine.name, price=price_of(engine.settings, first[0][0].request.model.name)
    )
    ledger.recover()
    intake = Intake(first[0][1], ledger, engine, known_at_hand)
    try:
        if isinstance(engine, CallEngine):
            _in_a_loop(engine, intake, ledger, tell, budget, progress)
        elif isinstance(engine, BulkEngine):
            _in_bulk(engine, intake, ledger, tell, budget, progress, stage)
    finally:
        ledger.close()
    return Sent(intake.n_known, counts["answered"], counts["failed"])


def ask_parsed(
    warehouse: Warehouse,
    engine: Engine,
    requests: Sequence[tuple[Request, int]],
    parse: Callable[[Request, str], T],
    *,
    again: Callable[[Request, str, ParseFailure], Request] | None = None,
    tries: int = 2,
    stage: str,
    budget: Budget | None = None,
    progress: Progress = no_progress,
) -> list[Parsed[T] | Failure]:
    """Ask, parse, and ask again with the error shown where an answer cannot be read.

    Args:
        warehouse: As for `ask`.
        engine: As for `ask`.
        requests: `(request, sample_no)`.
        parse: From a request and the text of its answer to a value; raises `ParseFailure`.
        again: Makes the request that shows the model its error; None never asks again.
        tries: Most answers looked at for each, the first included.
        stage: As for `ask`.
        budget: As for `ask`.
        progress: As for `ask`.

    Returns:
        In the order of `requests`, each its value, or why there is none: `length` (the answer was cut off),
        `content_refused`, the code of the last parse failure, or the engine's reason.

    Raises:
        Pending, BudgetError, EngineError: As `ask`.
    """
    from factory.prompts import ParseFailure

    found: list[Parsed[T] | Failure] = [Failure("not_asked")] * len(requests)
    open_ones = {at: request for at, (request, _) in enumerate(requests)}
    for turn in range(max(tries, 1)):
        if not open_ones:
            break
        asks = [Ask(request, (requests[at][1],)) for at, request in open_ones.items()]
        outcomes = ask(warehouse, engine, asks, stage=stage, budget=budget, progress=progress)
        following: dict[int, Request] = {}
        for at, request in open_ones.items():
            outcome = outcomes[(request.key, requests[at][1])]
            unusable = outcome if isinstance(outcome, Failure) else _unusable(outcome)
            if unusable is not None or isinstance(outcome, Failure):
                found[at] = unusable or Failure("not_asked")
                continue
            try:
                found[at] = Parsed(parse(request, outcome.text), request.key, requests[at][1], outcome)
            except ParseFailure as failure:
                found[at] = Failure(failure.code, failure.words)
                if again is not None and turn + 1 < tries:
                    following[at] = again(request, outcome.text, failure)
        open_ones = following
    return found


def _unusable(answer: Answer) -> Failure | None:
    """Answers that are outcomes of their own, never parsed as if whole."""
    if answer.finish_reason == "length":
        return Failure("length", f"the answer was cut off after {answer.usage.tokens_out} tokens")
    if answer.finish_reason == "content_filter":
        return Failure("content_refused", answer.text[:200])
    return None


# ----------------------------------------------------------------------------------------------------------------------
def _peek(asks: Iterable[Ask]) -> Iterable[tuple[Ask, Iterable[Ask]]]:
    """The first ask, and all of them."""
    from itertools import chain

    rest = iter(asks)
    for first in rest:
        yield first, chain((first,), rest)
        return


def _in_a_loop(
    engine: CallEngine,
    intake: Intake,
    ledger: Ledger,
    told: Callable[[Mapping[AnswerKey, Answer | Failure]], None],
    budget: Budget | None,
    progress: Progress,
) -> None:
    """Dispatch in an event loop; in a thread of its own where this one has a loop already (a notebook)."""
    # Everything known is not worth a loop: look at the first chunk before one is started.
    first = intake.next()
    if not first and intake.exhausted:
        return

    async def go() -> None:
        from factory.llm.dispatch import Dispatcher, Work

        dispatcher = Dispatcher(engine, intake, ledger, told=told, budget=budget, progress=progress)
        dispatcher.ready.extend(Work(call) for call in first)
        await dispatcher.run()

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(go())

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run_loop()
        return
    raised: list[BaseException] = []

    def run() -> None:
        try:
            run_loop()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="factory-dispatch")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed (some less CPU for each call), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _in_bulk(
    engine: BulkEngine,
    intake: Intake,
    ledger: Ledger,
    told: Callable[[Mapping[AnswerKey, Answer | Failure]], None],
    budget: Budget | None,
    progress: Progress,
    stage: str,
) -> None:
    """Let an engine pull calls and store its replies as they come."""
    from factory.llm.dispatch import pause_after

    numbers: dict[str, tuple[int, tuple[float, int] | None]] = {}
    missing: list[Call] = []
    passed = False

    def calls() -> Iterable[Call]:
        nonlocal passed
        while not intake.exhausted:
            for call in intake.next():
                reserved = None
                if budget is not None and (reserved := budget.reserve(call, ledger.price)) is None:
                    passed = True
                    return
                numbers[call.custom_id] = (ledger.started(call), reserved)
                yield call

    done, stored_at, pause = 0, time.monotonic(), pause_after(0.0)
    try:
        for call, reply in engine.answer(calls()):
            number, reserved = numbers.pop(call.custom_id)
            fault = reply.fault
            if fault is not None and fault.kind == "missing":
                missing.append(call)
            answers = {}
            if reply.answers or fault is None or fault.kind != "missing":
                outcome = "answered" if fault is None or fault.kind == "missing" else "failed"
                answers = ledger.add(number, call, reply, outcome, in_flight=len(numbers) + 1)
                done += len(answers)
                told(answers)
            else:
                ledger.journal.stored([number])
            if budget is not None and reserved is not None:
                budget.settle(reserved, call, answers.values())
            if fault is not None and fault.kind != "missing":
                left = [sample for sample in range(call.first, call.last + 1) if sample not in reply.answers]
                told({(call.request.key, sample): Failure(fault.reason, fault.detail) for sample in left})
            if (began := time.monotonic()) - stored_at >= pause:
                ledger.flush()
                progress(done, 0 if not intake.exhausted else intake.n_calls, "answers")
                stored_at = time.monotonic()
                pause = pause_after(stored_at - began)
    finally:
        ledger.flush()
    if passed and budget is not None:
        raise budget.passed(1)
    if missing:
        ledger.store_wanted(missing)
        raise engine.pending(missing, stage)
    progress(done, done, "answers")
