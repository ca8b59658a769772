"""What a plan, a waiting batch, an error and a report say of purchases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.pipeline.auto.curves import CURVES
from factory.pipeline.auto.decide import points
from factory.warehouse.tables.purchases import AUDIT, FIRST, Row

if TYPE_CHECKING:
    from factory.llm.budget import Budget


def what(row: Row) -> str:
    """What a decision bought."""
    if row.kind in (FIRST, AUDIT):
        return f"{row.size} programs" if row.kind == FIRST else f"{row.size} labels for the audit slice"
    return f"{row.size} {CURVES[row.kind].words}" + (f" `{row.label}`" if row.label else "")  # type: ignore[index]


def of_row(row: Row) -> dict[str, Any]:
    """A decision for a report and for `--json`: gains in shares of the score."""
    return {
        "what": what(row), "kind": row.kind, "label": row.label, "why": row.why, "expected": row.expected, "sd": row.sd,
        "got": row.gain, "error": row.error, "requests": row.requests, "tokens": row.tokens, "cost": row.cost, "done": row.done,
    }  # fmt: skip


def in_words(row: Row) -> str:
    """A decision in one line."""
    told = [what(row)]
    if row.expected is not None and row.sd is not None:
        told.append(f"expected {points(row.expected, row.sd)}")
    if row.gain is not None and row.error is not None:
        told.append(f"got {points(row.gain, row.error)}")
    if row.tokens is not None:
        told.append(f"{row.tokens:,} tokens")
    return f"bought {', '.join(told)}: {row.why}"


def amount(budget: Budget, value: float | None = None) -> str:
    """An amount in the budget's unit; the budget itself by default."""
    value = budget.most if value is None else value
    return f"{value:g}" if budget.unit == "money" else f"{value:,.0f} {budget.unit}"


def first_words(rows: Sequence[Row]) -> str:
    """The first round in words."""
    return " and ".join(what(row) for row in rows)


def too_small(budget: Budget, first: Sequence[Row], least: float | None) -> InputError:
    """What is said of a budget that does not pay the first round."""
    takes = "" if least is None else f" takes {amount(budget, least)} at least"
    fix = "Give more, or `buy: {programs: ..., audit: ...}` for a smaller first round"
    said = f"a budget of {amount(budget)} does not pay the first round: {first_words(first)}{takes or ' is not free'}"
    return InputError(said, fix=fix)


def ends(rounds: int, budget: Budget | None) -> str:
    """When buying ends."""
    bound = "" if budget is None else f", or when {amount(budget)} are spent"
    return f"It ends when nothing promises more than noise, after {rounds} more purchases at the latest{bound}"


def follows(made: int, rounds: int, budget: Budget | None) -> str:
    """What comes after the answers that a run waits for."""
    left = max(rounds - made, 0)
    if not left:
        return "This is the last round trip for what is bought: then the line goes on to its end."
    return f"Then the next purchase is decided by what they bring, {left} at most. {ends(left, budget)}."


def told(first: Sequence[Row], price: Mapping[str, Any], rounds: int, budget: Budget | None) -> dict[str, Any]:
    """What `plan` tells of the step: what it would buy first, its price, and when it would stop."""
    return {"first": first_words(first), "price": dict(price), "ends": ends(rounds, budget)}
