"""What is asked of a model and what it said: plain values and their identity.

`request_key` is the SHA-256 of the canonical JSON (RFC 8785) of model, revision, adapter, messages, sampling (without seed and
n) and schema. An answer is `(request_key, sample_no)`; the seed that is sent is the base seed plus `sample_no`. `content_key`
covers messages and schema alone: recorded answers match by it, so that a new model name does not orphan them. Both are frozen by
golden tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal, TypedDict

from factory.canonical import canonical_json, canonical_strings, digest_of_members


class Message(TypedDict):
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "error", "unknown"]


@dataclass(frozen=True)
class ModelRef:
    """Which model is asked.

    Attributes:
        name: Hub name, local path or served name.
        revision: Commit of the weights, or None where the server decides.
        adapter: Hash or served name of a LoRA adapter, or None.
    """

    name: str
    revision: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Request:
    """One call to a model, apart from which samples of it are wanted.

    Attributes:
        model: Whom to ask.
        messages: The chat, as rendered.
        sampling: `temperature`, `top_p`, `top_k`, `max_tokens`, `stop`, `logprobs`, ... never `seed` and never `n`.
        schema: The structured-output form, or None: `{"choice": [...]}`, `{"json": {...}}` or `{"regex": "..."}`.
        prompt: Name of the prompt it was rendered from; not part of the identity.
        prompt_version: Version of that prompt (digest of its file, and of its optimised state); not part of the identity.
    """

    model: ModelRef
    messages: tuple[Message, ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    prompt: str = ""
    prompt_version: str = ""

    def __post_init__(self) -> None:
        if "seed" in self.sampling or "n" in self.sampling:
            raise ValueError("sampling holds neither seed nor n: samples are numbered instead")

    @cached_property
    def key(self) -> str:
        """The request's identity, 64 hexadecimal digits."""
        return digest_of_members(
            {
                **_canonical_model(self.model),
                "messages": self._messages,
                "sampling": canonical_json(dict(self.sampling)),
                "schema": self._schema,
            }
        )

    @cached_property
    def content_key(self) -> str:
        """Hash of messages and schema alone, 64 hexadecimal digits."""
        return digest_of_members({"messages": self._messages, "schema": self._schema})

    @property
    def max_tokens(self) -> int | None:
        """The most tokens that one answer may have, if its sampling says so."""
        found = self.sampling.get("max_tokens") or self.sampling.get("max_completion_tokens")
        return None if found is None else int(found)

    # Not kept: a million requests would hold each prompt twice.
    @property
    def _messages(self) -> bytes:
        return canonical_strings(self.messages)  # type: ignore[arg-type]  # a message holds strings alone

    @property
    def _schema(self) -> bytes:
        return b"null" if self.schema is None else canonical_json(dict(self.schema))


@lru_cache(maxsize=64)
def _canonical_model(model: ModelRef) -> Mapping[str, bytes]:
    """The members of an identity that say which model it is: the same for every request of a run."""
    members = {"model": model.name, "revision": model.revision, "adapter": model.adapter}
    return {name: canonical_json(value) for name, value in members.items()}


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer. `counted` is false where they were estimated rather than told by the server."""

    tokens_in: int
    tokens_out: int
    tokens_cached: int = 0
    counted: bool = True


@dataclass(frozen=True)
class Answer:
    """What a model said to one sample of one request, raw.

    Attributes:
        text: The answer as it came.
        finish_reason: `length` means that it was cut off; an outcome of its own, never parsed as if whole.
        reasoning: Reasoning text that the server gave apart from the answer.
        usage: Tokens.
        cost: In the currency of the price table, or None if there is no price.
        latency_ms: From sending to the last byte, without the time in our own queue.
        logprobs: As the server gave them.
        origin: Name of the engine, or `recorded`.
    """

    text: str
    finish_reason: FinishReason = "stop"
    reasoning: str | None = None
    usage: Usage = Usage(0, 0, 0, False)
    cost: float | None = None
    latency_ms: float | None = None
    logprobs: Any = None
    origin: str = ""


@dataclass(frozen=True)
class Failure:
    """Why one sample of a request has no answer that can be used.

    Attributes:
        reason: A short code: `no_label`, `length`, `context_too_long`, `content_refused`, `gave_up`, `bad_request`, ...
        detail: Words for a person: the server's, or ours.
        final: Whether it is the model's own doing, and so decides what was asked. What the network, the server, the balance, a
            limit or a batch did decides nothing: it is asked again by the next run.
    """

    reason: str
    detail: str = ""
    final: bool = False


class ParseFailure(Exception):
    """An answer that cannot be read as what was asked for.

    Attributes:
        code: For the warehouse: `no_label`, `ambiguous`, `unknown_label`, `refusal`, `truncated`, `too_long`, `no_program`,
            `not_python`, `not_json`, `wrong_shape`, `empty`.
        words: For the model, when it is asked again; ours, never those of Python.
    """

    def __init__(self, code: str, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(f"{code}: {words}")


@dataclass(frozen=True)
class Ask:
    """A request and the samples of it that are wanted (`range(0, 4)` for four)."""

    request: Request
    samples: Sequence[int] = (0,)


AnswerKey = tuple[str, int]
"""`(request_key, sample_no)`."""

Outcomes = dict[AnswerKey, "Answer | Failure"]
"""What came of a set of asks."""


def estimate_prompt_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """A rough count of a prompt: the tokens of its texts, and four for each message's frame."""
    return sum(estimate_tokens(message["content"]) + 4 for message in messages)


def estimate_tokens(text: str) -> int:
    """A rough count where no tokenizer is available: one token for every four UTF-8 bytes, at least one for a non-empty text."""
    return (len(text.encode("utf-8", "replace")) + 3) // 4
