"""From decided slots to what others read: annotations, or a prompted labelling function with its votes.

Both are a function of the slots alone and are written anew whenever slots were decided, in one transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.annotation.core import calibrated, label_probabilities
from factory.canonical import canonical_json, digest
from factory.llm.calls import runs
from factory.warehouse.file import Warehouse, insert
from factory.warehouse.tables import plans, programs
from factory.warehouse.tables.anchors import NewAnchor, put_model
from factory.warehouse.tables.plans import Plan, Slot
from factory.warehouse.tables.programs import NewProgram

if TYPE_CHECKING:
    import duckdb

    from factory.prompts import Prompt
    from factory.task import TaskCard

_SOURCE_KEYS = ("prompt", "sampling", "structured", "model", "demonstrations", "calibrate")


@dataclass(frozen=True)
class Outcome:
    """What became of a question.

    Attributes:
        slot_no: Its slot.
        request_key: The request whose answer was read, or that the model did not answer.
        sample_no: Which sample of it.
        names: The labels read; empty for an abstention or, in a `multi` task, for none.
        drop_reason: Why nothing could be read, or None.
    """

    slot_no: int
    request_key: str | None
    sample_no: int | None
    names: tuple[str, ...]
    drop_reason: str | None


Read = tuple[int, Outcome]
"""The number of a text, and what was read of it."""


def settle(
    warehouse: Warehouse,
    plan: Plan,
    card: TaskCard,
    prompt: Prompt,
    config: Mapping[str, Any],
    names: Sequence[str],
) -> tuple[str, ...]:
    """Write a plan's annotations or votes.

    Args:
        warehouse: Where the slots are.
        plan: The plan.
        card: The task card.
        prompt: The prompt that was asked.
        config: The plan's configuration.
        names: Names of the labels by number.

    Returns:
        Lines for a person.
    """
    says: list[str] = []
    with warehouse.lease() as db:
        slots = plans.slots(warehouse, plan.plan_no)
        every = _decided(slots)
        read = [(text_no, outcome) for text_no, outcome in every if text_no is not None]
        if config["calibrate"]:
            read, said = _calibrate(db, every, card.label_names)
            says.append(said)
        if config["as_votes"]:
            targets: Sequence[str | None] = card.label_names if card.kind == "multi" else (None,)
            for target in targets:
                _write_votes(db, plan, prompt, config, target, names, read)
        else:
            _write_annotations(db, plan, card, names, read)
        if config.get("anchors"):
            says.append(_write_anchors(db, plan, card, names, read, slots))
        plans.finish(db, plan.plan_no)
    return tuple(says)


def _decided(slots: Sequence[Slot]) -> list[tuple[int | None, Outcome]]:
    """Every decided slot with its text's number, in order; None for texts without content."""
    return [
        (
            slot.parents.get("text_no"),
            Outcome(
                slot.slot_no,
                slot.request_key,
                slot.sample_no,
                tuple(json.loads(slot.detail or "[]")) if slot.state == "accepted" else (),
                slot.drop_reason,
            ),
        )
        for slot in slots
        if slot.state != "open"
    ]


def _write_annotations(
    db: duckdb.DuckDBPyConnection, plan: Plan, card: TaskCard, names: Sequence[str], read: Sequence[Read]
) -> None:
    import pyarrow as pa

    number = {name: at for at, name in enumerate(names)}
    rows: list[tuple[int, int, int | None, str | None, int | None, str | None]] = []
    for text_no, outcome in read:
        numbers: list[int | None] = [number[name] for name in outcome.names]
        reason = outcome.drop_reason
        if not numbers:
            numbers = [-1] if reason is None and card.kind == "multi" else [None]
            reason = reason or (None if card.kind == "multi" else "abstained")
        rows += [(outcome.slot_no, text_no, no, outcome.request_key, outcome.sample_no, reason) for no in numbers]
    db.execute("DELETE FROM annotations WHERE plan_no = ?", [plan.plan_no])
    columns = list(zip(*rows, strict=True)) or [()] * 6
    insert(
        db,
        "annotations",
        {
            "plan_no": pa.array([plan.plan_no] * len(rows), pa.int32()),
            "slot_no": pa.array(columns[0], pa.int32()),
            "text_no": pa.array(columns[1], pa.int32()),
            "label_no": pa.array(columns[2], pa.int32()),
            "request_key": pa.array([key or "" for key in columns[3]], pa.string()),
            "sample_no": pa.array([sample or 0 for sample in columns[4]], pa.int32()),
            "drop_reason": pa.array(columns[5], pa.string()),
        },
    )


def _write_anchors(
    db: duckdb.DuckDBPyConnection,
    plan: Plan,
    card: TaskCard,
    names: Sequence[str],
    read: Sequence[Read],
    slots: Sequence[Slot],
) -> str:
    """The readable answers as the model's anchors; what was drawn is told for a person."""
    number = {name: at for at, name in enumerate(names)}
    parents = {slot.slot_no: slot.parents for slot in slots}
    multi = card.kind == "multi"
    probs = {} if multi else _probabilities(db, [outcome for _, outcome in read], card.label_names)
    found = []
    for text_no, outcome in read:
        if outcome.drop_reason is not None or not (outcome.names or multi):
            continue
        of, told = parents[outcome.slot_no], probs.get(outcome.slot_no)
        prob = None if told is None else told[card.label_names.index(outcome.names[0])]
        labels = frozenset(number[name] for name in outcome.names)
        found.append(NewAnchor(text_no, labels, of["role"], of["stratum"], of["p"], outcome.slot_no, prob))
    put_model(db, plan.plan_no, found, [number[name] for name in card.label_names] if multi else None)
    audit = sum(one.role == "audit" for one in found)
    strata = Counter(one.stratum for one in found if one.role == "teach")
    told_of = ", ".join(f"{count} {stratum}" for stratum, count in sorted(strata.items()))
    return f"anchors: {audit} for the audit slice, {len(found) - audit} that teach" + (
        f" ({told_of})" if told_of else ""
    )


def _write_votes(
    db: duckdb.DuckDBPyConnection,
    plan: Plan,
    prompt: Prompt,
    config: Mapping[str, Any],
    target: str | None,
    names: Sequence[str],
    read: Sequence[Read],
) -> None:
    """One prompted labelling function, its votes, and which texts it was asked."""
    import pyarrow as pa

    number = {name: at for at, name in enumerate(names)}
    program_no = _program(db, plan, prompt, config, target, None if target is None else number[target])
    votes: dict[int, int] = {}
    for text_no, outcome in read:
        if outcome.drop_reason is None and target is not None:
            votes[text_no] = int(target in outcome.names)
        elif outcome.drop_reason is None and outcome.names:
            votes[text_no] = number[outcome.names[0]]
    failed = {text_no: outcome for text_no, outcome in read if outcome.drop_reason is not None}
    asked = sorted(text_no for text_no, _ in read)
    for table in ("votes", "vote_blocks", "vote_failures"):
        db.execute(f"DELETE FROM {table} WHERE program_no = ?", [program_no])
    ordered = sorted(votes)
    insert(
        db,
        "votes",
        {
            "program_no": pa.array([program_no] * len(ordered), pa.int32()),
            "text_no": pa.array(ordered, pa.int32()),
            "vote": pa.array([votes[text_no] for text_no in ordered], pa.int32()),
        },
    )
    insert(
        db,
        "vote_failures",
        {
            "program_no": pa.array([program_no] * len(failed), pa.int32()),
            "text_no": pa.array(sorted(failed), pa.int32()),
            "status": pa.array(["unreadable"] * len(failed), pa.string()),
            "detail": pa.array([failed[text_no].drop_reason for text_no in sorted(failed)], pa.string()),
        },
    )
    blocks = runs(asked)
    counts: list[dict[str, int]] = []
    at = 0
    for first, last in blocks:
        here = asked[at : at + last - first + 1]
        at += len(here)
        ok, bad = sum(no in votes for no in here), sum(no in failed for no in here)
        parts = {"ok": ok, "abstain": len(here) - ok - bad, "unreadable": bad}
        counts.append({status: count for status, count in parts.items() if count})
    insert(
        db,
        "vote_blocks",
        {
            "program_no": pa.array([program_no] * len(blocks), pa.int32()),
            "first_text_no": pa.array([first for first, _ in blocks], pa.int32()),
            "last_text_no": pa.array([last for _, last in blocks], pa.int32()),
            "n_texts": pa.array([last - first + 1 for first, last in blocks], pa.int32()),
            "n_votes": pa.array([count.get("ok", 0) for count in counts], pa.int32()),
            "counts": pa.array([json.dumps(count) for count in counts], pa.string()),
        },
    )


def _program(
    db: duckdb.DuckDBPyConnection,
    plan: Plan,
    prompt: Prompt,
    config: Mapping[str, Any],
    target: str | None,
    target_no: int | None,
) -> int:
    """The number of the plan's prompted labelling function; made if there is none."""
    known = programs.find(db, kind="prompted", target_no=target_no, plan_no=plan.plan_no)
    if known is not None:
        return known
    source = canonical_json({**{key: config[key] for key in _SOURCE_KEYS}, "version": prompt.version}).decode()
    name = f"{prompt.name}:{target}" if target is not None else prompt.name
    key = digest({"kind": "prompted", "target": target, "source": source, "plan": dict(config)})
    new = NewProgram(
        name, "prompted", "model", source, key, target_no=target_no, plan_no=plan.plan_no, prompt_version=prompt.version
    )
    return programs.add(db, new, actor="annotate")


def _calibrate(
    db: duckdb.DuckDBPyConnection, every: Sequence[tuple[int | None, Outcome]], labels: Sequence[str]
) -> tuple[list[Read], str]:
    """The outcomes with the calibrated labels in place of the stated ones, where logprobs allow it."""
    import numpy as np

    texts = [(text_no, outcome) for text_no, outcome in every if text_no is not None]
    probs = _probabilities(db, [outcome for _, outcome in every], labels)
    nulls = [probs[o.slot_no] for text_no, o in every if text_no is None and o.slot_no in probs]
    at_hand = [(text_no, o) for text_no, o in texts if o.slot_no in probs and o.drop_reason is None and o.names]
    if not nulls or not at_hand:
        return texts, "not calibrated: the answers carry no usable logprobs"
    chosen = calibrated(np.array([probs[o.slot_no] for _, o in at_hand]), np.array(nulls)).argmax(axis=1)
    new = {o.slot_no: (labels[int(best)],) for (_, o), best in zip(at_hand, chosen, strict=True)}
    changed = sum(new[o.slot_no] != o.names for _, o in at_hand)
    read = [
        (
            text_no,
            Outcome(o.slot_no, o.request_key, o.sample_no, new.get(o.slot_no, o.names), o.drop_reason),
        )
        for text_no, o in texts
    ]
    return read, f"calibrated {len(at_hand)} of {len(texts)} answers; {changed} labels changed"


def _probabilities(
    db: duckdb.DuckDBPyConnection, outcomes: Sequence[Outcome], labels: Sequence[str]
) -> dict[int, list[float]]:
    """Label probabilities by slot, of the answers that carry logprobs."""
    import pyarrow as pa

    keyed = [o for o in outcomes if o.request_key is not None and o.drop_reason is None]
    table = pa.table(
        {
            "slot_no": pa.array([o.slot_no for o in keyed], pa.int32()),
            "request_key": pa.array([o.request_key for o in keyed], pa.string()),
            "sample_no": pa.array([o.sample_no for o in keyed], pa.int32()),
        }
    )
    db.register("keyed", table)
    try:
        rows = db.execute(
            "SELECT k.slot_no, a.logprobs FROM keyed k JOIN answers a USING (request_key, sample_no)"
            " WHERE a.logprobs IS NOT NULL"
        ).fetchall()
    finally:
        db.unregister("keyed")
    found = {slot_no: label_probabilities(json.loads(text), labels) for slot_no, text in rows}
    return {slot_no: probs for slot_no, probs in found.items() if probs is not None}
