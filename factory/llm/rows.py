"""Requests, answers and attempts as rows of their tables: made where there is time, written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from factory.llm.calls import Call, Reply
from factory.llm.prices import cost_of
from factory.llm.request import Answer, Request, Usage
from factory.llm.settings import Price
from factory.warehouse.file import insert

if TYPE_CHECKING:
    import duckdb

Row = tuple[Any, ...]

COLUMNS: dict[str, dict[str, str]] = {
    "requests": {
        **dict.fromkeys(("request_key", "content_key", "model", "revision", "adapter", "prompt"), "string"),
        **dict.fromkeys(("prompt_version", "stage", "messages", "sampling", "schema"), "string"),
    },
    "answers": {
        "request_key": "string",
        "sample_no": "int32",
        **dict.fromkeys(("answer", "reasoning", "finish_reason"), "string"),
        **dict.fromkeys(("tokens_in", "tokens_cached", "tokens_out"), "int32"),
        "tokens_counted": "bool",
        **dict.fromkeys(("cost", "latency_ms"), "float64"),
        **dict.fromkeys(("logprobs", "origin"), "string"),
    },
    "attempts": {
        "attempt_no": "int64",
        "request_key": "string",
        **dict.fromkeys(("first_sample", "last_sample"), "int32"),
        **dict.fromkeys(("outcome", "reason"), "string"),
        **dict.fromkeys(("http_status", "tokens_in", "tokens_out"), "int32"),
        **dict.fromkeys(("cost", "latency_ms"), "float64"),
        "engine": "string",
        "started_at": "timestamp[us]",
        "tokens_counted": "bool",
        "words": "string",
    },
}
"""The columns that are written, and their Arrow types."""

_ANY_LENGTH = {"messages", "schema", "answer", "reasoning", "logprobs"}


def request_row(request: Request, stage: str) -> Row:
    """A row of `requests`."""
    schema = None if request.schema is None else orjson.dumps(dict(request.schema)).decode()
    return (
        request.key,
        request.content_key,
        request.model.name,
        request.model.revision,
        request.model.adapter,
        request.prompt,
        request.prompt_version,
        stage,
        orjson.dumps(request.messages).decode(),
        orjson.dumps(dict(request.sampling)).decode(),
        schema,
    )


def answer_row(key: str, sample: int, answer: Answer) -> Row:
    """A row of `answers`."""
    usage = answer.usage
    return (
        key,
        sample,
        answer.text,
        answer.reasoning,
        answer.finish_reason,
        usage.tokens_in,
        usage.tokens_cached,
        usage.tokens_out,
        usage.counted,
        answer.cost,
        answer.latency_ms,
        None if answer.logprobs is None else orjson.dumps(answer.logprobs).decode(),
        answer.origin,
    )


@dataclass(frozen=True)
class Bill:
    """What a call cost.

    Attributes:
        usage: Tokens of all its answers, or of what was billed without one; None where nobody knows.
        cost: In the currency of the price; None where there is no price, or nobody knows.
    """

    usage: Usage | None
    cost: float | None


def bill_of(reply: Reply, price: Price | None, *, free: bool = False) -> Bill:
    """What a reply cost, failed and empty ones too.

    Args:
        reply: Its answers with their cost.
        price: Of the model, if there is one.
        free: Whether nothing is paid for it at all (a recording).
    """
    usages = [answer.usage for answer in reply.answers.values()]
    costs = [answer.cost for answer in reply.answers.values()]
    if reply.fault is not None and (reply.fault.usage is None or not usages):
        if reply.fault.usage is None:
            return Bill(None, 0.0 if free else None)
        usages.append(reply.fault.usage)
        costs.append(None if price is None else cost_of(price, reply.fault.usage, None, 1))
    counted = all(usage.counted for usage in usages)
    tokens_in, tokens_out = (sum(getattr(usage, name) for usage in usages) for name in ("tokens_in", "tokens_out"))
    known = [cost for cost in costs if cost is not None]
    cost = sum(known) if len(known) == len(costs) else None
    return Bill(Usage(tokens_in, tokens_out, 0, counted), 0.0 if free else cost)


def attempt_row(
    number: int, call: Call, reply: Reply, outcome: str, engine: str, bill: Bill, *, started_us: int
) -> Row:
    """A row of `attempts`.

    Args:
        number: Its own.
        call: What was sent.
        reply: What came.
        outcome: `answered`, `partial`, `retried` or `failed`.
        engine: The engine's name.
        bill: What it cost.
        started_us: When it was sent, in microseconds since 1970.
    """
    fault, usage = reply.fault, bill.usage
    return (
        number,
        call.request.key,
        call.first,
        call.last,
        outcome,
        None if fault is None else fault.reason,
        reply.status,
        None if usage is None else usage.tokens_in,
        None if usage is None else usage.tokens_out,
        bill.cost,
        reply.latency_ms,
        engine,
        started_us,
        None if usage is None or not (usage.tokens_in or usage.tokens_out) else usage.counted,
        None if fault is None else fault.detail or None,
    )


def unknown_row(number: int, key: str, first: int, last: int, engine: str) -> Row:
    """A row of `attempts` for a call of which nobody knows what came of it."""
    row = (number, key, first, last, "unknown", "killed", None, None, None, None, None, engine, number // 1000)
    return (*row, None, None)


def as_attempt(row: Sequence[Any]) -> Row:
    """A row of `attempts` out of a journal, which an earlier version may have written with fewer columns."""
    return tuple([*row, *[None] * len(COLUMNS["attempts"])][: len(COLUMNS["attempts"])])


def read_answer(row: Sequence[Any]) -> Answer:
    """The answer in a row of `answers`, in the order of `COLUMNS`."""
    _, _, text, reasoning, finish, t_in, t_cached, t_out, counted, cost, latency, logprobs, origin = row
    usage = Usage(t_in or 0, t_out or 0, t_cached or 0, counted)
    told = None if logprobs is None else orjson.loads(logprobs)
    return Answer(text, finish, reasoning, usage, cost, latency, told, origin)


def text_bytes(table: str, rows: Iterable[Row]) -> int:
    """How much text of any length is in rows of `requests` or `answers`, in UTF-8 as it is stored."""
    columns = [at for at, name in enumerate(COLUMNS[table]) if name in _ANY_LENGTH]
    return sum(len(row[at].encode()) for row in rows for at in columns if row[at] is not None)


def write(db: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Row]) -> int:
    """Append rows. Returns how many."""
    return insert(db, table, _arrow(table, rows)) if rows else 0


def write_new_requests(db: duckdb.DuckDBPyConnection, rows: Mapping[str, Row]) -> None:
    """Append the requests that the table does not have."""
    if not rows:
        return
    names = ", ".join(COLUMNS["requests"])
    db.register("incoming_requests", _arrow("requests", list(rows.values())))
    try:
        db.execute(
            f"INSERT INTO requests ({names}) SELECT {names} FROM incoming_requests"
            " WHERE request_key NOT IN (SELECT request_key FROM requests"
            " WHERE request_key IN (SELECT request_key FROM incoming_requests))"
        )
    finally:
        db.unregister("incoming_requests")


def write_new_answers(db: duckdb.DuckDBPyConnection, rows: Iterable[Row]) -> None:
    """Append the answers that the table does not have, each sample once."""
    new = {(row[0], row[1]): row for row in rows}
    known = _stored_samples(db, [key for key, _ in new]) if new else set()
    write(db, "answers", [row for at, row in new.items() if at not in known])


def _stored_samples(db: duckdb.DuckDBPyConnection, keys: Sequence[str]) -> set[tuple[str, int]]:
    """Which samples of these requests have an answer."""
    import pyarrow as pa

    db.register("incoming_keys", pa.table({"key": pa.array(keys, pa.string())}))
    try:
        sql = "SELECT request_key, sample_no FROM answers WHERE request_key IN (SELECT key FROM incoming_keys)"
        return {(key, sample) for key, sample in db.execute(sql).fetchall()}
    finally:
        db.unregister("incoming_keys")


def _arrow(table: str, rows: Sequence[Row]) -> Any:
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
    }
    types["timestamp[us]"] = pa.timestamp("us")
    columns = zip(*rows, strict=True)
    named = zip(COLUMNS[table].items(), columns, strict=True)
    return pa.table({name: pa.array(values, types[kind]) for (name, kind), values in named})
