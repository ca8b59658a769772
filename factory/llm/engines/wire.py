"""Single calls to an OpenAI-compatible endpoint, one at a time: with the key, replies bounded, no redirect followed.

Chat completions, of which many are in flight, are sent by `server.py` in its event loop.
"""

from __future__ import annotations

import http.client
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.parse import urlsplit

import orjson

from factory.errors import EngineError, Unanswered
from factory.llm.calls import Fault
from factory.llm.faults import fault_of, json_of, no_json, plain, read_error, redirected
from factory.llm.settings import EngineSettings

SMALL_REPLY = 1 << 22
"""The most bytes that are read of a reply other than answers."""


class Trouble(Exception):
    """A call that brought nothing; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.detail)


class Wire:
    """Calls with the key and the timeouts of an engine's settings."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings

    def ask(self, url: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """One small question (models, tokenize), whose trouble is put in words.

        Raises:
            Unanswered: The server refuses.
            EngineError: Nothing answers there, or nothing that is JSON.
        """
        try:
            data = None if body is None else orjson.dumps(body)
            return self.send(url, data, timeout_s=self._settings.connect_timeout_s)
        except Trouble as trouble:
            fault = trouble.fault
            if fault.status is None:
                what = f"no language model answers there ({fault.detail})"
                fix = f"Start it (`vllm serve {self._settings.model or 'MODEL'}`), or check `url` of the engine"
                raise EngineError(what, where=shown_url(url), fix=fix) from trouble
            if fault.kind == "malformed":
                raise EngineError(
                    f"the server {fault.detail}", where=shown_url(url), fix=fault.fix or None
                ) from trouble
            fix = fault.fix or "Check `url` of the engine"
            raise Unanswered(f"the server {fault.detail}", where=shown_url(url), fix=fix) from trouble

    def send(
        self,
        url: str,
        data: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float,
    ) -> dict[str, Any]:
        """A GET, or a POST of `data`, and the JSON object that it brings (empty if it is another value).

        Raises:
            Trouble: It brings none.
        """
        with self._opened(url, data, headers, timeout_s) as response:
            raw = response.read(SMALL_REPLY)
            content_type = str(response.headers.get("Content-Type", ""))
        try:
            found = json_of(raw)
        except orjson.JSONDecodeError as error:
            raise Trouble(no_json(raw, content_type, key=self.key())) from error
        return found if isinstance(found, dict) else {}

    def fetch(self, url: str, out: IO[bytes], *, most: int) -> None:
        """Write the whole body of a GET to a file, at most so many bytes.

        Raises:
            Trouble: It brings none, or more, or breaks off.
        """
        with self._opened(url, None, None, self._settings.timeout_s) as response:
            told, came = response.headers.get("Content-Length"), 0
            while part := response.read(1 << 20):
                came += len(part)
                if came > most:
                    raise Trouble(Fault("refused", "reply_too_large", f"sends more than {most >> 20} MB", 200))
                out.write(part)
            if told is not None and came < int(told):
                raise Trouble(Fault("transport", "cut_off", "broke off"))

    @contextmanager
    def _opened(
        self, url: str, data: bytes | IO[bytes] | None, headers: Mapping[str, str] | None, timeout_s: float
    ) -> Iterator[Any]:
        import urllib.error
        import urllib.request

        own = self.headers() | {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(url, data=data, headers=own | dict(headers or {}))
            with _opener().open(request, timeout=timeout_s) as response:
                yield response
        except urllib.error.HTTPError as error:
            if error.code in range(300, 400):
                raise Trouble(redirected(error.code, error.headers.get("Location") or "")) from error
            said = read_error(error.read(SMALL_REPLY), key=self.key())
            raise Trouble(fault_of(said, error.code, wait_s=retry_after(error.headers))) from error
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(Fault("transport", "unreachable", self.plain(getattr(error, "reason", error)))) from error
        except ValueError as error:  # a header that cannot be, a URL that is none
            raise Trouble(Fault("fatal", "not_sent", self.plain(error), fix="Check `url` and the key")) from error

    def key(self) -> str | None:
        """The key, without blanks and line ends around it.

        Raises:
            EngineError: There is none, or it holds what no key holds. It is not shown.
        """
        name = self._settings.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip().strip("\"'").strip()
        if not key:
            called = name if name.isupper() else "the variable that `api_key_env` names"
            raise EngineError(f"the environment has no {called}", fix="Set it to the server's key")
        if not (key.isascii() and key.isprintable()) or " " in key:
            what = f"the key in {name} holds characters that no key holds (curly quotes, a blank, a line break)"
            raise EngineError(what, fix="Copy it again, as plain text")
        return key

    def headers(self) -> dict[str, str]:
        """The header that carries the key; none without one."""
        key = self.key()
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def plain(self, error: BaseException) -> str:
        """The words of an exception, without the key."""
        key = os.environ.get(self._settings.api_key_env or "", "").strip()
        return plain(error, key=key or None) or type(error).__name__


def shown_url(url: str) -> str:
    """A URL without the name, the password and the query that may stand in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def retry_after(headers: Mapping[str, str] | Message) -> float | None:
    """Seconds that a server asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            ms = float(headers["retry-after-ms"])
            return max(ms / 1e3, 0.0) if math.isfinite(ms) else None
        text = headers.get("Retry-After")
        if text is None:
            return None
        if text.strip().replace(".", "", 1).isdigit():
            return float(text)
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _opener() -> Any:
    """Opens URLs, and follows no redirect: `urllib` would take the key along to another host."""
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(NoRedirect)
