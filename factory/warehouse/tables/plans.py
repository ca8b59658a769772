"""The tables `plans` and `slots`: what is asked, frozen before it is asked, and what became of each piece of it.

One rule for every stage: **only an answer decides a slot**, or a refusal of the model's own doing. Whatever the network, the
server, the balance, a limit or a batch did leaves the slot open; a plan is done when none of its slots is open, and the next run
asks for those that are. Slots are decided once, and in the order of their numbers wherever that order matters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from factory.warehouse.file import insert, next_no

if TYPE_CHECKING:
    import duckdb

    from factory.warehouse.file import Warehouse


NOT_ASKED = frozenset({"outcome", "renews"})
"""What a plan's configuration tells beside what was asked for: what it came to, and what of an earlier plan it renews."""


@dataclass(frozen=True)
class Plan:
    """A plan as it stands in the warehouse.

    Attributes:
        plan_no: Its number.
        key: Digest of everything that its questions depend on.
        done: Whether no slot is open.
        config: What it was made with; `outcome` in it is what it came to, once it is done.
    """

    plan_no: int
    key: str
    done: bool
    config: Mapping[str, Any]

    @property
    def outcome(self) -> Mapping[str, Any]:
        """What the plan came to when it was last done."""
        found: Mapping[str, Any] = self.config.get("outcome", {})
        return found


@dataclass(frozen=True)
class Slot:
    """One numbered piece of a plan.

    Attributes:
        slot_no: Unique in the plan, in the order of decision.
        spec: What its request is rendered from, JSON.
        parents: What it descends from, JSON.
        round: 0 for the first.
        request_key: The request that fills it, or that was read; None where it is not known yet.
        sample_no: Which sample of that.
        state: `open`, `accepted`, `dropped`, or `unused` (never asked, since enough was accepted before its turn).
        drop_reason: Why it is dropped.
        detail: Words for a person.
    """

    slot_no: int
    spec: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, Any] = field(default_factory=dict)
    round: int = 0
    request_key: str | None = None
    sample_no: int | None = None
    state: str = "open"
    drop_reason: str | None = None
    detail: str | None = None


# What became of a slot --------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answered:
    """An answer was read and taken.

    Attributes:
        request_key: The request that it answers; None keeps the slot's own.
        sample_no: Which sample; likewise.
        detail: What it said, or words for a person.
    """

    request_key: str | None = None
    sample_no: int | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Dropped:
    """The model's own doing: an answer that cannot be used, or a request that it can never answer (too long for it, filtered).

    Attributes:
        reason: A short code.
        detail: Words for a person.
        request_key: The request that it is about; None keeps the slot's own.
        sample_no: Which sample; likewise.
    """

    reason: str
    detail: str | None = None
    request_key: str | None = None
    sample_no: int | None = None


@dataclass(frozen=True)
class TryLater:
    """Nothing was decided: the slot stays open.

    Attributes:
        reason: A short code.
        words: What the server said, or what happened.
    """

    reason: str
    words: str = ""


@dataclass(frozen=True)
class Unused:
    """It need not be asked: enough was accepted before its turn."""


Outcome = Answered | Dropped | TryLater | Unused


# Making -----------------------------------------------------------------------------------------------------------------
def create(
    warehouse: Warehouse, stage: str, key: str, config: Mapping[str, Any], *, task_revision: str, prompt_version: str,
    slots: Sequence[Slot] = (),
) -> Plan:  # fmt: skip
    """Store a plan with its first slots, open, in one transaction.

    Args:
        warehouse: Where to.
        stage: Whose plan it is.
        key: See `Plan`.
        config: Likewise.
        task_revision: Of the task card.
        prompt_version: Of the prompt, or of several.
        slots: The slots that are known already.
    """
    with warehouse.lease() as db:
        plan_no = next_no(db, "plans", "plan_no")
        db.execute(
            "INSERT INTO plans (plan_no, stage, key, config, task_revision, prompt_version, done)"
            " VALUES (?, ?, ?, ?, ?, ?, false)",
            [plan_no, stage, key, _as_json(config), task_revision, prompt_version],
        )
        extend(db, plan_no, slots)
    return Plan(plan_no, key, False, dict(config))


def extend(db: duckdb.DuckDBPyConnection, plan_no: int, slots: Sequence[Slot]) -> None:
    """Add open slots to a plan, which is not done any more."""
    import pyarrow as pa

    if not slots:
        return
    rows = [
        {
            "plan_no": plan_no, "slot_no": slot.slot_no, "round": slot.round, "spec": _as_json(slot.spec),
            "parents": _as_json(slot.parents), "request_key": slot.request_key, "sample_no": slot.sample_no, "state": "open",
        }
        for slot in slots
    ]  # fmt: skip
    insert(db, "slots", pa.Table.from_pylist(rows))
    reopen(db, plan_no)


def reopen(db: duckdb.DuckDBPyConnection, plan_no: int) -> None:
    """More is wanted of a plan: it is not done, and what it came to is forgotten."""
    _close(db, plan_no, False, None)


# Reading ----------------------------------------------------------------------------------------------------------------
def find(warehouse: Warehouse, stage: str, key: str) -> Plan | None:
    """The plan of that stage and key."""
    rows = warehouse.query("SELECT plan_no, key, done, config FROM plans WHERE stage = ? AND key = ?", [stage, key])
    return Plan(int(rows[0][0]), rows[0][1], bool(rows[0][2]), json.loads(rows[0][3])) if rows else None


def earlier(
    warehouse: Warehouse, stage: str, config: Mapping[str, Any], *, task_revision: str, prompt_version: str,
    done: bool = False,
) -> tuple[Plan, str] | None:  # fmt: skip
    """The last plan (of those that are `done`) that asked the same by an earlier revision of the card, with that revision."""
    rows = warehouse.query(
        "SELECT plan_no, key, done, config, task_revision FROM plans"
        " WHERE stage = ? AND task_revision <> ? AND prompt_version = ? ORDER BY plan_no DESC",
        [stage, task_revision, prompt_version],
    )
    for number, key, is_done, told, revision in rows:
        plan = Plan(int(number), key, bool(is_done), json.loads(told))
        if (plan.done or not done) and _as_json(
            {k: v for k, v in plan.config.items() if k not in NOT_ASKED}
        ) == _as_json(config):
            return plan, str(revision)
    return None


def family(db: duckdb.DuckDBPyConnection, stage: str, name: str) -> list[int]:
    """Numbers of the stage's plans whose configuration says `family: NAME`."""
    rows = db.execute(
        "SELECT plan_no FROM plans WHERE stage = ? AND config ->> '$.family' = ?", [stage, name]
    ).fetchall()
    return [int(number) for (number,) in rows]


def slots(warehouse: Warehouse, plan_no: int, *, only: str | None = None) -> list[Slot]:
    """The slots of a plan, in order; those in the state `only` alone, if one is given."""
    rows = warehouse.query(
        "SELECT slot_no, spec, parents, round, request_key, sample_no, state, drop_reason, detail FROM slots"
        " WHERE plan_no = $plan AND ($state IS NULL OR state = $state) ORDER BY slot_no",
        {"plan": plan_no, "state": only},
    )
    return [Slot(row[0], json.loads(row[1]), json.loads(row[2]), *row[3:]) for row in rows]


def begun_alike(warehouse: Warehouse, stage: str, plan_no: int) -> list[int]:
    """Numbers of the stage's other plans of the same task and prompts that begin as this one, as far as both go."""

    def specs(number: int) -> list[Mapping[str, Any]]:
        return [slot.spec for slot in slots(warehouse, number)]

    others = warehouse.query(
        "SELECT o.plan_no FROM plans o JOIN plans p USING (stage, task_revision, prompt_version)"
        " WHERE p.plan_no = ? AND stage = ? AND o.plan_no <> p.plan_no ORDER BY 1",
        [plan_no, stage],
    )
    mine = specs(plan_no)
    pairs = [(int(number), specs(int(number))) for (number,) in others]
    return [number for number, theirs in pairs if theirs and mine[: len(theirs)] == theirs[: len(mine)]]


def request_keys(db: duckdb.DuckDBPyConnection, plan_no: int) -> dict[int, str | None]:
    """The request of every slot, by the slot's number."""
    return dict(db.execute("SELECT slot_no, request_key FROM slots WHERE plan_no = ?", [plan_no]).fetchall())


def states(warehouse: Warehouse, plan_no: int) -> dict[tuple[str, str | None], int]:
    """How many slots are in each state, by `(state, reason)`."""
    rows = warehouse.query(
        "SELECT state, drop_reason, count(*) FROM slots WHERE plan_no = ? GROUP BY ALL ORDER BY ALL", [plan_no]
    )
    return {(state, reason): int(n) for state, reason, n in rows}


# Deciding ---------------------------------------------------------------------------------------------------------------
def decide(db: duckdb.DuckDBPyConnection, plan_no: int, outcomes: Mapping[int, Outcome]) -> None:
    """Store what became of slots, by their numbers. `TryLater` decides nothing, and what was decided before stays as it is."""
    import pyarrow as pa

    decided = {number: outcome for number, outcome in outcomes.items() if not isinstance(outcome, TryLater)}
    if not decided:
        return
    rows = [_row(number, outcome) for number, outcome in decided.items()]
    names = ("slot_no", "state", "drop_reason", "detail", "request_key", "sample_no")
    types = (pa.int32(), pa.string(), pa.string(), pa.string(), pa.string(), pa.int32())
    columns = zip(names, types, zip(*rows, strict=True), strict=True)
    db.register("decided_slots", pa.table({name: pa.array(values, kind) for name, kind, values in columns}))
    try:
        db.execute(
            "UPDATE slots SET state = d.state, drop_reason = d.drop_reason, detail = d.detail,"
            " request_key = coalesce(d.request_key, slots.request_key), sample_no = coalesce(d.sample_no, slots.sample_no)"
            " FROM decided_slots d WHERE slots.plan_no = ? AND slots.slot_no = d.slot_no AND slots.state = 'open'",
            [plan_no],
        )
    finally:
        db.unregister("decided_slots")


def finish(db: duckdb.DuckDBPyConnection, plan_no: int, outcome: Mapping[str, Any] | None = None) -> bool:
    """Mark a plan done, if none of its slots is open.

    Args:
        db: A lease's connection.
        plan_no: Which plan.
        outcome: What it came to; kept in its configuration.

    Returns:
        Whether it is done.
    """
    ((still,),) = db.execute("SELECT count(*) FROM slots WHERE plan_no = ? AND state = 'open'", [plan_no]).fetchall()
    _close(db, plan_no, still == 0, outcome if still == 0 else None)
    return bool(still == 0)


def _close(db: duckdb.DuckDBPyConnection, plan_no: int, done: bool, outcome: Mapping[str, Any] | None) -> None:
    ((config,),) = db.execute("SELECT config FROM plans WHERE plan_no = ?", [plan_no]).fetchall()
    values = {name: value for name, value in json.loads(config).items() if name != "outcome"}
    if outcome is not None:
        values["outcome"] = dict(outcome)
    db.execute("UPDATE plans SET done = ?, config = ? WHERE plan_no = ?", [done, _as_json(values), plan_no])


def _row(number: int, outcome: Answered | Dropped | Unused) -> tuple[Any, ...]:
    if isinstance(outcome, Answered):
        return number, "accepted", None, outcome.detail, outcome.request_key, outcome.sample_no
    if isinstance(outcome, Dropped):
        return number, "dropped", outcome.reason, outcome.detail, outcome.request_key, outcome.sample_no
    return number, "unused", None, None, None, None


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True)


def programs_asked(warehouse: Warehouse, labels: Sequence[str] | None, show: str) -> int:
    """Most programs that a plan of `author` wanted for these labels and texts; 0 if there is no such plan."""
    found = [0]
    for (text,) in warehouse.query("SELECT config::VARCHAR FROM plans WHERE stage = 'author'"):
        config = json.loads(text)
        if config.get("labels") == (None if labels is None else list(labels)) and config.get("show", "any") == show:
            found.append(int(config["programs"]))
    return max(found)
