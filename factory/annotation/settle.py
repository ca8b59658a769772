"""From decided slots to what others read: annotations, or a prompted labelling function with its votes.

Both are a function of the slots alone and are written anew whenever slots were decided, in one transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from factory.annotation.core import calibrated, label_probabilities
from factory.canonical import canonical_json, digest
from factory.llm.calls import runs
from factory.warehouse.file import Warehouse, insert
from factory.warehouse.tables import plans, programs
from factory.warehouse.tables.anchors import NewAnchor, put_model
from factory.warehouse.tables.plans import Plan, Slot
from factory.warehouse.tables.programs import NewProgram
from factory.warehouse.tables.votes import forget_votes

if TYPE_CHECKING:
    import duckdb

    from factory.prompts import Prompt
    from factory.task import TaskCard

_SOURCE_KEYS = ("prompt", "sampling", "structured", "model", "demonstrations", "calibrate")


class Read(NamedTuple):
    """A decided slot and the labels that were read; none for an abstention or, in a `multi` task, for no label."""

    slot: Slot
    names: tuple[str, ...]

    @property
    def text_no(self) -> Any:
        """The number of its text; None of a text without content."""
        return self.slot.parents.get("text_no")


def settle(
    warehouse: Warehouse, plan: Plan, card: TaskCard, prompt: Prompt, config: Mapping[str, Any], names: Sequence[str]
) -> tuple[str, ...]:
    """Write a plan's annotations or votes. Returns lines for a person.

    Args:
        warehouse: Where the slots are.
        plan, card, prompt: What was asked.
        config: The plan's configuration.
        names: Names of the labels by number.
    """
    says: list[str] = []
    numbers = {name: at for at, name in enumerate(names)}
    with warehouse.lease() as db:
        every = [
            Read(slot, tuple(json.loads(slot.detail or "[]")) if slot.state == "accepted" else ())
            for slot in plans.slots(warehouse, plan.plan_no)
            if slot.state != "open"
        ]
        read = [one for one in every if one.text_no is not None]
        probs: dict[int, list[float]] = {}
        if card.kind == "single" and (config["calibrate"] or config.get("anchors")):
            probs = _probabilities(db, [one.slot for one in every], card.label_names)
        if config["calibrate"]:
            read, probs, said = _calibrate(config["calibrate"], every, read, probs, card.label_names)
            says.append(said)
        if config["as_votes"]:
            targets: Sequence[str | None] = card.label_names if card.kind == "multi" else (None,)
            for target in targets:
                number = _program(db, plan, prompt, config, target, None if target is None else numbers[target])
                _write_votes(db, number, target, numbers, read)
        else:
            _write_annotations(db, plan, card, numbers, read)
        if config.get("anchors"):
            says.append(_write_anchors(db, plan, card, numbers, read, probs))
        plans.finish(db, plan.plan_no)
    return tuple(says)


def _write_annotations(
    db: duckdb.DuckDBPyConnection, plan: Plan, card: TaskCard, numbers: Mapping[str, int], read: Sequence[Read]
) -> None:
    rows: list[tuple[Any, ...]] = []
    for one in read:
        slot, reason = one.slot, one.slot.drop_reason
        labels: list[int | None] = [numbers[name] for name in one.names]
        if not labels:
            labels = [-1] if reason is None and card.kind == "multi" else [None]
            reason = reason or (None if card.kind == "multi" else "abstained")
        key, sample = slot.request_key or "", slot.sample_no or 0
        rows += [(plan.plan_no, slot.slot_no, one.text_no, label, key, sample, reason) for label in labels]
    db.execute("DELETE FROM annotations WHERE plan_no = ?", [plan.plan_no])
    names = ("plan_no", "slot_no", "text_no", "label_no", "request_key", "sample_no", "drop_reason")
    _insert(db, "annotations", names, rows)


def _write_anchors(
    db: duckdb.DuckDBPyConnection, plan: Plan, card: TaskCard, numbers: Mapping[str, int], read: Sequence[Read],
    probs: Mapping[int, Sequence[float]],
) -> str:  # fmt: skip
    """The readable answers as the model's anchors, with their probabilities; what was drawn is told for a person."""
    multi = card.kind == "multi"
    found = []
    for one in read:
        if one.slot.drop_reason is not None or not (one.names or multi):
            continue
        of, told = one.slot.parents, probs.get(one.slot.slot_no)
        prob = None if told is None else told[card.label_names.index(one.names[0])]
        labels = frozenset(numbers[name] for name in one.names)
        found.append(NewAnchor(one.text_no, labels, of["role"], of["stratum"], of["p"], one.slot.slot_no, prob))
    put_model(db, plan.plan_no, found, [numbers[name] for name in card.label_names] if multi else None)
    audit = sum(one.role == "audit" for one in found)
    strata = Counter(one.stratum for one in found if one.role == "teach")
    told_of = ", ".join(f"{count} {stratum}" for stratum, count in sorted(strata.items()))
    return f"anchors: {audit} for the audit slice, {len(found) - audit} that teach" + (
        f" ({told_of})" if told_of else ""
    )


def _write_votes(
    db: duckdb.DuckDBPyConnection, number: int, target: str | None, numbers: Mapping[str, int], read: Sequence[Read]
) -> None:
    """The votes of one prompted labelling function, and which texts it was asked."""
    votes: dict[int, int] = {}
    for one in read:
        if one.slot.drop_reason is None and target is not None:
            votes[one.text_no] = int(target in one.names)
        elif one.slot.drop_reason is None and one.names:
            votes[one.text_no] = numbers[one.names[0]]
    failed = {one.text_no: one.slot.drop_reason for one in read if one.slot.drop_reason is not None}
    blocks = []
    for first, last in runs(one.text_no for one in read):
        size = last - first + 1
        ok, bad = (sum(no in found for no in range(first, last + 1)) for found in (votes, failed))
        counts = {"ok": ok, "abstain": size - ok - bad, "unreadable": bad}
        told = json.dumps({status: count for status, count in counts.items() if count})
        blocks.append((number, first, last, size, ok, told))
    forget_votes(db, number)
    _insert(db, "votes", ("program_no", "text_no", "vote"), [(number, *vote) for vote in sorted(votes.items())])
    failures = [(number, text_no, "unreadable", reason) for text_no, reason in sorted(failed.items())]
    _insert(db, "vote_failures", ("program_no", "text_no", "status", "detail"), failures)
    columns = ("program_no", "first_text_no", "last_text_no", "n_texts", "n_votes", "counts")
    _insert(db, "vote_blocks", columns, blocks)


def _insert(db: duckdb.DuckDBPyConnection, table: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    insert(db, table, {name: [row[at] for row in rows] for at, name in enumerate(names)})


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
    how: bool | str, every: Sequence[Read], read: list[Read], probs: Mapping[int, list[float]], labels: Sequence[str]
) -> tuple[list[Read], dict[int, list[float]], str]:
    """What was read with the calibrated labels in place of the stated ones, where logprobs allow it, and the probabilities."""
    import numpy as np

    at_hand = [one for one in read if one.slot.slot_no in probs and one.names]
    leaning = at_hand if how == "batch" else [one for one in every if one.text_no is None and one.slot.slot_no in probs]
    if not leaning or not at_hand:
        return read, dict(probs), "not calibrated: the answers carry no usable logprobs"
    bias = np.array([probs[one.slot.slot_no] for one in leaning])
    new_probs = calibrated(np.array([probs[one.slot.slot_no] for one in at_hand]), bias)
    probs = {one.slot.slot_no: row.tolist() for one, row in zip(at_hand, new_probs, strict=True)}
    chosen = new_probs.argmax(axis=1)
    new = {one.slot.slot_no: (labels[int(best)],) for one, best in zip(at_hand, chosen, strict=True)}
    changed = sum(new[one.slot.slot_no] != one.names for one in at_hand)
    told = f"calibrated {len(at_hand)} of {len(read)} answers; {changed} labels changed"
    return [Read(one.slot, new.get(one.slot.slot_no, one.names)) for one in read], probs, told


def _probabilities(
    db: duckdb.DuckDBPyConnection, slots: Sequence[Slot], labels: Sequence[str]
) -> dict[int, list[float]]:
    """Label probabilities by slot, of the answers that carry logprobs."""
    keyed = [slot for slot in slots if slot.request_key is not None and slot.drop_reason is None]
    rows = db.execute(
        "SELECT k.slot_no, a.logprobs FROM (SELECT unnest(?::INTEGER[]) AS slot_no, unnest(?::VARCHAR[]) AS request_key,"
        " unnest(?::INTEGER[]) AS sample_no) k JOIN answers a USING (request_key, sample_no) WHERE a.logprobs IS NOT NULL",
        [[getattr(slot, name) for slot in keyed] for name in ("slot_no", "request_key", "sample_no")],
    ).fetchall()
    found = {slot_no: label_probabilities(json.loads(text), labels) for slot_no, text in rows}
    return {slot_no: probs for slot_no, probs in found.items() if probs is not None}
