"""Which training texts become anchors: the audit slice uniformly, the rest by what the programs say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from factory.annotation.core import sample_order
from factory.warehouse.tables import plans
from factory.warehouse.tables.anchors import Role, model_plan
from factory.warehouse.tables.votes import TALLIES

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

Stratum = Literal["agreed", "conflict", "uncovered"]
SHARES: Mapping[Stratum, float] = {"agreed": 0.3, "conflict": 0.5, "uncovered": 0.5}
"""How many of a stratum are drawn for each of its texts, in proportion: Neyman's allocation, by the standard deviation of whether
the programs are right, were they right on nine in ten of the texts that they agree on and on half of the others."""


@dataclass(frozen=True)
class Drawn:
    """A text that is to be an anchor.

    Attributes:
        text_no: The text.
        role: `audit` or `teach`.
        stratum: What the programs say of it.
        p: Its probability of being drawn, in (0, 1]; of one that teaches, among the texts outside of the audit slice.
    """

    text_no: int
    role: Role
    stratum: Stratum
    p: float

    @property
    def parents(self) -> dict[str, object]:
        """As its slot keeps it."""
        return {"text_no": self.text_no, "role": self.role, "stratum": self.stratum, "p": self.p}


def draw(
    order: Sequence[int], strata: Mapping[int, Stratum], anchors: int, audit: int, held: Sequence[Drawn] = ()
) -> list[Drawn]:
    """Draw anchors from texts that lie in a random order.

    Args:
        order: Numbers of the texts that may be drawn, in random order.
        strata: What the programs say of each.
        anchors: How many in all, the audit slice included; fewer where there are fewer texts.
        audit: How many of them are the audit slice: the first of the order.
        held: Of those that teach, some that were drawn before, by what programs said then: they stay as they are.

    Returns:
        The audit slice, then those that teach: those held, then others in the order given.
    """
    total = min(anchors, len(order))
    first, rest = order[: min(audit, total)], order[min(audit, total) :]
    kept = [one for one in held if one.role == "teach" and one.text_no in set(rest)][: total - len(first)]
    there = {one.text_no for one in kept}
    rest = [no for no in rest if no not in there]
    found = [Drawn(text_no, "audit", strata[text_no], len(first) / len(order)) for text_no in first]
    members: dict[Stratum, list[int]] = {name: [no for no in rest if strata[no] == name] for name in SHARES}
    counts = allocate({name: len(texts) for name, texts in members.items()}, total - len(first) - len(kept))
    chosen = {no for name, texts in members.items() for no in texts[: counts[name]]}
    p = {name: counts[name] / max(len(texts), 1) for name, texts in members.items()}
    return [*found, *kept] + [Drawn(no, "teach", strata[no], p[strata[no]]) for no in rest if no in chosen]


def allocate(sizes: Mapping[Stratum, int], wanted: int) -> dict[Stratum, int]:
    """How many to draw of each stratum: in proportion to size times share, at least one, and never more than there are.

    Args:
        sizes: Texts in each stratum.
        wanted: In all.
    """
    counts: dict[Stratum, int] = dict.fromkeys(sizes, 0)
    for _ in range(min(wanted, sum(sizes.values()))):
        room = [name for name in sizes if counts[name] < sizes[name]]
        counts[min(room, key=lambda name: (counts[name] + 0.5) / (sizes[name] * SHARES[name]))] += 1
    return counts


def choose(
    warehouse: Warehouse, *, anchors: int, audit: int, among: int | None, seed: int, extend: bool = False
) -> list[Drawn]:
    """Draw anchors from the training texts of a warehouse.

    Args:
        warehouse: Where the texts are.
        anchors: As `draw` takes it.
        audit: Likewise.
        among: Only the first so many texts of the random order may be drawn; all by default.
        seed: Of the random order.
        extend: Whether the anchors that the model labelled before stay, whatever programs say of them now.
    """
    rows = warehouse.query(
        "WITH said AS (SELECT text_no, max(kinds) AS kinds FROM (SELECT text_no, target, count(DISTINCT vote) AS kinds"
        f" FROM {TALLIES} WHERE kind <> 'prompted' GROUP BY ALL) GROUP BY ALL)"
        " SELECT text_no, content_hash, coalesce(kinds, 0) FROM split_texts JOIN texts USING (text_no)"
        " LEFT JOIN said USING (text_no) WHERE split = 'train' ORDER BY text_no"
    )
    order = sample_order([content for _, content, _ in rows], seed)
    pool = [rows[at] for at in order[: len(rows) if among is None else among]]
    strata: dict[int, Stratum] = {
        int(no): "uncovered" if not kinds else "agreed" if kinds == 1 else "conflict" for no, _, kinds in pool
    }
    return draw([int(no) for no, _, _ in pool], strata, anchors, audit, _held(warehouse) if extend else ())


def _held(warehouse: Warehouse) -> list[Drawn]:
    """What was drawn for the plan whose answers are the model's anchors."""
    plan_no = model_plan(warehouse)
    slots = [] if plan_no is None else plans.slots(warehouse, plan_no)
    return [Drawn(**{name: slot.parents[name] for name in ("text_no", "role", "stratum", "p")}) for slot in slots]
