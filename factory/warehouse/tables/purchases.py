"""The table `purchases`: what was decided to be bought from the model, why, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.warehouse.file import insert, next_no

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

FIRST, AUDIT, STOP = "first", "audit", "stop"
"""Kinds that are no choice: the programs of the first round, the audit slice, and the end."""
WORDS = {
    FIRST: "programs", AUDIT: "labels for the audit slice", "programs": "programs", "anchors": "anchors",
    "label_programs": "programs for", "conflict_programs": "programs on conflicting texts", "texts": "synthetic texts for",
}  # fmt: skip
_COLUMNS = (
    "kind, size, label, reach, expected, sd, price, unit, why, setting, done, gain, error,"
    " requests, tokens, cost, purchase_no"
)


@dataclass(frozen=True)
class Row:
    """A decision.

    Attributes:
        kind, size, label, reach, expected, sd, price, unit, why, setting: What was decided (see the table).
        done: Whether all of it was asked and judged.
        gain, error, requests, tokens, cost: What came of it.
        number: In the table.
    """

    kind: str
    size: int = 0
    label: str | None = None
    reach: float = 0.0
    expected: float | None = None
    sd: float | None = None
    price: float | None = None
    unit: str | None = None
    why: str = ""
    setting: str | None = None
    done: bool = False
    gain: float | None = None
    error: float | None = None
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    number: int = 0

    @property
    def words(self) -> str:
        """What it bought, for a person; nothing of a stop."""
        return "" if self.kind == STOP else words_of(self.kind, self.size, self.label)

    @property
    def as_json(self) -> dict[str, object]:
        """For a report and for `--json`: gains in shares of the score."""
        return {
            "what": self.words, "kind": self.kind, "label": self.label, "why": self.why, "expected": self.expected, "sd": self.sd,
            "got": self.gain, "error": self.error, "requests": self.requests, "tokens": self.tokens, "cost": self.cost,
            "done": self.done,
        }  # fmt: skip


def words_of(kind: str, size: int, label: str | None) -> str:
    """A purchase for a person.

    Example:
        >>> words_of("texts", 20, "surprise")
        '20 synthetic texts for `surprise`'
    """
    return f"{size} {WORDS[kind]}" + (f" `{label}`" if label else "")


def read(warehouse: Warehouse, revision: str | None = None) -> list[Row]:
    """The decisions for a task as it was revised last, in their order; for all revisions if none is given."""
    rows = warehouse.query(
        f"SELECT {_COLUMNS} FROM purchases WHERE task_revision = coalesce(?, task_revision) ORDER BY purchase_no",
        [revision],
    )
    return [Row(*row) for row in rows]


def put(warehouse: Warehouse, revision: str, rows: list[Row]) -> None:
    """Store decisions; a stop before them is taken back."""
    with warehouse.lease() as db:
        db.execute("DELETE FROM purchases WHERE kind = ? AND task_revision = ?", [STOP, revision])
        for row in rows:
            values = {name: value for name, value in vars(row).items() if name != "number"}
            told = {"purchase_no": next_no(db, "purchases", "purchase_no"), "task_revision": revision, **values}
            insert(db, "purchases", {name: [value] for name, value in told.items() if value is not None})


def close(warehouse: Warehouse, row: Row, judged: Mapping[int, float] | None) -> None:
    """Store what came of a decision, and how right the answer is on each anchor since."""
    values = [row.gain, row.error, row.requests, row.tokens, row.cost, None if judged is None else json.dumps(judged)]
    with warehouse.lease() as db:
        db.execute(
            "UPDATE purchases SET done = true, gain = ?, error = ?, requests = ?, tokens = ?, cost = ?, judged = ?"
            " WHERE purchase_no = ?",
            [*values, row.number],
        )


def judged_last(warehouse: Warehouse, revision: str) -> dict[int, float] | None:
    """How right the answer was on each anchor after the last purchase that is done, or None."""
    found = warehouse.scalar(
        "SELECT judged::VARCHAR FROM purchases WHERE judged IS NOT NULL AND task_revision = ? ORDER BY purchase_no DESC",
        [revision],
    )
    return None if found is None else {int(number): float(right) for number, right in json.loads(found).items()}
