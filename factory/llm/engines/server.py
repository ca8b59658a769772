"""Any OpenAI-compatible endpoint over HTTP: `vllm serve` first, several replicas at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from factory.errors import EngineError
from factory.llm.engines.base import Call, CallEngine, Fault, Reply
from factory.llm.openai_format import Unsupported, body_of, reply_of
from factory.llm.request import ModelRef
from factory.llm.settings import EngineSettings

if TYPE_CHECKING:
    import aiohttp

_LARGEST_ANSWER = 1 << 28
_KEEP_ALIVE_S = 4
"""An idle connection is not used again after this: uvicorn, and so vLLM, closes it after 5 s, perhaps just as we send."""


class ServerEngine(CallEngine):
    """Chat completions from one URL or several that serve the same model."""

    name = "server"

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings)
        self._session: aiohttp.ClientSession | None = None
        self._chat = tuple(f"{url}/chat/completions" for url in settings.urls)
        self._models: dict[str, Any] | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The base URLs."""
        return self.settings.urls

    async def open(self) -> None:
        """Make the connection pool; the dispatcher bounds what is in flight, so the pool does not."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self.settings.timeout_s, sock_connect=self.settings.connect_timeout_s)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers() | {"Content-Type": "application/json"},
            read_bufsize=1 << 18,
        )

    async def shut(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, endpoint: int, call: Call) -> Reply:
        """One POST. Whatever goes wrong comes back as a fault."""
        import aiohttp

        assert self._session is not None
        try:
            payload = orjson.dumps(body_of(call, self.settings))
        except Unsupported as error:
            return Reply(fault=Fault("refused", "unsupported", str(error)))
        began = time.perf_counter()
        status: int | None = None
        try:
            async with self._session.post(self._chat[endpoint], data=aiohttp.BytesPayload(payload)) as response:
                status = response.status
                raw = await response.read()
                headers = response.headers
        except TimeoutError as error:
            connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            kind, reason = ("transport", "connect_timeout") if connecting else ("timeout", "timeout")
            fault = Fault(kind, reason, f"no answer within {self.settings.timeout_s:g} s", status)  # type: ignore[arg-type]
        except aiohttp.ClientConnectorError as error:
            fault = Fault("transport", "unreachable", self._plain(error))
        except aiohttp.ClientPayloadError as error:
            fault = Fault("transport", "cut_off", self._plain(error), status)
        except (aiohttp.ClientError, OSError) as error:
            fault = Fault("transport", "connection_lost", self._plain(error), status)
        else:
            ms = (time.perf_counter() - began) * 1e3
            if status == 200:
                return self._read(call, raw, ms)
            return Reply({}, self._fault(status, raw, headers), ms, status)
        return Reply({}, fault, (time.perf_counter() - began) * 1e3, status)

    def context_length(self) -> int | None:
        """`max_model_len` as the server tells it."""
        for row in self._served():
            if row.get("max_model_len"):
                return int(row["max_model_len"])
        return None

    def count_tokens(self, messages: Iterable[Mapping[str, Any]]) -> int | None:
        """Tokens of a prompt by vLLM's own `/tokenize`; None where a server has no such thing."""
        url = self.settings.urls[0].removesuffix("/v1") + "/tokenize"
        body = {"model": self.model.adapter or self.model.name, "messages": list(messages)}
        try:
            return int(self._ask_now(url, body)["count"])
        except (EngineError, KeyError, TypeError, ValueError):
            return None

    def use_adapter(self, name: str, folder: Path) -> ModelRef:
        """Ask an adapter that the server serves under this name.

        Raises:
            EngineError: It serves none of that name.
        """
        for url in self.settings.urls:
            rows = self._ask_now(f"{url}/models", None).get("data")
            names = [str(row.get("id")) for row in rows or () if isinstance(row, dict)]
            if name not in names:
                raise EngineError(
                    f"the server serves no adapter {name!r} (it has {', '.join(names) or 'nothing'})",
                    where=url,
                    fix=f"Start it with `--enable-lora --lora-modules {name}={folder}`",
                )
        return super().use_adapter(name, folder)

    def _find_model(self) -> str:
        names = [row.get("id") for row in self._served() if not row.get("parent")]
        if len(names) == 1:
            return str(names[0])
        listed = ", ".join(map(str, names[:8])) or "none"
        raise EngineError(
            "the engine does not say which model to ask",
            where=self.settings.urls[0],
            fix=f"Give `engine: {{model: ...}}`; the server has: {listed}",
        )

    def _served(self) -> list[dict[str, Any]]:
        if self._models is None:
            self._models = self._ask_now(f"{self.settings.urls[0]}/models", None)
        rows = self._models.get("data")
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def _ask_now(self, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """One small synchronous call outside of the dispatcher (models, tokenize)."""
        import urllib.error
        import urllib.request

        request = urllib.request.Request(
            url,
            data=None if body is None else orjson.dumps(body),
            headers=self._headers() | {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.settings.connect_timeout_s) as response:
                found = orjson.loads(response.read())
        except urllib.error.HTTPError as error:
            raise EngineError(
                f"the server says {error.code} {error.reason}", where=url, fix="Check `url` and the key"
            ) from error
        except (OSError, orjson.JSONDecodeError) as error:
            raise EngineError(
                f"no language model answers there ({self._plain(getattr(error, 'reason', error))})",
                where=url,
                fix=f"Start it (`vllm serve {self.settings.model or 'MODEL'}`), or check `url` of the engine",
            ) from error
        return found if isinstance(found, dict) else {}

    def _headers(self) -> dict[str, str]:
        name = self.settings.api_key_env
        if name is None:
            return {}
        key = os.environ.get(name)
        if not key:
            raise EngineError(f"the environment has no {name}", fix=f"Set {name} to the server's key")
        return {"Authorization": f"Bearer {key}"}

    def _read(self, call: Call, raw: bytes, ms: float) -> Reply:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return Reply({}, Fault("malformed", "invalid_json", "the reply is no JSON", 200), ms, 200)
        return reply_of(call, body, origin=self.name, latency_ms=ms)

    def _fault(self, status: int, raw: bytes, headers: Mapping[str, str]) -> Fault:
        code, detail, parameter = _error_of(raw)
        detail = self._without_key(detail)
        wait = retry_after(headers)
        if status == 429 and code == "insufficient_quota":
            return Fault("fatal", "no_quota", detail, status)
        if status == 429 or (status == 503 and wait is not None):
            return Fault("overload", "rate_limited" if status == 429 else "busy", detail, status, wait)
        if status in {502, 503, 504}:
            return Fault("transport", f"http_{status}", detail, status, wait)
        if status >= 500 or status in {408, 409, 425}:
            return Fault("server", f"http_{status}", detail, status, wait)
        if code in {"content_filter", "content_policy_violation"}:
            return Fault("refused", "content_refused", detail, status)
        too_long = code in {"context_length_exceeded", "string_above_max_length"}
        if too_long or status == 413 or (status == 400 and parameter in {"input_tokens", "input_text"}):
            return Fault("refused", "context_too_long", detail, status)
        if status in {401, 403}:
            return Fault("fatal", "not_allowed", detail or "the server refuses the key", status)
        if status == 404:
            return Fault("fatal", "not_found", detail or "the server knows no such path or model", status)
        return Fault("refused", "bad_request", detail, status)

    def _plain(self, error: BaseException) -> str:
        return self._without_key(" ".join(str(error).split())[:300] or type(error).__name__)

    def _without_key(self, text: str) -> str:
        key = os.environ.get(self.settings.api_key_env or "")
        return text.replace(key, "***") if key else text


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1e3, 0.0)
        text = headers.get("Retry-After")
        if text is None:
            return None
        if text.strip().replace(".", "", 1).isdigit():
            return float(text)
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _error_of(raw: bytes) -> tuple[str | None, str, str | None]:
    """The code, the words and the parameter of an error body, in OpenAI's form or any other."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None, " ".join(raw[:300].decode("utf-8", "replace").split()), None
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return None, " ".join(str(error).split())[:500], None
    code, parameter = error.get("code"), error.get("param")
    words = " ".join(str(error.get("message", "")).split())[:500]
    return (code if isinstance(code, str) else None), words, (parameter if isinstance(parameter, str) else None)
