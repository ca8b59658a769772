"""One attempt at a time, from what is set aside for it to what came of it on the books: the same for both shapes of engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from factory.errors import FactoryError, Unanswered
from factory.llm.budget import Budget, Reserved
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import Engine
from factory.llm.estimate import answer_bound
from factory.llm.ledger import Ledger
from factory.llm.request import Answer, AnswerKey, Failure
from factory.llm.rows import Bill

Told = Callable[[Mapping[AnswerKey, "Answer | Failure"]], None]

ALIKE = 5
"""So many requests given up for one reason and no answer, at the beginning: nothing that follows would fare better."""

_KEPT = "Every answer so far is stored: mend it and run again"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call on its way: its number in the ledger, and what the budget sets aside for it."""

    call: Call
    number: int
    reserved: Reserved | None


class Attempts:
    """The attempts of one `send`; `told` is called with outcomes as they come.

    Attributes:
        answered, failed: Samples.
        missing: Calls whose answers must come another way (`Pending`).
        stop: Why nothing more is to be sent, or None.
    """

    def __init__(self, ledger: Ledger, engine: Engine, budget: Budget | None, told: Told) -> None:
        self.ledger, self.engine, self.told = ledger, engine, told
        self.budget = budget if engine.billed else None
        self.answered = self.failed = 0
        self.missing: list[Call] = []
        self.stop: FactoryError | None = None
        self._refusals: list[tuple[str, str]] = []

    def start(self, call: Call) -> Attempt | None:
        """Set aside what a call may cost, and note that it goes out now; None if the budget might be passed.

        Raises:
            BudgetError: The budget cannot be kept for such a call.
        """
        reserved = None
        if self.budget is not None:
            reserved = self.budget.reserve(call, self.ledger.price, answer_bound(call, self.engine))
            if reserved is None:
                return None
        return Attempt(call, self.ledger.started(call, noted=not self.engine.keeps_calls), reserved)

    def close(self, attempt: Attempt, reply: Reply, outcome: str, in_flight: int) -> list[int]:
        """Put on the books what came, pass the answers on, and free what was set aside.

        Args:
            attempt: From `start`.
            reply: What came.
            outcome: `retried` or `failed`, if there is a fault and no answer.
            in_flight: Calls in flight meanwhile.

        Returns:
            The samples that have no answer.
        """
        call, fault = attempt.call, reply.fault
        answers: dict[AnswerKey, Answer]
        bill: Bill
        if reply.on_record or (fault is not None and fault.kind == "missing" and not reply.answers):
            self.ledger.journal.stored([attempt.number])
            priced, bill = self.ledger.priced(call, reply)
            answers = {(call.request.key, sample): answer for sample, answer in priced.answers.items()}
        else:
            if fault is None or reply.answers:
                outcome = "answered" if fault is None or fault.kind == "missing" else "partial"
            answers, bill = self.ledger.add(attempt.number, call, reply, outcome, in_flight=in_flight)
        if self.budget is not None and attempt.reserved is not None:
            self.budget.settle(attempt.reserved, call, bill.usage, bill.cost, answer_bound(call, self.engine))
        if answers:
            self.answered += len(answers)
            self.engine.has_answered = True
            self.told(answers)
        return [sample for sample in range(call.first, call.last + 1) if sample not in reply.answers]

    def give_up(self, call: Call, samples: Iterable[int], fault: Fault, reason: str, detail: str) -> None:
        """Pass on that these samples have no answer in this run; whether that decides anything depends on the fault.

        Whoever asked for `missing: fail` lets everything decide.
        """
        final = fault.kind == "declined" or self.engine.settings.missing == "fail"
        failures = {(call.request.key, sample): Failure(reason, detail, final) for sample in samples}
        self.failed += len(failures)
        self.told(dict(failures))
        if fault.kind == "fatal":
            self.end(f"the engine refuses every request: {fault.detail}", fix=fault.fix)
        elif not final and reason != "ends_the_server":
            self._refusals.append((fault.reason, re.sub(r"\d+", "0", fault.detail)))
            if not self.answered and len(self._refusals) == ALIKE == self._refusals.count(self._refusals[0]):
                what = "refuses every request" if fault.kind == "refused" else "answers no request"
                self.end(f"the engine {what}: {detail}", fix=fault.fix)

    def end(self, what: str, *, where: str | None = None, fix: str = "") -> None:
        """Send nothing more, unless that is so already."""
        if self.stop is None:
            where = where or next(iter(getattr(self.engine, "endpoints", ())), None)
            self.stop = Unanswered(what, where=where, fix=f"{fix}. {_KEPT}" if fix else _KEPT)
