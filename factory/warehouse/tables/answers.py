"""The table `answer_events`: what people said of texts, action by action, with time and name, so that each can be undone.

What counts are the votes and anchors; this is the record of how they came about.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.warehouse.file import next_no

if TYPE_CHECKING:
    import duckdb

    from factory.warehouse.file import Warehouse

Labels = frozenset[int]


@dataclass(frozen=True)
class Action:
    """Something a person said of some texts at once.

    Attributes:
        number: Of the action.
        before: Label numbers that the person had given each text until then; None where that was nothing.
    """

    number: int
    before: Mapping[int, Labels | None]


# Reading --------------------------------------------------------------------------------------------------------------------
def answers_by(db: duckdb.DuckDBPyConnection, annotator: str | None, text_nos: Collection[int]) -> dict[int, Labels]:
    """What a person says of these texts now, by text number; texts without an answer are left out."""
    rows = db.execute(
        "SELECT text_no, coalesce(list(label_no) FILTER (WHERE yes), []) FROM anchors WHERE source = 'person'"
        " AND annotator IS NOT DISTINCT FROM ? AND text_no IN (SELECT unnest(?::INTEGER[])) GROUP BY text_no",
        [annotator, list(text_nos)],
    ).fetchall()
    return {int(number): frozenset(labels) for number, labels in rows}


def people_said(
    db: duckdb.DuckDBPyConnection, text_nos: Collection[int]
) -> dict[int, list[tuple[str | None, list[int]]]]:
    """What people say of texts now: for each text that has an answer, names in order and their label numbers."""
    # A list of values lets DuckDB skip blocks, where a subquery would have it read whole columns.
    these = ", ".join(str(int(number)) for number in text_nos) or "NULL"
    rows = db.execute(
        "SELECT text_no, annotator, list(label_no ORDER BY label_no) FILTER (WHERE yes) FROM anchors WHERE source = 'person'"
        f" AND text_no IN ({these}) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    found: dict[int, list[tuple[str | None, list[int]]]] = {}
    for number, annotator, labels in rows:
        found.setdefault(number, []).append((annotator, labels or []))
    return found


def last_action(db: duckdb.DuckDBPyConnection, annotator: str | None) -> Action | None:
    """The newest action of a person that was not undone."""
    rows = db.execute(
        "SELECT action_no, text_no, before FROM answer_events WHERE action_no = (SELECT max(action_no) FROM answer_events"
        " WHERE annotator IS NOT DISTINCT FROM ? AND NOT undone)",
        [annotator],
    ).fetchall()
    if not rows:
        return None
    return Action(int(rows[0][0]), {no: None if labels is None else frozenset(labels) for _, no, labels in rows})


def answered_by(warehouse: Warehouse, annotator: str | None) -> int:
    """On how many texts a person's answer stands."""
    return int(
        warehouse.scalar(
            "SELECT count(DISTINCT text_no) FROM anchors WHERE source = 'person' AND annotator IS NOT DISTINCT FROM ?",
            [annotator],
        )
    )


# Writing --------------------------------------------------------------------------------------------------------------------
def put_action(
    db: duckdb.DuckDBPyConnection, annotator: str | None, said: Mapping[int, Labels], before: Mapping[int, Labels]
) -> int:
    """Put on record what a person says of some texts, beside what the person said of them before.

    Returns:
        The action's number.
    """
    number = next_no(db, "answer_events", "action_no")
    db.executemany(
        "INSERT INTO answer_events (action_no, text_no, annotator, label_nos, before) VALUES (?, ?, ?, ?, ?)",
        [
            (number, text_no, annotator, sorted(labels), sorted(before[text_no]) if text_no in before else None)
            for text_no, labels in said.items()
        ],
    )
    return number


def mark_undone(db: duckdb.DuckDBPyConnection, action_no: int) -> None:
    """Put on record that an action was undone."""
    db.execute("UPDATE answer_events SET undone = true WHERE action_no = ?", [action_no])
