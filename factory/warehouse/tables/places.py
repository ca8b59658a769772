"""Where texts came from, FILE:LINE, and the user's own columns that stay with their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from factory.files.values import as_text
from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Origin:
    """Where a text came from.

    Attributes:
        places: FILE:LINE of each of its rows in a split.
        own: The user's own columns of the first of them.
    """

    places: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The first place, and how many more there are."""
        more = f" and {len(self.places) - 1} more" if len(self.places) > 1 else ""
        return f"{self.places[0]}{more}" if self.places else ""

    def columns(self, taken: Sequence[str]) -> dict[str, Any]:
        """The own columns by the names that they are given beside others: one that is taken is `input_NAME`."""
        found: dict[str, Any] = {}
        for name, value in self.own.items():
            while name in taken or name in found:
                name = f"input_{name}"
            found[name] = value
        return found


def origins(warehouse: Warehouse, text_nos: Sequence[int], split: str) -> dict[int, Origin]:
    """Where texts came from, by text number; those that are not in the split are left out.

    Args:
        warehouse: Where they are.
        text_nos: Their numbers.
        split: Of whose rows.
    """
    rows = warehouse.query(
        "SELECT text_no, list(place ORDER BY source_no, row_no), first(fields::VARCHAR ORDER BY source_no, row_no) FROM places"
        " WHERE kept AND split = ? AND text_no IN (SELECT unnest(?::INTEGER[])) GROUP BY text_no",
        [split, list(text_nos)],
    )
    return {number: Origin(tuple(places), json.loads(own) if own else {}) for number, places, own in rows}


def ids_of(warehouse: Warehouse, split: str) -> dict[str, int]:
    """Text numbers by the user's own id of their rows, the first column that stays with a row; empty where rows have none."""
    rows = warehouse.query(
        "SELECT fields::VARCHAR, text_no FROM occurrences JOIN occurrence_fields USING (source_no, row_no)"
        " WHERE kept AND split = ? ORDER BY source_no, row_no",
        [split],
    )
    return {as_text(next(iter(json.loads(own).values()))): int(number) for own, number in rows}
