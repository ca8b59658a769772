"""What every system's labels cost, as billed or at dated prices: an axis on which rivals can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.evaluation.rivals import combination, size_of
from factory.llm.prices import cost_of, price_date, price_table
from factory.llm.request import Usage
from factory.llm.settings import Price


def money_of(spent: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """What labels cost.

    Args:
        spent: By system, as `rivals.Spent.as_json`; None where nobody knows.

    Returns:
        `of`: money by system, None where nobody knows; `billed`, whether that is what was billed; `axis` and `note` in words;
        `prices`: rows of the dated prices with what 1,000 labels, the combination and the largest rival would cost at them,
        none where the money was billed.
    """
    known = {name: one for name, one in spent.items() if one is not None and one["tokens"]}
    billed = bool(known) and all(one["cost"] for one in known.values())
    date, reference = price_date()
    table = dict(price_table())

    def at(one: Mapping[str, Any] | None, price: Price) -> float | None:
        return None if one is None else cost_of(price, Usage(one["tokens_in"], one["tokens_out"]), None, 1)

    rivals = [name for name in known if size_of(name) is not None]
    rival = max(rivals, key=lambda name: (known[name]["requests"], name), default="")
    mine = combination(known) or ""
    words = f"at the prices of {reference} ({date})"
    note = (
        f"Money is what the tokens would cost {words}: the engine has no price, so this is an axis to compare on. Your own"
        " provider's prices count; give them as `price` of the engine."
    )

    def row(model: str, price: Price) -> dict[str, Any]:
        whole = at(known.get(rival), price)
        thousand = None if whole is None else whole / known[rival]["requests"] * 1000
        money = {"thousand": thousand, "mine": at(known.get(mine), price), "rival": whole}
        return {"model": model, "input": price.input, "output": price.output, **money}

    return {
        "of": {
            name: one and (one["cost"] or 0.0) if billed else at(one, table[reference]) for name, one in spent.items()
        },
        "billed": billed, "axis": "money as billed" if billed else f"USD {words}", "mine": mine, "rival": rival,
        "note": "Money is what was billed." if billed else note,
        "prices": [] if billed else [row(model, price) for model, price in table.items()],
    }  # fmt: skip
