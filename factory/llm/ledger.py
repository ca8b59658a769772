"""What was asked, what was said and what it cost: one anti-join before anything is sent, answers stored in batches.

A kill loses no answer. What had come and was not stored yet is stored from the journal beside the warehouse (see
`factory.llm.journal`) by the next run; what was in flight is counted as attempts whose outcome is `unknown`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from factory.llm import rows
from factory.llm.calls import Call, Reply, runs
from factory.llm.journal import Journal
from factory.llm.prices import cost_of
from factory.llm.request import Answer, AnswerKey, Ask, Request
from factory.llm.rows import Bill
from factory.llm.settings import Price
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    import duckdb

STORE_MB = 256
"""What DuckDB may take while a small batch is stored. Without a limit its checkpoints, which now and then merge the blocks of
older rows, keep all that they read and write: 550 MB at 600,000 requests of a kilobyte."""


WENT_AWAY = "server_went_away"
"""The reason of attempts that a server was at work on when it went away."""


class Missing(NamedTuple):
    """What of a chunk of asks has no answer yet.

    Attributes:
        asks: Requests and the runs of samples `(first, last)` that are missing, in order.
        known: Answers that are there (empty if they were not wanted).
        n_known: How many answers are there.
    """

    asks: tuple[tuple[Request, tuple[tuple[int, int], ...]], ...]
    known: Mapping[AnswerKey, Answer]
    n_known: int


@dataclass
class Batch:
    """What one transaction writes: rows of the three tables.

    Attributes:
        lines: Numbers of the attempts that were read from files.
        went_away: Numbers of the attempts, stored or not, that a server was at work on when it went away.
    """

    attempts: list[rows.Row] = field(default_factory=list)
    answers: list[rows.Row] = field(default_factory=list)
    requests: dict[str, rows.Row] = field(default_factory=dict)
    lines: set[int] = field(default_factory=set)
    went_away: list[int] = field(default_factory=list)


class Ledger:
    """The tables `requests`, `answers` and `attempts` of one warehouse, for one stage and the engine of that name.

    Without a `price` no cost is stored; `free` says that nothing is paid for what the engine gives.
    """

    def __init__(
        self, warehouse: Warehouse, *, stage: str, engine: str, price: Price | None = None, free: bool = False
    ) -> None:
        self.warehouse, self.stage, self.engine, self.price, self.free = warehouse, stage, engine, price, free
        self.journal = Journal(None if warehouse.path is None else warehouse.path.with_suffix(".inflight"))
        self._batch = Batch()
        self._last_number = 0
        # While nobody else writes, what was looked up stays true and need not be looked up again at each store.
        self._counts: tuple[int, int] | None = None
        self._alone = True
        self._in_parts: set[bytes] = set()
        self._exits: dict[str, int] | None = None
        self._looked_up: set[bytes] = set()

    # Before sending --------------------------------------------------------------------------------------------------
    def recover(self) -> int:
        """Store what earlier runs were told and did not store before they were killed.

        What was in flight then is stored as attempts of outcome `unknown`; returns how many.
        """
        left = self.journal.left_over()
        unknown = 0
        for found in left.values():
            numbers = [line[0] for line in found.in_flight] + [row[0] for row in found.attempts]
            if not numbers:
                continue
            batch = Batch(found.attempts, found.answers, {row[0]: row for row in found.requests})
            with self.warehouse.lease(memory=_memory_for(batch)) as db:
                known = _stored_attempts(db, numbers)
                rows.write_new_requests(db, batch.requests)
                rows.write_new_answers(db, batch.answers)
                lost = [rows.unknown_row(*line) for line in found.in_flight if line[0] not in known]
                rows.write(db, "attempts", [row for row in batch.attempts if row[0] not in known] + lost)
            unknown += len(lost)
        self.journal.forget(left)
        return unknown

    def missing(self, asks: Sequence[Ask], *, want_answers: bool) -> Missing:
        """Look a chunk of asks up at once, repeated ones once; `want_answers` reads the answers that are there."""
        wanted: dict[str, tuple[Request, set[int]]] = {}
        for ask in asks:
            wanted.setdefault(ask.request.key, (ask.request, set()))[1].update(ask.samples)
        columns = rows.COLUMNS["answers"] if want_answers else ("request_key", "sample_no")
        with self.warehouse.read() as db:
            found = rows.stored_of(db, "answers", ", ".join(columns), wanted)
            old = {key for (key,) in rows.stored_of(db, "requests", "request_key", wanted)}
            self._counts = self._counts or _counts(db)
        there = [row for row in found if row[1] in wanted[row[0]][1]]
        known = {(row[0], row[1]): rows.read_answer(row) for row in there} if want_answers else {}
        for row in there:
            wanted[row[0]][1].discard(row[1])
        gaps = ((request, tuple(runs(samples))) for request, samples in wanted.values())
        missing = tuple((request, holes) for request, holes in gaps if holes)
        # Several calls may fill the samples of one request, now or before: each of them would store it.
        several = {_short(r.key) for r, holes in missing if len(holes) > 1 or holes[0][0] < holes[0][1] or r.key in old}
        asked = {_short(request.key) for request, _ in missing}
        self._in_parts |= several | (asked & self._looked_up)
        self._looked_up |= asked
        return Missing(missing, known, len(there))

    def exits(self, keys: Collection[str]) -> dict[str, int]:
        """How often the server went away while it worked on these requests, by key; those on which it never did are left out.

        Samples of one request that were lost together count once.
        """
        if self._exits is None:
            each = "SELECT request_key, count(*) AS n FROM attempts WHERE reason = ? GROUP BY request_key, first_sample"
            sql = f"SELECT request_key, max(n) FROM ({each}) GROUP BY request_key"
            self._exits = {key: int(n) for key, n in self.warehouse.query(sql, [WENT_AWAY])}
        return {key: self._exits[key] for key in keys if key in self._exits}

    # While sending ---------------------------------------------------------------------------------------------------
    def started(self, call: Call, *, noted: bool = True) -> int:
        """Note in the journal that a call goes out now. Returns the attempt's number: nanoseconds since 1970, made unique."""
        self._last_number = number = max(time.time_ns(), self._last_number + 1)
        if noted:
            self.journal.note(number, call.request.key, call.first, call.last, self.engine)
        return number

    def add(
        self, number: int, call: Call, reply: Reply, outcome: str, *, in_flight: int = 1, from_file: bool = False
    ) -> tuple[dict[AnswerKey, Answer], Bill]:
        """Take a reply into the next batch to be stored.

        Args:
            number: From `started`; of a reply out of a file, the number that its line has always.
            call: What was sent.
            reply: What came.
            outcome: `answered`, `partial`, `retried` or `failed`.
            in_flight: Calls in flight meanwhile; the hours of a GPU are shared among them.
            from_file: Whether it was read from a file, and so may be stored already.

        Returns:
            The answers, with their cost, and what all of it cost.
        """
        key, batch = call.request.key, self._batch
        reply, bill = self.priced(call, reply, in_flight)
        said = [rows.answer_row(key, sample, answer) for sample, answer in reply.answers.items()]
        started_us = time.time_ns() // 1000 if from_file else number // 1000
        attempt = rows.attempt_row(number, call, reply, outcome, self.engine, bill, started_us)
        request = None if key in batch.requests else rows.request_row(call.request, self.stage)
        if from_file:
            batch.lines.add(number)
            self._alone = False
        else:
            self.journal.came(number, attempt, said, request)
        batch.answers += said
        batch.attempts.append(attempt)
        if request is not None:
            batch.requests[key] = request
        if outcome != "answered":
            self._in_parts.add(_short(key))
        return {(key, sample): answer for sample, answer in reply.answers.items()}, bill

    def priced(self, call: Call, reply: Reply, in_flight: int = 1) -> tuple[Reply, Bill]:
        """A reply whose answers say what each of them cost, and what all of it cost; arguments as of `add`."""
        if (price := self.price) is not None:
            share = in_flight * call.n
            costs = {n: cost_of(price, a.usage, a.latency_ms, share) for n, a in reply.answers.items()}
            reply = replace(reply, answers={n: replace(a, cost=costs[n]) for n, a in reply.answers.items()})
        return reply, rows.bill_of(reply, price, free=self.free)

    def went_away(self, numbers: Iterable[int]) -> None:
        """A server went away while it worked on these attempts: the next `store` says so of them."""
        self._batch.went_away += numbers

    @property
    def unstored(self) -> int:
        """Attempts that the next `store` will write."""
        return len(self._batch.attempts)

    def take(self) -> Batch:
        """Everything that is not stored yet, to be given to `store`; the ledger starts a new batch."""
        batch, self._batch = self._batch, Batch()
        return batch

    def store(self, batch: Batch) -> None:
        """Write a batch in one transaction. May run in another thread than the rest; `settle` follows in this one.

        Once another process has written beside us, requests and answers that it stored since we looked are left out.
        """
        if not batch.attempts and not batch.went_away:
            return
        with self.warehouse.lease(memory=_memory_for(batch)) as db:
            self._alone = self._alone and _counts(db) == self._counts
            new = {key: row for key, row in batch.requests.items() if self._alone and _short(key) not in self._in_parts}
            rows.write(db, "requests", list(new.values()))
            rows.write_new_requests(db, {key: row for key, row in batch.requests.items() if key not in new})
            if self._alone:
                rows.write(db, "answers", batch.answers)
            else:
                rows.write_new_answers(db, batch.answers)
            known = _stored_attempts(db, batch.lines)
            rows.write(db, "attempts", [row for row in batch.attempts if row[0] not in known])
            if batch.went_away:
                sql = "UPDATE attempts SET reason = ? WHERE attempt_no IN (SELECT unnest(?::BIGINT[]))"
                db.execute(sql, [WENT_AWAY, batch.went_away])
            after = _counts(db)
        self._counts = after

    def settle(self, batch: Batch) -> None:
        """Note that a batch is stored."""
        self.journal.stored([row[0] for row in batch.attempts])

    def flush(self) -> None:
        """Store what is not stored, here and now."""
        batch = self.take()
        self.store(batch)
        self.settle(batch)

    def store_wanted(self, calls: Iterable[Call]) -> None:
        """Store requests that have no answer yet, so that a results file can be read later."""
        self._alone = False
        wanted = {call.request.key: rows.request_row(call.request, self.stage) for call in calls}
        with self.warehouse.lease() as db:
            rows.write_new_requests(db, wanted)

    def close(self) -> None:
        """Store what is left and end the journal."""
        self.flush()
        self.journal.close()


def _counts(db: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Rows of `requests` and of `answers` (DuckDB keeps these numbers: no table is read)."""
    found = db.execute("SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM answers)").fetchall()
    return found[0][0], found[0][1]


def _stored_attempts(db: duckdb.DuckDBPyConnection, numbers: Collection[int]) -> set[int]:
    """Which of these attempts are stored."""
    if not numbers:
        return set()
    sql = "SELECT attempt_no FROM attempts WHERE attempt_no IN (SELECT unnest(?::BIGINT[]))"
    return {number for (number,) in db.execute(sql, [list(numbers)]).fetchall()}


def _memory_for(batch: Batch) -> str:
    """DuckDB's limit while a batch is stored: writing took it nine times the batch's text."""
    text = rows.text_bytes("requests", batch.requests.values()) + rows.text_bytes("answers", batch.answers)
    return f"{STORE_MB + 16 * text // 10**6}MB"


def _short(key: str) -> bytes:
    """Enough of a request key to tell a million of them apart, in little memory."""
    return bytes.fromhex(key[:24])
