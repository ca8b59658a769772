"""The tables `programs` and `program_events`: label programs of every kind, their state, and who decided on it.

A program is known by its key, the SHA-256 of its kind, its target label and its source. A key stands in the table once among
those that are not superseded: whoever writes the same program again meets the row that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from factory.canonical import digest
from factory.warehouse.file import first_row, insert, next_no

if TYPE_CHECKING:
    import duckdb

    from factory.warehouse.file import Warehouse

State = Literal["accepted", "rejected", "superseded"]

AUTHOR = "author"
"""The actor of the stage that has programs written. It may take back its own refusals, and nobody else's."""

SUGGESTED = "suggested"
"""The reason of a version that waits for a person: it is stored as rejected, and votes once it is approved."""

ASKED = "asked answers"
"""Name of the program that holds the answers of a person without a name; with one, `asked answers by NAME`."""
PERSON = f"(kind = 'trusted' AND (name = '{ASKED}' OR starts_with(name, '{ASKED} by ')))"
"""In SQL: whether a program holds a person's answers."""

_COLUMNS = "program_no, program_key, name, kind, origin, target_label_no, source, state, plan_no"


@dataclass(frozen=True)
class Program:
    """A row of the table.

    Attributes:
        number: Its number.
        key: See `program_key`.
        name: For people.
        kind: `python`, `rules`, `prompted` or `trusted`.
        origin: `model`, `hand`, `snorkel` or `wrench`.
        target_no: Number of the one label that it speaks of, or None.
        source: What runs; empty where nothing is run.
        state: Only an accepted program votes.
        plan_no: The plan that it was written for, if there was one.
    """

    number: int
    key: str
    name: str
    kind: str
    origin: str
    target_no: int | None
    source: str
    state: str
    plan_no: int | None


@dataclass(frozen=True)
class NewProgram:
    """A program that is to be stored.

    Attributes:
        name, kind, origin, source, target_no: As of `Program`.
        key: Its identity, from `program_key`.
        parent_no: The version that it follows.
        plan_no, slot_no: The slot that asked for it.
        request_key, sample_no, prompt_version: The answer that it was read from.
    """

    name: str
    kind: str
    origin: str
    source: str
    key: str
    target_no: int | None = None
    parent_no: int | None = None
    plan_no: int | None = None
    slot_no: int | None = None
    request_key: str | None = None
    sample_no: int | None = None
    prompt_version: str | None = None


def program_key(kind: str, target: str | None, source: str) -> str:
    """The identity of a program: SHA-256 of its kind, its target label's name and its source."""
    return digest({"kind": kind, "target": target, "source": source})


# Reading ----------------------------------------------------------------------------------------------------------------
def accepted(warehouse: Warehouse, *, kinds: Sequence[str] = ()) -> list[Program]:
    """The accepted programs of these kinds (of all kinds if none is named), in order of their number."""
    chosen = "AND kind IN (SELECT unnest(?::VARCHAR[]))" if kinds else ""
    rows = warehouse.query(
        f"SELECT {_COLUMNS} FROM programs WHERE state = 'accepted' {chosen} ORDER BY program_no",
        [list(kinds)] if kinds else None,
    )
    return [Program(*row) for row in rows]


def rejected_by_people(warehouse: Warehouse) -> list[Program]:
    """The programs that a person, and not the stage that wrote them, rejected last."""
    rows = warehouse.query(
        f"SELECT {_COLUMNS} FROM programs p WHERE state = 'rejected' AND (SELECT arg_max(actor, rowid) FROM program_events e"
        " WHERE e.program_no = p.program_no) <> ? ORDER BY program_no",
        [AUTHOR],
    )
    return [Program(*row) for row in rows]


def known(db: duckdb.DuckDBPyConnection, key: str) -> Program | None:
    """The program of that key that is not superseded."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM programs WHERE program_key = ? AND state <> 'superseded' ORDER BY program_no DESC",
        [key],
    ).fetchall()
    return Program(*rows[0]) if rows else None


def find(
    db: duckdb.DuckDBPyConnection, *, kind: str, target_no: int | None, name: str | None = None,
    plan_no: int | None = None,
) -> int | None:  # fmt: skip
    """The number of the program of that kind and target, by its name or by the plan that it belongs to."""
    column, value = ("name", name) if name is not None else ("plan_no", plan_no)
    rows = db.execute(
        f"SELECT program_no FROM programs WHERE kind = ? AND target_label_no IS NOT DISTINCT FROM ? AND {column} = ?"
        " ORDER BY program_no",
        [kind, target_no, value],
    ).fetchall()
    return int(rows[0][0]) if rows else None


# Writing ----------------------------------------------------------------------------------------------------------------
def add(
    db: duckdb.DuckDBPyConnection, program: NewProgram, *, actor: str, state: State = "accepted",
    reason: str | None = None, detail: str | None = None,
) -> int:  # fmt: skip
    """Store a program and its first event.

    Args:
        db: A lease's connection.
        program: What to store.
        actor: Who decided on its state.
        state: Its state.
        reason: Why it is rejected.
        detail: Words for a person.

    Returns:
        Its number.
    """
    number = next_no(db, "programs", "program_no")
    row: dict[str, Any] = {
        "program_no": number, "program_key": program.key, "name": program.name, "kind": program.kind,
        "origin": program.origin, "target_label_no": program.target_no, "source": program.source,
        "parent_no": program.parent_no, "plan_no": program.plan_no, "slot_no": program.slot_no,
        "request_key": program.request_key, "sample_no": program.sample_no, "prompt_version": program.prompt_version,
        "state": state, "drop_reason": reason if state == "rejected" else None, "detail": detail,
    }  # fmt: skip
    insert(db, "programs", {name: [value] for name, value in row.items()})
    _event(db, number, state, reason, actor)
    return number


def offer(
    db: duckdb.DuckDBPyConnection, program: NewProgram, *, reason: str | None, detail: str | None, actor: str = AUTHOR
) -> int:
    """Store what became of a candidate, which may be known already.

    A program that an earlier plan refused is accepted if this one accepts it; one that a person rejected stays rejected, and one
    that is accepted stays so whatever this plan thinks of it.

    Args:
        db: A lease's connection.
        program: The candidate.
        reason: Why it is refused, or None if it is accepted.
        detail: Words for a person.
        actor: Whose decision this is.

    Returns:
        The program's number.
    """
    there = known(db, program.key)
    if there is None:
        return add(db, program, actor=actor, state="rejected" if reason else "accepted", reason=reason, detail=detail)
    last = "SELECT arg_max(actor, rowid) FROM program_events WHERE program_no = ?"
    if reason is None and there.state == "rejected" and first_row(db.execute(last, [there.number])) == (actor,):
        set_state(db, there.number, "accepted", None, actor)
        db.execute("UPDATE programs SET detail = ? WHERE program_no = ?", [detail, there.number])
    return there.number


def set_state(db: duckdb.DuckDBPyConnection, program_no: int, state: State, reason: str | None, actor: str) -> None:
    """Change a program's state, and put on record who did and why."""
    db.execute(
        "UPDATE programs SET state = ?, drop_reason = ? WHERE program_no = ?",
        [state, None if state == "accepted" else reason, program_no],
    )
    _event(db, program_no, state, reason, actor)


def _event(db: duckdb.DuckDBPyConnection, program_no: int, state: str, reason: str | None, actor: str) -> None:
    columns = {"program_no": [program_no], "state": [state], "reason": [reason], "actor": [actor]}
    insert(db, "program_events", columns)
