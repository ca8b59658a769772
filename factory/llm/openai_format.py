"""The OpenAI chat form: a call as a request body, a response body as answers. Pure; used by the server and batch engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from factory.llm.calls import Call, Fault, Reply
from factory.llm.faults import error_in, fault_of, read_error
from factory.llm.request import Answer, FinishReason, Usage, estimate_prompt_tokens, estimate_tokens
from factory.llm.settings import EngineSettings

_FINISH: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_length"), "length"),
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "prohibited_content"), "content_filter"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("abort", "error"), "error"),
}

_MOST_TOKENS = 2**31 - 1
_UNBOUNDED = 32_768
"""Tokens of an answer to a request that sets no bound, for the bound on its characters."""

_CHARACTERS_PER_TOKEN = 32
"""No text of a model that keeps to `max_tokens` is longer than this: a longer one is cut, and counts as cut off."""


class Unsupported(ValueError):
    """The endpoint has no way to say this."""


def body_of(call: Call, settings: EngineSettings) -> dict[str, Any]:
    """The JSON body of a chat completion; `settings` give the seed, the style of structured output, and extra fields.

    Raises:
        Unsupported: A choice or a regex for a server that knows JSON schemas alone.
    """
    request = call.request
    model = request.model.adapter or request.model.name
    body: dict[str, Any] = {"model": model, "messages": list(request.messages), **request.sampling}
    logprobs = body.get("logprobs")
    if logprobs is not None and not isinstance(logprobs, bool):
        body |= {"logprobs": True, "top_logprobs": int(logprobs)}
    if call.n > 1:
        body["n"] = call.n
    if settings.seed is not None:
        body["seed"] = settings.seed + call.first
    if settings.max_tokens_field != "max_tokens" and "max_tokens" in body:
        body[settings.max_tokens_field] = body.pop("max_tokens")
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


def reply_of(
    call: Call, body: Any, *, origin: str, latency_ms: float | None = None, status: int = 200, key: str | None = None
) -> Reply:
    """The answers in a response body: choices in any order, each index once; what is missing or broken is a fault.

    Args:
        call: What was asked.
        body: The parsed JSON.
        origin: Engine name, for the answers.
        latency_ms: From sending to the last byte.
        status: The HTTP status.
        key: The key that was sent, to be masked in a server's words.
    """
    told = _usage_of(body.get("usage")) if isinstance(body, Mapping) else None
    error = error_in(body)
    if error is not None:
        fault = fault_of(read_error(error, key=key), status)
        return Reply({}, replace(fault, usage=told or Usage(0, 0)), latency_ms, status)
    choices = body.get("choices") if isinstance(body, Mapping) else None
    if not isinstance(choices, list):
        return Reply({}, Fault("malformed", "no_choices", "the reply holds no `choices`", status), latency_ms, status)
    texts: dict[int, _Choice] = {}
    errors: list[Any] = []
    for choice in choices:
        if isinstance(choice, Mapping) and choice.get("error"):
            errors.append(choice)
            continue
        read = _choice(choice, call, wrote=told is not None and told.tokens_out > 0)
        if read is not None:
            texts.setdefault(call.first + read[0], read[1])
    usages = _split_usage(call, told, {sample: said[0] for sample, said in texts.items()})
    answers = {
        sample: Answer(text, finish, reasoning, usages[sample], None, latency_ms, logprobs, origin)
        for sample, (text, finish, reasoning, logprobs) in sorted(texts.items())
    }
    missing = None
    if len(answers) < call.n:
        came = "no answer came" if not answers else f"{len(answers)} answers of {call.n} came"
        missing = Fault("malformed", "missing_choices" if answers else "empty_choices", came, status)
        if errors:
            missing = fault_of(read_error(errors[0], key=key), status)
        if not answers:  # what came with answers is counted with them
            missing = replace(missing, usage=told or Usage(estimate_prompt_tokens(call.request.messages), 0, 0, False))
    return Reply(answers, missing, latency_ms, status)


_Choice = tuple[str, FinishReason, str | None, Any]
"""Text, finish reason, reasoning, logprobs."""


def _choice(choice: Any, call: Call, *, wrote: bool) -> tuple[int, _Choice] | None:
    """The index of a choice and what it says; None if it says nothing that is an answer.

    No content is an empty answer if the model wrote tokens for it, and none at all otherwise.
    """
    if not isinstance(choice, Mapping):
        return None
    message, index = choice.get("message"), choice.get("index", 0)
    if not isinstance(message, Mapping) or not isinstance(index, int) or not 0 <= index < call.n:
        return None
    finish = _FINISH.get(str(choice.get("finish_reason")).lower(), "unknown")
    if finish == "error":
        return None
    text, thought = _parts(message.get("content"))
    reasoning = thought or message.get("reasoning") or message.get("reasoning_content")
    reasoning = clean(reasoning) if isinstance(reasoning, str) else None
    if text is None:
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal:
            text, finish = refusal, "content_filter"
        elif reasoning is None and not wrote and finish not in {"content_filter", "tool_calls", "length"}:
            return None
    text, most = clean(text or ""), 1000 + _CHARACTERS_PER_TOKEN * (call.request.max_tokens or _UNBOUNDED)
    if len(text) > most:
        text, finish = text[:most], "length"
    return index, (text, finish, None if reasoning is None else reasoning[: 8 * most], choice.get("logprobs"))


def _parts(content: Any) -> tuple[str | None, str | None]:
    """The text of a message and the thoughts in it; the content may be a list of parts."""
    if not isinstance(content, list):
        return (content, None) if isinstance(content, str) else (None, None)
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        fields = part if isinstance(part, Mapping) else {"text": part}
        if str(fields.get("type", "text")) in {"thinking", "reasoning"}:
            said = fields.get("thinking") or fields.get("reasoning") or fields.get("text")
            thoughts.append(said if isinstance(said, str) else _parts(said)[0] or "")
        elif isinstance(fields.get("text"), str):
            texts.append(fields["text"])
    return "".join(texts) if texts else None, "\n".join(thoughts) or None


def clean(text: str) -> str:
    """The text without lone surrogates, which no database takes (each becomes U+FFFD)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _usage_of(usage: Any) -> Usage | None:
    """What the server counted. None where it counted nothing, or what cannot be: no prompt has 0 tokens."""
    if not isinstance(usage, Mapping):
        return None
    try:
        tokens_in, tokens_out = int(usage["prompt_tokens"]), int(usage.get("completion_tokens") or 0)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not (0 < tokens_in <= _MOST_TOKENS and 0 <= tokens_out <= _MOST_TOKENS):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    cached = cached if isinstance(cached, int) and 0 <= cached <= tokens_in else 0
    return Usage(tokens_in, tokens_out, cached, True)


def _split_usage(call: Call, told: Usage | None, texts: Mapping[int, str]) -> dict[int, Usage]:
    """Tokens per sample: the prompt is counted with the first, the answer's tokens by length, so that sums stay exact."""
    counted = told is not None and (told.tokens_out > 0 or not any(texts.values()))
    whole = told or Usage(estimate_prompt_tokens(call.request.messages), 0)
    left, weight_left = whole.tokens_out, sum(len(text) + 1 for text in texts.values())
    usages: dict[int, Usage] = {}
    for sample, text in sorted(texts.items()):
        share = round(left * (len(text) + 1) / weight_left) if counted else estimate_tokens(text)
        left, weight_left = left - share, weight_left - len(text) - 1
        tokens_in, cached = (0, 0) if usages else (whole.tokens_in, whole.tokens_cached if counted else 0)
        usages[sample] = Usage(tokens_in, share, cached, counted)
    return usages
