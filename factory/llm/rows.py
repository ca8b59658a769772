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
    "requests": dict.fromkeys(
        ("request_key", "content_key", "model", "revision", "adapter", "prompt", "prompt_version", "stage", "messages",
         "sampling", "schema"), "string"),
    "answers": {
        "request_key": "string", "sample_no": "int32", "answer": "string", "reasoning": "string", "finish_reason": "string",
        "tokens_in": "int32", "tokens_cached": "int32", "tokens_out": "int32", "tokens_counted": "bool",
        "cost": "float64", "latency_ms": "float64", "logprobs": "string", "origin": "string",
    },
    "attempts": {
        "attempt_no": "int64", "request_key": "string", "first_sample": "int32", "last_sample": "int32", "outcome": "string",
        "reason": "string", "http_status": "int32", "tokens_in": "int32", "tokens_out": "int32", "cost": "float64",
        "latency_ms": "float64", "engine": "string", "started_at": "timestamp[us]", "tokens_counted": "bool", "words": "string",
    },
}  # fmt: skip
"""The columns that are written, and their Arrow types."""

_ANY_LENGTH = {"messages", "schema", "answer", "reasoning", "logprobs"}


def request_row(request: Request, stage: str) -> Row:
    """A row of `requests`."""
    model, schema = request.model, None if request.schema is None else orjson.dumps(dict(request.schema)).decode()
    messages, sampling = orjson.dumps(request.messages).decode(), orjson.dumps(dict(request.sampling)).decode()
    return (
        request.key, request.content_key, model.name, model.revision, model.adapter, request.prompt, request.prompt_version,
        stage, messages, sampling, schema,
    )  # fmt: skip


def answer_row(key: str, sample: int, answer: Answer) -> Row:
    """A row of `answers`."""
    usage, logprobs = answer.usage, None if answer.logprobs is None else orjson.dumps(answer.logprobs).decode()
    return (
        key, sample, answer.text, answer.reasoning, answer.finish_reason, usage.tokens_in, usage.tokens_cached,
        usage.tokens_out, usage.counted, answer.cost, answer.latency_ms, logprobs, answer.origin,
    )  # fmt: skip


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


def attempt_row(number: int, call: Call, reply: Reply, outcome: str, engine: str, bill: Bill, started_us: int) -> Row:
    """A row of `attempts`: what came of a call that was sent so many microseconds after 1970."""
    fault, usage = reply.fault, bill.usage
    reason, words = (None, None) if fault is None else (fault.reason, fault.detail or None)
    tokens = (None, None) if usage is None else (usage.tokens_in, usage.tokens_out)
    counted = usage.counted if usage is not None and any(tokens) else None
    return (
        number, call.request.key, call.first, call.last, outcome, reason, reply.status, *tokens, bill.cost,
        reply.latency_ms, engine, started_us, counted, words,
    )  # fmt: skip


def unknown_row(number: int, key: str, first: int, last: int, engine: str) -> Row:
    """A row of `attempts` for a call of which nobody knows what came of it."""
    row = (number, key, first, last, "unknown", "killed", None, None, None, None, None, engine, number // 1000)
    return (*row, None, None)


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
    known = {key for (key,) in stored_of(db, "requests", "request_key", rows)}
    write(db, "requests", [row for key, row in rows.items() if key not in known])


def write_new_answers(db: duckdb.DuckDBPyConnection, rows: Iterable[Row]) -> None:
    """Append the answers that the table does not have, each sample once."""
    new = {(row[0], row[1]): row for row in rows}
    known = set(stored_of(db, "answers", "request_key, sample_no", {key for key, _ in new}))
    write(db, "answers", [row for at, row in new.items() if at not in known])


def stored_of(db: duckdb.DuckDBPyConnection, table: str, columns: str, keys: Iterable[str]) -> list[Row]:
    """What a table has of these requests."""
    if not (wanted := list(keys)):
        return []
    sql = f"SELECT {columns} FROM {table} WHERE request_key IN (SELECT unnest(?::VARCHAR[]))"
    return db.execute(sql, [wanted]).fetchall()


def _arrow(table: str, rows: Sequence[Row]) -> Any:
    import pyarrow as pa

    missing = len(COLUMNS[table]) - len(rows[0])  # a journal of an earlier version has fewer columns
    columns = zip(*((*row, *[None] * missing) for row in rows), strict=True)
    named = zip(COLUMNS[table].items(), columns, strict=True)
    return pa.table({name: pa.array(values, kind) for (name, kind), values in named})
