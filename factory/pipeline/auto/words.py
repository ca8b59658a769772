"""What a plan, a waiting batch, an error and a report say of purchases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.pipeline.auto.decide import points
from factory.warehouse.tables.purchases import STOP, Row

if TYPE_CHECKING:
    from factory.llm.budget import Budget


def in_words(row: Row) -> str:
    """A decision in one line."""
    told = [row.words]
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


def least_of(price: Mapping[str, Any], budget: Budget) -> float | None:
    """What the first round takes at least, in the budget's unit; None where no price is known."""
    if budget.unit == "money":
        return None if price["cost"] is None else float(price["cost"][0])
    return float(price["answers"][0] if budget.unit == "requests" else price["tokens_in"][0] + price["tokens_out"][0])


def pays(budget: Budget, least: float | None) -> bool:
    """Whether a budget may hold the first round."""
    return bool(budget.most) and (least is None or least <= budget.most)


def too_small(budget: Budget, first: Sequence[Row], least: float | None) -> InputError:
    """What is said of a budget that does not pay the first round."""
    take = "are not free" if least is None else f"take {amount(budget, least)} at least"
    bought = " and ".join(row.words for row in first)
    fix = "Give more, or `buy: {programs: ..., audit: ...}` for a smaller first round"
    return InputError(f"a budget of {amount(budget)} does not pay the first round: {bought} {take}", fix=fix)


def ends(rounds: int, budget: Budget | None) -> str:
    """When buying ends."""
    bound = "" if budget is None else f", or when {amount(budget)} are spent"
    more = "one more purchase" if rounds == 1 else f"{rounds} more purchases"
    return f"It ends when nothing promises more than noise, after {more} at the latest{bound}"


def follows(made: int, rounds: int, budget: Budget | None) -> str:
    """What comes after the answers that a run waits for."""
    left = max(rounds - made, 0)
    if not left:
        return "This is the last round trip for what is bought: then the line goes on to its end."
    return f"Then the next purchase is decided by what they bring. {ends(left, budget)}."


def forecast(
    rows: Sequence[Row], price: Mapping[str, Any] | None, rounds: int, budget: Budget | None
) -> dict[str, Any]:
    """What `plan` tells of the step.

    Args:
        rows: What is decided so far; the first round where nothing is bought yet.
        price: Of the first round, as `estimate` gives it; None once that is paid.
        rounds: Purchases that may still follow.
        budget: Of all that is bought, or None.

    Returns:
        `{"words", "price"}`.
    """
    what_first = " and ".join(row.words for row in rows if not row.done)
    if rows and rows[-1].kind == STOP:
        return {"words": f"Nothing more is bought: {rows[-1].why}.", "price": None}
    if price is None:
        words = f"Bought so far: {', '.join(row.words for row in rows if row.done)}."
        return {"words": f"{words} What follows is decided by what came of it. {ends(rounds, budget)}.", "price": None}
    tokens = [price["tokens_in"][end] + price["tokens_out"][end] for end in (0, 1)]
    takes = f"{tokens[0]:,} to {tokens[1]:,} tokens"
    if price["cost"] is not None:
        takes += f", {price['cost'][0]:,.2f} to {price['cost'][1]:,.2f} in money"
    words = f"Bought first: {what_first}, for {takes}."
    if budget is not None and not pays(budget, least := least_of(price, budget)):
        told = too_small(budget, [row for row in rows if not row.done], least)
        return {"words": f"{words} But {told.what}: `run` refuses it. {told.fix}.", "price": dict(price)}
    words += " Each later purchase is decided by what the last ones brought."
    return {"words": f"{words} {ends(rounds, budget)}.", "price": dict(price)}
