"""Any OpenAI-compatible endpoint over HTTP: `vllm serve` first, several replicas at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from factory.errors import EngineError, Unanswered
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import CallEngine
from factory.llm.engines.wire import SMALL_REPLY, Wire, retry_after, shown_url
from factory.llm.faults import fault_of, json_of, no_json, plain, read_error, redirected
from factory.llm.openai_format import Unsupported, body_of, reply_of
from factory.llm.request import ModelRef, Usage, estimate_prompt_tokens
from factory.llm.settings import EngineSettings

if TYPE_CHECKING:
    import aiohttp

_LARGEST_REPLY = 1 << 28
"""No reply of more bytes is read, however many and long its answers."""

_KEEP_ALIVE_S = 4
"""An idle connection is not used again after this: uvicorn, and so vLLM, closes it after 5 s, perhaps just as we send."""


class _TooLargeError(Exception):
    """A reply went on beyond its bound."""


class ServerEngine(CallEngine):
    """Chat completions from one URL or several that serve the same model."""

    name = "server"

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        self._session: aiohttp.ClientSession | None = None
        self._wire = Wire(settings)
        self._chat = tuple(f"{url}/chat/completions" for url in settings.urls)
        self._models: dict[str, Any] | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The base URLs, as they may be shown."""
        return tuple(shown_url(url) for url in self.settings.urls)

    async def open(self) -> None:
        """Make the connection pool; the dispatcher bounds what is in flight, so the pool does not."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s, sock_connect=self.settings.connect_timeout_s)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._wire.headers() | {"Content-Type": "application/json"},
            read_bufsize=1 << 18,
        )

    async def shut(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, endpoint: int, call: Call) -> Reply:
        """One POST. Whatever goes wrong comes back as a fault; a redirect is never followed."""
        import aiohttp

        assert self._session is not None
        try:
            payload = orjson.dumps(body_of(call, self.settings))
        except Unsupported as error:
            return Reply(fault=Fault("refused", "unsupported", str(error)))
        began = time.perf_counter()
        status: int | None = None
        raw = bytearray()
        url, data = self._chat[endpoint], aiohttp.BytesPayload(payload)
        try:
            async with self._session.post(url, data=data, allow_redirects=False) as response:
                status, headers = response.status, response.headers
                most = reply_bound(call) if status == 200 else SMALL_REPLY
                async for part in response.content.iter_any():
                    raw += part
                    if len(raw) > most:
                        raise _TooLargeError
        except TimeoutError as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                fault = Fault("transport", "unreachable", "no connection in time")
            else:  # what it cost, if anything, nobody knows
                words = f"no answer within {self.settings.timeout_s:g} s"
                fault = Fault("timeout", "timeout", words, status, usage=None)
        except _TooLargeError:
            words = f"answered {status} with more than {most >> 20} MB"
            fault = Fault("refused", "reply_too_large", words, status, usage=None if status == 200 else Usage(0, 0))
        except aiohttp.ClientConnectorError as error:
            fault = Fault("transport", "unreachable", self._wire.plain(error))
        except aiohttp.ClientPayloadError as error:
            fault = Fault("transport", "cut_off", self._wire.plain(error), status, usage=_cut_usage(call, raw))
        except (aiohttp.ClientError, OSError) as error:
            fault = Fault("transport", "connection_lost", self._wire.plain(error), status)
        except ValueError as error:  # a header that cannot be, a URL that is none
            fault = Fault("fatal", "not_sent", self._wire.plain(error), fix="Check `url` and the key")
        else:
            ms = (time.perf_counter() - began) * 1e3
            return self._read(call, status, bytes(raw), headers, ms)
        return Reply({}, fault, (time.perf_counter() - began) * 1e3, status)

    async def is_up(self, endpoint: int) -> bool:
        """Whether the server says anything at all to a small question."""
        import aiohttp

        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=self.settings.connect_timeout_s)
        url = f"{self.settings.urls[endpoint]}/models"
        try:
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                return response.status < 500
        except (aiohttp.ClientError, OSError, ValueError):
            return False

    def context_length(self) -> int | None:
        """`max_model_len` as the server tells it."""
        return next((int(row["max_model_len"]) for row in self._served() if row.get("max_model_len")), None)

    def count_tokens(self, messages: Iterable[Mapping[str, Any]]) -> int | None:
        """Tokens of a prompt by vLLM's own `/tokenize`; None where a server has no such thing."""
        body = {"model": self.model.adapter or self.model.name, "messages": list(messages)}
        for url in self.settings.urls:
            try:
                return int(self._wire.ask(url.removesuffix("/v1") + "/tokenize", body)["count"])
            except (Unanswered, KeyError, TypeError, ValueError):
                return None
            except EngineError:  # away: another may be there
                continue
        return None

    def use_adapter(self, name: str, folder: Path) -> ModelRef:
        """Ask an adapter that the server serves under this name.

        Raises:
            EngineError: It serves none of that name.
        """
        for url in self.settings.urls:
            rows = self._wire.ask(f"{url}/models", None).get("data")
            names = [str(row.get("id")) for row in rows or () if isinstance(row, dict)]
            if name not in names:
                what = f"the server serves no adapter {name!r} (it has {', '.join(names) or 'nothing'})"
                fix = f"Start it with `--enable-lora --lora-modules {name}={folder}`"
                raise EngineError(what, where=shown_url(url), fix=fix)
        return super().use_adapter(name, folder)

    def _find_model(self) -> str:
        names = [row.get("id") for row in self._served() if not row.get("parent")]
        if len(names) == 1:
            return str(names[0])
        fix = f"Give `engine: {{model: ...}}`; the server has: {plain(', '.join(map(str, names[:8]))) or 'none'}"
        raise EngineError("the engine does not say which model to ask", where=self.endpoints[0], fix=fix)

    def _served(self) -> list[dict[str, Any]]:
        if self._models is None:
            self._models = self._first_word()
        rows = self._models.get("data")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def _first_word(self) -> dict[str, Any]:
        """What the first server that is there says of its models.

        Raises:
            EngineError: None is there: what is wrong with the first.
        """
        troubles: list[EngineError] = []
        for url in self.settings.urls:
            try:
                return self._wire.ask(f"{url}/models", None)
            except EngineError as error:
                troubles.append(error)
        raise troubles[0]

    def _read(self, call: Call, status: int, raw: bytes, headers: Mapping[str, str], ms: float) -> Reply:
        if 300 <= status < 400:
            return Reply({}, redirected(status, headers.get("Location", "")), ms, status)
        key = self._wire.key()
        if not 200 <= status < 300:
            fault = fault_of(read_error(raw, key=key), status, wait_s=retry_after(headers))
            return Reply({}, fault, ms, status)
        try:
            body = json_of(raw)
        except orjson.JSONDecodeError:
            fault = no_json(raw, headers.get("Content-Type", "").lower(), key=key)
            if fault.reason != "web_page":  # a model wrote it
                fault = replace(fault, usage=_cut_usage(call, raw))
            return Reply({}, fault, ms, status)
        return reply_of(call, body, origin=self.name, latency_ms=ms, key=key)


def reply_bound(call: Call) -> int:
    """The most bytes of a reply to a call: four megabytes, or what its answers can come to with their logprobs."""
    return min(max(SMALL_REPLY, answers_bound(call)), _LARGEST_REPLY)


def answers_bound(call: Call) -> int:
    """The most bytes that the answers to a call can come to, with their logprobs."""
    logprobs = call.request.sampling.get("top_logprobs") or call.request.sampling.get("logprobs") or 0
    bytes_per_token = 64 + 200 * (1 + int(logprobs)) * bool(logprobs)
    return call.n * (call.request.max_tokens or 4096) * bytes_per_token


def _cut_usage(call: Call, raw: bytes | bytearray) -> Usage:
    """What a reply cost that broke off or cannot be read: the prompt, and what had come of the answers."""
    most = call.n * (call.request.max_tokens or len(raw))
    return Usage(estimate_prompt_tokens(call.request.messages), min(len(raw) // 4, most), 0, False)
