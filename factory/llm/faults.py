"""What a refusal of an OpenAI-compatible server means: by its status, its codes, and at last its words.

Servers agree on neither: a prompt that is too long is `context_length_exceeded` here, `exceed_context_size_error` there and a
bare 400 with a sentence elsewhere; an empty balance comes as 402, 429, 400 or in the body of a 200. Pure.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import orjson

from factory.llm.calls import Fault

MOST_WORDS = 300
"""Characters of a server's words that are shown and stored."""

_SECRETS = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|pk|gsk|xai|hf)[-_][\w-]{8,}|AIza[\w-]{16,})")

_TOO_LONG_CODES = {
    "context_length_exceeded", "string_above_max_length", "exceed_context_size_error", "context_window_exceeded",
    "contextwindowexceedederror", "prompt_too_long",
}  # fmt: skip
_TOO_LONG = re.compile(
    r"(?i)context[ _-]*(?:length|window|size)|maximum (?:input|prompt|sequence) length|max_model_len|prompt is too long"
    r"|input is too (?:long|large)|too many (?:input |prompt )?tokens|input token count|too large for model with"
    r"|longer than the (?:model|maximum)|must have less than \d+ tokens|max_new_tokens` must be <=|exceeds? .{0,40}token limit"
    r"|prompt is too big|KV size"
)
_FILTER_CODES = {
    "content_filter", "content_policy_violation", "responsibleaipolicyviolation", "data_inspection_failed",
    "datainspectionfailed", "content_policy", "moderation_blocked", "prohibited_content",
}  # fmt: skip
_FILTERED = re.compile(
    r"(?i)content (?:management )?(?:policy|filter)|content was filtered|input was flagged|flagged (?:by|as|for)"
    r"|inappropriate content|safety (?:system|filter|settings)|moderation"
)
_BALANCE_CODES = {
    "insufficient_quota", "insufficient_balance", "insufficient_credits", "billing_hard_limit_reached", "billing_not_active",
    "exceeded_current_quota_error", "arrearage", "payment_required", "insufficient_funds",
}  # fmt: skip
_BALANCE = re.compile(
    r"(?i)insufficient[ _](?:account )?(?:balance|credit|quota|fund)|credit balance is too low|exceeded your current quota"
    r"|billing hard limit|balance is not enough|out of credits|requires more credits"
)
_KEY_CODES = {"invalid_api_key", "authentication_error", "invalid_authentication_error", "permission_denied"}
_KEY = re.compile(r"(?i)(?:incorrect|invalid|missing|no) api[ _]key|api[ _]key (?:not valid|is invalid|not found)")
_MODEL_CODES = {"model_not_found", "model_not_available", "deploymentnotfound", "model_not_exist", "unknown_model"}
_MODEL = re.compile(
    r"(?i)not a valid model|(?:unknown|no such|invalid) model|model .{0,120}(?:does not exist|not found|is not available"
    r"|was not found|is not supported by)|decommissioned|invalid model name"
)
_UNSUPPORTED = re.compile(
    r"(?i)(?:unsupported|unknown|unrecognized) (?:parameter|argument|value)|is not supported with this model"
    r"|extra inputs are not permitted"
)
_LIMIT_CODES = {
    "rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted", "throttlingexception",
}  # fmt: skip
_NEVER_FITS = re.compile(r"(?i)request too large|reduce your (?:message|request) size|too large for .{0,60}per minute")
_WAIT = re.compile(r"(?i)(?:try again|retry) in ((?:\d+(?:\.\d+)?(?:ms|h|m|s)\s*)+)")
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def plain(text: Any, *, most: int = MOST_WORDS, key: str | None = None) -> str:
    """Words from outside on one line: without keys, control characters and invisible ones, and cut short."""
    line = str(text)[: 8 * most + 1000]
    if key:
        line = line.replace(key, "***")
    line = _SECRETS.sub("***", line)
    line = "".join(" " if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} else c for c in line)
    line = " ".join(line.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


@dataclass(frozen=True)
class Said:
    """An error body, whatever its form.

    Attributes:
        words: What it says, as `plain` has it.
        codes: Its codes and types, in small letters.
        parameter: The parameter that it is about, if it names one.
        status: The HTTP status that it carries itself, if it does.
        flagged: Whether it says which part of the text a filter did not like.
    """

    words: str = ""
    codes: frozenset[str] = frozenset()
    parameter: str | None = None
    status: int | None = None
    flagged: bool = False


def json_of(raw: bytes) -> Any:
    """The value of a JSON text in UTF-8, which some servers and editors begin with a byte order mark.

    Raises:
        orjson.JSONDecodeError: It is none.
    """
    return orjson.loads(raw.removeprefix(codecs.BOM_UTF8))


def read_error(raw: bytes | Any, *, key: str | None = None) -> Said:
    """An error body in OpenAI's form, in that of vLLM, FastAPI, Google, OpenRouter, llama.cpp, or as bare text.

    Args:
        raw: The body, parsed or not.
        key: The key that was sent; it is masked wherever it stands.
    """
    body: Any = raw
    if isinstance(raw, bytes):
        try:
            body = json_of(raw)
        except orjson.JSONDecodeError:
            return Said(plain(_without_tags(raw[:4000].decode("utf-8", "replace")), key=key))
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, Mapping):
        return Said(plain(body, key=key))
    error = body.get("error") or body
    while isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]
    if not isinstance(error, Mapping):
        error = {**body, "message": error}
    metadata, inner = _mapping(error.get("metadata")), _mapping(error.get("innererror"))
    fields = (error.get("code"), error.get("type"), error.get("status"), inner.get("code"), metadata.get("error_type"))
    codes = frozenset(str(field).lower() for field in fields if isinstance(field, str))
    parameter = error.get("param")
    parts = [_words(error)]
    if metadata.get("raw"):
        parts.append(f"({_words(metadata['raw'])})")
    return Said(
        plain(" ".join(part for part in parts if part), key=key),
        codes,
        parameter if isinstance(parameter, str) else None,
        next((found for field in fields if (found := _status_in(field)) is not None), None),
        bool(metadata.get("flagged_input") or metadata.get("reasons")),
    )


def error_in(body: Any) -> Any:
    """The error that stands in the body of a 200, or None. Gateways that say `code: 0` beside an answer mean none."""
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices")
    if error := body.get("error"):
        fields = error if isinstance(error, Mapping) else {"message": error}
        harmless = not fields.get("message") and fields.get("code") in (None, 0, "", "0", 200)
        return None if harmless and choices else body
    said = body.get("object") == "error" or any(body.get(name) for name in ("message", "detail", "msg"))
    return body if choices is None and said else None


def fault_of(said: Said, status: int, *, wait_s: float | None = None) -> Fault:
    """What is to be done about an error.

    Args:
        said: From `read_error`.
        status: The HTTP status; of an error in the body of a 200, that one.
        wait_s: How long the server asked us to wait, in seconds.
    """
    told, error = status, ""
    if status < 400:
        status = said.status or (429 if said.codes & _LIMIT_CODES else 500)
        error = f" with an error ({status})"
    words = f"answered {told}{error}: {said.words or _phrase(status)}"
    limited = status == 429 or bool(said.codes & _LIMIT_CODES)
    wait_s = wait_s if wait_s is not None else _wait_in(said.words) if limited else None
    fault = Fault("refused", "bad_request", words, told)
    if _answer_too_large(said):
        fix = "Give `sampling: {max_tokens: ...}` under `engine:`, well below the model's context"
        return replace(fault, kind="fatal", reason="bad_parameter", fix=fix)
    if not limited and too_long(said):
        return replace(fault, kind="declined", reason="context_too_long")
    if status < 500 and not limited and (_any(said, _FILTER_CODES, _FILTERED) or said.flagged):
        return replace(fault, kind="declined", reason="content_refused")
    if status == 402 or said.codes & _BALANCE_CODES or (_BALANCE.search(said.words) and wait_s is None):
        return replace(fault, kind="fatal", reason="no_balance", fix="Pay, or ask another engine, and run again")
    if limited and _NEVER_FITS.search(said.words):
        return replace(fault, reason="above_the_rate_limit")
    if limited:
        return replace(fault, kind="overload", reason="rate_limited", retry_after_s=wait_s)
    if status in {401, 403} or (status < 500 and _any(said, _KEY_CODES, _KEY)):
        return replace(fault, kind="fatal", reason="not_allowed", fix="Check the key that `api_key_env` names")
    if status == 404 or (status < 500 and _any(said, _MODEL_CODES, _MODEL)):
        return replace(fault, kind="fatal", reason="not_found", fix="Check `url` and `model` of the engine")
    if status == 529 or (status == 503 and wait_s is not None):
        return replace(fault, kind="overload", reason="busy", retry_after_s=wait_s)
    if status in {502, 503, 504}:
        return replace(fault, kind="transport", reason=f"http_{status}", retry_after_s=wait_s)
    if status >= 500 or status in {408, 409, 425}:
        return replace(fault, kind="server", reason=f"http_{status}", retry_after_s=wait_s)
    if advice := _advice(said):
        return replace(fault, kind="fatal", reason="bad_parameter", fix=advice)
    return fault if status in {400, 422} else replace(fault, reason=f"http_{status}")


def too_long(said: Said) -> bool:
    """Whether it says that the text is too long for the model."""
    return _any(said, _TOO_LONG_CODES, _TOO_LONG) or said.parameter in {"input_tokens", "input_text"}


def redirected(status: int, location: str) -> Fault:
    """A redirect, which is never followed: it would take the key and the texts to another place."""
    goal = plain(location.split("?")[0].removesuffix("/chat/completions").removesuffix("/models"), most=200)
    fix = f"If that is the server you mean, give `engine: {{url: {goal}}}`" if goal else "Check `url` of the engine"
    return Fault("fatal", "redirect", f"redirects ({status}) to {goal or 'nowhere'}", status, fix=fix)


def no_json(raw: bytes, content_type: str, *, key: str | None = None) -> Fault:
    """A 200 whose body is no JSON, with a glimpse of it."""
    start, fix = raw[:4000].decode("utf-8", "replace"), ""
    reason, what = "invalid_json", "broken JSON"
    if "event-stream" in content_type or start.lstrip().startswith("data:"):
        reason, what = "event_stream", "a stream of events instead of JSON"
        fix = (
            "Add `extra_body: {stream: false}` to the engine, or ask the server itself instead of what stands before it"
        )
    elif "html" in content_type or start.lstrip().lower().startswith(("<!doctype", "<html")):
        reason, what, start = "web_page", "a web page instead of JSON", _without_tags(start)
        fix = "Check `url` of the engine: something else answers there"
    return Fault("malformed", reason, f"answered 200 with {what}: {plain(start, most=120, key=key)}", 200, fix=fix)


# ------------------------------------------------------------------------------------------------------------------------
def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _any(said: Said, codes: set[str], pattern: re.Pattern[str]) -> bool:
    return bool(said.codes & codes or pattern.search(said.words))


def _answer_too_large(said: Said) -> bool:
    """Whether the answer alone would fill the context: that is so for every text, whatever its length."""
    found = re.search(r"too large: (\d+)\D{1,80}?context length is (\d+)", said.words)
    return found is not None and int(found[1]) >= int(found[2])


def _advice(said: Said) -> str | None:
    """What to write into the pipeline where a server refuses a parameter; None if that is not what it says."""
    codes = {"unsupported_parameter", "unsupported_value", "unknown_parameter"}
    quoted = re.search(r"['`\"](\w+)['`\"]", said.words)
    name = said.parameter or (quoted[1] if quoted else "")
    if not name or not _any(said, codes, _UNSUPPORTED):
        return None
    if name == "max_tokens" and "max_completion_tokens" in said.words:
        return "Write `max_tokens_field: max_completion_tokens` under `engine:`"
    own = {"n": "max_n: 1", "seed": "seed: null", "response_format": "structured: false"}
    own |= dict.fromkeys(("structured_outputs", "guided_choice"), "structured_style: openai")
    return f"Write `{own.get(name) or f'sampling: {{{name}: null}}'}` under `engine:`"


def _words(value: Any) -> str:
    """The words in an error object, a list of FastAPI's, or a text."""
    if isinstance(value, Mapping):
        return next((found for name in ("message", "detail", "msg", "error") if (found := _words(value.get(name)))), "")
    if isinstance(value, list):
        return "; ".join(_words(item) for item in value[:3])
    return "" if value is None else str(value)[:4000]


def _status_in(field: Any) -> int | None:
    """A status that a code says: 429, "429", or FastChat's 40303."""
    if isinstance(field, bool) or not re.fullmatch(r"[45]\d\d(?:\d\d)?", str(field)):
        return None
    return int(str(field)[:3])


def _wait_in(words: str) -> float | None:
    """Seconds in "try again in 7m12s"."""
    found = _WAIT.search(words)
    if found is None:
        return None
    return sum(float(n) * _UNIT_S[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", found[1]))


def _without_tags(page: str) -> str:
    return re.sub(r"<[^>]{0,500}>", " ", page) if "<" in page else page


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no words"
