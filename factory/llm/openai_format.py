"""The OpenAI chat form: a call as a request body, a response body as answers. Pure; used by the server and batch engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.llm.engines.base import Call, Fault, Reply
from factory.llm.request import Answer, FinishReason, Usage, estimate_tokens
from factory.llm.settings import EngineSettings

_FINISH: dict[Any, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "abort": "error",
    "error": "error",
}


class Unsupported(ValueError):
    """The endpoint has no way to say this."""


def body_of(call: Call, settings: EngineSettings) -> dict[str, Any]:
    """The JSON body of a chat completion.

    Args:
        call: What is asked.
        settings: For the seed, the style of structured output, and extra fields.

    Raises:
        Unsupported: A choice or a regex for a server that knows JSON schemas alone.
    """
    request = call.request
    body: dict[str, Any] = {
        "model": request.model.adapter or request.model.name,
        "messages": list(request.messages),
        **request.sampling,
    }
    logprobs = body.get("logprobs")
    if logprobs is not None and not isinstance(logprobs, bool):
        body["logprobs"] = True
        body["top_logprobs"] = int(logprobs)
    if call.n > 1:
        body["n"] = call.n
    if settings.seed is not None:
        body["seed"] = settings.seed + call.first
    if request.schema is not None:
        body |= _structured(request.schema, settings.structured_style)
    return body | settings.extra_body


def _structured(schema: Mapping[str, Any], style: str) -> dict[str, Any]:
    if "json" in schema:
        form = {"name": "answer", "schema": schema["json"], "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": form}}
    kind = next(iter(schema), "")
    if style != "vllm":
        raise Unsupported(f"`{kind}` needs a server with vLLM's structured_outputs")
    if kind not in {"choice", "regex"}:
        raise Unsupported(f"no structured output called `{kind}`")
    return {"structured_outputs": {kind: schema[kind]}}


def reply_of(call: Call, body: Any, *, origin: str, latency_ms: float | None = None, status: int = 200) -> Reply:
    """The answers in a response body: choices in any order, each index once; what is missing or broken is a fault.

    Args:
        call: What was asked.
        body: The parsed JSON.
        origin: Engine name, for the answers.
        latency_ms: From sending to the last byte.
        status: The HTTP status.
    """
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list):
        return Reply({}, Fault("malformed", "no_choices", "the reply holds no `choices`", status), latency_ms, status)
    texts: dict[int, tuple[str, FinishReason, str | None, Any]] = {}
    for choice in choices:
        read = _choice(choice, call.n)
        if read is not None:
            texts.setdefault(call.first + read[0], read[1])
    usages = _split_usage(call, body.get("usage"), {sample: said[0] for sample, said in texts.items()})
    answers = {
        sample: Answer(text, finish, reasoning, usages[sample], None, latency_ms, logprobs, origin)
        for sample, (text, finish, reasoning, logprobs) in sorted(texts.items())
    }
    fault = None
    if len(answers) < call.n:
        reason = "empty_choices" if not answers else "missing_choices"
        spent = usages[min(answers)] if answers else _usage_of(body.get("usage"))
        fault = Fault(
            "malformed",
            reason,
            f"{len(answers)} of {call.n} choices came",
            status,
            tokens_in=0 if answers or spent is None else spent.tokens_in,
            tokens_out=0 if answers or spent is None else spent.tokens_out,
        )
    return Reply(answers, fault, latency_ms, status)


def _choice(choice: Any, n: int) -> tuple[int, tuple[str, FinishReason, str | None, Any]] | None:
    if not isinstance(choice, Mapping):
        return None
    message = choice.get("message")
    index = choice.get("index", 0)
    if not isinstance(message, Mapping) or not isinstance(index, int) or not 0 <= index < n:
        return None
    text = message.get("content")
    reasoning = message.get("reasoning") or message.get("reasoning_content")
    finish = _FINISH.get(choice.get("finish_reason"), "unknown")
    if finish == "error":
        return None
    if text is None:
        refusal = message.get("refusal")
        if isinstance(refusal, str):
            text, finish = refusal, "content_filter"
        elif reasoning is None and finish != "content_filter":
            return None
    if not isinstance(text, str | None):
        return None
    logprobs = choice.get("logprobs")
    return index, (clean(text or ""), finish, clean(reasoning) if isinstance(reasoning, str) else None, logprobs)


def clean(text: str) -> str:
    """The text without lone surrogates, which no database takes (each becomes U+FFFD)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _usage_of(usage: Any) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    try:
        tokens_in, tokens_out = int(usage["prompt_tokens"]), int(usage.get("completion_tokens") or 0)
    except (KeyError, TypeError, ValueError):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(tokens_in, tokens_out, cached if isinstance(cached, int) else 0, True)


def _split_usage(call: Call, usage: Any, texts: Mapping[int, str]) -> dict[int, Usage]:
    """Tokens per sample: the prompt is counted with the first, the answer's tokens by length, so that sums stay exact."""
    told = _usage_of(usage)
    if told is None:
        tokens_in = sum(estimate_tokens(message["content"]) + 4 for message in call.request.messages)
        return {
            sample: Usage(tokens_in if at == 0 else 0, estimate_tokens(text), 0, False)
            for at, (sample, text) in enumerate(sorted(texts.items()))
        }
    weights = [len(texts[sample]) + 1 for sample in sorted(texts)]
    shares, left, weight_left = [], told.tokens_out, sum(weights)
    for weight in weights:
        share = round(left * weight / weight_left) if weight_left else 0
        shares.append(share)
        left, weight_left = left - share, weight_left - weight
    return {
        sample: Usage(told.tokens_in if at == 0 else 0, shares[at], told.tokens_cached if at == 0 else 0, True)
        for at, sample in enumerate(sorted(texts))
    }
