"""`factory engine check`: a few of each kind of request, asked for real, and what a run would lose with this engine."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from factory.errors import FactoryError
from factory.llm.calls import Call
from factory.llm.engines.base import Engine
from factory.llm.estimate import longest
from factory.llm.faults import plain
from factory.llm.gateway import Asker
from factory.llm.request import Answer, Ask, Failure, Message, ParseFailure, Request, estimate_prompt_tokens
from factory.warehouse.file import Warehouse

PATIENCE_S = 10.0
"""How long a check waits for a server that went away, or that asks to come back later."""

ANSWER_S = 120.0
"""How long it waits for an answer."""

OF_EACH = 3
"""So many requests of each kind are asked, the longest and the shortest among them."""

_MOST_SAMPLES = 4

AT_ONCE = 16
"""So many requests, of all kinds, are sent at once with their seeds, where a pipeline has half as many at least."""

_FEW_TOKENS = 48
"""Tokens of each of those answers: whether the server lives through them is all that is asked."""

_JSON = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["yes", "no"]}, "sure": {"type": "boolean"}},
    "required": ["label", "sure"],
    "additionalProperties": False,
}
_THINKS = re.compile(r"(?i)<(?:think|thinking|reasoning|seed:think)>|\[THINK\]|◁think▷|<\|channel\|>analysis")

Judge = Callable[[Request, str], None]
"""Reads the text of an answer as a run would; raises `ParseFailure` where it cannot."""


class Kind(NamedTuple):
    """Requests of one kind (the same prompt and form of answer): its name for people, and which are asked."""

    name: str
    calls: tuple[Call, ...]


def check_engine(
    engine: Engine, calls: Sequence[Call] | Callable[[], Sequence[Call]], judge: Judge | None = None
) -> dict[str, Any]:
    """Ask a few of each kind of request and look at the answers. Nothing is stored, and the waits are short.

    Args:
        engine: Whom to ask; afterwards its patience is that of a check.
        calls: What a pipeline will ask, or what finds that out once the engine was reached; some are taken of each kind
            (prompt, form of output, logprobs). If empty, small requests of every kind are made up.
        judge: Reads an answer as the run will; None looks at forms alone.

    Returns:
        `{"ok": bool, "checks": [{"kind": ..., "ok": bool, "detail": ...}]}`.
    """
    settings = engine.settings
    bounds: dict[str, Any] = {"patience_s": min(settings.patience_s, PATIENCE_S), "missing": "stop"}
    bounds |= {"timeout_s": min(settings.timeout_s, ANSWER_S), "retries": min(settings.retries, 1)}
    engine.settings = settings.model_copy(update=bounds)
    try:
        length = engine.context_length()
    except FactoryError as error:
        return {"ok": False, "checks": [_row("server", False, str(error))]}
    checks = [] if length is None else [_row("context", True, f"{length:,} tokens")]
    asked = calls() if callable(calls) else calls
    for kind in kinds_of(asked) if asked else made_up(engine):
        checks.append(_fits(kind, engine, length) or _asked(kind, engine, judge if asked else None))
    if all(check["ok"] for check in checks) and len(asked) >= AT_ONCE // 2 and engine.settings.seed is not None:
        checks.append(_at_once(asked, engine))
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def made_up(engine: Engine) -> list[Kind]:
    """Small requests of every kind."""
    messages: tuple[Message, ...] = ({"role": "user", "content": "Is water wet? Answer yes or no."},)
    sampling = {"temperature": 0.7, "max_tokens": 32} | engine.sampling
    sampling = {name: value for name, value in sampling.items() if value is not None}
    text = Request(engine.model, messages, sampling, prompt="check")
    forms = {
        "text": (text, 1),
        "choice": (replace(text, schema={"choice": ["yes", "no"]}), 1),
        "json": (replace(text, schema={"json": _JSON}), 1),
        "regex": (replace(text, schema={"regex": "(yes|no)"}), 1),
        "four samples": (replace(text, sampling={**sampling, "temperature": 1.0}), 4),
        "logprobs": (replace(text, sampling={**sampling, "logprobs": 2}), 1),
    }
    return [Kind(name, (Call(request, 0, n - 1),)) for name, (request, n) in forms.items()]


def kinds_of(calls: Sequence[Call]) -> list[Kind]:
    """The kinds of request among some, each with its longest, its shortest, and one between them."""
    found: dict[tuple[str, str, bool], list[Call]] = {}
    for call in calls:
        request = call.request
        form = next(iter(request.schema), "text") if request.schema else "text"
        found.setdefault((request.prompt, form, bool(request.sampling.get("logprobs"))), []).append(call)
    kinds = []
    for (prompt, form, logprobs), every in found.items():
        every.sort(key=lambda call: -estimate_prompt_tokens(call.request.messages))
        chosen = dict.fromkeys([0, len(every) - 1, len(every) // 2][:OF_EACH])
        few = tuple(replace(every[at], last=min(every[at].last, every[at].first + _MOST_SAMPLES - 1)) for at in chosen)
        kinds.append(Kind(f"{prompt or 'request'} ({form}{', logprobs' if logprobs else ''})", few))
    return kinds


def problem_with(answer: Answer, request: Request) -> str | None:
    """Why an answer does not keep to its request's schema, or None if it does (or if there is none)."""
    schema: Mapping[str, Any] = request.schema or {}
    if "choice" in schema and answer.text not in schema["choice"]:
        return f"{plain(answer.text, most=80)!r} is not one of the choices"
    if "regex" in schema and re.fullmatch(schema["regex"], answer.text) is None:
        return f"{plain(answer.text, most=80)!r} does not match {schema['regex']!r}"
    if "json" in schema:
        import jsonschema

        try:
            # As the parsers read it: vLLM lets line breaks and other control characters stand in a string.
            jsonschema.validate(json.loads(answer.text, strict=False), schema["json"])
        except (json.JSONDecodeError, jsonschema.ValidationError) as error:
            return f"not the JSON that the schema asks for: {plain(str(error).splitlines()[0])}"
    if request.sampling.get("logprobs") not in (None, False) and answer.logprobs is None:
        return "the answer has no logprobs"
    return None


def loss_of(answer: Answer, request: Request, judge: Judge | None) -> str | None:
    """Why a run would lose this answer, and what to do about it; None if it can use it."""
    most = request.max_tokens
    if answer.finish_reason == "length":
        cut = f"cut off at max_tokens ({most or 'the context'})"
        if answer.reasoning or _THINKS.search(answer.text):
            return (
                f"{cut} while the model was still reasoning: switch that off"
                " (`extra_body: {chat_template_kwargs: {enable_thinking: false}}` for Qwen3 on vLLM and the like),"
                " or give `sampling: {max_tokens: 4000}`"
            )
        return f"{cut}: {plain(answer.text, most=80)!r}. A model that reasons first needs that switched off, or more max_tokens"
    if answer.finish_reason == "content_filter":
        return f"refused by a content filter {plain(answer.text, most=80)!r}"
    if not answer.text.strip():
        return "empty: all that came is reasoning, apart from the answer" if answer.reasoning else "empty"
    form = problem_with(answer, request)
    if form is not None:
        return form
    try:
        if judge is not None:
            judge(request, answer.text)
    except ParseFailure as failure:
        return f"unreadable ({failure.code}: {plain(failure.words, most=120)}): {plain(answer.text, most=80)!r}"
    return None


def _at_once(asked: Sequence[Call], engine: Engine) -> dict[str, Any]:
    """Whether the server lives through a small batch with seeds; where it does not, whether it does without."""
    chosen = asked[:: max(1, len(asked) // AT_ONCE)][:AT_ONCE]
    calls = []
    for call in chosen:
        sampling = {**call.request.sampling, "max_tokens": _FEW_TOKENS, "temperature": 0.7}
        calls.append(Ask(replace(call.request, sampling=sampling), (call.first,)))
    name = f"{len(calls)} at once, with seeds"
    lost = _lost(calls, engine)
    if lost is None:
        return _row(name, True, "all answered")
    seeds, fix = engine.settings, "give `engine: {seed: null}`"
    engine.settings = seeds.model_copy(update={"seed": None})
    without = _lost(calls, engine)
    engine.settings = seeds
    if without is None:
        return _row(name, False, f"the server went away ({lost}), and answers the same without seeds: {fix}")
    return _row(name, False, f"the server went away ({lost}): {fix}, start the server and check again")


def _lost(asks: Sequence[Ask], engine: Engine) -> str | None:
    """What went wrong with the connection while these were asked; None if nothing did."""
    try:
        outcomes = Asker(Warehouse.memory(), engine, "check").ask(asks)
    except FactoryError as error:
        return error.what
    gone = [one for one in outcomes.values() if isinstance(one, Failure) and not one.final]
    return (gone[0].detail or gone[0].reason) if gone else None


def _row(kind: str, ok: bool, detail: str) -> dict[str, Any]:
    return {"kind": kind, "ok": ok, "detail": detail}


def _fits(kind: Kind, engine: Engine, length: int | None) -> dict[str, Any] | None:
    call = kind.calls[0]
    tokens = None if length is None else engine.count_tokens(call.request.messages)
    most = engine.settings.answer_bound or call.request.max_tokens or 0
    if length is None or tokens is None or tokens + most <= length:
        return None
    return _row(kind.name, False, f"{tokens:,} tokens and an answer of {most:,} do not fit into {length:,}")


def _asked(kind: Kind, engine: Engine, judge: Judge | None) -> dict[str, Any]:
    asks = [Ask(call.request, range(call.first, call.last + 1)) for call in kind.calls]
    try:
        outcomes = Asker(Warehouse.memory(), engine, "check").ask(asks)
    except FactoryError as error:
        return _row(kind.name, False, str(error))
    requests = {call.request.key: call.request for call in kind.calls}
    losses: Counter[str] = Counter()
    for (key, _), outcome in outcomes.items():
        if isinstance(outcome, Failure):
            losses[f"no answer ({outcome.detail or outcome.reason})"] += 1
        elif (loss := loss_of(outcome, requests[key], judge)) is not None:
            losses[loss] += 1
    if losses:
        told = "; ".join(words for words, _ in losses.most_common(2))
        share = "a run would lose these answers" if losses.total() == len(outcomes) else "a run would lose such answers"
        detail = f"{losses.total()} of {len(outcomes)} answers cannot be used, and {share}: {told}"
        return _row(kind.name, False, detail)
    tokens = sum(outcome.usage.tokens_out for outcome in outcomes.values() if isinstance(outcome, Answer))
    most = sum(call.n * longest(call, engine.settings) for call in kind.calls)
    return _row(kind.name, True, f"{len(outcomes)} answers, {tokens} tokens of at most {most}")
