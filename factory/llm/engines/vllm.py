"""vLLM in this process, for batch work on the machine's own GPUs or CPU: answers stream out as they finish.

Runs where `vllm` is installed; beyond it the factory needs only `duckdb`, `pyarrow`, `orjson`, `rfc8785`, `pydantic` and `pyyaml`
there. The loop feeds vLLM's own engine step by step and keeps its queue filled, so that scheduling, continuous batching and
prefix caching are vLLM's.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from factory.errors import EngineError
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import LocalEngine
from factory.llm.faults import Said, plain, too_long
from factory.llm.openai_format import clean
from factory.llm.request import Answer, FinishReason, ModelRef, Usage
from factory.llm.settings import EngineSettings

_FINISH: dict[Any, FinishReason] = {"stop": "stop", "length": "length", "abort": "error"}


class VllmEngine(LocalEngine):
    """`vllm.LLM`, fed as it has room."""

    name = "vllm"

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings, base)
        self._llm: Any = None
        self._loras: dict[str, Any] = {}

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Keep up to `concurrency` calls in vLLM's queue and give each as it finishes."""
        source = iter(calls)
        running: dict[str, tuple[Call, float]] = {}
        exhausted = False
        while not exhausted or running:
            while not exhausted and len(running) < self.settings.concurrency:
                call = next(source, None)
                if call is None:
                    exhausted = True
                    break
                began = time.perf_counter()
                try:
                    running[_number(self._enqueue(call))] = (call, began)
                except _client_errors() as error:
                    yield call, Reply(fault=_refusal(error))
            if not running:
                continue
            for output in self.llm.llm_engine.step():
                if output.finished:
                    call, began = running.pop(_number(output.request_id))
                    yield call, self._reply(call, output, (time.perf_counter() - began) * 1e3)

    @property
    def llm(self) -> Any:
        """The model, loaded when it is first needed.

        Raises:
            EngineError: vLLM is not installed, or cannot load the model.
        """
        if self._llm is None:
            self._llm = self._load()
        return self._llm

    def use_adapter(self, name: str, folder: Path) -> ModelRef:
        """Serve an adapter. A model that was loaded for fewer, or for smaller ones, is loaded again at the next request."""
        if self._adapters.get(name) != folder:
            self.close()
        return super().use_adapter(name, folder)

    def context_length(self) -> int | None:
        """`max_model_len` of the loaded model."""
        return int(self.llm.model_config.max_model_len)

    def close(self) -> None:
        """Free the model's memory."""
        if self._llm is not None:
            core = getattr(self._llm.llm_engine, "engine_core", None)
            self._llm = None
            if core is not None:
                core.shutdown()
        self._loras = {}

    def _load(self) -> Any:
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            raise EngineError(
                f"vLLM is not installed here ({error})",
                fix="Install it with `pip install 'label-factory[vllm]'`, or start `vllm serve` and use `kind: server`",
            ) from error
        arguments: dict[str, Any] = {
            "revision": self.settings.revision,
            "disable_log_stats": True,
            # Blanks in JSON are tokens for nothing.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        if current_platform.is_cpu():  # 0.32 dies there when the prefill of a seeded request is cut in chunks
            arguments["enable_chunked_prefill"] = False
        if self._adapters:
            arguments |= {"enable_lora": True, "max_loras": len(self._adapters)}
            arguments["max_lora_rank"] = served_rank([rank_of(folder) for folder in self._adapters.values()])
        try:
            return LLM(model=self._model_path(), **(arguments | self.settings.engine_args))
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            raise EngineError(
                f"vLLM cannot load the model: {error}", where=self.settings.model, fix="Check `model` and `engine_args`"
            ) from error

    def _enqueue(self, call: Call) -> str:
        request_ids: list[str] = self.llm.enqueue_chat(
            [list(call.request.messages)],
            self._params(call),
            use_tqdm=False,
            lora_request=self._adapter(call.request.model.adapter),
            chat_template_kwargs=self.settings.extra_body.get("chat_template_kwargs"),
        )
        return request_ids[0]

    def _params(self, call: Call) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        sampling = dict(call.request.sampling)
        logprobs = sampling.pop("logprobs", None)
        if logprobs is not None and logprobs is not False:
            sampling["logprobs"] = 0 if logprobs is True else int(logprobs)
        sampling.setdefault("max_tokens", None)
        schema = call.request.schema
        if schema is not None:
            sampling["structured_outputs"] = StructuredOutputsParams(**schema)
        seed = None if self.settings.seed is None else self.settings.seed + call.first
        return SamplingParams(n=call.n, seed=seed, **sampling)

    def _adapter(self, name: str | None) -> Any:
        if name is None:
            return None
        if name not in self._loras:
            from vllm.lora.request import LoRARequest

            self._loras[name] = LoRARequest(name, len(self._loras) + 1, str(self._adapters[name]))
        return self._loras[name]

    def _reply(self, call: Call, output: Any, ms: float) -> Reply:
        answers: dict[int, Answer] = {}
        for at, one in enumerate(sorted(output.outputs, key=lambda one: one.index)):
            finish = _FINISH.get(one.finish_reason, "unknown")
            if finish == "error":
                continue
            cached = (output.num_cached_tokens or 0) if at == 0 else 0
            usage = Usage(len(output.prompt_token_ids) if at == 0 else 0, len(one.token_ids), cached, True)
            logprobs = None if one.logprobs is None else _logprobs(one.logprobs, one.token_ids)
            text = clean(one.text)
            answers[call.first + one.index] = Answer(text, finish, None, usage, None, ms, logprobs, self.name)
        # What was generated for those that are missing is lost, and nobody counted it.
        aborted = Fault("malformed", "aborted", "vLLM ended the request early", usage=None)
        fault = aborted if len(answers) < call.n else None
        return Reply(answers, fault, ms)


_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for `max_lora_rank`."""


def served_rank(ranks: Iterable[int]) -> int:
    """The smallest `max_lora_rank` that serves adapters of these ranks, at least 16 (vLLM's own default).

    Example:
        >>> served_rank([4, 24])
        32
    """
    most = max(ranks, default=0)
    return next((rank for rank in _RANKS if rank >= max(most, 16)), most)


def rank_of(folder: Path) -> int:
    """The rank in an adapter's configuration; 0 where there is none yet."""
    path = folder / "adapter_config.json"
    return int(json.loads(path.read_text(encoding="utf-8")).get("r", 0)) if path.is_file() else 0


def _number(request_id: str) -> str:
    """The number in a request id; `enqueue_chat` gives it with a suffix that outputs lack."""
    return request_id.split("-")[0]


def _client_errors() -> tuple[type[Exception], ...]:
    """What vLLM raises for a request that it cannot take."""
    from vllm.exceptions import VLLMClientError

    return ValueError, TypeError, VLLMClientError


def _refusal(error: Exception) -> Fault:
    said = Said(plain(error), parameter=getattr(error, "parameter", None))
    if too_long(said):
        return Fault("declined", "context_too_long", said.words)
    return Fault("refused", "bad_request", said.words)


def _logprobs(steps: Iterable[Any], token_ids: Iterable[int]) -> dict[str, Any]:
    """vLLM's logprobs in OpenAI's form."""
    content = []
    for step, chosen in zip(steps, token_ids, strict=True):
        rows = [{"token": one.decoded_token, "logprob": one.logprob} for one in step.values()]
        mine = step.get(chosen)
        first = {"token": mine.decoded_token, "logprob": mine.logprob} if mine is not None else rows[0]
        content.append({**first, "top_logprobs": rows})
    return {"content": content}
