"""Numbered slots for the texts that will be asked, frozen before anything is asked, and what became of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from factory.annotation.core import sample_order
from factory.warehouse.file import Warehouse, insert, next_no

if TYPE_CHECKING:
    import duckdb

Texts = Literal["all", "uncovered_or_tied"]
"""Which texts of a split may be asked: all, or those for which accepted programs give no vote or a tie."""


@dataclass(frozen=True)
class Plan:
    """A plan as it stands in the warehouse."""

    plan_no: int
    done: bool


@dataclass(frozen=True)
class Slot:
    """One question: a text of the corpus, or (for calibration) a text without content, which has no number."""

    slot_no: int
    text_no: int | None
    text: str


@dataclass(frozen=True)
class Outcome:
    """What became of a slot.

    Attributes:
        slot_no: Which.
        request_key: The request whose answer was read, or that failed.
        sample_no: Which sample of it.
        names: The labels read; empty for an abstention or, in a `multi` task, for none.
        drop_reason: Why nothing could be read, or None.
        detail: Words for a person.
    """

    slot_no: int
    request_key: str | None
    sample_no: int | None
    names: tuple[str, ...] = ()
    drop_reason: str | None = None
    detail: str | None = None


def find(warehouse: Warehouse, key: str) -> Plan | None:
    """The plan of that key, or None."""
    rows = warehouse.query("SELECT plan_no, done FROM plans WHERE stage = 'annotate' AND key = ?", [key])
    return Plan(int(rows[0][0]), bool(rows[0][1])) if rows else None


def choose(
    warehouse: Warehouse, split: str, *, texts: Texts, limit: int | None, share: float | None, seed: int
) -> list[int]:
    """Numbers of the texts to ask, in the order of the sample.

    Args:
        warehouse: Where the split is.
        split: Name of the split.
        texts: Which of its texts may be asked.
        limit: Most texts.
        share: Most texts as a share of the split.
        seed: Of the random order.
    """
    with warehouse.read() as db:
        total = int(db.execute("SELECT count(*) FROM split_texts WHERE split = ?", [split]).fetchall()[0][0])
        wanted = _UNCOVERED_OR_TIED if texts == "uncovered_or_tied" else _ALL
        rows = db.execute(wanted, {"split": split}).fetchall()
    order = sample_order([content_hash for _, content_hash in rows], seed)
    most = min(len(rows) if limit is None else limit, len(rows) if share is None else int(share * total + 1e-9))
    return [int(rows[at][0]) for at in order[:most]]


def create(
    warehouse: Warehouse, key: str, config: Mapping[str, Any], revision: str, version: str, nulls: Sequence[str]
) -> Plan:
    """Store a plan that has slots for the texts without content alone; `add` the others."""
    with warehouse.lease() as db:
        plan_no = next_no(db, "plans", "plan_no")
        db.execute(
            "INSERT INTO plans (plan_no, stage, key, config, task_revision, prompt_version, done)"
            " VALUES (?, 'annotate', ?, ?, ?, ?, false)",
            [plan_no, key, json.dumps(dict(config), sort_keys=True), revision, version],
        )
        _insert_slots(db, plan_no, 0, [{"null": text} for text in nulls], [{}] * len(nulls))
    return Plan(plan_no, False)


def add(warehouse: Warehouse, plan: Plan, text_nos: Sequence[int]) -> int:
    """Add a slot for every text that has none yet, in order.

    Returns:
        How many were added.
    """
    with warehouse.lease() as db:
        rows = db.execute(
            "SELECT slot_no, parents ->> 'text_no' FROM slots WHERE plan_no = ?", [plan.plan_no]
        ).fetchall()
        known = {int(text_no) for _, text_no in rows if text_no is not None}
        new = [number for number in text_nos if number not in known]
        first = max((slot_no for slot_no, _ in rows), default=-1) + 1
        _insert_slots(db, plan.plan_no, first, [{}] * len(new), [{"text_no": number} for number in new])
        if new:
            db.execute("UPDATE plans SET done = false WHERE plan_no = ?", [plan.plan_no])
    return len(new)


def open_slots(warehouse: Warehouse, plan: Plan) -> list[Slot]:
    """The slots without an outcome, in order, with their texts."""
    rows = warehouse.query(
        "SELECT s.slot_no, t.text_no, coalesce(t.text, s.spec ->> 'null') FROM slots s"
        " LEFT JOIN texts t ON t.text_no = (s.parents ->> 'text_no')::INTEGER"
        " WHERE s.plan_no = ? AND s.state = 'open' ORDER BY s.slot_no",
        [plan.plan_no],
    )
    return [Slot(int(slot_no), None if text_no is None else int(text_no), text) for slot_no, text_no, text in rows]


def decide(warehouse: Warehouse, plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Store what became of slots. A slot that was decided stays as it is."""
    import pyarrow as pa

    if not outcomes:
        return
    table = pa.table(
        {
            "slot_no": pa.array([o.slot_no for o in outcomes], pa.int32()),
            "request_key": pa.array([o.request_key for o in outcomes], pa.string()),
            "sample_no": pa.array([o.sample_no for o in outcomes], pa.int32()),
            "state": pa.array(["dropped" if o.drop_reason else "accepted" for o in outcomes], pa.string()),
            "drop_reason": pa.array([o.drop_reason for o in outcomes], pa.string()),
            "detail": pa.array([o.detail if o.drop_reason else json.dumps(o.names) for o in outcomes], pa.string()),
        }
    )
    with warehouse.lease() as db:
        db.register("decided", table)
        try:
            db.execute(
                "UPDATE slots SET request_key = d.request_key, sample_no = d.sample_no, state = d.state,"
                " drop_reason = d.drop_reason, detail = d.detail FROM decided d"
                " WHERE slots.plan_no = ? AND slots.slot_no = d.slot_no AND slots.state = 'open'",
                [plan.plan_no],
            )
        finally:
            db.unregister("decided")


def decided(db: duckdb.DuckDBPyConnection, plan: Plan) -> list[tuple[int | None, Outcome]]:
    """Every decided slot as `(text_no, outcome)`, in slot order; `text_no` is None for texts without content."""
    rows = db.execute(
        "SELECT slot_no, (parents ->> 'text_no')::INTEGER, request_key, sample_no, drop_reason, detail FROM slots"
        " WHERE plan_no = ? AND state <> 'open' ORDER BY slot_no",
        [plan.plan_no],
    ).fetchall()
    return [
        (
            text_no,
            Outcome(
                slot_no,
                request_key,
                sample_no,
                () if drop_reason else tuple(json.loads(detail)),
                drop_reason,
                detail if drop_reason else None,
            ),
        )
        for slot_no, text_no, request_key, sample_no, drop_reason, detail in rows
    ]


def finish(db: duckdb.DuckDBPyConnection, plan: Plan) -> bool:
    """Mark the plan done if no slot is open.

    Returns:
        Whether it is done.
    """
    still = db.execute("SELECT count(*) FROM slots WHERE plan_no = ? AND state = 'open'", [plan.plan_no]).fetchall()[0][
        0
    ]
    done = bool(still == 0)
    db.execute("UPDATE plans SET done = ? WHERE plan_no = ?", [done, plan.plan_no])
    return done


def _insert_slots(
    db: duckdb.DuckDBPyConnection,
    plan_no: int,
    first: int,
    specs: Sequence[Mapping[str, Any]],
    parents: Sequence[Mapping[str, Any]],
) -> None:
    import pyarrow as pa

    n = len(specs)
    insert(
        db,
        "slots",
        {
            "plan_no": pa.array([plan_no] * n, pa.int32()),
            "slot_no": pa.array(range(first, first + n), pa.int32()),
            "round": pa.array([0] * n, pa.int32()),
            "spec": pa.array([json.dumps(spec) for spec in specs], pa.string()),
            "parents": pa.array([json.dumps(parent) for parent in parents], pa.string()),
            "state": pa.array(["open"] * n, pa.string()),
        },
    )


_ALL = """
    SELECT text_no, content_hash FROM split_texts JOIN texts USING (text_no) WHERE split = $split ORDER BY text_no"""

_UNCOVERED_OR_TIED = """
    WITH pool AS (SELECT text_no FROM split_texts WHERE split = $split),
         counts AS (
            SELECT v.text_no, coalesce(p.target_label_no, -1) AS target, v.vote, count(*) AS n
            FROM votes v JOIN programs p USING (program_no) JOIN pool USING (text_no)
            WHERE p.state = 'accepted' AND p.kind <> 'prompted' GROUP BY ALL),
         best AS (SELECT text_no, target, max(n) AS most FROM counts GROUP BY ALL),
         winners AS (
            SELECT c.text_no, c.target, count(*) AS n FROM counts c JOIN best b
            ON b.text_no = c.text_no AND b.target = c.target AND c.n = b.most GROUP BY ALL),
         settled AS (SELECT text_no FROM winners GROUP BY text_no HAVING max(n) = 1)
    SELECT pool.text_no, texts.content_hash FROM pool JOIN texts USING (text_no)
    WHERE pool.text_no NOT IN (SELECT text_no FROM settled) ORDER BY pool.text_no"""
