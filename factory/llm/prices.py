"""What tokens and GPU hours cost: a table in YAML, matched by model name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from factory.llm.request import Usage
from factory.llm.settings import EngineSettings, Price

_DATED = r"(?:openai/)?{name}(?:-(?:\d{{4}}-\d{{2}}-\d{{2}}|\d{{8}}|latest))?"
"""The name itself, or a dated version of it; `gpt-5-pro` is another model than `gpt-5`."""


@lru_cache(maxsize=1)
def _shipped() -> Mapping[str, Any]:
    return dict(yaml.safe_load((Path(__file__).parent / "prices.yaml").read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def price_table() -> tuple[tuple[str, Price], ...]:
    """The shipped table: names of models and their prices."""
    return tuple(
        (row["model"], Price(**{k: v for k, v in row.items() if k != "model"})) for row in _shipped()["prices"]
    )


def price_date() -> tuple[str, str]:
    """When the shipped prices were looked up, and the small hosted model that stands for others in a report."""
    return str(_shipped()["date"]), str(_shipped()["reference"])


def price_of(settings: EngineSettings, model: str) -> Price | None:
    """The price of an engine's model: from its settings, else from the table, else None (not known)."""
    return settings.price or listed_price(settings, model)


def listed_price(settings: EngineSettings, model: str) -> Price | None:
    """The price that the table has for an engine's model, where its settings have none."""
    if settings.price is not None or settings.kind != "server":
        return None
    for name, price in price_table():
        if re.fullmatch(_DATED.format(name=re.escape(name)), model.lower()):
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
