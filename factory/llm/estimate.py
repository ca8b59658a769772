"""What a set of calls will cost, before anything is sent: tokens, money and time, as ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from factory.llm.calls import Call
from factory.llm.engines.base import Engine
from factory.llm.prices import cost_of, price_of
from factory.llm.request import Usage, estimate_prompt_tokens, estimate_tokens
from factory.llm.settings import EngineSettings, Price

COUNT_AT_MOST = 512
"""Prompts that are really tokenised; beyond, an even sample of so many stands for all."""

_FAST_TOKEN_S, _SLOW_TOKEN_S = 0.005, 0.05
_FAST_CALL_S, _SLOW_CALL_S = 0.05, 1.0

CountTokens = Callable[[Iterable[Mapping[str, Any]]], "int | None"]


def estimate(
    calls: Sequence[Call], engine: Engine, *, least: int | None = None, most: int | None = None
) -> dict[str, Any]:
    """What these calls, and others like them, will take.

    Args:
        calls: What is to be sent.
        engine: For its tokenizer, its price, and how many calls it has in flight.
        least: How many answers are wanted at least; those of the calls if not given.
        most: How many answers may be wanted at most, the calls' own included; those of the calls if not given.

    Returns:
        `requests` (rendered now), `tokens_counted` (by the model's tokenizer, or estimated), and as `[low, high]`: `answers`,
        `tokens_in`, `tokens_out`, `cost` (None if there is no price) and `seconds`. The upper end has every answer as long as
        it may be.
    """
    tokens_in, counted = prompt_tokens(calls, engine.count_tokens)
    answers = sum(call.n for call in calls)
    low, high = (1.0 if end is None else end / max(answers, 1) for end in (least, most))
    tokens_out = [
        low * sum(call.n * shortest(call, engine.settings) for call in calls),
        high * sum(call.n * longest(call, engine.settings) for call in calls),
    ]
    seconds = _seconds(calls, engine.settings, low, high)
    price = price_of(engine.settings, engine.model.name) if calls else None
    return {
        "requests": len(calls),
        "answers": [round(low * answers), round(high * answers)],
        "tokens_in": [round(low * tokens_in), round(high * tokens_in)],
        "tokens_counted": counted,
        "tokens_out": [round(end) for end in tokens_out],
        "cost": None
        if price is None
        else _cost(price, calls, (low * tokens_in, high * tokens_in), tokens_out, seconds),
        "seconds": [round(end, 1) for end in seconds],
    }


def prompt_tokens(calls: Sequence[Call], count: CountTokens) -> tuple[int, bool]:
    """Tokens of all prompts, and whether (a sample of) them were counted: `count` gives None where it cannot."""
    guesses = [estimate_prompt_tokens(call.request.messages) for call in calls]
    step = max(1, -(-len(calls) // COUNT_AT_MOST))
    known = 0
    for call in calls[::step]:
        tokens = count(call.request.messages)
        if tokens is None:
            return sum(guesses), False
        known += tokens
    return (known if step == 1 else round(sum(guesses) * known / max(sum(guesses[::step]), 1))), True


def answer_bound(call: Call, engine: Engine) -> int | None:
    """The most tokens of one answer that a call can bring, or None if nothing bounds it."""
    found = engine.settings.answer_bound or call.request.max_tokens
    return found if found is not None else engine.context_length()


def longest(call: Call, settings: EngineSettings | None = None) -> int:
    """Most tokens of one answer: what the request or the engine allows (1,024 if neither says), or the longest choice."""
    most = (settings.answer_bound if settings is not None else None) or call.request.max_tokens or 1024
    choices = (call.request.schema or {}).get("choice")
    return min(most, max(estimate_tokens(choice) for choice in choices) + 2) if choices else most


def shortest(call: Call, settings: EngineSettings | None = None) -> int:
    """Fewest tokens that an answer of its kind is likely to have."""
    choices = (call.request.schema or {}).get("choice")
    if choices:
        return min(estimate_tokens(choice) for choice in choices) + 1
    return max(1, longest(call, settings) // 10)


def shared_tokens(calls: Sequence[Call]) -> int:
    """Tokens of first messages that an earlier call has had as well: what a prefix cache may save."""
    firsts = Counter(call.request.messages[0]["content"] for call in calls if call.request.messages)
    return sum((count - 1) * estimate_tokens(first) for first, count in firsts.items())


def _cost(
    price: Price,
    calls: Sequence[Call],
    tokens_in: Sequence[float],
    tokens_out: Sequence[float],
    seconds: Sequence[float],
) -> list[float]:
    cached = min(shared_tokens(calls), tokens_in[0])
    low = cost_of(price, Usage(round(tokens_in[0]), round(tokens_out[0]), round(cached)), seconds[0] * 1e3, 1)
    high = cost_of(price, Usage(round(tokens_in[1]), round(tokens_out[1])), seconds[1] * 1e3, 1)
    return [low, high]


def _seconds(calls: Sequence[Call], settings: EngineSettings, low: float, high: float) -> list[float]:
    """From a fast server that bears all that we send at once, to a slow one that bears a quarter of it.

    `calls` are a sample of what is sent: `low` to `high` times as many are.
    """
    fast = low * sum(_FAST_CALL_S + _FAST_TOKEN_S * shortest(call, settings) for call in calls)
    slow = high * sum(_SLOW_CALL_S + _SLOW_TOKEN_S * longest(call, settings) for call in calls)
    return [
        fast / max(1.0, min(settings.concurrency, low * len(calls))),
        slow / max(1.0, min(settings.concurrency / 4, high * len(calls))),
    ]
