"""What a pipeline's `engine:` may say, checked before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Price(BaseModel):
    """What a model costs: by tokens, or by the hour of the machine it runs on.

    Attributes:
        input: Per million tokens of the prompt.
        cached: Per million tokens of the prompt that the server had in its prefix cache; `input` if not given.
        output: Per million tokens of the answer.
        gpu_hour: Per hour and GPU, for a model of one's own.
        gpus: How many GPUs serve it.
        currency: Only shown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: float = Field(default=0.0, ge=0)
    cached: float | None = Field(default=None, ge=0)
    output: float = Field(default=0.0, ge=0)
    gpu_hour: float | None = Field(default=None, ge=0)
    gpus: int = Field(default=1, ge=1)
    currency: str = "USD"


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LOOKS_LIKE_A_KEY = re.compile(r"(?:sk|pk|gsk|xai|hf)_|AIza|(?=[^_]*\d)(?=[^_]*[a-z])[^_]{20,}$")
_URL = re.compile(r"https?://[^\s/]+(?:/\S*)?")


class EngineSettings(BaseModel):
    """Whom to ask, and how.

    Attributes:
        kind: `server`, `vllm`, `batch`, `recorded` or `transformers`.
        url: server: the base URL (`http://127.0.0.1:8000/v1`), or several of them that serve the same model. batch, without
            `requests`: the one of an OpenAI-compatible batch service.
        model: Hub name, local path or served name. A server that serves one model need not be told.
        revision: Commit of the weights.
        adapter: Name of a LoRA adapter: as the server knows it, or a key of `adapters`.
        adapters: vllm, transformers: name of each LoRA adapter -> its folder.
        api_key_env: server, batch: the name of the environment variable that holds the key, which itself never stands in a file.
        structured: Whether the stages ask for structured output (a choice, a JSON schema) rather than for text.
        profile: `small` asks as models of some 1 to 3 billion parameters answer best: shorter prompts, programs as short lists
            of words, structured output unless `structured` says otherwise (not `transformers`, which cannot force JSON), labels
            with their probabilities.
        structured_style: `vllm` sends choices and regexes as `structured_outputs`; `openai` knows JSON schemas alone.
        sampling: Laid over each prompt's own sampling: `{temperature: 0.7, max_tokens: 256}`; a null takes a setting away.
        max_tokens_field: server, batch: how the endpoint calls the bound on an answer. Newer hosted models take
            `max_completion_tokens` alone.
        seed: The base seed; sample k of a request is sent `seed + k`. None sends none.
        concurrency: Most requests in flight, all URLs together.
        start: In-flight limit that each URL starts with.
        max_n: Most samples asked for in one call (1 where a server knows no `n`).
        timeout_s: Most seconds for one call, from sending to the last byte.
        connect_timeout_s: Most seconds to connect.
        retries: How often a failed call is sent again.
        patience_s: How long a server may be away, or ask us to wait, before the run ends with exit code 5. What was answered is
            kept. One that has answered nothing yet is waited for 30 s at most: it is more likely not there.
        extra_body: server: sent with each call (`{chat_template_kwargs: {enable_thinking: false}}`); of it, `vllm` and
            `transformers` take `chat_template_kwargs`.
        answers: recorded: the JSONL file, or several.
        missing: What becomes of requests that get no answer, through nothing that the model said: `stop` at that stage and ask
            them again in the next run, or `fail` them for good and go on without them.
        requests: batch, recorded: where the batch file of what is missing is written.
        results: batch: the results file, or several; read again at each run.
        wait: batch with `url`: whether a run waits until its batches are done. If not, it ends with exit code 4 once they are
            submitted, and running it again goes on.
        poll_s: batch with `url`: seconds between two looks at the batches.
        completion_window: batch with `url`: the time that the service may take, as it calls it.
        engine_args: vllm: arguments of `vllm.LLM`. transformers: arguments of `from_pretrained`.
        batch_size: transformers: requests per forward pass.
        price: The price, if the table has none for this model; as it is for batches, which mostly cost half.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    kind: Literal["server", "vllm", "batch", "recorded", "transformers"]
    url: str | list[str] | None = None
    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    adapters: dict[str, str] = Field(default_factory=dict)
    api_key_env: str | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    structured: bool = False
    profile: Literal["small"] | None = None
    structured_style: Literal["vllm", "openai"] = "vllm"
    sampling: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = 0
    concurrency: int = Field(default=256, ge=1, le=100_000)
    start: int = Field(default=64, ge=1)
    max_n: int = Field(default=32, ge=1)
    timeout_s: float = Field(default=600.0, gt=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    retries: int = Field(default=6, ge=0)
    patience_s: float = Field(default=600.0, ge=0)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    answers: str | list[str] | None = None
    missing: Literal["stop", "fail"] = "stop"
    requests: str | None = None
    results: str | list[str] | None = None
    wait: bool = True
    poll_s: float = Field(default=30.0, gt=0)
    completion_window: str = "24h"
    engine_args: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(default=16, ge=1)
    price: Price | None = None

    @field_validator("api_key_env", mode="before")
    @classmethod
    def _is_a_name(cls, value: Any) -> Any:
        if value is not None and (
            not isinstance(value, str) or not _NAME.fullmatch(value) or _LOOKS_LIKE_A_KEY.match(value)
        ):
            # Not shown: whatever stands there may be a key.
            raise ValueError(
                "the name of an environment variable stands here, like OPENAI_API_KEY, and not the key itself"
            )
        return value

    @model_validator(mode="before")
    @classmethod
    def _by_profile(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("profile") == "small" and given.get("kind") != "transformers":
            return {"structured": True, **given}
        return given

    @model_validator(mode="after")
    def _fits_kind(self) -> EngineSettings:
        needed = {
            "server": ("url",),
            "recorded": ("answers",),
            "vllm": ("model",),
            "transformers": ("model",),
            "batch": ("model",) if self.hosted else ("model", "requests"),
        }[self.kind]
        lacking = [f"`{name}`" for name in needed if not getattr(self, name)]
        if lacking:
            raise ValueError(f"an engine of kind `{self.kind}` needs {' and '.join(lacking)}")
        for url in self.urls:
            if not _URL.fullmatch(url):
                raise ValueError(f"`url` is http://HOST:PORT/v1 or https://HOST/v1 (given: {url!r})")
        if self.hosted and (len(self.urls) > 1 or self.results):
            raise ValueError(
                "a batch service has one `url`, and brings its results itself: `results` goes with `requests`"
            )
        for name in ("seed", "n"):
            if name in self.sampling:
                raise ValueError(
                    f"`sampling` holds no `{name}`: samples are numbered, and `seed` is a setting of its own"
                )
        if self.kind in ("vllm", "transformers") and self.adapter is not None and self.adapter not in self.adapters:
            raise ValueError("`adapter` is a key of `adapters`")
        return self

    @property
    def hosted(self) -> bool:
        """Whether batches are handed to a service instead of being written to a file."""
        return self.kind == "batch" and bool(self.url) and not self.requests

    @property
    def answer_bound(self) -> int | None:
        """The most tokens of an answer that `extra_body` allows, if it says so: it is laid over each request's own."""
        found = self.extra_body.get("max_completion_tokens") or self.extra_body.get("max_tokens")
        return int(found) if isinstance(found, int) else None

    def placed(self, base: Path) -> dict[str, Any]:
        """What was told, for a file in another folder: paths relative to `base` made absolute."""
        told = self.model_dump(mode="json", exclude_unset=True)
        for name in ("answers", "requests", "results"):
            if told.get(name):
                paths = [str(base / path) for path in as_list(told[name])]
                told[name] = paths[0] if isinstance(told[name], str) else paths
        return told

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URLs, without a slash at the end."""
        given = [] if self.url is None else [self.url] if isinstance(self.url, str) else self.url
        return tuple(url.rstrip("/") for url in given)


def as_list(value: str | list[str] | None) -> list[str]:
    """One path or several, as a list."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)
