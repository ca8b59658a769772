"""The way in: ask a set of requests, get every answer that can be had, with everything stored before it is handed back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

from factory.errors import Unanswered
from factory.llm.attempts import Attempts, Told
from factory.llm.budget import Budget
from factory.llm.drive import in_a_loop, in_bulk
from factory.llm.engines.base import BulkEngine, CallEngine, Engine
from factory.llm.intake import Intake, Known
from factory.llm.ledger import Ledger
from factory.llm.prices import listed_price, price_of
from factory.llm.request import Answer, Ask, Failure, Outcomes, ParseFailure, Request
from factory.result import Progress, no_progress
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import plans

T = TypeVar("T")


@dataclass(frozen=True)
class Sent:
    """What `send` did: answers that were there before, answers that came now, samples that get none in this run."""

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


@dataclass
class Asker:
    """Whom a stage asks, where the answers are kept, and on whose account.

    Attributes:
        warehouse: Where answers are looked up and stored.
        engine: Whom to ask.
        stage: Stored with each request.
        budget: Kept before it is passed.
        progress: Called about once a second with samples done and in all.
        notes: What a person should be told of the asking, once: a price that was taken from our table, a batch that expired.
    """

    warehouse: Warehouse
    engine: Engine
    stage: str
    budget: Budget | None = None
    progress: Progress = no_progress
    notes: list[str] = field(default_factory=list)

    def ask(self, asks: Sequence[Ask]) -> Outcomes:
        """Answers to all of these, asking for those alone that the warehouse does not have.

        Args:
            asks: Requests and their samples; repeated ones are asked once.

        Returns:
            For every `(request_key, sample_no)` its answer, or why there is none.

        Raises:
            Pending: A `batch` or `recorded` engine lacks answers.
            BudgetError: The budget would be passed. What was answered is stored.
            Unanswered: No server, a refused key, an empty balance, no such model. Likewise.
        """
        outcomes: Outcomes = {}
        self.send(asks, told=outcomes.update, want_known=True)
        return outcomes

    def send(self, asks: Iterable[Ask], *, told: Told | None = None, want_known: bool = False) -> Sent:
        """Like `ask`, for any number of requests: they are read as they are needed, and nothing is kept in memory.

        Args:
            asks: Requests and their samples, perhaps from a generator.
            told: Called with outcomes as they come (in the dispatcher's thread).
            want_known: Whether `told` also hears of answers that were there before.

        Raises:
            Pending, BudgetError, Unanswered: As `ask`.
        """
        told = told or (lambda _: None)
        known: Known | None = told if want_known else None
        rest = iter(asks)
        first = next(rest, None)
        if first is None:
            return Sent(0, 0, 0)
        engine, model = self.engine, first.request.model.name
        price = price_of(engine.settings, model)
        free = engine.name == "recorded"
        ledger = Ledger(self.warehouse, stage=self.stage, engine=engine.name, price=price, free=free)
        ledger.recover()
        intake = Intake(chain((first,), rest), ledger, engine, known)
        attempts = Attempts(ledger, engine, self.budget, told)
        try:
            engine.resume(ledger, self.progress)
            if isinstance(engine, CallEngine):
                in_a_loop(engine, intake, attempts, self.progress)
            elif isinstance(engine, BulkEngine):
                in_bulk(engine, intake, attempts, self.progress)
        finally:
            ledger.close()
            self._note_price(model, attempts.answered)
            self.notes += engine.says
            engine.says.clear()
        return Sent(intake.n_known, attempts.answered, attempts.failed)

    def parsed(
        self,
        requests: Sequence[tuple[Request, int]],
        parse: Callable[[Request, str], T],
        *,
        again: Callable[[Request, str, ParseFailure], Request] | None = None,
        tries: int = 2,
        cut: Callable[[Request, str], T] | None = None,
    ) -> list[Parsed[T] | Failure]:
        """Ask, parse, and ask again with the error shown where an answer cannot be read.

        Args:
            requests: `(request, sample_no)`.
            parse: From a request and the text of its answer to a value; raises `ParseFailure`.
            again: Makes the request that shows the model its error; None never asks again.
            tries: Most answers looked at for each, the first included.
            cut: Reads what is whole of an answer that was cut off; raises `ParseFailure`. None takes nothing of such an answer.

        Returns:
            In the order of `requests`, each its value, or why there is none: `length` (the answer was cut off),
            `content_refused`, the code of the last parse failure, or the engine's reason. What the model did is `final`.

        Raises:
            Pending, BudgetError, Unanswered: As `ask`.
        """
        found: list[Parsed[T] | Failure] = [Failure("not_asked")] * len(requests)
        left = {at: request for at, (request, _) in enumerate(requests)}
        for turn in range(max(tries, 1)):
            if not left:
                break
            outcomes = self.ask([Ask(request, (requests[at][1],)) for at, request in left.items()])
            following: dict[int, Request] = {}
            for at, request in left.items():
                sample = requests[at][1]
                answer = outcomes.get((request.key, sample), Failure("not_asked"))
                outcome, read = _usable(answer), parse
                if isinstance(outcome, Failure):
                    found[at] = outcome
                    if cut is None or not isinstance(answer, Answer) or answer.finish_reason != "length":
                        continue
                    outcome, read = answer, cut
                try:
                    found[at] = Parsed(read(request, outcome.text), request.key, sample, outcome)
                except ParseFailure as failure:
                    if read is cut:
                        continue
                    found[at] = Failure(failure.code, failure.words, final=True)
                    if again is not None and turn + 1 < tries:
                        following[at] = again(request, outcome.text, failure)
            left = following
        return found

    def need_all(self, found: Iterable[Parsed[T] | Failure]) -> None:
        """End the run where requests have no answer that decides anything; call it after storing what is decided.

        Raises:
            Unanswered: Says how many, and why, in the server's words.
        """
        every = list(found)
        open_ = (one for one in every if isinstance(one, Failure) and not one.final)
        waiting = Counter(one.detail or one.reason.replace("_", " ") for one in open_)
        if not waiting:
            return
        n = waiting.total()
        told = "; ".join(
            words if n == count else f"{count} of them: {words}" for words, count in waiting.most_common(3)
        )
        raise Unanswered(
            f"`{self.stage}`: {n} of {len(every)} requests have no answer ({told})",
            fix="Every answer so far is stored, and these stay open: run again to ask them"
            " (`engine: {missing: fail}` goes on without them for good)",
        )

    def _note_price(self, model: str, answered: int) -> None:
        price = listed_price(self.engine.settings, model)
        if price is None or not answered or self.engine.told_price:
            return
        self.engine.told_price = True
        self.notes.append(
            f"prices of {model} are from our table ({price.input:g} in, {price.output:g} out, {price.currency} per million"
            " tokens); give `engine: {price: ...}` where they differ"
        )


def outcome_of(found: Parsed[T] | Failure, asked: Request, *, detail: str | None = None) -> plans.Outcome:
    """What became of a slot: the one place that says what decides it.

    Args:
        found: From `Asker.parsed`.
        asked: The slot's own request.
        detail: What an answer said, to be stored with its slot.
    """
    if isinstance(found, Parsed):
        return plans.Answered(found.request_key, found.sample_no, detail)
    if found.final:
        return plans.Dropped(found.reason, found.detail or None, asked.key, 0)
    return plans.TryLater(found.reason, found.detail)


def ask(
    warehouse: Warehouse,
    engine: Engine,
    asks: Sequence[Ask],
    *,
    stage: str,
    budget: Budget | None = None,
    progress: Progress = no_progress,
) -> Outcomes:
    """See `Asker` and `Asker.ask`."""
    return Asker(warehouse, engine, stage, budget, progress).ask(asks)


def send(
    warehouse: Warehouse,
    engine: Engine,
    asks: Iterable[Ask],
    *,
    stage: str,
    budget: Budget | None = None,
    progress: Progress = no_progress,
    told: Told | None = None,
    want_known: bool = False,
) -> Sent:
    """See `Asker` and `Asker.send`."""
    return Asker(warehouse, engine, stage, budget, progress).send(asks, told=told, want_known=want_known)


def _usable(outcome: Answer | Failure) -> Answer | Failure:
    """The answer, unless it is an outcome of its own that is never parsed as if whole."""
    if isinstance(outcome, Answer) and outcome.finish_reason == "length":
        return Failure("length", f"the answer was cut off after {outcome.usage.tokens_out} tokens", final=True)
    if isinstance(outcome, Answer) and outcome.finish_reason == "content_filter":
        return Failure("content_refused", outcome.text[:200], final=True)
    return outcome
