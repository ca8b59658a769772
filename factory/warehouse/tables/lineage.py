"""Lineage: what came of what, walked either way, with a word for a person about each thing."""

from __future__ import annotations

import re
from typing import Any

from factory.errors import InputError
from factory.warehouse.file import Warehouse

COLUMNS = ("child_kind", "child", "parent_kind", "parent", "how", "depth")
_ENDS = "SELECT child_kind AS kind, child AS no FROM lineage UNION SELECT parent_kind, parent FROM lineage"
NAMED_BY = {
    "source": ("sources", "source_no", "path"), "text": ("texts", "text_no", "text"),
    "synthetic": ("synthetic", "synthetic_no", "text"), "program": ("programs", "program_no", "name"),
    "label_model": ("label_models", "label_model_no", "name"), "model": ("models", "model_no", "system"),
    "export": ("exports", "export_no", "path"),
}  # fmt: skip
"""Kind -> the table, the number and the column that tells a person which one it is."""


def walk(warehouse: Warehouse, kind: str, number: str, *, down: bool, limit: int) -> list[dict[str, Any]]:
    """The edges from a thing to what it came from, or to what came of it, the nearest first.

    Args:
        warehouse: Whose lineage.
        kind: Of the thing: `text`, `program`, `request`, ...
        number: Its number or key.
        down: What came of it instead.
        limit: At most so many.

    Returns:
        An edge each: `COLUMNS`, and `what`: what the far end is called.
    """
    order = "depth, child_kind, try_cast(child AS BIGINT), child, parent_kind, try_cast(parent AS BIGINT), parent"
    rows = warehouse.query(
        f"SELECT {', '.join(COLUMNS)} FROM {'descendants' if down else 'ancestors'}(?, ?) ORDER BY {order} LIMIT {int(limit)}",
        [kind, number],
    )
    at = 0 if down else 2
    words = _words(warehouse, {(row[at], row[at + 1]) for row in rows})
    return [{**dict(zip(COLUMNS, row, strict=True)), "what": words.get((row[at], row[at + 1]), "")} for row in rows]


def number_of(warehouse: Warehouse, kind: str, given: str) -> str:
    """The number of what a person has in hand: of a text its content hash, of an export `last`; else as it was given."""
    found = None
    if kind == "text" and re.fullmatch("[0-9a-fA-F]{32}", given):
        found = warehouse.scalar("SELECT text_no FROM texts WHERE content_hash = from_hex(?)", [given])
    elif kind == "export" and given == "last":
        found = warehouse.scalar("SELECT max(export_no) FROM exports")
    return given if found is None else str(found)


def check_is_there(warehouse: Warehouse, kind: str, number: str) -> None:
    """Say why there is no lineage of something, unless it is there and has none.

    Raises:
        InputError: There is no such kind, or nothing of that number.
    """
    kinds = [name for (name,) in warehouse.query(f"SELECT DISTINCT kind FROM ({_ENDS}) ORDER BY kind")]
    if kind not in kinds:
        raise InputError(
            f"the warehouse has no lineage of any `{kind}`", fix=f"It has: {', '.join(kinds) or 'nothing yet'}"
        )
    if not warehouse.scalar(f"SELECT count(*) FROM ({_ENDS}) WHERE kind = ? AND no = ?", [kind, number]):
        raise InputError(f"there is no {kind} {number} in the warehouse")


def soft_label_words(warehouse: Warehouse, number: str) -> str:
    """What a soft label (`LABEL_MODEL/TEXT`) says: its label model, and the likeliest labels with their probability."""
    rows = warehouse.query(
        "SELECT m.name, l.name, s.probs[l.label_no + 1] FROM soft_labels s JOIN label_models m USING (label_model_no), labels l"
        " WHERE s.label_model_no || '/' || s.text_no = ? AND l.active ORDER BY 3 DESC NULLS LAST, l.label_no LIMIT 5",
        [number],
    )
    if not rows:
        return ""
    told = ", ".join(f"{label} {'unknown' if p is None else f'{p:.2f}'}" for _, label, p in rows)
    return f"text {number.split('/')[-1]}, by label model {rows[0][0]}: {told}"


def _words(warehouse: Warehouse, ends: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What each of these things is called: a path, a name, or the beginning of a text."""
    found: dict[tuple[str, str], str] = {}
    for kind, (table, number, column) in NAMED_BY.items():
        wanted = [no for of, no in ends if of == kind]
        if wanted:
            rows = warehouse.query(
                f"SELECT {number}::VARCHAR, {column} FROM {table} WHERE {number}::VARCHAR IN (SELECT unnest(?))",
                [wanted],
            )
            found |= {(kind, no): " ".join(str(words or "").split())[:60] for no, words in rows}
    return found
