"""Texts as people look for them, and how far a person is with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from factory.task import current_card, label_names
from factory.warehouse.tables import listing
from factory.warehouse.tables.answers import answered_by
from factory.warehouse.tables.listing import SHOWS, SPLITS, Wanted

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

__all__ = ["SHOWS", "SPLITS", "Wanted", "find_texts", "standing"]


def find_texts(warehouse: Warehouse, wanted: Wanted, *, first: int = 0, count: int = 50) -> dict[str, Any]:
    """Texts that are wanted, with what is known of each: see `factory.warehouse.tables.listing.find_texts`.

    Raises:
        InputError: An unknown filter, split or label.
    """
    with warehouse.read():
        single = current_card(warehouse).kind == "single"
        return listing.find_texts(warehouse, wanted, label_names(warehouse), single=single, first=first, count=count)


def standing(warehouse: Warehouse, annotator: str | None, *, last: int = 20) -> dict[str, int]:
    """How far a person is: `answered` texts, and of the `last` answers, how many say `otherwise` than the label model."""
    with warehouse.read():
        single = current_card(warehouse).kind == "single"
        rows = listing.recent_answers(warehouse, annotator, last=last)
        answered = answered_by(warehouse, annotator)
    otherwise = 0
    for labels, probs in rows:
        known = {at: value for at, value in enumerate(probs) if value is not None}
        likely = {at for at, value in known.items() if value > 0.5}
        otherwise += labels != ({max(known, key=lambda at: known[at])} if single and known else likely)
    return {"answered": answered, "last": len(rows), "otherwise": otherwise}
