"""A bound on what a run may spend, in money, tokens or requests, kept before it is passed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from factory.errors import BudgetError, InputError
from factory.llm.prices import cost_of
from factory.llm.request import Usage, estimate_prompt_tokens

if TYPE_CHECKING:
    from factory.llm.calls import Call
    from factory.llm.settings import Price

_TOKENS = re.compile(r"^\s*([\d_.]+)\s*([kKmMgG]?)\s*(?:tokens?|tok)\s*$")
_REQUESTS = re.compile(r"^\s*([\d_]+)\s*requests?\s*$")
_MONEY = re.compile(r"^\s*(?:[$€£]|[A-Za-z]{3}\s)?\s*([\d_]*\.?\d+)\s*(?:[$€£]|[A-Za-z]{3})?\s*$")

_FRAME = 32
"""Tokens that a chat's frame may add to its texts, whatever their length."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What is set aside for one call: the most that it can cost."""

    money: float
    tokens_in: int
    tokens_out: int

    @property
    def tokens(self) -> int:
        """In and out together."""
        return self.tokens_in + self.tokens_out


class Budget:
    """What may be spent, what was, and what calls in flight may still cost at most.

    The most that a prompt or an answer was seen to exceed its estimate or its bound by is counted in for those that follow.

    Args:
        money: In the currency of the price; or None.
        tokens: In and out together; or None.
        requests: Calls, repetitions included; or None.
    """

    def __init__(self, *, money: float | None = None, tokens: int | None = None, requests: int | None = None) -> None:
        self.money, self.tokens, self.requests = money, tokens, requests
        self.spent_money, self.spent_tokens, self.spent_requests = 0.0, 0, 0
        self._n_open = 0
        self._reserved_money, self._reserved_tokens = 0.0, 0
        self._prompt_ratio, self._answer_ratio = 0.0, 1.0  # the worst so far
        self._dearest_call = 0.0

    @property
    def unit(self) -> str:
        """`money`, `tokens` or `requests`."""
        return "money" if self.money is not None else "tokens" if self.tokens is not None else "requests"

    @property
    def most(self) -> float:
        """What may be spent, in its unit."""
        return float(getattr(self, self.unit) or 0)

    def part(self, most: float) -> Budget:
        """A budget of the same unit for a part of a run; what it spends counts here once it is given to `book`."""
        left = max(0.0, min(most, self.most - getattr(self, f"spent_{self.unit}")))
        return Budget(**{self.unit: left if self.unit == "money" else int(left)})

    def book(self, part: Budget) -> None:
        """Count what a part spent."""
        for name in ("money", "tokens", "requests"):
            setattr(self, f"spent_{name}", getattr(self, f"spent_{name}") + getattr(part, f"spent_{name}"))

    def reserve(self, call: Call, price: Price | None, longest: int | None) -> Reserved | None:
        """Set aside the most that a call can cost.

        Args:
            call: What is to be sent.
            price: Of its model, if there is one.
            longest: The most tokens of one answer.

        Returns:
            What was set aside, to be given to `settle`; None if the budget might be passed.

        Raises:
            BudgetError: A budget in money for a model that has no price, or a request whose answer may be of any length.
        """
        if longest is None and self.requests is None:
            raise BudgetError(
                "a budget cannot be kept where nothing bounds an answer",
                fix="Give `sampling: {max_tokens: ...}`, or `max_tokens_field`, under `engine:`",
            )
        tokens_in = self._most_tokens_in(call)
        tokens_out = round((longest or 0) * call.n * self._answer_ratio)
        wanted = Reserved(self._most_money(call, price, tokens_in, tokens_out), tokens_in, tokens_out)
        if self.money is not None and self.spent_money + self._reserved_money + wanted.money > self.money:
            return None
        if self.tokens is not None and self.spent_tokens + self._reserved_tokens + wanted.tokens > self.tokens:
            return None
        if self.requests is not None and self.spent_requests + self._n_open >= self.requests:
            return None
        self._n_open += 1
        self._reserved_money += wanted.money
        self._reserved_tokens += wanted.tokens
        return wanted

    def _most_tokens_in(self, call: Call) -> int:
        """By the worst that was counted; before that by a guess that is high for other scripts than ours."""
        messages = call.request.messages
        guess = estimate_prompt_tokens(messages)
        if self._prompt_ratio:
            return round(guess * self._prompt_ratio * 1.1) + _FRAME
        text = "".join(message["content"] for message in messages)
        foreign = len(text) - len(text.encode("ascii", "ignore"))
        return round(guess * 1.5) + 2 * foreign + _FRAME

    def _most_money(self, call: Call, price: Price | None, tokens_in: int, tokens_out: int) -> float:
        if self.money is None:
            return 0.0
        if price is None:
            raise no_price(call.request.model.name)
        money = cost_of(price, Usage(tokens_in, tokens_out), None, 1)
        if price.gpu_hour is None:
            return money
        # What an hour's share of a call costs is known once one has come back; until then one goes at a time.
        return money + (2.0 * self._dearest_call if self._dearest_call else self.money if self._n_open else 0.0)

    def settle(
        self, reserved: Reserved, call: Call, usage: Usage | None, money: float | None, longest: int | None
    ) -> None:
        """Book what a call really cost.

        Args:
            reserved: From `reserve`.
            call: The call.
            usage: Tokens of all its answers, or of what was billed without one; None where nobody knows: then all that was set
                aside counts as spent.
            money: What it cost; None where there is no price, or nobody knows.
            longest: As for `reserve`.
        """
        self._n_open -= 1
        self.spent_requests += 1
        self._reserved_money = self._reserved_money - reserved.money if self._n_open else 0.0
        self._reserved_tokens -= reserved.tokens
        if usage is None:
            self.spent_tokens += reserved.tokens
            self.spent_money += reserved.money
            return
        self.spent_tokens += usage.tokens_in + usage.tokens_out
        self.spent_money += money or 0.0
        self._dearest_call = max(self._dearest_call, money or 0.0)
        if usage.counted and usage.tokens_in:
            guess = estimate_prompt_tokens(call.request.messages)
            self._prompt_ratio = max(self._prompt_ratio, 1.0, (usage.tokens_in - _FRAME) / max(guess, 1))
            self._answer_ratio = max(self._answer_ratio, usage.tokens_out / max((longest or 1) * call.n, 1))

    @property
    def idle(self) -> bool:
        """Whether no call is in flight, so that nothing more will be freed."""
        return self._n_open == 0

    def passed(self, left: int) -> BudgetError:
        """What to raise when the next call might pass the budget; `left` calls, as far as they are known, were not sent."""
        what = f"the budget of {self.tokens or 0:,} tokens would be passed: {self.spent_tokens:,} are spent"
        if self.requests is not None:
            what = f"the budget of {self.requests:,} requests would be passed: {self.spent_requests:,} are spent"
        if self.money is not None:
            what = f"the budget of {self.money:g} would be passed: {self.spent_money:.4f} is spent"
        fix = "Every answer is stored; run again with a larger budget to go on"
        return BudgetError(f"{what}, and at least {left:,} requests are left", fix=fix)


def no_price(model: str) -> BudgetError:
    """What is said of a budget in money where nobody knows the model's price."""
    return BudgetError(
        f"no price is known for {model}, so a budget in money cannot be kept",
        fix="Give `engine: {price: {input: ..., output: ...}}` per million tokens, or a budget in tokens",
    )


def parse_budget(text: str) -> Budget:
    """A budget out of what a person wrote: `2.50`, `$2.50`, `200k tokens`, `500 requests`.

    Raises:
        InputError: It is neither money nor tokens nor requests.

    Example:
        >>> parse_budget("200k tokens").tokens
        200000
    """
    if tokens := _TOKENS.match(text):
        factor = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}[tokens[2].lower()]
        return Budget(tokens=round(float(tokens[1].replace("_", "")) * factor))
    if requests := _REQUESTS.match(text):
        return Budget(requests=int(requests[1].replace("_", "")))
    if money := _MONEY.match(text):
        return Budget(money=float(money[1].replace("_", "")))
    fix = "Give money (`2.50`), tokens (`200k tokens`) or requests (`500 requests`)"
    raise InputError(f"cannot read `{text}` as a budget", fix=fix)
