"""Asking the model: the one way in.

    settings.py   what a pipeline's `engine:` may say
    request.py    requests, answers, and their identity
    engines/      whom to ask, one file each
    gateway.py    `ask`, `ask_parsed`, `send`
    intake.py     what is missing, a chunk at a time      ledger.py   requests, answers, attempts in the warehouse
    limits.py     decisions: how many in flight, what to repeat   dispatch.py   the loop that carries them out
    budget.py, prices.py, estimate.py   what it costs       batch_files.py, openai_format.py   the OpenAI forms

A stage renders requests with `engine.model` and calls `ask` or `ask_parsed`; it never sees a wire.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.llm.budget import Budget, parse_budget
    from factory.llm.engines import Engine, Pending, make_engine
    from factory.llm.gateway import Parsed, Sent, ask, ask_parsed, send
    from factory.llm.request import Answer, AnswerKey, Ask, Failure, Message, ModelRef, Outcomes, Request, Usage
    from factory.llm.settings import EngineSettings, Price

_WHERE = {
    **dict.fromkeys(("Parsed", "Sent", "ask", "ask_parsed", "send"), "gateway"),
    **dict.fromkeys(("Budget", "parse_budget"), "budget"),
    **dict.fromkeys(("Engine", "Pending", "make_engine"), "engines"),
    **dict.fromkeys(
        ("Answer", "AnswerKey", "Ask", "Failure", "Message", "ModelRef", "Outcomes", "Request", "Usage"), "request"
    ),
    **dict.fromkeys(("EngineSettings", "Price"), "settings"),
}

__all__ = [
    "Answer",
    "AnswerKey",
    "Ask",
    "Budget",
    "Engine",
    "EngineSettings",
    "Failure",
    "Message",
    "ModelRef",
    "Outcomes",
    "Parsed",
    "Pending",
    "Price",
    "Request",
    "Sent",
    "Usage",
    "ask",
    "ask_parsed",
    "make_engine",
    "parse_budget",
    "send",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
