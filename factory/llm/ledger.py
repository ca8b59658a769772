"""What was asked, what was said and what it cost: one anti-join before anything is sent, answers stored in batches.

A kill loses nothing that was stored. What was in flight, or answered but not yet stored, is found again from the journal beside
the warehouse (see `factory.llm.journal`) and counted as attempts whose outcome is `unknown`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from factory.llm.engines.base import Call, Reply, runs
from factory.llm.journal import Journal
from factory.llm.prices import cost_of
from factory.llm.request import Answer, AnswerKey, Ask, Request, Usage
from factory.llm.settings import Price
from factory.warehouse import Warehouse, insert


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call that was sent and came back.

    Attributes:
        number: Its number in the ledger.
        call: What was sent.
        reply: What came.
        outcome: `answered`, `retried` or `failed`.
        started_at: When it was sent.
    """

    number: int
    call: Call
    reply: Reply
    outcome: str
    started_at: datetime


@dataclass(frozen=True)
class Missing:
    """What of a chunk of asks has no answer yet.

    Attributes:
        asks: Requests and the runs of samples `(first, last)` that are missing, in order.
        known: Answers that are there (empty if they were not wanted).
        n_known: How many answers are there.
    """

    asks: tuple[tuple[Request, tuple[tuple[int, int], ...]], ...]
    known: Mapping[AnswerKey, Answer]
    n_known: int


class Ledger:
    """The tables `requests`, `answers` and `attempts` of one warehouse, for one stage and engine.

    Args:
        warehouse: Where they are.
        stage: Stored with each new request.
        engine: The engine's name, stored with each attempt.
        price: For the cost of each answer; None stores no cost.
    """

    def __init__(self, warehouse: Warehouse, *, stage: str, engine: str, price: Price | None = None) -> None:
        self.warehouse, self.stage, self.engine, self.price = warehouse, stage, engine, price
        self.journal = Journal.beside(warehouse.path)
        self._attempts: list[Attempt] = []
        self._answers: dict[AnswerKey, Answer] = {}
        self._requests: dict[str, Request] = {}
        self._answers_seen: int | None = None
        self._last_number = 0

    # Before sending --------------------------------------------------------------------------------------------------
    def recover(self) -> int:
        """Count what was in flight when earlier runs were killed as attempts of outcome `unknown`.

        Returns:
            How many there were.
        """
        left = self.journal.left_over()
        rows = [row for lines in left.values() for row in lines]
        if rows:
            with self.warehouse.lease() as db:
                known = {
                    number
                    for (number,) in db.execute(
                        "SELECT attempt_no FROM attempts WHERE attempt_no IN (SELECT unnest(?::BIGINT[]))",
                        [[row[0] for row in rows]],
                    ).fetchall()
                }
                rows = [row for row in rows if row[0] not in known]
                columns = {
                    "attempt_no": [row[0] for row in rows],
                    "request_key": [row[1] for row in rows],
                    "first_sample": [row[2] for row in rows],
                    "last_sample": [row[3] for row in rows],
                    "outcome": ["unknown"] * len(rows),
                    "reason": ["killed"] * len(rows),
                    "engine": [row[4] for row in rows],
                    "started_at": [_instant(row[0]) for row in rows],
                }
                insert(db, "attempts", columns)
        self.journal.forget(left)
        return len(rows)

    def missing(self, asks: Sequence[Ask], *, want_answers: bool) -> Missing:
        """Look a chunk of asks up with one join.

        Args:
            asks: Requests and samples; repeated ones count once.
            want_answers: Whether to read the answers that are there, or only to know of them.
        """
        import pyarrow as pa

        wanted: dict[str, tuple[Request, set[int]]] = {}
        for ask in asks:
            wanted.setdefault(ask.request.key, (ask.request, set()))[1].update(ask.samples)
        keys = list(wanted)
        columns = _ANSWER_COLUMNS if want_answers else ""
        with self.warehouse.read() as db:
            db.register("wanted_requests", pa.table({"key": keys}))
            try:
                rows = db.execute(
                    f"SELECT a.request_key, a.sample_no{columns} FROM answers a"
                    " WHERE a.request_key IN (SELECT key FROM wanted_requests)"
                ).fetchall()
            finally:
                db.unregister("wanted_requests")
        there: dict[str, set[int]] = {}
        known: dict[AnswerKey, Answer] = {}
        n_known = 0
        for row in rows:
            key, sample = row[0], row[1]
            if sample in wanted[key][1]:
                there.setdefault(key, set()).add(sample)
                n_known += 1
                if want_answers:
                    known[(key, sample)] = _answer(row)
        gaps = ((request, tuple(runs(samples - there.get(key, set())))) for key, (request, samples) in wanted.items())
        return Missing(tuple((request, holes) for request, holes in gaps if holes), known, n_known)

    # While sending ---------------------------------------------------------------------------------------------------
    def started(self, call: Call) -> int:
        """Note in the journal that a call goes out now.

        Returns:
            The number of the attempt: nanoseconds since 1970, made unique.
        """
        number = max(time.time_ns(), self._last_number + 1)
        self._last_number = number
        self.journal.note(number, call.request.key, call.first, call.last, self.engine)
        return number

    def add(
        self, number: int, call: Call, reply: Reply, outcome: str, *, in_flight: int = 1
    ) -> dict[AnswerKey, Answer]:
        """Take a reply into the next batch to be stored.

        Args:
            number: From `started`.
            call: What was sent.
            reply: What came.
            outcome: `answered`, `retried` or `failed`.
            in_flight: Calls in flight meanwhile; the hours of a GPU are shared among them.

        Returns:
            The answers, with their cost.
        """
        key = call.request.key
        taken: dict[AnswerKey, Answer] = {}
        for sample, answer in reply.answers.items():
            if self.price is not None:
                answer = replace(answer, cost=cost_of(self.price, answer.usage, answer.latency_ms, in_flight * call.n))
            taken[(key, sample)] = answer
        self._answers.update(taken)
        self._requests[key] = call.request
        if taken:
            reply = replace(reply, answers={sample: answer for (_, sample), answer in taken.items()})
        self._attempts.append(Attempt(number, call, reply, outcome, _instant(number)))
        return taken

    @property
    def unstored(self) -> int:
        """Attempts that the next `store` will write."""
        return len(self._attempts)

    def take(self) -> Batch:
        """Everything that is not stored yet, to be given to `store`; the ledger starts a new batch."""
        batch = Batch(tuple(self._attempts), self._answers, self._requests)
        self._attempts, self._answers, self._requests = [], {}, {}
        return batch

    def store(self, batch: Batch) -> None:
        """Write a batch in one transaction. May run in another thread than the rest; `settle` follows in this one."""
        if not batch.attempts:
            return
        with self.warehouse.lease() as db:
            _store_requests(db, batch.requests, self.stage)
            self._answers_seen = _store_answers(db, batch.answers, self._answers_seen)
            _store_attempts(db, batch.attempts, self.price, self.engine)

    def settle(self, batch: Batch) -> None:
        """Note that a batch is stored."""
        self.journal.stored([attempt.number for attempt in batch.attempts])

    def flush(self) -> None:
        """Store what is not stored, here and now."""
        batch = self.take()
        self.store(batch)
        self.settle(batch)

    def store_wanted(self, calls: Iterable[Call]) -> None:
        """Store requests that have no answer yet, so that a results file can be read later."""
        wanted = {call.request.key: call.request for call in calls}
        with self.warehouse.lease() as db:
            _store_requests(db, wanted, self.stage)

    def close(self) -> None:
        """Store what is left and end the journal."""
        self.flush()
        self.journal.close()


@dataclass(frozen=True)
class Batch:
    """What one transaction writes."""

    attempts: tuple[Attempt, ...]
    answers: Mapping[AnswerKey, Answer]
    requests: Mapping[str, Request]


_ANSWER_COLUMNS = (
    ", a.answer, a.finish_reason, a.reasoning, a.tokens_in, a.tokens_out, a.tokens_cached, a.tokens_counted,"
    " a.cost, a.latency_ms, a.logprobs, a.origin"
)


def _answer(row: Sequence[Any]) -> Answer:
    _, _, text, finish, reasoning, t_in, t_out, t_cached, counted, cost, latency, logprobs, origin = row
    usage = Usage(t_in or 0, t_out or 0, t_cached or 0, counted)
    return Answer(
        text, finish, reasoning, usage, cost, latency, None if logprobs is None else orjson.loads(logprobs), origin
    )


def _store_requests(db: Any, requests: Mapping[str, Request], stage: str) -> None:
    known = _known(
        db, "SELECT request_key FROM requests WHERE request_key IN (SELECT key FROM incoming_keys)", list(requests)
    )
    new = [request for key, request in requests.items() if (key,) not in known]
    columns: dict[str, list[Any]] = {
        "request_key": [request.key for request in new],
        "content_key": [request.content_key for request in new],
        "model": [request.model.name for request in new],
        "revision": [request.model.revision for request in new],
        "adapter": [request.model.adapter for request in new],
        "prompt": [request.prompt for request in new],
        "prompt_version": [request.prompt_version for request in new],
        "stage": [stage] * len(new),
        "messages": [orjson.dumps(request.messages).decode() for request in new],
        "sampling": [orjson.dumps(dict(request.sampling)).decode() for request in new],
        "schema": [None if request.schema is None else orjson.dumps(dict(request.schema)).decode() for request in new],
    }
    insert(db, "requests", _typed(columns, text=("revision", "adapter", "schema")))


def _store_answers(db: Any, answers: Mapping[AnswerKey, Answer], seen: int | None) -> int:
    """Store answers; those that another process stored since we looked are left out. Returns how many there are now."""
    count = int(db.execute("SELECT count(*) FROM answers").fetchall()[0][0])
    rows = list(answers.items())
    if count != seen:
        known = _known(
            db,
            "SELECT request_key, sample_no FROM answers WHERE request_key IN (SELECT key FROM incoming_keys)",
            [key for (key, _), _ in rows],
        )
        rows = [(key, answer) for key, answer in rows if key not in known]
    columns: dict[str, list[Any]] = {
        "request_key": [key for (key, _), _ in rows],
        "sample_no": [sample for (_, sample), _ in rows],
        "answer": [answer.text for _, answer in rows],
        "reasoning": [answer.reasoning for _, answer in rows],
        "finish_reason": [answer.finish_reason for _, answer in rows],
        "tokens_in": [answer.usage.tokens_in for _, answer in rows],
        "tokens_cached": [answer.usage.tokens_cached for _, answer in rows],
        "tokens_out": [answer.usage.tokens_out for _, answer in rows],
        "tokens_counted": [answer.usage.counted for _, answer in rows],
        "cost": [answer.cost for _, answer in rows],
        "latency_ms": [answer.latency_ms for _, answer in rows],
        "logprobs": [None if answer.logprobs is None else orjson.dumps(answer.logprobs).decode() for _, answer in rows],
        "origin": [answer.origin for _, answer in rows],
    }
    insert(db, "answers", _typed(columns, text=("reasoning", "logprobs"), real=("cost", "latency_ms")))
    return count + len(rows)


def _store_attempts(db: Any, attempts: Iterable[Attempt], price: Price | None, engine: str) -> None:
    rows = [(attempt, _spent(attempt, price)) for attempt in attempts]
    columns: dict[str, list[Any]] = {
        "attempt_no": [attempt.number for attempt, _ in rows],
        "request_key": [attempt.call.request.key for attempt, _ in rows],
        "first_sample": [attempt.call.first for attempt, _ in rows],
        "last_sample": [attempt.call.last for attempt, _ in rows],
        "outcome": [attempt.outcome for attempt, _ in rows],
        "reason": [None if attempt.reply.fault is None else attempt.reply.fault.reason for attempt, _ in rows],
        "http_status": [attempt.reply.status for attempt, _ in rows],
        "tokens_in": [spent[0] for _, spent in rows],
        "tokens_out": [spent[1] for _, spent in rows],
        "cost": [spent[2] for _, spent in rows],
        "latency_ms": [attempt.reply.latency_ms for attempt, _ in rows],
        "engine": [engine] * len(rows),
        "started_at": [attempt.started_at for attempt, _ in rows],
    }
    insert(db, "attempts", _typed(columns, text=("reason",), real=("cost", "latency_ms"), whole=("http_status",)))


def _spent(attempt: Attempt, price: Price | None) -> tuple[int, int, float | None]:
    """Tokens and cost of one attempt, answers and billed failures together."""
    answers, fault = attempt.reply.answers.values(), attempt.reply.fault
    tokens_in = sum(answer.usage.tokens_in for answer in answers) + (fault.tokens_in if fault else 0)
    tokens_out = sum(answer.usage.tokens_out for answer in answers) + (fault.tokens_out if fault else 0)
    if price is None:
        return tokens_in, tokens_out, None
    cost = sum(answer.cost or 0.0 for answer in answers)
    if fault is not None and (fault.tokens_in or fault.tokens_out):
        cost += cost_of(price, Usage(fault.tokens_in, fault.tokens_out), None, 1)
    return tokens_in, tokens_out, cost


def _known(db: Any, sql: str, keys: list[str]) -> set[tuple[Any, ...]]:
    import pyarrow as pa

    db.register("incoming_keys", pa.table({"key": pa.array(keys, pa.string())}))
    try:
        return set(db.execute(sql).fetchall())
    finally:
        db.unregister("incoming_keys")


def _typed(
    columns: Mapping[str, list[Any]], *, text: Sequence[str] = (), real: Sequence[str] = (), whole: Sequence[str] = ()
) -> dict[str, Any]:
    """Columns that may hold nothing but None get their type said."""
    import pyarrow as pa

    kinds = dict.fromkeys(text, pa.string()) | dict.fromkeys(real, pa.float64()) | dict.fromkeys(whole, pa.int32())
    return {name: pa.array(values, kinds[name]) if name in kinds else values for name, values in columns.items()}


def _instant(number: int) -> datetime:
    return datetime.fromtimestamp(number / 1e9, UTC).replace(tzinfo=None)
