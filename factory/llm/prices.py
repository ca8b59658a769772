"""What tokens and GPU hours cost: a table in YAML, matched by model name."""

from __future__ import annotations

import fnmatch
from functools import lru_cache
from pathlib import Path

import yaml

from factory.llm.request import Usage
from factory.llm.settings import EngineSettings, Price


@lru_cache(maxsize=1)
def price_table() -> tuple[tuple[str, Price], ...]:
    """The shipped table: patterns of model names (as in a shell) and prices, the first match counts."""
    text = (Path(__file__).parent / "prices.yaml").read_text(encoding="utf-8")
    return tuple((row.pop("model"), Price(**row)) for row in yaml.safe_load(text)["prices"])


def price_of(settings: EngineSettings, model: str) -> Price | None:
    """The price of an engine's model: from its settings, else from the table, else None (not known).

    Args:
        settings: The engine's.
        model: The model's name.
    """
    if settings.price is not None:
        return settings.price
    if settings.kind in {"recorded", "transformers"}:
        return None
    for pattern, price in price_table():
        if fnmatch.fnmatchcase(model.lower(), pattern.lower()):
            return price
    return None


def cost_of(price: Price, usage: Usage, latency_ms: float | None, shared_by: int) -> float:
    """The cost of one answer.

    Args:
        price: By tokens, by the hour, or both.
        usage: Its tokens.
        latency_ms: How long its call took, for a price by the hour.
        shared_by: How many answers were in the making meanwhile; they share the hour.

    Returns:
        In the currency of the price.
    """
    cached = price.input if price.cached is None else price.cached
    tokens = (usage.tokens_in - usage.tokens_cached) * price.input + usage.tokens_cached * cached
    cost = (tokens + usage.tokens_out * price.output) / 1e6
    if price.gpu_hour is not None and latency_ms is not None:
        cost += latency_ms / 3.6e6 * price.gpu_hour * price.gpus / max(shared_by, 1)
    return cost
