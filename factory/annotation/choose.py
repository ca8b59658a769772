"""Which texts are asked, and their slots in a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from factory.annotation.core import sample_order
from factory.task import label_names
from factory.warehouse.file import Warehouse
from factory.warehouse.tables import plans
from factory.warehouse.tables.plans import Plan, Slot
from factory.warehouse.tables.votes import TALLIES

Texts = Literal["all", "uncovered_or_tied"]
"""Which texts of a split may be asked: all, or those for which accepted programs give no vote or a tie."""

Specs = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]
"""What texts (each as its slot keeps it: its `text_no`, and for an anchor its `role`) are asked with."""


@dataclass(frozen=True)
class Question:
    """One open slot: a text of the corpus, or (for calibration) a text without content, which has no number.

    Attributes:
        slot_no: The slot.
        text_no: The text.
        text: What it says.
        shown: The names of the labels that it is shown; None for all.
        wide: Whether it is asked with all labels although others are shown some.
    """

    slot_no: int
    text_no: int | None
    text: str
    shown: tuple[str, ...] | None = None
    wide: bool = False


def choose(
    warehouse: Warehouse, split: str, *, texts: Texts, limit: int | None, share: float | None, seed: int
) -> list[int]:
    """Numbers of the texts to ask, in the order of the sample.

    Args:
        warehouse: Where the split is.
        split: Name of the split.
        texts: Which of its texts may be asked.
        limit: Most texts.
        share: Most texts as a share of the split.
        seed: Of the random order.
    """
    with warehouse.read() as db:
        total = int(db.execute("SELECT count(*) FROM split_texts WHERE split = ?", [split]).fetchall()[0][0])
        wanted = _UNCOVERED_OR_TIED if texts == "uncovered_or_tied" else _ALL
        rows = db.execute(wanted, {"split": split}).fetchall()
    order = sample_order([content_hash for _, content_hash in rows], seed)
    most = min(len(rows) if limit is None else limit, len(rows) if share is None else int(share * total + 1e-9))
    return [int(rows[at][0]) for at in order[:most]]


def without_content(texts: Sequence[str]) -> list[Slot]:
    """The first slots of a plan: texts without content, for calibration."""
    return [Slot(number, {"null": text}) for number, text in enumerate(texts)]


def add(warehouse: Warehouse, plan: Plan, parents: Sequence[Mapping[str, Any]], specs: Specs | None = None) -> int:
    """Add a slot for every text that has none yet, and return how many.

    Args:
        warehouse: Where the plan is.
        plan: To what.
        parents: Of each text its `text_no`, and what is kept with it.
        specs: What each is asked with, where it is not all labels.
    """
    there = plans.slots(warehouse, plan.plan_no)
    known = {slot.parents["text_no"] for slot in there if "text_no" in slot.parents}
    new = [one for one in parents if one["text_no"] not in known]
    first = max((slot.slot_no for slot in there), default=-1) + 1
    asked = [{} for _ in new] if specs is None else specs(new)
    fresh = [Slot(first + at, spec, one) for at, (one, spec) in enumerate(zip(new, asked, strict=True))]
    with warehouse.lease() as db:
        plans.extend(db, plan.plan_no, fresh)
    return len(new)


def questions(warehouse: Warehouse, plan: Plan) -> list[Question]:
    """The open slots of a plan, in order, with their texts."""
    slots = plans.slots(warehouse, plan.plan_no, only="open")
    numbers = [slot.parents.get("text_no") for slot in slots]
    sql = "SELECT text_no, text FROM texts WHERE text_no IN (SELECT unnest(?::INTEGER[]))"
    texts, names = dict(warehouse.query(sql, [numbers])), label_names(warehouse)

    def shown(slot: Slot) -> tuple[str, ...] | None:
        return tuple(names[at] for at in slot.spec["shown"]) if "shown" in slot.spec else None

    return [
        Question(
            slot.slot_no, number, slot.spec["null"] if number is None else texts[number], shown(slot),
            slot.spec.get("wide", False),
        )
        for slot, number in zip(slots, numbers, strict=True)
    ]  # fmt: skip


_ALL = """
    SELECT text_no, content_hash FROM split_texts JOIN texts USING (text_no) WHERE split = $split ORDER BY text_no"""

_UNCOVERED_OR_TIED = f"""
    WITH pool AS (SELECT text_no FROM split_texts WHERE split = $split),
         counts AS (
            SELECT text_no, target, vote, sum(n) AS n FROM {TALLIES} JOIN pool USING (text_no)
            WHERE kind <> 'prompted' GROUP BY ALL),
         best AS (SELECT text_no, target, max(n) AS most FROM counts GROUP BY ALL),
         winners AS (
            SELECT c.text_no, c.target, count(*) AS n FROM counts c JOIN best b
            ON b.text_no = c.text_no AND b.target = c.target AND c.n = b.most GROUP BY ALL),
         settled AS (SELECT text_no FROM winners GROUP BY text_no HAVING max(n) = 1)
    SELECT pool.text_no, texts.content_hash FROM pool JOIN texts USING (text_no)
    WHERE pool.text_no NOT IN (SELECT text_no FROM settled) ORDER BY pool.text_no"""
