"""Plans, slots and synthetic texts in the warehouse, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.synthesis.loop import State
from factory.synthesis.values import Dropped, Part, Slot
from factory.warehouse.file import Warehouse, insert, next_no
from factory.warehouse.tables import plans, synthetic
from factory.warehouse.tables.plans import Plan
from factory.warehouse.tables.texts import add_texts

if TYPE_CHECKING:
    import duckdb

STAGE = "synthesize"


def retire_others(warehouse: Warehouse, plan: Plan, family: str) -> int:
    """Drop the accepted texts of other plans of the same family (`replan`)."""
    with warehouse.lease() as db:
        others = [number for number in plans.family(db, STAGE, family) if number != plan.plan_no]
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
    query = (
        "SELECT labels.name, count(*) FROM synthetic JOIN labels USING (label_no)"
        " WHERE plan_no = ? AND state = 'accepted' GROUP BY labels.name ORDER BY labels.name"
    )
    return dict(warehouse.query(query, [plan_no]))


def load_state(warehouse: Warehouse, plan_no: int) -> State:
    """The state of a plan: decided texts, failed slots, and the open ones."""
    slots, failed, opened = [], {}, []
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
    for slot in plans.slots(warehouse, plan_no):
        spec = dict(slot.spec)
        kind, label = spec.pop("kind"), spec.pop("label")
        slots.append(Slot(slot.slot_no, slot.round, kind, label, spec, slot.parents, slot.sample_no or 0))
        if kind == "check":
            continue
        if slot.state == "open":
            opened.append(slot.slot_no)
        elif slot.state == "dropped" and slot.slot_no not in with_parts:
            failed[slot.slot_no] = Dropped(slot.drop_reason or "", slot.detail or "")
    return State(slots=tuple(slots), parts=tuple(parts), open=tuple(opened), failed=failed)


def save_slots(
    db: duckdb.DuckDBPyConnection, plan_no: int, slots: Sequence[Slot], keys: Mapping[int, str | None]
) -> None:
    """Store new slots, open, with the keys of their requests."""
    rows = [
        plans.Slot(
            slot.slot_no, {"kind": slot.kind, "label": slot.label, **slot.spec}, slot.parents, slot.round,
            keys[slot.slot_no], slot.sample_no,
        )
        for slot in slots
    ]  # fmt: skip
    plans.extend(db, plan_no, rows)


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
    keys = plans.request_keys(db, plan_no)
    kept = [part.text for part in fresh if part.drop_reason is None]
    text_nos = dict(zip(kept, add_texts(db, kept, "synthetic"), strict=True))
    rows = []
    for number, part in enumerate(fresh, next_no(db, "synthetic", "synthetic_no")):
        slot, accepted = state.by_no[part.slot_no], part.drop_reason is None
        rows.append({
            "synthetic_no": number, "plan_no": plan_no, "slot_no": part.slot_no, "part_no": part.part_no,
            "text_no": text_nos[part.text] if accepted else None, "text": part.text, "label_no": label_nos[part.label],
            "method": method, "seed_text_no": slot.parents.get("seed"), "passage_text_no": slot.parents.get("passage"),
            "demo_text_nos": list(slot.parents.get("demos", ())), "prompt_version": prompt_version,
            "request_key": keys[part.slot_no], "sample_no": slot.sample_no,
            "state": "accepted" if accepted else "dropped", "drop_reason": part.drop_reason, "detail": part.detail or None,
        })  # fmt: skip
    insert(db, "synthetic", pa.Table.from_pylist(rows))
    ends = dict(checks)
    by_slot: dict[int, list[Part]] = {}
    for part in fresh:
        by_slot.setdefault(part.slot_no, []).append(part)
    for slot_no, own in by_slot.items():
        good = any(part.drop_reason is None for part in own)
        ends[slot_no] = (None, "") if good else (own[0].drop_reason, "none of its texts was kept")
    for slot_no, failure in state.failed.items():
        if slot_no not in before.failed:
            ends[slot_no] = (failure.reason, failure.detail)
    outcomes = {
        number: plans.Answered(detail=detail or None) if reason is None else plans.Dropped(reason, detail or None)
        for number, (reason, detail) in ends.items()
    }
    plans.decide(db, plan_no, outcomes)


def drop_parts(db: duckdb.DuckDBPyConnection, plan_no: int, parts: Sequence[Part]) -> None:
    """Store that texts that had been accepted are dropped."""
    import pyarrow as pa

    numbers = {
        "plan_no": [plan_no] * len(parts),
        "slot_no": [part.slot_no for part in parts],
        "part_no": [part.part_no for part in parts],
    }
    words = {"drop_reason": [part.drop_reason for part in parts], "detail": [part.detail for part in parts]}
    columns = {name: pa.array(values, pa.int64()) for name, values in numbers.items()}
    synthetic.drop(db, pa.table(columns | {name: pa.array(values, pa.string()) for name, values in words.items()}))
