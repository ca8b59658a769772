"""How often the labels that texts were shown hold the right one, by texts that were asked with all labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.labels.candidates import WIDE
from factory.task import label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Recall:
    """Of the labels that the model gave texts when it saw all labels, how many were among their candidates.

    Attributes:
        held: So many were.
        labels: Of so many.
        texts: Texts that were asked with all labels, and have a readable answer.
        shown: How many labels a text is shown otherwise.
        seen: How many the model saw with these texts.
    """

    held: int
    labels: int
    texts: int
    shown: int
    seen: int

    @property
    def words(self) -> str:
        """For a person."""
        return (
            f"the {self.shown} labels that a text is shown held {self.held} of the {self.labels} labels that the model gave"
            f" {self.texts} texts when it saw {self.seen}"
        )


def recall_of(warehouse: Warehouse) -> Recall | None:
    """By the last plan of anchors of which some were asked with all labels; None if there is none.

    Texts that were asked with all labels only after the model had found none of their candidates fitting do not count: they are
    those where the candidates failed.
    """
    rows = warehouse.query(
        "SELECT spec, detail FROM slots WHERE spec ->> 'wide' = 'true' AND state = 'accepted' AND plan_no ="
        " (SELECT max(plan_no) FROM slots JOIN plans USING (plan_no) WHERE stage = 'annotate' AND spec ->> 'wide' = 'true')"
        " ORDER BY slot_no"
    )
    if not rows:
        return None
    names = label_names(warehouse)
    active = int(warehouse.scalar("SELECT count(*) FROM labels WHERE active"))
    shown = [{names[number] for number in json.loads(spec)["shown"]} for spec, _ in rows]
    given = [json.loads(detail or "[]") for _, detail in rows]
    held = sum(name in some for some, said in zip(shown, given, strict=True) for name in said)
    return Recall(held, sum(map(len, given)), len(rows), max(map(len, shown)), min(active, WIDE))
