"""Asking the model: the one way in.

A stage renders requests with `engine.model`, asks through an `Asker`, and never sees a wire. What a request passes, in order:

    settings.py     what a pipeline's `engine:` may say
    request.py      requests, answers, failures, and the identity of requests
    calls.py        a call to an engine, and what came of it
    gateway.py      `Asker`: ask, parse, ask again; what decides a slot and what leaves it open
    intake.py       what has no answer yet, a chunk at a time
    attempts.py     one call: what is set aside for it, and what came of it on the books
    drive.py        an engine that pulls calls, or one that is called:
    dispatch.py     the loop that sends them. What it does is decided in limits.py (how many in flight),
                    retries.py (what is sent again), patience.py (when to wait no longer), suspects.py (what a server dies of)
    engines/        whom to ask, one file each
    openai_format.py, faults.py   the OpenAI form of requests and replies, and what refusals mean
    ledger.py       requests, answers and attempts in the warehouse: rows.py, journal.py (a kill loses nothing), storing.py
    budget.py, prices.py, estimate.py   what it costs
    batch_files.py  requests and answers as files         check.py   `factory engine check`
    adapters.py     LoRA adapters on record               dspy_engine.py   DSPy programs through all of this
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.llm.budget import Budget, parse_budget
    from factory.llm.engines import Engine, Pending, make_engine
    from factory.llm.gateway import Asker, Parsed, Sent, ask, outcome_of, send
    from factory.llm.request import Answer, AnswerKey, Ask, Failure, Message, ModelRef, Outcomes, ParseFailure, Request
    from factory.llm.request import Usage as Usage
    from factory.llm.settings import EngineSettings, Price

_WHERE = {
    "gateway": ("Asker", "Parsed", "Sent", "ask", "outcome_of", "send"),
    "budget": ("Budget", "parse_budget"),
    "engines": ("Engine", "Pending", "make_engine"),
    "request": (
        "Answer", "AnswerKey", "Ask", "Failure", "Message", "ModelRef", "Outcomes", "ParseFailure", "Request", "Usage",
    ),
    "settings": ("EngineSettings", "Price"),
}  # fmt: skip

__all__ = [
    "Answer", "AnswerKey", "Ask", "Asker", "Budget", "Engine", "EngineSettings", "Failure", "Message", "ModelRef", "Outcomes",
    "ParseFailure", "Parsed", "Pending", "Price", "Request", "Sent", "Usage", "ask", "make_engine", "outcome_of",
    "parse_budget", "send",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    for module, names in _WHERE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
