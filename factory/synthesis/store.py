"""Plans, slots and synthetic texts in the warehouse, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.synthesis.loop import State
from factory.synthesis.values import Dropped, Part, Slot
from factory.warehouse.file import Warehouse, insert, next_no
from factory.warehouse.tables.texts import add_texts

if TYPE_CHECKING:
    import duckdb

STAGE = "synthesize"


@dataclass(frozen=True)
class Plan:
    """A plan as it stands in the warehouse.

    Attributes:
        plan_no: Its number.
        key: Digest of its configuration, the task's revision and the prompts' versions.
        done: Nothing more is to be asked, for the goal it was run with.
        outcome: What it came to when it was done: `per_label`, `candidates`, `accepted`, `ended`.
    """

    plan_no: int
    key: str
    done: bool
    outcome: Mapping[str, Any]


def find_plan(warehouse: Warehouse, key: str) -> Plan | None:
    """The plan of that key."""
    rows = warehouse.query("SELECT plan_no, key, done, config FROM plans WHERE stage = ? AND key = ?", [STAGE, key])
    if not rows:
        return None
    plan_no, key, done, config = rows[0]
    return Plan(plan_no, key, done, json.loads(config).get("outcome", {}))


def create_plan(
    warehouse: Warehouse, key: str, config: Mapping[str, Any], *, task_revision: str, prompt_version: str
) -> Plan:
    """A new plan, with no slots yet."""
    with warehouse.lease() as db:
        plan_no = next_no(db, "plans", "plan_no")
        db.execute(
            "INSERT INTO plans (plan_no, stage, key, config, task_revision, prompt_version, done)"
            " VALUES (?, ?, ?, ?, ?, ?, false)",
            [plan_no, STAGE, key, json.dumps(dict(config), sort_keys=True), task_revision, prompt_version],
        )
    return Plan(plan_no, key, False, {})


def retire_others(warehouse: Warehouse, plan: Plan, family: str) -> int:
    """Drop the accepted texts of other plans of the same family (`replan`)."""
    with warehouse.lease() as db:
        others = [
            row[0]
            for row in db.execute(
                "SELECT plan_no FROM plans WHERE stage = ? AND plan_no <> ? AND config ->> '$.family' = ?",
                [STAGE, plan.plan_no, family],
            ).fetchall()
        ]
        rows = db.execute(
            "UPDATE synthetic SET state = 'dropped', drop_reason = 'replanned' WHERE state = 'accepted'"
            " AND plan_no IN (SELECT unnest(?)) RETURNING synthetic_no",
            [[-1, *others]],
        ).fetchall()
    return len(rows)


def family_of(config: Mapping[str, Any]) -> str:
    """Digest of a configuration without its `replan`: plans of one family replace one another."""
    return digest({key: value for key, value in config.items() if key not in ("replan", "family")})


def accepted_counts(warehouse: Warehouse, plan_no: int) -> dict[str, int]:
    """Accepted texts per label of a plan."""
    return dict(
        warehouse.query(
            "SELECT labels.name, count(*) FROM synthetic JOIN labels USING (label_no)"
            " WHERE plan_no = ? AND state = 'accepted' GROUP BY labels.name ORDER BY labels.name",
            [plan_no],
        )
    )


def load_state(warehouse: Warehouse, plan_no: int) -> State:
    """The state of a plan: decided texts, failed slots, and the open ones."""
    slots, failed, opened = [], {}, []
    rows = warehouse.query(
        "SELECT slot_no, round, spec, parents, sample_no, state, drop_reason, detail FROM slots WHERE plan_no = ?"
        " ORDER BY slot_no",
        [plan_no],
    )
    names = dict(warehouse.query("SELECT label_no, name FROM labels"))
    parts = [
        Part(slot_no, part_no, text, names[label_no], drop_reason, detail or "")
        for slot_no, part_no, text, label_no, drop_reason, detail in warehouse.query(
            "SELECT slot_no, part_no, text, label_no, drop_reason, detail FROM synthetic WHERE plan_no = ?"
            " ORDER BY slot_no, part_no",
            [plan_no],
        )
    ]
    with_parts = {part.slot_no for part in parts}
    for slot_no, round_, spec, parents, sample_no, state, drop_reason, detail in rows:
        spec = json.loads(spec)
        kind, label = spec.pop("kind"), spec.pop("label")
        slots.append(Slot(slot_no, round_, kind, label, spec, json.loads(parents), sample_no or 0))
        if kind == "check":
            continue
        if state == "open":
            opened.append(slot_no)
        elif state == "dropped" and slot_no not in with_parts:
            failed[slot_no] = Dropped(drop_reason or "", detail or "")
    return State(slots=tuple(slots), parts=tuple(parts), open=tuple(opened), failed=failed)


def save_slots(
    db: duckdb.DuckDBPyConnection, plan_no: int, slots: Sequence[Slot], keys: Mapping[int, str | None]
) -> None:
    """Store new slots, open, with the keys of their requests."""
    import pyarrow as pa

    insert(
        db,
        "slots",
        {
            "plan_no": pa.array([plan_no] * len(slots), pa.int32()),
            "slot_no": pa.array([slot.slot_no for slot in slots], pa.int32()),
            "round": pa.array([slot.round for slot in slots], pa.int32()),
            "spec": [
                json.dumps({"kind": slot.kind, "label": slot.label, **slot.spec}, sort_keys=True) for slot in slots
            ],
            "parents": [json.dumps(dict(slot.parents), sort_keys=True) for slot in slots],
            "request_key": pa.array([keys[slot.slot_no] for slot in slots], pa.string()),
            "sample_no": pa.array([slot.sample_no for slot in slots], pa.int32()),
            "state": ["open"] * len(slots),
        },
    )


def save_round(
    db: duckdb.DuckDBPyConnection,
    plan_no: int,
    state: State,
    before: State,
    *,
    method: str,
    prompt_version: str,
    label_nos: Mapping[str, int],
    checks: Mapping[int, tuple[str | None, str]],
) -> None:
    """Store what a round decided: its texts, and the end of its slots. In the transaction that stores the next round.

    Args:
        db: A lease's connection.
        plan_no: The plan.
        state: After the round.
        before: Before it.
        method: Name of the method.
        prompt_version: Of the writing prompt.
        label_nos: Label name to number.
        checks: What became of check slots: `(None or a drop reason, detail)` by slot number.
    """
    import pyarrow as pa

    known = {(part.slot_no, part.part_no) for part in before.parts}
    fresh = [part for part in state.parts if (part.slot_no, part.part_no) not in known]
    slots = {slot.slot_no: slot for slot in state.slots}
    keys = {
        row[0]: row[1]
        for row in db.execute("SELECT slot_no, request_key FROM slots WHERE plan_no = ?", [plan_no]).fetchall()
    }
    kept = [part for part in fresh if part.drop_reason is None]
    text_nos = dict(
        zip([part.text for part in kept], add_texts(db, [part.text for part in kept], "synthetic"), strict=True)
    )
    first = next_no(db, "synthetic", "synthetic_no")
    columns: dict[str, Any] = {
        "synthetic_no": pa.array(range(first, first + len(fresh)), pa.int32()),
        "plan_no": pa.array([plan_no] * len(fresh), pa.int32()),
        "slot_no": pa.array([part.slot_no for part in fresh], pa.int32()),
        "part_no": pa.array([part.part_no for part in fresh], pa.int32()),
        "text_no": pa.array([text_nos[part.text] if part.drop_reason is None else None for part in fresh], pa.int32()),
        "text": [part.text for part in fresh],
        "label_no": pa.array([label_nos[part.label] for part in fresh], pa.int32()),
        "method": [method] * len(fresh),
        "seed_text_no": pa.array([slots[part.slot_no].parents.get("seed") for part in fresh], pa.int32()),
        "passage_text_no": pa.array([slots[part.slot_no].parents.get("passage") for part in fresh], pa.int32()),
        "demo_text_nos": pa.array(
            [list(slots[part.slot_no].parents.get("demos", ())) for part in fresh], pa.list_(pa.int32())
        ),
        "prompt_version": [prompt_version] * len(fresh),
        "request_key": [keys[part.slot_no] for part in fresh],
        "sample_no": pa.array([slots[part.slot_no].sample_no for part in fresh], pa.int32()),
        "state": ["accepted" if part.drop_reason is None else "dropped" for part in fresh],
        "drop_reason": pa.array([part.drop_reason for part in fresh], pa.string()),
        "detail": pa.array([part.detail or None for part in fresh], pa.string()),
    }
    insert(db, "synthetic", columns)
    ends = dict(checks)
    for slot_no in {part.slot_no for part in fresh}:
        own = [part for part in fresh if part.slot_no == slot_no]
        good = any(part.drop_reason is None for part in own)
        ends[slot_no] = (None, "") if good else (own[0].drop_reason, "none of its texts was kept")
    for slot_no, failure in state.failed.items():
        if slot_no not in before.failed:
            ends[slot_no] = (failure.reason, failure.detail)
    rows = pa.table(
        {
            "slot_no": pa.array(list(ends), pa.int32()),
            "reason": pa.array([reason for reason, _ in ends.values()], pa.string()),
            "detail": pa.array([detail or None for _, detail in ends.values()], pa.string()),
        }
    )
    db.register("ended_slots", rows)
    db.execute(
        "UPDATE slots SET state = CASE WHEN e.reason IS NULL THEN 'accepted' ELSE 'dropped' END,"
        " drop_reason = e.reason, detail = e.detail FROM ended_slots e WHERE slots.plan_no = ? AND slots.slot_no = e.slot_no",
        [plan_no],
    )
    db.unregister("ended_slots")


def drop_parts(db: duckdb.DuckDBPyConnection, plan_no: int, parts: Sequence[Part]) -> None:
    """Store that texts that had been accepted are dropped."""
    for part in parts:
        db.execute(
            "UPDATE synthetic SET state = 'dropped', drop_reason = ?, detail = ?"
            " WHERE plan_no = ? AND slot_no = ? AND part_no = ?",
            [part.drop_reason, part.detail, plan_no, part.slot_no, part.part_no],
        )


def finish_plan(db: duckdb.DuckDBPyConnection, plan_no: int, outcome: Mapping[str, Any] | None) -> None:
    """Mark the plan done with what it came to, or open again (None)."""
    ((config,),) = db.execute("SELECT config FROM plans WHERE plan_no = ?", [plan_no]).fetchall()
    values = {key: value for key, value in json.loads(config).items() if key != "outcome"}
    if outcome is not None:
        values["outcome"] = dict(outcome)
    db.execute(
        "UPDATE plans SET done = ?, config = ? WHERE plan_no = ?",
        [outcome is not None, json.dumps(values, sort_keys=True), plan_no],
    )
