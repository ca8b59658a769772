"""Ways in which servers refuse or misspeak, as `raw` of the fake server, and what each of them must mean."""

from __future__ import annotations

from typing import Any


def error(
    status: int, message: str, code: Any = None, headers: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """A reply in OpenAI's form."""
    body = {"error": {"message": message, "type": more.pop("type", None), "param": None, "code": code, **more}}
    return {"status": status, "body": body, "headers": headers or {}}


FATAL: dict[str, tuple[dict[str, Any], str]] = {
    "402": (error(402, "Insufficient Balance", "invalid_request_error"), "Insufficient Balance"),
    "402 without a word": ({"status": 402, "body": ""}, "Payment Required"),
    "quota": (error(429, "You exceeded your current quota, please check your plan", "insufficient_quota"), "current quota"),
    "credits in a 200": ({"body": {"error": {"message": "Insufficient credits", "code": 402}}}, "Insufficient credits"),
    "credits in a 400": (error(400, "Your credit balance is too low to access the API"), "credit balance is too low"),
    "hard limit": (error(400, "Billing hard limit has been reached", "billing_hard_limit_reached"), "hard limit"),
    "401": (error(401, "Incorrect API key provided: sk-abcdefghijkl", "invalid_api_key"), "Incorrect API key"),
    "403": (error(403, "You have no access to this project"), "no access to this project"),
    "key in a 400": (error(400, "API key not valid. Please pass a valid API key.", 400), "API key not valid"),
    "404": (error(404, "The model `m` does not exist.", 404), "does not exist"),
    "model in a 400": (error(400, "nope/model is not a valid model ID", 400), "not a valid model ID"),
    "model of a proxy": (error(400, "/chat/completions: Invalid model name passed in model=m", "400"), "Invalid model name"),
    "fastapi 404": ({"status": 404, "body": {"detail": "Not Found"}}, "Not Found"),
    "max_tokens": (
        error(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
              "unsupported_parameter"),
        "max_tokens_field: max_completion_tokens",
    ),
    "temperature": (
        error(400, "Unsupported value: 'temperature' does not support 0 with this model.", "unsupported_value"),
        "sampling: {temperature: null}",
    ),
    "an answer as long as the context": (
        error(400, "'max_tokens' is too large: 5000. This model's maximum context length is 4096 tokens and your request has 9"
                   " input tokens (5000 > 4096-9).", 400),
        "sampling: {max_tokens: ...}",
    ),
    "redirect": ({"status": 301, "headers": {"Location": "https://other.example/v1/chat/completions?k=1"}},
                 "https://other.example/v1"),
}  # fmt: skip
"""They end the run at once, with these words."""

OPEN: dict[str, tuple[dict[str, Any], str]] = {
    "400": (error(400, "Invalid value for 'stop'", "invalid_value"), "Invalid value for 'stop'"),
    "422": ({"status": 422, "body": {"detail": [{"loc": ["body", "n"], "msg": "n is not permitted"}]}}, "n is not permitted"),
    "413 of a proxy": ({"status": 413, "body": "<html><h1>413 Request Entity Too Large</h1></html>",
                        "headers": {"Content-Type": "text/html"}}, "413 Request Entity Too Large"),
    "tokens per minute": (error(413, "Request too large for model `m` on tokens per minute (TPM): Limit 6000",
                                "rate_limit_exceeded"), "Request too large"),
    "408": (error(408, "Request timed out"), "Request timed out"),
    "409": (error(409, "Conflict"), "Conflict"),
    "500": (error(500, "CUDA error: device-side assert triggered", 500), "CUDA error: device-side assert triggered"),
    "429 in a 200": ({"body": {"id": None, "choices": None, "error": {"message": "Provider returned error", "code": 429,
                                                                   "metadata": {"raw": "Too Many Requests"}}}},
                     "Provider returned error (Too Many Requests)"),
    "an error beside choices": ({"body": {"choices": [{"index": 0, "message": {"content": "spam"}, "finish_reason": "stop"}],
                                          "error": {"message": "upstream broke", "code": 502}}}, "upstream broke"),
    "an error in a choice": ({"body": {"choices": [{"index": 0, "message": {"content": "sp"}, "finish_reason": "error",
                                                    "error": {"message": "worker lost", "code": 502}}]}}, "worker lost"),
    "object error in a 200": ({"body": {"object": "error", "message": "loading", "code": 50001}}, "loading"),
    "html": ({"body": "<!DOCTYPE html><html><body>Sign in to <b>continue</b></body></html>",
              "headers": {"Content-Type": "text/html"}}, "Sign in to continue"),
    "sse": ({"body": 'data: {"choices":[{"delta":{"content":"spam"}}]}\n\ndata: [DONE]\n\n',
             "headers": {"Content-Type": "text/event-stream"}}, "stream of events"),
    "no choices": ({"body": {"id": "x"}}, "holds no `choices`"),
    "null": ({"body": "null"}, "holds no `choices`"),
    "half a reply": ({"body": '{"choices": [{"index": 0, "mess'}, "broken JSON"),
    "a gone model": (error(410, "This endpoint was retired"), "This endpoint was retired"),
}  # fmt: skip
"""They decide nothing, are told in these words, and are asked again by the next run."""

TOO_LONG: dict[str, dict[str, Any]] = {
    "old vllm": {"status": 400, "body": {"object": "error", "message": "This model's maximum context length is 100 tokens."
                 " However, you requested 400 tokens (376 in the messages, 24 in the completion). Please reduce the"
                 " length of the messages or completion.", "type": "BadRequestError", "param": None, "code": 400}},
    "vllm": error(400, "You passed 376 input tokens and requested 24 output tokens. However, the model's context length is"
                       " only 100 tokens, resulting in a maximum input length of 76 tokens.", 400),
    "new vllm": error(400, "too much", 400, param="input_tokens"),
    "vllm, the rest is too small": error(400, "'max_tokens' or 'max_completion_tokens' is too large: 24. This model's"
                                              " maximum context length is 100 tokens and your request has 90 input tokens"
                                              " (24 > 100-90).", 400),
    "openai": error(400, "Your input exceeds the limit", "context_length_exceeded"),
    "llama.cpp": error(400, "the request exceeds the available context size. try increasing the context size", 400,
                       type="exceed_context_size_error"),
    "old llama.cpp": error(500, "the request exceeds the available context size", 500, type="server_error"),
    "sglang": error(400, "The input (376 tokens) is longer than the model's context length (100 tokens)."),
    "anthropic": error(400, "prompt is too long: 208310 tokens > 200000 maximum"),
    "google": {"status": 400, "body": [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message":
               "The input token count (376) exceeds the maximum number of tokens allowed (100)."}}]},
    "mistral": error(400, "Prompt contains 376 tokens, too large for model with 100 maximum context length"),
    "tgi": {"status": 422, "body": {"error": "Input validation error: `inputs` must have less than 100 tokens. Given: 376"}},
    "in a 200": {"body": {"error": {"message": "maximum context length is 100 tokens", "code": 400}}},
}  # fmt: skip
"""The model cannot take such a text: that decides it."""

FILTERED: dict[str, dict[str, Any]] = {
    "azure": error(400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                   "content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
    "openai": error(400, "Your request was rejected as a result of our safety system.", "content_policy_violation"),
    "openrouter": error(403, "m requires moderation on X. Your input was flagged for violence.", 403,
                        metadata={"reasons": ["violence"], "flagged_input": "..."}),
    "alibaba": error(400, "Input data may contain inappropriate content.", "data_inspection_failed"),
}  # fmt: skip
"""A filter of the model's does not let it through: that decides it, too."""
