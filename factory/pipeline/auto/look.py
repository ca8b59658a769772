"""What a decision looks at, read from the warehouse: what purchases cost, what is left, what is there of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, cast

import numpy as np

from factory.evaluation.rivals import Spent, spent_by_part
from factory.pipeline.auto.curves import CURVES, PROGRAMS, Kind
from factory.pipeline.auto.decide import Bought, LabelState, State
from factory.pipeline.auto.judge import judge
from factory.task import current_card, label_names
from factory.warehouse.tables import purchases
from factory.warehouse.tables.anchors import read_anchors
from factory.warehouse.tables.labels import drawn_soft_labels, label_models
from factory.warehouse.tables.programs import accepted
from factory.warehouse.tables.purchases import AUDIT, FIRST, STOP, Row
from factory.warehouse.tables.texts import split_numbers
from factory.warehouse.tables.votes import conflicting_texts

if TYPE_CHECKING:
    from factory.llm.budget import Budget
    from factory.pipeline.auto.params import BuyParams
    from factory.warehouse.file import Warehouse

SHARES_OF = 5000
"""Training texts whose probabilities tell the labels' shares."""
PART = {**dict.fromkeys((FIRST, *PROGRAMS), "author"), AUDIT: "anchors", "anchors": "anchors", "texts": "synthesize"}
"""What each kind is a part of, as `spent_by_part` has them."""


def spent_on(warehouse: Warehouse, row: Row) -> Spent:
    """What a purchase cost: what its part has spent, less what earlier purchases of the part did. Tokens in and out are one."""
    part = PART[row.kind]
    spent = spent_by_part(warehouse).get(part, Spent())
    earlier = [one for one in purchases.read(warehouse) if one.done and PART.get(one.kind) == part]
    known = spent.cost is not None and all(one.cost is not None for one in earlier)
    requests, tokens = (sum(getattr(one, name) or 0 for one in earlier) for name in ("requests", "tokens"))
    cost = (spent.cost or 0.0) - sum(one.cost or 0.0 for one in earlier) if known else None
    return Spent(spent.requests - requests, spent.tokens - tokens, 0, cost)


def prices_of(warehouse: Warehouse, budget: Budget | None, hold_back: int) -> tuple[dict[Kind, float], float]:
    """What one of each kind takes, by what was bought so far, and what is left of the budget over all runs.

    Args:
        warehouse: Where the record is.
        budget: Gives the unit; tokens without one, and then infinitely many are left.
        hold_back: Labels whose price is not to be spent.
    """
    unit = "tokens" if budget is None else budget.unit
    spent = {part: _amount(vars(one) | {"tokens": one.tokens}, unit) for part, one in spent_by_part(warehouse).items()}
    asked = _asked(purchases.read(warehouse))
    each = {part: spent.get(part, 0.0) / max(size, 1) for part, size in asked.items()}
    guess = {kind: 1.0 if unit == "requests" else each["author"] * curve.price for kind, curve in CURVES.items()}
    prices = {kind: each[PART[kind]] or guess[kind] for kind in CURVES}
    left = inf if budget is None else budget.most - sum(spent.get(part, 0.0) for part in asked)
    return prices, left - hold_back * prices["anchors"]


def state_of(
    warehouse: Warehouse, params: BuyParams, budget: Budget | None, rows: Sequence[Row], rounds: int, scale: int
) -> State:
    """What a decision looks at.

    Args:
        warehouse: Where all of it is.
        params: Of the step.
        budget: Of all that is bought, or None.
        rows: The decisions so far, all of them done.
        rounds: How many may still be made.
        scale: How much larger than usual a purchase is.
    """
    now, (prices, left) = judge(warehouse), prices_of(warehouse, budget, params.hold_back)
    unit, asked = "tokens" if budget is None else budget.unit, _asked(rows)
    heap = len(split_numbers(warehouse, "train"))
    most: dict[Kind, int] = {"anchors": min(heap, params.annotate.get("among") or heap) - asked["anchors"]}
    if params.most_programs is not None:
        most |= dict.fromkeys(PROGRAMS, params.most_programs - asked["author"])
    most |= dict.fromkeys((kind for kind in CURVES if kind not in params.kinds), 0)
    names, shares = label_names(warehouse), _shares(warehouse)
    numbers = [names.index(name) for name in current_card(warehouse).label_names]
    labels = [LabelState(names[at], shares.get(at, 0.0), 0.0 if now is None else now.of_label(at)[0]) for at in numbers]
    bought = [
        Bought(cast("Kind", row.kind), row.size, row.reach, _amount(vars(row), unit), row.gain,
               inf if row.error is None else row.error, row.label)
        for row in rows if row.kind not in (AUDIT, STOP)
    ]  # fmt: skip
    return State(
        bought, len(accepted(warehouse, kinds=("python", "rules"))), len(read_anchors(warehouse, "teach")), labels,
        None if now is None else now.score, len(conflicting_texts(warehouse)) / max(heap, 1), prices, left, most, rounds, scale,
    )  # fmt: skip


def _asked(rows: Sequence[Row]) -> dict[str, int]:
    """How many of each part were asked for."""
    return {part: sum(row.size for row in rows if PART.get(row.kind) == part) for part in set(PART.values())}


def _shares(warehouse: Warehouse) -> dict[int, float]:
    """The labels' shares of the heap, by the label model; none known without one."""
    if not any(one.chosen for one in label_models(warehouse)):
        return {}
    probs = drawn_soft_labels(warehouse, SHARES_OF, covered=True)[0].probs
    return dict(enumerate(np.nan_to_num(probs).mean(axis=0).tolist())) if len(probs) else {}


def _amount(spent: Mapping[str, object], unit: str) -> float:
    """What was spent, in a unit; 0 where it is not known."""
    return float(cast("float | None", spent["cost" if unit == "money" else unit]) or 0.0)
