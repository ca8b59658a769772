"""`factory engine check`: one of each kind of request, asked for real, and what this engine cannot do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from factory.errors import FactoryError
from factory.llm.engines.base import Engine
from factory.llm.estimate import longest, prompt_guess
from factory.llm.gateway import ask
from factory.llm.request import Answer, Ask, Failure, Message, Request
from factory.warehouse.file import Warehouse

PATIENCE_S = 10.0
"""How long a check waits for a server that went away meanwhile."""

_JSON = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}


def check_engine(engine: Engine, requests: Sequence[Request] | Callable[[], Sequence[Request]]) -> dict[str, Any]:
    """Ask one of each kind of request and look at the answers. Nothing is stored, and nobody is waited for as a run would.

    Args:
        engine: Whom to ask; afterwards its patience is that of a check.
        requests: What a pipeline will ask, or what finds that out once the engine was reached; one is taken of each kind
            (prompt, form of output, logprobs). If empty, small requests of every kind are made up.

    Returns:
        `{"ok": bool, "checks": [{"kind": ..., "ok": bool, "detail": ...}]}`.
    """
    engine.settings = engine.settings.model_copy(
        update={"patience_s": min(engine.settings.patience_s, PATIENCE_S), "retries": min(engine.settings.retries, 1)}
    )
    context = _context(engine)
    checks = [] if context is None else [context]
    if context is not None and not context["ok"]:
        return {"ok": False, "checks": checks}
    asked = requests() if callable(requests) else requests
    chosen = _one_of_each(asked) if asked else made_up(engine)
    length = None if context is None else engine.context_length()
    for kind, request, n in chosen:
        checks.append(_fits(kind, request, engine, length) or _asked(kind, request, n, engine))
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def made_up(engine: Engine) -> list[tuple[str, Request, int]]:
    """Small requests of every kind, as `(kind, request, samples)`."""
    messages: tuple[Message, ...] = ({"role": "user", "content": "Is water wet? Answer yes or no."},)
    sampling = {"temperature": 0.7, "max_tokens": 32} | engine.sampling
    text = Request(engine.model, messages, sampling, prompt="check")
    return [
        ("text", text, 1),
        ("choice", replace(text, schema={"choice": ["yes", "no"]}), 1),
        ("json", replace(text, schema={"json": _JSON}), 1),
        ("regex", replace(text, schema={"regex": "(yes|no)"}), 1),
        ("four samples", replace(text, sampling={**sampling, "temperature": 1.0}), 4),
        ("logprobs", replace(text, sampling={**sampling, "logprobs": 2}), 1),
    ]


def problem_with(answer: Answer, request: Request) -> str | None:
    """Why an answer does not keep to its request's schema, or None if it does (or if there is none)."""
    schema: Mapping[str, Any] = request.schema or {}
    if "choice" in schema and answer.text not in schema["choice"]:
        return f"{answer.text[:80]!r} is none of the choices"
    if "regex" in schema and re.fullmatch(schema["regex"], answer.text) is None:
        return f"{answer.text[:80]!r} does not match {schema['regex']!r}"
    if "json" in schema:
        import jsonschema

        try:
            # As the parsers read it: vLLM lets line breaks and other control characters stand in a string.
            jsonschema.validate(json.loads(answer.text, strict=False), schema["json"])
        except (json.JSONDecodeError, jsonschema.ValidationError) as error:
            cut = " (cut off: a larger max_tokens may help)" if answer.finish_reason == "length" else ""
            return f"not the JSON that the schema asks for{cut}: {str(error).splitlines()[0]}"
    if request.sampling.get("logprobs") not in (None, False) and answer.logprobs is None:
        return "the answer has no logprobs"
    return None


# ----------------------------------------------------------------------------------------------------------------------
def _one_of_each(requests: Sequence[Request]) -> list[tuple[str, Request, int]]:
    """One request of each prompt and form: the longest, which is the one that may not fit."""
    found: dict[tuple[str, str, bool], Request] = {}
    for request in requests:
        form = next(iter(request.schema), "text") if request.schema else "text"
        key = (request.prompt, form, bool(request.sampling.get("logprobs")))
        if key not in found or prompt_guess(request.messages) > prompt_guess(found[key].messages):
            found[key] = request
    return [
        (f"{prompt or 'request'} ({form}{', logprobs' if logprobs else ''})", request, 1)
        for (prompt, form, logprobs), request in found.items()
    ]


def _context(engine: Engine) -> dict[str, Any] | None:
    try:
        length = engine.context_length()
    except FactoryError as error:
        return {"kind": "server", "ok": False, "detail": str(error)}
    return None if length is None else {"kind": "context", "ok": True, "detail": f"{length:,} tokens"}


def _fits(kind: str, request: Request, engine: Engine, length: int | None) -> dict[str, Any] | None:
    if length is None:
        return None
    tokens = engine.count_tokens(request.messages)
    if tokens is None:
        return None
    most = int(request.sampling.get("max_tokens") or 0)
    if tokens + most <= length:
        return None
    return {
        "kind": kind,
        "ok": False,
        "detail": f"{tokens:,} tokens and an answer of {most:,} do not fit into {length:,}",
    }


def _asked(kind: str, request: Request, n: int, engine: Engine) -> dict[str, Any]:
    try:
        outcomes = ask(Warehouse.memory(), engine, [Ask(request, range(n))], stage="check")
    except FactoryError as error:
        return {"kind": kind, "ok": False, "detail": str(error)}
    for outcome in outcomes.values():
        if isinstance(outcome, Failure):
            return {"kind": kind, "ok": False, "detail": f"{outcome.reason}: {outcome.detail}"}
        problem = problem_with(outcome, request)
        if problem is not None:
            return {"kind": kind, "ok": False, "detail": problem}
    tokens = sum(outcome.usage.tokens_out for outcome in outcomes.values() if isinstance(outcome, Answer))
    return {
        "kind": kind,
        "ok": True,
        "detail": f"{len(outcomes)} answer(s), {tokens} tokens of at most {n * longest_of(request)}",
    }


def longest_of(request: Request) -> int:
    """Most tokens of one answer to a request."""
    from factory.llm.engines.base import Call

    return longest(Call(request, 0, 0))
