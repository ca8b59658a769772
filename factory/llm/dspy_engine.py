"""DSPy programs and optimisers through our dispatch and ledger: an engine behind `dspy.LM(engine=...)`.

Every call that a DSPy program makes is looked up in the warehouse first, sent by the same dispatcher, stored and counted, and
replayed the next time. DSPy's `n` and `rollout_id` become sample numbers: candidate i of n under rollout r is sample `r * n + i`
(no rollout is rollout 0; at temperature 0, where rollouts mean nothing, sample i).

    lm = dspy_lm(warehouse, engine, stage="optimise")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        compiled = dspy.BootstrapFewShot(metric=..., max_rounds=2).compile(program, trainset=...)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from factory.errors import EngineError, Unanswered
from factory.llm.budget import Budget
from factory.llm.engines.base import Engine
from factory.llm.gateway import Asker
from factory.llm.request import Answer, Ask, Failure, Message, Request
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    import dspy

_GATHER_S = 0.005
_LARGEST_SAMPLE = 2**31 - 1
_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "logprobs")


@dataclass
class _Turn:
    """One call of a DSPy LM: which rollout, how many candidates, and how many of them were asked for."""

    rollout: int = 0
    n: int = 1
    done: int = 0

    def next(self) -> int:
        sample = self.rollout * self.n + self.done
        self.done += 1
        return sample % _LARGEST_SAMPLE


_TURN: ContextVar[_Turn | None] = ContextVar("factory_dspy_turn", default=None)


def dspy_lm(
    warehouse: Warehouse,
    engine: Engine,
    *,
    stage: str = "dspy",
    prompt: str = "dspy",
    prompt_version: str = "",
    budget: Budget | None = None,
    schema: Mapping[str, Any] | None = None,
    **sampling: Any,
) -> dspy.LM:
    """A DSPy language model that asks through us.

    Args:
        warehouse, engine, stage, budget: As for `Asker`.
        prompt: Name that its requests carry in the ledger.
        prompt_version: Likewise.
        schema: Structured output for every request that brings no form of its own, as `Prompt.schema` gives it.
        **sampling: `temperature`, `max_tokens`, ... of the LM; the engine's own sampling by default.
    """
    bridge = LedgerEngine(Asker(warehouse, engine, stage, budget), prompt, prompt_version, schema)
    given: dict[str, Any] = {**engine.sampling, **sampling}
    lm: dspy.LM = _lm_class()(
        engine.model.name, engine=bridge, async_engine=AsyncLedgerEngine(bridge), cache=False, num_retries=0, **given
    )
    return lm


@dataclass
class _Waiting:
    request: Request
    sample: int
    future: Future[Answer] = field(default_factory=Future)


class LedgerEngine:
    """DSPy's `Engine` protocol on `factory.llm.gateway`. Calls of several threads that come together go out together."""

    def __init__(self, asker: Asker, prompt: str, prompt_version: str, schema: Mapping[str, Any] | None) -> None:
        self.asker, self.prompt, self.prompt_version, self.schema = asker, prompt, prompt_version, schema
        self._queue: list[_Waiting] = []
        self._lock = threading.Lock()
        self._leading = False

    def complete(self, request: Any) -> Any:
        """One `dspy.lm15.Request` -> one `dspy.lm15.Response`."""
        turn = _TURN.get()
        ours = self.translate(request)
        sample = 0 if turn is None else turn.next()
        if turn is not None and ours.sampling.get("temperature") == 0:
            sample = turn.done - 1
        return self._response(request, self._ask(ours, sample))

    def stream(self, request: Any) -> Any:
        """The finished response as events: nothing is shown before it is stored."""
        from dspy.lm15 import response_to_events

        return response_to_events(self.complete(request))

    def close(self) -> None:
        """The engine behind it is borrowed."""

    def translate(self, request: Any) -> Request:
        """A canonical DSPy request as one of ours.

        Raises:
            EngineError: It holds what a chat of texts cannot (images, tools).
        """
        messages: list[Message] = []
        if request.system is not None:
            messages.append({"role": "system", "content": _text(request.system)})
        for message in request.messages:
            messages.append({"role": message.role, "content": _text(message.parts)})
        if request.tools:
            raise EngineError("a DSPy program with tools was asked", fix="Use tools outside of the factory")
        config = request.config
        sampling: dict[str, Any] = {name: value for name in _SAMPLING if (value := getattr(config, name)) is not None}
        if config.stop:
            sampling["stop"] = list(config.stop)
        sampling |= {name: value for name, value in (config.extensions or {}).items() if name not in {"seed", "n"}}
        schema, model = _schema(config.response_format) or self.schema, self.asker.engine.model
        return Request(model, tuple(messages), sampling, schema, self.prompt, self.prompt_version)

    def _ask(self, request: Request, sample: int) -> Answer:
        """Join the queue; whoever finds nobody leading asks for all who wait, until nobody does."""
        mine = _Waiting(request, sample)
        with self._lock:
            self._queue.append(mine)
            lead, self._leading = not self._leading, True
        if lead:
            time.sleep(_GATHER_S)
            while self._answer_all():
                pass
        return mine.future.result()

    def _answer_all(self) -> bool:
        """Ask for those who wait now. Returns whether there were any; if not, nobody leads any more."""
        with self._lock:
            batch, self._queue = self._queue, []
            self._leading = bool(batch)
        if not batch:
            return False
        try:
            asks = [Ask(one.request, (one.sample,)) for one in batch]
            outcomes = self.asker.ask(asks)
        except BaseException as error:
            for one in batch:
                one.future.set_exception(error)
            return True
        for one in batch:
            outcome = outcomes[(one.request.key, one.sample)]
            if isinstance(outcome, Failure):
                words = f"the request has no answer ({outcome.reason}: {outcome.detail})"
                one.future.set_exception((EngineError if outcome.final else Unanswered)(words))
            else:
                one.future.set_result(outcome)
        return True

    def _response(self, request: Any, answer: Answer) -> Any:
        from dspy.lm15 import Message as DspyMessage
        from dspy.lm15 import Response, TextPart, ThinkingPart
        from dspy.lm15 import Usage as DspyUsage

        parts: list[Any] = [TextPart(answer.text)]
        if answer.reasoning:
            parts.insert(0, ThinkingPart(answer.reasoning))
        finish = answer.finish_reason if answer.finish_reason in {"stop", "length", "content_filter"} else "stop"
        usage = DspyUsage(input_tokens=answer.usage.tokens_in, output_tokens=answer.usage.tokens_out)
        return Response(
            id=None, model=request.model, message=DspyMessage.assistant(parts), finish_reason=finish, usage=usage
        )


class AsyncLedgerEngine:
    """The same for DSPy's async calls."""

    def __init__(self, sync: LedgerEngine) -> None:
        self._sync = sync

    async def complete(self, request: Any) -> Any:
        """One request, answered in a thread."""
        import asyncio

        return await asyncio.to_thread(self._sync.complete, request)

    async def stream(self, request: Any) -> Any:
        """The finished response as events."""
        from dspy.lm15 import response_to_events

        for event in response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """The engine behind it is borrowed."""


@lru_cache(maxsize=1)
def _lm_class() -> Any:
    """`dspy.LM` that tells its engine which rollout and how many candidates a call is about: DSPy drops both before it."""
    import dspy

    class FactoryLM(dspy.LM):  # type: ignore[misc]
        @contextmanager
        def _turn(self, given: dict[str, Any]) -> Iterator[None]:
            merged = {**self.kwargs, **given}
            token = _TURN.set(_Turn(int(merged.get("rollout_id") or 0), int(merged.get("n") or 1)))
            try:
                yield
            finally:
                _TURN.reset(token)

        def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            with self._turn(kwargs):
                return super().__call__(prompt, messages=messages, **kwargs)

        async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            with self._turn(kwargs):
                return await super().acall(prompt, messages=messages, **kwargs)

    return FactoryLM


def _text(parts: str | Sequence[Any]) -> str:
    if isinstance(parts, str):
        return parts
    texts = []
    for part in parts:
        text = getattr(part, "text", None)
        if not isinstance(text, str):
            what = f"a DSPy message holds a {type(part).__name__}"
            raise EngineError(what, fix="The factory asks for text about text")
        texts.append(text)
    return "".join(texts)


def _schema(response_format: Any) -> dict[str, Any] | None:
    if not isinstance(response_format, dict):
        return None
    if response_format.get("type") == "json_object":
        return {"json": {"type": "object"}}
    inner = response_format.get("json_schema", response_format)
    schema = inner.get("schema", inner)
    return {"json": schema} if isinstance(schema, dict) else None
