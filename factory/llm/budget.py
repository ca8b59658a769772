"""A bound on what a run may spend, in money or in tokens, kept before it is passed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from factory.errors import BudgetError, InputError
from factory.llm.engines.base import Call
from factory.llm.request import Answer, estimate_tokens
from factory.llm.settings import Price

_TOKENS = re.compile(r"^\s*([\d_.]+)\s*([kKmMgG]?)\s*(?:tokens?|tok)\s*$")
_MONEY = re.compile(r"^\s*(?:[$€£]|[A-Za-z]{3}\s)?\s*([\d_]*\.?\d+)\s*(?:[$€£]|[A-Za-z]{3})?\s*$")


class Budget:
    """What may be spent, what was, and what calls in flight may still cost at most.

    Args:
        money: In the currency of the price; or None.
        tokens: In and out together; or None.
    """

    def __init__(self, *, money: float | None = None, tokens: int | None = None) -> None:
        self.money, self.tokens = money, tokens
        self.spent_money, self.spent_tokens = 0.0, 0
        self._reserved_money, self._reserved_tokens = 0.0, 0
        self._counted = self._estimated = 0

    def reserve(self, call: Call, price: Price | None, default_max_tokens: int = 4096) -> tuple[float, int] | None:
        """Set aside the most that a call can cost.

        Returns:
            What was set aside, to be given to `settle`; None if the budget might be passed.

        Raises:
            BudgetError: A budget in money for a model that has no price.
        """
        longest = int(call.request.sampling.get("max_tokens") or default_max_tokens)
        prompt = sum(estimate_tokens(message["content"]) + 8 for message in call.request.messages)
        ratio = max(1.0, self._counted / self._estimated) if self._estimated else 1.35
        tokens_in = round(prompt * ratio * 1.1)
        tokens = tokens_in + longest * call.n
        money = 0.0
        if self.money is not None:
            if price is None or (price.gpu_hour is None and not price.input and not price.output):
                raise BudgetError(
                    f"no price is known for {call.request.model.name}, so a budget in money cannot be kept",
                    fix="Give `engine: {price: {input: ..., output: ...}}` per million tokens, or a budget in tokens",
                )
            money = (tokens_in * price.input + longest * call.n * price.output) / 1e6
        if self.money is not None and self.spent_money + self._reserved_money + money > self.money:
            return None
        if self.tokens is not None and self.spent_tokens + self._reserved_tokens + tokens > self.tokens:
            return None
        self._reserved_money += money
        self._reserved_tokens += tokens
        return money, tokens

    def settle(
        self, reserved: tuple[float, int], call: Call, answers: Iterable[Answer], billed: tuple[int, float] = (0, 0.0)
    ) -> None:
        """Book what a call really cost.

        Args:
            reserved: From `reserve`.
            call: The call.
            answers: What came, with its cost.
            billed: Tokens and money of a failure that was billed.
        """
        self._reserved_money -= reserved[0]
        self._reserved_tokens -= reserved[1]
        self.spent_tokens += billed[0]
        self.spent_money += billed[1]
        for answer in answers:
            self.spent_tokens += answer.usage.tokens_in + answer.usage.tokens_out
            self.spent_money += answer.cost or 0.0
            if answer.usage.counted and answer.usage.tokens_in:
                self._counted += answer.usage.tokens_in
                self._estimated += sum(estimate_tokens(message["content"]) + 8 for message in call.request.messages)

    @property
    def idle(self) -> bool:
        """Whether no call is in flight, so that nothing more will be freed."""
        return self._reserved_tokens == 0

    def passed(self, left: int) -> BudgetError:
        """What to raise when the next call might pass the budget.

        Args:
            left: Calls that were not sent, as far as they are known.
        """
        if self.money is not None:
            what = f"the budget of {self.money:g} would be passed: {self.spent_money:.4f} is spent"
        else:
            what = f"the budget of {self.tokens:,} tokens would be passed: {self.spent_tokens:,} are spent"
        return BudgetError(
            f"{what}, and at least {left:,} requests are left",
            fix="Every answer is stored; run again with a larger budget to go on",
        )


def parse_budget(text: str) -> Budget:
    """A budget out of what a person wrote: `2.50`, `$2.50`, `200k tokens`.

    Raises:
        InputError: It is neither money nor tokens.

    Example:
        >>> parse_budget("200k tokens").tokens
        200000
    """
    tokens = _TOKENS.match(text)
    if tokens:
        factor = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}[tokens[2].lower()]
        return Budget(tokens=round(float(tokens[1].replace("_", "")) * factor))
    money = _MONEY.match(text)
    if money:
        return Budget(money=float(money[1].replace("_", "")))
    raise InputError(f"`{text}` is no budget", fix="Give money (`2.50`) or tokens (`200k tokens`)")
