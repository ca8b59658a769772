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
        "Money is what was billed."
        if billed
        else (
            f"Money is what the tokens would cost {words}: what was billed is not known, so this is an axis to compare on. Your"
            " own provider's prices count; give them as `price` of the engine."
        )
    )
    labelled = known.get(rival or "teacher")  # what single labels cost
    if mine and not rival and labelled is not None:
        bought = int(known[mine]["tokens"] * labelled["requests"] / labelled["tokens"])
        note += (
            f" What `{mine}` spent would have bought some {bought:,} labels of the language model; none of training texts is on"
            " record, so no rival of its labels alone stands here (`annotate` with `split: train` or `anchors` brings one)."
        )

    def row(model: str, price: Price) -> dict[str, Any]:
        whole = at(labelled, price)
        thousand = None if labelled is None or whole is None else whole / labelled["requests"] * 1000
        money = {"thousand": thousand, "mine": at(known.get(mine), price), "rival": at(known.get(rival), price)}
        return {"model": model, "input": price.input, "output": price.output, **money}

    return {
        "of": {
            name: one and (one["cost"] or 0.0) if billed else at(one, table[reference]) for name, one in spent.items()
        },
        "billed": billed, "axis": "money as billed" if billed else f"USD {words}", "mine": mine, "rival": rival,
        "note": note,
        "prices": [] if billed else [row(model, price) for model, price in table.items()],
    }  # fmt: skip
